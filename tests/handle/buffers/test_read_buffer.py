"""The read buffer: what it holds, what it remembers, what it never does twice."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import ReadBuffer

PIECES = st.lists(st.binary(max_size=40), max_size=8)


def test_it_says_what_it_holds() -> None:
    buf = ReadBuffer(b"abc")
    assert len(buf) == 3
    assert buf
    assert bytes(buf) == b"abc"
    assert repr(buf) == "<ReadBuffer 3 bytes: b'abc'>"
    assert not ReadBuffer()
    assert repr(ReadBuffer(b"x" * 40)).endswith("...>")


def test_octets_leave_in_front() -> None:
    buf = ReadBuffer(b"abcdef")
    assert buf.peek(2) == b"ab"
    assert buf.take(2) == b"ab"
    buf.skip(1)
    assert bytes(buf) == b"def"
    buf.clear()
    assert not buf
    assert buf.take(0) == b""


@pytest.mark.parametrize("size", [-1, 4])
def test_taking_what_is_not_there_is_refused(size: int) -> None:
    buf = ReadBuffer(b"abc")
    with pytest.raises(ValueError, match=f"cannot take {size} of 3 bytes"):
        buf.take(size)
    with pytest.raises(ValueError, match="cannot take"):
        buf.skip(size)
    assert bytes(buf) == b"abc"


def test_peek_gives_what_there_is() -> None:
    assert ReadBuffer(b"abc").peek(10) == b"abc"
    with pytest.raises(ValueError, match="0 or more"):
        ReadBuffer(b"abc").peek(-1)


def test_mutable_input_is_copied() -> None:
    data = bytearray(b"abc")
    buf = ReadBuffer(data)
    buf.feed(data)
    data[:] = b"xyz"
    buf.feed(memoryview(b"!"))
    assert bytes(buf) == b"abcabc!"


def test_find_goes_on_where_it_failed() -> None:
    buf = ReadBuffer(b"x" * 1000)
    assert buf.find(b"\r\n") == -1
    assert buf.searched == 1000
    buf.feed(b"y\r")
    assert buf.find(b"\r\n") == -1
    buf.feed(b"\n")
    assert buf.find(b"\r\n") == 1001  # it straddles two pieces


def test_find_remembers_more_than_one_marker() -> None:
    buf = ReadBuffer(b"abc")
    assert buf.find(b";") == -1
    assert buf.find(b"c") == 2
    assert buf.find(b"\n") == -1
    buf.feed(b";\n")
    assert buf.find(b";") == 3
    assert buf.find(b"\n") == 4


def test_an_earlier_start_searches_what_was_left_out() -> None:
    buf = ReadBuffer(b"a;b")
    assert buf.find(b";", 2) == -1
    assert buf.find(b";", 0) == 1


@pytest.mark.parametrize(("sub", "start"), [(b"", 0), (b"x", -1)])
def test_find_refuses_nonsense(sub: bytes, start: int) -> None:
    with pytest.raises(ValueError, match="something to find"):
        ReadBuffer(b"abc").find(sub, start)


def test_search_refuses_a_negative_start() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        ReadBuffer(b"abc").search(re.compile(b"b"), -1)


def test_search_finds_a_pattern_that_arrives_in_pieces() -> None:
    pattern = re.compile(rb"\r?\n\r?\n")
    buf = ReadBuffer(b"head")
    assert buf.search(pattern) is None
    for octet in (b"\r", b"\n", b"\r"):
        buf.feed(octet)
        assert buf.search(pattern) is None
    buf.feed(b"\n")
    match = buf.search(pattern)
    assert match is not None
    assert match.span() == (4, 8)


def test_search_starts_over_if_what_follows_decides() -> None:
    pattern = re.compile(rb"a(?=b)")
    buf = ReadBuffer(b"xa")
    assert buf.search(pattern) is None
    buf.feed(b"b")
    match = buf.search(pattern)
    assert match is not None
    assert match.start() == 1


def test_a_match_may_be_kept_while_the_buffer_grows() -> None:
    buf = ReadBuffer(b"x" * 5000)
    buf.feed(b"y" * 10)
    match = buf.search(re.compile(b"xy"))
    assert match is not None
    buf.feed(b"z" * 10)
    assert len(buf) == 5020
    assert match.group() == b"xy"


@pytest.mark.parametrize("consume", ["take", "skip", "clear"])
def test_consuming_resets_what_readers_noted(consume: str) -> None:
    buf = ReadBuffer(b"abcdef")
    buf.find(b"\n")
    buf.state = object()
    if consume == "clear":
        buf.clear()
    else:
        getattr(buf, consume)(2)
    assert buf.searched == 0
    assert buf.state is None


def test_taking_nothing_resets_nothing() -> None:
    buf = ReadBuffer(b"abc")
    buf.find(b"\n")
    buf.take(0)
    assert buf.searched == 3


def test_a_view_shows_what_is_unread() -> None:
    buf = ReadBuffer(b"abc")
    buf.skip(1)
    with buf.view() as view:
        assert bytes(view) == b"bc"


def test_what_was_taken_can_be_put_back() -> None:
    buf = ReadBuffer(b"abcdef")
    taken = buf.take(4)
    buf.unread(taken)
    assert bytes(buf) == b"abcdef"


def test_a_big_item_is_joined_only_when_it_is_taken() -> None:
    buf = ReadBuffer()
    for _ in range(100):
        buf.feed(b"x" * 5000)
    assert len(buf) == 500_000
    assert buf.take(499_999) == b"x" * 499_999
    assert bytes(buf) == b"x"


def test_pieces_are_taken_across_their_boundaries() -> None:
    pieces = [bytes([i]) * 6000 for i in range(6)]
    for size in (1, 5999, 6000, 6001, 12000, 30001):
        buf = ReadBuffer()
        for piece in pieces:
            buf.feed(piece)
        whole = b"".join(pieces)
        got = []
        while buf:
            got.append(buf.take(min(size, len(buf))))
        assert b"".join(got) == whole
        assert {len(part) for part in got[:-1]} <= {size}


@given(before=st.binary(max_size=2), pieces=PIECES, factor=st.sampled_from([1, 200, 3000]))
def test_pieces_may_be_fed_together(before: bytes, pieces: list[bytes], factor: int) -> None:
    pieces = [piece * factor for piece in pieces]
    whole = before + b"".join(pieces)
    buf = ReadBuffer(before)
    buf.feed_pieces(pieces)
    buf.feed(b"end")
    assert len(buf) == len(whole) + 3
    assert bool(buf)
    half = buf.take(len(whole) // 2)
    assert half + buf.take(len(buf)) == whole + b"end"
    assert not buf


@given(pieces=PIECES, takes=st.lists(st.integers(0, 30), max_size=12), factor=st.integers(1, 200))
def test_it_is_a_queue_of_octets(pieces: list[bytes], takes: list[int], factor: int) -> None:
    buf = ReadBuffer()
    model = b""
    todo = [piece * factor for piece in pieces]
    for take in takes:
        if todo:
            piece = todo.pop(0)
            buf.feed(piece)
            model += piece
        size = min(take * factor, len(model))
        if take % 3 == 0:
            assert buf.find(b"\0\1", 0) == model.find(b"\0\1")
        assert buf.take(size) == model[:size]
        model = model[size:]
        assert len(buf) == len(model)
        assert bool(buf) == bool(model)
    assert bytes(buf) == model


@given(pieces=PIECES, sub=st.binary(min_size=1, max_size=3))
def test_a_search_in_pieces_finds_what_a_search_in_all_finds(
    pieces: list[bytes], sub: bytes
) -> None:
    buf = ReadBuffer()
    whole = b""
    for piece in pieces:
        buf.feed(piece)
        whole += piece
        if whole:
            assert buf.find(sub) == whole.find(sub)
            match = buf.search(re.compile(re.escape(sub)))
            assert (match.start() if match else -1) == whole.find(sub)


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"x" * 5000, b"y" * 6000], [b"a"] * 400])
def test_take_without_a_size_takes_everything(pieces: list[bytes]) -> None:
    buf = ReadBuffer()
    for piece in pieces:
        buf.feed(piece)
    whole = b"".join(pieces)
    assert buf.take(1) + buf.take() == whole if pieces else buf.take() == b""
    assert not buf
    assert buf.take() == b""


def test_one_big_piece_is_the_buffer_as_it_is() -> None:
    piece = bytes(100_000)
    buf = ReadBuffer()
    buf.feed_pieces([piece])
    assert buf.take() is piece


@pytest.mark.parametrize("size", [1, 5000, 5001, 11_000, 11_001, 18_000])
def test_what_was_consumed_since_a_mark_can_be_read_again(size: int) -> None:
    whole = b"a" * 5000 + b"b" * 6000 + b"c" * 7000
    buf = ReadBuffer()
    for piece in (whole[:5000], whole[5000:11_000], whole[11_000:]):
        buf.feed(piece)
    mark = buf.mark()
    buf.skip(size)
    buf.feed(b"more")
    assert ReadBuffer.since(mark, size) == whole[:size]
