"""What may be sent: bytes-like objects, as bytes that nobody can change."""

from __future__ import annotations

from array import array

import pytest

from ae_handle import Line
from ae_handle._buffers.octets import not_a_class, octets


class Name(bytes):
    """Bytes with behaviour of their own."""

    def __len__(self) -> int:
        return 0


def test_bytes_are_not_copied() -> None:
    data = b"data"
    assert octets(data) is data


@pytest.mark.parametrize(
    "value", [bytearray(b"data"), memoryview(b"data"), memoryview(b"d_a_t_a_")[::2], Name(b"data")]
)
def test_anything_bytes_like_becomes_plain_bytes(value: object) -> None:
    data = octets(value)
    assert type(data) is bytes
    assert data == b"data"


def test_items_wider_than_a_byte_are_taken_as_they_are_in_memory() -> None:
    numbers = array("H", [1, 2])
    assert octets(numbers) == numbers.tobytes()


def test_a_change_of_the_original_is_not_seen() -> None:
    original = bytearray(b"data")
    data = octets(original)
    original[0] = 0
    assert data == b"data"


@pytest.mark.parametrize("value", [5, None, ["data"], object()])
def test_what_only_looks_like_bytes_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="expected a bytes-like object, got"):
        octets(value)


def test_a_str_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match="got the str 'text': encode it first"):
        octets("text")


def test_a_frame_type_without_parentheses_is_named() -> None:
    with pytest.raises(TypeError, match=r"as an object: Line\(\), not Line"):
        octets(Line)
    not_a_class("a frame type", Line())
