"""The write side alone: what is pushed, what a kernel takes of it, and which work is due."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import BufferLimitExceeded, HandleError, TlsError, TransportError
from ae_handle._phases import (
    DUE_DRAIN,
    DUE_DRAINED,
    DUE_FAIL,
    SHUTDOWN_CLOSING,
    SHUTDOWN_DONE,
    SHUTDOWN_NONE,
    SHUTDOWN_WANTED,
)
from ae_handle._protocol.read_queue import PendingRequest
from ae_handle._protocol.write_side import WriteSide


class Kernel:
    """Takes so many bytes at each call, 0 stands for EAGAIN; everything when the list is used up.

    Attributes:
        taken: What it has taken.
    """

    def __init__(self, *sizes: int) -> None:
        self.sizes = list(sizes)
        self.taken = b""

    def send(self, data: bytes | memoryview) -> int:
        size = self.sizes.pop(0) if self.sizes else len(data)
        if not size:
            raise BlockingIOError
        self.taken += bytes(data[:size])
        return min(size, len(data))


class Owner:
    """Records; there is no handle."""

    def __init__(self) -> None:
        self.raised: list[BaseException] = []
        self.errors: list[HandleError] = []

    def _fail(self, error: HandleError) -> None:
        self.errors.append(error)

    def _encryption_failed(self, error: TlsError) -> None:
        self.errors.append(error)

    def _callback_failed(self, error: BaseException) -> None:
        self.raised.append(error)


def clock() -> float:
    return 7.0


def test_what_is_pushed_is_sent_in_order() -> None:
    side = WriteSide()
    kernel = Kernel()
    side.pieces += [b"ab", b"cd"]
    assert not side.flush(Owner(), kernel.send, None, clock)
    assert kernel.taken == b"abcd"
    assert side.last_at == 7.0
    assert not side.queue


def test_a_full_kernel_defers_what_is_pushed_behind_it() -> None:
    side = WriteSide()
    kernel = Kernel(3, 0)
    side.pieces.append(b"abcdef")
    assert side.flush(Owner(), kernel.send, None, clock)
    assert side.deferred is side.pieces
    side.pieces.append(b"gh")
    assert side.flush(Owner(), kernel.send, None, clock)
    assert not side.flush(Owner(), kernel.send, None, clock)
    assert kernel.taken == b"abcdefgh"
    assert side.deferred is None


def test_with_a_limit_nothing_is_deferred_so_that_each_write_is_compared_with_it() -> None:
    side = WriteSide(max_buffer=4)
    side.pieces.append(b"abcd")
    assert side.flush(Owner(), Kernel(0).send, None, clock)
    assert side.deferred is None
    assert side.check_level() == 0
    side.pieces.append(b"e")
    assert side.check_level() == DUE_FAIL
    assert isinstance(side.limit_error(), BufferLimitExceeded)


@pytest.mark.parametrize("mark", [0, 2])
def test_on_drain_is_due_once_for_each_emptying(mark: int) -> None:
    side = WriteSide(lambda owner: None, low_water_mark=mark)
    kernel = Kernel(2, 0)
    assert side.check_level() == 0
    side.pieces.append(b"abcdef")
    assert side.flush(Owner(), kernel.send, None, clock)
    assert side.check_level() == 0
    side.sent(4 - mark)
    assert side.check_level() == DUE_DRAIN | DUE_DRAINED
    assert not side.flush(Owner(), kernel.send, None, clock) or mark
    assert side.check_level() == 0
    side.pieces.append(b"more")
    assert not side.flush(Owner(), Kernel().send, None, clock)
    assert side.check_level() == DUE_DRAIN | DUE_DRAINED


def test_an_error_of_on_drain_is_reported() -> None:
    fault = RuntimeError()

    def on_drain(owner: object) -> None:
        raise fault

    owner = Owner()
    WriteSide(on_drain).notify_drained(owner)
    assert owner.raised == [fault]


def test_who_waits_is_told_once_and_may_give_up() -> None:
    side = WriteSide()
    first, second = PendingRequest(), PendingRequest()
    side.wait(first)
    side.wait(second)
    assert side.withdraw(first)
    assert not side.withdraw(first)
    side.expect_drain()
    assert side.check_level() & DUE_DRAINED
    assert side.take_waiters() == [second]
    assert side.take_waiters() == []


def test_nothing_is_sent_any_more_behind_an_error_and_the_loss_is_counted() -> None:
    side = WriteSide()
    side.pieces.append(b"unsent")
    error = TransportError("gone", errno=32)
    side.break_off(error, b"taken off")
    assert side.error is error
    assert side.queue.lost == len(b"unsent") + len(b"taken off")
    assert not side.queue


def test_an_error_of_the_kernel_passes_and_keeps_the_block() -> None:
    side = WriteSide()
    side.pieces.append(b"abc")

    def send(data: object) -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        side.flush(Owner(), send, None, clock)
    assert len(side.queue) == 3


def test_a_layer_gives_the_blocks() -> None:
    side = WriteSide()
    kernel = Kernel()
    blocks = [b"one", b"two"]
    side.pieces.append(b"plaintext")
    side.flush(Owner(), kernel.send, lambda queue: blocks.pop(0) if blocks else b"", clock)
    assert kernel.taken == b"onetwo"
    assert side.pieces == [b"plaintext"]


def test_a_layer_that_cannot_encrypt_ends_the_sending_and_the_owner_is_told() -> None:
    side = WriteSide()
    owner = Owner()
    kernel = Kernel()
    blocks = [b"one"]
    refusal = TlsError("no key", reason="protocol")

    def next_block(queue: object) -> bytes:
        assert queue is side.queue
        if not blocks:
            raise refusal
        return blocks.pop()

    side.defer()
    assert not side.flush(owner, kernel.send, next_block, clock)
    assert kernel.taken == b"one"
    assert owner.errors == [refusal]
    assert side.last_at == 7.0
    assert side.deferred is None


def test_the_shutdown_comes_behind_what_was_pushed() -> None:
    side = WriteSide(lambda owner: None, low_water_mark=100)
    side.pieces.append(b"abc")
    side.want_shutdown(dispatching=False)
    assert side.shutdown == SHUTDOWN_WANTED
    assert side.on_drain is None
    assert side.is_above_mark()
    side.flush(Owner(), Kernel().send, None, clock)
    assert side.check_level() & DUE_DRAINED


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize("full", [False, True])
def test_writes_are_deferred_while_a_stream_is_full_if_there_is_no_limit(
    limit: int | None, full: bool
) -> None:
    side = WriteSide(max_buffer=limit)
    side.deferred = None if full else side.pieces
    side.defer_within_limit(full)
    assert side.deferred is (side.pieces if full and limit is None else None)
    side.stop_deferring()
    assert side.deferred is None
    side.defer()
    assert side.deferred is side.pieces


def test_a_stream_that_is_there_ends_the_deferring_and_begins_the_time() -> None:
    side = WriteSide()
    side.defer()
    side.start(7.5)
    assert side.deferred is None
    assert side.last_at == 7.5


def test_the_shutdown_goes_on_from_the_wish_by_way_of_close_notify_to_its_end() -> None:
    side = WriteSide()
    states = [side.shutdown]
    side.want_shutdown(dispatching=False)
    states.append(side.shutdown)
    side.shutdown_closing()
    states.append(side.shutdown)
    side.shutdown_done()
    states.append(side.shutdown)
    assert states == [SHUTDOWN_NONE, SHUTDOWN_WANTED, SHUTDOWN_CLOSING, SHUTDOWN_DONE]
    assert side.due_when_empty() == DUE_DRAINED  # who waits for it is told
    side.restart()
    assert side.shutdown == SHUTDOWN_NONE
    assert side.due_when_empty() == 0


def test_a_refusal_keeps_what_is_unsent_and_its_error_can_be_forgotten() -> None:
    side = WriteSide()
    side.pieces.append(b"unsent")
    error = TransportError("gone", errno=32)
    side.refuse(error)
    assert side.error is error
    assert len(side.queue) == 6
    assert side.queue.lost == 0
    side.forget_error()
    assert side.error is None
    assert len(side.queue) == 6


@settings(max_examples=1000, deadline=None)
@given(
    steps=st.lists(
        st.one_of(st.binary(max_size=20), st.lists(st.integers(0, 30), max_size=6)), max_size=30
    ),
    mark=st.integers(0, 30),
    limit=st.none() | st.integers(0, 60),
)
def test_whatever_the_kernel_takes_nothing_is_lost_doubled_or_reordered(
    steps: list[bytes | list[int]], mark: int, limit: int | None
) -> None:
    side = WriteSide(lambda owner: None, limit, mark)
    pushed = b""
    taken = b""
    above = False
    for step in steps:
        if isinstance(step, bytes):
            if step:
                side.pieces.append(step)
                pushed += step
        else:
            kernel = Kernel(*step)
            behind = bool(side.pieces)
            full = side.flush(Owner(), kernel.send, None, clock)
            above = above or (behind and not side.pieces)  # a new block was begun
            taken += kernel.taken
            assert full is bool(side.queue)
        due = side.check_level()
        unsent = len(pushed) - len(taken)
        assert len(side.queue) == unsent
        assert bool(due & DUE_FAIL) is (limit is not None and unsent > limit)
        assert bool(due & DUE_DRAIN) is (above and unsent <= mark)
        above = above and unsent > mark
    kernel = Kernel()
    side.flush(Owner(), kernel.send, None, clock)
    assert taken + kernel.taken == pushed
