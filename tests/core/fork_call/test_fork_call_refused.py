"""fork_call where the system or the loop refuses something, and answers that come too late."""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._fork_call import pool as _fork_pool

PATIENCE = 60.0  # a hang, not a measure


def call(function: Callable[..., Any], *args: Any) -> Any:
    return ae.fork_call(function, *args).recv(PATIENCE)


def busy_worker() -> _fork_pool.Worker:
    (worker,) = _fork_pool.pool_of(current_loop()).busy
    assert isinstance(worker, _fork_pool.Worker)
    return worker


def run_until_free() -> None:
    pool = _fork_pool.pool_of(current_loop())
    while pool.busy:
        ae.detect().poll(True)


class Disguised(Exception):
    """Comes back as something that is no exception."""

    def __reduce__(self) -> tuple[Any, ...]:
        return SimpleNamespace, ()


def raise_disguised() -> None:
    raise Disguised("of a test")


def test_an_exception_that_comes_back_as_something_else_is_described() -> None:
    with pytest.raises(ae.ForkCallError, match="of a test") as caught:
        call(raise_disguised)
    assert caught.value.type == "Disguised"


unpickled: list[str] = []


def note(text: str) -> None:
    unpickled.append(text)


class Telling:
    """Says where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return note, ("here",)


def test_an_answer_that_comes_after_the_call_was_cancelled_is_dropped(kept: None) -> None:
    condvar = ae.fork_call(Telling)
    worker = busy_worker()
    worker.on_writable()
    with socket.socket(fileno=os.dup(worker.fd)) as sock:
        while len(select.select([sock], [], [])[0] and sock.recv(100, socket.MSG_PEEK)) < 10:
            continue
    condvar.cancel()
    assert condvar.cancelled
    run_until_free()
    assert unpickled == []
    assert call(math.factorial, 4) == 24


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_socket_that_the_loop_cannot_watch_is_the_error_of_the_call(
    cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, write: bool, callback: Callable[[], None]) -> Any:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOSPC, "no room in the kernel's table")
        return start(fd, write, callback)

    backend = current_loop().backend
    start = backend.io_start
    with monkeypatch.context() as patched:
        patched.setattr(type(backend), "io_start", lambda _, *arguments: refuse(*arguments))
        condvar = ae.fork_call(math.factorial, 3)
        pid = busy_worker().pid
        if cancelled:
            condvar.cancel()
        with pytest.raises(ae.CancelledError if cancelled else OSError):
            condvar.recv(PATIENCE)
        run_until_free()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert call(math.factorial, 3) == 6


def test_a_socket_that_is_falsely_reported_ready_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.read, os.write
    false: list[str] = []

    def read_later(fd: int, size: int) -> bytes:
        if fd == worker.fd and false.count("read") < 2:
            false.append("read")
            raise BlockingIOError
        return read(fd, size)

    def write_later(fd: int, data: Any) -> int:
        if fd == worker.fd and false.count("write") < 2:
            false.append("write")
            raise BlockingIOError
        return write(fd, data)

    condvar = ae.fork_call(math.factorial, 3)
    worker = busy_worker()
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", read_later)
        patched.setattr(os, "write", write_later)
        assert condvar.recv(PATIENCE) == 6
    assert sorted(false) == ["read", "read", "write", "write"]


def test_a_worker_whose_socket_breaks_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.read, os.write

    def broken_read(fd: int, size: int) -> bytes:
        if fd == first.fd:
            raise ConnectionResetError(fd)
        return read(fd, size)

    def broken_write(fd: int, data: Any) -> int:
        if fd == first.fd:
            raise BrokenPipeError(fd)
        return write(fd, data)

    condvar = ae.fork_call(os.getpid)
    first = busy_worker()
    pid = first.pid
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", broken_read)
        patched.setattr(os, "write", broken_write)
        os.kill(pid, signal.SIGKILL)
        while first.alive:
            ae.detect().poll(True)
    assert condvar.recv(PATIENCE) != pid


def test_an_idle_worker_that_other_code_has_reaped_is_replaced(kept: None) -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert os.waitpid(first, 0) == (first, signal.SIGKILL)
    assert call(os.getpid) != first


def test_an_idle_worker_that_has_ended_is_reaped_before_it_is_replaced(kept: None) -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert call(os.getpid) != first
    with pytest.raises(ChildProcessError):
        os.waitpid(first, 0)


def test_workers_are_retired_when_each_has_been_idle_for_long_enough(kept: None) -> None:
    core = current_loop()
    pool = _fork_pool.pool_of(core)
    calls = [ae.fork_call(os.getpid), ae.fork_call(os.getpid)]
    for each in calls:
        each.recv(PATIENCE)
    one, two = pool.idle
    assert pool.timer is not None
    core.cancel_timer(pool.timer)
    one.idle_since -= 601
    pool.retire(core)
    assert pool.idle == [two]
    assert (one.alive, two.alive) == (False, True)
    with pytest.raises(ProcessLookupError):
        os.kill(one.pid, 0)
    assert core.has_timer(pool.timer)  # for the other one


def test_without_an_interpreter_to_run_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable is empty"):
        ae.fork_call(abs, 1)
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


def test_what_a_call_that_waits_its_turn_meets_is_its_own_error_only(
    kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "1")
    before = ae.fork_call(math.factorial, 5)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "")
        call_without = ae.fork_call(math.factorial, 6)
    behind = ae.fork_call(math.factorial, 7)
    assert before.recv(PATIENCE) == 120
    with pytest.raises(RuntimeError, match=r"sys\.executable is empty"):
        call_without.recv(PATIENCE)
    assert behind.recv(PATIENCE) == 5040


@pytest.mark.parametrize("ends", [math.factorial, os._exit])
def test_an_interrupt_while_a_worker_is_made_for_a_call_that_waited_loses_no_call(
    monkeypatch: pytest.MonkeyPatch, ends: Callable[[int], Any]
) -> None:
    real = _fork_pool.Pool.take
    taken: list[object] = []

    def take(pool: _fork_pool.Pool, surroundings: _fork_pool.Surroundings) -> Any:
        taken.append(surroundings)
        if len(taken) == 2:
            raise KeyboardInterrupt
        return real(pool, surroundings)

    monkeypatch.setenv("AE_MAX_FORKS", "1")
    monkeypatch.setattr(_fork_pool.Pool, "take", take)
    first, second = ae.fork_call(ends, 5), ae.fork_call(math.factorial, 6)
    with pytest.raises(KeyboardInterrupt):
        ae.CondVar[None]().recv(PATIENCE)
    assert second.recv(PATIENCE) == 720
    if ends is math.factorial:
        assert first.recv(PATIENCE) == 120
    else:
        with pytest.raises(ae.ForkCallError, match="exit code 5"):
            first.recv(PATIENCE)


@pytest.mark.parametrize("answer", [b"", b"Name:\tpython\nUmask:\t\n"])
def test_a_system_that_does_not_tell_the_umask_is_asked_by_setting_it(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.read
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "read", lambda fd, size: answer if size == 1024 else real(fd, size))
            assert _fork_pool._umask() == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_limit_that_is_no_number_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "a dozen")
    monkeypatch.setattr(_fork_pool, "_warned", set())
    assert [_fork_pool._limit(), _fork_pool._limit()] == [10, 10]
    assert caplog.text.count("expected a number, got 'a dozen'") == 1
