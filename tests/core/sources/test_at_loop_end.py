"""``at_loop_end``: libraries hear of the end of a loop; ``aside``: they have one after it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from textwrap import dedent
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import aside, at_loop_end
from ae_core.testing import release

every_backend = pytest.mark.blocking  # all but trio, which is not bound outside of its run


@every_backend
def test_releasing_calls_the_youngest_first_and_each_once(backend: Any, trace: Any) -> None:
    first = at_loop_end(lambda: trace("first"))
    second = at_loop_end(lambda: trace("second"))
    assert first.active
    assert first.kind == "end"
    assert "end" in repr(first)
    release()
    release()
    assert trace == ["second", "first"]
    assert not first.active
    assert not second.active


@every_backend
def test_one_that_is_cancelled_or_dropped_is_not_called(backend: Any, trace: Any) -> None:
    at_loop_end(lambda: trace("dropped"))
    cancelled = at_loop_end(lambda: trace("cancelled"))
    cancelled.cancel()
    cancelled.cancel()
    release()
    assert trace == []


@every_backend
def test_it_keeps_no_wait_from_being_a_deadlock(backend: Any) -> None:
    watcher = at_loop_end(print)
    with pytest.raises((ae.Deadlock, TimeoutError)) as caught:
        ae.CondVar().recv(timeout=None if backend.owns_wait else 0.01)
    assert (caught.type is ae.Deadlock) == backend.owns_wait
    watcher.cancel()


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="callable"):
        at_loop_end(1)  # type: ignore[arg-type]


def test_an_error_goes_to_the_hook_and_the_others_are_called(
    monkeypatch: pytest.MonkeyPatch, trace: Any
) -> None:
    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))

    def failing() -> None:
        raise LookupError("at the end")

    watchers = [at_loop_end(lambda: trace("called")), at_loop_end(failing)]
    release()
    assert [str(error) for error in errors] == ["at the end"]
    assert trace == ["called"]
    del watchers


def test_an_interrupt_leaves_when_the_others_have_been_called(trace: Any) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    watchers = [at_loop_end(lambda: trace("called")), at_loop_end(interrupted)]
    with pytest.raises(KeyboardInterrupt):
        release()
    assert trace == ["called"]
    assert ae.backend() is None
    del watchers


def test_the_end_of_a_thread_is_the_end_of_its_loop(trace: Any) -> None:
    kept: list[Any] = []

    def work() -> None:
        kept.append(at_loop_end(lambda: trace(threading.get_ident() == kept[0])))
        kept.insert(0, threading.get_ident())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert trace == [True]


def test_nothing_of_a_loop_aside_is_left_when_the_thread_has_ended() -> None:
    import gc

    from ae_core._detection.current import _Slot

    def wait() -> None:
        with aside("loop"):
            ae.sleep(0.0).recv()

    kept: list[Any] = []
    before = sum(isinstance(each, _Slot) for each in gc.get_objects())
    for _ in range(5):
        thread = threading.Thread(target=lambda: kept.append(at_loop_end(wait)))
        thread.start()
        thread.join()
    kept.clear()
    assert sum(isinstance(each, _Slot) for each in gc.get_objects()) <= before


def test_a_loop_is_there_aside_while_a_thread_ends(trace: Any) -> None:
    kept: list[Any] = []

    def wait() -> None:
        with aside("loop"):
            ae.sleep(0.001).recv()
            trace("slept")

    thread = threading.Thread(target=lambda: kept.append(at_loop_end(wait)))
    thread.start()
    thread.join()
    assert trace == ["slept"]


def test_the_end_of_asyncio_is_heard_of(unbound: None, trace: Any) -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept.append(at_loop_end(lambda: trace("the end")))
        trace("main")

    asyncio.run(main())
    trace("over")
    assert trace == ["main", "the end", "over"]


def test_the_end_of_trio_is_heard_of(unbound: None, trace: Any) -> None:
    trio = pytest.importorskip("trio")
    kept: list[Any] = []

    async def main() -> None:
        kept.append(at_loop_end(lambda: trace("the end")))
        trace("main")

    trio.run(main)
    trace("over")
    assert trace == ["main", "the end", "over"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_call(trace: Any) -> None:
    reader, writer = os.pipe()
    watcher = at_loop_end(lambda: os.write(writer, b"called"))
    pid = os.fork()
    if not pid:
        status = 1
        try:
            release()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    watcher.cancel()
    os.close(writer)
    with open(reader, "rb") as ours:
        assert ours.read() == b""


# ---------------------------------------------------------------------- aside


@every_backend
def test_a_loop_aside_leaves_the_threads_own_as_it_is(backend: Any, trace: Any) -> None:
    timer = ae.timer(0.0, lambda: trace("ours"))
    with aside("loop") as other:
        assert ae.detect() is other
        assert other is not backend
        lost = ae.timer(0.0, lambda: trace("aside"))
        trace.run_until(1)
    assert ae.detect() is backend
    assert not lost.active
    assert timer.active
    trace.run_until(2)
    assert trace == ["aside", "ours"]


def test_aside_the_loop_may_be_left_to_detection() -> None:
    before = ae.detect()
    with aside() as other:
        assert other is None
        assert ae.backend() is None
        assert ae.detect() is not before
    assert ae.detect() is before


def test_a_choice_that_nothing_has_followed_is_back_after_it(unbound: None) -> None:
    ae.use("asyncio")
    with aside("loop"):
        assert ae.detect().name == "loop"
    assert ae.detect().name == "asyncio"


def test_an_unknown_name_leaves_the_binding_as_it_was() -> None:
    before = ae.detect()
    with pytest.raises(ValueError, match="unknown backend"), aside("nothing"):
        pass
    assert ae.detect() is before


def test_a_loop_that_rests_rests_through_it(unbound: None) -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def watch() -> ae.Watcher:
        return ae.timer(60, print)

    async def is_watched(timer: ae.Watcher) -> bool:
        with timer:  # refused if its loop has ended
            return timer.active

    timer = first.run_until_complete(watch())
    other = second.run_until_complete(watch())
    with aside("loop"):
        ae.sleep(0.0).recv()
    assert first.run_until_complete(is_watched(timer))
    assert second.run_until_complete(is_watched(other))
    first.close()
    second.close()


def test_calls_from_threads_reach_the_main_threads_own_loop_after_it(trace: Any) -> None:
    with aside("loop"):
        pass
    thread = threading.Thread(target=lambda: ae.call_threadsafe(lambda: trace("called")))
    thread.start()
    thread.join()
    trace.run_until(1)


# ---------------------------------------------------------------------- hosts, each in a process

OURS = """
    import ae_core as ae
    from ae_core.abc import aside, at_loop_end

    def ended():
        with aside("loop"):
            ae.sleep(0.001).recv()
        print("the end", flush=True)

"""

PROGRAMS = {
    "exit of the interpreter": (
        None,
        """
        watcher = at_loop_end(ended)
        ae.sleep(0.001).recv()
        print("waited")
        """,
        ["waited", "the end"],
    ),
    "exit of the interpreter, whose handlers may wait": (
        None,
        """
        import atexit
        watcher = at_loop_end(lambda: print("not called"), at_quit=False)
        atexit.register(lambda: print("waited"))
        """,
        ["waited"],
    ),
    "exit by an exception": (
        None,
        """
        watcher = at_loop_end(ended)
        raise SystemExit("leaving")
        """,
        ["the end"],
    ),
    "tk: the root is destroyed": (
        "tkinter",
        """
        import tkinter
        root = tkinter.Tk()
        watcher = at_loop_end(ended)
        root.after(1, root.quit)
        root.mainloop()
        print("mainloop has returned")
        root.after(1, root.destroy)
        root.mainloop()
        print(ae.backend())
        """,
        ["mainloop has returned", "the end", "None"],
    ),
    "qt: aboutToQuit": (
        "PyQt6",
        """
        from PyQt6.QtCore import QCoreApplication, QEventLoop, QTimer
        app = QCoreApplication([])
        watcher = at_loop_end(ended)
        other = at_loop_end(lambda: print("the very end"), at_quit=False)
        kept = ae.timer(0.0, lambda: print("kept"))
        loop = QEventLoop()
        QTimer.singleShot(50, loop.quit)
        loop.exec()
        print("a loop has returned")
        QTimer.singleShot(1, app.quit)
        app.exec()
        print(ae.backend())
        ae.release()
        """,
        ["kept", "a loop has returned", "the end", "qt", "the very end"],
    ),
    "twisted: the reactor is stopped": (
        "twisted",
        """
        from twisted.internet import reactor
        ae.use("twisted")
        watcher = at_loop_end(ended)
        ae.sleep(0.001).recv()
        print("waited")
        reactor.callLater(0.001, reactor.stop)
        reactor.run()
        print(ae.backend())
        """,
        ["waited", "the end", "None"],
    ),
    "glib: a main loop that returns is no end": (
        "gi",
        """
        from gi.repository import GLib
        ae.use("glib")
        watcher = at_loop_end(ended)
        loop = GLib.MainLoop()
        GLib.timeout_add(1, loop.quit)
        loop.run()
        print("returned")
        """,
        ["returned", "the end"],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_end_of_a_host(name: str, request: pytest.FixtureRequest) -> None:
    library, program, expected = PROGRAMS[name]
    if library is not None and find_spec(library) is None:
        pytest.skip(f"needs {library}")
    command = [sys.executable, "-c", dedent(OURS) + dedent(program)]
    if library == "tkinter":
        command = [*request.getfixturevalue("screen"), *command]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "AE_STRICT": "0"},
    )
    assert done.stdout.splitlines() == expected, done.stderr
