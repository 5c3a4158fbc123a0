"""The read side of a handle: the buffer, the requests, and the loop that brings them together.

Has no stream: bytes are fed, callbacks are called, errors go to the owner.
"""

from __future__ import annotations

__all__ = ("ReadSide",)

from functools import partial
from types import FunctionType as Function

from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage, BufferLimitExceeded, UnexpectedEOF
from .._phases import BROKEN, DISPATCHING, ENDED, GUARDED, IDLE, NOT_ENDED, TOLD
from .line_batch import LineBatches
from .read_queue import END, PendingRead, PendingRequest, ReadQueue, at_eof
from .registry import LINE
from .untaken import Untaken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from .owner import Owner

# Theory of operation
# -------------------
# One dispatch at a time: `dispatching` is set, callbacks that push or unshift requests only queue
# them, and the loop takes them up when the callback has returned. It ends when the front request
# needs more, or there is no reader. A queued "line" is searched and cut here, without a call.

_LF = b"\n"

# When it pays to split queued lines off together (0.2 us instead of 0.36 a line): so many lines
# in a row were asked for, and so many bytes are left. Not where lines and bodies alternate.
_RUN: Final = 4
_MANY: Final = 512

# In how many turns of the loop a coroutine that awaited an item has asked for the next one, also
# if each comes through a task or two of its own. asyncio needs 1 to 5, trio up to twice as many.
_GRACE: Final = 16


class ReadSide(LineBatches):
    """What has arrived, its readers, and how the input ended.

    Attributes:
        on_read: Called when something is unread and there is no request, or None.
        on_eof: Called when the input has ended, or None.
        watch_eof: Whether the end is to be noticed while there is no reader.
        max_buffer: How many bytes may remain unread, None for no limit.
        read_size: The most that is read in one call.
        max_read_size: What *read_size* may grow to.
        last_at: When something was read last.
        paused: Whether ``stop_read`` was called.
        eof: How the input ended: ``NOT_ENDED``, ``ENDED``, ``TOLD``, ``BROKEN``, ``BROKEN_TOLD``.
        closed: Whether the handle has failed or was destroyed: no request is answered any more.
        iterators: How many iterators of ``each`` there are.
        grace: For how many turns an error still waits for the next read of a coroutine.
        untaken: Items of coroutines that were delivered and may be given back; None for none.
    """

    __slots__ = (
        "closed",
        "eof",
        "grace",
        "iterators",
        "last_at",
        "max_buffer",
        "max_read_size",
        "on_eof",
        "on_read",
        "paused",
        "read_size",
        "untaken",
        "watch_eof",
    )

    def __init__(
        self,
        on_read: Any = None,
        on_eof: Any = None,
        max_buffer: int | None = None,
        read_size: int = 65536,
        max_read_size: int = 65536,
        watch_eof: bool = False,
    ) -> None:
        # those of the base class here: a call of its constructor costs 1.5 % of making a handle
        self.buffer = ReadBuffer()
        self.queue = ReadQueue()
        self.dispatching = IDLE
        self.each_reader = None
        self.each_callback = None
        self.line_batch = None
        self.may_batch = True
        self.on_read = on_read
        self.on_eof = on_eof
        self.max_buffer = max_buffer
        self.read_size = read_size
        self.max_read_size = max_read_size
        self.watch_eof = watch_eof
        self.last_at = 0.0
        self.paused = False
        self.eof = NOT_ENDED
        self.closed = False
        self.iterators = 0
        self.grace = 0
        self.untaken: Untaken | None = None

    # ------------------------------------------------------------------ input

    def feed(self, data: bytes | memoryview) -> None:
        """Append *data*, which has arrived, to the buffer."""
        self.buffer.feed(data)
        self.may_batch = True

    def feed_pieces(self, pieces: list[bytes]) -> None:
        """Append *pieces*, at least one, to the buffer, and take the list over."""
        self.may_batch = True
        if len(pieces) == 1:
            self.buffer.feed(pieces[0])
        elif self.queue.reader is LINE or self.each_reader is LINE:
            self.buffer.feed(b"".join(pieces))  # the search would join them, less well
        else:
            self.buffer.feed_pieces(pieces)

    def allow_batches(self) -> None:
        """Allow lines to be split off in advance again: something was read."""
        self.may_batch = True

    def end_input(self) -> None:
        """Note that nothing more will arrive."""
        if not self.eof:
            self.eof = ENDED

    def set_ended(self) -> None:
        """Note that the input has ended, also if it was told before."""
        self.eof = ENDED

    def break_input(self) -> None:
        """Note that nothing more will arrive because of the handle's error."""
        self.eof = BROKEN

    def note_eof_told(self, eof: int) -> None:
        """Note that the end was reported: ``TOLD`` or ``BROKEN_TOLD``."""
        self.eof = eof

    def touched(self, now: float) -> None:
        """Note that something was read *now*."""
        self.last_at = now

    def grew(self, size: int) -> None:
        """Read more the next time if *size*, which was read, was all that was asked for."""
        if size == self.read_size and size < self.max_read_size:
            self.read_size = min(2 * size, self.max_read_size)

    def cap_read_size(self) -> None:
        """Keep ``read_size`` within ``max_read_size``."""
        self.read_size = min(self.read_size, self.max_read_size)

    # ------------------------------------------------------------------ readers

    def has_reader(self) -> bool:
        """Whether there is a request, a standing reader or an ``on_read``."""
        return not (self.queue.reader is None and self.on_read is None and self.each_reader is None)

    def wants_input(self) -> bool:
        """Whether the stream is to be read; without a reader, ahead up to ``max_buffer``."""
        if self.eof or self.paused:
            return False
        return self.has_reader() or (self.watch_eof and self.has_room())

    def has_room(self) -> bool:
        """Whether no more than ``max_buffer`` is unread."""
        return self.max_buffer is None or len(self.buffer) <= self.max_buffer

    def is_over_limit(self) -> bool:
        """Whether the readers have left more than ``max_buffer``."""
        return not self.has_room() and self.has_reader()

    def limit_error(self) -> BufferLimitExceeded:
        """Return the error of a buffer that is over its limit."""
        return BufferLimitExceeded(
            f"{len(self.buffer)} bytes are unread, max_read_buffer is {self.max_buffer}"
        )

    def add(self, reader: Any, callback: Any, front: bool = False) -> None:
        """Queue a request, behind all others or before them."""
        if self.line_batch is not None:
            self.put_back_lines()
        queue = self.queue
        buffer = self.buffer
        if queue.reader is None:
            queue.reader = reader
            queue.callback = callback
        elif front:
            queue.unshift(reader, callback)
        else:
            queue.push(reader, callback)
            return
        if buffer.searched or buffer.state is not None:
            buffer.reset_scan()

    def add_next(self, reader: Any, request: PendingRequest) -> None:
        """Queue the request of an iterator for a line, of which nothing is buffered."""
        self.queue.push(reader, request)

    def withdraw(self, request: PendingRequest) -> bool:
        """Take *request* back; return whether another one is in front now."""
        if self.queue.callback is request:
            self.queue.advance()
            self.buffer.reset_scan()
            return True
        self.queue.remove(request)
        return False

    def withdraw_pending(self) -> list[PendingRequest]:
        """Take all requests of coroutines back and return them; the others stay."""
        pending = self.queue.remove_pending()
        if pending:
            self.buffer.reset_scan()
        return pending

    def set_standing_reader(self, reader: Any, callback: Any) -> None:
        """Give every item to *callback* from now on, instead of calling ``on_read``."""
        self.forget_standing_reader()
        self.on_read = None
        self.buffer.reset_scan()
        self.each_reader = reader
        self.each_callback = callback

    def forget_standing_reader(self) -> None:
        """End the standing reader, if there is one."""
        self.put_back_lines()
        self.each_reader = self.each_callback = None

    def pause(self) -> None:
        """Read nothing more for now."""
        self.paused = True
        if self.dispatching:
            self.put_back_lines()
            self.dispatching = GUARDED

    def resume(self) -> None:
        """Read again."""
        if self.paused:
            self.paused = False
            if self.dispatching:
                self.dispatching = DISPATCHING

    def reveal_buffer(self) -> None:
        """Make the buffer complete for the program, which may take from it."""
        if self.line_batch is not None:
            self.put_back_lines()
        self.untaken = None

    def forget_callbacks(self) -> None:
        """Set all callbacks to None; requests stay queued."""
        self.on_read = self.on_eof = None
        self.each_reader = self.each_callback = None

    # ------------------------------------------------------------------ items of coroutines

    def iterator_started(self) -> None:
        """Note that there is one more iterator."""
        self.iterators += 1

    def iterator_ended(self) -> bool:
        """Note that there is one less; return whether the end of the input can be told now."""
        self.iterators -= 1
        return bool(self.eof) and not self.iterators

    def delivered(self, item: Any) -> None:
        """Note that *item*, a weak reference, was delivered; its task has not run yet."""
        self.grace = _GRACE
        if self.untaken is None:
            self.untaken = Untaken(item)
        else:
            self.untaken.add(item)

    def return_item(self, request: PendingRead) -> bool | None:
        """Put the item of *request*, which was not taken, back to the front of the buffer.

        That waits until the items that were delivered behind it are given back as well. Returns
        whether anything was put back; None if the item is lost, because one behind it was taken,
        or something else has read behind it.
        """
        untaken = self.untaken
        parts = None if untaken is None else untaken.give_back(request)
        if parts is None:
            return None
        for data in parts:
            self.put_back_lines()
            self.buffer.unread(data)
        if not untaken:
            self.untaken = None
        return bool(parts)

    def waits_for_coroutine(self) -> bool:
        """Whether a coroutine is about to read on in what is buffered."""
        return bool(self.buffer._data) and bool(self.iterators or self.grace)

    def spend_grace(self) -> bool:
        """Use up one turn of grace; return whether there was one."""
        had, self.grace = self.grace, max(0, self.grace - 1)
        return had > 0

    def read_now(self, reader: Any) -> Any:
        """Return an item that is buffered already, if no other reader comes first."""
        if self.closed or self.dispatching or not self.buffer or self.has_reader():
            return NEED_MORE
        self.untaken = None
        return reader(self.buffer)

    # ------------------------------------------------------------------ dispatching

    def dispatch(self, owner: Owner) -> None:
        """Answer requests and call callbacks until more input is needed, or there is no reader."""
        self.dispatching = DISPATCHING
        while True:
            try:
                self._serve(owner)
                break
            except BaseException as error:  # of a callback, whose request is answered
                owner._callback_failed(error)
        self.dispatching = IDLE

    def _serve(self, owner: Owner) -> None:
        queue = self.queue
        buf = self.buffer
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
                self.untaken = None  # what is read now is behind it
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
                    callback(owner, item)
                    if queue.reader is not line or buf._data is not data or buf._pos != pos:
                        break
                    run += 1
                    if run > _RUN and size - pos > _MANY and self.may_batch:
                        self._dispatch_queued_lines(owner, data, pos)
                        break
                    end = data.find(_LF, pos)
            elif reader is not None:
                callback = queue.callback
                # most callbacks are functions, for which isinstance() costs 60 ns
                awaited = callback.__class__ is not Function and isinstance(callback, PendingRead)
                try:
                    value = self._read_item(reader, callback) if awaited else reader(buf)
                except BaseException as error:
                    if not self._refused(owner, error):
                        return
                    continue
                if value is NEED_MORE:
                    return
                if queue.callback is callback:
                    if queue.more:
                        queue.reader, queue.callback = queue.more.popleft()
                    else:
                        queue.reader = queue.callback = None
                elif not queue.remove(callback):  # the reader has withdrawn its own request
                    if self.closed:
                        return  # or destroyed the handle
                    continue
                # else it has queued something before it
                if buf.searched or buf.state is not None:
                    buf.reset_scan()
                if not awaited:
                    self.untaken = None
                callback(owner, value)
            elif self.each_reader is not None:
                if not buf or not self._serve_each(owner):
                    return
            elif self.on_read is not None:
                if not (size := len(buf)):
                    return
                fed = buf._fed
                try:
                    self.on_read(owner)
                except BaseException as error:
                    owner._callback_failed(error)
                # a loop inside it may have received as much as it consumed
                same = len(buf) == size and buf._fed == fed
                if same and queue.reader is None and self.each_reader is None:
                    return
            else:
                return

    def _read_item(self, reader: Any, request: PendingRead) -> Any:
        """Return what *reader* reads for *request*, which may give it back."""
        buf = self.buffer
        front, size = buf.mark(), len(buf)
        value = reader(buf)
        if value is not NEED_MORE and value is not END:
            self.delivered(request.consumed(front, size - len(buf)))
        return value

    def deliver_line(self, owner: Owner, data: bytes) -> None:
        """Answer the front request, of a coroutine, with the line *data*, which is all there is."""
        request = self.queue.advance()
        self.may_batch = True
        self.delivered(request.consumed((data, 0, None), len(data)))
        self.call(owner, request, data[:-2] if data[-2:-1] == b"\r" else data[:-1])

    def _serve_each(self, owner: Owner) -> bool:
        """Give the standing reader's callback an item, or many; return whether to go on."""
        buf = self.buffer
        reader: Any = self.each_reader
        data = buf._data
        self.untaken = None
        if reader is LINE and self.may_batch and isinstance(data, bytes) and not buf._more:
            pos = buf._pos
            if data.find(_LF, pos + buf.searched) < 0:
                buf.searched = len(data) - pos
                buf._sought = _LF
                buf._start = 0
                return False
            buf.clear()
            return self.dispatch_lines(owner, bytes(data[pos:])) or not self.closed
        before = len(buf)
        try:
            value = reader(buf)
        except BadMessage as error:
            owner._fail(error)
            return self._goes_on(reader, before)
        except BaseException as error:
            # a fault of the reader: asking it again would not end
            self.each_reader = self.each_callback = None
            owner._callback_failed(error)
            return True
        if value is NEED_MORE:
            return False
        consumed = len(buf) != before
        self.each_callback(owner, value)
        # one that consumes nothing is asked again when more has arrived
        return consumed or self._goes_on(reader, before)

    def _goes_on(self, reader: Any, size: int) -> bool:
        """Whether anything has changed since *reader* was asked."""
        return (
            len(self.buffer) != size
            or self.each_reader is not reader
            or self.queue.reader is not None
        )

    def _refused(self, owner: Owner, error: BaseException) -> bool:
        """Deal with what the front request's reader raised; return whether to go on."""
        queue = self.queue
        buf = self.buffer
        callback = queue.callback
        pending = isinstance(callback, PendingRequest)
        if pending or not isinstance(error, BadMessage):
            # a fault of the reader ends its request, as one of a callback does
            queue.advance()
            buf.reset_scan()
            if pending:
                callback.throw(error)
            else:
                owner._callback_failed(error)
            return True
        before = len(buf)
        owner._fail(error)
        return queue.callback is not callback or len(buf) != before

    def dispatch_raw(self, owner: Owner, data: bytes) -> bool:
        """Give *data*, which is all there is, to ``on_read``.

        Returns whether it has taken everything, and nothing else is to be done.
        """
        buf = self.buffer
        buf._data = data
        size = self.read_size
        if len(data) == size and size < self.max_read_size:
            self.grew(size)
        self.may_batch = True
        self.dispatching = DISPATCHING
        callback: Any = self.on_read
        try:
            callback(owner)
        except BaseException as error:
            owner._callback_failed(error)
        self.dispatching = IDLE
        idle = self.queue.reader is None and self.each_reader is None
        if not buf._data:
            if self.on_read is not None and self.queue.reader is None:
                return True
        elif idle and buf._data is data and not buf._pos and not buf._more:
            return False  # it needs more
        self.dispatch(owner)
        return False

    def call(self, owner: Owner, callback: Any, *args: Any) -> None:
        """Call *callback* as ``dispatch`` does: what it asks for is only queued."""
        self.dispatching = DISPATCHING
        try:
            callback(owner, *args)
        except BaseException as error:
            owner._callback_failed(error)
        self.dispatching = IDLE

    # ------------------------------------------------------------------ the end

    def finish(self, owner: Owner, report: bool) -> bool:
        """Take the next step at the end of the input; return whether there is another one.

        The readers have had everything. With *report*, an end is an error if no read is pending.
        """
        queue = self.queue
        buf = self.buffer
        reader = queue.reader
        if reader is not None:
            callback: Any = queue.callback
            value: Any = END
            if buf._data:
                if isinstance(callback, PendingRead):
                    value = self._read_item(partial(at_eof, reader), callback)
                elif (value := at_eof(reader, buf)) is not END:
                    self.untaken = None  # what is read now is behind it
            if value is not END:
                self.call(owner, queue.advance(), value)
            elif isinstance(callback, PendingRequest) and callback.accepts_end and not buf._data:
                if self.on_eof is None:
                    self.eof = TOLD  # the iterator has been
                self.call(owner, queue.advance(), END)
            else:
                why = "the stream ended inside a request"
                owner._fail(UnexpectedEOF(self._left(why) if buf._data else why))
                return False
        elif self.each_reader is not None and buf._data:
            if (value := at_eof(self.each_reader, buf)) is not END:
                self.call(owner, self.each_callback, value)
            elif buf._data:
                owner._fail(UnexpectedEOF(self._left("the stream ended inside a frame")))
                return False
        elif self.on_read is not None and buf:
            owner._fail(UnexpectedEOF(self._left("the stream ended with unread data")))
            return False
        elif self.eof == TOLD:
            return False
        elif self.on_eof is not None:
            self.eof = TOLD
            self.call(owner, self.on_eof)
        else:
            if self.has_reader() or (report and self.watch_eof and not self.iterators):
                owner._fail(UnexpectedEOF())
            # else no read is pending: the next one reports it
            return False
        return True

    def _left(self, what: str) -> str:
        return f"{what}, {len(self.buffer)} bytes are unread"

    def close(self) -> list[PendingRequest]:
        """Answer no request any more; return those that coroutines wait for."""
        self.put_back_lines()
        self.closed = True
        self.dispatching = IDLE
        return [] if self.queue.reader is None else self.queue.clear()

    def discard_unread(self) -> None:
        """Drop what is unread, and the reader's state."""
        self.buffer.clear()

    def restart(self) -> list[PendingRequest]:
        """Begin anew for another connection; return the requests that coroutines waited for."""
        pending = self.queue.clear()
        self.buffer.clear()
        self.eof = NOT_ENDED
        self.dispatching = IDLE
        self.line_batch = None
        return pending
