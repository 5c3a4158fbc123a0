"""What programs in a guest loop do seldom: refusals, debug mode, other threads, late ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import ae_core as ae
import ae_guests
from ae_core.testing import release
from ae_guests import start_asyncio
from ae_guests._loop import GuestLoop

Run = Callable[[Any], Any]
#: Seconds after which what does not come is missing.
PATIENCE = 30.0
SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")


# ---------------------------------------------------------------------- refusals


def test_a_guest_is_refused_where_another_loop_of_asyncio_runs() -> None:
    loop = ae_guests.new_event_loop()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="while another loop is running"):
            loop.run_forever()

    asyncio.run(main())
    assert not loop.is_running()
    loop.close()


def test_a_loop_that_runs_is_not_closed(run: Run) -> None:
    async def main() -> str:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            asyncio.get_running_loop().close()
        return await asyncio.sleep(0.001, "runs on")

    assert run(main()) == "runs on"


def test_a_loop_whose_selector_the_host_cannot_watch_runs_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loop = GuestLoop()
    with monkeypatch.context() as patch:
        patch.setattr("ae_guests._loop.watch", no_room)
        with pytest.raises(OSError) as caught:
            loop.run_forever()
    assert caught.value.errno == errno.ENOSPC
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0.001, "runs")) == "runs"
    loop.close()


def test_signals_that_cannot_be_handled_are_refused_and_leave_nothing(run: Run) -> None:
    async def coroutine() -> None: ...

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.add_signal_handler(signal.SIGUSR1, coroutine)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match=f"sig {signal.SIGKILL:d} cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)
        with pytest.raises(RuntimeError, match="main thread only"):
            await asyncio.to_thread(loop.add_signal_handler, signal.SIGUSR1, print)
        return [loop.remove_signal_handler(n) for n in (signal.SIGKILL, signal.SIGUSR1)]

    assert run(main()) == [False, False]


def test_a_handler_of_a_signal_is_replaced_by_a_later_one(run: Run) -> None:
    async def main() -> list[bool]:
        def second() -> None:
            heard.append("second")
            came.set()

        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGWINCH, heard.append, "first")
        loop.add_signal_handler(signal.SIGWINCH, second)
        os.kill(os.getpid(), signal.SIGWINCH)
        async with asyncio.timeout(PATIENCE):
            await came.wait()
        return [loop.remove_signal_handler(signal.SIGWINCH) for _ in range(2)]

    heard: list[str] = []
    assert run(main()) == [True, False]
    assert heard == ["second"]
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL


# ---------------------------------------------------------------------- debug mode, threads


def test_debug_mode_tells_where_a_timer_was_made_and_refuses_coroutines(run: Run) -> None:
    async def coroutine() -> None: ...

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        with pytest.raises(TypeError, match=r"coroutines cannot be used with call_at\(\)"):
            loop.call_at(loop.time(), coroutine)
        timer: Any = loop.call_at(loop.time() + 60, print)
        timer.cancel()
        where: str = timer._source_traceback[-1].name
        return where

    assert run(main()) == "main"


def test_a_call_made_in_another_thread_by_mistake_is_made_all_the_same(run: Run) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def in_a_callback_of_the_host() -> None:  # where no turn is under way that would see it
            thread = threading.Thread(target=loop.call_soon, args=(done.set_result, "made"))
            thread.start()
            thread.join()

        watcher = ae.timer(0.001, in_a_callback_of_the_host)
        async with asyncio.timeout(PATIENCE):
            made: str = await done
        watcher.cancel()
        return made

    assert run(main()) == "made"


# ---------------------------------------------------------------------- timers, selectors


def test_cancelled_timers_are_freed_before_they_are_due_and_others_keep_their_order(
    run: Run,
) -> None:
    async def main() -> tuple[int, list[int]]:
        loop = asyncio.get_running_loop()
        called: list[int] = []
        done = loop.create_future()
        loop.call_later(0.02, done.set_result, None)
        for n in (3, 1, 2):
            loop.call_later(n / 200, called.append, n)
        timers = [loop.call_later(3600, print) for _ in range(300)]
        for timer in timers:
            timer.cancel()
        known = [weakref.ref(timer) for timer in timers]
        del timer
        timers.clear()
        await asyncio.sleep(0)
        gc.collect()
        left = sum(ref() is not None for ref in known)
        await done
        return left, called

    assert run(main()) == (0, [1, 2, 3])


@pytest.mark.parametrize("kind", ["SelectSelector", "PollSelector"])
def test_what_begins_to_be_watched_while_a_guest_waits_wakes_it(kind: str) -> None:
    if not hasattr(selectors, kind):
        pytest.skip(f"no {kind} on this system")

    async def main() -> tuple[bytes, bool]:
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            loop = asyncio.get_running_loop()
            watcher = ae.timer(0.001, lambda: a.send(b"late"))
            async with asyncio.timeout(PATIENCE):
                data = await loop.sock_recv(b, 100)  # registered, then unregistered
            watcher.cancel()
            both = loop.create_future()
            loop.add_reader(b, print)
            loop.add_writer(b, lambda: both.done() or both.set_result(None))  # modified
            async with asyncio.timeout(PATIENCE):
                await both
            loop.remove_writer(b)
            return data, loop.remove_reader(b)

    loop = GuestLoop(getattr(selectors, kind)())
    assert loop.run_until_complete(main()) == (b"late", True)
    assert "register" not in vars(loop._selector)  # it is the program's again
    loop.close()


# ---------------------------------------------------------------------- ends


def test_cancelling_what_has_ended_changes_nothing() -> None:
    operation = start_asyncio(asyncio.sleep(0, "value"))
    assert operation.recv(PATIENCE) == "value"
    operation.cancel()
    assert not operation.cancelled
    assert operation.recv() == "value"


def test_the_error_of_what_an_operation_left_behind_is_told(until_closed: Any) -> None:
    told: list[Any] = []

    async def left_behind() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while it cleans up")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        tasks.append(loop.create_task(left_behind()))
        await asyncio.sleep(0)

    tasks: list[Any] = []
    start_asyncio(main()).recv(PATIENCE)
    until_closed()
    assert [context["message"] for context in told] == [
        "unhandled exception while the guest loop was shut down"
    ]
    assert str(told[0]["exception"]) == "while it cleans up"
    assert told[0]["task"] is tasks[0]


def test_a_signal_is_handled_while_what_is_left_cleans_up(host: Any, trace: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_signal_handler(signal.SIGWINCH, arrived.set)
        try:
            trace("began")
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGWINCH)
            await arrived.wait()
            loop.remove_signal_handler(signal.SIGWINCH)
            trace("handled")

    operation = start_asyncio(main())
    trace.run_until(1)
    release()
    assert trace == ["began", "handled"]
    assert operation.cancelled


def test_what_is_left_cleans_up_where_the_program_watches_signals_itself(
    host: Any, trace: Any
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, print)
        try:
            trace("began")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            trace("cleaned up")

    own = ae.signal(signal.SIGURG, print)
    operation = start_asyncio(main())
    trace.run_until(1)
    release()
    own.cancel()
    assert trace == ["began", "cleaned up"]
    assert operation.cancelled
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL


# ---------------------------------------------------------------------- children


def test_a_program_whose_start_is_cancelled_is_killed_and_reaped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        return started[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)

    async def main() -> None:
        start = asyncio.create_subprocess_exec(*SLEEP, stdin=subprocess.PIPE)
        starting = asyncio.create_task(start)
        await asyncio.sleep(0)  # it has been started, and its pipes are not connected
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    run(main())
    (process,) = started
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def test_a_program_that_ends_after_the_loop_was_closed_is_reaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))
    loop = GuestLoop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec(*SLEEP))
    process._transport.close()  # kills it
    loop.close()

    pid = process.pid

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    gone: ae.CondVar[None] = ae.CondVar()
    look = ae.timer(0.001, lambda: gone.send(None) if is_gone() else None, interval=0.001)
    gone.recv(PATIENCE)
    look.cancel()
    with warnings.catch_warnings():  # subprocess has not seen it end
        warnings.simplefilter("ignore", ResourceWarning)
        del process
        gc.collect()
    assert errors == []


def test_of_a_program_that_other_code_has_waited_for_the_status_is_unknown(trace: Any) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEP)
        children.append(process.pid)
        try:
            trace("began")
            await asyncio.sleep(60)
        finally:
            trace(f"status {await process.wait()}")

    children: list[int] = []
    start_asyncio(main())
    trace.run_until(1)
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)
    release()
    assert trace == ["began", "status 255"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_watcher_of_the_program_is_used(run: Run) -> None:
    class Own(asyncio.ThreadedChildWatcher):
        def add_child_handler(self, pid: int, callback: Any, *args: Any) -> None:
            watched.append(pid)
            super().add_child_handler(pid, callback, *args)

    watched: list[int] = []

    async def main() -> list[int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", "raise SystemExit(3)"
        )
        return [process.pid, await process.wait()]

    own = Own()
    asyncio.set_child_watcher(own)
    try:
        pid, status = run(main())
        own.close()
    finally:
        asyncio.set_child_watcher(None)
    assert (watched, status) == ([pid], 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_outside_of_callbacks_has_guests_as_its_parent_has() -> None:
    ae.sleep(0).recv()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            heard: list[str] = []
            loop = GuestLoop()
            timer = ae.timer(0.001, partial(heard.append, "host"))
            loop.run_until_complete(asyncio.sleep(0.01))
            timer.cancel()
            status = 7 if heard == ["host"] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_host_forgets_the_timer_of_a_guest_that_waits_for_none(
    host: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[float, ae.Watcher]] = []
    timer = ae.timer

    def recorded(after: float, *arguments: Any, **options: Any) -> ae.Watcher:
        made.append((after, timer(after, *arguments, **options)))
        return made[-1][1]

    async def main() -> tuple[bool, bool]:
        loop = asyncio.get_running_loop()
        later = loop.call_later(3600, print)
        await ae.sleep(0.001)  # of the host: the guest rests
        (watcher,) = [each for after, each in made if after > 3000]
        held = watcher.active
        later.cancel()
        await ae.sleep(0.001)
        return held, watcher.active

    monkeypatch.setattr("ae_guests._loop.ae.timer", recorded)
    assert run(main()) == (True, False)
