"""Child watchers: whose children, which status, and without a pidfd."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable

import pytest

import ae_core as ae
from ae_core._sources import children
from ae_core.testing import Trace

if not hasattr(os, "waitid"):
    pytest.skip("needs waitid(); see test_children_windows.py", allow_module_level=True)


def spawn(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)


@pytest.fixture(params=["pidfd", "thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a pidfd, and with a waiting thread where there is none."""
    if request.param == "thread":
        monkeypatch.setattr(children, "_use_pidfd", lambda: False)
    way: str = request.param
    return way


def test_the_status_is_the_raw_one(way: str, trace: Trace) -> None:
    # CORE-45
    for text, status in (("exit 3", 768), ("kill -9 $$", 9), ("kill -TERM $$", 15), ("true", 0)):
        pid = spawn(text)
        with ae.child(pid, trace):
            trace.run_until(1)
        assert trace == [(pid, status)]
        trace.clear()


def test_one_that_has_ended_is_reported(way: str, trace: Trace) -> None:
    # CORE-46, B18
    pid = spawn("exit 3")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with ae.child(pid, trace):
        assert trace == []
        trace.run_until(1)
    assert trace == [(pid, 768)]


def test_two_hundred_with_subprocess_beside_them(way: str, trace: Trace) -> None:
    # reliability 26
    source = random.Random(3)
    expected: dict[int, int] = {}
    watchers = []
    foreign = []
    for _ in range(50):
        code = source.randrange(256)
        pid = spawn(f"exit {code}")
        expected[pid] = code << 8
        watchers.append(ae.child(pid, trace))
        if len(watchers) % 10 == 0:
            foreign.append((code, subprocess.Popen(["/bin/sh", "-c", f"exit {code}"])))
    trace.run_until(50)
    assert dict(trace) == expected
    for code, process in foreign:
        assert process.wait() == code
    for pid in [*expected, *(process.pid for _, process in foreign)]:
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)  # no zombies
    watchers.clear()


def test_a_cancelled_watcher_waits_for_nobody(way: str) -> None:
    pid = spawn("exec sleep 1000")
    ae.child(pid, lambda pid, status: None).cancel()
    with pytest.raises(ae.Deadlock):
        # the thread that waits, where there is one, is a daemon
        ae.CondVar[None]().recv()
    os.kill(pid, 9)
    assert os.waitpid(pid, 0)[1] == 9


def test_a_watcher_made_in_the_callback_for_the_same_process_is_refused(
    way: str, trace: Trace
) -> None:
    def ended(pid: int, status: int) -> None:
        with pytest.raises(ChildProcessError, match=str(pid)):
            ae.child(pid, print)
        trace("refused")

    with ae.child(spawn("true"), ended):
        trace.run_until(1)


def test_one_of_several_may_cancel_the_rest(way: str, trace: Trace) -> None:
    pid = spawn("true")
    watchers: list[ae.Watcher] = []

    def ended(pid: int, status: int) -> None:
        trace("ended")
        watchers.clear()

    watchers += [ae.child(pid, ended), ae.child(pid, ended)]
    trace.run_until(1)
    for _ in range(3):
        ae.sleep(0).recv()
    assert trace == ["ended"]


def test_one_that_somebody_else_waited_for_is_reported_as_unknown(
    way: str, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    pid = spawn("exit 4")
    watcher = ae.child(pid, trace)
    assert os.waitpid(pid, 0) == (pid, 4 << 8)  # the mistake
    trace.run_until(1)
    assert trace == [(pid, 255 << 8)]
    assert "waited for by other code" in caplog.text
    del watcher


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="a thread waits for the child")
def test_a_child_that_cannot_be_waited_for_counts_as_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    real = os.waitpid

    def refuse(pid: int, options: int) -> tuple[int, int]:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "waitpid", refuse)
    ended: ae.CondVar[tuple[int, int]] = ae.CondVar()
    with ae.child(pid, ended):
        assert ended.recv(timeout=60) == (pid, 255 << 8)
    assert "cannot be waited for" in caplog.text
    assert real(pid, 0) == (pid, 0)


def test_the_watcher_is_inactive_after_its_call(way: str, trace: Trace) -> None:
    with ae.child(spawn("true"), trace) as watcher:
        assert watcher.active
        trace.run_until(1)
        assert not watcher.active


# ---------------------------------------------------------------------- any child


def test_any_child_tells_all_and_those_with_watchers_twice(trace: Trace) -> None:
    # CORE-47: in addition to specific ones
    with (
        ae.child(0, lambda pid, status: trace("any", status)),
        ae.child(0, lambda pid, status: trace("any too", status)),
    ):
        with ae.child(spawn("exit 1"), lambda pid, status: trace("own", status)):
            trace.run_until(3)
        assert sorted(trace) == [("any", 256), ("any too", 256), ("own", 256)]
        trace.clear()
        spawn("exit 2")
        trace.run_until(2)
        assert sorted(trace) == [("any", 512), ("any too", 512)]
    trace.clear()
    pid = spawn("exit 3")
    assert os.waitpid(pid, 0) == (pid, 768)  # nobody takes it any more
    ae.sleep(0).recv()
    assert trace == []


def test_any_child_takes_fifty_that_end_at_once(trace: Trace) -> None:
    with ae.child(0, trace):
        expected = {spawn(f"exit {code}"): code << 8 for code in range(50)}
        trace.run_until(50)
    assert dict(trace) == expected


def test_any_child_may_end_in_its_own_callback(trace: Trace) -> None:
    holder: list[ae.Watcher] = []

    def ended(pid: int, status: int) -> None:
        trace("ended")
        holder.clear()

    holder.append(ae.child(0, ended))
    pids = {spawn("true"), spawn("true")}
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    trace.run_until(1)
    ae.sleep(0).recv()
    assert trace == ["ended"]
    assert os.waitpid(-1, 0)[0] in pids  # the other one is left


def test_an_ignored_sigchld_does_not_lose_statuses(script: Callable[..., str]) -> None:
    # CORE-49: inherited from whoever started us
    program = """
        import os, signal, ae_core as ae
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        ae.detect()
        done = ae.CondVar()
        with ae.child(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ), done):
            print(done.recv()[1])
        """
    assert script(program) == "768\n"
