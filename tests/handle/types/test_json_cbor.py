"""The frame types that have no frame: ``json`` and ``cbor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import NEED_MORE, BadMessage, Cbor, Json, ReadBuffer
from ae_handle.testing import check_cuts, check_reader
from ae_handle.types._cbor import _cbor2

cbor2 = pytest.importorskip("cbor2", reason="the extra ae-handle[cbor] is not installed")


def test_values_stand_back_to_back() -> None:
    wire = b'{"a":[1]}[2] "x""y"\n0 false null\t-1.5 '
    expected = [{"a": [1]}, [2], "x", "y", 0, False, None, -1.5]
    check_cuts(Json(), wire, expected)


@pytest.mark.parametrize("value", [{"a": [1, {"b": '}\\"]'}]}, [], 'x\\"y', ["]"]])
def test_json_is_read_however_it_is_cut(value: object) -> None:
    check_reader(Json(), Json().encode(value), value)


@pytest.mark.parametrize("value", [0, 17, -1.5, True, False, None])
def test_a_bare_word_ends_with_the_next_octet_or_the_stream(value: object) -> None:
    wire = Json().encode(value)
    buf = ReadBuffer(wire)
    assert Json()(buf) is NEED_MORE
    assert Json().at_eof(buf) == value
    assert not buf
    buf.feed(wire + b"\n")
    assert Json()(buf) == value
    assert bytes(buf) == b"\n"


def test_space_at_the_end_of_the_stream_is_nothing() -> None:
    buf = ReadBuffer(b" \r\n")
    assert Json().at_eof(buf) is NEED_MORE
    assert not buf


def test_json_is_refused_and_stays() -> None:
    buf = ReadBuffer(b"[1,}x]")
    for _ in range(2):
        with pytest.raises(BadMessage, match="not JSON"):
            Json()(buf)
        assert bytes(buf) == b"[1,}x]"


@pytest.mark.parametrize("depth", [1, 5, 512])
def test_json_depth_is_bounded(depth: int) -> None:
    read = Json(max_depth=depth)
    assert read(ReadBuffer(b"[" * depth + b"]" * depth)) is not NEED_MORE
    with pytest.raises(BadMessage, match=f"deeper than {depth}"):
        read(ReadBuffer(b"[" * (depth + 1)))


def test_an_endless_number_is_refused() -> None:
    with pytest.raises(BadMessage, match="expected a JSON value"):
        Json()(ReadBuffer(b"1" * 10_000))


@pytest.mark.parametrize(
    "number", [b"1e400", b"-1e400", b"1E+309", b"1" + b"0" * 400 + b".5", b"17.98e307"]
)
def test_a_number_that_is_too_large_to_be_written_is_refused(number: bytes) -> None:
    for wire in (b"[" + number + b"]", b'{"a":[0,' + number + b"]}", number + b"\n"):
        for _ in range(2):
            with pytest.raises(BadMessage, match="too large a number"):
                Json()(ReadBuffer(wire))


@pytest.mark.parametrize(
    "wire",
    [b"1.7976931348623157e308", b"-0.0", b"1e-400", b'"\\ud800"', b'"x\\udc00\\ud800y"',
     b'{"\\udfff":"\\ud83d\\ude00"}', b"9" * 4300, b"[" * 512 + b"]" * 512],
    ids=lambda wire: repr(wire[:20]),
)  # fmt: skip
def test_what_is_read_can_be_written(wire: bytes) -> None:
    value = Json()(ReadBuffer(wire + b"\n"))
    assert value is not NEED_MORE
    again = Json()(ReadBuffer(Json().encode(value) + b"\n"))
    assert repr(again) == repr(value)


def test_a_number_python_refuses_is_refused() -> None:
    with pytest.raises(BadMessage, match="not JSON"):
        Json()(ReadBuffer(b"[" + b"1" * 5000 + b"]"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(values=st.lists(JSON, max_size=4), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_json_values_at_any_cuts(values: list[Any], cuts: list[int]) -> None:
    wire = b"".join(Json().encode(value) + b"\n" for value in values)
    edges = sorted({0, len(wire), *(min(cut, len(wire)) for cut in cuts)})
    buf = ReadBuffer()
    got = []
    for start, end in pairwise(edges):
        buf.feed(wire[start:end])
        while (value := Json()(buf)) is not NEED_MORE:
            got.append(value)
    assert got == values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_has_not_is_not_written(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Json().encode(value)
    with pytest.raises((TypeError, ValueError)):
        Json().encode([value, 10**5000])


def test_json_is_compact_and_utf8() -> None:
    assert Json().encode({"a": [1, "\u00e9"]}) == '{"a":[1,"\u00e9"]}'.encode()


class Shouting:
    """A coder whose documents are JSON, and whose values are not."""

    @staticmethod
    def loads(data: bytes) -> Any:
        return {"loaded": json.loads(data)}

    @staticmethod
    def dumps(value: Any) -> str:
        return json.dumps([value])


def test_the_coder_can_be_replaced() -> None:
    frame = Json(Shouting())
    assert frame.encode(1) == b"[1]"
    assert frame(ReadBuffer(b"[1]")) == {"loaded": [1]}


def test_the_coder_of_cbor_can_be_replaced() -> None:
    class Own:
        @staticmethod
        def loads(data: bytes) -> Any:
            return "loaded", data

        @staticmethod
        def dumps(value: Any) -> bytes:
            return b"\x81" + cbor2.dumps(value)

    frame = Cbor(Own())
    assert frame.encode(1) == b"\x81\1"
    assert frame(ReadBuffer(b"\x81\1")) == ("loaded", b"\x81\1")


def test_what_cbor_has_no_form_for_is_refused() -> None:
    with pytest.raises(ValueError, match="object") as caught:
        Cbor().encode(object())
    assert isinstance(caught.value.__cause__, cbor2.CBOREncodeError)


def test_without_cbor2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _cbor2.cache_clear()
    monkeypatch.setitem(sys.modules, "cbor2", None)
    for use in (lambda: Cbor().encode(1), lambda: Cbor()(ReadBuffer(b"\1"))):
        with pytest.raises(ImportError, match=r"install ae-handle\[cbor\]"):
            use()


@pytest.mark.parametrize("frame", [Json, Cbor])
def test_a_coder_without_the_functions_is_refused(frame: Any) -> None:
    with pytest.raises(TypeError, match="loads and dumps"):
        frame(object())
    with pytest.raises(ValueError, match="depth of 1 or more"):
        frame(max_depth=0)


# ---------------------------------------------------------------------- CBOR


CBOR = [
    0,
    23,
    24,
    255,
    256,
    65536,
    -1,
    -500,
    2**40,
    1.5,
    False,
    True,
    None,
    "",
    "\u00e9",
    b"",
    b"ab",
]
CBOR += [[], [1, [2, [3]]], {}, {"a": {"b": []}}, [None, 0, False], ["x" * 300]]


@pytest.mark.parametrize("value", CBOR, ids=repr)
def test_cbor_is_read_however_it_is_cut(value: object) -> None:
    check_reader(Cbor(), Cbor().encode(value), value)


def test_items_stand_back_to_back() -> None:
    check_cuts(Cbor(), b"".join(map(Cbor().encode, CBOR)), CBOR)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("9fff", []),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
    ],
)
def test_indefinite_lengths(wire: str, expected: object) -> None:
    check_reader(Cbor(), bytes.fromhex(wire), expected)


@pytest.mark.parametrize(
    "wire",
    ["ff", "1c", "1d", "1e", "1f", "3f", "5c", "df", "f800", "f81f", "fc", "81ff", "bf01ff",
     "5f01ff", "5f6161ff", "7f4161ff", "5f5fffff", "a1ff", "c0ff", "fe"],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused_and_stays(wire: str) -> None:
    data = bytes.fromhex(wire)
    buf = ReadBuffer(data)
    for _ in range(2):
        with pytest.raises(BadMessage, match="CBOR"):
            Cbor()(buf)
        assert bytes(buf) == data


@pytest.mark.parametrize("wire", ["5bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff"])
def test_a_huge_length_allocates_nothing(wire: str) -> None:
    assert Cbor()(ReadBuffer(bytes.fromhex(wire))) is NEED_MORE


def test_cbor_depth_is_bounded() -> None:
    assert Cbor(max_depth=3)(ReadBuffer(b"\x81\x81\x81\x00")) == [[[0]]]
    for opener in (b"\x81", b"\x9f", b"\xa1\x00", b"\xc1"):
        with pytest.raises(BadMessage, match="deeper than"):
            Cbor()(ReadBuffer(opener * 1_000_00))


@given(st.binary(max_size=40))
def test_cbor_reads_garbage_the_same_however_it_is_cut(data: bytes) -> None:
    outcomes = []
    for step in (1, 1000):
        buf = ReadBuffer()
        got: list[object] = []
        try:
            for i in range(0, len(data), step):
                buf.feed(data[i : i + step])
                while (value := Cbor()(buf)) is not NEED_MORE:
                    got.append(repr(value))
        except BadMessage:
            got.append("refused")
        outcomes.append(got)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (cbor2.CBOREncodeTypeError("no such type"), TypeError),
        (cbor2.CBOREncodeValueError("no such value"), ValueError),
    ],
    ids=["type", "value"],
)
def test_a_refusal_of_the_encoder_is_an_error_of_the_same_kind(
    refused: Exception, expected: type[Exception]
) -> None:
    class Refusing(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            raise refused

        def __iter__(self) -> Iterator[str]:
            return iter("a")

        def __len__(self) -> int:
            return 1

    with pytest.raises(expected, match="no such") as caught:
        Cbor().encode([Refusing()])
    assert caught.value.__cause__ is refused
