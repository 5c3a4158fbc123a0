"""Items that coroutines did not take: which of them go back, and in which order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from ae_handle import NEED_MORE, Chunk, HandleError, ReadBuffer
from ae_handle._protocol.read_side import ReadSide


class Owner:
    """An owner that is told nothing."""

    def _fail(self, error: HandleError) -> None:
        raise error

    def _callback_failed(self, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize("taken", [(), (2,), (1,), (0,), (0, 1), (1, 2)])
def test_an_item_goes_back_unless_one_behind_it_was_taken(
    taken: tuple[int, ...], awaited: type[Any]
) -> None:
    read = ReadSide()
    items = [awaited() for _ in range(3)]
    for item in items:
        read.add(Chunk(2), item)
    read.feed(b"aabbccdd")
    read.dispatch(Owner())
    for at in taken:
        items[at].take()
    lost = [at for at in range(3) if at not in taken and read.return_item(items[at]) is None]
    last = max(taken, default=-1)
    assert lost == [at for at in range(last) if at not in taken]
    assert (
        bytes(read.buffer) == b"".join(b"abc"[at : at + 1] * 2 for at in range(last + 1, 3)) + b"dd"
    )


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_items_go_back_in_their_order_whoever_gives_up_first(
    order: tuple[int, ...], awaited: type[Any]
) -> None:
    read = ReadSide()
    items = [awaited() for _ in range(3)]
    for item in items:
        read.add(Chunk(2), item)
    read.feed(b"aabbccdd")
    read.dispatch(Owner())
    returned = [read.return_item(items[at]) for at in order]
    assert returned[order.index(2)] is True
    assert None not in returned
    assert bytes(read.buffer) == b"aabbccdd"


def test_an_item_that_was_taken_is_no_reason_to_reorder_those_before_it(awaited: type[Any]) -> None:
    read = ReadSide()
    first, second, third = items = [awaited() for _ in range(3)]
    for item in items[:2]:
        read.add(Chunk(2), item)
    read.feed(b"aabbccdd")
    read.dispatch(Owner())
    second.take()
    read.add(Chunk(2), third)
    read.dispatch(Owner())
    assert read.return_item(third) is True
    assert read.return_item(first) is None
    assert bytes(read.buffer) == b"ccdd"


def test_an_item_does_not_go_back_before_what_the_end_of_the_input_gave_to_a_callback(
    awaited: type[Any],
) -> None:
    read = ReadSide()
    owner = Owner()
    request = awaited()
    got: list[bytes] = []

    def rest(buf: ReadBuffer) -> Any:
        return NEED_MORE

    rest.at_eof = lambda buf: buf.take()  # type: ignore[attr-defined]
    read.add(Chunk(2), request)
    read.add(rest, lambda _, item: got.append(item))
    read.feed(b"abcd")
    read.dispatch(owner)
    read.end_input()
    assert read.finish(owner, True)
    assert got == [b"cd"]
    assert read.return_item(request) is None
    assert not read.buffer


def test_an_item_is_lost_when_one_behind_it_was_taken_and_the_next_is_there(
    awaited: type[Any],
) -> None:
    read = ReadSide()
    first, second, third = items = [awaited() for _ in range(3)]
    for item in items[:2]:
        read.add(Chunk(2), item)
    read.feed(b"aabbccdd")
    read.dispatch(Owner())
    second.take()
    read.add(Chunk(2), third)
    read.dispatch(Owner())
    assert read.return_item(first) is None
    assert read.return_item(third) is True
    assert bytes(read.buffer) == b"ccdd"
