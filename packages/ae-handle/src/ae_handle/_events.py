"""What the loop calls: a handle's event callbacks, which do not keep the handle alive.

The hot path of the whole package is :meth:`Events.readable`.
"""

from __future__ import annotations

__all__ = ("Events",)

from weakref import ref

import ae_core as ae

from ._phases import DISPATCHING, DUE_READ, IDLE
from ._protocol.registry import AWAITED_LINE, LINE
from ._tls_connection import TlsConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Theory of operation
# -------------------
# A handle ends when the program drops it, so its watchers must not keep it alive: they call a weak
# reference that carries the callbacks as methods: one C call (30 ns) to look whether the handle
# still exists, no closure, no extra frame. For as long as a callback runs, the frame holds the
# handle; while it connects or something waits for it, `keep_alive` does.


class Events(ref[TlsConnection]):
    """A weak reference to a handle whose methods are the handle's event callbacks.

    Attributes:
        kept: The handle itself, for as long as the loop is to keep it alive.
    """

    __slots__ = ("kept",)

    kept: TlsConnection | None

    def keep_alive(self, handle: Any) -> None:
        """Keep *handle* alive, by what the watchers call; None ends that."""
        self.kept = handle

    def readable(self) -> None:
        """Read once, and dispatch what was read."""
        h = self()
        if h is None:
            return
        read = h._read
        try:
            data = h._stream.recv(read.read_size)
        except OSError as error:
            h._receive_failed(error)
            return
        # fast path: attributes of the sides instead of their methods: 45 ns each of 5.6 us; a
        # callable in a slot is read first: called as if it were a method it costs 4 times as much
        clock = h._clock
        read.last_at = clock()
        if not data:
            h._input_ended()
            return
        # Three shortcuts: one whole line for a "line" request, by far the most frequent event of
        # a request-response server (0.35 us instead of 1.2 through `dispatch`); lines for a
        # standing reader; anything for an on_read that consumes all.
        queue = read.queue
        reader = queue.reader
        buf = read.buffer
        if buf._data or read.dispatching:
            buf.feed(data)
        elif reader is LINE and read.untaken is None:
            line, end, rest = data.partition(b"\n")
            if end and not rest:
                write = h._write
                callback: Any = queue.callback
                if queue.more:
                    queue.reader, queue.callback = queue.more.popleft()
                else:
                    queue.reader = queue.callback = None
                read.dispatching = DISPATCHING
                write.deferred = write.pieces
                try:
                    callback(h, line[:-1] if line and line[-1] == 13 else line)
                except BaseException as error:
                    ae.report_error(error)
                if queue.reader is LINE and h._fast_path and not buf._data:
                    read.dispatching = IDLE
                    write.deferred = None
                    pieces = write.pieces
                    if len(pieces) != 1:
                        if pieces:
                            self._send(h)
                        return
                    # fast path: `_send`, written out for one answer: 50 ns of 5.6 us
                    data = pieces.pop()
                    write.queue._counted = 0
                    try:
                        sent = h._stream.send(data)
                    except OSError as error:
                        h._send_failed(error, data)
                    else:
                        write.last_at = read.last_at
                        if sent == len(data):
                            return
                        write.queue.offer(memoryview(data)[sent:])
                        h._flush()
                    if h._work_due:
                        h._run_due_work()
                    return
                h._run_dispatch()
                return
            buf.feed(data)
        elif reader is AWAITED_LINE:
            if data.find(b"\n") == len(data) - 1:
                # the same for a coroutine, which may give it back: `deliver_line`
                h._write.defer()
                read.deliver_line(h, data)
                if buf._data:
                    h._run_dispatch()
                else:
                    h._after_dispatch()
                return
            buf.feed(data)
        elif reader is not None or read.untaken is not None:
            buf.feed(data)
        elif read.each_reader is LINE and b"\n" in data:
            read.may_batch = True
            h._write.defer()
            if read.dispatch_lines(h, data) and h._fast_path and not buf._data:
                read.dispatching = IDLE
                h._write.deferred = None
                if h._write.pieces:
                    self._send(h)
                return
            h._run_dispatch()
            return
        elif read.on_read is not None:
            h._write.defer()
            if h._work_due:
                h._clear_due(DUE_READ)
            if read.dispatch_raw(h, data) and h._fast_path:
                h._write.deferred = None
                if h._write.pieces:
                    self._send(h)
            else:
                h._after_dispatch()
            return
        else:
            buf.feed(data)
        read.may_batch = True
        size = len(data)
        if size == read.read_size and size < read.max_read_size:
            read.grew(size)
        if read.dispatching:
            return  # a loop inside a callback: the dispatch outside goes on with it
        h._write.defer()
        if h._work_due:
            h._clear_due(DUE_READ)
        read.dispatch(h)
        h._after_dispatch()

    def _send(self, h: TlsConnection) -> None:
        """Send what a shortcut's callbacks have written: ``_flush`` for the simple case."""
        write = h._write
        out = write.queue
        data = out.next()
        try:
            sent = h._stream.send(data)
        except OSError as error:
            h._send_failed(error, data)
        else:
            # fast path: as in `readable`
            write.last_at = h._read.last_at
            if sent == len(data) and not out.pieces:
                return
            out.offer(memoryview(data)[sent:])
            h._flush()
        if h._work_due:
            h._run_due_work()

    def readable_tls(self) -> None:
        """Read ciphertext once."""
        h = self()
        if h is None:
            return
        tls = h._tls
        read = h._read
        if tls is not None and tls.streaming and read.has_reader():
            h._receive_much(tls)
            return
        size = read.max_read_size
        try:
            data = h._stream.recv(size)
        except OSError as error:
            h._receive_failed(error)
            return
        read.last_at = h._clock()
        if data:
            if tls is not None and (tls.streaming or len(data) == size):
                tls.read_full(len(data) == size)
            h._receive(data)
        else:
            read.allow_batches()
            h._stream_ended()

    def writable(self) -> None:
        """Send what is left."""
        h = self()
        if h is not None:
            h._flush()
            if h._work_due:
                h._run_due_work()

    def read_refused(self, error: OSError) -> None:
        """The loop cannot watch the stream for input."""
        h = self()
        if h is not None:
            h._receive_failed(error)

    def write_refused(self, error: OSError) -> None:
        """The loop cannot watch the stream for output."""
        h = self()
        if h is not None:
            h._send_failed(error)
            if h._work_due:
                h._run_due_work()

    def run_due_work(self) -> None:
        """Do the work that a call has left to an event."""
        h = self()
        if h is not None:
            h._work_was_posted()

    def resume_work(self) -> None:
        """Go on with the work that is due, after other events were handled."""
        h = self()
        if h is not None:
            h._work_resumed()

    def dispatch_again(self) -> None:
        """Dispatch the rest of the buffer of a broken handle, and report the error."""
        h = self()
        if h is not None:
            h._work_resumed(DUE_READ)

    def on_inactivity_timer(self) -> None:
        """Check which timeouts have passed."""
        h = self()
        if h is not None:
            h._check_inactivity()
