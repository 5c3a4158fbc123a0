"""The example of a third party's frame type does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_core as ae
from ae_handle import BadMessage, ReadBuffer
from ae_handle.testing import check_cuts, check_reader, lingering


def load() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "examples" / "own_frame_type.py"
    spec = importlib.util.spec_from_file_location("own_frame_type", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example: Any = load()
RECORDS = st.builds(example.Record, st.integers(1, 255), st.binary(max_size=300))


@given(RECORDS)
def test_any_record_reads_back(record: Any) -> None:
    check_reader(example.Tlv(), example.Tlv().encode(record), record)


@given(st.lists(RECORDS, max_size=3))
def test_records_at_any_cut(records: list[Any]) -> None:
    check_cuts(example.Tlv(), b"".join(map(example.Tlv().encode, records)), records)


def test_what_the_protocol_has_not_is_refused() -> None:
    with pytest.raises(BadMessage):
        example.Tlv()(ReadBuffer(b"\0"))
    for record in ((0, b""), (256, b""), (1, bytes(65536))):
        with pytest.raises(ValueError, match="expected a tag"):
            example.Tlv().encode(example.Record(*record))


def test_the_program_talks_to_its_server(until: Any) -> None:
    server = example.serve()
    records = [example.Record(i % 255 + 1, b"%d" % i * i) for i in range(100)]
    answers = ae.run(example.talk(*server.address, records))
    assert answers == [example.Record(tag, value[::-1]) for tag, value in records]
    server.cancel()
    until(lambda: not lingering())
