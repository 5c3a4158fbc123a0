"""Watchers run while Python waits at its prompt."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import ae_core

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


_ENVIRONMENT = {"PYTHON_BASIC_REPL": "1", "QT_QPA_PLATFORM": "offscreen"}


class Prompt:
    """An interpreter at a pseudo-terminal."""

    def __init__(
        self, *command: str, terminal: str = "dumb", python: str = sys.executable, **more: str
    ) -> None:
        self.terminal, theirs = pty.openpty()
        clean = {name: v for name, v in os.environ.items() if not name.startswith("AE_")}
        self.process = subprocess.Popen(
            [python, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**clean, "TERM": terminal, **_ENVIRONMENT, **more},
        )
        os.close(theirs)
        self.said = ""

    def type(self, line: str) -> None:
        os.write(self.terminal, line.encode() + b"\n")

    def wait_for(self, text: str, count: int = 1) -> None:
        """Read until *text* was said *count* times since the last call."""
        give_up = time.monotonic() + 30
        while self.said.count(text) < count:
            assert time.monotonic() < give_up, self.said
            if select.select([self.terminal], [], [], 1)[0]:
                self.said += os.read(self.terminal, 65536).decode()
        self.said = self.said.partition(text)[2]

    def leave(self, line: str = "raise SystemExit") -> int:
        """End the interpreter, and return its status."""
        self.type(line)
        give_up = time.monotonic() + 30
        with contextlib.suppress(OSError):  # so Linux says that the other end is closed
            while self.process.poll() is None and time.monotonic() < give_up:
                if select.select([self.terminal], [], [], 0.1)[0]:
                    os.read(self.terminal, 65536)
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


@pytest.fixture(params=["readline", "plain"])
def prompt(request: pytest.FixtureRequest) -> Iterator[Prompt]:
    old = sys.version_info < (3, 13)  # the console of later ones imports readline itself
    plain = ["-I", *([] if old else ["-S"]), "-c", "import sys"]
    if old:
        plain[-1] += "; del sys.__interactivehook__"  # which imports it, too
    made = Prompt("-q", "-i", *(plain if request.param == "plain" else ["-c", "import readline"]))
    try:
        made.wait_for(">>> ")
        if request.param == "plain":
            for path in reversed(sys.path):
                made.type(f"sys.path.insert(0, {path!r})")
                made.wait_for(">>> ")
            made.type(f"'readline' in sys.modules and {old}")
            made.wait_for("False")
            made.wait_for(">>> ")
        yield made
    finally:
        made.close()


def test_a_timer_runs_while_nothing_is_typed(prompt: Prompt) -> None:
    prompt.type("import ae_core as ae, ae_core.prompt; ae_core.prompt.install()")
    prompt.wait_for(">>> ")
    prompt.type("t = ae.timer(0, lambda: print('ti' + 'ck'), interval=0.01)")
    prompt.wait_for("tick", 5)
    prompt.type("del t; print('go' + 'ne', 6 * 7)")
    prompt.wait_for("gone 42")
    assert prompt.leave() == 0


def test_ctrl_c_gives_a_new_prompt_and_the_watchers_go_on(prompt: Prompt) -> None:
    prompt.type("import ae_core as ae, ae_core.prompt; ae_core.prompt.install()")
    prompt.wait_for(">>> ")
    prompt.type("t = ae.timer(0, lambda: print('ti' + 'ck'), interval=0.01)")
    prompt.wait_for("tick", 2)
    prompt.process.send_signal(signal.SIGINT)
    prompt.wait_for("KeyboardInterrupt")
    prompt.wait_for("tick", 2)
    prompt.type("print('al' + 'ive')")
    prompt.wait_for("alive")
    assert prompt.leave() == 0


def test_uninstalled_it_waits_as_before(prompt: Prompt) -> None:
    prompt.type(
        "import ae_core as ae, ae_core.prompt as p; p.install(); p.install(); p.uninstall()"
    )
    prompt.wait_for(">>> ")
    prompt.type("p.uninstall()")
    prompt.wait_for(">>> ")
    prompt.type("t = ae.timer(0, lambda: print('ti' + 'ck')); print('th' + 'ere')")
    prompt.wait_for("there")
    prompt.type("print('en' + 'd')")
    prompt.wait_for("end")
    assert "tick" not in prompt.said
    assert prompt.leave() == 0


def test_uninstalled_just_after_ctrl_c_it_stays_so(prompt: Prompt) -> None:
    prompt.type("import ctypes, threading, ae_core as ae, ae_core.prompt as p")
    prompt.wait_for(">>> ")
    nothing = "ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value"
    prompt.type(f"p._slot().value = {nothing}")  # as another library's hook
    prompt.wait_for(">>> ")
    prompt.type("p._NEW_LINE = 1; before = p._slot().value; p.install()")
    prompt.wait_for(">>> ")
    prompt.type("t = ae.timer(0, lambda: print('ti' + 'ck'), interval=0.01)")
    prompt.wait_for("tick", 2)
    prompt.process.send_signal(signal.SIGINT)
    prompt.wait_for("KeyboardInterrupt")
    prompt.type("p.uninstall(); others = threading.enumerate()[1:]; len(others)")
    prompt.wait_for("1\r\n")
    prompt.type("others[0].join(); 'as', p._slot().value == before")
    prompt.wait_for("('as', True)")
    assert prompt.leave() == 0


def test_a_loop_that_cannot_run_there_is_reported_once_and_the_prompt_goes_on() -> None:
    if find_spec("trio") is None:
        pytest.skip("trio is not installed")
    prompt = Prompt("-q", "-i", "-c", "import readline")
    try:
        prompt.wait_for(">>> ")
        prompt.type("import ae_core as ae, ae_core.prompt; ae.use('trio')")
        prompt.wait_for(">>> ")
        prompt.type("ae_core.prompt.install()")
        prompt.wait_for("RuntimeError: trio has no loop outside a run")
        prompt.type("'al' + 'ive', ae_core.prompt._installed")
        prompt.wait_for("('alive', None)")
        assert "trio has no loop" not in prompt.said
        assert prompt.leave() == 0
    finally:
        prompt.close()


def python_with_its_own_editor() -> str:
    """Return a Python whose prompt is not readline's: 3.13 or later."""
    places = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [sys.executable, *map(shutil.which, ("python3.13", "python3.14"))]
    for python in (*candidates, *sorted(places.glob("versions/3.1[3-9].*/bin/python"))):
        if python is not None:
            done = subprocess.run(
                [python, "-c", "import _pyrepl"], capture_output=True, check=False
            )
            if done.returncode == 0:
                return str(python)
    pytest.skip("Python 3.13 or later is not installed")


def test_lines_that_are_pasted_run_at_once_at_pythons_own_editor(tmp_path: Path) -> None:
    """It reads ahead, and asks the hook before each key of what it has read."""
    prompt = Prompt(
        "-q",
        "-i",
        terminal="xterm",
        python=python_with_its_own_editor(),
        PYTHON_BASIC_REPL="",
        PYTHON_HISTORY=str(tmp_path / "history"),
        PYTHONPATH=str(Path(ae_core.__file__).parents[1]),
    )
    try:
        prompt.wait_for(">>> ")
        prompt.type("import ae_core as ae, ae_core.prompt; ae_core.prompt.install()")
        prompt.wait_for(">>> ")
        prompt.type("t = ae.timer(0, lambda: print('ti' + 'ck'), interval=0.01)")
        prompt.wait_for("tick", 5)
        prompt.type("def f():\n    return 'pas' + 'ted'\n\nf()")
        prompt.wait_for("'pasted'")
        prompt.process.send_signal(signal.SIGINT)
        prompt.wait_for("KeyboardInterrupt")
        prompt.wait_for("tick", 2)
        prompt.type("print('al' + 'ive')")
        prompt.wait_for("alive")
        assert prompt.leave() == 0
    finally:
        prompt.close()


LIBRARIES = {
    "asyncio": "asyncio",
    "gevent": "gevent",
    "glib": "gi",
    "libev": "gevent",
    "qt": "PyQt6",
    "tk": "tkinter",
    "twisted": "twisted",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_any_loop_runs_at_the_prompt_and_stands_ctrl_c(name: str) -> None:
    if find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{LIBRARIES[name]} is not installed")
    prompt = Prompt("-q", "-i", "-c", "import readline")
    try:
        prompt.wait_for(">>> ")
        prompt.type(
            f"import ae_core as ae, ae_core.prompt; ae.use({name!r}); ae_core.prompt.install()"
        )
        prompt.wait_for(">>> ")
        prompt.type("t = ae.timer(0, lambda: print('ti' + 'ck'), interval=0.01)")
        prompt.wait_for("tick", 2)
        prompt.process.send_signal(signal.SIGINT)
        prompt.wait_for("KeyboardInterrupt")
        prompt.wait_for("tick", 2)
        prompt.type("print('al' + 'ive', ae.backend())")
        prompt.wait_for(f"alive {name}")
        assert prompt.leave() == 0
    finally:
        prompt.close()


@pytest.mark.skipif(find_spec("IPython") is None, reason="IPython is not installed")
def test_gui_ae_in_ipython() -> None:
    prompt = Prompt("-m", "IPython", "--no-banner", "--no-confirm-exit", terminal="xterm")
    try:
        prompt.wait_for("In [")
        for line in (
            "%load_ext ae_core.prompt",
            "%gui ae",
            "import ae_core as ae; t = ae.timer(0, lambda: print('ti' + 'ck'), interval=0.05)",
        ):
            os.write(prompt.terminal, line.encode() + b"\r")
        prompt.wait_for("tick", 3)
        assert prompt.leave("exit") == 0
    finally:
        prompt.close()


def test_it_belongs_to_the_main_thread(script: Callable[..., str]) -> None:
    output = script(
        """
        import threading
        import ae_core.prompt

        def install():
            try:
                ae_core.prompt.install()
            except RuntimeError as error:
                print(error)

        thread = threading.Thread(target=install)
        thread.start()
        thread.join()
        """
    )
    assert "main thread" in output


def test_an_interpreter_without_the_hook_is_refused(script: Callable[..., str]) -> None:
    output = script(
        """
        import ctypes, ctypes.util
        import ae_core.prompt

        ctypes.pythonapi = ctypes.CDLL(ctypes.util.find_library("c"))
        try:
            ae_core.prompt.install()
        except RuntimeError as error:
            print(error)
        ae_core.prompt.uninstall()
        """
    )
    assert output == "this interpreter has no PyOS_InputHook\n"
