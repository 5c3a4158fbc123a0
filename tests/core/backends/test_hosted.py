"""Programs that run their own loop, with our watchers in it and theirs beside them.

Each is a process of its own: the loops own what they run in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# What every program does once its loop runs (or is about to): a descriptor, a coroutine, a blocking
# wait in a callback of ours, and the end. `stop` ends the program's loop.
OURS = """
import socket
import ae_core as ae

ticks = []  # of the program's own timer
keep = []
seen = []


def start(stop):
    left, right = socket.socketpair()
    keep.extend((left, right))

    def readable():
        seen.append("descriptor " + right.recv(1).decode())
        watcher.cancel()

    watcher = ae.io(right, "r", readable)
    keep.append(watcher)
    left.send(b"x")

    async def task():
        await ae.sleep(0.005)
        return 5

    ae.spawn(task()).on_ready(lambda cv: seen.append(f"task {cv.recv()}"))

    def blocking():
        try:
            ae.CondVar().recv(timeout=1)
        except ae.AEError as error:
            seen.append(type(error).__name__)

    keep.append(ae.timer(0.02, blocking))
    keep.append(ae.timer(0.1, stop))


def tell():
    for end in keep[:2]:
        end.close()
    print(ae.detect().name, *seen, "ticks" if len(ticks) > 2 else ticks, sep=", ")
"""

ASYNCIO = """
import asyncio

async def main():
    done = asyncio.Event()

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)

    beside = asyncio.create_task(tick())
    start(done.set)
    await done.wait()
    beside.cancel()
    tell()

RUN
"""

PROGRAMS = {
    "asyncio": ("asyncio", ASYNCIO.replace("RUN", "asyncio.run(main())")),
    "uvloop": ("uvloop", ASYNCIO.replace("RUN", "import uvloop; uvloop.run(main())")),
    "tornado": (
        "tornado",
        """
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.locks import Event

async def main():
    PeriodicCallback(lambda: ticks.append(1), 5).start()
    done = Event()
    start(done.set)
    await done.wait()
    tell()

IOLoop.current().run_sync(main)
""",
    ),
    "trio": (
        "trio",
        """
import trio

async def main():
    async with trio.open_nursery() as nursery:

        async def tick():
            while True:
                ticks.append(1)
                await trio.sleep(0.005)

        nursery.start_soon(tick)
        start(nursery.cancel_scope.cancel)
    tell()

trio.run(main)
""",
    ),
    "gevent": (
        "gevent",
        """
import gevent
from gevent.event import Event

def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.005)

gevent.spawn(tick)
done = Event()
start(done.set)
done.wait()
tell()
""",
    ),
    "twisted": (
        "twisted",
        """
from twisted.internet import reactor, task

task.LoopingCall(lambda: ticks.append(1)).start(0.005)
reactor.callWhenRunning(start, reactor.stop)
reactor.run()
tell()
""",
    ),
    "glib": (
        "gi",
        """
from gi.repository import GLib

loop = GLib.MainLoop()
GLib.timeout_add(5, lambda: ticks.append(1) or True)
GLib.idle_add(lambda: start(loop.quit))
loop.run()
tell()
""",
    ),
    "tk": (
        "tkinter",
        """
import tkinter

tcl = tkinter.Tcl()
ae.use("tk", root=tcl)

def tick():
    ticks.append(1)
    tcl.tk.createtimerhandler(5, tick)

tick()
start(lambda: tcl.setvar("done", "1"))
tcl.eval("vwait done")  # what mainloop() is without a window
tell()
""",
    ),
}
# A window, found by detection; needs a display, which Xvfb plays.
PROGRAMS["tk-window"] = (
    "tkinter",
    """
import tkinter

root = tkinter.Tk()
root.withdraw()

def tick():
    ticks.append(1)
    root.after(5, tick)

tick()
start(root.quit)
root.mainloop()
tell()
assert ae.detect().reason == "default root exists"
""",
)
QT = """
from BINDING.QtCore import QCoreApplication, QTimer

app = QCoreApplication([])
timer = QTimer()
timer.timeout.connect(lambda: ticks.append(1))
timer.start(5)
start(app.quit)
app.exec()
tell()
"""
for _binding in ("PyQt6", "PySide6"):
    PROGRAMS[_binding] = (_binding, QT.replace("BINDING", _binding))

# The same, in a program that gevent has patched before it imports us.
PATCHED = "from gevent import monkey\n\nmonkey.patch_all()\n"
PROGRAMS["gevent-patched"] = PROGRAMS["gevent"]

NAMES = {
    "gevent-patched": "gevent",
    "tk-window": "tk",
    "uvloop": "asyncio",
    "tornado": "asyncio",
    "PyQt6": "qt",
    "PySide6": "qt",
    "twisted": "loop",  # asked for after the reactor has stopped, which never runs again
}


@pytest.mark.parametrize("host", PROGRAMS)
def test_watchers_live_in_the_loop_that_the_program_runs(
    host: str, request: pytest.FixtureRequest
) -> None:
    library, program = PROGRAMS[host]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    patched = host == "gevent-patched"
    command = [sys.executable, "-c", (PATCHED if patched else "") + OURS + program]
    if host == "tk-window":
        command = [*request.getfixturevalue("screen"), *command]
    done = subprocess.run(
        command,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    refusal = "RecursiveWait" if library == "gevent" else "BlockingNotAllowed"
    name = NAMES.get(host, host)
    first, *others = done.stdout.rstrip("\n").split(", ")
    assert first == name, done.stderr
    # in what order is the business of clocks
    assert sorted(others) == sorted(["descriptor x", "task 5", refusal, "ticks"]), done.stderr
