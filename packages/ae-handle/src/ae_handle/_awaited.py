"""Requests without a callback: the condition variable that stands for the item.

An awaited request is an entry of the read queue like any other, whose callback is an object of
this module. It keeps the handle alive for as long as it is pending.
"""

from __future__ import annotations

__all__ = ("END", "Awaited", "Each", "Next")

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import ae_core as ae
from ae_core import CondVar

from ._buffer import NEED_MORE
from ._errors import UnexpectedEOF

if TYPE_CHECKING:
    from ._handle import Handle

T = TypeVar("T")


class _End(Enum):
    END = "end"


#: What an iterator is told when the stream has ended between items.
END: Final = _End.END


class Awaited:
    """The callback of a request that was made without one."""

    __slots__ = ("condvar", "handle")

    def __init__(self, handle: Handle) -> None:
        self.handle: Handle | None = handle
        self.condvar: CondVar[Any] = CondVar(self._settled)
        handle._hold()

    def __call__(self, handle: Handle, value: Any) -> None:
        """The item is there."""
        self._release()
        try:
            self.condvar.send(value)
        except BaseException as error:
            # a callback of the user leaves the program: not in the middle of ours
            ae.report_error(error)

    def throw(self, error: BaseException) -> None:
        """There will be no item."""
        self._release()
        try:
            self.condvar.throw(error)
        except BaseException as leaves:
            ae.report_error(leaves)

    def _settled(self, condvar: CondVar[Any]) -> None:
        """The condition variable is ready: if that was not us, the user gave up."""
        handle = self.handle
        if handle is not None:
            handle._forget_request(self)
            self._release()

    def _release(self) -> None:
        handle, self.handle = self.handle, None
        if handle is not None:
            handle._release()


class Next(Awaited):
    """The request of an iterator: the end of the stream between items is no error for it."""

    __slots__ = ()


class Each(Generic[T]):
    """The asynchronous iterator of :meth:`Handle.each`."""

    __slots__ = ("_ended", "_handle", "_reader")

    def __init__(self, handle: Handle, reader: Any) -> None:
        self._handle = handle
        self._reader = reader
        self._ended = False

    def __aiter__(self) -> Each[T]:
        return self

    async def __anext__(self) -> T:
        if self._ended:
            raise StopAsyncIteration
        ready = self._handle._read_now(self._reader)
        if ready is not NEED_MORE:
            item: T = ready
            return item
        condvar: CondVar[Any] = self._handle._request_next(self._reader)
        try:
            value = await condvar
        except UnexpectedEOF:
            self._ended = True
            raise
        except BaseException:
            condvar.cancel()  # the task was cancelled: the item stays for the next reader
            raise
        if value is END:
            self._ended = True
            raise StopAsyncIteration
        result: T = value
        return result

    async def aclose(self) -> None:
        """End the iteration; the handle lives on."""
        self._ended = True
