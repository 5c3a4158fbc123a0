"""Coroutines on the core's own driver: order, cancellation, errors, numbers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import weakref
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, virtual_time

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


async def value_of(condvar: ae.CondVar[Any]) -> Any:
    return await condvar


# ---------------------------------------------------------------------- starting and ending


def test_it_starts_in_the_next_turn_and_in_order(trace: Trace) -> None:
    async def task(name: str) -> None:
        trace(name)

    tasks = [ae.spawn(task(name)) for name in "abc"]
    trace("spawned")
    for each in tasks:
        each.recv()
    assert trace == ["spawned", "a", "b", "c"]


def test_it_runs_although_nobody_holds_it(trace: Trace) -> None:
    async def task() -> None:
        await ae.sleep(0)
        trace("ran")

    ae.spawn(task())
    gc.collect()
    trace.run_until(1)


def test_a_chain_of_a_hundred_thousand_completions_does_not_recurse() -> None:
    first = condvar = ae.CondVar[int]()

    async def link(before: ae.CondVar[int]) -> int:
        return await before + 1

    for _ in range(100_000):
        condvar = ae.spawn(link(condvar))
    ae.sleep(0).recv()
    first.send(0)
    assert condvar.recv() == 100_000


def test_a_chain_of_ready_ones_does_not_recurse() -> None:
    async def loop() -> int:
        total = 0
        ready = ae.CondVar[int]()
        ready.send(1)
        for _ in range(10_000):
            total += await ready
        return total

    assert ae.run(loop()) == 10_000


def test_ten_thousand_sleep_at_once() -> None:
    async def task(seconds: float) -> float:
        await ae.sleep(seconds)
        return seconds

    with virtual_time() as clock:
        tasks = [ae.spawn(task(number % 100)) for number in range(10_000)]
        assert sum(each.recv() for each in tasks) == 100 * sum(range(100))
        assert clock.elapsed == 99


def test_run_gives_the_result_or_the_error() -> None:
    async def good() -> int:
        await ae.sleep(0)
        return 3

    async def bad() -> int:
        await ae.sleep(0)
        raise KeyError("of a test")

    assert ae.run(good()) == 3
    with pytest.raises(KeyError, match="of a test"):
        ae.run(bad())
    assert ae.run(good()) == 3


def test_a_main_coroutine_that_nothing_can_resume_is_a_deadlock(trace: Trace) -> None:
    async def main() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            trace("cleaned up")

    with pytest.raises(ae.Deadlock):
        ae.run(main())
    assert trace == ["cleaned up"]


@pytest.mark.parametrize("bad", [None, 3, print, value_of])
def test_only_coroutines_can_be_spawned(bad: Any) -> None:
    with pytest.raises(TypeError, match="coroutine"):
        ae.spawn(bad)
    if bad is not None:
        with pytest.raises(TypeError, match="coroutine"):
            ae.run(bad)


def test_a_coroutine_that_cannot_be_run_is_closed(trace: Trace) -> None:
    main = value_of(ae.CondVar())
    done = ae.CondVar[None]()

    def nested() -> None:
        with pytest.raises(ae.RecursiveWait):
            ae.run(main)
        done.send()

    with ae.timer(0, nested):
        done.recv()
    assert inspect.getcoroutinestate(main) == "CORO_CLOSED"


def test_awaiting_something_foreign_is_an_error_that_names_it() -> None:
    class Foreign:
        def __await__(self) -> Any:
            yield "something else"

    async def task() -> None:
        await Foreign()

    with pytest.raises(TypeError, match="something else"):
        ae.run(task())


def test_await_outside_of_any_task_is_an_error_with_advice() -> None:
    coroutine = value_of(ae.CondVar())
    with pytest.raises(RuntimeError, match=r"ae_core\.spawn"):
        coroutine.send(None)


# ---------------------------------------------------------------------- cancelling


def test_cancelling_raises_where_it_waits_and_ends_the_task(trace: Trace) -> None:
    async def task() -> None:
        try:
            await ae.CondVar[None]()
        except ae.CancelledError:
            trace("cancelled")
            raise
        finally:
            await ae.sleep(0)
            trace("cleaned up")

    each = ae.spawn(task())
    ae.sleep(0).recv()
    each.cancel()
    assert (each.ready, each.cancelled) == (False, False)
    with pytest.raises(ae.CancelledError):
        each.recv()
    assert (each.ready, each.cancelled) == (True, True)
    assert trace == ["cancelled", "cleaned up"]


def test_one_that_catches_its_cancellation_is_not_cancelled() -> None:
    async def task() -> str:
        try:
            await ae.CondVar[None]()
        except ae.CancelledError:
            return "I go on"
        return "never"

    each = ae.spawn(task())
    ae.sleep(0).recv()
    each.cancel()
    assert each.recv() == "I go on"
    assert not each.cancelled


def test_one_that_went_on_can_be_cancelled_again() -> None:
    async def task() -> None:
        try:
            await ae.CondVar[None]()
        except ae.CancelledError:
            await ae.CondVar[None]()

    each = ae.spawn(task())
    for _ in range(2):
        assert not each.ready
        ae.sleep(0).recv()
        each.cancel()
    with pytest.raises(ae.CancelledError):
        each.recv()


def test_an_error_in_the_clean_up_is_its_result() -> None:
    async def task() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            raise KeyError("in the clean-up")

    each = ae.spawn(task())
    ae.sleep(0).recv()
    each.cancel()
    with pytest.raises(KeyError, match="in the clean-up"):
        each.recv()


def test_cancelling_itself_takes_effect_at_the_next_wait(trace: Trace) -> None:
    tasks: list[ae.CondVar[None]] = []

    async def task() -> None:
        tasks[0].cancel()
        trace("still here")
        await ae.CondVar[None]()
        trace("not here")

    tasks.append(ae.spawn(task()))
    with pytest.raises(ae.CancelledError):
        tasks[0].recv()
    assert trace == ["still here"]


def test_cancelling_one_that_was_just_resumed_is_not_lost(trace: Trace) -> None:
    condvar = ae.CondVar[int]()

    async def task() -> None:
        trace(await condvar)
        await ae.CondVar[None]()

    each = ae.spawn(task())
    ae.sleep(0).recv()
    condvar.send(1)
    each.cancel()
    with pytest.raises(ae.CancelledError):
        each.recv()


def test_the_wait_for_a_shielded_task_can_be_given_up_without_ending_it() -> None:
    async def slow() -> int:
        await ae.sleep(5)
        return 1

    async def impatient(other: ae.CondVar[int]) -> None:
        await ae.shield(other)

    with virtual_time():
        other = ae.spawn(slow())
        waiter = ae.spawn(impatient(other))
        ae.sleep(1).recv()
        waiter.cancel()
        with pytest.raises(ae.CancelledError):
            waiter.recv()
        with pytest.raises(TimeoutError):
            other.recv(1)
        assert other.recv() == 1


def test_cancelling_a_sleep_ends_its_timer() -> None:
    with virtual_time():
        nap = ae.sleep(100)
        nap.cancel()
        with pytest.raises(ae.CancelledError):
            nap.recv()
        with pytest.raises(ae.Deadlock):
            ae.CondVar[None]().recv()


@pytest.mark.parametrize("bad", ["1", None, float("inf"), float("nan")])
def test_a_bad_sleep_is_refused(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="seconds"):
        ae.sleep(bad)


def test_a_sleep_below_zero_is_over_in_the_next_turn() -> None:
    nap = ae.sleep(-1)
    assert not nap.ready
    nap.recv()


# ---------------------------------------------------------------------- leaving


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_the_wait_and_are_the_tasks_result(kind: type[BaseException]) -> None:
    async def task() -> None:
        await ae.sleep(0)
        raise kind("of a test")

    each = ae.spawn(task())
    with pytest.raises(kind, match="of a test"):
        ae.CondVar[None]().recv()
    assert each.ready
    ae.sleep(0).recv()  # once


def test_an_interrupt_cancels_the_main_coroutine_and_lets_it_clean_up(trace: Trace) -> None:
    async def main() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            await ae.sleep(0)
            trace("cleaned up")

    def interrupt() -> None:
        raise KeyboardInterrupt("of a test")

    with ae.timer(0, interrupt), pytest.raises(KeyboardInterrupt, match="of a test"):
        ae.run(main())
    assert trace == ["cleaned up"]


def test_run_without_a_coroutine_is_no_deadlock_and_ends_by_an_interrupt() -> None:
    # CORE-81
    def leave() -> None:
        raise SystemExit(3)

    backend = ae.detect()
    backend.call_threadsafe(leave)
    with pytest.raises(SystemExit) as caught:
        ae.run()
    assert caught.value.code == 3


# ---------------------------------------------------------------------- context and memory


def test_each_task_has_a_copy_of_its_makers_context() -> None:
    async def task(name: str) -> str:
        before = variable.get()
        variable.set(name)
        await ae.sleep(0)
        return f"{before} {variable.get()}"

    def make() -> list[ae.CondVar[str]]:
        variable.set("maker")
        return [ae.spawn(task(name)) for name in "ab"]

    tasks = contextvars.copy_context().run(make)
    assert [each.recv() for each in tasks] == ["maker a", "maker b"]
    assert variable.get() == "none"


def test_a_callback_made_in_a_task_runs_in_the_tasks_context(trace: Trace) -> None:
    async def task() -> None:
        variable.set("task")
        done = ae.CondVar[None]()

        def fire() -> None:
            trace(variable.get())
            variable.set("changed")
            done.send()

        with ae.timer(0, fire):
            await done
        trace(variable.get())

    ae.run(task())
    assert trace == ["task", "task"]


def test_without_the_garbage_collector_nothing_stays() -> None:
    class Thing:
        pass

    gone = []

    async def task() -> None:
        thing = Thing()
        gone.append(weakref.ref(thing))
        await ae.sleep(0)

    gc.disable()
    try:
        for _ in range(100):
            ae.run(task())
        assert [ref() for ref in gone] == [None] * 100
    finally:
        gc.enable()


def test_a_thousand_tasks_of_asyncio(unbound: None) -> None:
    async def task(number: int) -> int:
        await ae.sleep(0)
        return number

    async def main() -> int:
        tasks = [ae.spawn(task(number)) for number in range(1000)]
        return sum([await each for each in tasks])

    assert asyncio.run(main()) == sum(range(1000))
