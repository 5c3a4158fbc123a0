"""The write side of a handle: what was pushed and is not sent yet, and what waits for that.

Has no stream: it is told what was sent, and answers which work is due.
"""

from __future__ import annotations

__all__ = ("WriteSide",)


from .._buffers.write_queue import WriteQueue
from .._errors import BufferLimitExceeded, TlsError
from .._phases import (
    DUE_DRAIN,
    DUE_DRAINED,
    DUE_FAIL,
    SHUTDOWN_CLOSING,
    SHUTDOWN_DONE,
    SHUTDOWN_NONE,
    SHUTDOWN_WANTED,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._errors import HandleError
    from .owner import Owner, Sender
    from .read_queue import PendingRequest

# Theory of operation
# -------------------
# `pieces` is the list inside the write queue. While `deferred` is that list, push_write only
# appends to it: a flush will follow, because a dispatch runs, the kernel is full, the handle is
# corked or not connected yet. Otherwise it sends immediately.
#
# Bytes that are pushed set `drain_pending`; when no more than `low_water_mark` is unsent, on_drain
# is due, and it is reset. So on_drain is called once per emptying, however many writes that took.


class WriteSide:
    """What is to be sent, and the requests that are answered when it is sent.

    Attributes:
        queue: The unsent bytes.
        pieces: The list of those that were pushed last: ``queue.pieces``.
        deferred: *pieces* while ``push_write`` need only append to it, else None.
        drain_pending: Whether ``on_drain`` is to be called when the queue is empty.
        waiters: What waits for the queue to be empty, None if nothing does.
        on_drain: Called when the queue is empty, or None.
        low_water_mark: How many bytes may be unsent in an "empty" queue.
        max_buffer: How many bytes may be unsent, None for no limit.
        autocork: Whether writes wait for the next turn.
        shutdown: How far the end of the write side is: ``SHUTDOWN_NONE`` and its followers.
        error: Why nothing can be sent any more, None if it can.
        last_at: When something was sent last.
    """

    __slots__ = (
        "autocork",
        "deferred",
        "drain_pending",
        "error",
        "last_at",
        "low_water_mark",
        "max_buffer",
        "on_drain",
        "pieces",
        "queue",
        "shutdown",
        "waiters",
    )

    def __init__(
        self,
        on_drain: Any = None,
        max_buffer: int | None = None,
        low_water_mark: int = 0,
        autocork: bool = False,
    ) -> None:
        self.queue = WriteQueue()
        self.pieces = self.queue.pieces
        self.deferred: list[bytes] | None = None
        self.drain_pending = False
        self.waiters: list[PendingRequest] | None = None
        self.on_drain = on_drain
        self.low_water_mark = low_water_mark
        self.max_buffer = max_buffer
        self.autocork = autocork
        self.shutdown = SHUTDOWN_NONE
        self.error: HandleError | None = None
        self.last_at = 0.0

    # ------------------------------------------------------------------ deferring

    def defer(self) -> None:
        """Let ``push_write`` only append: a flush follows."""
        self.deferred = self.pieces

    def defer_within_limit(self, full: bool = True) -> None:
        """Go on deferring if the stream takes nothing now (*full*) and there is no limit.

        With ``max_buffer`` each write is to be compared with it.
        """
        self.deferred = self.pieces if full and self.max_buffer is None else None

    def stop_deferring(self) -> None:
        """Let ``push_write`` send immediately."""
        self.deferred = None

    # ------------------------------------------------------------------ sending

    def flush(
        self,
        owner: Sender,
        send: Callable[[bytes | memoryview], int],
        next_block: Callable[[WriteQueue], bytes] | None,
        clock: Callable[[], float],
    ) -> bool:
        """Call *send* with one block after the other; return whether it takes no more now.

        Args:
            send: Returns how many bytes it has taken, or raises as that of a socket.
            owner: Is told of a ``TlsError`` that *next_block* raises.
            next_block: Returns the next block, ``b""`` at the end; None takes plaintext off the
                queue.
            clock: Asked for the time if something was sent.

        Raises:
            OSError: What *send* raises, unless it only takes no more.
        """
        queue = self.queue
        pieces = self.pieces
        progress = False
        full = False
        while True:
            block = queue.block
            if not block:
                if next_block is not None:
                    try:
                        block = next_block(queue)
                    except TlsError as error:
                        owner._encryption_failed(error)
                        break
                    if not block:
                        break
                elif len(pieces) > 1:
                    # The pieces are freed when the block is sent: 100 of them take 2 us, and the
                    # peer need not wait for that.
                    joined = queue.take()
                    block = b"".join(joined)
                elif pieces:
                    block = queue.next()
                else:
                    break
                queue.block = block
                self.drain_pending = True
            try:
                sent = send(block)
            except (BlockingIOError, InterruptedError):
                full = True
                break
            progress = True
            if sent < len(block):
                queue.sent(sent)
                full = True
                break
            queue.block = b""
        if progress:
            self.last_at = clock()
        self.deferred = self.pieces if full and self.max_buffer is None else None
        return full

    def sent(self, size: int) -> None:
        """Note that the first *size* bytes of the block are sent."""
        self.queue.sent(size)

    def discard(self) -> None:
        """Drop what was pushed: nothing can be sent any more."""
        self.queue.clear()
        self.deferred = None

    def put_back(self, data: bytes | memoryview) -> None:
        """Make *data*, which was taken off the queue and could not be sent, the block again.

        A later flush sends it.
        """
        if data:
            self.queue.offer(data)
        self.drain_pending = True
        self.deferred = self.pieces if self.max_buffer is None else None

    def start(self, now: float) -> None:
        """Begin to send, to a stream that is there since *now*."""
        self.deferred = None
        self.last_at = now

    def check_level(self) -> int:
        """Return which work is due at this level of the queue.

        ``DUE_FAIL`` stands for more than ``max_buffer``: see ``limit_error``.
        """
        queue = self.queue
        # most often it is empty, and two calls are saved
        unsent = len(queue) if queue.block or queue.pieces else 0
        due = 0
        if self.drain_pending and unsent <= self.low_water_mark:
            self.drain_pending = False
            if self.on_drain is not None or self.waiters or self.shutdown:
                due = DUE_DRAIN | DUE_DRAINED
        if self.max_buffer is not None and unsent > self.max_buffer:
            due |= DUE_FAIL
        return due

    def limit_error(self) -> BufferLimitExceeded:
        """Return the error of a queue that is over its limit."""
        return BufferLimitExceeded(
            f"{len(self.queue)} bytes are unsent, max_write_buffer is {self.max_buffer}"
        )

    def is_above_mark(self) -> bool:
        """Whether more than ``low_water_mark`` is unsent; ``on_drain`` follows when it is not."""
        if len(self.queue) <= self.low_water_mark:
            return False
        self.drain_pending = True
        return True

    def expect_drain(self) -> None:
        """Call ``on_drain``, and answer the waiters, when the queue is empty."""
        self.drain_pending = True

    def due_when_empty(self) -> int:
        """Return which work is due when the stream is there and nothing is to be sent."""
        due = DUE_DRAINED if self.waiters or self.shutdown else 0
        return due if self.on_drain is None else due | DUE_DRAIN

    # ------------------------------------------------------------------ waiters

    def wait(self, request: PendingRequest) -> None:
        """Answer *request* when the queue is empty."""
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(request)

    def withdraw(self, request: PendingRequest) -> bool:
        """Remove *request* from the waiters; return whether it was one."""
        if self.waiters is None or request not in self.waiters:
            return False
        self.waiters.remove(request)
        return True

    def take_waiters(self) -> list[PendingRequest]:
        """Remove all waiters and return them."""
        waiters, self.waiters = self.waiters, None
        return waiters or []

    def notify_drained(self, owner: Owner) -> None:
        """Call ``on_drain``, if there is one."""
        callback = self.on_drain
        if callback is not None:
            self.deferred = self.pieces
            try:
                callback(owner)
            except BaseException as error:
                owner._callback_failed(error)

    def forget_callback(self) -> None:
        """Set ``on_drain`` to None."""
        self.on_drain = None

    # ------------------------------------------------------------------ the end

    def want_shutdown(self, *, dispatching: bool) -> None:
        """End the write side when everything is sent."""
        self.shutdown = SHUTDOWN_WANTED
        self.low_water_mark = 0
        self.on_drain = None
        if not dispatching:
            self.deferred = None

    def shutdown_closing(self) -> None:
        """Note that close_notify is queued."""
        self.shutdown = SHUTDOWN_CLOSING

    def shutdown_done(self) -> None:
        """Note that the write side has ended."""
        self.shutdown = SHUTDOWN_DONE

    def break_off(self, error: HandleError, data: bytes = b"") -> None:
        """Send nothing more because of *error*; *data* was taken off the queue and is lost too."""
        self.queue.lose(len(data))
        self.error = error
        self.deferred = None

    def refuse(self, error: HandleError) -> None:
        """Ignore what is pushed from now on, because of *error*."""
        self.error = error

    def forget_error(self) -> None:
        """Drop the error, which refers to frames of the program."""
        self.error = None

    def restart(self) -> None:
        """Begin anew for another connection, with nothing to be sent."""
        self.queue.clear()
        self.error = None
        self.drain_pending = False
        self.shutdown = SHUTDOWN_NONE
