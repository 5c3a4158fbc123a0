"""What tests of the sides share: the request of a coroutine."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest

from ae_handle import ReadBuffer
from ae_handle._protocol.read_queue import PendingRead


class Awaited(PendingRead):
    """A request of a coroutine, which takes its item when ``take`` is called."""

    def __init__(self) -> None:
        self.method: Any = self.data
        self.got: object = None

    def consumed(self, front: Any, size: int) -> Any:
        self.front, self.size = front, size
        return ref(self.method)

    def data(self) -> bytes:
        return ReadBuffer.since(self.front, self.size)

    def __call__(self, owner: Any, value: Any, /) -> None:
        self.got = value

    def throw(self, error: BaseException) -> None:
        raise error

    def take(self) -> None:
        self.method = None


@pytest.fixture
def awaited() -> type[Any]:
    """The class of such requests."""
    return Awaited
