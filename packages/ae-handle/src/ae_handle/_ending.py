"""How a handle ends: its user destroys it, its user forgets it, or a fatal error ended it.

What has arrived is delivered before any error is told, and what is unsent lingers (``_linger``).
"""

from __future__ import annotations

__all__ = (
    "Throw",
    "destroy",
    "disable",
    "fail",
    "forget_callbacks",
    "forgotten",
    "is_untold",
    "quieten",
    "reason",
    "tell",
)

from _thread import get_ident
from os import getpid
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from . import _reading
from ._errors import (
    BufferLimitExceeded,
    HandleDestroyed,
    HandleError,
    HandleTimedOut,
    TransportError,
    UnexpectedEOF,
)
from ._pending import Awaited
from ._phases import (
    BROKEN,
    BROKEN_TOLD,
    CONNECTING,
    DESTROYED,
    DUE_READ,
    FAILED,
    OPEN,
)
from ._streams.closing import Departing, close, let_go, peer_text, report_loss

if TYPE_CHECKING:
    from ._handle import Handle

# Theory of operation
# -------------------
# Every fatal error goes through `fail`, whatever it came from: a read, a write, the TLS engine, a
# limit, a time-out. From then on the handle is *broken*: nothing more is read or sent, and the
# error is told when the readers have had everything that has arrived, by `tell`:
#
# * Somebody waits for input that will not come: it is told now.
# * There is an on_error: it is told now, unless an iterator of `each` goes on with what is in the
#   buffer, or the coroutine whose `await` was just answered is about to ask for more (how many
#   turns of the loop that takes depends on the loop; all of them deliver the same).
# * Nobody: the error waits for whoever asks next, behind what is in the buffer. The stream is let
#   go of. If nobody asks until the handle goes, the exception hook gets it. But a time-out and a
#   limit are events of their own: with nothing left to read they are reported when they occur.
#
# `_finish` ends the handle, then; later reads raise the error again.

# Errors that say when something happened, not how the stream ended.
_EVENTS: Final = (BufferLimitExceeded, HandleTimedOut)


def fail(h: Handle, error: HandleError) -> None:
    """Let *error* end the handle, or report it if it is not fatal. In events only."""
    if h._phase >= FAILED or h._eof >= BROKEN:
        return  # one error ended it, the first
    if not error.fatal:
        if h._on_error is not None:
            try:
                h._on_error(h, error)
            except BaseException as raised:
                ae.report_error(raised)
            return
        error.fatal = True
    h._error = error
    if h._phase == CONNECTING:
        _finish(h)
        return
    h._eof = BROKEN
    quieten(h)
    if isinstance(error, TransportError):
        h._write_error = error
        h._out.lose()
    if h._busy:
        return  # the running drain comes to `tell`
    if h._due & DUE_READ:
        _reading.drain(h)
    else:
        _reading.at_end(h)


def tell(h: Handle) -> None:
    """The readers of a broken handle have had their chance: tell the error, or keep it."""
    if _reading.has_reader(h):
        _finish(h)
    elif h._on_error is not None:
        if not h._buf._data or not (h._iterators or h._grace):
            _finish(h)
        elif h._grace:
            h._grace -= 1
            h._again = ae.timer(0.0, h._events.look_again)
    elif h._buf._data or h._io is None or not isinstance(h._error, _EVENTS):
        _wait_for_reader(h)
    else:
        _finish(h)


def _wait_for_reader(h: Handle) -> None:
    """Keep the error of a broken handle for who reads next; the stream is not needed for that."""
    error: Any = h._error
    part(h)
    h._write_error = error  # what is pushed from now on is ignored
    waiting, h._drained = h._drained, None
    if waiting:
        h._eof = BROKEN_TOLD
        for awaited in waiting:
            awaited.throw(error)


def _finish(h: Handle) -> None:
    """Tell everybody about ``_error``, and destroy the handle."""
    error: Any = h._error
    callback: Any = h._on_error
    if h._phase == CONNECTING and h._on_connect_error is not None:
        callback = h._on_connect_error
    heard = h._eof == BROKEN_TOLD
    if disable(h, error):
        heard = True
    if callback is not None:
        try:
            callback(h, error)
        except BaseException as raised:
            ae.report_error(raised)
    elif not heard:
        ae.report_error(error)
    if h._phase != DESTROYED:
        destroy(h)


def disable(h: Handle, error: HandleError) -> bool:
    """End all activity because of *error*; tell who waits, return whether there was anybody."""
    if h._burst is not None:
        _reading.unburst(h)
    h._phase = FAILED
    h._error = error
    quieten(h)
    h._busy = 0
    waiting = _take_waiting(h)
    for awaited in waiting:
        awaited.throw(error)
    return bool(waiting)


def _take_waiting(h: Handle) -> list[Awaited]:
    """Empty the read queue; return who waits for something in it, or for it to be sent."""
    waiting: list[Awaited] = []
    for callback in h._queue.clear():
        if isinstance(callback, Awaited):
            waiting.append(callback)
    if h._drained is not None:
        waiting += h._drained
        h._drained = None
    return waiting


def reason(h: Handle) -> HandleError:
    """Return what a read raises that is made when the handle has ended."""
    error = h._error
    return HandleDestroyed() if error is None else _again(error)


def _again(error: HandleError) -> HandleError:
    """Return *error* once more, without the frames that it has passed through.

    These refer to the handle, which keeps it; and one exception raised in several places shows
    the tracebacks of all of them.
    """
    kind = type(error)
    new: HandleError = kind.__new__(kind)
    OSError.__init__(new, error.errno, error.strerror)
    new.__dict__.update(error.__dict__)
    new.__cause__ = error.__cause__
    return new


def quieten(h: Handle) -> None:
    """Cancel all watchers and timers, and leave the shortcuts."""
    if h._reading is not None:
        h._reading.cancel()
        h._reading = None
    if h._writing is not None:
        h._writing.cancel()
        h._writing = None
    # dropping these cancels them, and nobody else refers to them
    h._timer = h._again = None
    if h._tls is not None:
        h._tls.timer = None
    h._later = h._busy != 0
    h._simple = False


def part(h: Handle) -> None:
    """Let go of the stream, if there is one."""
    io = h._io
    if io is None:
        return
    h._io = None
    tls, h._tls = h._tls, None
    out = h._out
    ended = 0 < h._eof < BROKEN
    if ended and tls is None and not out.pieces and not out.block:
        close(io)  # the most frequent end: nothing to be done any more
        return
    if h._process != getpid():
        close(io)  # in a forked child: the stream, and what goes on in it, is the parent's
        return
    linger = h._linger if h._write_error is None else 0.0
    told = h._error is not None
    let_go(io, out, tls, linger, peer=h._peer_name, loop=h._loop, ended=ended, told=told)


def destroy(h: Handle) -> None:
    """End *h*, from wherever. Calls nobody back."""
    phase = h._phase
    if phase == DESTROYED:
        return
    error = untold = None
    lost = 0
    waiting: list[Awaited] = []
    if phase == FAILED:
        error = h._error
    else:
        if phase == OPEN:
            _reading.unburst(h)
            untold = _untold(h)
            if h._eof != BROKEN_TOLD and h._linger:
                lost = h._out.lost
        quieten(h)
        h._busy = 0
        h._later = False
        waiting = _take_waiting(h)
    h._phase = DESTROYED
    if h._connecting is not None:
        _leave_connecting(h)
    noted = h._error
    if error is None:
        h._error = None
    peer = peer_text(h._peer_name, h._io) if lost else ""
    part(h)
    h._error = None if error is None else _again(error)
    h._write_error = None
    buf = h._buf
    if buf._data or buf.state is not None:
        buf.clear()
    forget_callbacks(h)
    if waiting:
        throw = Throw(waiting, HandleDestroyed())
        if ae.backend() is None:
            throw()  # the loop has ended: there is no next turn
        else:
            ae.postpone(throw)
    if untold is not None:
        ae.report_error(untold)
    elif lost and noted is not None:
        report_loss(lost, peer, noted)
    on_end, h._on_end = h._on_end, None
    if on_end is not None:
        on_end(h)


def _leave_connecting(h: Handle) -> None:
    """Cancel the connection under way, unless something is to be sent on it."""
    operation: Any = h._connecting
    out = h._out
    count = out.owed + len(h._early or b"")
    if h._error is None and h._io is None and count and h._linger and ae.backend() is not None:
        host, service = h._target
        peer = f"{host}:{service}"
        h._connecting = Departing(operation, out, count, h._linger, peer, h._loop)
    else:
        h._connecting = None
        operation.cancel()


def forgotten(h: Handle) -> None:
    """End *h*, whose last reference was dropped, perhaps in another thread."""
    if h._process != getpid():
        if h._io is not None:
            close(h._io)  # our copy of what is the parent's
        return
    if h._thread == get_ident():
        destroy(h)
        return
    # the loop's own thread has to let go of the stream
    io, out, tls, linger, loop = h._io, h._out, h._tls, h._linger, h._loop
    peer = h._peer_name
    untold = _untold(h)
    if h._write_error is not None:
        linger = 0.0

    def leave() -> None:
        if io is not None:
            let_go(io, out, tls, linger, peer=peer, loop=loop)
        if untold is not None:
            ae.report_error(untold)

    try:
        loop.call_threadsafe(leave)
    except RuntimeError:  # the loop has ended
        if io is not None:
            io.close()


def _untold(h: Handle) -> HandleError | None:
    """Return what ended the stream, if it was kept for somebody who has not come."""
    if h._eof == BROKEN and h._io is None:
        return h._error
    if h._eof == 1 and h._watch_eof and h._on_eof is None and h._on_error is None and not h._busy:
        return UnexpectedEOF()
    return None


def is_untold(h: Handle) -> bool:
    """Whether the good end of the stream has to be told now as an error."""
    return h._watch_eof and h._on_error is not None and not h._iterators


def forget_callbacks(h: Handle) -> None:
    """Set all callbacks to None."""
    h._on_prepare = h._on_connect = h._on_connect_error = None
    h._on_error = h._on_eof = h._on_drain = h._on_read = None
    h._on_timeout = h._on_read_timeout = h._on_write_timeout = None
    h._on_tls_started = h._on_tls_stopped = None
    h._each_reader = h._each_callback = None


class Throw:
    """Ends what waits, in the next turn."""

    __slots__ = ("_error", "_waiting")

    def __init__(self, waiting: list[Awaited], error: HandleError) -> None:
        self._waiting = waiting
        self._error = error

    def __call__(self) -> None:
        for awaited in self._waiting:
            awaited.throw(self._error)
