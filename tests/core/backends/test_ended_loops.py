"""The program ends its loop, application or window while we wait in it, or before we use it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest


def needs(*libraries: str) -> None:
    for library in libraries:
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")


QT = ("PyQt6", "PySide6")

# What each program does to end its loop while `recv()` runs it.
ENDINGS = {
    "asyncio": ("asyncio", "ae.use('asyncio')", "ae.detect().loop.stop()"),
    "twisted": (
        "twisted",
        "from twisted.internet import reactor; ae.use('twisted')",
        "reactor.stop()",
    ),
    **{
        binding: (
            binding,
            f"from {binding}.QtCore import QCoreApplication; app = QCoreApplication([])",
            "app.exit()",
        )
        for binding in QT
    },
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_loop_that_is_told_to_end_ends_the_wait_with_an_error(
    ending: str, script: Callable[..., str]
) -> None:
    library, bind, end = ENDINGS[ending]
    needs(library)
    output = script(
        f"""
        import ae_core as ae

        {bind}
        timer = ae.timer(0.001, lambda: {end})
        try:
            ae.CondVar().recv(timeout=100)
        except ae.WrongLoop as error:
            print(error)
        """,
        QT_QPA_PLATFORM="offscreen",
    )
    assert "loop ended before the condition variable was ready" in output


@pytest.mark.parametrize("binding", QT)
@pytest.mark.parametrize("code", [0, -1])
def test_an_application_that_was_told_to_exit_before_waits_all_the_same(
    binding: str, code: int, script: Callable[..., str]
) -> None:
    needs(binding)
    output = script(
        f"""
        from {binding}.QtCore import QCoreApplication, QTimer
        import ae_core as ae

        app = QCoreApplication([])
        app.exit({code})
        for _ in range(3):
            ae.sleep(0.005).recv(timeout=100)
        QTimer.singleShot(0, app.quit)
        app.exec()  # the program's own
        ae.sleep(0.005).recv(timeout=100)
        print("waited")
        """,
        QT_QPA_PLATFORM="offscreen",
    )
    assert output == "waited\n"


@pytest.mark.parametrize("binding", QT)
def test_what_is_watched_until_the_interpreter_ends_ends_in_silence(
    binding: str, script: Callable[..., str]
) -> None:
    needs(binding)
    output = script(
        f"""
        import os, sys, types
        import {binding}.QtCore
        import ae_core as ae

        pair = os.pipe()
        library = types.ModuleType("library")
        sys.modules["library"] = library
        ae.use("qt")
        library.watchers = [ae.io(pair[0], "r", print), ae.timer(9, print), ae.idle(print)]
        if sys.platform != "win32":
            library.watchers += [ae.signal("TERM", print)]
        ae.sleep(0.001).recv()
        del library
        """,
        QT_QPA_PLATFORM="offscreen",
    )
    assert output == ""


@pytest.mark.parametrize("binding", QT)
def test_an_application_that_is_made_again_is_found_again(
    binding: str, script: Callable[..., str]
) -> None:
    needs(binding)
    output = script(
        f"""
        import gc, socket
        import ae_core as ae
        from {binding}.QtCore import QCoreApplication

        ours, theirs = socket.socketpair()
        for number in range(4):
            app = QCoreApplication([])
            backend = ae.detect()
            call = backend.call_threadsafe
            seen = []
            watcher = ae.io(ours, "r", lambda: seen.append(ours.recv(1)))
            timer = ae.timer(0.01, lambda: seen.append("timer"))
            theirs.send(b"x")
            ae.sleep(0.02).recv(timeout=100)
            print(ae.detect().name, seen)
            getattr(app, "shutdown", bool)()  # PySide's applications end so
            del app
            gc.collect()
            backend.run_until(bool)  # ends by itself
            try:
                call(print)
            except RuntimeError as error:
                print(error)
        """,
        QT_QPA_PLATFORM="offscreen",
    )
    assert output == "qt [b'x', 'timer']\nthe Qt application has ended\n" * 4


def test_a_reactor_that_was_stopped_takes_no_calls(script: Callable[..., str]) -> None:
    needs("twisted")
    output = script("""
        import ae_core as ae
        from twisted.internet import reactor

        backend = ae.detect()
        reactor.callWhenRunning(reactor.stop)
        reactor.run()
        for call in (ae.call_threadsafe, backend.call_threadsafe):
            try:
                call(print)
            except RuntimeError as error:
                print(error)
        ae.sleep(0.001).recv()
        print(ae.backend())
        """)
    assert output == "the Twisted reactor has been stopped\n" * 2 + "loop\n"


def test_a_program_that_waited_first_runs_its_reactor_as_always(
    script: Callable[..., str],
) -> None:
    needs("twisted")
    output = script("""
        import ae_core as ae
        from twisted.internet import reactor

        reactor.callWhenRunning(print, "running")
        for _ in range(3):
            ae.sleep(0.001).recv()
        seen = []
        timer = ae.timer(0.001, lambda: seen.append("timer"))
        reactor.callLater(0.02, reactor.stop)
        reactor.run()
        print(seen)
        """)
    assert output == "running\n['timer']\n"


TK = """
import threading, tkinter
import ae_core as ae

root = tkinter.Tk()
backend = ae.detect()
frame = tkinter.Frame(root)
frame.destroy()
if WAIT:
    timer = ae.timer(0.001, root.destroy)
    try:
        ae.CondVar().recv(timeout=100)
    except ae.WrongLoop as error:
        print(type(error).__name__)
else:
    timer = ae.timer(0.001, root.destroy)
    root.mainloop()

def post():
    for call in (ae.call_threadsafe, backend.call_threadsafe):
        try:
            call(print)
        except RuntimeError as error:
            print(error)

post()
thread = threading.Thread(target=post)
thread.start()
thread.join()
ae.sleep(0.001).recv()
print(ae.backend())
"""


def test_an_interpreter_of_tcl_ends_once_and_is_not_used_then(script: Callable[..., str]) -> None:
    needs("tkinter")
    output = script("""
        import ae_core as ae
        from ae_core.testing import release

        ae.use("tk")
        timer = ae.timer(60, print)
        ae.sleep(0.001).recv()
        backend = ae.detect()
        release()
        backend.close()
        print(backend.usable(), timer.active, ae.backend())
        """)
    assert output == "False False None\n"


@pytest.mark.parametrize("waits", [True, False])
def test_a_window_that_is_gone_takes_no_calls(waits: bool, screen: list[str]) -> None:
    needs("tkinter")
    done = subprocess.run(
        [*screen, sys.executable, "-c", TK.replace("WAIT", str(waits))],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = ["WrongLoop"] * waits + ["the Tk application has ended"] * 4 + ["loop"]
    assert done.stdout.splitlines() == lines, done.stderr
