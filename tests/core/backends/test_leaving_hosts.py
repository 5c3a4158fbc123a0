"""``SystemExit`` and ``KeyboardInterrupt`` out of a callback in a loop that the program runs.

They leave whoever runs the loop, once and as they are, and the status of the process is theirs. Qt
and GLib are in C, and let no exception through: there the status is all that can be kept.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

LEAVE = """
import sys
import ae_core as ae

held = []

def begin():
    def leave():
        raise WHAT
    held.append(KIND)

def run(main):
    try:
        main()
    except BaseException as error:
        print("left by", repr(error))
        raise
    print("returned")
"""
KINDS = {
    "timer": "ae.timer(0.01, leave)",
    "postponed call": "ae.postpone(leave)",
    "call from a thread": "ae.detect().call_threadsafe(leave)",
}
HOSTS = {
    "asyncio": (
        "asyncio",
        """
import asyncio

async def main():
    begin()
    await asyncio.sleep(30)

run(lambda: asyncio.run(main()))
""",
    ),
    "trio": (
        "trio",
        """
import trio

async def main():
    begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 30)

run(lambda: trio.run(main))
""",
    ),
    "trio that never waits": (
        "trio",
        """
import time, trio

async def main():
    begin()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        await trio.lowlevel.checkpoint()

run(lambda: trio.run(main))
""",
    ),
    "twisted": (
        "twisted",
        """
from twisted.internet import reactor

reactor.callWhenRunning(begin)
reactor.callLater(30, reactor.stop)
run(reactor.run)
""",
    ),
    "gevent": (
        "gevent",
        """
import gevent

ae.use("gevent")
begin()
run(lambda: gevent.sleep(30))
""",
    ),
    "tk": (
        "tkinter",
        """
import tkinter

root = tkinter.Tk()
root.withdraw()
begin()
root.after(30_000, root.quit)
run(root.mainloop)
""",
    ),
    "glib": (
        "gi",
        """
from gi.repository import GLib

loop = GLib.MainLoop()
GLib.idle_add(begin)
GLib.timeout_add(30_000, loop.quit)
run(loop.run)
""",
    ),
}
QT = """
from BINDING.QtCore import QCoreApplication, QTimer

app = QCoreApplication([])
begin()
QTimer.singleShot(30_000, app.quit)
run(lambda: sys.exit(app.exec()))
"""
for _binding in ("PyQt6", "PySide6"):
    HOSTS[_binding] = (_binding, QT.replace("BINDING", _binding))


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("what", ["SystemExit(5)", "KeyboardInterrupt()"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", HOSTS)
def test_what_ends_a_program_leaves_the_loop_that_the_program_runs(
    host: str, kind: str, what: str, request: pytest.FixtureRequest
) -> None:
    library, program = HOSTS[host]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    text = LEAVE.replace("WHAT", what).replace("KIND", KINDS[kind]) + program
    command = [sys.executable, "-c", text]
    if host == "tk":
        command = [*request.getfixturevalue("screen"), *command]
    done = subprocess.run(
        command,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # what a shell makes of an end by Ctrl-C is what a program on a virtual screen ends with
    interrupted = 128 + signal.SIGINT if host == "tk" else -signal.SIGINT
    status, left = (5, what) if what == "SystemExit(5)" else (interrupted, what)
    if host in ("PyQt6", "PySide6") and what != "SystemExit(5)":
        status, left = 130, "SystemExit(130)"
    said = done.stdout.strip()
    if host == "glib" and what == "SystemExit(5)":
        assert said == ""  # GLib's binding ends the process there and then
    else:
        assert said == f"left by {left}", done.stderr
    assert done.returncode == status, done.stderr
