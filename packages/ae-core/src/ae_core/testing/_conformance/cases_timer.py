"""Demands on timers and clocks: never early, in order, once."""

from __future__ import annotations

__all__ = ()

import random
from typing import TYPE_CHECKING

from ... import _api as ae
from ..._async.condvar import CondVar
from .scene import BLOCKING, CaseSkipped, Scene, case, expect, expect_equal

if TYPE_CHECKING:
    from ..._loop.watchers import Watcher


@case("timer")
async def it_never_runs_before_it_is_due(scene: Scene) -> None:
    clock = scene.backend.clock
    for after in (0.0, 0.001, 0.0123, 0.03):
        done: CondVar[float] = CondVar()
        earliest = clock() + after
        timer = ae.timer(after, lambda done=done: done.send(clock()))  # type: ignore[misc]
        early = earliest - await scene.wait(done)
        expect(early <= 0, f"after {after} s, it ran {early} s early")
        timer.cancel()


@case("timer")
async def it_never_runs_inside_the_call(scene: Scene) -> None:
    for after in (0, 0.0, -1, -1e9):
        scene.trace.clear()
        timer = ae.timer(after, scene.trace.recorder("timer"))
        scene.trace("made")
        await scene.wait_until(2)
        expect_equal(scene.trace, ["made", "timer"], f"after {after!r}")
        timer.cancel()


@case("timer")
async def it_runs_once(scene: Scene) -> None:
    with ae.timer(0, scene.trace.recorder("timer")) as timer:
        expect(timer.active, "it is active before")
        await scene.pause(0.005)
        expect(not timer.active, "it is not active afterwards")
    expect_equal(scene.trace, ["timer"])


class _Timers:
    """Timers that note when they could be due at the earliest and at the latest.

    A busy machine may take its time between two calls; then another order is right.
    """

    def __init__(self, scene: Scene) -> None:
        self.clock = scene.backend.clock
        self.trace = scene.trace
        self.bounds: list[tuple[float, float]] = []
        self.watchers: list[Watcher] = []

    def make(self, after: float) -> None:
        number = len(self.bounds)
        earliest = self.clock() + after
        self.watchers.append(ae.timer(after, lambda: self.trace((number, self.clock()))))
        self.bounds.append((earliest, self.clock() + after))

    def check(self) -> None:
        """See that each ran once, none early, and none before one that was due before it."""
        expect_equal(sorted(number for number, _ in self.trace), list(range(len(self.bounds))))
        latest = 0.0  # at which all that ran so far were due at the earliest
        for number, at in self.trace:
            earliest, due = self.bounds[number]
            expect(at >= earliest, f"number {number} ran {earliest - at} s early")
            expect(due >= latest, f"number {number} ran after one that was due later")
            latest = max(latest, earliest)


@case("timer")
async def several_run_in_the_order_they_are_due(scene: Scene) -> None:
    timers = _Timers(scene)
    for after in (0.02, 0.0, 0.01, 0.005, 0.015):
        timers.make(after)
    await scene.wait_until(5)
    timers.check()


@case("timer")
async def a_thousand_run_in_the_order_they_are_due(scene: Scene) -> None:
    timers = _Timers(scene)
    source = random.Random(1)
    for _ in range(1000):
        timers.make(source.choice((0.0, source.random() * 0.01, source.random() * 0.03)))
    await scene.wait_until(1000)
    timers.check()


@case("timer")
async def what_is_due_at_the_same_time_runs_in_the_order_it_was_made(scene: Scene) -> None:
    timers = [ae.timer(-1.0 + n * 1e-9, scene.trace.recorder(n)) for n in range(8)]
    await scene.wait_until(8)
    expect_equal(scene.trace, list(range(8)))
    timers.clear()


@case("timer")
async def three_of_them_run(scene: Scene) -> None:
    # A09.7
    timers = _Timers(scene)
    for after in (0, 0, 0.01):
        timers.make(after)
    await scene.wait_until(3)
    timers.check()


@case("timer")
async def one_made_later_may_be_due_earlier(scene: Scene) -> None:
    timers = _Timers(scene)
    timers.make(0.03)
    with ae.timer(0.001, lambda: timers.make(0.005)):
        await scene.wait_until(2)
    timers.check()


@case("timer")
async def a_far_deadline_is_no_obstacle(scene: Scene) -> None:
    far = [ae.timer(after, scene.trace.recorder("far")) for after in (3e9, 1e15, 1e300)]
    with ae.timer(0.005, scene.trace.recorder("near")):
        await scene.wait_until(1)
    expect_equal(scene.trace, ["near"])
    far.clear()
    with ae.timer(0.001, scene.trace.recorder("again")):
        await scene.wait_until(2)


@case("timer")
async def a_cancelled_or_dropped_one_does_not_run(scene: Scene) -> None:
    cancelled = ae.timer(0.001, scene.trace.recorder("cancelled"))
    dropped = ae.timer(0.001, scene.trace.recorder("dropped"))
    with ae.timer(0.001, scene.trace.recorder("left")):
        pass
    cancelled.cancel()
    cancelled.cancel()
    del dropped
    expect(not cancelled.active, "it is not active after cancel()")
    await scene.pause(0.005)
    expect_equal(scene.trace, [])


@case("timer")
async def of_several_due_the_first_may_cancel_the_rest(scene: Scene) -> None:
    # B15, CORE-06
    timers: list[Watcher] = []

    def first() -> None:
        scene.trace("first")
        timers[2].cancel()
        del timers[1]

    timers += [ae.timer(0, first)]
    timers += [ae.timer(0, scene.trace.recorder(n)) for n in (1, 2)]
    await scene.pause(0.005)
    expect_equal(scene.trace, ["first"])
    timers.clear()


@case("timer")
async def an_interval_goes_on_until_it_is_ended(scene: Scene) -> None:
    # B14
    holder: list[Watcher] = []

    def tick() -> None:
        scene.trace("tick")
        if len(scene.trace) == 3:
            holder.clear()

    holder.append(ae.timer(0.002, tick, interval=0.002))
    await scene.wait_until(3)
    await scene.pause(0.01)
    expect_equal(scene.trace, ["tick"] * 3)


@case("timer")
async def an_interval_keeps_to_its_times(scene: Scene) -> None:
    # CORE-22: planned from the planned time, not from when the callback ran
    clock = scene.backend.clock
    started = clock()
    with ae.timer(0.005, lambda: scene.trace(clock()), interval=0.01):
        await scene.wait_until(4)
    for count, at in enumerate(scene.trace):
        earliest = started + 0.005 + count * 0.01
        expect(at >= earliest - 1e-9, f"call {count} came {earliest - at} s early")


@case("timer")
async def an_interval_makes_up_for_one_missed_call_at_most(scene: Scene) -> None:
    # CORE-23
    clock = scene.backend.clock
    blocked_until = 0.0

    def tick() -> None:
        nonlocal blocked_until
        scene.trace(clock())
        if len(scene.trace) == 1:
            scene.compute(0.055)
            blocked_until = clock()

    with ae.timer(0, tick, interval=0.01):
        await scene.wait_until(5)
    soon = [at for at in scene.trace if blocked_until <= at < blocked_until + 0.0095]
    expect(len(soon) <= 2, f"{len(soon)} calls made up for the time the loop was blocked")


@case("timer")
async def an_interval_goes_on_after_an_error(scene: Scene) -> None:
    def fails() -> None:
        scene.trace("tick")
        raise ValueError("of a test")

    with ae.timer(0, fails, interval=0.001) as timer:
        await scene.wait_until(3)
        expect(timer.active, "it is active after an error")
        named = {who for _, who in scene.errors}
        expect_equal(named, {timer}, "the watchers named")
    expect_equal(set(scene.take_errors()), {"ValueError: of a test"})


@case("timer")
async def it_counts_from_the_call_and_not_from_the_turn(scene: Scene) -> None:
    # api.md, instead of CORE-27
    clock = scene.backend.clock
    done: CondVar[float] = CondVar()
    inner: list[Watcher] = []

    def late() -> None:
        scene.compute(0.03)
        earliest = clock() + 0.02
        inner.append(ae.timer(0.02, lambda: done.send(earliest - clock())))

    with ae.timer(0, late):
        early = await scene.wait(done)
    inner.clear()
    expect(early <= 0, f"after 0.02 s, it ran {early} s early")


@case("timer")
async def a_chain_of_a_thousand_runs(scene: Scene) -> None:
    done: CondVar[int] = CondVar()
    holder: list[Watcher] = []

    def link(count: int) -> None:
        if count == 1000:
            done.send(count)
        else:
            holder[:] = [ae.timer(0, lambda: link(count + 1))]

    link(0)
    expect_equal(await scene.wait(done), 1000)
    holder.clear()


@case("timer")
async def an_error_in_one_does_not_keep_the_next_from_running(scene: Scene) -> None:
    def fails() -> None:
        raise ValueError("of a test")

    timers = [ae.timer(0, fails), ae.timer(0, scene.trace.recorder("next"))]
    await scene.wait_until(1)
    expect_equal([who for _, who in scene.errors], timers[:1], "the watchers named")
    expect_equal(scene.take_errors(), ["ValueError: of a test"])
    timers.clear()


@case("clock")
async def now_follows_time(scene: Scene) -> None:
    ae.now_update()
    before = ae.time()
    expect(abs(ae.now() - before) < 1.0, "now() is the time of day")
    scene.compute(0.03)
    ae.now_update()
    expect(ae.now() - before >= 0.02, "now_update() brings it up to date")
    await scene.turns(1)
    expect(ae.now() - before >= 0.02, "it does not go back")


@case("timer")
async def a_turn_that_does_not_wait_does_what_there_is_to_do(scene: Scene) -> None:
    backend = scene.backend
    if backend.own_run or (scene.way != BLOCKING and not backend.nests):
        raise CaseSkipped(f"{backend.name} cannot be run turn by turn here")
    left, right = scene.pair()
    trace = scene.trace
    held = [
        ae.timer(0, trace.recorder("timer")),
        ae.io(right, "r", lambda: trace(right.recv(1))),
    ]
    left.send(b"x")
    ae.postpone(trace.recorder("postponed"))
    backend.call_threadsafe(trace.recorder("from a thread"))
    # some loops serve one event a turn; or another thread watches, which comes when it does
    for _ in range(20 if backend.prompt_io else 100_000):
        backend.poll(False)
        if len(trace) == 4:
            break
    expect_equal(len(trace), 4, f"calls so far {list(trace)!r}")
    held.clear()
