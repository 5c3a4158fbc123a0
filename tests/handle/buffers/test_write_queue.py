"""The write queue: what is unsent, whose it is, and in which blocks it leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle._buffers.write_queue import WriteQueue


def test_unsent_bytes_are_counted() -> None:
    out = WriteQueue()
    assert not out
    out.pieces += [b"ab", b"cde"]
    assert len(out) == 5
    out.pieces.append(b"f")
    assert len(out) == 6
    out.block = out.next()
    assert bytes(out.block) == b"abcdef"
    out.sent(4)
    assert len(out) == 2
    out.append_block(b"gh")
    assert bytes(out.block) == b"efgh"
    out.sent(4)
    assert not out
    assert out.next() == b""


def test_the_pieces_of_a_block_stay_with_the_caller() -> None:
    out = WriteQueue()
    pieces = [b"ab", b"c", bytes(300_000)]
    out.pieces += pieces
    assert out.take() == pieces[:2]
    assert (len(out), out.pieces) == (300_000, pieces[2:])
    out.pieces.append(b"d")
    assert out.take() == pieces[2:]  # more than a block: by itself
    assert out.take() == [b"d"]
    assert (len(out), out.pieces) == (0, [])
    out.pieces.append(b"e")
    assert len(out) == 1


def test_a_big_piece_is_not_copied() -> None:
    out = WriteQueue()
    big = bytes(1 << 20)
    out.pieces += [b"small", big, b"tail"]
    assert out.next() == b"small"
    assert out.next() is big
    assert out.next() == b"tail"


@given(
    pieces=st.lists(st.integers(0, 300_000), max_size=8),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=20),
)
def test_everything_is_sent_once_and_in_order(
    pieces: list[int], steps: list[tuple[bool, float]]
) -> None:
    out = WriteQueue()
    todo = [bytes([number]) * size for number, size in enumerate(pieces)]
    expected = b"".join(todo)
    sent = b""
    for push, share in [*steps, *[(True, 1.0)] * 20]:
        if todo and push:
            out.pieces.append(todo.pop(0))
        assert len(out) == len(expected) - len(sent) - sum(map(len, todo))
        if not out.block:
            out.block = out.next()
        taken = int(share * len(out.block))
        sent += bytes(out.block[:taken])
        out.sent(taken)
    assert sent == expected


def test_what_is_not_the_programs_is_not_owed_and_not_lost() -> None:
    out = WriteQueue()
    out.append_block(b"alert", overhead=True)
    out.pieces.append(b"data")
    assert len(out) == 9
    assert out.owed == 4
    out.append_block(b"more")  # of the program's, behind it
    assert out.owed == len(out) == 13
    out.lose(2)
    assert out.lost == 15
    assert not out


def test_a_block_of_the_programs_stays_owed_whatever_stands_behind_it() -> None:
    out = WriteQueue()
    out.append_block(b"data")
    out.append_block(b"alert", overhead=True)
    assert out.owed == 9
    assert out.take_block() == b"dataalert"
    assert out.owed == len(out) == 0
    out.mark_block(overhead=True)
    out.offer(memoryview(b"alert"))
    assert out.owed == 0


@pytest.mark.parametrize("drop", ["take_all", "lose_pieces", "drop_pieces"])
def test_what_stands_behind_the_block_can_go_alone(drop: str) -> None:
    out = WriteQueue()
    pieces = out.pieces
    out.offer(b"block")
    pieces += [b"a", b"bc"]
    assert out.waiting == 3
    assert getattr(out, drop)() == (b"abc" if drop == "take_all" else None)
    assert out.pieces is pieces  # push_write appends to this very list
    assert (out.waiting, len(out)) == (0, 5)
    assert out.lost == (3 if drop == "lose_pieces" else 0)
    pieces.append(b"new")
    assert out.waiting == 3


def test_pieces_are_joined_up_to_a_size_and_counted_on() -> None:
    out = WriteQueue()
    out.pieces += [bytes(200_000), bytes(60_000), bytes(60_000), b"x"]
    assert len(out) == 320_001
    assert len(out.next()) == 260_000
    assert len(out) == 60_001
    assert len(out.next()) == 60_001
    assert out.next() == b""


def test_a_piece_of_more_than_a_block_may_be_all_there_is() -> None:
    out = WriteQueue()
    out.pieces.append(bytes(300_000))
    assert out.take() == [bytes(300_000)]
    assert (len(out), out.pieces) == (0, [])
