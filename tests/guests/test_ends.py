"""The host's end is the guest's: tasks are cancelled and clean up, whatever the host is."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

import ae_core as ae
import ae_guests
from ae_core.testing import release
from ae_guests import _loop, _trio, start_asyncio, start_trio

# A task that cleans up as a client of a database does: it sleeps, waits for a child and a thread,
# and for something of ours.
CLEANS_UP = """
async def main(seen, began=int):
    try:
        seen("began")
        began()
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.001)
        await ae.sleep(0.001)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(3)")
        threads = await asyncio.to_thread(int) if THREADS else 0
        seen(f"cleaned up {await process.wait()} {threads}")
"""
_names: dict[str, Any] = {"asyncio": asyncio, "ae": ae, "sys": sys, "THREADS": True}
exec(CLEANS_UP, _names)
cleans_up: Callable[..., Any] = _names["main"]


def test_released_the_tasks_are_cancelled_and_clean_up(host: Any, trace: Any) -> None:
    operation = start_asyncio(cleans_up(trace))
    trace.run_until(1)
    release()
    assert trace == ["began", "cleaned up 3 0"]
    assert operation.cancelled
    assert ae.backend() is None


def test_a_program_that_leaves_its_loop_ends_the_guests(host: Any, trace: Any) -> None:
    operation = start_asyncio(cleans_up(trace))
    trace.run_until(1)
    assert any("GuestLoop" in text for text in ae.release())
    assert trace == ["began", "cleaned up 3 0"]
    assert operation.cancelled


def test_a_task_that_never_began_is_cancelled_too(host: Any, trace: Any) -> None:
    operation = start_asyncio(cleans_up(trace))
    release()
    assert operation.cancelled
    assert trace == []


def test_what_operations_have_left_behind_ends_as_well(host: Any, trace: Any) -> None:
    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.001)
            trace("generator closed")

    kept: list[Any] = []

    async def main() -> None:
        kept.extend([asyncio.create_task(cleans_up(trace)), numbers()])
        await anext(kept[1])
        await asyncio.sleep(60)

    start_asyncio(main())
    trace.run_until(1)
    release()
    assert trace == ["began", "cleaned up 3 0", "generator closed"]
    assert kept[0].get_loop().is_closed()


def test_a_child_that_runs_is_still_waited_for(host: Any, trace: Any) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input(); exit(4)", stdin=asyncio.subprocess.PIPE
        )
        try:
            trace("began")
            await asyncio.sleep(60)
        finally:
            await process.communicate(b"\n")
            trace(f"status {process.returncode}")

    start_asyncio(main())
    trace.run_until(1)
    release()
    assert trace == ["began", "status 4"]


def test_what_is_started_afterwards_has_a_loop_of_its_own(host: Any, trace: Any) -> None:
    start_asyncio(cleans_up(trace))
    trace.run_until(1)
    release()
    with ae.abc.aside("loop"):

        async def main() -> int:
            await asyncio.sleep(0.001)
            return 5

        assert start_asyncio(main()).recv() == 5


def test_clean_up_has_a_time_limit(host: Any, trace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loop, "CLEAN_UP_PATIENCE", 0.05)
    told: list[str] = []

    async def stubborn() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
        ended = loop.create_future()
        trace("began")
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError:
                continue

    operation = start_asyncio(stubborn())
    trace.run_until(1)
    release()
    assert operation.cancelled
    assert any("have not ended within 0.05 s" in text for text in told)
    task = operation._task  # type: ignore[attr-defined]
    task._log_destroy_pending = False
    task.get_coro().close()


def test_a_second_cancellation_does_not_break_into_the_clean_up(host: Any, trace: Any) -> None:
    """The last operation ends, what it has left behind cleans up, and the host ends meanwhile."""

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            trace("cleaning")
            await asyncio.sleep(0.05)
            trace("cleaned up")

    kept = []

    async def main() -> None:
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    start_asyncio(main())
    trace.run_until(1)
    release()
    assert trace == ["cleaning", "cleaned up"]


def test_the_end_of_a_thread_is_the_end_of_its_guests(trace: Any) -> None:
    seen: list[str] = []

    def work() -> None:
        ae.use("loop")
        began: ae.CondVar[None] = ae.CondVar()
        start_asyncio(cleans_up(seen.append, began.send))
        began.recv()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0] == "began"
    assert seen[1].startswith("cleaned up")


def test_a_whole_program_ends_with_its_host(host: Any, trace: Any) -> None:
    """The loop of ``new_event_loop`` is told of an end while it runs; then it may run again."""
    loop = ae_guests.new_event_loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def main() -> None:
            await cleans_up(trace, lambda: loop.call_soon(loop._host_ends))  # type: ignore[attr-defined]

        with pytest.raises(asyncio.CancelledError):
            runner.run(main())
        assert trace == ["began", "cleaned up 3 0"]
        assert runner.run(asyncio.sleep(0.001, "runs on")) == "runs on"


def test_a_host_that_ends_when_a_whole_program_was_just_stopped_ends_its_tasks(
    host: Any, trace: Any
) -> None:
    loop: Any = ae_guests.new_event_loop()

    def stop() -> None:
        """Have the host end behind the guest's last turn, before ``run_forever`` returns."""
        loop.call_soon(loop.stop)
        kept.append(ae.timer(0.0, loop._host_ends))

    kept: list[Any] = []
    task = loop.create_task(cleans_up(trace, lambda: kept.append(ae.timer(0.0, stop))))
    loop.run_forever()
    assert trace == ["began", "cleaned up 3 0"]
    assert task.cancelled()
    loop.close()


def test_a_run_of_trio_ends_with_its_host(host: Any, trace: Any, trio: Any) -> None:
    async def main() -> None:
        try:
            trace("began")
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.001)
                await trio.to_thread.run_sync(int)
                await ae.sleep(0.001)
            trace("cleaned up")

    run = start_trio(main)
    trace.run_until(1)
    release()
    assert trace == ["began", "cleaned up"]
    assert run.cancelled


def test_a_call_of_trios_thread_that_the_ending_host_refuses_is_made_all_the_same(
    host: Any, trace: Any, trio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()
    a, b = socket.socketpair()

    def refuse(call: Callable[[], object]) -> None:
        refused.set()
        raise RuntimeError("the loop has ended")

    async def main() -> None:
        monkeypatch.setattr(host, "call_threadsafe", refuse)
        trace("began")
        await trio.lowlevel.wait_readable(a)  # the thread waits, too
        trace("woken")

    with a, b:
        run = start_trio(main)
        trace.run_until(1)
        b.send(b"x")
        while not refused.is_set():
            ae.sleep(0.001).recv()
        assert trace == ["began"]
        release()
    assert trace == ["began", "woken"]
    assert run.recv() is None


def test_a_run_of_trio_in_asyncio_ends_with_that(unbound: None, trace: Any, trio: Any) -> None:
    async def inner() -> None:
        try:
            trace("began")
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.001)
            trace("cleaned up")

    async def main() -> None:
        start_trio(inner)
        while not trace:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert trace == ["began", "cleaned up"]


def test_a_run_of_trio_that_does_not_end_is_told_of(
    host: Any, trace: Any, trio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trio, "CLEAN_UP_PATIENCE", 0.05)
    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))
    leave = trio.Event()

    async def main() -> None:
        trace("began")
        with trio.CancelScope(shield=True):
            await leave.wait()

    run = start_trio(main)
    trace.run_until(1)
    release()
    assert [type(error) for error in errors] == [TimeoutError]
    assert not run.ready
    leave.set()
    while not run._calls:  # type: ignore[attr-defined]
        time.sleep(0)  # trio's thread has something to call, and no host is there
    with ae.abc.aside("loop"):  # the test's own end of it
        run._host = ae.detect()  # type: ignore[attr-defined]
        run._leaving = False  # type: ignore[attr-defined]
        run._begin()  # type: ignore[attr-defined]
        run._call_next()  # type: ignore[attr-defined]
        run.recv(timeout=30)


# ---------------------------------------------------------------------- hosts, each in a process

OURS = """
import asyncio
import sys

import ae_core as ae
from ae_guests import new_event_loop, start_asyncio


THREADS = True


def seen(text):
    print(text, flush=True)

"""

# Python starts no threads any more while it exits.
EXITS = """
THREADS = False
"""

PROGRAMS = {
    "exit of the interpreter": (
        "",
        EXITS
        + """
began = ae.CondVar()
start_asyncio(main(seen, began.send))
began.recv()
""",
        "began, cleaned up 3 0",
    ),
    "exit after the last operation": (
        "",
        EXITS
        + """
async def short():
    began = asyncio.Event()
    task = asyncio.create_task(main(seen, began.set))
    await began.wait()
    return task  # kept

start_asyncio(short()).recv()
""",
        "began, cleaned up 3 0",
    ),
    "tk: the window is closed": (
        "tkinter",
        """
import tkinter
root = tkinter.Tk()
start_asyncio(main(seen, lambda: root.after(1, root.quit)))
root.mainloop()
seen("returned")
root.after(1, root.destroy)
root.mainloop()
seen(ae.backend())
""",
        "began, returned, cleaned up 3 0, None",
    ),
    "tk: a task closes the window": (
        "tkinter",
        """
import tkinter
root = tkinter.Tk()

async def closes():
    began = asyncio.Event()
    beside = asyncio.create_task(main(seen, began.set))
    await began.wait()
    root.destroy()
    seen("destroyed")
    try:
        await asyncio.sleep(60)
    finally:
        seen("cancelled")

start_asyncio(closes())
root.mainloop()
seen(ae.backend())
""",
        "began, destroyed, cancelled, cleaned up 3 0, None",
    ),
    "tk: the window of a whole program is closed": (
        "tkinter",
        """
import tkinter
root = tkinter.Tk()
try:
    with asyncio.Runner(loop_factory=lambda: new_event_loop("tk")) as runner:
        runner.run(main(seen, lambda: root.after(1, root.destroy)))
except asyncio.CancelledError:
    seen("cancelled")
""",
        "began, cleaned up 3 0, cancelled",
    ),
    "tk: a run of trio closes the window": (
        "tkinter trio",
        """
import tkinter
import trio
from ae_guests import start_trio
root = tkinter.Tk()

async def closes():
    root.destroy()
    seen("destroyed")
    try:
        await trio.sleep(60)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.001)
        seen("cleaned up")

ae.detect()
run = start_trio(closes)
root.mainloop()
seen(run.cancelled)
seen(ae.backend())
""",
        "destroyed, cleaned up, True, None",
    ),
    "qt: the application quits": (
        "PyQt6",
        """
from PyQt6.QtCore import QCoreApplication, QEventLoop, QTimer
app = QCoreApplication([])
loop = QEventLoop()
start_asyncio(main(seen, lambda: QTimer.singleShot(1, loop.quit)))
loop.exec()
seen("returned")
QTimer.singleShot(1, app.quit)
app.exec()
seen("has quit")

async def again():
    await asyncio.sleep(0.001)
    return "again"

seen(start_asyncio(again()).recv())
""",
        "began, returned, cleaned up 3 0, has quit, again",
    ),
    "qt: the application of a whole program exits": (
        "PyQt6",
        """
from PyQt6.QtCore import QCoreApplication, QTimer
app = QCoreApplication([])
try:
    with asyncio.Runner(loop_factory=lambda: new_event_loop("qt")) as runner:
        runner.run(main(seen, lambda: QTimer.singleShot(1, app.exit)))
except (asyncio.CancelledError, ae.WrongLoop):
    seen("left")
""",
        "began, cleaned up 3 0, left",
    ),
    "twisted: the reactor is stopped": (
        "twisted",
        """
from twisted.internet import reactor
ae.use("twisted")
start_asyncio(main(seen, lambda: reactor.callLater(0.001, reactor.stop)))
reactor.run()
seen("stopped")
""",
        "began, cleaned up 3 0, stopped",
    ),
    "twisted: the reactor of a whole program is stopped": (
        "twisted",
        """
from twisted.internet import reactor
try:
    with asyncio.Runner(loop_factory=lambda: new_event_loop("twisted")) as runner:
        runner.run(main(seen, lambda: reactor.callLater(0.001, reactor.stop)))
except (asyncio.CancelledError, ae.WrongLoop):
    seen("left")
""",
        "began, cleaned up 3 0, left",
    ),
    "glib: a main loop returns, and the interpreter exits": (
        "gi",
        EXITS
        + """
from gi.repository import GLib
ae.use("glib")
loop = GLib.MainLoop()
start_asyncio(main(seen, lambda: GLib.timeout_add(1, loop.quit)))
loop.run()
seen("returned")
""",
        "began, returned, cleaned up 3 0",
    ),
    "gevent: the interpreter exits": (
        "gevent",
        EXITS
        + """
ae.use("gevent")
began = ae.CondVar()
start_asyncio(main(seen, began.send))
began.recv()
""",
        "began, cleaned up 3 0",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_end_of_a_host_is_the_end_of_its_guests(
    name: str, request: pytest.FixtureRequest
) -> None:
    libraries, program, expected = PROGRAMS[name]
    for library in libraries.split():
        if find_spec(library) is None:
            pytest.skip(f"needs {library}")
    command = [sys.executable, "-W", "always", "-c", OURS + CLEANS_UP + program]
    if "tkinter" in libraries:
        command = [*request.getfixturevalue("screen"), *command]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "AE_STRICT": "0"},
    )
    assert ", ".join(done.stdout.splitlines()) == expected, done.stderr
    assert done.stderr == ""
