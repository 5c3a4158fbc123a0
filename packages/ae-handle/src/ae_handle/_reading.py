"""The reading side of a handle: what has arrived is offered to whoever waits for it.

Runs in events only, never inside a call of the user. The queue and the buffer are sans-I/O
(``_read_queue``, ``_buffer``); this is the loop that brings them together.
"""

from __future__ import annotations

__all__ = (
    "at_end",
    "burst",
    "call",
    "drain",
    "end_of_stream",
    "has_reader",
    "offer",
    "receive_failed",
    "run",
    "unburst",
    "update_interest",
)

from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from . import _ending, _lifecycle, _tls_connection, _writing
from ._buffers.read_buffer import NEED_MORE
from ._errors import BadMessage, BufferLimitExceeded, TransportError, UnexpectedEOF
from ._pending import END, Awaited, Next
from ._phases import BROKEN, DUE_READ, OPEN, TOLD
from ._protocol.registry import LINE
from ._streams.adapters import watch
from .types import TlsAutostart

if TYPE_CHECKING:
    from ._buffers.read_buffer import ReadBuffer
    from ._handle import Handle
    from ._protocol.read_queue import ReadQueue

# Theory of operation
# -------------------
# One drain at a time: `_busy` is set, callbacks that push or unshift requests only queue them,
# and the loop takes them up when the callback has returned. It ends when the front request needs
# more, or nobody wants anything. Then, in this order: what the callbacks wrote is sent, at once;
# the end of the stream is dealt with; the limit is checked; the read watcher is started or
# stopped; on_drain is called.
#
# Two shortcuts for lines. A queued "line" is searched and cut here, without a call per line. And
# a standing reader of lines (`read_each`), or a series of queued ones, gets a *burst*: all whole
# lines are split off at once and handed out by a plain for loop over an iterator. While that
# runs, the lines that were not handed out are in the iterator, not in the buffer. Whatever needs
# the buffer to be right (read_buffer, a request for something else, destroy) first calls
# `unburst`, which puts them back and so ends the loop; until the next read, lines then go one by
# one, so this cannot become quadratic.

_LF = b"\n"

# When it pays to split queued lines off at once (0.2 us instead of 0.36 a line): so many lines in
# a row were asked for, and so many octets are left. Not where lines and bodies alternate.
_RUN: Final = 4
_MANY: Final = 512


def drain(h: Handle) -> None:
    """Offer what is buffered to the requests, unless that is being done already."""
    if not h._busy:
        h._busy = 1
        h._later = True
        run(h)


def run(h: Handle) -> None:
    """Do a drain that was begun: ``_busy`` and ``_later`` are set."""
    h._due &= ~DUE_READ
    queue = h._queue
    buf = h._buf
    while True:
        try:
            _serve(h, queue, buf)
            break
        except BaseException as error:  # of a callback, whose request is done with
            ae.report_error(error)
    _settle(h)


def _serve(h: Handle, queue: ReadQueue, buf: ReadBuffer) -> None:
    """Call back until there is nothing to call with, or nobody to call."""
    line = LINE
    while True:
        reader = queue.reader
        if reader is line and not buf.searched and buf._more is None:
            data = buf._data
            pos = buf._pos
            end = data.find(_LF, pos)
            if end < 0:
                buf.searched = len(data) - pos
                buf._sought = _LF
                buf._start = 0
                return
            if not isinstance(data, bytes):
                data = buf._data = bytes(data)
            size = len(data)
            has_cr = 13 in data
            run = 0
            while end >= 0:
                item = data[pos:end]
                if has_cr and item[-1:] == b"\r":
                    item = item[:-1]
                pos = end + 1
                if pos == size:
                    buf._data = b""
                    buf._pos = 0
                else:
                    buf._pos = pos
                callback: Any = queue.callback
                if queue.more:
                    queue.reader, queue.callback = queue.more.popleft()
                else:
                    queue.reader = queue.callback = None
                callback(h, item)
                if queue.reader is not line or buf._data is not data or buf._pos != pos:
                    break
                run += 1
                if run > _RUN and size - pos > _MANY and h._may_burst:
                    _burst_queued(h, queue, buf, data, pos)
                    break
                end = data.find(_LF, pos)
        elif reader is not None:
            callback = queue.callback
            try:
                value = reader(buf)
            except BaseException as error:
                if not _refused(h, queue, buf, error):
                    return
                continue
            if value is NEED_MORE:
                return
            if queue.callback is callback:
                queue.advance()
            elif h._phase == OPEN:
                queue.remove(callback)  # the reader itself has queued something before it
            else:
                return  # or destroyed the handle
            if buf.searched or buf.state is not None:
                buf.reset_scan()
            if reader.__class__ is TlsAutostart:
                _tls_connection.autostart(h, reader, value)
            callback(h, value)
        elif h._each_reader is not None:
            if not buf or not _serve_each(h, buf):
                return
        elif h._on_read is not None:
            size = len(buf)
            if not size:
                return
            on_read = h._on_read
            try:
                on_read(h)
            except BaseException as error:
                ae.report_error(error)
            if len(buf) == size and queue.reader is None and h._each_reader is None:
                return
        else:
            return


def _serve_each(h: Handle, buf: ReadBuffer) -> bool:
    """Give the standing reader's callback an item, or many; return whether to go on."""
    reader: Any = h._each_reader
    data = buf._data
    if reader is LINE and h._may_burst and isinstance(data, bytes) and not buf._more:
        pos = buf._pos
        if data.find(_LF, pos + buf.searched) < 0:
            buf.searched = len(data) - pos
            buf._sought = _LF
            buf._start = 0
            return False
        buf.clear()
        return burst(h, bytes(data[pos:])) or h._phase == OPEN
    before = len(buf)
    try:
        value = reader(buf)
    except BadMessage as error:
        _ending.fail(h, error)
        return h._each_reader is not reader or len(buf) != before or h._queue.reader is not None
    except BaseException as error:
        # a bug in the reader: asking it again would not end
        h._each_reader = h._each_callback = None
        ae.report_error(error)
        return True
    if value is NEED_MORE:
        return False
    h._each_callback(h, value)
    # one that consumes nothing is asked again when more has arrived
    return len(buf) != before or h._each_reader is not reader or h._queue.reader is not None


def burst(h: Handle, data: bytes) -> bool:
    """Hand all whole lines of *data*, which come next, to the standing reader's callback.

    What is behind them goes into the buffer, which is empty. Returns whether all went well;
    else ``run`` has to follow. Sets ``_busy`` and ``_later``.
    """
    lines = data.split(_LF)
    h._buf._data = lines.pop()
    rest = iter(lines)
    h._burst = rest
    h._busy = 2
    h._later = True
    callback = h._each_callback
    try:
        if 13 in data:
            for line in rest:
                callback(h, line[:-1] if line and line[-1] == 13 else line)
        else:
            for line in rest:
                callback(h, line)
    except BaseException as error:
        ae.report_error(error)
        unburst(h)
        h._may_burst = True
        return False
    if h._burst is not rest:
        return False  # somebody wanted the buffer to be right
    h._burst = None
    h._busy = 1
    return True


def _burst_queued(h: Handle, queue: ReadQueue, buf: ReadBuffer, data: bytes, pos: int) -> None:
    """Hand all whole lines in ``data[pos:]`` to the requests for lines, until another is due."""
    end = data.rfind(_LF)
    if end < pos:
        h._may_burst = False  # no line is there: the search for one is not needed again
        return
    lines = data[pos:end].split(_LF)
    if end + 1 == len(data):
        buf._data = b""
        buf._pos = 0
    else:
        buf._pos = end + 1
    line = LINE
    has_cr = 13 in data
    rest = iter(lines)
    h._burst = rest
    try:
        for item in rest:
            callback = queue.callback
            if queue.more:
                queue.reader, queue.callback = queue.more.popleft()
            else:
                queue.reader = queue.callback = None
            callback(h, item[:-1] if has_cr and item and item[-1] == 13 else item)
            if queue.reader is not line:
                unburst(h)
        h._burst = None
    finally:
        if h._burst is not None:  # the callback raised
            unburst(h)
            h._may_burst = True


def offer(h: Handle, data: bytes) -> bool:
    """Give *data*, which is all there is, to on_read; return whether it was consumed, and all.

    If not, everything that follows from that is done. Otherwise ``_busy`` and ``_later`` are
    still set.
    """
    buf = h._buf
    buf._data = data
    size = h._read_size
    if len(data) == size and size < h._max_read_size:
        h._read_size = min(2 * size, h._max_read_size)
    h._may_burst = True
    h._busy = 1
    h._later = True
    callback: Any = h._on_read
    try:
        callback(h)
    except BaseException as error:
        ae.report_error(error)
    if not buf._data:
        if h._simple and h._on_read is not None and h._queue.reader is None:
            return True
        run(h)
    elif len(buf) == len(data) and h._queue.reader is None and h._each_reader is None:
        _settle(h)  # it wants more
    else:
        run(h)
    return False


def unburst(h: Handle) -> None:
    """Put the lines back that were split off and not handed out."""
    lines = h._burst
    if lines is None:
        return
    h._burst = None
    h._may_burst = False
    h._busy = 1
    rest = list(lines)
    if rest:
        rest.append(b"")
        h._buf.unread(_LF.join(rest))


def _refused(h: Handle, queue: ReadQueue, buf: ReadBuffer, error: BaseException) -> bool:
    """Deal with what the front request's reader raised; return whether to go on."""
    callback = queue.callback
    if not isinstance(error, BadMessage):
        # a bug in the reader: it is out, as a callback would be
        queue.advance()
        buf.reset_scan()
        if isinstance(callback, Awaited):
            callback.throw(error)
        else:
            ae.report_error(error)
        return True
    if isinstance(callback, Awaited):
        queue.advance()
        buf.reset_scan()
        callback.throw(error)
        return True
    before = len(buf)
    _ending.fail(h, error)
    return queue.callback is not callback or len(buf) != before


# ---------------------------------------------------------------------- after a drain


def _settle(h: Handle) -> None:
    """Do what a drain leaves to do."""
    h._busy = 0
    if h._phase != OPEN:
        h._later = False
        return
    _writing.settle(h)
    if h._eof:
        at_end(h)
    elif (
        h._max_read_buffer is not None
        and h._buf
        and len(h._buf) > h._max_read_buffer
        and has_reader(h)
    ):
        _ending.fail(
            h,
            BufferLimitExceeded(
                f"{len(h._buf)} bytes are unread, max_read_buffer is {h._max_read_buffer}"
            ),
        )
    _after_event(h)


def _after_event(h: Handle) -> None:
    if h._phase == OPEN:
        update_interest(h)
    if h._due:
        _lifecycle.do_due(h)


def has_reader(h: Handle) -> bool:
    """Whether somebody wants what arrives."""
    return h._queue.reader is not None or h._on_read is not None or h._each_reader is not None


def update_interest(h: Handle) -> None:
    """Start or stop watching for input."""
    tls = h._tls
    if (
        h._eof
        or h._write_error is not None
        or (h._stopped and not (tls is not None and tls.in_handshake))
    ):
        wanted = False
    elif h._queue.reader is not None or h._on_read is not None or h._each_reader is not None:
        wanted = True
    elif tls is not None or h._watch_eof:
        # nobody asks: read ahead, to notice the end, but no more than the limit
        limit = h._max_read_buffer
        wanted = limit is None or len(h._buf) <= limit
    else:
        wanted = False
    if wanted:
        if h._reading is None:
            events = h._events
            callback = events.readable if tls is None else events.readable_tls
            h._reading = watch(h._io, "r", callback, events.read_refused)
            if not h._simple:
                _writing.refresh(h)
    elif h._reading is not None:
        h._reading.cancel()
        h._reading = None


# ---------------------------------------------------------------------- the end of the stream


def receive_failed(h: Handle, error: OSError) -> None:
    """Deal with what ``recv`` raised."""
    if isinstance(error, (BlockingIOError, InterruptedError)):
        return
    if h._reading is not None:
        h._reading.cancel()
        h._reading = None
    if h._tls is not None and not h._tls.announced:
        _tls_connection.lost(h, error)
        return
    failure = TransportError(error.strerror or str(error), errno=error.errno)
    failure.__cause__ = error.with_traceback(None)
    _ending.fail(h, failure)


def end_of_stream(h: Handle) -> None:
    """Nothing more will arrive: offer what is left, then say so."""
    if h._reading is not None:
        h._reading.cancel()
        h._reading = None
    if not h._eof:
        h._eof = 1
    if h._buf._data or h._due or h._tls is not None:
        drain(h)
    elif not h._busy:  # the readers have seen all there is
        at_end(h)
        if h._phase == OPEN:
            _after_event(h)


def at_end(h: Handle) -> None:
    """The stream has ended, and the readers have had their chance."""
    queue = h._queue
    buf = h._buf
    while h._phase == OPEN and not h._busy:
        if h._eof >= BROKEN:
            _ending.tell(h)
            return
        reader = queue.reader
        if reader is not None:
            value = _finish(reader, buf) if buf._data else END
            if value is not END:
                call(h, queue.advance(), value)
            elif isinstance(queue.callback, Next) and not buf._data:
                if h._on_eof is None:
                    h._eof = TOLD  # the iterator has been
                call(h, queue.advance(), END)
            else:
                why = "the stream ended inside a request"
                _ending.fail(h, UnexpectedEOF(_left(why, buf) if buf._data else why))
                return
        elif h._each_reader is not None and buf._data:
            value = _finish(h._each_reader, buf)
            if value is not END:
                call(h, h._each_callback, value)
            elif buf._data:
                _ending.fail(h, UnexpectedEOF(_left("the stream ended inside a frame", buf)))
                return
        elif h._on_read is not None and buf:
            _ending.fail(h, UnexpectedEOF(_left("the stream ended with unread data", buf)))
            return
        elif h._eof != TOLD:
            if h._on_eof is not None:
                h._eof = TOLD
                call(h, h._on_eof)
            elif has_reader(h) or _ending.is_untold(h):
                _ending.fail(h, UnexpectedEOF())
                return
            else:
                return  # nobody has asked: it will be told to whoever does
        else:
            return
        if h._phase == OPEN:
            h._busy = 1
            h._later = True
            while True:
                try:
                    _serve(h, queue, buf)
                    break
                except BaseException as error:
                    ae.report_error(error)
            h._busy = 0
            _writing.settle(h)


def _finish(reader: Any, buf: ReadBuffer) -> Any:
    """Return what the end of the stream makes complete, or END."""
    at_eof = getattr(reader, "at_eof", None)
    if at_eof is None:
        return END
    try:
        value = at_eof(buf)
    except BadMessage:
        return END
    return END if value is NEED_MORE else value


def _left(what: str, buf: ReadBuffer) -> str:
    return f"{what}, {len(buf)} bytes are unread"


def call(h: Handle, callback: Any, *args: Any) -> None:
    """Call back from here, as from a drain."""
    h._busy = 1
    h._later = True
    try:
        callback(h, *args)
    except BaseException as error:
        ae.report_error(error)
    if h._phase == OPEN:
        h._busy = 0
