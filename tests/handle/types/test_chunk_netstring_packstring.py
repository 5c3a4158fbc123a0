"""The frame types whose length is known beforehand: ``chunk``, ``netstring``, ``packstring``."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import NEED_MORE, BadMessage, Chunk, NetString, PackString, ReadBuffer
from ae_handle.testing import check_cuts, check_reader

FORMATS = ["C", "S", "l", "L", "q", "Q", "i", "I", "j", "J", "n", "N", "v", "V", "w"]
FORMATS += ["<h", ">I", "!H", "=q", "!b", "S>", "l<", "Q>", "J<"]


def test_a_chunk() -> None:
    check_reader(Chunk(4), b"head", b"head")


def test_a_chunk_of_nothing_is_there_at_once() -> None:
    assert Chunk(0)(ReadBuffer()) == b""


@pytest.mark.parametrize("size", [-1, -(10**9)])
def test_a_negative_chunk_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Chunk(size)


@pytest.mark.parametrize("size", ["4", 4.0, None, True])
def test_a_chunk_of_no_number_is_refused(size: object) -> None:
    with pytest.raises(TypeError, match="number of bytes"):
        Chunk(size)  # type: ignore[arg-type]


def test_a_chunk_is_written_if_it_has_the_size() -> None:
    assert Chunk(3).encode(bytearray(b"abc")) == b"abc"
    with pytest.raises(ValueError, match="expected 3 bytes, got 2"):
        Chunk(3).encode(b"ab")
    with pytest.raises(TypeError):
        Chunk(3).encode("abc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [(b"3:abc,", b"abc"), (b"0:,", b""), (b"12:hello world!,", b"hello world!")],
)
def test_netstring(wire: bytes, expected: bytes) -> None:
    check_reader(NetString(), wire, expected)


@pytest.mark.parametrize("wire", [b"", b"1", b"12", b"12:", b"3:abc", b"1234567890"])
def test_a_netstring_that_may_still_come_is_waited_for(wire: bytes) -> None:
    buf = ReadBuffer(wire)
    assert NetString()(buf) is NEED_MORE
    assert bytes(buf) == wire


@pytest.mark.parametrize(
    "wire",
    [b"03:abc,", b"00:,", b"3:abcX", b"abc", b":,", b"3abc,", b"-1:,", b"1 :a,", b"12345678901"],
)
def test_what_is_no_netstring_is_refused_and_stays(wire: bytes) -> None:
    buf = ReadBuffer(wire)
    for _ in range(2):
        with pytest.raises(BadMessage):
            NetString()(buf)
        assert bytes(buf) == wire


@pytest.mark.parametrize("wire", [b"03:abc,", b"x", b"3:abcX"])
def test_a_bad_netstring_is_refused_however_it_is_cut(wire: bytes) -> None:
    buf = ReadBuffer()
    with pytest.raises(BadMessage):
        for i in range(len(wire)):
            buf.feed(wire[i : i + 1])
            assert NetString()(buf) is NEED_MORE


@given(st.binary(max_size=300))
def test_any_netstring_reads_back(value: bytes) -> None:
    check_reader(NetString(), NetString().encode(value), value)


@pytest.mark.parametrize("fmt", FORMATS)
def test_packstring_reads_back(fmt: str) -> None:
    frame = PackString(fmt)
    for value in (b"", b"a", b"hello" * 5):
        check_reader(frame, frame.encode(value), value)
    check_cuts(frame, frame.encode(b"ab") + frame.encode(b""), [b"ab", b""])


@pytest.mark.parametrize(
    ("fmt", "head"),
    [
        ("C", b"\3"),
        ("n", b"\0\3"),
        ("N", b"\0\0\0\3"),
        ("v", b"\3\0"),
        ("V", b"\3\0\0\0"),
        ("w", b"\3"),
        ("S>", b"\0\3"),
        ("Q<", b"\3" + bytes(7)),
        (">I", b"\0\0\0\3"),
        ("<I", b"\3\0\0\0"),
        ("L", struct.pack("=I", 3)),
        ("J", struct.pack("@N", 3)),
    ],
)
def test_packstring_writes_what_perl_writes(fmt: str, head: bytes) -> None:
    assert PackString(fmt).encode(b"abc") == head + b"abc"


def test_a_compressed_length_has_seven_bits_per_octet() -> None:
    value = bytes(20_000)
    wire = PackString("w").encode(value)
    assert wire[:3] == b"\x81\x9c\x20"
    assert PackString("w")(ReadBuffer(wire)) == value


def test_a_compressed_length_is_bounded() -> None:
    assert PackString("w")(ReadBuffer(b"\x81" * 9)) is NEED_MORE
    with pytest.raises(BadMessage, match="10 bytes or fewer"):
        PackString("w")(ReadBuffer(b"\x81" * 10))


def test_a_negative_length_is_refused_and_stays() -> None:
    buf = ReadBuffer(b"\xff\xffabc")
    with pytest.raises(BadMessage, match="got -1"):
        PackString("<h")(buf)
    assert len(buf) == 5


@pytest.mark.parametrize(
    ("fmt", "size"), [("C", 256), ("c", 128), ("n", 65536), ("<h", 32768), ("!b", 128)]
)
def test_a_payload_too_long_for_its_length_is_not_written(fmt: str, size: int) -> None:
    PackString(fmt).encode(bytes(size - 1))
    with pytest.raises(ValueError, match="too many"):
        PackString(fmt).encode(bytes(size))


@pytest.mark.parametrize("fmt", ["", "x", "nn", ">", ">n", ">II", "w>", "n<", "a4", "@I", "<s"])
def test_an_unknown_format_is_refused(fmt: str) -> None:
    with pytest.raises(ValueError, match="expected one of Perl's letters"):
        PackString(fmt)


def test_a_format_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="format as str"):
        PackString(4)  # type: ignore[arg-type]


@pytest.mark.parametrize("frame", [NetString(), PackString("N"), PackString("w")])
def test_text_is_not_octets(frame: NetString | PackString) -> None:
    with pytest.raises(TypeError, match="encode it first"):
        frame.encode("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes-like"):
        frame.encode(5)  # type: ignore[arg-type]
    assert frame.encode(memoryview(b"ok")) == frame.encode(b"ok")
