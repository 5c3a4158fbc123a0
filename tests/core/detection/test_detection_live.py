"""Detection where several loops are about: half imported, idle, two at once, or too late."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest


def run(program: str) -> str:
    """Return what *program* prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "AE_BACKEND": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def needs(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize(
    "module",
    [
        "asyncio.events",
        "trio._core._run",
        "PyQt6.QtCore",
        "gi.repository.GLib",
        "tkinter",
        "gevent._hub_local",
    ],
)
def test_a_half_imported_module_is_no_sign(module: str) -> None:
    # what stands in sys.modules while an import is under way: a module without its names
    program = f"""
import sys, types
import ae_core as ae
sys.modules[{module!r}] = types.ModuleType({module!r})
print(ae.detect().name)
"""
    assert run(program) == "loop"


def test_libraries_that_are_loaded_but_idle_are_no_sign() -> None:
    needs("trio", "PyQt6")
    program = """
import asyncio, trio, tkinter, PyQt6.QtCore
import ae_core as ae
print(ae.detect().name)
"""
    assert run(program) == "loop"


def test_of_two_that_are_live_the_earlier_row_is_chosen() -> None:
    needs("PyQt6", "gi")
    program = """
from gi.repository import GLib
from PyQt6.QtCore import QCoreApplication
app = QCoreApplication([])
import ae_core as ae
print(ae.detect().name, "|", ae.detect().reason)
"""
    assert run(program) == "qt | PyQt6 application exists"


def test_a_running_loop_wins_over_what_is_only_live() -> None:
    needs("PyQt6")
    program = """
import asyncio
from PyQt6.QtCore import QCoreApplication
app = QCoreApplication([])
import ae_core as ae

async def main():
    print(ae.detect().name)

asyncio.run(main())
"""
    assert run(program) == "asyncio"


@pytest.mark.parametrize("late", ["asyncio", "trio"])
def test_a_loop_that_starts_while_ours_is_needed_is_an_error_that_names_both(late: str) -> None:
    needs(late)
    program = f"""
import {late}
import ae_core as ae
ae.sleep(0).recv()
kept = ae.timer(60, print)

async def main():
    for use in (lambda: ae.timer(1, print), lambda: ae.sleep(1), ae.detect):
        try:
            use()
        except ae.WrongLoop as error:
            assert "loop loop" in str(error) and {late!r} in str(error), error
        else:
            raise AssertionError("no error")
    try:
        ae.CondVar().recv(timeout=1)
    except ae.BlockingNotAllowed as error:
        print("await cv" in str(error))

{late}.run({"main()" if late == "asyncio" else "main"})
ae.sleep(0).recv()
print(ae.backend())
"""
    assert run(program).split() == ["True", "loop"]
