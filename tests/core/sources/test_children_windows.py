"""Child watchers on Windows: handles instead of statuses, and nobody is in anybody's way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import ae_core as ae
from ae_core.testing import Trace

if os.name != "nt":
    pytest.skip("Windows only", allow_module_level=True)

Child = subprocess.Popen[bytes]


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that ends with status 3 when its input does."""
    program = "import sys; sys.stdin.read(); sys.exit(3)"
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdin=subprocess.PIPE) as process:
        yield process


def end(child: Child) -> None:
    assert child.stdin is not None
    child.stdin.close()


def test_the_status_is_that_of_other_systems(child: Child, trace: Trace) -> None:
    # CORE-45
    with ae.child(child.pid, trace) as watcher:
        end(child)
        assert trace == []
        trace.run_until(1)
        assert not watcher.active
    assert trace == [(child.pid, 3 << 8)]
    assert child.wait() == 3  # subprocess is not disturbed


def test_one_that_has_ended_is_reported(child: Child, trace: Trace) -> None:
    # CORE-46, B18
    end(child)
    assert child.wait() == 3
    with ae.child(child.pid, trace):
        assert trace == []
        trace.run_until(1)
    assert trace == [(child.pid, 3 << 8)]


def test_one_that_is_terminated_is_reported(child: Child, trace: Trace) -> None:
    with ae.child(child.pid, trace):
        child.terminate()
        trace.run_until(1)
    assert trace == [(child.pid, 1 << 8)]


def test_any_number_of_watchers_share_one_child(child: Child, trace: Trace) -> None:
    watchers = [ae.child(child.pid, lambda pid, status, n=n: trace(n)) for n in range(3)]
    watchers[1].cancel()
    end(child)
    trace.run_until(2)
    assert sorted(trace) == [0, 2]


def test_a_cancelled_watcher_waits_for_nobody(child: Child) -> None:
    ae.child(child.pid, print).cancel()
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()
    end(child)


def test_loops_of_two_threads_may_watch_the_same_child(child: Child, trace: Trace) -> None:
    def other() -> tuple[int, int]:
        condvar = ae.CondVar[tuple[int, int]]()
        with ae.child(child.pid, condvar):
            return condvar.recv(60)

    told = ae.CondVar[tuple[int, int]]()
    with ae.child(child.pid, told):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(other)
            end(child)
            assert seen.result() == (child.pid, 3 << 8)
        assert told.recv(60) == (child.pid, 3 << 8)


@pytest.mark.parametrize("pid", [2, 2**31, 2**40])
def test_what_is_no_process_is_refused(pid: int) -> None:
    # ids are multiples of four
    with pytest.raises(ChildProcessError, match=str(pid)):
        ae.child(pid, print)


def test_any_child_is_refused() -> None:
    with pytest.raises(RuntimeError, match="watching any child needs waitid"):
        ae.child(0, print)
