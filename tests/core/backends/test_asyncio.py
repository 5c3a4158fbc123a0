"""Inside asyncio: our watchers in its loop, its tasks for our coroutines, its cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace

pytestmark = pytest.mark.usefixtures("unbound", "warm_uvloop")

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function in a loop of the program's."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    return run


def test_all_kinds_of_watchers_work_inside(run: Run, trace: Trace) -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.send(b"x")
            watchers = [
                ae.io(right, "r", lambda: (trace("io"), right.recv(1))),
                ae.timer(0.001, trace.recorder("timer")),
                ae.signal("TERM", trace.recorder("signal")),
            ]
            ae.postpone(trace.recorder("postponed"))
            signal.raise_signal(signal.SIGTERM)
            await trace.reaches(4)
            watchers.clear()

    run(main)
    assert sorted(trace) == ["io", "postponed", "signal", "timer"]


def test_await_gives_the_value_or_the_error(run: Run) -> None:
    async def main() -> None:
        good, bad, ready = ae.CondVar[int](), ae.CondVar[int](), ae.CondVar[int]()
        ready.send(1)
        with ae.timer(0, lambda: (good.send(2), bad.throw(KeyError("x")))):
            assert await ready == 1
            assert await good == 2
            with pytest.raises(KeyError):
                await bad

    run(main)


def test_asyncios_own_tools_take_condition_variables(run: Run) -> None:
    async def main() -> None:
        async def value(cv: ae.CondVar[int]) -> int:
            return await cv

        one, two = ae.CondVar[int](), ae.CondVar[int]()
        with ae.timer(0, lambda: (two.send(2), one.send(1))):
            assert await asyncio.gather(value(one), value(two)) == [1, 2]
        async with asyncio.TaskGroup() as group:
            group.create_task(value(one))

    run(main)


def test_a_cancelled_waiter_leaves_the_condition_variable(run: Run) -> None:
    async def main() -> None:
        cv = ae.CondVar[int]()

        async def wait() -> int:
            return await cv

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not cv.ready
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await cv
        assert not cv.ready
        assert not cv._callbacks
        cv.send(3)
        assert await cv == 3

    run(main)


def test_a_cancelled_condition_variable_raises_ours_in_the_waiter(run: Run) -> None:
    async def main() -> None:
        cv = ae.CondVar[int]()
        with ae.timer(0, cv.cancel), pytest.raises(ae.CancelledError):
            await cv

    run(main)


def test_spawn_makes_a_task_of_the_host(run: Run) -> None:
    async def main() -> None:
        async def inner() -> object:
            await asyncio.sleep(0)
            await ae.sleep(0)
            return asyncio.current_task()

        outer = asyncio.current_task()
        task = await ae.spawn(inner())
        assert isinstance(task, asyncio.Task)
        assert task is not outer

    run(main)


def test_cancelling_a_spawned_one_is_translated_both_ways(run: Run, trace: Trace) -> None:
    async def main() -> None:
        async def inner() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                trace("asyncio's")
                raise

        task = ae.spawn(inner())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        assert not task.ready
        with pytest.raises(ae.CancelledError):
            await task
        assert task.cancelled

        async def ours() -> None:
            raise ae.CancelledError

        task = ae.spawn(ours())
        with pytest.raises(ae.CancelledError):
            await task
        assert task.cancelled

    run(main)
    assert trace == ["asyncio's"]


def test_context_variables_are_the_makers(run: Run, trace: Trace) -> None:
    async def main() -> None:
        variable.set("main")

        async def inner() -> str:
            before = variable.get()
            variable.set("inner")
            await ae.sleep(0)
            return f"{before} {variable.get()}"

        with ae.timer(0, lambda: trace(variable.get())):
            assert await ae.spawn(inner()) == "main inner"
            await trace.reaches(1)
        assert variable.get() == "main"

    run(main)
    assert trace == ["main"]


def test_an_error_in_a_callback_goes_to_our_hook_and_not_to_the_loops(
    run: Run, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))

    def fails() -> None:
        raise ValueError("of a test")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: trace("the loop's handler"))
        with ae.timer(0, fails):
            await trace.reaches(1)
            await ae.sleep(0.001)

    run(main)
    assert trace == ["of a test"]


def test_a_pending_interest_does_not_keep_the_host_from_ending(run: Run) -> None:
    async def main() -> None:
        keep.append(ae.timer(60, print))
        keep.append(ae.idle(lambda: None))

    keep: list[ae.Watcher] = []
    run(main)
    assert ae.backend() is None
    with ae.timer(0, print):
        assert not any(watcher.active for watcher in keep)


def test_a_condition_variable_can_outlive_the_loop(run: Run) -> None:
    cv = ae.CondVar[int]()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await cv

    run(main)
    cv.send(3)
    assert cv.recv() == 3


def test_blocking_inside_is_refused_with_the_advice(run: Run) -> None:
    async def main() -> None:
        ae.detect()
        with pytest.raises(ae.BlockingNotAllowed, match="await cv"):
            ae.CondVar[None]().recv()
        with pytest.raises(ae.BlockingNotAllowed):
            ae.CondVar[None]().recv(0)
        with pytest.raises(ae.BlockingNotAllowed):
            ae.run()
        coroutine = ae_sleeper()
        with pytest.raises(ae.BlockingNotAllowed):
            ae.run(coroutine)

    run(main)


async def ae_sleeper() -> None:
    await ae.sleep(0)


# ---------------------------------------------------------------------- run by us


def test_recv_runs_a_loop_of_our_own(trace: Trace) -> None:
    ae.use("asyncio")

    async def task() -> None:
        await asyncio.sleep(0)
        trace("asyncio's sleep")
        await ae.sleep(0)
        trace("ours")

    ae.spawn(task()).recv()
    assert trace == ["asyncio's sleep", "ours"]


def test_a_loop_of_the_programs_is_used_and_not_closed(trace: Trace) -> None:
    from ae_core.testing import release

    loop = asyncio.new_event_loop()
    try:
        ae.use("asyncio", loop=loop)
        with ae.timer(0, trace.recorder("timer")):
            loop.run_until_complete(asyncio.sleep(0.001))
            trace.run_until(1)
        assert ae.detect().loop is loop  # type: ignore[attr-defined]
        release()
        assert not loop.is_closed()
    finally:
        loop.close()


def test_waiting_does_not_spin(trace: Trace) -> None:
    # design.md 10: call_soon(stop) with run_forever spins at 100 % CPU
    ae.use("asyncio")
    loop = ae.detect().loop  # type: ignore[attr-defined]
    turns = 0
    original = loop._run_once

    def counted() -> None:
        nonlocal turns
        turns += 1
        original()

    loop._run_once = counted
    ae.sleep(0.02).recv()
    with pytest.raises(TimeoutError):
        ae.CondVar[None]().recv(0.02)
    del loop._run_once
    assert turns < 20


def test_the_loop_is_closed_with_its_binding() -> None:
    from ae_core.testing import release

    ae.use("asyncio")
    loop = ae.detect().loop  # type: ignore[attr-defined]
    ae.sleep(0).recv()
    release()
    assert loop.is_closed()


def test_debug_mode_has_no_complaints(trace: Trace, capfd: pytest.CaptureFixture[str]) -> None:
    ae.use("asyncio", loop_factory=debugging_loop)
    with ae.timer(0, trace.recorder("timer")):
        trace.run_until(1)
    backend = ae.detect()
    import threading

    thread = threading.Thread(target=lambda: backend.call_threadsafe(trace.recorder("thread")))
    thread.start()
    trace.run_until(2)
    thread.join()
    assert capfd.readouterr().err == ""


def debugging_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def test_async_generators_and_executors_of_the_program_work(run: Run) -> None:
    async def main() -> int:
        async def numbers() -> Any:
            for number in range(3):
                await ae.sleep(0)
                yield number

        total = 0
        async for number in numbers():
            total += number
        loop = asyncio.get_running_loop()
        return total + await loop.run_in_executor(None, lambda: 1)

    assert run(main) == 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_are_fine() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)

        async def task() -> int:
            await ae.sleep(0)
            return 1

        assert await asyncio.create_task(task()) == 1
        assert await ae.spawn(task()) == 1

    asyncio.run(main())


FACTORIES = {
    "the old form": lambda loop, coroutine: asyncio.Task(coroutine, loop=loop),
    "eager": getattr(asyncio, "eager_task_factory", None),
}


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize("kind", FACTORIES)
def test_under_any_task_factory_a_spawned_coroutine_begins_in_a_later_turn(
    kind: str, trace: Trace
) -> None:
    factory = FACTORIES[kind]
    if factory is None:
        pytest.skip("eager tasks came with 3.12")
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def work() -> str:
        trace("began")
        before = variable.get()
        variable.set("theirs")
        await ae.sleep(0)
        return before + variable.get()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        variable.set("ours")
        task = ae.spawn(work())
        trace("spawned")
        assert await task == "ourstheirs"
        assert variable.get() == "ours"
        never = ae.spawn(work())
        never.cancel()  # before it began
        with pytest.raises(ae.CancelledError):
            await never

    asyncio.run(main())
    assert trace == ["spawned", "began"]
