"""Reads as they are asked for: their readers, callbacks, awaiters and time limits."""

from __future__ import annotations

__all__ = ("Requests", "StartTls")


import ae_core as ae

from ._buffers.octets import not_a_class
from ._connecting import ConnectingConnection
from ._errors import HandleTimedOut
from ._pending import AwaitedRead, FailPending, LimitedRead, limit_read
from ._phases import DUE_READ, FAILED, OPEN
from ._protocol.inactivity import check_period
from ._protocol.registry import AWAITED_LINE, LINE, resolve_frame
from ._streams.closing import peer_text
from .types import Cbor, Chunk, Json, Line, NetString, PackString, Regex, TlsAutostart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from ae_core import CondVar

    from ._protocol.read_queue import PendingRead, PendingRequest


# Frame types that need no check and are no others in disguise.
_OURS: Final = frozenset({Chunk, NetString, Regex, PackString, Json, Cbor})


class Requests(ConnectingConnection):
    """A connection whose input is asked for, item by item."""

    __slots__ = ()

    def _reader(self, reader: Any) -> Any:
        """Return *reader*, or the frame type of that name, made for this handle."""
        if isinstance(reader, str):
            if self._rare.frames is not None and reader in self._rare.frames:
                return self._rare.frames[reader]
            return resolve_frame(reader)
        if reader.__class__ in _OURS:
            return reader
        if isinstance(reader, type):
            not_a_class("a frame type", reader)
        if not callable(reader):
            raise TypeError(f"expected a frame type, its name or a callable, got {reader!r}")
        if isinstance(reader, Line) and reader.eol is None:
            return LINE  # the dispatch recognises this one by identity
        return reader

    def _called_back(self, frame: Any, callback: Any) -> Any:
        """Return what is called with the item of *frame*: *callback*, if it can be called."""
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        return StartTls(frame, callback) if frame.__class__ is TlsAutostart else callback

    def _enqueue(self, reader: Any, callback: Any, front: bool) -> None:
        if self._phase >= FAILED:
            return
        read = self._read
        read.add(reader, callback, front)
        if reader is not LINE or read.paused or read.buffer._data or read.eof:
            self._wake_reading()
        elif self._phase == OPEN and self._read_watcher is None and not read.dispatching:
            self._update_interest()

    def _request(
        self, frame: Any, what: Any, callback: Any, timeout: float | None, front: bool
    ) -> Any:
        """Queue a read of *frame* that is awaited, or one that has a time limit.

        *what* is the frame type as the program named it.
        """
        if timeout is not None:
            timeout = check_period("timeout", timeout)
        if callback is None:
            kind = _AwaitedStartTls if frame.__class__ is TlsAutostart else AwaitedRead
            request = kind(self, frame if kind is _AwaitedStartTls else what)
            if timeout is not None:
                limit_read(request, self._events, what, timeout)
            return self._request_read(frame, request, front)
        callback = self._called_back(frame, callback)
        if timeout is not None and self._phase < FAILED:
            callback = LimitedRead(callback)
            limit_read(callback, self._events, what, timeout)
        self._enqueue(frame, callback, front)
        return None

    def _request_read(self, reader: Any, request: Any, front: bool = False) -> CondVar[Any]:
        """Queue an awaited read; a line is not looked for where nothing is."""
        condvar: CondVar[Any] = request.condvar
        read = self._read
        line = reader is LINE
        if line:
            reader = AWAITED_LINE
        if self._phase >= FAILED:
            ae.postpone(FailPending([request], self._reason()))
        elif (
            front
            or not line
            or read.paused
            or read.buffer._data
            or read.eof
            or self._phase != OPEN
            or read.line_batch is not None
        ):
            self._enqueue(reader, request, front)
        else:
            read.add_next(reader, request)
            if self._read_watcher is None and not read.dispatching:
                self._update_interest()
        return condvar

    def _return_item(self, request: PendingRead) -> bool:
        """Put the item of *request*, which was not taken, back; return whether it can be."""
        if self._phase != OPEN:
            return False
        returned = self._read.return_item(request)
        if returned:
            self._make_due(DUE_READ)
        return returned is not None

    def _peer_text(self) -> str:
        """Return the name of the peer, for messages."""
        return peer_text(self._rare.peer_name, self._stream)

    def _iterator_ended(self) -> None:
        """For ``Each``: it will not ask for anything more."""
        if self._read.iterator_ended():
            self._make_due(DUE_READ)

    def _withdraw(self, request: PendingRequest) -> None:
        """The program cancelled the condition variable of *request*."""
        if not self._write.withdraw(request):
            self._take_back(request)

    def _take_back(self, request: Any) -> None:
        """Take a read back; the next one looks at what is buffered."""
        read = self._read
        if read.withdraw(request) and self._phase == OPEN and not read.dispatching:
            self._update_interest()
            if read.buffer:
                self._make_due(DUE_READ)

    def _read_timed_out(self, request: Any, text: str) -> None:
        """The time limit of *request* has passed. In events only."""
        if self._read_watcher is not None and not self._read.dispatching:
            # what has arrived in time may still be in the kernel
            if self._tls is None:
                self._events.readable()
            else:
                self._events.readable_tls()
            if not request.pending or self._phase >= FAILED:
                return
        self._take_back(request)
        error = HandleTimedOut(text)
        if isinstance(request, AwaitedRead):
            request.throw(error)
        else:
            self._fail(error)


class StartTls:
    """The callback of a ``TlsAutostart`` request: starts TLS before it calls the program's."""

    __slots__ = ("_callback", "_request")

    def __init__(self, request: TlsAutostart, callback: Any) -> None:
        self._request = request
        self._callback = callback

    def __call__(self, handle: Any, value: Any, /) -> None:
        handle._autostart(self._request, value)
        self._callback(handle, value)


class _AwaitedStartTls(AwaitedRead):
    """A ``TlsAutostart`` request that a coroutine awaits."""

    __slots__ = ("_request",)

    def __init__(self, handle: Requests, request: Any) -> None:
        super().__init__(handle, request)
        self._request = request

    def __call__(self, handle: Any, value: Any, /) -> None:
        handle._autostart(self._request, value)
        super().__call__(handle, value)
