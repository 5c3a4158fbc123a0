"""What the public classes are besides their fields: tuples with names, classes with a parameter."""

import pickle
from typing import Any, get_type_hints

import pytest

from ae_handle import NEED_MORE, HandleStatistics, NeedMore, Proxied, ReadBuffer, Regex


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            HandleStatistics(None, "", 1, 2, 3, None),
            "HandleStatistics(peer_name=None, state='', requests=1, unread=2, unsent=3, tls=None)",
        ),
        (Proxied(None, ("::1", 80)), "Proxied(source=None, destination=('::1', 80), tlvs=())"),
    ],
    ids=["HandleStatistics", "Proxied"],
)
def test_a_tuple_with_names_is_compared_copied_and_shown_as_one(value: Any, text: str) -> None:
    assert repr(value) == text
    assert value == tuple(value)
    assert value[0] == getattr(value, value._fields[0])
    assert type(value)(**value._asdict()) == value
    changed = value._replace(**{value._fields[0]: "other"})
    assert type(changed) is type(value)
    assert changed[1:] == value[1:]
    assert pickle.loads(pickle.dumps(value)) == value
    assert type(value).__module__ in ("ae_handle", "ae_handle.types")
    with pytest.raises(AttributeError):
        value.other = 1


def test_an_annotation_that_is_evaluated_may_name_what_a_reader_returns() -> None:
    def reader(buf: ReadBuffer) -> bytes | NeedMore:
        return buf.take() if buf else NEED_MORE

    assert reader(ReadBuffer()) is NEED_MORE
    assert pickle.loads(pickle.dumps(NEED_MORE)) is NEED_MORE
    assert get_type_hints(reader)["return"] == bytes | NeedMore


def test_a_class_with_a_parameter_may_be_given_it() -> None:
    assert Regex[bytes](b"x").accept == Regex(b"x").accept

    class Mine(Regex[bytes]):
        """A subclass."""

    assert Mine(b"x")(ReadBuffer(b"axb")) == b"ax"
