"""Requests without a callback: the condition variable that stands for the item.

An awaited request is an entry of the read queue like any other, whose callback is an object of
this module. It keeps the handle alive for as long as it is pending.
"""

from __future__ import annotations

__all__ = ("Awaited", "AwaitedRead", "Delivered", "Each", "FailPending", "Next", "Remembering")

from _thread import get_ident
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import ref

import ae_core as ae
from ae_core import CondVar

from ._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._errors import UnexpectedEOF
from ._protocol.read_queue import END, PendingRequest
from ._protocol.registry import LINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._errors import HandleError
    from ._protocol.read_side import ReadSide

T = TypeVar("T")


class AwaitedHandle(Protocol):
    """The handle that is awaited."""

    _read: ReadSide
    _thread: int
    _events: Any

    def _keep_alive(self) -> None: ...
    def _release(self) -> None: ...
    def _withdraw(self, request: PendingRequest) -> None: ...
    def _request_read(self, reader: Any, request: Any, *, line: bool) -> CondVar[Any]: ...
    def _return_item(self, item: Delivered) -> bool: ...
    def _iterator_ended(self) -> None: ...
    def _peer_text(self) -> str: ...


class Awaited(PendingRequest):
    """The callback of an operation that was begun without one.

    Args:
        handle: The handle, which lives until the operation has ended.
        what: What it does, for people; the name of the peer follows.
    """

    __slots__ = ("_events", "_what", "condvar", "handle")

    def __init__(self, handle: AwaitedHandle, what: str) -> None:
        self.handle: AwaitedHandle | None = handle
        self._events = handle._events
        self._what = what
        self.condvar: CondVar[Any] | None = self._make_condvar()
        handle._keep_alive()

    def _make_condvar(self) -> CondVar[Any]:
        return CondVar(cancel=self._cancelled, describe=self._describe)

    def __call__(self, handle: Any, value: Any, /) -> None:
        """Deliver the item."""
        condvar = self._end()
        if condvar is None:
            return
        try:
            condvar.send(value)
        except BaseException as error:
            # a callback of the program raises what leaves it: not in the middle of ours
            ae.report_error(error)

    def throw(self, error: BaseException) -> None:
        """Deliver *error*: there will be no item."""
        condvar = self._end()
        if condvar is None:
            return
        try:
            condvar.throw(error)
        except BaseException as leaves:
            ae.report_error(leaves)

    def _cancelled(self) -> None:
        """Take the request back: nobody waits for it any more."""
        handle = self.handle
        if handle is not None:
            handle._withdraw(self)
            self._end()

    def _end(self) -> CondVar[Any] | None:
        """Let go of the handle and of the condition variable, which is returned."""
        condvar, self.condvar = self.condvar, None
        handle, self.handle = self.handle, None
        if handle is not None:
            handle._release()
        return condvar

    def _describe(self) -> str:
        handle = self._events()
        return self._what if handle is None else f"{self._what} {handle._peer_text()}"


# Theory of operation of reads that are awaited
# ---------------------------------------------
# An item is taken when `await` returns to the coroutine. One whose task is cancelled between the
# delivery and that goes back: its bytes return to the front of the buffer, and whatever is in
# front then reads them anew, as if the request had never been answered. Nothing is copied for
# this: the request remembers where its item was, and the buffer's data is kept by that.
#
# A condition variable calls `untaken` at most once, and drops the function as soon as the value
# is taken. So the function is a method of an object that nothing else holds (`Delivered`), to
# which the read side has a weak reference: it dies when its item is taken.


class Remembering:
    """A reader that remembers what it consumed."""

    __slots__ = ("_before", "_read", "_size")

    def __init__(self, reader: Any) -> None:
        self._read = reader
        self._before: Any = None
        self._size = 0

    def __call__(self, buf: ReadBuffer) -> Any:
        return self._remember(buf, self._read)

    def at_eof(self, buf: ReadBuffer) -> Any:
        """Return what only the end of the stream makes complete."""
        at_eof = getattr(self._read, "at_eof", None)
        return NEED_MORE if at_eof is None else self._remember(buf, at_eof)

    def _remember(self, buf: ReadBuffer, read: Any) -> Any:
        size = len(buf)
        before = buf.mark()
        value = read(buf)
        if value is not NEED_MORE:
            self._before = before
            self._size = size - len(buf)
        return value

    def consumed(self) -> tuple[Any, int]:
        """Return where the last item began, and its size."""
        before, self._before = self._before, None
        return before, self._size


class Delivered:
    """An item of an awaited read that goes back if it is not taken."""

    __slots__ = ("__weakref__", "_before", "_events", "_lost", "_size")

    def __init__(self, events: Any, lost: Callable[[Any], object] | None) -> None:
        self._events = events
        self._lost = lost  # called with the item if it cannot go back
        self._before: Any = None
        self._size = 0

    def remember(self, before: Any, size: int) -> None:
        """Note where the item, which is about to be delivered, began, and its size."""
        self._before = before
        self._size = size

    def give_back(self, value: object) -> None:
        """The item was not taken."""
        handle = self._events()
        if handle is None or value is END:
            return  # the next one is told of the end anew
        if not handle._return_item(self) and self._lost is not None:
            self._lost(value)

    def data(self) -> bytes:
        """Return the bytes of the item."""
        return b"" if self._before is None else ReadBuffer.since(self._before, self._size)


class AwaitedRead(Awaited):
    """A read without a callback."""

    __slots__ = ("_delivered", "remembering")

    def __init__(self, handle: AwaitedHandle, what: str, remembering: Remembering) -> None:
        self.remembering = remembering
        super().__init__(handle, what)

    def _make_condvar(self) -> CondVar[Any]:
        delivered = Delivered(self._events, self._lost())
        self._delivered: Any = ref(delivered)  # the condition variable holds it
        return CondVar(cancel=self._cancelled, untaken=delivered.give_back, describe=self._describe)

    def _lost(self) -> Callable[[Any], object] | None:
        return None

    def __call__(self, handle: Any, value: Any, /) -> None:
        """Deliver the item."""
        delivered = self._delivered()
        if delivered is not None:
            delivered.remember(*self.remembering.consumed())
            handle._read.delivered(self._delivered)
        del delivered
        super().__call__(handle, value)


class FailPending:
    """Ends requests that are pending, in the next turn."""

    __slots__ = ("_error", "_waiting")

    def __init__(self, waiting: list[PendingRequest], error: HandleError) -> None:
        self._waiting = waiting
        self._error = error

    def __call__(self) -> None:
        for request in self._waiting:
            request.throw(self._error)


class Next(AwaitedRead):
    """The request of an iterator: the end of the stream between items is no error for it."""

    __slots__ = ("_each",)

    accepts_end = True

    def __init__(self, handle: AwaitedHandle, what: str, each: Each[Any]) -> None:
        self._each = each
        super().__init__(handle, what, each.remembering)

    def _lost(self) -> Callable[[Any], object]:
        return self._each.keep


class Each(Generic[T]):
    """The asynchronous iterator of :meth:`Handle.each`."""

    __slots__ = ("_ended", "_handle", "_kept", "_reader", "_what", "remembering")

    def __init__(self, handle: AwaitedHandle, reader: Any) -> None:
        self._ended = False
        self._handle = handle
        self._reader = reader
        self._what = "read 'line' from" if reader is LINE else f"read {reader!r} from"
        self._kept: Any = NEED_MORE  # an item that was not taken and cannot go back
        self.remembering = Remembering(reader)
        handle._read.iterator_started()

    def __aiter__(self) -> Each[T]:
        return self

    async def __anext__(self) -> T:
        if self._ended:
            raise StopAsyncIteration
        handle = self._handle
        value: Any
        if self._kept is not NEED_MORE:
            value, self._kept = self._kept, NEED_MORE
        else:
            value = handle._read.read_now(self._reader)
        if value is not NEED_MORE:
            result: T = value
            return result
        request = Next(handle, self._what, self)
        try:
            value = await handle._request_read(self.remembering, request, line=self._reader is LINE)
        except UnexpectedEOF:
            self._end()
            raise
        if value is END:
            self._end()
            raise StopAsyncIteration
        result = value
        return result

    def keep(self, value: T) -> None:
        """Give *value* out in the next round: something behind it was read already."""
        self._kept = value

    async def aclose(self) -> None:
        """End the iteration; the handle lives on."""
        self._end()

    def __del__(self) -> None:
        if self._handle._thread == get_ident():
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._handle._iterator_ended()
