"""A loop inside a callback, begun as the host's programs begin one: a dialog, ``vwait`` ...

Each is a process of its own: the loops own what they run in. What ``poll()`` does inside a callback
is the conformance suite's business.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# In a loop inside one callback of each kind everything else has to go on: `TICKERS` count what
# came, twice is enough.
PROGRAM = """
import os, signal, socket, subprocess, sys, threading, time
import ae_core as ae

TICKERS = ["timer", "interval", "postponed", "coroutine", "thread", "io", "peer", "signal",
           "child", "idle", "condvar"]


class Tickers:
    def __init__(self):
        self.counts = dict.fromkeys(TICKERS, 0)
        self.held = {}
        self.going = True
        self.backend = ae.detect()
        self.left, self.right = socket.socketpair()
        self.right.setblocking(False)
        self.held["interval"] = ae.timer(0.001, self.interval, interval=0.001)
        self.start("timer", lambda: ae.timer(0.001, lambda: self.again("timer")))
        self.start("postponed", lambda: ae.postpone(lambda: self.again("postponed")))
        self.start("condvar", self.condvar)
        self.start("child", self.child)
        ae.spawn(self.coroutine())
        threading.Thread(target=self.thread).start()
        self.held["io"] = ae.io(self.right, "r", lambda: self.tick("io"))
        self.held["peer"] = ae.io(self.right, "r", self.peer)
        self.held["signal"] = ae.signal("USR1", lambda: self.tick("signal"))
        self.held["idle"] = ae.idle(lambda: self.tick("idle"))
        self.left.setblocking(False)

    def interval(self):
        if self.tick("interval"):
            self.left.send(b"x")

    def tick(self, name):
        self.counts[name] += 1
        return self.going and self.counts[name] < 1000

    def start(self, name, make):
        self.held[name, "make"] = make
        self.held[name] = make()

    def again(self, name):
        if self.tick(name):
            self.held[name] = self.held[name, "make"]()

    def condvar(self):
        cv = ae.CondVar(lambda cv: self.again("condvar"))
        return ae.timer(0.001, cv.send)

    def child(self):
        process = subprocess.Popen(["true"])
        def ended(pid, status):
            process.wait()
            if self.counts["child"] < 3:
                self.again("child")
        return ae.child(process.pid, ended)

    def peer(self):
        self.tick("peer")
        try:
            self.right.recv(100)
        except BlockingIOError:
            return
        os.kill(os.getpid(), signal.SIGUSR1)

    async def coroutine(self):
        while self.tick("coroutine"):
            await ae.sleep(0.001)

    def thread(self):
        while self.going:
            done = threading.Event()
            self.backend.call_threadsafe(lambda: (self.tick("thread"), done.set()))
            done.wait(10)

    def enough(self):
        return all(count >= 2 for count in self.counts.values())

    def stop(self):
        self.going = False
        self.held.clear()
        self.left.close()
        self.right.close()


def in_timer(call):
    return ae.timer(0.001, call)

def in_postponed(call):
    ae.postpone(call)

def in_coroutine(call):
    async def coroutine():
        await ae.sleep(0.001)
        call()
    ae.spawn(coroutine())

def in_condvar(call):
    cv = ae.CondVar(lambda cv: call())
    return ae.timer(0.001, cv.send)

def in_io(call):
    left, right = socket.socketpair()
    left.send(b"x")
    held = []
    def readable():
        right.recv(1)
        call()
    held += [left, ae.io(right, "r", readable), ae.io(right, "r", int)]
    return held

def in_signal(call):
    held = ae.signal("USR2", call)
    os.kill(os.getpid(), signal.SIGUSR2)
    return held

def in_child(call):
    process = subprocess.Popen(["true"])
    return ae.child(process.pid, lambda *_: (process.wait(), call()))

def in_thread(call):
    threading.Thread(target=ae.detect().call_threadsafe, args=(call,)).start()

def in_idle(call):
    held = []
    def once():
        held.pop().cancel()
        call()
    held.append(ae.idle(once))
    return held

OPENERS = [in_timer, in_postponed, in_coroutine, in_condvar, in_io, in_signal, in_child,
           in_thread, in_idle]


def main(inner, leave):
    '''In a callback of each kind run `inner(enough)`, then call `leave`.'''
    openers = iter(OPENERS)
    held = []

    def next_one():
        held.clear()
        for opener in openers:
            held.append(opener(lambda: begin(opener)))
            return
        leave()

    def begin(opener):
        tickers = Tickers()
        end = time.monotonic() + 30
        inner(lambda: tickers.enough() or time.monotonic() > end)
        few = [name for name, count in tickers.counts.items() if count < 2]
        print(opener.__name__, "ok" if not few else f"without {few}")
        tickers.stop()
        held.append(ae.timer(0.001, next_one))

    held.append(ae.timer(0.001, next_one))
    return held
"""

QT = """
from BINDING.QtCore import QCoreApplication, QEventLoop, QTimer
app = QCoreApplication([])

def inner(ended):
    loop = QEventLoop()
    def look():
        if ended():
            loop.quit()
    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(5)
    loop.exec()

"""

HOSTED = """
held = main(inner, app.exit)
app.exec()
"""
BLOCKING = """
done = ae.CondVar()
held = main(inner, done.send)
done.recv(300)
"""

GLIB = """
from gi.repository import GLib
ae.use("glib")

def inner(ended):
    loop = GLib.MainLoop()
    def look():
        if ended():
            loop.quit()
            return False
        return True
    GLib.timeout_add(5, look)
    loop.run()

"""
TK = """
import tkinter
root = tkinter.Tcl()
ae.use("tk", root=root)

def inner(ended):
    root.setvar("inner", "")
    def look():
        if ended():
            root.setvar("inner", "done")
        else:
            root.tk.createtimerhandler(5, look)
    look()
    root.eval("vwait inner")

"""

# What nest_asyncio does, in short: a loop that can be run while it runs, and tasks that let another
# one in.
ASYNCIO = """
import asyncio, heapq
ae.use("asyncio", loop_factory=lambda: Nested())


class Nested(asyncio.SelectorEventLoop):
    def _run_once(self):
        while self._scheduled and self._scheduled[0]._when <= self.time():
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        timeout = None
        if self._ready:
            timeout = 0
        elif self._scheduled:
            timeout = max(self._scheduled[0]._when - self.time(), 0)
        self._process_events(self._selector.select(timeout))
        for _ in range(len(self._ready)):
            if self._ready:
                handle = self._ready.popleft()
                if not handle._cancelled:
                    handle._run()


def inner(ended):
    loop = ae.detect().loop
    task = asyncio.tasks.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    while not ended():
        loop._run_once()
    if task is not None:
        asyncio.tasks._enter_task(loop, task)

"""

PROGRAMS = {
    "PyQt6-hosted": ("PyQt6", QT.replace("BINDING", "PyQt6") + HOSTED),
    "PyQt6": ("PyQt6", QT.replace("BINDING", "PyQt6") + BLOCKING),
    "PySide6-hosted": ("PySide6", QT.replace("BINDING", "PySide6") + HOSTED),
    "PySide6": ("PySide6", QT.replace("BINDING", "PySide6") + BLOCKING),
    "glib-hosted": (
        "gi",
        GLIB + "outer = GLib.MainLoop()\nheld = main(inner, outer.quit)\nouter.run()\n",
    ),
    "glib": ("gi", GLIB + BLOCKING),
    "tk-hosted": (
        "tkinter",
        TK + "held = main(inner, lambda: root.setvar('outer', '1'))\nroot.eval('vwait outer')\n",
    ),
    "tk": ("tkinter", TK + BLOCKING),
    "asyncio": ("asyncio", ASYNCIO + BLOCKING),
}


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("host", PROGRAMS)
def test_everything_goes_on_while_a_callback_of_any_kind_runs_a_loop_of_the_host(
    host: str,
) -> None:
    library, program = PROGRAMS[host]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    openers = [line.split("OPENERS")[0] for line in done.stdout.splitlines()]
    assert len(openers) == 9, done.stderr
    assert [line for line in openers if not line.endswith(" ok")] == []
