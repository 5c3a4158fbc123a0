"""A connection in plaintext: reading, the end of the input, errors, and the end of the handle.

TLS is in ``_tls_connection``, which overrides the hooks that are marked as such.
"""

from __future__ import annotations

__all__ = ("Connection",)

import os
from abc import abstractmethod

import ae_core as ae

from ._errors import (
    BufferLimitExceeded,
    HandleDestroyed,
    HandleError,
    HandleTimedOut,
    TransportError,
    UnexpectedEOF,
    without_frames,
)
from ._pending import FailPending
from ._phases import (
    BROKEN,
    BROKEN_TOLD,
    CONNECTING,
    DESTROYED,
    DUE_DRAIN,
    DUE_READ,
    DUE_WRITE,
    ENDED,
    FAILED,
    OPEN,
)
from ._streams.adapters import shut_down
from ._streams.closing import close, close_in_background, peer_text, report_loss
from ._transport import Transport, transport_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from ._protocol.read_queue import PendingRequest
    from ._tls.layer import TlsLayer

# Theory of operation
# -------------------
# Every fatal error goes through `_fail`, whatever it came from: a read, a write, the TLS engine, a
# limit, a timeout. From then on the input is *broken*: nothing more is read or sent, and the error
# is reported when the readers have had everything that has arrived, by `_report_broken`:
#
# * A read is pending: the error is reported now.
# * There is an on_error: it is called now, unless an iterator of `each` goes on with what is in
#   the buffer, or the coroutine whose `await` was just answered is about to ask for more (how many
#   turns of the loop that takes depends on the loop; all of them deliver the same).
# * Neither: the error is kept for the next read, behind what is in the buffer. The stream is
#   closed. If there is no such read until the handle ends, the exception hook gets the error. But
#   a timeout and a limit are events of their own: with nothing left to read they are reported
#   when they occur.
#
# `_end_with_error` then ends the handle; later reads raise the error again.

# Errors that say when something happened, not how the stream ended.
_EVENTS: Final = (BufferLimitExceeded, HandleTimedOut)

# How many reads deliver what the peer sent before a write failed: 16 MiB.
_LAST_READS: Final = 256


class Connection(Transport):
    """A stream with its read side and its write side, in plaintext."""

    __slots__ = ("_on_end", "_phase")

    _attempts: Any  # what `connect=` has begun, kept by the class that does it
    _on_end: tuple[Callable[[Any], object], ...]
    _phase: int

    @property
    def is_destroyed(self) -> bool:
        """Whether it was destroyed, or never came to life."""
        return getattr(self, "_phase", DESTROYED) == DESTROYED

    # ------------------------------------------------------------------ starting

    def _start(self, stream: Any, tls: TlsLayer | None) -> None:
        """Begin to work on *stream*, in TLS if there is a session. Runs no callback."""
        self._phase = OPEN
        self._loop.holders[self._events] = None
        self._set_stream(stream)
        read = self._read
        write = self._write
        if self._inactivity is not None:
            self._restart_inactivity_timer()
        queue = write.queue
        if tls is not None:
            # what was pushed before start_tls() is in the block, and leaves in plaintext first
            self._begin_session(tls)
            if queue.block:
                write.expect_drain()
            self._flush()
        if queue.pieces or queue.block:
            write.expect_drain()
            self._flush()
        elif write.on_drain is not None or write.waiters or write.shutdown:
            self._note_due(write.due_when_empty())
        if read.queue.reader is not None:
            self._note_due(DUE_READ)
            self._update_interest()
        elif (
            read.on_read is not None
            or read.each_reader is not None
            or read.watch_eof
            or tls is not None
        ):
            self._update_interest()

    def _connecting_again(self) -> None:
        """Queue what is read and written until there is a stream."""
        self._phase = CONNECTING
        self._write.defer_within_limit()

    def _restart(self) -> list[PendingRequest]:
        """Begin anew for the next address; return the requests that coroutines waited for."""
        self._stop_watching()
        waiting = self._read.restart()
        self._write.restart()
        self._drop_stream()
        self._set_error(None)
        self._drop_work()
        return waiting

    # ------------------------------------------------------------------ hooks of TlsConnection

    @abstractmethod
    def _begin_session(self, tls: TlsLayer) -> None:
        """Hook: begin TLS."""

    def _receive(self, data: Any) -> None:
        """Hook: take what was read, and do everything that follows from it."""
        self._read.feed(data)
        self._dispatch()

    def _input_ended(self) -> None:
        """Nothing more will arrive: dispatch what is left, then report the end."""
        self._stop_reading()
        read = self._read
        read.end_input()
        if read.buffer._data or self._work_due or self._tls is not None:
            self._dispatch()
        else:  # the readers have had everything
            self._finish_input()
            if self._phase == OPEN:
                self._after_event()

    def _end_writes(self) -> None:
        """Hook: end the write side, if everything is sent."""
        write = self._write
        if write.queue:
            write.expect_drain()
            return
        write.shutdown_done()
        shut_down(self._stream)

    @abstractmethod
    def _handshake_interrupted(self, error: OSError) -> bool:
        """Hook: the stream broke; return whether that was reported as a failed handshake."""

    # ------------------------------------------------------------------ reading

    def _receive_failed(self, error: OSError) -> None:
        """Deal with what ``recv`` raised."""
        if isinstance(error, (BlockingIOError, InterruptedError)):
            return
        self._stop_reading()
        if not self._handshake_interrupted(error):
            self._fail(transport_error(error))

    def _finish_input(self) -> None:
        """Report the end of the input to the readers, who have had everything before it."""
        read = self._read
        write = self._write
        while self._phase == OPEN and not read.dispatching:
            if read.eof >= BROKEN:
                self._report_broken()
                return
            write.defer()
            if not read.finish(self, self._on_error is not None):
                if self._phase == OPEN:
                    write.defer_within_limit(self._write_watcher is not None)
                return
            if self._phase == OPEN:
                write.defer()
                read.dispatch(self)
                self._flush_deferred()

    def _deliver_input_before_error(self) -> None:
        """Read and deliver what the peer sent before a write failed, also without a reader."""
        for _ in range(_LAST_READS):
            try:
                data = self._stream.recv(self._read.max_read_size)
            except OSError:
                return  # the write error says it all
            if not data:
                return
            self._receive(data)
            if self._phase != OPEN or self._read.eof:
                return

    def _wake_reading(self) -> None:
        """Dispatch what is buffered, and read."""
        read = self._read
        read.resume()
        if self._phase == OPEN and not read.dispatching:
            self._update_interest()
            self._make_due(DUE_READ)

    # ------------------------------------------------------------------ changes of options

    def _reader_changed(self) -> None:
        self._read.forget_standing_reader()
        if self._read.on_read is not None:
            self._wake_reading()
        else:
            self._interest_changed()

    def _eof_changed(self) -> None:
        if self._read.eof == ENDED and self._read.on_eof is not None:
            self._make_due(DUE_READ)

    def _error_changed(self) -> None:
        if self._read.eof and self._on_error is not None:
            self._make_due(DUE_READ)

    def _drain_changed(self) -> None:
        if self._phase != OPEN:
            return
        self._update_fast_path()
        if self._write.on_drain is not None and not self._write.is_above_mark():
            self._make_due(DUE_DRAIN)

    def _read_limit_changed(self) -> None:
        if not self._read.dispatching:
            self._make_due(DUE_READ)

    def _write_limit_changed(self) -> None:
        if self._phase == CONNECTING:
            self._write.defer_within_limit()
        elif not self._read.dispatching:
            self._make_due(DUE_WRITE)

    def _read_size_changed(self) -> None:
        self._read.cap_read_size()

    # ------------------------------------------------------------------ errors

    def _report_noted_failure(self) -> None:
        error = self._error
        if error is None or self._read.eof >= BROKEN:
            return  # it has ended otherwise meanwhile
        if error is self._write.error:
            self._deliver_input_before_error()
            if self._phase != OPEN or self._read.eof >= BROKEN:
                return
            if self._handshake_interrupted(error):
                return
        self._fail(error)

    def _fail(self, error: HandleError) -> None:
        """Let *error* end the handle, or report it if it is not fatal. In events only."""
        read = self._read
        if self._phase >= FAILED or read.eof >= BROKEN:
            return  # the first error has ended it
        if not error.fatal:
            if self._on_error is not None:
                try:
                    self._on_error(self, error)
                except BaseException as raised:
                    ae.report_error(raised)
                return
            error.fatal = True
        self._set_error(error)
        if self._phase == CONNECTING:
            self._end_with_error()
            return
        read.break_input()
        self._stop_watching()
        if isinstance(error, TransportError):
            self._write.break_off(error)
        if read.dispatching:
            return  # what follows the running dispatch reports it
        if self._work_due & DUE_READ:
            self._dispatch()
        else:
            self._report_broken()

    def _report_broken(self) -> None:
        """The readers have had what had arrived: report the error, or keep it."""
        read = self._read
        if read.has_reader():
            self._end_with_error()
        elif self._on_error is not None:
            if not read.waits_for_coroutine():
                self._end_with_error()
            elif read.spend_grace():
                self._dispatch_later()
        elif read.buffer._data or self._stream is None or not isinstance(self._error, _EVENTS):
            self._keep_error()
        else:
            self._end_with_error()

    def _keep_error(self) -> None:
        """Keep the error for the next read; the stream is not needed for that."""
        error: Any = self._error
        self._close_stream()
        write = self._write
        write.refuse(error)
        if write.waiters:
            self._read.note_eof_told(BROKEN_TOLD)
            for waiter in write.take_waiters():
                waiter.throw(error)

    def _end_with_error(self) -> None:
        """Report ``_error`` to pending reads and to the callback, and destroy the handle."""
        error: Any = self._error
        callback: Any = self._on_error
        if self._phase == CONNECTING and self._rare.on_connect_error is not None:
            callback = self._rare.on_connect_error
        heard = self._read.eof == BROKEN_TOLD
        if self._disable(error):
            heard = True
        if callback is not None:
            try:
                callback(self, error)
            except BaseException as raised:
                ae.report_error(raised)
        elif not heard:
            ae.report_error(error)
        if self._phase != DESTROYED:
            self.destroy()

    def _disable(self, error: HandleError) -> bool:
        """End all activity because of *error*; return whether a coroutine was told."""
        self._phase = FAILED
        if self._error is not error:
            self._set_error(error)
        if (
            self._read.eof < BROKEN
            or self._write.deferred is not None
            or self._write_watcher is not None
            or self._resume_timer is not None
        ):
            self._stop_watching()  # else `_fail` has done so
        waiting = self._read.close()
        if self._write.waiters:
            waiting += self._write.take_waiters()
        for request in waiting:
            request.throw(error)
        return bool(waiting)

    def _reason(self) -> HandleError:
        """Return what a read raises that is made when the handle has ended."""
        return HandleDestroyed() if self._error is None else without_frames(self._error)

    # ------------------------------------------------------------------ the end

    def destroy(self) -> None:
        """End the handle: nothing is called back any more. Idempotent, allowed everywhere.

        Unsent bytes are sent in the background (``linger``), then the stream is closed; what
        cannot be sent is reported to ``ae_core.exception_hook``, unless *linger* is 0. Later
        calls of other methods are ignored; awaited operations, also pending ones, raise
        :class:`HandleDestroyed`, or what had ended the handle before.

        Perl: ``$handle->destroy``
        """
        phase = getattr(self, "_phase", DESTROYED)
        if phase == DESTROYED:
            return
        read = self._read
        write = self._write
        error = untold = None
        lost = 0
        waiting: list[PendingRequest] = []
        if phase == FAILED:
            error = self._error
        else:
            if phase == OPEN:
                if read.line_batch is not None:
                    read.put_back_lines()
                if read.eof:
                    untold = self._untold()
                if read.eof != BROKEN_TOLD and self._rare.linger:
                    lost = write.queue.lost
            waiting = read.close()
            if write.waiters:
                waiting += write.take_waiters()
            self._stop_watching()
        self._phase = DESTROYED
        self._loop.holders.pop(self._events, None)
        if self._attempts is not None:
            self._leave_connecting()
        noted = self._error
        if noted is not error:
            self._set_error(error)
        peer = peer_text(self._rare.peer_name, self._stream) if lost else ""
        self._close_stream()
        if error is not None:
            self._set_error(without_frames(error))
        if write.error is not None:
            write.forget_error()
        if read.buffer._data or read.buffer.state is not None:
            read.discard_unread()
        self._forget_callbacks()
        if waiting:
            fail = FailPending(waiting, HandleDestroyed())
            if ae.backend() is None:
                fail()  # the loop has ended: there is no next turn
            else:
                ae.postpone(fail)
        if untold is not None:
            ae.report_error(untold)
        elif lost and noted is not None:
            report_loss(lost, peer, noted)
        if self._on_end:
            told, self._on_end = self._on_end, ()
            for on_end in told:
                on_end(self)

    def _notify_end(self, callback: Callable[[Any], object]) -> None:
        """Have *callback* called at the end of ``destroy``, wherever that is called from.

        For ``serve`` and ``relay``, which may both have the same handle.
        """
        self._on_end = (*self._on_end, callback)

    def _leave_connecting(self) -> None:
        """Hook: cancel the connection under way."""

    def _end_forgotten(self) -> None:
        """End the handle, whose last reference was dropped, perhaps in another thread."""
        if self._process != os.getpid():
            if self._stream is not None:
                close(self._stream)  # our copy of what is the parent's
            return
        if self._loop.in_thread():
            self.destroy()
            return
        self._loop.holders.pop(self._events, None)
        # the loop's own thread has to close the stream
        stream, out, tls, loop = self._stream, self._write.queue, self._tls, self._loop
        if tls is not None:
            tls.set_timer(None)
        linger = self._rare.linger if self._write.error is None else 0.0
        peer = self._rare.peer_name
        untold = self._untold()

        def leave() -> None:
            if stream is not None:
                close_in_background(stream, out, tls, linger, peer=peer, loop=loop)
            if untold is not None:
                ae.report_error(untold)

        try:
            loop.call_threadsafe(leave)
        except RuntimeError:  # the loop has ended
            if stream is not None:
                stream.close()

    def _untold(self) -> HandleError | None:
        """Return what ended the stream, if it was kept for a reader that has not come."""
        read = self._read
        if read.eof == BROKEN and self._stream is None:
            return self._error
        if (
            read.eof == ENDED
            and read.watch_eof
            and read.on_eof is None
            and self._on_error is None
            and not read.dispatching
        ):
            return UnexpectedEOF()
        return None
