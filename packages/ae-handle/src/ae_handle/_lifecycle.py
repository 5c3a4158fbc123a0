"""A handle's life: connecting, starting; and what is due in between. Its end is in ``_ending``."""

from __future__ import annotations

__all__ = (
    "arm",
    "connect",
    "do_due",
    "hold",
    "note",
    "note_failure",
    "post_turn",
    "release",
    "set_options",
    "start",
    "tick",
    "yield_turn",
)

import errno
import socket
from math import inf
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from . import _ending, _reading, _tls_connection, _writing
from ._errors import HandleError, HandleTimedOut, TlsError, TransportError
from ._pending import Awaited
from ._phases import (
    BROKEN,
    CONNECTING,
    DUE_DRAIN,
    DUE_DRAINED,
    DUE_FAIL,
    DUE_READ,
    DUE_TLS,
    DUE_WRITE,
    OPEN,
)
from ._streams.closing import Departing, close

if TYPE_CHECKING:
    from collections.abc import Callable

    from ae_core import CondVar

    from ._handle import Handle
    from ._tls.layer import Tls

# How many things may become due within one event before other events get their turn.
_ROUNDS: Final = 32

# How much is read after a failed write, to deliver what the peer said last: 16 MiB.
_RESCUES: Final = 256


def hold(h: Handle) -> None:
    """Keep *h* alive until as many calls of ``release``: it connects, or something waits for it.

    The loop keeps it: by what the watchers call, or what is postponed.
    """
    h._holds += 1
    h._events.held = h


def release(h: Handle) -> None:
    """Undo one ``hold``."""
    h._holds -= 1
    if not h._holds:
        h._events.held = None


# ---------------------------------------------------------------------- what is due


def note(h: Handle, bit: int) -> None:
    """Remember that something is due; the caller sees to it that ``do_due`` follows."""
    h._due |= bit


def note_failure(h: Handle, error: HandleError) -> None:
    """Remember that *error* is to end the handle."""
    if h._error is None:
        h._error = error
    h._due |= DUE_FAIL


def post_turn(h: Handle) -> None:
    """Have ``do_due`` called in the next turn, unless it is running: then it sees to it."""
    if not h._turn_posted and not h._doing:
        h._turn_posted = True
        ae.postpone(h._events.turn)


def yield_turn(h: Handle) -> None:
    """Have ``do_due`` called when all others have had their turn.

    Not by postponing: what is postponed by a postponed call belongs to the same turn.
    """
    if h._again is None:
        h._again = ae.timer(0.0, h._events.go_on)


def do_due(h: Handle) -> None:
    """Do what is due. In events only; inside itself it leaves the work to the outer one."""
    if h._doing or h._busy:
        return
    h._doing = True
    try:
        for _ in range(_ROUNDS):
            due = h._due
            if not due or h._phase != OPEN:
                break
            if due & DUE_FAIL:
                h._due &= ~DUE_FAIL
                _report_failure(h)
            elif due & DUE_TLS:
                h._due &= ~DUE_TLS
                _tls_connection.due(h)
            elif due & DUE_WRITE:
                h._due &= ~DUE_WRITE
                _writing.flush(h)
            elif due & (DUE_DRAIN | DUE_DRAINED):
                if not _writing.run_drained(h):
                    break
            else:
                h._due &= ~DUE_READ
                _reading.drain(h)
    finally:
        h._doing = False
    if h._phase != OPEN:
        if h._phase != CONNECTING:
            h._due = 0
        elif h._due & DUE_FAIL:
            h._due &= ~DUE_FAIL
            _report_failure(h)
    elif h._due:
        yield_turn(h)


def _report_failure(h: Handle) -> None:
    error = h._error
    if error is None or h._eof >= BROKEN:
        return  # it has ended otherwise meanwhile
    if error is h._write_error:
        _rescue_input(h)
        if h._phase != OPEN or h._eof >= BROKEN:
            return
        if h._tls is not None and not h._tls.announced:
            _tls_connection.lost(h, error)
            return
    _ending.fail(h, error)


def _rescue_input(h: Handle) -> None:
    """Read and deliver what the peer sent before our write failed, also if nobody reads now."""
    for _ in range(_RESCUES):
        try:
            data = h._io.recv(h._max_read_size)
        except OSError:
            return  # the write error says it all
        if not data:
            return
        _tls_connection.receive(h, data)
        if h._phase != OPEN or h._eof:
            return


def tick(h: Handle) -> None:
    """The timer has fired: call back for the time-outs that are due."""
    h._timer = None
    timeouts = h._timeouts
    if timeouts is None or h._phase != OPEN:
        return
    for kind in timeouts.due(h._clock(), h._read_at, h._wrote_at):
        if h._phase != OPEN:
            return
        name, callback = (
            ("timeout", h._on_timeout),
            ("read_timeout", h._on_read_timeout),
            ("write_timeout", h._on_write_timeout),
        )[kind]
        if callback is None:
            _ending.fail(h, HandleTimedOut(f"{name} of {timeouts.periods[kind]:g} s has passed"))
        else:
            try:
                callback(h)
            except BaseException as error:
                ae.report_error(error)
    if h._phase == OPEN:
        arm(h)
        if h._due:
            do_due(h)


def arm(h: Handle) -> None:
    """Have ``tick`` called when the next time-out is due, or earlier."""
    timeouts = h._timeouts
    if h._eof >= BROKEN:
        return
    at = inf if timeouts is None else timeouts.next_at(h._read_at, h._wrote_at)
    if at == inf:
        h._timer = None
    elif h._timer is None or at < h._timer_at:
        h._timer_at = at
        h._timer = ae.timer(max(0.0, at - h._clock()), h._events.tick)


# ---------------------------------------------------------------------- the beginning


def start(h: Handle, io: Any, tls: Tls | None) -> None:
    """Begin to work on *io*, in TLS if there is a session. Calls nobody back."""
    h._io = io
    h._phase = OPEN
    h._later = False
    if isinstance(io, socket.socket):  # a new one, where all options are off
        try:
            if h._no_delay:
                io.setsockopt(_TCP, _NO_DELAY, 1)
            if h._keepalive:
                io.setsockopt(_SOCKET, _KEEPALIVE, 1)
            if h._oob_inline:
                io.setsockopt(_SOCKET, _OOB_INLINE, 1)
        except OSError:
            set_options(h)  # one by one
    h._read_at = h._wrote_at = h._clock()
    if h._timeouts is not None:
        arm(h)
    out = h._out
    if tls is not None:
        # what was pushed before start_tls() is in the block, and leaves in clear before all else
        _tls_connection.begin(h, tls)
        if h._connecting is not None:
            keep_early(h, tls)
        h._armed = bool(out.block)
        _writing.flush(h)
    if out.pieces or out.block:
        h._armed = True
        _writing.flush(h)
    else:
        if h._drained or h._shutdown:
            h._due |= DUE_DRAINED
        if h._on_drain is not None:
            h._due |= DUE_DRAIN
    if h._queue.reader is not None:
        h._due |= DUE_READ
        _reading.update_interest(h)
    elif h._on_read is not None or h._each_reader is not None or h._watch_eof or tls is not None:
        _reading.update_interest(h)


def keep_early(h: Handle, tls: Tls) -> None:
    """Give *tls* what was pushed before ``stop_tls``, if that was called while connecting."""
    early, h._early = h._early, None
    if early is not None:
        tls.keep(early)
        tls.stopping = 1


_TCP: Final = socket.IPPROTO_TCP
_NO_DELAY: Final = socket.TCP_NODELAY
_SOCKET: Final = socket.SOL_SOCKET
_KEEPALIVE: Final = socket.SO_KEEPALIVE
_OOB_INLINE: Final = socket.SO_OOBINLINE


def set_options(h: Handle) -> None:
    """Set the socket options on the stream, if there is one yet; pipes go without."""
    io = h._io
    if isinstance(io, socket.socket):
        _set_option(io, _TCP, _NO_DELAY, h._no_delay)
        _set_option(io, _SOCKET, _KEEPALIVE, h._keepalive)
        _set_option(io, _SOCKET, _OOB_INLINE, h._oob_inline)


def _set_option(io: socket.socket, level: int, option: int, on: bool) -> None:
    try:
        io.setsockopt(level, option, 1 if on else 0)
    except OSError as error:  # TCP_NODELAY on a UNIX socket
        ae.log("trace", "socket option %d of %d on %r: %s", option, level, io, error)


def connect(h: Handle, host: str, service: str | int) -> None:
    """Connect *h*, which is held until that has ended."""
    from ae_socket import tcp_connect

    h._phase = CONNECTING
    h._later = h._max_write_buffer is None
    h._target = (host, service)
    h._early = None
    hold(h)

    def prepare(sock: socket.socket) -> float | None:
        h._attempt = sock
        try:
            return None if h._on_prepare is None else h._on_prepare(h)
        finally:
            h._attempt = None

    def connected(
        sock: socket.socket, host: str, port: int | str, retry: Callable[[], CondVar[Any]]
    ) -> None:
        _connected(h, sock, host, port, retry)

    operation = tcp_connect(
        host, service, connected, on_prepare=None if h._on_prepare is None else prepare
    )
    h._connecting = operation
    operation.on_ready(lambda condvar: _connect_done(h, condvar))


def _connected(
    h: Handle,
    sock: socket.socket,
    host: str,
    port: int | str,
    retry: Callable[[], CondVar[Any]],
) -> None:
    """A connection is there: first what was pushed meanwhile, then on_connect."""
    if h._phase != CONNECTING:
        if isinstance(h._connecting, Departing):
            _depart(h, h._connecting, sock)
        else:
            close(sock)
        return
    tls = None
    if h._tls_role is not None:
        try:
            tls = _tls_connection.make(h, h._tls_role, None)
        except TlsError as error:
            h._out.lost += h._out.waiting  # it was to be encrypted
            h._out.drop_pieces()
            start(h, sock, None)
            _tls_connection.refuse(h, error)
            return
    start(h, sock, tls)
    do_due(h)
    callback = h._on_connect
    if callback is not None and h._phase == OPEN:

        def again() -> None:
            _try_next(h, sock, retry)

        try:
            callback(h, host, port, again)
        except BaseException as error:
            ae.report_error(error)
    if h._phase == OPEN and h._due:
        post_turn(h)


def _depart(h: Handle, departing: Departing, sock: socket.socket) -> None:
    """The connection is there, and the handle is not any more."""
    h._connecting = None
    tls = None
    if h._tls_role is not None:
        try:
            tls = _tls_connection.make(h, h._tls_role, None)
        except TlsError as error:
            close(sock)
            departing.failed(error)
            return
        if h._handshake_timeout:
            tls.until = h._clock() + h._handshake_timeout
        keep_early(h, tls)
    departing.connected(sock, tls)


def _try_next(h: Handle, sock: socket.socket, retry: Callable[[], CondVar[Any]]) -> None:
    """The user does not like this connection: on to the next address."""
    if h._phase != OPEN or h._io is not sock:
        return
    _ending.quieten(h)
    waiting = [callback for callback in h._queue.clear() if isinstance(callback, Awaited)]
    h._buf.clear()
    h._out.clear()
    h._tls = None
    h._io = None
    h._eof = 0
    h._error = h._write_error = None
    h._due = 0
    h._busy = 0
    h._burst = None
    h._armed = False
    h._early = None
    h._shutdown = 0
    h._simple = False
    h._phase = CONNECTING
    h._later = h._max_write_buffer is None
    operation = retry()
    close(sock)
    if operation is not h._connecting:
        hold(h)
        h._connecting = operation
        operation.on_ready(lambda condvar: _connect_done(h, condvar))
    if waiting:
        given_up = TransportError(
            "the connection was given up for the next address", errno=errno.ECONNABORTED
        )
        ae.postpone(_ending.Throw(waiting, given_up))


def _connect_done(h: Handle, condvar: CondVar[Any]) -> None:
    """The connection attempts have ended, one way or the other."""
    try:
        connecting = h._connecting
        if isinstance(connecting, Departing):
            if condvar is connecting.operation:
                h._connecting = None
                if not condvar.cancelled and condvar.error is not None:
                    connecting.failed(condvar.error)
        elif condvar is connecting:
            h._connecting = None
            if condvar.cancelled:
                return
            try:
                condvar.recv()
            except Exception as error:
                number = getattr(error, "errno", None)
                if not isinstance(number, int) or number <= 0:
                    number = errno.ENXIO
                failure = TransportError(
                    getattr(error, "strerror", None) or str(error), errno=number
                )
                failure.__cause__ = error.with_traceback(None)
                _ending.fail(h, failure)
    finally:
        release(h)
