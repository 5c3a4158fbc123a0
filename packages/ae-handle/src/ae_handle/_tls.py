"""The handle's side of the TLS seam: driving a session, whatever engine it is of.

Clear text goes in and out of a handle's queues; ciphertext goes over its stream. What a session
is, is said in ``abc``; nothing here knows OpenSSL.
"""

from __future__ import annotations

__all__ = (
    "Tls",
    "autostart",
    "due",
    "end_of_stream",
    "find_context",
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

from . import _lifecycle, _reading, _writing
from ._errors import TlsError, TlsUnavailable, UnexpectedEOF
from ._registry import LINE
from ._ssl import SslContext, is_ssl_context
from ._states import DUE_FAIL, DUE_TLS, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._handle import Handle
    from ._write_queue import WriteQueue
    from .abc import TlsContext, TlsRole, TlsSession
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
# is its end of stream.

# How long a close_notify of ours may go unanswered, in seconds.
_ANSWER: Final = 10.0

# How much more than max_read_size is read while data streams in, and the most.
_STREAM_FACTOR: Final = 4
_STREAM_SIZE: Final = 1 << 18

# Buffers for that: one, unless a callback runs the loop, or other threads have loops.
_buffers: Final[list[memoryview]] = []
_MOST_BUFFERS: Final = 2

_ROLES: Final = ("connect", "accept")


class Tls:
    """One session on one handle."""

    __slots__ = (
        "announced",
        "held",
        "read_pieces",
        "recv_into",
        "role",
        "sent_close",
        "session",
        "stopping",
        "streaming",
        "timer",
    )

    def __init__(self, session: TlsSession, role: TlsRole) -> None:
        self.session = session
        # what an engine may offer besides: everything decrypted, in the pieces it came in
        self.read_pieces: Callable[[], list[bytes]] | None = getattr(session, "read_pieces", None)
        self.role = role
        self.announced = False  # on_tls_started was called, or there was none
        self.sent_close = False  # our close_notify is out, or queued
        self.stopping = 0  # 1: stop() waits for the handshake; 2: our close_notify is out
        self.held = b""  # an incomplete record, while we feed record by record
        self.recv_into: Callable[[memoryview, int], int] | None = None  # if there may be much
        self.streaming = False  # the last read came back full
        self.timer: Any = None

    @property
    def in_handshake(self) -> bool:
        """Whether the peer is not known yet, so that nothing may be sent to it."""
        return self.session.state == "handshake"

    def next_block(self, out: WriteQueue) -> bytes:
        """Return the next ciphertext to be sent, encrypting what waits in *out*.

        Raises:
            TlsError: If the session does.
        """
        session = self.session
        if out.pieces and not self.stopping and self.announced and session.state != "handshake":
            session.write(out.next())
        return session.drain()


def find_context(context: Any) -> TlsContext:
    """Return *context* as what the seam asks for; None asks the installed engines.

    Raises:
        TlsUnavailable: If None was given, and nothing that provides TLS is installed.
        TypeError: If it has another shape.
    """
    if context is None:
        return _installed()
    if is_ssl_context(context):
        return SslContext(context)
    if callable(getattr(context, "new_session", None)):
        result: TlsContext = context
        return result
    raise TypeError(
        f"expected tls_context as an ae_tls.Context, an ssl.SSLContext or an object with "
        f"new_session(), got {context!r}"
    )


_default: TlsContext | None = None


def _installed() -> TlsContext:
    global _default
    if _default is None:
        from importlib.metadata import entry_points

        found = entry_points(group="ae_handle.tls")
        for point in found:
            made: TlsContext = point.load()()
            _default = made
            break
        else:
            raise TlsUnavailable()
    return _default


def check_role(role: object) -> None:
    """Raise ValueError unless *role* is one."""
    if role not in _ROLES:
        raise ValueError(f'expected tls "connect" or "accept", got {role!r}')


def make(h: Handle, role: TlsRole, context: Any) -> Tls:
    """Return a new session for *h*, which must be of the given role.

    Raises:
        ValueError, TypeError: If an argument is of the wrong kind, or TLS is on already.
        TlsError: If the engine refuses.
    """
    check_role(role)
    if h._tls is not None:
        raise ValueError("TLS is active already on this handle")
    settings = h._tls_context if context is None else None
    if settings is None:
        settings = find_context(context)
    return Tls(settings.new_session(role, h._peer_name), role)


def start(h: Handle, tls: Tls) -> None:
    """Begin TLS on an open handle. Calls nobody back."""
    _reading.unburst(h)
    out = h._out
    while out.pieces:  # pushed before: it leaves in clear
        out.append_block(out.next())
    h._tls = tls
    if isinstance(h._io, socket.socket) and getattr(tls.session, "copies_input", False):
        tls.recv_into = h._io.recv_into
    h._simple = False
    h._may_burst = True
    if h._reading is not None:  # another callback reads from now on
        h._reading.cancel()
        h._reading = None
    if h._buf:
        # clear text behind the STARTTLS command: the engine's, never the application's
        tls.held = h._buf.take(len(h._buf))
        _lifecycle.note(h, DUE_TLS)
    _writing.flush(h)
    _reading.update_interest(h)


def due(h: Handle) -> None:
    """Do what ``start`` left to do, in an event."""
    tls = h._tls
    if tls is not None:
        early, tls.held = tls.held, b""
        if early:
            receive(h, early)
        elif tls.stopping == 2 and tls.session.state == "closed":
            _stopped(h, tls, _unused(tls.session))


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
            rest = _feed_records(tls, tls.held + data, plain)
        else:
            session.feed(data)
            _read_all(tls, plain)
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
        _reading.drain(h)
    elif not h._busy:
        _writing.flush(h)
    if h._tls is not tls or h._phase != OPEN:
        return
    if error is not None:
        _writing.flush(h)
        _lifecycle.fail(h, error)
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


def _read_all(tls: Tls, plain: list[bytes]) -> None:
    """Move everything decrypted to *plain*; raise what ended it, after that."""
    if tls.read_pieces is not None:
        while pieces := tls.read_pieces():
            plain += pieces
    else:
        while data := tls.session.read():
            plain.append(data)


def _feed_records(tls: Tls, data: bytes, plain: list[bytes]) -> bytes:
    """Feed one record at a time until the peer's close_notify; return what lies behind it."""
    session = tls.session
    if getattr(session, "unused_data", None) is not None:
        session.feed(data)
        _read_all(tls, plain)
        return _unused(session) if session.state == "closed" else b""
    while len(data) >= 5:
        size = 5 + int.from_bytes(data[3:5], "big")
        if len(data) < size:
            break
        record, data = data[:size], data[size:]
        session.feed(record)
        _read_all(tls, plain)
        if session.state == "closed":
            tls.held = b""
            return _unused(session) + data
    tls.held = data
    return b""


def _unused(session: TlsSession) -> bytes:
    """Return what was fed and lies behind the peer's close_notify, if the session keeps it."""
    data: bytes = getattr(session, "unused_data", b"")
    return data


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
    try:
        start(h, make(h, request.mode, request.context))
    except TlsError as error:
        refuse(h, error)
    except (TypeError, ValueError) as error:
        ae.report_error(error)


def refuse(h: Handle, error: TlsError) -> None:
    """There will be no TLS, because of *error*: say so as after a failed handshake."""
    callback = h._on_tls_started
    if callback is None:
        _lifecycle.fail(h, error)
        return
    _lifecycle.disable(h, error)
    try:
        callback(h, error)
    except BaseException as raised:
        ae.report_error(raised)


def _handshake_failed(h: Handle, tls: Tls, error: TlsError) -> None:
    """The peer is not who it should be, or does not speak TLS."""
    tls.announced = True
    h._out.clear()
    h._out.append_block(tls.session.drain())  # the alert
    _writing.flush_alert(h)
    refuse(h, error)


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
        _read_all(tls, plain)
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
    if plain:
        _reading.drain(h)
    if h._tls is not tls or h._phase != OPEN:
        return
    if tls.stopping == 2:
        # it took our close_notify for the end of everything
        h._eof = 1
        _stopped(h, tls, b"")
    else:
        _lifecycle.fail(
            h, UnexpectedEOF("the connection was closed without close_notify: data may be missing")
        )


def stop(h: Handle) -> None:
    """Send close_notify; clear text goes on after the peer's. Calls nobody back."""
    tls = h._tls
    if tls is None or tls.stopping == 2 or (tls.stopping and not tls.announced):
        return
    out = h._out
    try:
        while out.pieces and not tls.stopping:
            tls.session.write(out.next())  # kept there until the handshake is done
        if not tls.announced:
            tls.stopping = 1
            return
        tls.session.shutdown()
        out.append_block(tls.session.drain())
    except TlsError as error:
        _lifecycle.note_failure(h, error)
        return
    tls.stopping = 2
    tls.sent_close = True
    _writing.flush(h)
    if tls.session.state == "closed":
        _lifecycle.note(h, DUE_TLS)
        return
    timer = _Unanswered(h)
    tls.timer = ae.timer(_ANSWER, timer)


class _Unanswered:
    """Ends the wait for the peer's close_notify."""

    __slots__ = ("_events",)

    def __init__(self, h: Handle) -> None:
        self._events = h._events

    def __call__(self) -> None:
        h = self._events()
        if h is not None and h._tls is not None and h._phase == OPEN:
            _lifecycle.fail(h, TlsError("the peer did not answer close_notify", reason="timeout"))


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
        out = h._out
        try:
            while out.pieces:
                tls.session.write(out.next())
            tls.session.shutdown()
            out.append_block(tls.session.drain())
        except TlsError as error:
            _lifecycle.fail(h, error)
            return
        _writing.flush(h)
        _stopped(h, tls, _unused(tls.session))


def _stopped(h: Handle, tls: Tls, rest: bytes) -> None:
    """TLS is over: say so, and go on in clear."""
    tls.timer = None
    if h._on_tls_stopped is not None:
        _reading.call(h, h._on_tls_stopped)
    if h._phase != OPEN or h._tls is not tls:
        return
    h._tls = None
    if h._reading is not None:
        h._reading.cancel()
        h._reading = None
    _writing.refresh(h)
    if rest:
        h._buf.feed(rest)
    _reading.drain(h)
