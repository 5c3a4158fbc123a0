"""fork_call: a function in another process."""

from __future__ import annotations

import functools
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

from posix import _exit  # os._exit, where coverage has not put a function of its own

import ae_core as ae
from ae_core._fork_call import call as _fork_call

PATIENCE = 60.0  # a hang, not a measure


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


class Explosive:
    """Pickles in the child, and does not come back."""

    def __reduce__(self) -> tuple[object, ...]:
        return raise_value_error, ("unpickled",)


def explosive() -> Explosive:
    return Explosive()


class Shy(Exception):
    """Has no text, and does not even pickle."""

    def __str__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> str:
        raise RuntimeError


def raise_shy() -> None:
    raise Shy


def raise_explosive() -> None:
    error = ValueError("with a bomb")
    error.bomb = Explosive()  # type: ignore[attr-defined]
    raise error


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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


def test_a_result_that_cannot_be_unpickled_is_an_error() -> None:
    with pytest.raises(ae.ForkCallError, match="result cannot be unpickled") as caught:
        call(explosive)
    assert (caught.value.type, caught.value.text) == ("ValueError", "unpickled")


@pytest.mark.parametrize(
    ("function", "name"), [(raise_shy, "Shy"), (raise_explosive, "ValueError")]
)
def test_an_exception_that_does_not_travel_is_described(
    function: Callable[[], None], name: str
) -> None:
    with pytest.raises(ae.ForkCallError) as caught:
        call(function)
    assert caught.value.type == name


def test_a_call_that_the_child_cannot_take_is_an_error(tmp_path: Path) -> None:
    # the module is importable here only: its file is gone before the child looks for it
    (tmp_path / "ae_vanishing.py").write_text("def work(): pass\n")
    done = run_script(
        tmp_path,
        """
        import os, sys
        import ae_core as ae
        import ae_vanishing

        os.unlink("ae_vanishing.py")
        sys.dont_write_bytecode = True
        try:
            ae.fork_call(ae_vanishing.work).recv()
        except ae.ForkCallError as error:
            print(error.type, error)
        """,
        "-B",
    )
    assert done.stdout.startswith("FileNotFoundError the child cannot take the call: "), done


@pytest.mark.parametrize(
    ("function", "args", "status"),
    [
        (_exit, (3,), 3 << 8),
        (_exit, (0,), 0),
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
        calls.append(ae.fork_call(_exit, n))
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
    ae.fork_call(_exit, 7).recv(PATIENCE)


def test_calls_may_be_nested() -> None:
    assert call(nested, 5) == 120


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
        call(_exit, 1)
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


def test_functions_of_a_script_can_be_called_where_multiprocessing_was_imported_before(
    tmp_path: Path,
) -> None:
    done = run_script(
        tmp_path,
        """
        import ae_core as ae

        def work(n):
            return 2 * n

        if __name__ == "__main__":
            ae.fork_call(exec, "import multiprocessing").recv()  # takes __mp_main__ for itself
            print(ae.fork_call(work, 21).recv())
        """,
    )
    assert (done.stderr, done.stdout) == ("", "42\n")


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
