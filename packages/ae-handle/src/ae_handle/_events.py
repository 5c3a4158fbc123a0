"""What the loop calls: a handle's event callbacks, which do not keep the handle alive.

The hot path of the whole package is :meth:`Events.readable`.
"""

from __future__ import annotations

__all__ = ("Events",)

from typing import TYPE_CHECKING
from weakref import ref

import ae_core as ae

from . import _lifecycle, _reading, _tls_connection, _writing
from ._phases import DUE_READ
from ._protocol.registry import LINE

if TYPE_CHECKING:
    from ._handle import Handle

# Theory of operation
# -------------------
# A handle is an interest: when its user forgets it, it has to go. So its watchers call a weak
# reference that carries the callbacks as methods: one C call (30 ns) to look whether the handle
# is there, no closure, no extra frame. For as long as a callback runs, the frame holds the
# handle; while it connects or something waits for it, `_lifecycle.hold` does.
#
# No callback of the user runs inside a call of the user. What a call finds to be due is noted in
# `handle._due`, and `turn` is postponed, once. `_busy` says that a drain runs: 1, or 2 while a
# burst of lines is handed out (see `_reading`); requests then only queue.


class Events(ref["Handle"]):
    """A weak reference to a handle whose methods are the handle's event callbacks.

    Attributes:
        held: The handle itself, for as long as the loop is to keep it alive.
    """

    __slots__ = ("held",)

    held: Handle | None

    def readable(self) -> None:
        """Read once, and offer what came to the queue."""
        h = self()
        if h is None:
            return
        try:
            data = h._io.recv(h._read_size)
        except OSError as error:
            _reading.receive_failed(h, error)
            return
        h._read_at = h._clock()
        if not data:
            _reading.end_of_stream(h)
            return
        # Three shortcuts: one whole line for a waiting "line" request, by far the most frequent
        # event of a request-response server (0.35 us instead of 1.2 through the general drain);
        # lines for a standing reader; anything for an on_read that consumes all.
        queue = h._queue
        buf = h._buf
        if buf._data or h._busy:
            buf.feed(data)
        elif queue.reader is LINE:
            line, end, rest = data.partition(b"\n")
            if end and not rest:
                callback = queue.callback
                if queue.more:
                    queue.reader, queue.callback = queue.more.popleft()
                else:
                    queue.reader = queue.callback = None
                h._busy = 1
                h._later = True
                try:
                    callback(h, line[:-1] if line and line[-1] == 13 else line)
                except BaseException as error:
                    ae.report_error(error)
                if queue.reader is LINE and h._simple and not buf._data:
                    h._busy = 0
                    h._later = False
                    pieces = h._pieces
                    if len(pieces) != 1:
                        if pieces:
                            self._send(h)
                        return
                    # `_send`, written out for one answer: 50 ns of 6 us
                    data = pieces.pop()
                    h._out._counted = 0
                    try:
                        sent = h._io.send(data)
                    except OSError as error:
                        _writing.send_failed(h, data, error)
                    else:
                        h._wrote_at = h._read_at
                        if sent == len(data):
                            return
                        h._out.block = memoryview(data)[sent:]
                        _writing.flush(h)
                    if h._due:
                        _lifecycle.do_due(h)
                    return
                _reading.run(h)
                return
            buf.feed(data)
        elif queue.reader is None and h._each_reader is LINE and b"\n" in data:
            h._may_burst = True
            if _reading.burst(h, data) and h._simple and not buf._data:
                h._busy = 0
                h._later = False
                if h._pieces:
                    self._send(h)
                return
            _reading.run(h)
            return
        elif queue.reader is None and h._on_read is not None:
            if _reading.offer(h, data):
                h._busy = 0
                h._later = False
                if h._pieces:
                    self._send(h)
            return
        else:
            buf.feed(data)
        h._may_burst = True
        if len(data) == h._read_size and h._read_size < h._max_read_size:
            h._read_size = min(2 * h._read_size, h._max_read_size)
        if h._busy:
            return  # a loop inside a callback: the drain outside goes on with it
        h._busy = 1
        h._later = True
        _reading.run(h)

    def _send(self, h: Handle) -> None:
        """Send what a shortcut's callbacks have written: `_writing.flush` for the simple case."""
        out = h._out
        data = out.next()
        try:
            sent = h._io.send(data)
        except OSError as error:
            _writing.send_failed(h, data, error)
        else:
            h._wrote_at = h._read_at
            if sent == len(data) and not out.pieces:
                return
            out.block = memoryview(data)[sent:]
            _writing.flush(h)
        if h._due:
            _lifecycle.do_due(h)

    def readable_tls(self) -> None:
        """Read ciphertext once."""
        h = self()
        if h is None:
            return
        tls = h._tls
        if tls is not None and tls.streaming and _reading.has_reader(h):
            _tls_connection.receive_much(h, tls)
            return
        try:
            data = h._io.recv(h._max_read_size)
        except OSError as error:
            _reading.receive_failed(h, error)
            return
        h._read_at = h._clock()
        h._may_burst = True
        if data:
            if tls is not None:
                tls.streaming = tls.recv_into is not None and len(data) == h._max_read_size
            _tls_connection.receive(h, data)
        else:
            _tls_connection.end_of_stream(h)

    def writable(self) -> None:
        """Send what is left."""
        h = self()
        if h is not None:
            _writing.flush(h)
            if h._due:
                _lifecycle.do_due(h)

    def read_refused(self, error: OSError) -> None:
        """The loop cannot watch the stream for input."""
        h = self()
        if h is not None:
            _reading.receive_failed(h, error)

    def write_refused(self, error: OSError) -> None:
        """The loop cannot watch the stream for room."""
        h = self()
        if h is not None:
            _writing.send_failed(h, b"", error)
            if h._due:
                _lifecycle.do_due(h)

    def turn(self) -> None:
        """Do what was found to be due inside a call."""
        h = self()
        if h is not None:
            h._turn_posted = False
            _lifecycle.do_due(h)

    def go_on(self) -> None:
        """Go on with what is due, after others had their turn."""
        h = self()
        if h is not None:
            h._again = None
            _lifecycle.do_due(h)

    def look_again(self) -> None:
        """Offer the rest of the buffer of a broken handle once more, and tell the error."""
        h = self()
        if h is not None:
            h._again = None
            h._due |= DUE_READ
            _lifecycle.do_due(h)

    def tick(self) -> None:
        """Look which time-outs are due."""
        h = self()
        if h is not None:
            _lifecycle.tick(h)
