"""fork_call: the pool of workers, its limits, its end."""

from __future__ import annotations

import gc
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._fork_call import call as _fork_call
from ae_core._fork_call import pool as _fork_pool
from ae_core._process import spawn
from ae_core._sources import children
from ae_core.testing import release

PATIENCE = 60.0  # a hang, not a measure


def say_and_wait(path: str) -> str:
    """Tell a FIFO that we are here, and wait until it says something."""
    with open(f"{path}.in", "w") as here:
        here.write("here")
    with open(f"{path}.out") as go:
        return go.read()


def call(function: Callable[..., Any], *args: Any) -> Any:
    condvar = ae.fork_call(function, *args)
    assert not condvar.ready
    return condvar.recv(PATIENCE)


# ---------------------------------------------------------------------- the pool


class Gate:
    """Calls that say when they have begun, and wait to be let go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names: list[str] = []

    def call(self) -> ae.CondVar[str]:
        name = str(self.directory / str(len(self.names)))
        os.mkfifo(f"{name}.in")
        os.mkfifo(f"{name}.out")
        self.names.append(name)
        return ae.fork_call(say_and_wait, name)

    def begun(self, n: int) -> None:
        """Run the loop until call *n* has begun."""
        fd = os.open(f"{self.names[n]}.in", os.O_RDONLY | os.O_NONBLOCK)
        seen = ae.CondVar[None]()

        def look() -> None:
            if os.read(fd, 10):
                seen.send()

        watcher = ae.timer(0.0, look, interval=0.01)
        seen.recv(PATIENCE)
        watcher.cancel()
        os.close(fd)

    def go(self, n: int, text: str) -> None:
        Path(f"{self.names[n]}.out").write_text(text)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_no_more_than_ae_max_forks_run_at_once_the_rest_in_order(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "2")
    calls = [gate.call() for _ in range(4)]
    gate.begun(0)
    gate.begun(1)
    pool = _fork_pool.pool_of(current_loop())
    assert (len(pool.busy), len(pool.queue)) == (2, 2)
    gate.go(1, "one")
    assert calls[1].recv(PATIENCE) == "one"
    gate.begun(2)
    gate.go(2, "two")
    assert calls[2].recv(PATIENCE) == "two"
    gate.begun(3)
    gate.go(0, "zero")
    gate.go(3, "three")
    assert [c.recv(PATIENCE) for c in calls] == ["zero", "one", "two", "three"]


@pytest.mark.parametrize(
    ("value", "limit"), [("3", 3), ("", 10), ("0", 10), ("-1", 10), ("many", 10), (None, 10)]
)
def test_ae_max_forks(value: str | None, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("AE_MAX_FORKS", raising=False)
    else:
        monkeypatch.setenv("AE_MAX_FORKS", value)
    assert _fork_pool._limit() == limit


def test_a_worker_serves_one_call_after_the_other(kept: None) -> None:
    first = call(os.getpid)
    assert call(os.getpid) == first
    with pytest.raises(ZeroDivisionError):
        call(divmod, 1, 0)
    assert call(os.getpid) == first


def test_a_worker_that_died_while_idle_is_replaced(kept: None) -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert call(os.getpid) != first


def test_a_worker_that_is_stopped_and_dies_before_it_takes_the_call_is_replaced(kept: None) -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGSTOP)
    condvar = ae.fork_call(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert condvar.recv(PATIENCE) != first


def test_a_worker_that_dies_while_it_is_sent_a_big_call_is_replaced(kept: None) -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGSTOP)
    data = b"x" * (5 << 20)
    condvar = ae.fork_call(len, data)
    ae.detect().poll(False)
    os.kill(first, signal.SIGKILL)
    assert condvar.recv(PATIENCE) == len(data)


def test_an_answer_counts_even_if_the_worker_died_after_it(kept: None) -> None:
    pid = call(os.getpid)
    condvar = ae.fork_call(math.factorial, 5)
    (worker,) = _fork_pool.pool_of(current_loop()).busy
    assert isinstance(worker, _fork_pool.Worker)
    worker.on_writable()
    with socket.socket(fileno=os.dup(worker.fd)) as sock:
        while len(select.select([sock], [], [])[0] and sock.recv(100, socket.MSG_PEEK)) < 10:
            continue
    os.kill(pid, signal.SIGKILL)
    worker.on_end(*os.waitpid(pid, 0))
    assert condvar.recv(PATIENCE) == 120
    assert call(os.getpid) != pid


def test_a_loop_that_refuses_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("no loop")

    with monkeypatch.context() as patched:
        patched.setattr(children, "watch_child", refuse)
        with pytest.raises(RuntimeError, match="no loop"):
            ae.fork_call(os.getpid)
    wait_for_abandoned()
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


def test_a_call_that_no_worker_takes_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_fork_pool, "_BOOTSTRAP", "raise SystemExit(9)")
    with pytest.raises(ae.ForkCallError) as caught:
        call(os.getpid)
    assert caught.value.status == 9 << 8


def test_idle_workers_go_away_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fork_pool, "IDLE", 0.05)
    pid = call(os.getpid)
    with pytest.raises(ae.Deadlock):  # the loop runs until nothing is left
        ae.CondVar[None]().recv()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_directory_and_the_environment_are_those_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(os.getcwd) == os.getcwd()
    monkeypatch.chdir(tmp_path)
    assert call(os.getcwd) == str(tmp_path)
    monkeypatch.setenv("AE_TEST_VARIABLE", "value")
    assert call(os.getenv, "AE_TEST_VARIABLE") == "value"


def leave_traces(directory: str) -> int:
    os.chdir(directory)
    os.umask(0o077)
    os.environ["AE_TEST_VARIABLE"] = "left"
    del os.environ["PATH"]
    return os.getpid()


def place() -> tuple[int, str | None, int, str | None, bool]:
    mask = os.umask(0)
    try:
        directory: str | None = os.getcwd()
    except FileNotFoundError:
        directory = None
    variable = os.environ.get("AE_TEST_VARIABLE")
    return os.getpid(), directory, mask, variable, "PATH" in os.environ


counted: list[None] = []


def count() -> int:
    counted.append(None)
    return len(counted)


def test_what_a_call_does_to_directory_umask_and_environment_is_undone_for_the_next(
    kept: None,
) -> None:
    mask = os.umask(0o027)
    try:
        pid = call(leave_traces, "/")
        assert call(place) == (pid, os.getcwd(), 0o027, None, True)
        assert call(place) == (pid, os.getcwd(), 0o027, None, True)
    finally:
        os.umask(mask)


def test_what_a_call_assigns_in_a_module_stays_for_the_next(kept: None) -> None:
    assert [call(count), call(count)] == [1, 2]
    assert counted == []


def test_our_umask_of_the_call_is_the_childs(kept: None) -> None:
    mask = os.umask(0o022)
    try:
        for ours in (0o027, 0o077, 0o000):
            os.umask(ours)
            assert call(place)[2] == ours
    finally:
        os.umask(mask)


def test_a_call_that_had_to_wait_finds_what_there_was_when_it_was_made(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "1")
    monkeypatch.setenv("AE_TEST_VARIABLE", "then")
    here = os.getcwd()
    mask = os.umask(0o027)
    try:
        first = gate.call()
        waiting = ae.fork_call(place)
        os.umask(0o077)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("AE_TEST_VARIABLE", "now")
        gate.begun(0)
        gate.go(0, "go")
        assert first.recv(PATIENCE) == "go"
        assert waiting.recv(PATIENCE)[1:] == (here, 0o027, "then", True)
        assert call(place)[1:] == (str(tmp_path), 0o077, "now", True)
    finally:
        os.umask(mask)


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0),
    reason="CPython 3.13.0 cannot import socket in a directory that was removed",
)
def test_a_directory_that_was_removed_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: None
) -> None:
    # no interpreter starts there that finds a relative entry in it
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        (tmp_path / name).rmdir()
        assert call(place)[1] is None
        assert call(place)[1] is None


def test_a_directory_that_was_renamed_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: None
) -> None:
    (tmp_path / "closed" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "closed" / "here")
    assert call(place)[1] == str(tmp_path / "closed" / "here")
    call(leave_traces, "/")
    (tmp_path / "closed").rename(tmp_path / "renamed")
    assert call(place)[1] == str(tmp_path / "renamed" / "here")


def test_failing_to_start_is_an_error_only_if_nothing_runs(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    first = gate.call()
    gate.begun(0)
    with monkeypatch.context() as patched:
        patched.setattr(spawn, "spawn", refuse)
        second = ae.fork_call(math.factorial, 3)  # waits for the first one's place
        gate.go(0, "go")
        assert first.recv(PATIENCE) == "go"
        assert second.recv(PATIENCE) == 6
        _fork_call.shutdown()
        with pytest.raises(BlockingIOError):
            call(math.factorial, 3)
    assert call(math.factorial, 4) == 24


# ---------------------------------------------------------------------- cancelling


def test_cancel_kills_the_child(gate: Gate) -> None:
    condvar = gate.call()
    gate.begun(0)
    pool = _fork_pool.pool_of(current_loop())
    (worker,) = pool.busy
    condvar.cancel()
    assert condvar.cancelled
    assert call(math.factorial, 3) == 6
    while pool.busy:
        ae.detect().poll(True)
    assert isinstance(worker, _fork_pool.Worker)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_cancel_of_a_waiting_call_drops_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "1")
    first = gate.call()
    dropped = ae.fork_call(os.mkdir, str(tmp_path / "not"))
    last = ae.fork_call(os.mkdir, str(tmp_path / "made"))
    gate.begun(0)
    dropped.cancel()
    gate.go(0, "go")
    assert first.recv(PATIENCE) == "go"
    last.recv(PATIENCE)
    assert (tmp_path / "made").is_dir()
    assert not (tmp_path / "not").exists()


# ---------------------------------------------------------------------- the end of a loop


def test_a_loop_that_ends_takes_its_workers_with_it(gate: Gate, kept: None) -> None:
    idle = ae.fork_call(os.getpid)
    busy = gate.call()
    gate.begun(0)
    pid = idle.recv(PATIENCE)
    pool = _fork_pool.pool_of(current_loop())
    pids = [pid, *(worker.pid for worker in pool.busy)]  # type: ignore[attr-defined]
    release()
    assert not busy.ready
    wait_for_abandoned()
    for gone in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(gone, 0)


def wait_for_abandoned() -> None:
    deadline = time.monotonic() + PATIENCE
    while spawn.reap_abandoned() and time.monotonic() < deadline:
        pass


def test_every_asyncio_run_has_its_own_workers(unbound: None) -> None:
    import asyncio

    async def main() -> int:
        return await ae.fork_call(math.factorial, 5)

    assert [asyncio.run(main()) for _ in range(3)] == [120] * 3
    release()
    wait_for_abandoned()


def test_a_forked_child_leaves_the_workers_alone(gate: Gate, kept: None) -> None:
    idle = ae.fork_call(os.getpid)
    busy = gate.call()
    gate.begun(0)
    first = idle.recv(PATIENCE)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            busy.cancel()
            gc.collect()
            if ae.fork_call(os.getpid).recv(PATIENCE) != first:
                _fork_call.shutdown()
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert call(os.getpid) == first
    gate.go(0, "go")
    assert busy.recv(PATIENCE) == "go"
