"""Items that coroutines did not take: which of them go back, and in which order."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest

from ae_handle import Chunk, HandleError, ReadBuffer
from ae_handle._protocol.read_queue import PendingRead
from ae_handle._protocol.read_side import ReadSide


class Owner:
    """An owner that is told nothing."""

    def _fail(self, error: HandleError) -> None:
        raise error

    def _callback_failed(self, error: BaseException) -> None:
        raise error


class _Awaited(PendingRead):
    """A request of a coroutine, which takes its item when ``take`` is called."""

    def __init__(self) -> None:
        self.method: Any = self.back
        self.given: Any = ref(self.method)
        self.got: Any = None

    def back(self, value: object) -> None: ...

    def consumed(self, front: Any, size: int) -> Any:
        self.front, self.size = front, size
        return self.given

    def data(self) -> bytes:
        return ReadBuffer.since(self.front, self.size)

    def __call__(self, owner: Any, value: Any, /) -> None:
        self.got = value

    def throw(self, error: BaseException) -> None:
        raise error

    def take(self) -> None:
        self.method = None


@pytest.mark.parametrize("taken", [(), (2,), (1,), (0,), (0, 1), (1, 2)])
def test_an_item_goes_back_unless_one_behind_it_was_taken(taken: tuple[int, ...]) -> None:
    read = ReadSide()
    items = [_Awaited() for _ in range(3)]
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


def test_an_item_that_was_taken_is_no_reason_to_reorder_those_before_it() -> None:
    read = ReadSide()
    first, second, third = items = [_Awaited() for _ in range(3)]
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
