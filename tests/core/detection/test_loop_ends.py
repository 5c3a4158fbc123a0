"""What is process-wide is given back when the loop ends; loops in turn keep their watchers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX"),
    pytest.mark.usefixtures("unbound", "warm_uvloop"),
]

Runner = Callable[[Callable[[], Any]], Any]


def by_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def by_run_until_complete(main: Callable[[], Any]) -> Any:
    """The bare way: nothing is shut down but the loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def by_uvloop(main: Callable[[], Any]) -> Any:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def by_trio(main: Callable[[], Any]) -> Any:
    return pytest.importorskip("trio").run(main)


RUNNERS = [by_asyncio, by_run_until_complete, by_uvloop, by_trio]
every_loop = pytest.mark.parametrize("run", RUNNERS, ids=lambda run: run.__name__)


def wakeup_fd() -> int:
    current = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(current)
    return current


@every_loop
def test_handlers_and_the_wakeup_descriptor_are_back_when_the_loop_has_ended(
    run: Runner,
) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers], wakeup_fd()
    kept: list[Any] = []

    async def main() -> None:
        kept.extend([ae.signal("TERM", print), ae.signal("INT", print), ae.child(0, print)])
        assert signal.getsignal(signal.SIGTERM) is not before[0][0]
        await ae.sleep(0.001)

    run(main)
    assert ([signal.getsignal(number) for number in numbers], wakeup_fd()) == before
    assert [watcher.active for watcher in kept] == [False] * 3


@every_loop
def test_it_is_the_same_after_a_main_coroutine_that_failed(run: Runner) -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept.append(ae.signal("TERM", print))
        await ae.sleep(0.001)
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        run(main)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not kept[0].active


@every_loop
def test_a_second_run_hears_ctrl_c_although_the_first_watched_it(run: Runner) -> None:
    kept: list[Any] = []

    async def first() -> None:
        kept.append(ae.signal("INT", print))
        await ae.sleep(0.001)

    async def second() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await ae.sleep(60)

    run(first)
    if run in (by_asyncio, by_uvloop, by_trio):
        with pytest.raises(KeyboardInterrupt):
            run(second)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_sigterm_after_the_run_ends_the_process(loop: str, script: Callable[..., str]) -> None:
    pytest.importorskip(loop)
    output = script(
        f"""
        import asyncio, os, signal
        import ae_core as ae
        import {loop}
        async def serve():
            global term
            term = ae.signal("TERM", print)
            await ae.sleep(0.01)
        {"trio.run(serve)" if loop == "trio" else loop + ".run(serve())"}
        print("served", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        print("swallowed")
        """,
        status=-signal.SIGTERM,
    )
    assert output == "served\n"


def test_two_open_loops_take_turns_and_each_keeps_its_watchers() -> None:
    seen: list[str] = []
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    kept: list[Any] = []

    async def watch(name: str) -> None:
        kept.append(ae.timer(0.001, lambda: seen.append(name), interval=0.001))
        await ae.sleep(0.003)

    async def wait(name: str) -> None:
        seen.clear()
        while name not in seen:
            await ae.sleep(0.001)
        assert set(seen) == {name}

    try:
        first.run_until_complete(watch("first"))
        second.run_until_complete(watch("second"))
        for _ in range(3):
            first.run_until_complete(wait("first"))
            second.run_until_complete(wait("second"))
        assert [watcher.active for watcher in kept] == [True, True]
        first.close()
        assert [watcher.active for watcher in kept] == [False, True]
        second.run_until_complete(wait("second"))
    finally:
        first.close()
        second.close()
    assert [watcher.active for watcher in kept] == [False, False]


def test_signals_of_a_loop_that_rests_are_not_taken_over_in_silence() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    heard: list[str] = []
    kept: list[Any] = []

    async def watch(name: str) -> None:
        kept.append(ae.signal("USR1", lambda: heard.append(name)))

    async def hear() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        while not heard:
            await ae.sleep(0.001)

    try:
        first.run_until_complete(watch("first"))
        with pytest.raises(ae.WrongLoop, match="has not ended"):
            second.run_until_complete(watch("second"))
        first.run_until_complete(hear())
        assert heard == ["first"]
        first.close()
        second.run_until_complete(watch("second"))
        heard.clear()
        second.run_until_complete(hear())
        assert heard == ["second"]
    finally:
        first.close()
        second.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_the_loops_own_close_is_put_back_when_the_binding_ends_first() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await ae.sleep(0.001)

    loop.run_until_complete(main())
    assert "close" in vars(loop)
    ae.testing.release()
    assert "close" not in vars(loop)
    loop.close()


def test_a_loop_that_refuses_to_close_keeps_its_watchers() -> None:
    async def main() -> bool:
        watcher = ae.timer(60, print)
        with pytest.raises(RuntimeError, match="running"):
            asyncio.get_running_loop().close()
        return watcher.active

    assert asyncio.run(main())


def test_a_program_of_a_loop_that_has_ended_can_be_ended() -> None:
    operations: list[Any] = []

    async def main() -> None:
        operations.extend([ae.sleep(60), ae.run_cmd([sys.executable, "-c", "input()"])])
        await ae.sleep(0.001)

    asyncio.run(main())
    process = operations[1]
    process.cancel()
    assert process.cancelled
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == -signal.SIGTERM
