"""The stream under a handle: its watchers, sending, and the inactivity timer."""

from __future__ import annotations

__all__ = ("Transport", "transport_error")

import os
import socket
from abc import abstractmethod
from math import inf

import ae_core as ae

from ._errors import HandleTimedOut, TransportError, UnexpectedEOF
from ._phases import BROKEN, DESTROYED, DUE_FAIL, DUE_READ, FAILED, OPEN
from ._protocol.inactivity import ANY, READ, TIMEOUTS, WRITE, Inactivity
from ._streams.adapters import is_socket, watch
from ._streams.closing import close, close_in_background
from ._work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from ae_core.abc import Backend

    from ._errors import TlsError
    from ._protocol.read_queue import PendingRequest
    from ._tls.layer import TlsLayer

_TCP: Final = socket.IPPROTO_TCP
_NO_DELAY: Final = socket.TCP_NODELAY
_SOCKET: Final = socket.SOL_SOCKET
_KEEPALIVE: Final = socket.SO_KEEPALIVE
_OOB_INLINE: Final = socket.SO_OOBINLINE

# The process this is, which only a fork changes: getpid() costs 2 % of making a handle.
process = os.getpid()


def _forked() -> None:
    global process
    process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Transport(Work):
    """The stream, and what the loop watches."""

    __slots__ = (
        "_clock",
        "_fast_path",
        "_loop",
        "_process",
        "_read_watcher",
        "_stream",
        "_timer",
        "_tls",
        "_write_watcher",
    )

    _clock: Callable[[], float]
    _fast_path: bool  # whether the shortest ways of `Events.readable` are right
    _loop: Backend
    _process: int
    _read_watcher: Any
    _stream: Any
    _timer: tuple[Any, float] | None  # for the inactivity timeouts, and when it fires
    _tls: TlsLayer | None  # what stands between the sides and the stream, None for plaintext
    _write_watcher: Any

    # ------------------------------------------------------------------ the stream

    def _set_stream(self, stream: Any) -> None:
        """Read and write *stream* from now on; no other one was there."""
        self._stream = stream
        if is_socket(stream):  # a new one, where all options are off
            try:
                if self._no_delay:
                    stream.setsockopt(_TCP, _NO_DELAY, 1)
                if self._rare.keepalive:
                    stream.setsockopt(_SOCKET, _KEEPALIVE, 1)
                if self._rare.oob_inline:
                    stream.setsockopt(_SOCKET, _OOB_INLINE, 1)
            except OSError:
                self._socket_option_changed()  # one by one

    def _socket_option_changed(self) -> None:
        """Set the socket options on the stream, if there is one yet; pipes have none."""
        stream = self._stream
        if is_socket(stream):
            _set_option(stream, _TCP, _NO_DELAY, self._no_delay)
            _set_option(stream, _SOCKET, _KEEPALIVE, self._rare.keepalive)
            _set_option(stream, _SOCKET, _OOB_INLINE, self._rare.oob_inline)

    def _set_layer(self, tls: TlsLayer | None) -> None:
        """Have *tls* carry what is read and what is sent from now on; None for plaintext."""
        self._tls = tls
        if tls is not None:
            self._fast_path = False
        self._stop_reading()  # another callback reads from now on

    def _drop_stream(self) -> None:
        """Forget the stream, which the caller closes."""
        self._stream = self._tls = None

    def _close_stream(self) -> None:
        """Close the stream, if there is one, after what is to be sent is sent."""
        stream = self._stream
        if stream is None:
            return
        self._stream = None
        tls, self._tls = self._tls, None
        write = self._write
        out = write.queue
        ended = 0 < self._read.eof < BROKEN
        if (
            tls is None
            and not (out.pieces or out.block)
            and (ended or isinstance(self._error, UnexpectedEOF))
        ):
            close(stream)  # the most frequent end: nothing is left to be sent or to be read
            return
        if self._process != process:
            close(stream)  # in a forked child: the stream, and what goes on in it, is the parent's
            return
        close_in_background(
            stream,
            out,
            tls,
            self._rare.linger if write.error is None else 0.0,
            peer=self._rare.peer_name,
            loop=self._loop,
            ended=ended,
            told=self._error is not None,
        )

    # ------------------------------------------------------------------ hooks of TlsConnection

    @abstractmethod
    def _encryption_failed(self, error: TlsError) -> None:
        """Hook: the session cannot encrypt what is to be sent. Runs no callback."""

    @abstractmethod
    def _wants_input(self) -> bool:
        """Hook: whether the stream is to be read, where it is not plaintext."""

    # ------------------------------------------------------------------ sending

    def _update_fast_path(self) -> None:
        """Work out again whether the shortest ways of ``Events.readable`` are right.

        Of an open connection.
        """
        write = self._write
        self._fast_path = (
            write.on_drain is None
            and not write.waiters
            and not write.shutdown
            and self._write_watcher is None
            and self._tls is None
            and not self._read.paused
            and write.error is None
        )

    def _leave_fast_path(self) -> None:
        self._fast_path = False

    def _flush_deferred(self) -> None:
        """Send what was written during a dispatch, and end the deferring of writes."""
        write = self._write
        if write.pieces or self._tls is not None:
            self._flush()
        else:
            write.defer_within_limit(self._write_watcher is not None)

    def _flush(self) -> None:
        """Send as much as the kernel takes; note what is due then. Runs no callback."""
        if self._phase != OPEN:
            return
        write = self._write
        if write.error is not None:
            write.discard()
            return
        next_block = None if self._tls is None else self._tls.next_block
        try:
            full = write.flush(self, self._stream.send, next_block, self._clock)
        except OSError as error:
            self._send_failed(error)
            return
        if full:
            self._watch_writable()
        elif self._write_watcher is not None:
            self._write_watcher.cancel()
            self._write_watcher = None
            self._update_fast_path()
        due = write.check_level()
        if due:
            self._note_level(due)

    def _watch_writable(self) -> None:
        if self._write_watcher is None:
            events = self._events
            self._write_watcher = watch(self._stream, "w", events.writable, events.write_refused)
            self._fast_path = False

    def _check_level(self) -> None:
        """Note whether on_drain is due, and whether too much is unsent."""
        due = self._write.check_level()
        if due:
            self._note_level(due)

    def _note_level(self, due: int) -> None:
        if due & DUE_FAIL:
            self._note_failure(self._write.limit_error())
        self._note_due(due)

    def _send_failed(self, error: OSError, data: bytes = b"") -> None:
        """Deal with what ``send`` raised for *data*, which was taken off the queue."""
        write = self._write
        if isinstance(error, (BlockingIOError, InterruptedError)):
            write.put_back(data)
            self._watch_writable()
            self._check_level()
            return
        # What the peer sent before it closed must not be lost: it is read and delivered first (in
        # the next turn), then the error is reported.
        failure = transport_error(error)
        write.break_off(failure, data)
        if self._write_watcher is not None:
            self._write_watcher.cancel()
            self._write_watcher = None
        self._fast_path = False
        self._note_failure(failure)

    # ------------------------------------------------------------------ watchers and timers

    def _update_interest(self) -> None:
        """Start or stop watching for input."""
        read = self._read
        if self._write.error is not None:
            wanted = False
        elif read.has_reader() and not (read.eof or read.paused):
            wanted = True
        elif self._tls is None:
            wanted = read.wants_input()
        else:
            wanted = self._wants_input()
        if wanted:
            if self._read_watcher is None:
                events = self._events
                callback = events.readable if self._tls is None else events.readable_tls
                self._read_watcher = watch(self._stream, "r", callback, events.read_refused)
                if not self._fast_path:
                    self._update_fast_path()
        elif self._read_watcher is not None:
            self._read_watcher.cancel()
            self._read_watcher = None

    def _stop_reading(self) -> None:
        if self._read_watcher is not None:
            self._read_watcher.cancel()
            self._read_watcher = None

    def _interest_changed(self) -> None:
        if self._phase == OPEN and not self._read.dispatching:
            self._update_interest()

    def _stop_watching(self) -> None:
        """Cancel all watchers and timers, and leave the fast path."""
        if self._read_watcher is not None:
            self._read_watcher.cancel()
            self._read_watcher = None
        if self._write_watcher is not None:
            self._write_watcher.cancel()
            self._write_watcher = None
        self._timer = None  # dropping it cancels it, as nothing else refers to it
        if self._tls is not None:
            self._tls.set_timer(None)
        if self._resume_timer is not None:
            self._drop_resume_timer()
        if self._read.dispatching:
            self._write.defer()
        elif self._write.deferred is not None:
            self._write.stop_deferring()
        self._fast_path = False

    # ------------------------------------------------------------------ inactivity

    def timeout_reset(self) -> None:
        """Start the period of ``timeout`` again, as activity would.

        Perl: ``$handle->timeout_reset``
        """
        self._reset_period(ANY)

    def read_timeout_reset(self) -> None:
        """Start the period of ``read_timeout`` again."""
        self._reset_period(READ)

    def write_timeout_reset(self) -> None:
        """Start the period of ``write_timeout`` again."""
        self._reset_period(WRITE)

    def _get_inactivity(self) -> Inactivity:
        return self._inactivity or self._make_inactivity()

    def _set_period(self, kind: int, period: float) -> None:
        if self._phase >= FAILED or (self._inactivity is None and not period):
            return
        inactivity = self._get_inactivity()
        inactivity.set_period(kind, period)
        inactivity.reset(kind, self._clock())
        self._restart_inactivity_timer()

    def _set_timeout_callback(self, kind: int, callback: Any) -> None:
        if self._phase == DESTROYED or (self._inactivity is None and callback is None):
            return
        self._get_inactivity().set_callback(kind, callback)

    def _reset_period(self, kind: int) -> None:
        if self._phase < FAILED:
            self._get_inactivity().reset(kind, self._clock())

    def _restart_inactivity_timer(self) -> None:
        """Have ``_check_inactivity`` called when the next timeout is due, or earlier."""
        inactivity = self._inactivity
        assert inactivity is not None
        read = self._read
        if read.eof >= BROKEN:
            return
        connected = self._phase == OPEN
        at = inactivity.next_at(read.last_at, self._write.last_at, connected=connected)
        if at == inf:
            self._timer = None
        elif self._timer is None or at < self._timer[1]:
            left = max(0.0, at - self._clock())
            self._timer = (ae.timer(left, self._events.on_inactivity_timer), at)

    def _timed_out(self, kind: int, error: HandleTimedOut) -> None:
        """Raise *error* in the awaiters, then call ``on_error``; with neither, end the handle."""
        told: list[PendingRequest] = []
        if kind != WRITE:
            told += self._read.withdraw_pending()
        if kind != READ:
            told += self._write.take_waiters()
        for request in told:
            request.throw(error)
        if self._on_error is not None or not told:
            self._fail(error)
        if self._phase == OPEN and not self._read.dispatching:
            self._update_interest()
            if self._read.buffer:
                self._note_due(DUE_READ)

    def _check_inactivity(self) -> None:
        """The timer has fired: call back for the timeouts that are due."""
        self._timer = None
        inactivity = self._inactivity
        assert inactivity is not None
        connected = self._phase == OPEN
        last = self._read.last_at, self._write.last_at
        for kind in inactivity.due(self._clock(), *last, connected=connected):
            if self._phase >= FAILED:
                return
            callback = inactivity.callbacks[kind]
            if callback is None:
                text = f"{TIMEOUTS[kind]} of {inactivity.periods[kind]:g} s has passed"
                self._timed_out(kind, HandleTimedOut(text))
            else:
                try:
                    callback(self)
                except BaseException as error:
                    ae.report_error(error)
        if self._phase < FAILED:
            self._restart_inactivity_timer()
            if self._work_due:
                self._run_due_work()


def _set_option(sock: socket.socket, level: int, option: int, on: bool) -> None:
    try:
        sock.setsockopt(level, option, 1 if on else 0)
    except OSError as error:  # TCP_NODELAY on a UNIX socket
        ae.log("trace", "socket option %d of %d on %r: %s", option, level, sock, error)


def transport_error(error: OSError) -> TransportError:
    failure = TransportError(error.strerror or str(error), errno=error.errno)
    failure.__cause__ = error.with_traceback(None)
    return failure
