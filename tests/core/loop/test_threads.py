"""One loop per thread: what may cross, what may not, and what the message says."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core._base.wakeup import Wakeup
from ae_core.abc import ThreadLock, aside
from ae_core.testing import Trace, binding


def in_thread(function: Callable[[], Any]) -> Any:
    """Run *function* in a thread of its own and return what it returns or raises."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return outcome[0]


def test_a_lock_keeps_other_threads_out_until_it_was_given_back_as_often_as_taken() -> None:
    lock = ThreadLock()

    def take() -> bool:
        taken = lock.acquire(blocking=False)
        if taken:
            lock.release()
        return taken

    with lock:
        with lock:
            assert not in_thread(take)
        assert not in_thread(take)
    assert in_thread(take)
    assert isinstance(in_thread(lock.release), RuntimeError)  # it is nobody's


def test_every_thread_has_a_loop_of_its_own(trace: Trace) -> None:
    ours = ae.detect()

    def work() -> ae.abc.Backend:
        with ae.timer(0, lambda: trace(threading.current_thread() is thread)):
            trace.run_until(1)
        return ae.detect()

    thread = threading.current_thread()
    theirs = in_thread(work)
    assert theirs is not ours
    assert trace == [False]
    assert ae.detect() is ours


def test_a_wake_up_descriptor_that_cannot_be_made_raises_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    unraisable: list[object] = []
    monkeypatch.setattr("ae_core._base.wakeup._make_pair", refuse)
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with pytest.raises(OSError, match="too many open files"):
        Wakeup(one_byte=True)
    gc.collect()
    assert not unraisable


def descriptors() -> set[str]:
    """Return those that are open, where the system tells."""
    return set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()


@pytest.mark.skipif(sys.platform == "win32", reason="a pair of sockets there, not a pipe")
@pytest.mark.parametrize("call", [1, 2])
def test_a_wake_up_pipe_that_cannot_be_made_non_blocking_is_closed(
    call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def refuse(fd: int, blocking: bool) -> None:
        calls.append(fd)
        if len(calls) == call:
            raise OSError(errno.EINVAL, "refused")

    before = descriptors()
    monkeypatch.setattr(os, "set_blocking", refuse)
    with pytest.raises(OSError, match="refused"):
        Wakeup(one_byte=True)
    assert descriptors() == before


def test_a_thread_that_ends_closes_its_loop_and_its_watchers() -> None:
    before = descriptors()
    watchers: list[ae.Watcher] = []

    def work() -> ae.abc.Backend:
        watchers.append(ae.timer(60, print))
        ae.sleep(0).recv()
        return ae.detect()

    backend = in_thread(work)
    gc.collect()
    assert not watchers[0].active
    assert not backend.usable()
    assert descriptors() == before
    with pytest.raises(RuntimeError, match="ended"):
        backend.call_threadsafe(print)
    watchers.clear()


def test_each_thread_chooses_for_itself() -> None:
    def work() -> str:
        ae.use("asyncio")
        ae.sleep(0).recv()
        return ae.detect().name

    assert in_thread(work) == "asyncio"
    assert ae.detect().name == "loop"


# ---------------------------------------------------------------------- in the wrong thread


@pytest.mark.parametrize("what", ["send", "throw", "cancel", "recv"])
def test_a_condition_variable_belongs_to_its_thread(what: str) -> None:
    cv = ae.CondVar[int]()
    args = (ValueError("of a test"),) if what == "throw" else ()
    error = in_thread(lambda: getattr(cv, what)(*args))
    assert type(error) is RuntimeError
    assert what in str(error)
    assert "call_threadsafe" in str(error)
    assert not cv.ready


def test_a_ready_one_can_be_looked_at_everywhere() -> None:
    cv = ae.CondVar[int]()
    cv.send(3)
    assert in_thread(cv.recv) == 3
    assert in_thread(lambda: cv.ready) is True


def nothing(*args: object) -> None:
    return None


@pytest.mark.parametrize("kind", ["timer", "io", "idle", "signal"])
def test_a_watcher_can_only_be_cancelled_in_its_thread(kind: str) -> None:
    left, right = socket.socketpair()
    with left, right:
        makers: dict[str, Callable[[], ae.Watcher]] = {
            "timer": lambda: ae.timer(60, nothing),
            "io": lambda: ae.io(right, "r", nothing),
            "idle": lambda: ae.idle(nothing),
            "signal": lambda: ae.signal("TERM", nothing),
        }
        watcher = makers[kind]()
        error = in_thread(watcher.cancel)
        assert type(error) is RuntimeError
        assert "call_threadsafe" in str(error)
        assert watcher.active
        ae.detect().call_threadsafe(watcher.cancel)
        ae.sleep(0).recv()
        ae.sleep(0).recv()
        assert not watcher.active


@pytest.mark.parametrize("kind", ["timer", "io", "idle", "signal"])
def test_one_that_is_collected_in_another_thread_ends_in_its_own(kind: str) -> None:
    left, right = socket.socketpair()
    with left, right:
        makers: dict[str, Callable[[], ae.Watcher]] = {
            "timer": lambda: ae.timer(60, nothing),
            "io": lambda: ae.io(right, "r", nothing),
            "idle": lambda: ae.idle(nothing),
            "signal": lambda: ae.signal("TERM", nothing),
        }
        holder = [makers[kind]()]
        in_thread(holder.clear)
        with ae.timer(0.01, nothing):
            ae.sleep(0.005).recv()
        with pytest.raises(ae.Deadlock):
            ae.CondVar[None]().recv()


@pytest.mark.parametrize(
    "which",
    [
        "signal",
        pytest.param(
            "any child",
            marks=pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs waitid()"),
        ),
    ],
)
def test_signals_are_for_the_main_thread(which: str) -> None:
    make = {
        "signal": lambda: ae.signal("TERM", nothing),
        "any child": lambda: ae.child(0, nothing),
    }[which]

    def work() -> None:
        try:
            make()
        finally:
            with pytest.raises(ae.Deadlock):  # nothing half-registered is left
                raise_if_deadlocked()

    error = in_thread(work)
    assert type(error) is RuntimeError
    assert "main thread" in str(error)


def raise_if_deadlocked() -> None:
    # the thread that waits for us is no daemon, so ask the loop itself
    from ae_core._detection.current import current_loop

    core = current_loop()
    if not (core.io.readers or core.io.writers or core.timers.live or core.operations):
        raise ae.Deadlock


def test_a_child_can_be_watched_in_any_thread(exits: Callable[[int], int], trace: Trace) -> None:
    def work() -> None:
        with ae.child(exits(3), lambda pid, status: trace(status)):
            trace.run_until(1)

    assert in_thread(work) is None
    assert trace == [3 << 8]


# ---------------------------------------------------------------------- call_threadsafe


def test_call_threadsafe_needs_a_loop_in_the_main_thread(script: Callable[..., str]) -> None:
    program = """
        import ae_core as ae
        try:
            ae.call_threadsafe(print)
        except RuntimeError as error:
            print("no event loop" in str(error))
        ae.detect()
        ae.call_threadsafe(lambda: print("called"))
        ae.sleep(0).recv()
        ae.sleep(0).recv()
        """
    assert script(program) == "True\ncalled\n"


def test_it_reaches_the_main_threads_loop_from_anywhere(trace: Trace) -> None:
    def work() -> None:
        ae.sleep(0).recv()  # this thread has a loop as well
        ae.call_threadsafe(lambda: trace(threading.current_thread() is threading.main_thread()))

    ae.detect()
    in_thread(work)
    trace.run_until(1)
    assert trace == [True]


@pytest.mark.usefixtures("unbound")
def test_it_reaches_the_main_threads_loop_while_another_has_put_its_own_aside(
    trace: Trace,
) -> None:
    ours = ae.detect()

    def work() -> None:
        with aside("loop"):
            ae.call_threadsafe(trace, "called")
            with binding("loop"):
                assert ae.detect() is not ours
        ae.call_threadsafe(trace, "called again")

    assert in_thread(work) is None
    trace.run_until(2)
    assert trace == ["called", "called again"]
    assert ae.detect() is ours


def test_it_reaches_the_newest_loop_of_the_main_thread(trace: Trace) -> None:
    ae.use("loop")
    ae.detect()

    async def main() -> None:
        ae.detect()
        done = ae.CondVar[None]()
        thread = threading.Thread(target=lambda: ae.call_threadsafe(done.send))
        thread.start()
        await done
        thread.join()
        trace(ae.backend())

    from ae_core.testing import release

    release()
    asyncio.run(main())
    assert trace == ["asyncio"]
    with pytest.raises(RuntimeError, match=r"closed|ended"):
        ae.call_threadsafe(print)


def test_four_threads_call_and_nothing_is_lost(trace: Trace) -> None:
    backend = ae.detect()
    count = 5000

    def work(name: int) -> None:
        for number in range(count):
            backend.call_threadsafe(trace.recorder(name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    trace.run_until(4 * count)
    for thread in threads:
        thread.join()
    for name in range(4):
        assert [entry[1] for entry in trace if entry[0] == name] == list(range(count))


def test_a_loop_that_closes_while_threads_call_harms_nobody() -> None:
    wrong: list[BaseException] = []
    start = threading.Barrier(3)

    for _ in range(20):
        holder: list[ae.abc.Backend] = []
        ready = threading.Event()

        def owner(holder: list[ae.abc.Backend] = holder, ready: threading.Event = ready) -> None:
            holder.append(ae.detect())
            ready.set()
            start.wait()
            ae.sleep(0).recv()

        def caller(holder: list[ae.abc.Backend] = holder, ready: threading.Event = ready) -> None:
            ready.wait()
            start.wait()
            try:
                for _ in range(200):
                    holder[0].call_threadsafe(nothing)
            except RuntimeError:
                pass  # it has ended, as it says
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=target) for target in (owner, caller, caller)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# ---------------------------------------------------------------------- another loop


@pytest.mark.parametrize("make", ["timer", "io", "idle", "postpone", "spawn", "sleep", "detect"])
def test_watching_while_a_foreign_loop_runs_names_both(
    make: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    from contextlib import suppress

    async def never() -> None:
        return None

    coroutine = never()
    calls: dict[str, Callable[[], object]] = {
        "timer": lambda: ae.timer(0, nothing),
        "io": lambda: ae.io(pair[0], "r", nothing),
        "idle": lambda: ae.idle(nothing),
        "postpone": lambda: ae.postpone(nothing),  # type: ignore[func-returns-value]
        "spawn": lambda: ae.spawn(coroutine),
        "sleep": lambda: ae.sleep(0),
        "detect": ae.detect,
    }

    async def main() -> None:
        with pytest.raises(ae.WrongLoop) as caught:
            calls[make]()
        assert "asyncio" in str(caught.value)
        assert "loop" in str(caught.value)

    with ae.timer(60, nothing):
        asyncio.run(main())
        ae.sleep(0).recv()  # ours is as good as before
    with suppress(RuntimeError):
        coroutine.close()


def test_blocking_while_a_foreign_loop_runs_gives_the_advice() -> None:
    async def main() -> None:
        cv = ae.CondVar[int]()
        with pytest.raises(ae.BlockingNotAllowed, match="await cv"):
            cv.recv()
        with pytest.raises(ae.BlockingNotAllowed, match="asyncio"):
            ae.run()
        cv.send(1)
        assert cv.recv() == 1

    asyncio.run(main())


@pytest.mark.usefixtures("unbound")
def test_watchers_of_a_loop_that_has_ended_are_dead() -> None:
    watchers: list[ae.Watcher] = []

    async def main() -> None:
        watchers.append(ae.timer(60, nothing))
        watchers.append(ae.idle(nothing))

    asyncio.run(main())
    with ae.timer(0, nothing):  # the next watcher finds that out
        assert ae.backend() != "asyncio"  # whatever an earlier test has loaded
    assert not any(watcher.active for watcher in watchers)
    for watcher in watchers:
        watcher.cancel()
        with pytest.raises(ae.WrongLoop, match="asyncio"):
            watcher.__enter__()


def test_a_call_that_comes_while_the_loop_wakes_up_silences_none_of_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with binding("loop") as backend:
        assert backend is not None
        between: list[ae.CondVar[None]] = [ae.CondVar()]
        first: ae.CondVar[None] = ae.CondVar()
        last: ae.CondVar[None] = ae.CondVar()
        drain = Wakeup.drain

        def drain_late(wakeup: Wakeup) -> None:
            if between:
                backend.call_threadsafe(between.pop().send)  # as a thread would, just now
            drain(wakeup)

        monkeypatch.setattr(Wakeup, "drain", drain_late)
        backend.call_threadsafe(first.send)
        first.recv(60)
        assert not between
        thread = threading.Thread(target=backend.call_threadsafe, args=(last.send,))
        with ae.timer(0.01, thread.start):  # while the loop waits, which looks by itself before
            last.recv(60)
        thread.join()
