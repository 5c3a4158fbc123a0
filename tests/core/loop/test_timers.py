"""The timer queue, against a model, and what virtual time says about timers."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._loop.timers import TimerEntry, TimerQueue
from ae_core.testing import Trace, virtual_time

times = st.one_of(
    st.sampled_from([0.0, 0.0, 1.0, 1.0, 2.0]), st.floats(-1e9, 1e9), st.integers(-3, 3).map(float)
)


class Model(RuleBasedStateMachine):
    """A sorted list is the specification: by time, then by number."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = TimerQueue()
        self.model: list[tuple[float, int]] = []

    @rule(at=times)
    def add(self, at: float) -> None:
        number = self.queue.add(at, print)
        self.model.append((at, number))
        self.model.sort()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.model))
        self.model.remove(item)
        del self.queue.live[item[1]]

    def take(self, now: float) -> list[tuple[float, int]]:
        count = self.queue.take_due(now)
        assert self.queue.has_due() == (count > 0)
        taken = list(self.queue.batch or ())
        assert len(taken) == count
        return taken

    @rule(now=times)
    def take_due(self, now: float) -> None:
        due = [item for item in self.model if item[0] <= now]
        assert self.take(now) == due
        self.model = [item for item in self.model if item[0] > now]
        for _, number in due:
            del self.queue.live[number]

    @rule(now=times, later=st.floats(0.001, 100))
    def take_due_and_repeat(self, now: float, later: float) -> None:
        for at, number in self.take(now):
            self.model.remove((at, number))
            entry = TimerEntry(print, None, later, at)
            self.queue.again(now + later, number, entry)
            assert entry.at == now + later
            self.model.append((now + later, number))
        self.model.sort()

    @rule()
    def compact(self) -> None:
        self.queue.compact()
        assert set(self.queue.incoming) <= set(self.queue.live)

    @rule()
    def the_next_one_is_the_first_of_the_list(self) -> None:
        assert self.queue.next_at() == (self.model[0][0] if self.model else None)

    @invariant()
    def every_due_time_is_there_once(self) -> None:
        everything = [(at, number) for number, at in self.queue.incoming.items()] + self.queue.heap
        alive = [item for item in everything if item[1] in self.queue.live]
        assert sorted(alive) == self.model

    @invariant()
    def those_alive_are_those_of_the_list(self) -> None:
        assert set(self.queue.live) == {number for _, number in self.model}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=40)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
@settings(max_examples=100)
def test_what_is_left_runs_by_time_and_then_by_age(wanted: list[tuple[float, bool]]) -> None:
    with virtual_time() as clock:
        trace = Trace()
        timers = []
        for number, (after, _) in enumerate(wanted):
            timers.append(ae.timer(after, lambda number=number: trace((clock.elapsed, number))))
        for number, (_, cancelled) in enumerate(wanted):
            if cancelled:
                timers[number].cancel()
        clock.advance(101)
        assert trace == sorted(
            (after, number) for number, (after, cancelled) in enumerate(wanted) if not cancelled
        )


def test_a_million_of_them_at_once() -> None:
    gc.disable()  # it would look at a million of everything again and again
    try:
        queue = TimerQueue()
        source = random.Random(7)
        for _ in range(1_000_000):
            queue.add(source.random(), print)
        queue.take_due(0.1)
        first = list(queue.batch or ())
        assert first == sorted(first)
        assert first[-1][0] <= 0.1
        assert 90_000 < len(first) < 110_000
        next_at = queue.next_at()
        assert next_at is not None
        assert 0.1 < next_at < 0.11
        queue.live.clear()
        queue.tidy()
        assert queue.next_at() is None
    finally:
        gc.enable()


def test_what_was_cancelled_takes_no_room() -> None:
    queue = TimerQueue()
    keep = queue.add(1e9, print)
    for _ in range(50_000):
        del queue.live[queue.add(5.0, print)]
    assert set(queue.live) == {keep}
    assert len(queue.heap) + len(queue.incoming) <= 2048 + 1024
    assert queue.last < queue.tidy_at <= queue.last + 1024


def test_what_is_left_of_many_is_still_in_order() -> None:
    queue = TimerQueue()
    source = random.Random(9)
    for _ in range(2000):
        queue.add(source.random(), print)
    assert queue.next_at() is not None  # now they are in the heap
    for number in source.sample(range(1, 2001), 1500):
        del queue.live[number]
    queue.compact()
    assert len(queue.heap) == 500
    found = []
    for tenth in range(11):
        queue.take_due(tenth / 10)
        found += queue.batch or ()
    assert len(found) == 500
    assert sorted(found) == found


def test_what_an_exception_has_broken_off_is_due_again_with_the_rest_of_its_batch() -> None:
    queue = TimerQueue()
    numbers = [queue.add(at, print) for at in (1.0, 2.0, 3.0, 9.0)]
    assert queue.take_due(5.0) == 3
    batch: Any = queue.batch
    queue.put_back(*next(batch))
    assert queue.has_due()
    assert queue.end_batch()  # of the turn around the one that was broken off
    assert queue.batch is None
    assert queue.take_due(5.0) == 3
    assert list(queue.batch or ()) == [(float(number), number) for number in numbers[:3]]
    assert queue.next_at() == 9.0


def test_what_an_exception_breaks_off_before_anything_is_due_is_looked_for_again() -> None:
    queue = TimerQueue()
    queue.put_back(float("inf"), 0)  # the clock has raised: there is no batch, and no timer
    assert queue.has_due()
    assert queue.end_batch()
    assert not queue.live


def test_a_batch_that_has_run_leaves_nothing_that_is_due() -> None:
    queue = TimerQueue()
    queue.add(1.0, print)
    queue.add(1.0, print)
    queue.take_due(2.0)
    batch: Any = queue.batch
    next(batch)
    assert queue.has_due()
    next(batch)
    assert not queue.has_due()
    assert not queue.end_batch()
    assert queue.batch is None


def test_a_queue_that_was_cleared_has_no_timer_and_gives_no_number_twice() -> None:
    queue = TimerQueue()
    for at in (1.0, 2.0, 8.0):
        queue.add(at, print)
    queue.next_at()  # they are in the heap now
    queue.take_due(3.0)
    queue.put_back(*next(queue.batch or iter([(0.0, 0)])))
    last = queue.add(4.0, print)
    queue.clear()
    assert not queue.live
    assert not queue.has_due()
    assert queue.batch is None
    assert not [*queue.incoming, *queue.heap, *queue.due]
    assert queue.add(5.0, print) > last
    assert queue.take_due(9.0) == 1


def test_the_next_time_in_the_heap_is_that_of_a_timer_which_is_alive() -> None:
    queue = TimerQueue()
    numbers = [queue.add(at, print) for at in (1.0, 2.0)]
    assert queue.next_in_heap() is None  # they have not entered it
    assert queue.next_at() == 1.0
    queue.add(0.5, print)
    assert queue.next_in_heap() == 1.0
    del queue.live[numbers[0]]
    assert queue.next_in_heap() == 2.0
    del queue.live[numbers[1]]
    assert queue.next_in_heap() is None


@pytest.mark.parametrize("variables", [0, 1])
def test_the_loop_keeps_no_room_for_them_either(variables: int) -> None:
    context = Context()
    if variables:
        context.run(ContextVar("variable", default=0).set, 1)

    def pass_by() -> None:
        for _ in range(5_000):
            passing = ae.timer(1e6, print)
            passing.cancel()

    with virtual_time():
        core = current_loop()
        timer = ae.timer(1e9, print)
        context.run(pass_by)
        kept = list(core.timers.incoming)
        assert len(kept) <= 2048 + 1024
        assert kept[0] == core.timers.last - 5_000
        assert timer.active
    assert not [*core.timers.incoming, *core.timers.heap]


def test_ten_thousand_timers_leave_nothing() -> None:
    with virtual_time() as clock:
        trace = Trace()
        timers = [ae.timer(n % 100, trace.recorder(n % 100)) for n in range(10_000)]
        clock.advance(100)
        assert trace == sorted(trace)
        assert len(trace) == 10_000
        assert not any(timer.active for timer in timers)


def test_an_interval_is_planned_from_the_planned_time() -> None:
    with virtual_time() as clock:
        trace = Trace()

        def tick() -> None:
            trace(round(clock.elapsed, 9))
            clock.pass_time(0.25)

        with ae.timer(1, tick, interval=1):
            clock.advance(4.5)
        assert trace == [1, 2, 3, 4]


def test_an_interval_makes_up_for_a_blocked_loop_by_one_call() -> None:
    # CORE-23: gaps 0.05, 0.18 (blocked), 0.00, 0.05, 0.05
    with virtual_time() as clock:
        trace = Trace()

        def tick() -> None:
            trace(round(clock.elapsed, 9))
            if len(trace) == 2:
                clock.pass_time(10.25)

        with ae.timer(1, tick, interval=1):
            clock.advance(16)
        assert trace == [1, 2, 12.25, 12.25, 13.25, 14.25, 15.25]


def test_an_interval_that_is_cancelled_in_its_callback_is_over() -> None:
    with virtual_time() as clock:
        trace = Trace()
        holder = []

        def tick() -> None:
            trace(clock.elapsed)
            if len(trace) == 3:
                holder[0].cancel()
                assert not holder[0].active

        holder.append(ae.timer(0, tick, interval=2))
        clock.advance(100)
        assert trace == [0, 2, 4]


def test_ties_run_in_the_order_they_were_made() -> None:
    with virtual_time() as clock:
        trace = Trace()
        timers = [ae.timer(1, trace.recorder(n)) for n in range(8)]
        timers += [ae.timer(0.5 + 0.5, trace.recorder(8))]
        clock.advance(1)
        assert trace == list(range(9))


def test_those_that_become_due_meanwhile_wait_for_the_next_turn() -> None:
    # LOOP-04: a chain of zero timers must not keep the turn from ending
    with virtual_time() as clock:
        trace = Trace()
        holder = []

        def chain() -> None:
            trace("timer")
            if len(trace) < 5:
                holder.append(ae.timer(0, chain))
            ae.postpone(trace.recorder("turn")) if len(trace) == 1 else None

        holder.append(ae.timer(0, chain))
        clock.advance(1)
        assert trace.index("turn") == 1


def test_a_far_deadline_is_reached_in_steps() -> None:
    with virtual_time() as clock:
        trace = Trace()
        timer = ae.timer(10 * 86_400.5, trace.recorder("ten days"))
        clock.advance(10 * 86_400)
        assert trace == []
        clock.advance(6)
        assert trace == ["ten days"]
        del timer


def test_a_timer_of_the_past_is_due_at_once_and_before_younger_ones() -> None:
    with virtual_time() as clock:
        trace = Trace()
        timers = [ae.timer(after, trace.recorder(after)) for after in (0, -5, -1e300, 0.0)]
        clock.advance(0)
        assert trace == [-1e300, -5, 0, 0.0]
        assert clock.elapsed == 0
        timers.clear()


@pytest.mark.parametrize("end", ["cancel", "drop", "fire"])
def test_without_the_garbage_collector_nothing_stays(end: str) -> None:
    # reliability 29
    class Callback:
        alive = 0

        def __init__(self) -> None:
            Callback.alive += 1

        def __del__(self) -> None:
            Callback.alive -= 1

        def __call__(self) -> None:
            return None

    gc.disable()
    try:
        for _ in range(2_000):
            timer = ae.timer(0 if end == "fire" else 60, Callback())
            if end == "cancel":
                timer.cancel()
            elif end == "fire":
                ae.sleep(0).recv()
        del timer
        assert Callback.alive == 0
    finally:
        gc.enable()


def test_a_callback_that_closes_over_its_own_timer_keeps_it() -> None:
    # A13.2
    trace = Trace()

    def make() -> None:
        def fire() -> None:
            trace("fired")
            assert timer is not None

        timer = ae.timer(0, fire)

    make()
    ae.sleep(0.001).recv()
    assert trace == ["fired"]


def test_setting_the_variable_to_none_cancels_at_once(trace: Trace) -> None:
    def make() -> Callable[[], None]:
        timer = None

        def fire() -> None:
            trace("fired")
            assert timer is not None

        def forget() -> None:
            nonlocal timer
            timer = None

        timer = ae.timer(0, fire)
        return forget

    forget = make()
    forget()
    ae.sleep(0.001).recv()
    assert trace == []


def test_bad_times_are_refused_and_named() -> None:
    for bad in ("1", None, b"1", [1], 1j):
        with pytest.raises(TypeError, match="seconds"):
            ae.timer(bad, print)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="seconds"):
            ae.timer(1, print, interval=bad)  # type: ignore[arg-type]
    for bad in (float("inf"), float("-inf"), float("nan"), 10**400):
        with pytest.raises(ValueError, match="finite"):
            ae.timer(bad, print)
        with pytest.raises(ValueError, match="finite"):
            ae.timer(1, print, interval=bad)
    with pytest.raises(ValueError, match=r"-0\.5"):
        ae.timer(1, print, interval=-0.5)
    with pytest.raises(TypeError, match="callable"):
        ae.timer(1, None)  # type: ignore[arg-type]
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()  # nothing half-registered is left
