"""fork_call: a function in another process."""

from __future__ import annotations

import functools
import gc
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core import _fork_call, _fork_pool, _spawn
from ae_core.testing import release

PATIENCE = 60.0  # a hang, not a measure


@pytest.fixture(autouse=True)
def no_worker_stays() -> Iterator[None]:
    yield
    _fork_call.shutdown()
    assert _spawn.reap_abandoned() == []


# What the children call. They import this module by its name, or from its file.


def three_values(*values: object) -> tuple[object, ...]:
    return values


def raise_value_error(text: str) -> None:
    raise ValueError(text)


class TwoArguments(Exception):
    """Pickles, but does not come back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def raise_two_arguments() -> None:
    raise TwoArguments("one", "two")


class Own(Exception):
    pass


def raise_own() -> None:
    raise Own("with a traceback")


def raise_base() -> None:
    raise KeyboardInterrupt("not for you")


def unpicklable() -> object:
    return threading.Lock()


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def say_and_wait(path: str) -> str:
    """Tell a FIFO that we are here, and wait until it says something."""
    with open(f"{path}.in", "w") as here:
        here.write("here")
    with open(f"{path}.out") as go:
        return go.read()


def close_everything() -> None:
    os.closerange(0, 1024)
    time.sleep(1000)


def print_both(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)


def nested(n: int) -> int:
    return ae.fork_call(math.factorial, n).recv(PATIENCE)


def read_standard_input() -> str:
    return sys.stdin.read()


def open_descriptors() -> list[int]:
    return sorted(fd for fd in range(1024) if os.path.exists(f"/proc/self/fd/{fd}"))


def call(function: Callable[..., Any], *args: Any) -> Any:
    condvar = ae.fork_call(function, *args)
    assert not condvar.ready
    return condvar.recv(PATIENCE)


# ---------------------------------------------------------------------- results


def test_values_come_back() -> None:
    assert call(three_values, 1, [2, 3], "arg") == (1, [2, 3], "arg")
    assert call(math.factorial, 20) == math.factorial(20)
    assert call(functools.partial(pow, 2), 10) == 1024
    assert call("a-b".split, "-") == ["a", "b"]
    assert call(three_values) == ()


def test_it_is_another_process() -> None:
    assert call(os.getpid) != os.getpid()


def test_megabytes_go_both_ways() -> None:
    data = os.urandom(5 << 20)
    assert call(three_values, data) == (data,)


def test_it_can_be_awaited() -> None:
    async def main() -> list[int]:
        calls = [ae.fork_call(math.factorial, n) for n in range(5)]
        return [await condvar for condvar in calls]

    assert ae.run(main()) == [1, 1, 2, 6, 24]


def test_forgetting_it_changes_nothing(tmp_path: Path) -> None:
    done = ae.CondVar[object]()
    ae.fork_call(os.mkdir, str(tmp_path / "made")).on_ready(lambda condvar: done.send())
    done.recv(PATIENCE)
    assert (tmp_path / "made").is_dir()


def test_arguments_are_taken_at_the_call() -> None:
    values = [1, 2]
    condvar = ae.fork_call(three_values, values)
    values.append(3)
    assert condvar.recv(PATIENCE) == ([1, 2],)


def test_a_call_in_progress_is_no_deadlock() -> None:
    seen = ae.CondVar[int]()
    ae.fork_call(math.factorial, 5).on_ready(lambda condvar: seen.send(condvar.recv()))
    assert seen.recv() == 120
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


# ---------------------------------------------------------------------- failures


def test_the_functions_exception_is_raised_with_the_childs_traceback() -> None:
    with pytest.raises(ValueError, match=r"^some text$") as caught:
        call(raise_value_error, "some text")
    cause = caught.value.__cause__
    assert isinstance(cause, ae.ForkCallError)
    assert "in raise_value_error" in str(cause)
    assert "_fork_worker" not in str(cause)


def test_an_exception_of_the_users_module_is_the_same_class() -> None:
    with pytest.raises(Own, match="with a traceback"):
        call(raise_own)


def test_an_exception_that_does_not_survive_is_described() -> None:
    with pytest.raises(ae.ForkCallError) as caught:
        call(raise_two_arguments)
    error = caught.value
    assert (error.type, error.text, error.status) == ("TwoArguments", "one and two", None)
    assert error.traceback is not None
    assert "in raise_two_arguments" in error.traceback
    assert "TwoArguments: one and two" in str(error)
    assert isinstance(error, ae.AEError)


def test_an_exception_that_is_none_is_described() -> None:
    with pytest.raises(ae.ForkCallError) as caught:
        call(raise_base)
    assert caught.value.type == "KeyboardInterrupt"


def test_a_result_that_cannot_be_pickled_is_an_error() -> None:
    with pytest.raises(ae.ForkCallError, match="result cannot be pickled") as caught:
        call(unpicklable)
    assert caught.value.type == "TypeError"


@pytest.mark.parametrize(
    ("function", "args", "status"),
    [
        (os._exit, (3,), 3 << 8),
        (os._exit, (0,), 0),
        (leave, (4,), 4 << 8),
        (leave, (None,), 0),
        (leave, ("text",), 1 << 8),
        (kill_myself, (), signal.SIGKILL),
    ],
)
def test_a_child_without_an_answer_is_an_error_with_its_status(
    function: Callable[..., object], args: tuple[object, ...], status: int
) -> None:
    with pytest.raises(ae.ForkCallError, match="no result") as caught:
        call(function, *args)
    assert caught.value.status == status
    assert caught.value.type is None


def test_a_child_that_closes_its_descriptors_is_not_waited_for() -> None:
    with pytest.raises(ae.ForkCallError) as caught:
        call(close_everything)
    assert caught.value.status == signal.SIGKILL


def test_one_dead_child_harms_no_other_call() -> None:
    calls = []
    for n in range(12):
        calls.append(ae.fork_call(math.factorial, n))
        calls.append(ae.fork_call(os._exit, n))
    for n in range(12):
        assert calls[2 * n].recv(PATIENCE) == math.factorial(n)
        with pytest.raises(ae.ForkCallError) as caught:
            calls[2 * n + 1].recv(PATIENCE)
        assert caught.value.status == n << 8


def test_fork_call_error_survives_pickling() -> None:
    with pytest.raises(ae.ForkCallError) as caught:
        call(nested_exit)
    assert caught.value.status == 7 << 8


def nested_exit() -> None:
    ae.fork_call(os._exit, 7).recv(PATIENCE)


def test_calls_may_be_nested() -> None:
    assert call(nested, 5) == 120


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
    pool = _fork_pool.pool_of(_fork_call.current())
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


def test_a_worker_serves_one_call_after_the_other() -> None:
    first = call(os.getpid)
    assert call(os.getpid) == first
    assert call(raise_and_catch) == first  # an exception does not end it


def raise_and_catch() -> int:
    return os.getpid()


def test_a_worker_that_died_while_idle_is_replaced() -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert call(os.getpid) != first


def test_a_worker_that_is_stopped_and_dies_before_it_takes_the_call_is_replaced() -> None:
    first = call(os.getpid)
    os.kill(first, signal.SIGSTOP)
    condvar = ae.fork_call(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert condvar.recv(PATIENCE) != first


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


def test_failing_to_start_is_an_error_only_if_nothing_runs(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    first = gate.call()
    gate.begun(0)
    with monkeypatch.context() as patched:
        patched.setattr(_spawn, "spawn", refuse)
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
    pool = _fork_pool.pool_of(_fork_call.current())
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


def test_a_loop_that_ends_takes_its_workers_with_it(gate: Gate) -> None:
    idle = ae.fork_call(os.getpid)
    busy = gate.call()
    gate.begun(0)
    pid = idle.recv(PATIENCE)
    pool = _fork_pool.pool_of(_fork_call.current())
    pids = [pid, *(worker.pid for worker in pool.busy)]  # type: ignore[attr-defined]
    release()
    assert not busy.ready
    wait_for_abandoned()
    for gone in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(gone, 0)


def wait_for_abandoned() -> None:
    deadline = time.monotonic() + PATIENCE
    while _spawn.reap_abandoned() and time.monotonic() < deadline:
        pass


def test_every_asyncio_run_has_its_own_workers(unbound: None) -> None:
    import asyncio

    async def main() -> int:
        return await ae.fork_call(math.factorial, 5)

    assert [asyncio.run(main()) for _ in range(3)] == [120] * 3
    release()
    wait_for_abandoned()


def test_a_forked_child_leaves_the_workers_alone(gate: Gate) -> None:
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


# ---------------------------------------------------------------------- surroundings


def test_output_of_the_function_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    call(print_both, "text")
    assert capfd.readouterr() == ("text\n", "text\n")


def test_standard_input_is_empty_there() -> None:
    assert call(read_standard_input) == ""


def test_a_worker_inherits_none_of_our_descriptors() -> None:
    fd = os.dup(1)
    os.set_inheritable(fd, True)
    try:
        descriptors = call(open_descriptors)
    finally:
        os.close(fd)
    assert len(descriptors) == 4  # 0, 1, 2 and the socket


def test_nothing_stays_open() -> None:
    call(os.getpid)
    _fork_call.shutdown()
    before = len(os.listdir("/proc/self/fd"))
    call(os.getpid)
    with pytest.raises(ae.ForkCallError):
        call(os._exit, 1)
    _fork_call.shutdown()
    assert len(os.listdir("/proc/self/fd")) == before


def run_script(directory: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "script.py").write_text(textwrap.dedent(text))
    command = [sys.executable, *options]
    if "-m" not in options:
        command.append("script.py")
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


SCRIPT = """
    import ae_core as ae
    import sys

    class Problem(Exception):
        pass

    class Value:
        def __init__(self, n):
            self.n = n

    def work(value):
        if value.n < 0:
            raise Problem(value.n)
        return Value(value.n * 2)

    print("top level", flush=True)
    if __name__ == "__main__":
        print(ae.fork_call(work, Value(21)).recv().n)
        try:
            ae.fork_call(work, Value(-1)).recv()
        except Problem as problem:
            print("problem", problem)
"""


@pytest.mark.parametrize("options", [(), ("-m", "script")])
def test_functions_of_a_script_can_be_called(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_script(tmp_path, SCRIPT, *options)
    assert done.stderr == ""
    assert done.stdout == "top level\ntop level\n42\nproblem -1\n"


def test_a_script_without_guard_is_told_so(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import ae_core as ae

        def work(n):
            return n

        print(ae.fork_call(work, 1).recv())
        """,
    )
    assert done.returncode == 1
    assert 'if __name__ == "__main__"' in done.stderr


def test_an_interactive_function_is_refused(tmp_path: Path) -> None:
    code = "import ae_core as ae\ndef f(): pass\nae.fork_call(f)"
    done = run_script(tmp_path, "", "-c", code)
    assert "TypeError" in done.stderr
    assert "interactive" in done.stderr


@pytest.mark.parametrize("name", ["ae_hidden", "ae_nowhere.hidden"])
def test_a_module_from_nowhere_is_loaded_from_its_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "hidden.py").write_text(
        "class Problem(Exception): pass\ndef work(n):\n    raise Problem(n)\n"
    )
    done = run_script(
        tmp_path,
        f"""
        import importlib.util, sys, types
        import ae_core as ae

        sys.modules["ae_nowhere"] = types.ModuleType("ae_nowhere")
        spec = importlib.util.spec_from_file_location({name!r}, "elsewhere/hidden.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[{name!r}] = module
        spec.loader.exec_module(module)
        try:
            ae.fork_call(module.work, 1).recv()
        except module.Problem as problem:
            print(problem)
        """,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_idle_workers_do_not_outlive_the_program(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import os
        import ae_core as ae
        print(ae.fork_call(os.getpid).recv())
        """,
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            os.kill(int(done.stdout), 0)


def test_the_interpreters_options_are_handed_down(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import sys
        import ae_core as ae

        def look():
            return [sys.flags.optimize, sys.warnoptions, sys._xoptions, sys.path]

        if __name__ == "__main__":
            print(ae.fork_call(look).recv() == look())
        """,
        *("-OO", "-Wignore::ImportWarning", "-Xutf8=1"),
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


# ---------------------------------------------------------------------- arguments


def test_what_cannot_travel_is_refused_at_once() -> None:
    def local() -> None:
        pass

    with pytest.raises(TypeError, match="expected a callable, got 3"):
        ae.fork_call(3)  # type: ignore[arg-type]
    for function, argument in ((local, 1), (print, threading.Lock()), (lambda: 1, 1)):
        with pytest.raises(TypeError, match="module-level function"):
            ae.fork_call(function, argument)
    with pytest.raises(ae.Deadlock):  # nothing half-registered stays behind
        ae.CondVar[None]().recv()
