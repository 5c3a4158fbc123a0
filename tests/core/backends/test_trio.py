"""Turns of trio: how calls are made in the next one, and how tasks that wait are woken up."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import aside, at_loop_end
from ae_core.testing import Trace, binding

trio: Any = pytest.importorskip("trio", reason="trio is not installed")
pytest.importorskip("trio.testing")
_trio: Any = pytest.importorskip("ae_core._backends._trio")


@pytest.fixture
def run() -> Any:
    """Run a coroutine function in trio, for a minute at most."""

    def run(function: Callable[[], Any]) -> None:
        async def main() -> None:
            with trio.fail_after(60):
                await function()

        with binding():
            trio.run(main)

    return run


def test_a_postponed_call_and_the_task_that_it_wakes_take_no_socket(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    pair = trio._core._wakeup_socketpair.WakeupSocketpair
    write = pair.wakeup_thread_and_signal_safe

    def count(self: Any) -> None:
        nonlocal written
        written += 1
        write(self)

    monkeypatch.setattr(pair, "wakeup_thread_and_signal_safe", count)

    async def main() -> None:
        for _ in range(3):
            done: ae.CondVar[str] = ae.CondVar()
            ae.postpone(lambda done=done: done.send("called"))
            assert await done == "called"
        assert written == 0  # trio itself writes to one when the run ends

    run(main)


def test_calls_are_made_in_order_and_those_that_a_call_adds_in_a_later_turn(run: Any) -> None:
    async def main() -> None:
        backend = ae.detect()
        called: list[int] = []
        most = 1000

        def add_another() -> None:
            called.append(len(called))
            if len(called) < most:
                backend.call_soon(add_another)

        await trio.lowlevel.checkpoint()
        for number in range(3):
            backend.call_soon(lambda number=number: called.append(-number))
        backend.call_soon(add_another)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert called[:5] == [0, -1, -2, 3, 4]
        assert len(called) < 20
        most = 0

    run(main)


def test_what_is_called_while_trio_takes_tasks_off_its_queue_is_not_lost(run: Any) -> None:
    """As by the garbage collector, which finalizes what it likes there."""

    async def main() -> None:
        calls: list[Callable[[], object]] = []

        class Queue(deque[Any]):
            def clear(self) -> None:
                while calls:
                    calls.pop()()
                super().clear()

        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        postponed: ae.CondVar[None] = ae.CondVar()
        sent: ae.CondVar[None] = ae.CondVar()
        ae.postpone(int)
        await trio.testing.wait_all_tasks_blocked()
        runner.runq = Queue(runner.runq)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await sent

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            calls += [sent.send, lambda: ae.postpone(postponed.send)]
            await trio.lowlevel.checkpoint()
            assert not calls
            await postponed

    run(main)


def test_what_is_postponed_while_the_run_ends_is_called(run: Any) -> None:
    called: list[str] = []

    async def last() -> None:
        backend = ae.detect()
        try:
            await trio.sleep_forever()
        finally:
            backend.call_soon(lambda: called.append("last"))

    async def main() -> None:
        ae.detect().call_soon(lambda: called.append("first"))
        trio.lowlevel.spawn_system_task(last)
        await trio.testing.wait_all_tasks_blocked()

    run(main)
    assert called == ["first", "last"]


def test_a_signal_handler_that_sends_while_the_caller_goes_to_sleep_wakes_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added between the last look at the queue and the wait is not left there."""

    class Queue(deque[Any]):
        """Has a signal handler add a call right behind a look that finds nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.handlers: list[Callable[[], object]] = []

        def __bool__(self) -> bool:
            found = len(self) > 0
            if not found and self.handlers:
                self.handlers.pop()()
            return found

    async def main() -> None:
        called: list[int] = []
        for looks in range(4):
            backend: Any = _trio.TrioBackend(int)
            backend._soon = Queue()  # its task has not run yet
            backend._soon.handlers += [
                partial(backend.call_soon, partial(called.append, looks)),
                *[int] * looks,
            ]
            await trio.testing.wait_all_tasks_blocked()
            if backend._soon.handlers:  # fewer looks than that
                assert looks > 1
                backend._soon.handlers.clear()
            else:
                assert called[-1] == looks
            assert not list(backend._soon)

    run(main)


def run_by_ae(main: Callable[[], Any]) -> Any:
    ae.use("trio")
    return ae.run(main())


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("runs", [trio.run, run_by_ae], ids=["trio", "ae"])
def test_an_interrupt_out_of_what_is_called_at_the_end_ends_the_run_by_it(
    leave: type[BaseException], runs: Callable[[Any], Any]
) -> None:
    async def main() -> list[Any]:
        def end() -> None:
            raise leave("at the end")

        return [at_loop_end(end)]

    with binding(), pytest.raises(leave, match="at the end"):
        runs(main)


def test_an_interrupt_out_of_a_call_when_the_main_task_has_ended_ends_the_run_by_it() -> None:
    async def last() -> None:
        backend = ae.detect()
        try:
            await trio.sleep_forever()
        finally:
            backend.call_soon(leave)

    def leave() -> None:
        raise SystemExit("at the end")

    async def main() -> None:
        ae.detect()
        trio.lowlevel.spawn_system_task(last)
        await trio.testing.wait_all_tasks_blocked()

    with binding(), pytest.raises(SystemExit, match="at the end"):
        trio.run(main)


# ---------------------------------------------------------------------- the clean-up at the end


def in_a_task(clean_up: Callable[[], None]) -> None:
    async def task() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            clean_up()

    ae.spawn(task())


def in_a_system_task(clean_up: Callable[[], None]) -> None:
    async def task() -> None:
        ae.detect()
        try:
            await trio.sleep_forever()
        finally:
            clean_up()

    trio.lowlevel.spawn_system_task(task)


def leave() -> None:
    raise SystemExit("at the end")


def postpone_leaving() -> None:
    ae.postpone(leave)


# trio begins the clean-up of the tasks in random order: ten times
@pytest.mark.parametrize(
    ("where", "clean_up"),
    [
        (in_a_task, leave),
        (in_a_task, postpone_leaving),
        (in_a_system_task, postpone_leaving),  # what it raises itself is trio's internal error
    ],
)
@pytest.mark.parametrize("runs", [trio.run, run_by_ae], ids=["trio", "ae"])
def test_an_interrupt_out_of_clean_up_at_the_end_ends_the_run_by_it(
    where: Callable[[Callable[[], None]], None],
    clean_up: Callable[[], None],
    runs: Callable[[Any], Any],
) -> None:
    async def main() -> None:
        where(clean_up)
        await trio.testing.wait_all_tasks_blocked()

    for _ in range(10):
        with binding(), pytest.raises(SystemExit, match="at the end"):
            runs(main)


def test_clean_up_that_waits_has_its_timers_and_descriptors(trace: Trace) -> None:
    async def task() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            with trio.CancelScope(shield=True):
                await ae.sleep(0.001)
                trace("slept")
                one, two = socket.socketpair()
                with one, two:
                    readable = ae.CondVar[None]()
                    watcher = ae.io(one, "r", readable)
                    two.send(b"x")
                    await readable
                    watcher.cancel()
                trace("read")

    async def main() -> list[Any]:
        tasks = [ae.spawn(task()) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        return [tasks, at_loop_end(lambda: trace("the end"))]

    for _ in range(3):
        with binding():
            trio.run(main)
    assert sorted(map(str, trace[:6])) == ["read"] * 3 + ["slept"] * 3
    assert trace[6] == "the end"
    assert len(trace) == 21


def test_a_watcher_that_nobody_ends_is_ended_with_the_run() -> None:
    one, two = socket.socketpair()
    kept: list[Any] = []

    async def main() -> None:
        kept.append(ae.io(one, "r", lambda: None))
        kept.append(ae.timer(60, lambda: None))
        await trio.testing.wait_all_tasks_blocked()

    with one, two:
        with binding():
            trio.run(main)
        assert not any(watcher.active for watcher in kept)


def test_two_bindings_in_one_run_end_with_it(trace: Trace) -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept.append(at_loop_end(lambda: trace("first")))
        await trio.testing.wait_all_tasks_blocked()
        with binding("trio"):
            kept.append(at_loop_end(lambda: trace("second")))
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()

    with binding():
        trio.run(main)
    assert trace == ["second", "first"]


def test_a_run_that_begins_when_trio_is_bound_already_tells_its_end(trace: Trace) -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept.append(at_loop_end(lambda: trace("the end")))

    with binding("trio"):
        trio.run(main)
    assert trace == ["the end"]


def test_a_loop_is_there_aside_when_a_run_ends(trace: Trace) -> None:
    kept: list[Any] = []

    def ended() -> None:
        with aside("loop"):
            ae.sleep(0.001).recv()
            trace(ae.backend())

    async def main() -> None:
        kept.append(at_loop_end(ended))

    with binding():
        trio.run(main)
    assert trace == ["loop"]


def test_aside_of_a_run_that_goes_on_another_loop_is_refused() -> None:
    async def main() -> None:
        ae.detect()
        with pytest.raises(ae.WrongLoop), aside("loop"):
            pass

    with binding():
        trio.run(main)
