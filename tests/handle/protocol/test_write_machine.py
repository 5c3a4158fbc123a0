"""The write side against a model: the bytes that were pushed, in order, and how many have left.

A machine pushes, lets a kernel take some, waits, gives up waiting, puts back, ends the write side,
breaks it off and begins anew, in any order. There is no stream, no loop and no clock.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ae_handle import TlsError, TransportError
from ae_handle._buffers.write_queue import WriteQueue
from ae_handle._phases import DUE_DRAIN, DUE_DRAINED, DUE_FAIL
from ae_handle._protocol.read_queue import PendingRequest
from ae_handle._protocol.write_side import WriteSide

GONE = TransportError("gone", errno=32)


class WriteMachine(RuleBasedStateMachine):
    """The model is ``unsent`` and ``sent``, and whether something has to be drained."""

    def __init__(self) -> None:
        super().__init__()
        self.drained = 0
        self.raised: list[BaseException] = []
        self.refusal: TlsError | None = None
        self.side = WriteSide(self.on_drain)
        self.unsent = b""  # in order: the block, then the pieces
        self.block = 0  # how much of it the kernel is being offered
        self.lost = 0
        self.pending = False  # on_drain is to be called
        self.callback = True  # there is one
        self.ending = False
        self.waiting: list[PendingRequest] = []
        self.now = 0.0

    # what the side calls

    def on_drain(self, owner: object) -> None:
        assert owner is self
        assert self.side.deferred is self.side.pieces
        self.drained += 1
        if self.drained % 3 == 0:
            raise RuntimeError

    def _fail(self, error: object) -> None:
        raise AssertionError(error)

    def _callback_failed(self, error: BaseException) -> None:
        self.raised.append(error)

    def _encryption_failed(self, error: TlsError) -> None:
        assert error is self.refusal
        self.refusal = None

    def clock(self) -> float:
        return self.now

    # pushing and sending

    @rule(pieces=st.lists(st.integers(1, 30) | st.integers(260_000, 270_000), min_size=1))
    def push(self, pieces: list[int]) -> None:
        for size in pieces[:4]:
            data = bytes((len(self.unsent) + at) % 251 for at in range(min(size, 50)))
            data += bytes(size - len(data))
            self.side.pieces.append(data)
            self.unsent += data

    @rule(sizes=st.lists(st.integers(0, 40), max_size=6), fails=st.booleans())
    def flush(self, sizes: list[int], fails: bool) -> None:
        """A kernel that takes so many bytes at each call, 0 for none; all of it behind that."""
        todo = list(sizes)
        self.now += 1.0
        left = len(self.unsent)
        refused = False

        def send(block: bytes | memoryview) -> int:
            nonlocal refused
            assert block
            self.pending = True
            self.block = len(block)
            assert bytes(block) == self.unsent[: len(block)]
            size = min(todo.pop(0), len(block)) if todo else len(block)
            if not size:
                refused = True
                raise BrokenPipeError if fails else BlockingIOError
            self.unsent = self.unsent[size:]
            self.block -= size
            refused = bool(self.block)
            return size

        before = self.side.last_at
        if fails and 0 in todo:
            try:
                full = self.side.flush(self, send, None, self.clock)
            except BrokenPipeError:
                return  # nothing else is changed
        else:
            full = self.side.flush(self, send, None, self.clock)
        assert full is refused
        assert full is bool(self.unsent)
        assert self.side.last_at == (self.now if len(self.unsent) < left else before)
        assert (self.side.deferred is not None) is (full and self.side.max_buffer is None)

    @rule(records=st.integers(0, 3), size=st.integers(1, 40), fails=st.booleans())
    def flush_through_a_layer(self, records: int, size: int, fails: bool) -> None:
        """A layer gives blocks of *size* bytes, then none, or cannot encrypt."""
        if self.block:
            return
        self.refusal = TlsError("no key", reason="protocol") if fails else None
        taken = b""

        def next_block(queue: WriteQueue) -> bytes:
            nonlocal records, taken
            if not records and self.refusal is not None:
                raise self.refusal
            if not records or not queue.pieces:
                self.refusal = None
                return b""
            records -= 1
            data = queue.take_all()
            queue.pieces[:] = [data[size:]] if data[size:] else []
            self.pending = True
            return data[:size]

        def send(block: bytes | memoryview) -> int:
            nonlocal taken
            taken += bytes(block)
            return len(block)

        assert not self.side.flush(self, send, next_block, self.clock)
        assert self.refusal is None
        assert taken == self.unsent[: len(taken)]
        self.unsent = self.unsent[len(taken) :]
        if not taken:
            return
        assert self.side.last_at == self.now

    @rule(size=st.integers(0, 300_000))
    def sent(self, size: int) -> None:
        """What another path than ``flush`` has sent of the block."""
        size = min(size, self.block)
        self.side.sent(size)
        self.unsent = self.unsent[size:]
        self.block -= size

    @rule(share=st.floats(0, 1))
    def take_and_put_back(self, share: float) -> None:
        """What was taken off the queue in a shortcut, of which the kernel took a share."""
        if self.block:
            return
        block = self.side.queue.next()
        assert block == self.unsent[: len(block)]
        assert bool(block) is bool(self.unsent)
        size = int(share * len(block))
        self.unsent = self.unsent[size:]
        self.block = len(block) - size
        self.side.put_back(block[size:])
        self.pending = True
        assert (self.side.deferred is not None) is (self.side.max_buffer is None)

    # who is told

    @rule()
    def level(self) -> None:
        due = self.side.check_level()
        unsent = len(self.unsent)
        limit = self.side.max_buffer
        assert bool(due & DUE_FAIL) is (limit is not None and unsent > limit)
        drained = self.pending and unsent <= self.side.low_water_mark
        told = drained and (self.callback or self.ending or bool(self.waiting))
        assert bool(due & DUE_DRAIN) is bool(due & DUE_DRAINED) is told
        self.pending = self.pending and not drained

    @rule()
    def above_mark(self) -> None:
        above = self.side.is_above_mark()
        assert above is (len(self.unsent) > self.side.low_water_mark)
        self.pending = self.pending or above

    @rule()
    def expect(self) -> None:
        self.side.expect_drain()
        self.pending = True

    @rule()
    def notify(self) -> None:
        before = self.drained
        self.side.notify_drained(self)
        assert self.drained == before + self.callback
        assert len(self.raised) == self.drained // 3
        self.side.stop_deferring()

    @rule()
    def wait(self) -> None:
        request = PendingRequest()
        self.waiting.append(request)
        self.side.wait(request)

    @rule(choice=st.integers(0, 3))
    def give_up(self, choice: int) -> None:
        if self.waiting:
            request = self.waiting.pop(choice % len(self.waiting))
            assert self.side.withdraw(request)
            assert not self.side.withdraw(request)

    @rule()
    def wake(self) -> None:
        assert self.side.take_waiters() == self.waiting
        self.waiting = []

    @rule(mark=st.integers(0, 40), limit=st.none() | st.integers(0, 60))
    def configure(self, mark: int, limit: int | None) -> None:
        self.side.low_water_mark = mark
        self.side.max_buffer = limit

    @rule()
    def set_callback(self) -> None:
        self.side.on_drain = self.on_drain
        self.callback = True

    @rule()
    def forget_callback(self) -> None:
        self.side.forget_callback()
        self.callback = False

    # the end

    @rule(dispatching=st.booleans())
    def shut_down(self, dispatching: bool) -> None:
        deferred = self.side.deferred is not None
        self.side.want_shutdown(dispatching=dispatching)
        self.callback, self.ending = False, True
        assert self.side.low_water_mark == 0
        assert (self.side.deferred is not None) is (deferred and dispatching)

    @rule(more=st.binary(max_size=5))
    def break_off(self, more: bytes) -> None:
        self.side.break_off(GONE, more)
        self.lost += len(self.unsent) + len(more)
        self.unsent, self.block = b"", 0
        assert self.side.error is GONE
        assert self.side.deferred is None

    @rule()
    def discard(self) -> None:
        self.side.discard()
        self.unsent, self.block = b"", 0
        assert self.side.deferred is None

    @rule()
    def restart(self) -> None:
        self.side.restart()
        self.unsent, self.block = b"", 0
        self.pending = self.ending = False
        assert self.side.error is None

    @invariant()
    def both_are_the_same(self) -> None:
        queue: Any = self.side.queue
        assert queue.pieces is self.side.pieces
        assert len(queue) == queue.owed == len(self.unsent)
        assert queue.waiting == len(self.unsent) - self.block
        assert bytes(queue.block) + b"".join(queue.pieces) == self.unsent
        assert bool(queue) is bool(self.unsent)
        assert queue.lost == self.lost
        due = self.side.due_when_empty()
        assert bool(due & DUE_DRAINED) is bool(self.waiting or self.ending)
        assert bool(due & DUE_DRAIN) is self.callback


TestTheWriteSide = WriteMachine.TestCase
TestTheWriteSide.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
