"""The writing side of a handle: what was pushed is sent, and then on_drain is called.

``flush`` may run inside a call of the user: it calls nobody back, it only notes what is due.
"""

from __future__ import annotations

__all__ = (
    "flush",
    "flush_alert",
    "look_at_size",
    "refresh",
    "run_drained",
    "send_failed",
    "settle",
)

from typing import TYPE_CHECKING, Final

import ae_core as ae

from . import _lifecycle, _tls_connection
from ._errors import BufferLimitExceeded, TlsError, TransportError
from ._phases import DUE_DRAIN, DUE_DRAINED, OPEN
from ._streams.adapters import shut_down, watch

if TYPE_CHECKING:
    from ._handle import Handle

# Theory of operation
# -------------------
# `_pieces` is the list inside the write queue `_out`. While `_later` is set, push_write only
# appends to it: somebody will flush, because a drain runs, the kernel is full, the handle is
# corked or not connected yet. Otherwise it sends at once.
#
# With TLS the pieces are clear text. They are encrypted a block at a time, when the block before
# is gone, so that ciphertext is never piled up, and not before the handshake is done.
#
# An octet pushed arms `_armed`; when no more than `low_water_mark` is unsent, on_drain is due, and
# it is disarmed. So on_drain is called once per emptying, however many writes that took.

# How often on_drain may empty the queue anew within one event: others want their turn too.
_ROUNDS: Final = 16


def refresh(h: Handle) -> None:
    """Work out again whether the shortest path of :meth:`Events.readable` is right.

    Of an open handle.
    """
    h._simple = (
        h._on_drain is None
        and not h._drained
        and not h._shutdown
        and h._writing is None
        and h._tls is None
        and not h._stopped
        and h._write_error is None
    )


def settle(h: Handle) -> None:
    """Send what was written during a drain, and end the state in which writes are kept."""
    if h._pieces or h._tls is not None:
        flush(h)
    else:
        h._later = h._writing is not None and h._max_write_buffer is None


def flush(h: Handle) -> None:
    """Send as much as the kernel takes; note what is due then."""
    out = h._out
    tls = h._tls
    if h._phase != OPEN:
        return
    if h._write_error is not None:
        out.clear()
        h._later = False
        return
    progress = False
    full = False
    while True:
        block = out.block
        if not block:
            if tls is None:
                block = out.next()
            else:
                try:
                    block = tls.next_block(out)
                except TlsError as error:
                    _tls_connection.fail_session(h, tls)
                    _lifecycle.note_failure(h, error)
                    break
            if not block:
                break
            out.block = block
            h._armed = True
        try:
            sent = h._io.send(block)
        except (BlockingIOError, InterruptedError):
            full = True
            break
        except OSError as error:
            send_failed(h, b"", error)
            return
        progress = True
        if sent < len(block):
            out.sent(sent)
            full = True
            break
        out.block = b""
    if progress:
        h._wrote_at = h._clock()
    if full:
        if h._writing is None:
            h._writing = watch(h._io, "w", h._events.writable, h._events.write_refused)
            h._simple = False
    elif h._writing is not None:
        h._writing.cancel()
        h._writing = None
        refresh(h)
    h._later = full and h._max_write_buffer is None
    look_at_size(h)


def look_at_size(h: Handle) -> None:
    """Note whether on_drain is due, and whether too much is unsent."""
    unsent = len(h._out)
    if h._armed and unsent <= h._low_water_mark:
        h._armed = False
        if h._on_drain is not None or h._drained or h._shutdown:
            _lifecycle.note(h, DUE_DRAIN | DUE_DRAINED)
    limit = h._max_write_buffer
    if limit is not None and unsent > limit:
        _lifecycle.note_failure(
            h, BufferLimitExceeded(f"{unsent} bytes are unsent, max_write_buffer is {limit}")
        )


def flush_alert(h: Handle) -> None:
    """Try to send the alert that tells the peer why the handshake failed; once is enough.

    What does not go now lingers when the handle is destroyed.
    """
    out = h._out
    try:
        while out.block:
            out.sent(h._io.send(out.block))
    except (BlockingIOError, InterruptedError):
        return
    except OSError:
        out.clear()


def send_failed(h: Handle, data: bytes, error: OSError) -> None:
    """Deal with what ``send`` raised for *data*, which was taken off the queue."""
    if isinstance(error, (BlockingIOError, InterruptedError)):
        if data:
            h._out.block = data
        if h._writing is None:
            h._writing = watch(h._io, "w", h._events.writable, h._events.write_refused)
            h._simple = False
        h._later = h._max_write_buffer is None
        h._armed = True
        look_at_size(h)
        return
    # What the peer sent before it went away is worth more than what we could not send: it is
    # read and delivered first (in the next turn), then the error is reported.
    h._out.lost += len(data)
    h._out.lose()
    if h._writing is not None:
        h._writing.cancel()
        h._writing = None
    failure = TransportError(error.strerror or str(error), errno=error.errno)
    failure.__cause__ = error.with_traceback(None)
    h._write_error = failure
    h._simple = False
    h._later = False
    _lifecycle.note_failure(h, failure)


def run_drained(h: Handle) -> bool:
    """Tell everybody who waits for it that (nearly) everything is sent. In events only.

    Returns False if there is more to do, but others should have their turn first.
    """
    for _ in range(_ROUNDS):
        due = h._due
        h._due &= ~(DUE_DRAIN | DUE_DRAINED)
        if len(h._out) > h._low_water_mark:
            h._armed = True  # something was pushed meanwhile
            return True
        if h._drained:
            waiting, h._drained = h._drained, None
            refresh(h)
            for awaited in waiting:
                awaited(h, None)
        if h._shutdown in (1, 2) and h._phase == OPEN:
            _shut_down(h)
        callback = h._on_drain if due & DUE_DRAIN else None
        if callback is not None and h._phase == OPEN:
            h._later = True
            try:
                callback(h)
            except BaseException as error:
                ae.report_error(error)
        if h._phase != OPEN:
            return True
        settle(h)
        if not h._due & (DUE_DRAIN | DUE_DRAINED):
            return True
    return False


def _shut_down(h: Handle) -> None:
    """End the write side, if everything is sent. ``_shutdown`` is 3 when that is done."""
    tls = h._tls
    if tls is not None and h._shutdown == 1:
        if not tls.announced or h._out:
            h._armed = True  # come again when that is over
            return
        try:
            tls.close(h._out)
        except TlsError as error:
            _tls_connection.fail_session(h, tls)
            _lifecycle.note_failure(h, error)
            return
        h._shutdown = 2  # close_notify is on its way
        flush(h)
    if h._out:
        h._armed = True
        return
    h._shutdown = 3
    shut_down(h._io)
