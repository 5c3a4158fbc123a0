"""Child watchers where the system or the loop refuses something, or others are quicker."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._sources import children
from ae_core.testing import Trace, release

if not hasattr(os, "waitid"):
    pytest.skip("needs waitid(); see test_children_windows.py", allow_module_level=True)

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open()")


def spawn(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)


def turns(count: int = 3) -> None:
    for _ in range(count):
        ae.sleep(0).recv()


@pytest.fixture
def by_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_use_pidfd", lambda: False)


def thread_of(pid: int) -> threading.Thread:
    (thread,) = [each for each in threading.enumerate() if each.name == f"ae-core-child-{pid}"]
    return thread


def test_a_system_without_waitid_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "waitid")
    with pytest.raises(RuntimeError, match="child watchers need waitid"):
        ae.child(1, print)
    with pytest.raises(RuntimeError, match="watching any child needs waitid"):
        ae.child(0, print)


@needs_pidfd
def test_a_system_that_gives_no_pidfd_has_a_thread_wait(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    pid = spawn("exit 3")
    with ae.child(pid, trace):
        trace.run_until(1)
    assert trace == [(pid, 768)]


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop watches no more descriptors."""

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no room in the kernel's table")

    turns()
    monkeypatch.setattr(type(current_loop().backend), "io_start", refuse)


@needs_pidfd
def test_a_loop_that_watches_no_pidfd_has_a_thread_wait(unwatched: None, trace: Trace) -> None:
    pid = spawn("exit 3")
    with ae.child(pid, trace):
        trace.run_until(1)
    assert trace == [(pid, 768)]


@needs_pidfd
def test_where_there_is_no_thread_either_the_watchers_have_ended_with_that_error(
    unwatched: None, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    errors: list[tuple[str, Any]] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, who: errors.append((str(error), who)))
    monkeypatch.setattr(children, "make_thread", refuse)
    pid = spawn("exit 3")
    watchers = [ae.child(pid, trace), ae.child(pid, trace)]
    turns()
    assert [text for text, _ in errors] == ["[Errno 28] no room in the kernel's table"] * 2
    assert not any(watcher.active for watcher in watchers)
    assert os.waitpid(pid, 0) == (pid, 768)
    assert trace == []


# ---------------------------------------------------------------------- false reports


@needs_pidfd
@pytest.mark.parametrize("spurious", [0, 1])
def test_a_waitpid_that_does_not_know_yet_is_asked_again_and_then_the_kernel(
    spurious: int, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    # gevent's waitpid knows what its own loop has reaped, and no more
    real = os.waitpid
    early = [(0, 0)] * spurious
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (0, 0))
    monkeypatch.setattr(children, "_waitpid", lambda *which: early.pop() if early else real(*which))
    pid = spawn("exit 3")
    with ae.child(pid, trace):
        trace.run_until(1)
    assert trace == [(pid, 768)]


def test_an_end_that_is_told_twice_counts_once(trace: Trace) -> None:
    pid = spawn("exit 3")
    with ae.child(pid, trace):
        found = children._exits(current_loop())[pid]
        trace.run_until(1)
        found.on_end()
        turns()
    assert trace == [(pid, 768)]


def test_what_a_loop_has_reaped_is_told_where_a_thread_waits(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    monkeypatch.setattr(children, "_use_pidfd", lambda: False)
    # one that comes too late
    monkeypatch.setattr(children, "make_thread", lambda *_, **__: threading.Thread(target=int))
    pid = spawn("exit 3")
    with ae.child(pid, trace):
        found = children._exits(current_loop())[pid]
        found._reaped(*os.waitpid(pid, 0))
        trace.run_until(1)
    assert trace == [(pid, 768)]


def test_any_child_that_another_thread_has_reaped_meanwhile_is_not_told(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    real = os.waitpid

    def late(pid: int, options: int) -> tuple[int, int]:
        real(pid, options)
        raise ChildProcessError(pid)

    with ae.child(0, trace):
        turns()
        pid = spawn("exit 3")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with monkeypatch.context() as patched:
            patched.setattr(os, "waitpid", late)
            turns()
        spawn("exit 4")
        trace.run_until(1)
    assert [status for _, status in trace] == [4 << 8]


def test_a_watcher_of_any_child_is_not_told_after_another_one_has_cancelled_it(
    trace: Trace,
) -> None:
    watchers: list[ae.Watcher] = []

    def first(pid: int, status: int) -> None:
        trace("first")
        watchers[1].cancel()
        watchers[1].cancel()

    watchers += [ae.child(0, first), ae.child(0, lambda pid, status: trace("second"))]
    spawn("true")
    trace.run_until(1)
    turns()
    # they are told in any order
    assert list(trace) in (["first"], ["second", "first"])
    watchers.clear()


# ---------------------------------------------------------------------- the waiting thread


def test_a_watcher_that_is_cancelled_while_its_thread_tells_is_not_called(
    by_thread: None, trace: Trace
) -> None:
    pid = spawn("exec sleep 1000")
    watcher = ae.child(pid, trace)
    thread = thread_of(pid)
    os.kill(pid, 9)
    thread.join(60)
    watcher.cancel()
    with ae.child(pid, lambda pid, status: trace("the next one", status)):
        trace.run_until(1)
    assert trace == [("the next one", 9)]


def test_a_thread_whose_loop_has_ended_says_nothing(
    by_thread: None, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    # it finds that out when it tells: the loop may end between its last look and that
    monkeypatch.setattr(children._Waiter, "stop", lambda waiter: None)
    pid = spawn("exec sleep 1000")
    watcher = ae.child(pid, trace)
    thread = thread_of(pid)
    release()
    os.kill(pid, 9)
    thread.join(60)
    assert not thread.is_alive()
    assert not watcher.active
    assert os.waitpid(pid, 0) == (pid, 9)
    assert trace == []


def test_a_watcher_of_any_child_outside_the_main_thread_leaves_nothing_behind() -> None:
    refusals: list[BaseException] = []
    ended: list[int] = []

    def work() -> None:
        ae.use("loop")
        backend = ae.detect()
        start, stop = backend.child_start, backend.child_stop
        backend.child_start = lambda *what: ended.append(1) or start(*what) or 1  # type: ignore
        backend.child_stop = lambda token: ended.remove(token) or stop(token)  # type: ignore
        try:
            ae.child(0, print)
        except RuntimeError as error:
            refusals.append(error)
        release()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(refusals[0])
    assert ended == []


def test_the_thread_of_a_watcher_that_was_interrupted_when_it_was_made_takes_nothing_away(
    by_thread: None, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    begun: list[children.Exit] = []
    real = children._Waiter

    def strike(exit: children.Exit) -> None:
        real(exit)
        begun.append(exit)
        raise KeyboardInterrupt

    pid = spawn("exec sleep 1000")
    with monkeypatch.context() as patched:
        patched.setattr(children, "_Waiter", strike)
        with pytest.raises(KeyboardInterrupt):
            ae.child(pid, print)
    with ae.child(pid, trace):
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        begun[0].on_end()  # its thread may be the first to tell
        trace.run_until(1)
    assert trace == [(pid, 9)]


# ---------------------------------------------------------------------- others


@pytest.mark.skipif(find_spec("gevent") is None, reason="needs gevent")
def test_gevents_loop_may_reap_where_there_is_no_pidfd(script: Callable[..., str]) -> None:
    said = script(
        """
        import os
        import gevent
        import ae_core as ae
        from ae_core._detection.current import current_loop
        from ae_core._sources import children

        children._use_pidfd = lambda: False
        ae.use("gevent")
        gevent.get_hub().loop.install_sigchld()
        for code in (3, 4):
            done = ae.CondVar()
            pid = gevent.os.fork_and_watch()
            if pid == 0:
                os._exit(code)
            with ae.child(pid, done):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                children._exits(current_loop())[pid].on_end()  # its thread may know first
                print(done.recv(60)[1] >> 8)
        """
    )
    assert said == "3\n4\n"


@needs_pidfd
def test_what_interrupts_the_making_of_a_watcher_leaves_no_pidfd_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    pid = spawn("exit 3")
    io = type(current_loop().io)
    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(io, "watch_own", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ae.child(pid, print)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert os.waitpid(pid, 0) == (pid, 768)
