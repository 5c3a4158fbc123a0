"""A connection in TLS: starting, driving and stopping a session, whatever engine it is of.

Plaintext is in the two sides of the connection, ciphertext on its stream. What a session is, is
said in ``abc``; nothing here knows OpenSSL.
"""

from __future__ import annotations

__all__ = ("TlsConnection",)

import socket

import ae_core as ae

from ._connection import Connection
from ._errors import HandleTimedOut, TlsError, UnexpectedEOF
from ._phases import (
    BROKEN,
    DUE_FAIL,
    DUE_READ,
    DUE_TLS,
    OPEN,
    SHUTDOWN_WANTED,
)
from ._tls.engines import check_role, find_context
from ._tls.layer import ANSWER, STOP_SENT, STOP_WANTED, TlsLayer
from ._work import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from ._buffers.write_queue import WriteQueue
    from ._errors import HandleError
    from .abc import TlsRole
    from .types import TlsAutostart

# Theory of operation
# -------------------
# Order, after ciphertext has arrived: the session is fed and all plaintext taken out; if that
# ended the handshake, on_tls_started is called, before any data is dispatched; then the plaintext
# goes into the read buffer and is dispatched; then everything is sent that the session or the
# callbacks have to say, in one go; then errors, and the peer's close_notify, are dealt with.
#
# The handle always reads while TLS is on: handshakes, key updates and close_notify arrive
# unasked. While there is no reader, it reads up to max_read_buffer and then stops.
#
# When a read came back full, data is streaming in, and the next read takes several times as much
# (about 10 % less for a large transfer). A fresh object of that size costs more than it gains,
# because glibc gives such memory back to the system each time; so it goes into a buffer that is
# used again by the next read, and only to sessions that copy what they are fed. The buffer
# is free as soon as the session was fed, but given back in the end only: callbacks may read, too.
#
# With TLS the pieces of the write queue are plaintext. They are encrypted a block at a time, when
# the block before is sent, so that ciphertext is never piled up, and not before the handshake is
# done.
#
# The end of TLS. `_stop_tls` encrypts what was pushed before, sends close_notify and keeps what is
# pushed afterwards; when the peer's close_notify has come, TLS is off, and plaintext goes on.
# The bytes behind that alert are plaintext already: `unused_data` of the session. To one without
# that, ciphertext is then fed record by record (their length is in the header). The side that did
# not ask answers with its own close_notify if it has an on_tls_stopped; else the alert is its end
# of stream. In on_tls_stopped the session that ended can still be looked at, and TLS can be
# started again: the bytes behind the alert are in the read buffer by then, which `_start_tls`
# gives to the new session.
#
# A session that has failed is marked (`_fail_session`) before anything is delivered or reported:
# what callbacks write from then on, and what waited to be encrypted, must not leave in plaintext.

_TRUNCATED: Final = (
    "the stream was truncated: the connection was closed without close_notify, "
    "so data may be missing"
)

# How much more than max_read_size is read while data streams in, and the most.
_STREAM_FACTOR: Final = 4
_STREAM_SIZE: Final = 1 << 18

# Buffers for that: one, unless a callback runs the loop, or other threads have loops.
_buffers: Final[list[memoryview]] = []
_MOST_BUFFERS: Final = 2


def leave_in_plaintext(out: WriteQueue) -> None:
    """Make everything that was pushed so far leave in plaintext, before what is encrypted."""
    while out.pieces:
        out.append_block(out.next())


class TlsConnection(Connection):
    """A connection that can speak TLS, from the start or from some point on."""

    __slots__ = ()

    # ------------------------------------------------------------------ starting

    def _make_session(self, role: TlsRole, context: Any) -> TlsLayer:
        """Return a new session of the given role.

        Raises:
            ValueError, TypeError: If an argument is of the wrong kind, or TLS is on already.
            TlsError: If the engine refuses.
        """
        check_role(role)
        if self._tls is not None and not self._tls.over:
            raise ValueError("TLS is active already on this handle")
        settings = self._rare.tls_context if context is None else None
        if settings is None:
            settings = find_context(context)
        return TlsLayer(settings.new_session(role, self._rare.peer_name), role)

    def _start_tls(self, tls: TlsLayer) -> None:
        """Begin TLS on an open connection. Runs no callback."""
        read = self._read
        read.put_back_lines()
        leave_in_plaintext(self._write.queue)
        self._begin_session(tls)
        buffer = read.buffer
        if buffer:
            # plaintext behind the STARTTLS command: the engine's, never the application's
            tls.hold(buffer.take(len(buffer)))
            self._note_due(DUE_TLS)
        self._flush()
        self._update_interest()

    def _begin_session(self, tls: TlsLayer) -> None:
        self._set_layer(tls)
        stream = self._stream
        tls.begin(self._clock(), stream.recv_into if isinstance(stream, socket.socket) else None)
        self._read.allow_batches()
        self._limit_handshake(tls)

    def _limit_handshake(self, tls: TlsLayer) -> None:
        """Have the handshake end in ``handshake_timeout`` seconds at most."""
        tls.limit_handshake(self._rare.handshake_timeout)
        if tls.until is not None:
            left = max(0.0, tls.until - self._clock())
            tls.set_timer(ae.timer(left, Later(self, "_handshake_too_long")))

    def _handshake_timeout_changed(self) -> None:
        tls = self._tls
        if tls is not None and not tls.reported and self._phase == OPEN:
            self._limit_handshake(tls)

    def _process_early_data(self) -> None:
        tls = self._tls
        if tls is not None and self._read.eof < BROKEN:
            early = tls.take_held()
            if early:
                self._receive(early)
            elif tls.stopping == STOP_SENT and tls.session.state == "closed":
                self._tls_stopped(tls, tls.unused)

    def _autostart(self, request: TlsAutostart, version: tuple[int, int] | None) -> None:
        """Start TLS for a ``TlsAutostart`` request, if the peer has."""
        if version is None or self._phase != OPEN:
            return
        if self._read.eof >= BROKEN:
            self._read.buffer.clear()  # the engine's, never the application's
            return
        try:
            self._start_tls(self._make_session(request.mode, request.context))
        except TlsError as error:
            self._report_tls_failure(error)
        except (TypeError, ValueError) as error:
            ae.report_error(error)

    # ------------------------------------------------------------------ driving the session

    def _receive_much(self, tls: TlsLayer) -> None:
        """Read while data streams in, and do everything that follows from it."""
        read = self._read
        size = read.max_read_size
        try:
            buffer = _buffers.pop()
        except IndexError:
            buffer = memoryview(bytearray(_STREAM_SIZE))
        assert tls.recv_into is not None
        try:
            count = tls.recv_into(buffer, min(size * _STREAM_FACTOR, _STREAM_SIZE))
        except OSError as error:
            tls.read_full(False)
            self._receive_failed(error)
        else:
            tls.read_full(count >= size)
            read.touched(self._clock())
            if count:
                self._receive(buffer[:count])
            else:
                read.allow_batches()
                self._stream_ended()
        if len(_buffers) < _MOST_BUFFERS:
            _buffers.append(buffer)

    def _receive(self, data: Any) -> None:
        tls = self._tls
        if tls is None:
            super()._receive(data)
            return
        read = self._read
        plain: list[bytes] = []
        error: TlsError | None = None
        rest = b""
        try:
            rest = tls.feed(data, plain)
        except TlsError as caught:
            error = caught
        if not tls.reported and not self._handshake_done(tls, error, bool(plain)):
            return
        if plain:
            read.feed_pieces(plain)
            if error is None:
                self._dispatch()
            else:
                self._note_due(DUE_READ)
        elif not read.dispatching and error is None:
            self._flush()
        if error is not None:
            self._fail_session(tls)
            self._flush()  # the alert
            self._fail(error)
            return
        if self._tls is not tls or self._phase != OPEN or read.eof >= BROKEN:
            return
        if self._work_due & DUE_FAIL:  # the session did, while it was encrypting
            self._run_due_work()
            return
        state = tls.session.state
        if state == "closed" or (state == "closing" and not tls.sent_close):
            self._peer_closed(tls, rest)
        elif not plain or read.dispatching:  # else `_after_dispatch` has done it
            self._after_event()

    def _encryption_failed(self, error: TlsError) -> None:
        tls = self._tls
        assert tls is not None
        self._fail_session(tls)
        self._note_failure(error)

    def _wants_input(self) -> bool:
        tls = self._tls
        assert tls is not None
        read = self._read
        if read.paused and not tls.in_handshake:
            return False
        return not read.eof and (read.has_reader() or read.has_room())

    def _fail_session(self, tls: TlsLayer) -> None:
        """Note that *tls* can send nothing more but its alert."""
        tls.fail()
        self._write.queue.lose_pieces()

    # ------------------------------------------------------------------ the handshake

    def _handshake_done(self, tls: TlsLayer, error: TlsError | None, has_data: bool) -> bool:
        """Report how the handshake went, once it has ended; return whether to go on."""
        if error is not None and not has_data:
            self._handshake_failed(tls, error)
            return False
        if tls.session.state == "handshake":
            if not self._read.dispatching:
                self._flush()
                if self._work_due:
                    self._run_due_work()
            return False
        tls.report()
        if self._rare.on_tls_started is not None:
            self._call(self._rare.on_tls_started, None)
        if self._phase != OPEN or self._tls is not tls:
            return False
        if tls.stopping == STOP_WANTED:
            self._stop_tls()
        return True

    def _report_tls_failure(self, error: HandleError) -> None:
        """There will be no TLS, because of *error*: report that as a failed handshake."""
        error.fatal = True
        callback = self._rare.on_tls_started
        if callback is None:
            self._fail(error)
            return
        self._disable(error)
        try:
            callback(self, error)
        except BaseException as raised:
            ae.report_error(raised)

    def _handshake_failed(self, tls: TlsLayer, error: HandleError) -> None:
        """The peer is not who it should be, or does not speak TLS, or not in time."""
        tls.report()
        self._fail_session(tls)
        out = self._write.queue
        out.lose()
        if isinstance(error, TlsError):
            out.append_block(tls.session.drain(), overhead=True)  # the alert
            self._flush_alert(out)
        self._report_tls_failure(error)

    def _flush_alert(self, out: WriteQueue) -> None:
        """Try to send the alert that tells the peer why the handshake failed, once.

        What does not go now is sent in the background when the handle is destroyed.
        """
        try:
            while out.block:
                out.sent(self._stream.send(out.block))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            out.clear()

    def _handshake_too_long(self) -> None:
        tls = self._tls
        if tls is not None and not tls.reported and self._phase == OPEN:
            text = f"handshake_timeout of {self._rare.handshake_timeout:g} s has passed"
            self._handshake_failed(tls, HandleTimedOut(text))

    def _handshake_interrupted(self, error: OSError) -> bool:
        tls = self._tls
        if tls is None or tls.reported:
            return False
        failure = TlsError(
            f"the connection was lost during the TLS handshake: {error.strerror or error}",
            reason="truncated",
        )
        failure.__cause__ = error.with_traceback(None)
        self._handshake_failed(tls, failure)
        return True

    # ------------------------------------------------------------------ the end

    def _stream_ended(self) -> None:
        """Nothing more will arrive: the session is told, if it is still there."""
        tls = self._tls
        read = self._read
        if tls is None or read.eof:  # a stream of the program's: an event that comes late
            self._input_ended()
            return
        if tls.reported and not tls.stopping and self._rare.allow_truncated:
            self._input_ended()  # the session is not told: it could not write any more
            return
        self._stop_reading()
        plain: list[bytes] = []
        error: TlsError | None = None
        try:
            tls.session.feed(b"")
            tls.read_all(plain)
        except TlsError as caught:
            error = caught
        if not tls.reported:
            if error is None:
                text = "the connection was closed during the TLS handshake"
                error = TlsError(text, reason="truncated")
            self._handshake_failed(tls, error)
            return
        for piece in plain:
            read.buffer.feed(piece)
        if tls.stopping == STOP_SENT:
            # it took our close_notify for the end of everything
            if plain:
                self._dispatch()
            if self._tls is tls and self._phase == OPEN and read.eof < BROKEN:
                read.set_ended()
                self._tls_stopped(tls, b"")
            return
        if plain:
            self._note_due(DUE_READ)
        self._fail_session(tls)
        self._fail(UnexpectedEOF(_TRUNCATED))

    def _stop_tls(self) -> None:
        """Send close_notify; plaintext goes on after the peer's. Runs no callback."""
        tls = self._tls
        if (
            tls is None
            or tls.over
            or tls.stopping == STOP_SENT
            or (tls.stopping and not tls.reported)
        ):
            return
        out = self._write.queue
        try:
            if not tls.stopping:
                tls.encrypt_rest(out)
            if not tls.reported:
                tls.want_stop()
                return
            tls.begin_stop(out, self._clock())
        except TlsError as error:
            self._fail_session(tls)
            self._note_failure(error)
            return
        self._flush()
        if tls.session.state == "closed":
            self._note_due(DUE_TLS)
            return
        tls.set_timer(ae.timer(ANSWER, Later(self, "_stop_unanswered")))

    def _stop_unanswered(self) -> None:
        tls = self._tls
        if tls is not None and self._phase == OPEN:
            tls.abandon()
            self._fail(TlsError("the peer did not answer close_notify", reason="timeout"))

    def _peer_closed(self, tls: TlsLayer, rest: bytes) -> None:
        """The peer's close_notify has arrived."""
        if tls.stopping == STOP_SENT:
            self._tls_stopped(tls, rest)
        elif self._rare.on_tls_stopped is None:
            if not self._read.eof:
                self._read.end_input()
                self._update_interest()
                self._dispatch()
        else:
            out = self._write.queue
            try:
                tls.encrypt_rest(out)
                tls.close(out)
            except TlsError as error:
                self._fail_session(tls)
                self._fail(error)
                return
            self._flush()
            self._tls_stopped(tls, tls.unused)

    def _tls_stopped(self, tls: TlsLayer, rest: bytes) -> None:
        """TLS is over: report it, and go on in plaintext, or in TLS if it was started again."""
        tls.end()
        read = self._read
        if rest:
            read.buffer.feed(rest)
        if self._rare.on_tls_stopped is not None:
            self._call(self._rare.on_tls_stopped)
        if self._phase != OPEN:
            return
        if self._tls is tls:
            self._write.queue.mark_block(overhead=False)
            self._set_layer(None)
            self._update_fast_path()
        self._dispatch()

    def _end_writes(self) -> None:
        tls = self._tls
        write = self._write
        if tls is not None and write.shutdown == SHUTDOWN_WANTED:
            if not tls.reported or write.queue:
                write.expect_drain()  # come again when that is over
                return
            try:
                tls.close(write.queue)
            except TlsError as error:
                self._fail_session(tls)
                self._note_failure(error)
                return
            write.shutdown_closing()
            self._flush()
        super()._end_writes()
