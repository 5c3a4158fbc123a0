"""Requests without a callback: the condition variable that stands for the item.

An awaited request is an entry of the read queue like any other, whose callback is an object of
this module. It keeps the handle alive for as long as it is pending.
"""

from __future__ import annotations

__all__ = ("Awaited", "Each", "FailPending", "Next")

from _thread import get_ident
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import ae_core as ae
from ae_core import CondVar

from ._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._errors import UnexpectedEOF
from ._protocol.read_queue import END, PendingRequest
from ._protocol.registry import LINE

if TYPE_CHECKING:
    from ._errors import HandleError
    from ._protocol.read_side import ReadSide

T = TypeVar("T")


class AwaitedHandle(Protocol):
    """The handle that is awaited."""

    _read: ReadSide
    _thread: int

    def _keep_alive(self) -> None: ...
    def _release(self) -> None: ...
    def _withdraw(self, request: PendingRequest) -> None: ...
    def _request_next(self, reader: Any, awaited: Any, of_line: bool) -> CondVar[Any]: ...
    def _put_back(self, data: bytes) -> bool: ...
    def _iterator_ended(self) -> None: ...


class Awaited(PendingRequest):
    """The callback of a request that was made without one."""

    __slots__ = ("condvar", "handle")

    def __init__(self, handle: AwaitedHandle) -> None:
        self.handle: AwaitedHandle | None = handle
        self.condvar: CondVar[Any] = CondVar(self._settled)
        handle._keep_alive()

    def __call__(self, handle: Any, value: Any, /) -> None:
        """Deliver the item."""
        handle._read.delivered(self, can_return=self.accepts_end)
        self._release()
        try:
            self.condvar.send(value)
        except BaseException as error:
            # a callback of the program raises what leaves it: not in the middle of ours
            ae.report_error(error)

    def throw(self, error: BaseException) -> None:
        """Deliver *error*: there will be no item."""
        self._release()
        try:
            self.condvar.throw(error)
        except BaseException as leaves:
            ae.report_error(leaves)

    def _settled(self, condvar: CondVar[Any]) -> None:
        """The condition variable is ready: if not by this request, it was cancelled."""
        handle = self.handle
        if handle is not None:
            handle._withdraw(self)
            self._release()

    def _release(self) -> None:
        handle, self.handle = self.handle, None
        if handle is not None:
            handle._release()


class FailPending:
    """Ends requests that are pending, in the next turn."""

    __slots__ = ("_error", "_waiting")

    def __init__(self, waiting: list[PendingRequest], error: HandleError) -> None:
        self._waiting = waiting
        self._error = error

    def __call__(self) -> None:
        for request in self._waiting:
            request.throw(self._error)


# Theory of operation of ``each``
# -------------------------------
# An item is taken when `await` returns to the coroutine. One whose task is cancelled between the
# two would be lost, so its bytes go back to the front of the buffer, and whatever is in front
# then reads them anew. That is right only as long as nothing behind them was consumed: from the
# delivery on the read side has the request as `untaken`, until anything else wants the buffer. If
# something did, the iterator keeps the item for its own next round.


class _Remembering:
    """The reader of an iterator, which remembers what it consumed."""

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

    def consumed(self) -> bytes:
        """Return the bytes of the last item."""
        data = ReadBuffer.since(self._before, self._size)
        self._before = None
        return data

    def forget(self) -> None:
        """The item is taken."""
        self._before = None


class Next(Awaited):
    """The request of an iterator: the end of the stream between items is no error for it."""

    __slots__ = ()

    accepts_end = True


class Each(Generic[T]):
    """The asynchronous iterator of :meth:`Handle.each`."""

    __slots__ = ("_ended", "_handle", "_kept", "_reader", "_remembering")

    def __init__(self, handle: AwaitedHandle, reader: Any) -> None:
        self._ended = False
        self._handle = handle
        self._kept: Any = NEED_MORE
        self._reader = reader
        self._remembering = _Remembering(reader)
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
            result: T = value
            return result
        value = handle._read.read_now(self._reader)
        if value is not NEED_MORE:
            result = value
            return result
        request = Next(handle)
        condvar = handle._request_next(self._remembering, request, self._reader is LINE)
        try:
            value = await condvar
        except UnexpectedEOF:
            self._end()
            raise
        except BaseException:
            if not condvar.ready:
                condvar.cancel()
            elif not condvar.cancelled and condvar.error is None:
                self._give_back(request, condvar.recv())
            raise
        handle._read.take_untaken(request)
        self._remembering.forget()
        if value is END:
            self._end()
            raise StopAsyncIteration
        result = value
        return result

    def _give_back(self, request: Next, value: Any) -> None:
        """The task was cancelled when the item had come: keep it for the next reader."""
        handle = self._handle
        untaken = handle._read.take_untaken(request)
        if value is END:
            return  # and the next one is told it anew
        if not untaken or not handle._put_back(self._remembering.consumed()):
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
