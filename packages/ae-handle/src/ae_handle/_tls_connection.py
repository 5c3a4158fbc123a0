"""The handle's side of the TLS seam: driving a session, whatever engine it is of.

Clear text goes in and out of a handle's queues; ciphertext goes over its stream. What a session
is, is said in ``abc``; nothing here knows OpenSSL.
"""

from __future__ import annotations

__all__ = (
    "autostart",
    "begin",
    "bound_handshake",
    "due",
    "end_of_stream",
    "fail_session",
    "leave_in_clear",
    "lost",
    "make",
    "receive",
    "receive_much",
    "refuse",
    "start",
    "stop",
)

import socket
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from . import _ending, _lifecycle, _reading, _writing
from ._errors import HandleTimedOut, TlsError, UnexpectedEOF
from ._phases import BROKEN, DUE_FAIL, DUE_READ, DUE_TLS, OPEN
from ._protocol.registry import LINE
from ._tls.engines import check_role, find_context
from ._tls.layer import ANSWER, Tls

if TYPE_CHECKING:
    from ._buffers.write_queue import WriteQueue
    from ._errors import HandleError
    from ._handle import Handle
    from .abc import TlsRole
    from .types import TlsAutostart

# Theory of operation
# -------------------
# Order, after ciphertext has arrived: the session is fed and all clear text taken out; if that
# ended the handshake, on_tls_started is called, before any data is offered to anybody; then the
# clear text goes into the read buffer and a drain runs; then everything is sent that the session
# or the callbacks have to say, in one go; then errors, and the peer's close_notify, are dealt with.
#
# The handle always reads while TLS is on: handshakes, key updates and close_notify arrive
# unasked. While nobody wants data, it reads up to max_read_buffer and then stops.
#
# When a read came back full, data is streaming in, and the next read takes several times as much
# (about 10 % less for a large transfer). A fresh object of that size costs more than it gains,
# because glibc gives such memory back to the system each time; so it goes into a buffer that is
# used again, by whoever reads next, and only to sessions that copy what they are fed. The buffer
# is free as soon as the session was fed, but given back in the end only: callbacks may read, too.
#
# The end of TLS. `stop` encrypts what was pushed before, sends close_notify and keeps what is
# pushed afterwards; when the peer's close_notify has come, TLS is off, and clear text goes on.
# The octets behind that alert are clear text already: `unused_data` of the session. To one
# without that, ciphertext is then fed record by record (their length is in the header). The side
# that did not ask answers with its own close_notify if it has an on_tls_stopped; else the alert
# is its end of stream. In on_tls_stopped the session that ended can still be looked at, and TLS
# can be started again: the octets behind the alert are in the read buffer by then, which `start`
# gives to the new session.
#
# A session that has failed is marked (`fail_session`) before anything is delivered or told: what
# callbacks write from then on, and what waited to be encrypted, must not leave in clear.

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


def make(h: Handle, role: TlsRole, context: Any) -> Tls:
    """Return a new session for *h*, which must be of the given role.

    Raises:
        ValueError, TypeError: If an argument is of the wrong kind, or TLS is on already.
        TlsError: If the engine refuses.
    """
    check_role(role)
    if h._tls is not None and not h._tls.over:
        raise ValueError("TLS is active already on this handle")
    settings = h._tls_context if context is None else None
    if settings is None:
        settings = find_context(context)
    return Tls(settings.new_session(role, h._peer_name), role)


def start(h: Handle, tls: Tls) -> None:
    """Begin TLS on an open handle. Calls nobody back."""
    _reading.unburst(h)
    leave_in_clear(h._out)
    begin(h, tls)
    if h._buf:
        # clear text behind the STARTTLS command: the engine's, never the application's
        tls.held = h._buf.take(len(h._buf))
        _lifecycle.note(h, DUE_TLS)
    _writing.flush(h)
    _reading.update_interest(h)


def leave_in_clear(out: WriteQueue) -> None:
    """Have everything that was pushed so far leave as it is, before anything is encrypted."""
    while out.pieces:
        out.append_block(out.next())


def begin(h: Handle, tls: Tls) -> None:
    """Have *tls* carry what is read, and what is pushed, from now on."""
    h._tls = tls
    if isinstance(h._io, socket.socket) and getattr(tls.session, "copies_input", False):
        tls.recv_into = h._io.recv_into
    h._simple = False
    h._may_burst = True
    if h._reading is not None:  # another callback reads from now on
        h._reading.cancel()
        h._reading = None
    tls.since = h._clock()
    bound_handshake(h, tls)


def bound_handshake(h: Handle, tls: Tls) -> None:
    """Have the handshake end in ``handshake_timeout`` seconds at most."""
    seconds = h._handshake_timeout
    if seconds:
        tls.until = tls.since + seconds
        tls.timer = ae.timer(max(0.0, tls.until - h._clock()), _TooLong(h))
    else:
        tls.until = tls.timer = None


def due(h: Handle) -> None:
    """Do what ``start`` left to do, in an event."""
    tls = h._tls
    if tls is not None and h._eof < BROKEN:
        early, tls.held = tls.held, b""
        if early:
            receive(h, early)
        elif tls.stopping == 2 and tls.session.state == "closed":
            _stopped(h, tls, tls.unused)


def receive_much(h: Handle, tls: Tls) -> None:
    """Read while data streams in, and do everything that follows from it."""
    size = h._max_read_size
    try:
        buffer = _buffers.pop()
    except IndexError:
        buffer = memoryview(bytearray(_STREAM_SIZE))
    assert tls.recv_into is not None
    try:
        count = tls.recv_into(buffer, min(size * _STREAM_FACTOR, _STREAM_SIZE))
    except OSError as error:
        tls.streaming = False
        _reading.receive_failed(h, error)
    else:
        tls.streaming = count >= size
        h._read_at = h._clock()
        h._may_burst = True
        if count:
            receive(h, buffer[:count])
        else:
            end_of_stream(h)
    if len(_buffers) < _MOST_BUFFERS:
        _buffers.append(buffer)


def receive(h: Handle, data: Any) -> None:
    """Take ciphertext, and do everything that follows from it."""
    tls = h._tls
    if tls is None:
        h._buf.feed(data)
        _reading.drain(h)
        return
    session = tls.session
    plain: list[bytes] = []
    error: TlsError | None = None
    rest = b""
    try:
        if tls.stopping == 2:
            rest = tls.feed(data, plain)
        else:
            session.feed(data)
            tls.read_all(plain)
    except TlsError as caught:
        error = caught
    if not tls.announced and not _announce(h, tls, error, bool(plain)):
        return
    if plain:
        line = LINE
        if len(plain) == 1:
            h._buf.feed(plain[0])
        elif h._queue.reader is line or h._each_reader is line:
            h._buf.feed(b"".join(plain))  # it would be joined for the search, less well
        else:
            h._buf.feed_pieces(plain)
        if error is None:
            _reading.drain(h)
        else:
            h._due |= DUE_READ
    elif not h._busy and error is None:
        _writing.flush(h)
    if error is not None:
        fail_session(h, tls)
        _writing.flush(h)  # the alert
        _ending.fail(h, error)
        return
    if h._tls is not tls or h._phase != OPEN or h._eof >= BROKEN:
        return
    if h._due & DUE_FAIL:  # the session did, while it was encrypting
        _lifecycle.do_due(h)
        return
    if session.state == "closed" or (session.state == "closing" and not tls.sent_close):
        _peer_closed(h, tls, rest)
        return
    if not plain or h._busy:  # else the drain has done that
        _reading.update_interest(h)
        if h._due:
            _lifecycle.do_due(h)


def fail_session(h: Handle, tls: Tls) -> None:
    """Note that *tls* can send nothing more but its alert."""
    tls.over = True
    tls.stopping = 0
    h._out.lost += h._out.waiting
    h._out.drop_pieces()


def _announce(h: Handle, tls: Tls, error: TlsError | None, has_data: bool) -> bool:
    """Tell how the handshake went, once it has; return whether to go on."""
    if error is not None and not has_data:
        _handshake_failed(h, tls, error)
        return False
    if tls.session.state == "handshake":
        if not h._busy:
            _writing.flush(h)
            if h._due:
                _lifecycle.do_due(h)
        return False
    tls.announced = True
    tls.timer = tls.until = None
    if h._on_tls_started is not None:
        _reading.call(h, h._on_tls_started, None)
    if h._phase != OPEN or h._tls is not tls:
        return False
    if tls.stopping == 1:
        stop(h)
    return True


def autostart(h: Handle, request: TlsAutostart, version: tuple[int, int] | None) -> None:
    """Start TLS for a ``TlsAutostart`` request, if the peer has."""
    if version is None or h._phase != OPEN:
        return
    if h._eof >= BROKEN:
        h._buf.clear()  # the engine's, never the application's
        return
    try:
        start(h, make(h, request.mode, request.context))
    except TlsError as error:
        refuse(h, error)
    except (TypeError, ValueError) as error:
        ae.report_error(error)


def refuse(h: Handle, error: HandleError) -> None:
    """There will be no TLS, because of *error*: say so as after a failed handshake."""
    error.fatal = True
    callback = h._on_tls_started
    if callback is None:
        _ending.fail(h, error)
        return
    _ending.disable(h, error)
    try:
        callback(h, error)
    except BaseException as raised:
        ae.report_error(raised)


def _handshake_failed(h: Handle, tls: Tls, error: HandleError) -> None:
    """The peer is not who it should be, or does not speak TLS, or not in time."""
    tls.announced = True
    fail_session(h, tls)
    h._out.lose()
    if isinstance(error, TlsError):
        h._out.append_block(tls.session.drain(), overhead=True)  # the alert
        _writing.flush_alert(h)
    refuse(h, error)


class _TooLong:
    """Ends a handshake that is not done in time."""

    __slots__ = ("_events",)

    def __init__(self, h: Handle) -> None:
        self._events = h._events

    def __call__(self) -> None:
        h = self._events()
        if h is not None and h._tls is not None and not h._tls.announced and h._phase == OPEN:
            text = f"handshake_timeout of {h._handshake_timeout:g} s has passed"
            _handshake_failed(h, h._tls, HandleTimedOut(text))


def lost(h: Handle, error: OSError) -> None:
    """The stream broke during the handshake."""
    tls = h._tls
    assert tls is not None
    failure = TlsError(
        f"the connection was lost during the TLS handshake: {error.strerror or error}",
        reason="truncated",
    )
    failure.__cause__ = error.with_traceback(None)
    _handshake_failed(h, tls, failure)


def end_of_stream(h: Handle) -> None:
    """The stream under the session has ended."""
    tls = h._tls
    if h._reading is not None:
        h._reading.cancel()
        h._reading = None
    if tls is None or h._eof:
        _reading.end_of_stream(h)
        return
    if tls.announced and not tls.stopping and h._allow_truncated:
        _reading.end_of_stream(h)  # the session is not told: it could not write any more
        return
    plain: list[bytes] = []
    error: TlsError | None = None
    try:
        tls.session.feed(b"")
        tls.read_all(plain)
    except TlsError as caught:
        error = caught
    if not tls.announced:
        if error is None:
            error = TlsError(
                "the connection was closed during the TLS handshake", reason="truncated"
            )
        _handshake_failed(h, tls, error)
        return
    for piece in plain:
        h._buf.feed(piece)
    if tls.stopping == 2:
        # it took our close_notify for the end of everything
        if plain:
            _reading.drain(h)
        if h._tls is tls and h._phase == OPEN and h._eof < BROKEN:
            h._eof = 1
            _stopped(h, tls, b"")
        return
    if plain:
        h._due |= DUE_READ
    fail_session(h, tls)
    _ending.fail(h, UnexpectedEOF(_TRUNCATED))


def stop(h: Handle) -> None:
    """Send close_notify; clear text goes on after the peer's. Calls nobody back."""
    tls = h._tls
    if tls is None or tls.over or tls.stopping == 2 or (tls.stopping and not tls.announced):
        return
    out = h._out
    try:
        if not tls.stopping:
            tls.encrypt_rest(out)
        if not tls.announced:
            tls.stopping = 1
            return
        tls.begin_stop(out, h._clock())
    except TlsError as error:
        fail_session(h, tls)
        _lifecycle.note_failure(h, error)
        return
    _writing.flush(h)
    if tls.session.state == "closed":
        _lifecycle.note(h, DUE_TLS)
        return
    tls.timer = ae.timer(ANSWER, _Unanswered(h))


class _Unanswered:
    """Ends the wait for the peer's close_notify."""

    __slots__ = ("_events",)

    def __init__(self, h: Handle) -> None:
        self._events = h._events

    def __call__(self) -> None:
        h = self._events()
        if h is not None and h._tls is not None and h._phase == OPEN:
            h._tls.over = True
            _ending.fail(h, TlsError("the peer did not answer close_notify", reason="timeout"))


def _peer_closed(h: Handle, tls: Tls, rest: bytes) -> None:
    """The peer's close_notify has arrived."""
    if tls.stopping == 2:
        _stopped(h, tls, rest)
    elif h._on_tls_stopped is None:
        if not h._eof:
            h._eof = 1
            _reading.update_interest(h)
            _reading.drain(h)
    else:
        try:
            tls.encrypt_rest(h._out)
            tls.close(h._out)
        except TlsError as error:
            fail_session(h, tls)
            _ending.fail(h, error)
            return
        _writing.flush(h)
        _stopped(h, tls, tls.unused)


def _stopped(h: Handle, tls: Tls, rest: bytes) -> None:
    """TLS is over: say so, and go on in clear, or in TLS anew if it was started again."""
    tls.timer = None
    tls.over = True
    tls.stopping = 2
    if rest:
        h._buf.feed(rest)
    if h._on_tls_stopped is not None:
        _reading.call(h, h._on_tls_stopped)
    if h._phase != OPEN:
        return
    if h._tls is tls:
        h._tls = None
        h._out.overhead = False
        if h._reading is not None:
            h._reading.cancel()
            h._reading = None
        _writing.refresh(h)
    _reading.drain(h)
