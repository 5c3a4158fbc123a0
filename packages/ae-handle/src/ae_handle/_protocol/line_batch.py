"""Lines that are split off many at a time, for a standing reader or for queued requests."""

from __future__ import annotations

__all__ = ("LineBatches",)

from itertools import repeat

from .._phases import DISPATCHING, GUARDED
from .registry import LINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .._buffers.read_buffer import ReadBuffer
    from .owner import Owner
    from .read_queue import ReadQueue

# Theory of operation
# -------------------
# A standing reader of lines (`read_each`), or a series of queued requests for lines, gets a
# *batch*: all whole lines are split off in one call and handed out by a plain for loop over an
# iterator. While that runs, the lines that were not handed out are in the iterator, not in the
# buffer. Whatever needs the complete buffer (read_buffer, a request for something else, destroy)
# first calls `put_back_lines`, which returns them and so ends the loop; until the next read,
# lines are then handed out one by one, so this cannot become quadratic.

_LF = b"\n"


def _without_cr(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Return the rest of *lines*, each without the CR at its end if it has one."""
    return map(bytes.removesuffix, lines, repeat(b"\r"))


class LineBatches:
    """The part of the read side that hands out lines.

    Attributes:
        buffer: What has arrived and was not read.
        queue: The requests.
        dispatching: ``IDLE``, ``DISPATCHING`` or ``GUARDED``.
        each_reader: The standing reader, None without one.
        each_callback: Its callback.
        line_batch: The lines that are being handed out, None if there are none.
        may_batch: Whether lines may be split off in advance, until the next read.
    """

    __slots__ = (
        "buffer",
        "dispatching",
        "each_callback",
        "each_reader",
        "line_batch",
        "may_batch",
        "queue",
    )

    buffer: ReadBuffer
    dispatching: int
    each_callback: Any
    each_reader: Any
    line_batch: Iterator[bytes] | None
    may_batch: bool
    queue: ReadQueue

    def dispatch_lines(self, owner: Owner, data: bytes) -> bool:
        """Call the standing reader's callback with all whole lines of *data*.

        *data* comes before what is in the buffer, which is nothing; what is behind the last line
        goes there. Returns whether all lines were handed out; if not, ``dispatch`` has to follow.
        Leaves ``dispatching`` set.
        """
        lines = data.split(_LF)
        self.buffer._data = lines.pop()
        rest = iter(lines)
        self.line_batch = rest
        self.dispatching = GUARDED
        callback = self.each_callback
        try:
            for line in _without_cr(rest) if 13 in data else rest:
                callback(owner, line)
        except BaseException as error:
            owner._callback_failed(error)
            self.put_back_lines()
            self.may_batch = True
            return False
        if self.line_batch is not rest:
            return False  # they were put back
        self.line_batch = None
        self.dispatching = DISPATCHING
        return True

    def _dispatch_queued_lines(self, owner: Owner, data: bytes, pos: int) -> None:
        """Answer requests for lines with the whole lines of ``data[pos:]``.

        Stops when another request is in front.
        """
        queue = self.queue
        buffer = self.buffer
        end = data.rfind(_LF)
        if end < pos:
            self.may_batch = False  # no line is there: the search for one is not needed again
            return
        lines = data[pos:end].split(_LF)
        if end + 1 == len(data):
            buffer._data = b""
            buffer._pos = 0
        else:
            buffer._pos = end + 1
        line = LINE
        rest = iter(lines)
        self.line_batch = rest
        try:
            for item in _without_cr(rest) if 13 in data else rest:
                callback: Any = queue.callback
                if queue.more:
                    queue.reader, queue.callback = queue.more.popleft()
                else:
                    queue.reader = queue.callback = None
                callback(owner, item)
                if queue.reader is not line:
                    self.put_back_lines()
            self.line_batch = None
        finally:
            if self.line_batch is not None:  # the callback raised
                self.put_back_lines()
                self.may_batch = True

    def put_back_lines(self) -> None:
        """Put the lines back that were split off and not handed out."""
        lines = self.line_batch
        if lines is None:
            return
        self.line_batch = None
        self.may_batch = False
        self.dispatching = DISPATCHING
        rest = list(lines)
        if rest:
            rest.append(b"")
            self.buffer.unread(_LF.join(rest))
