"""One thread, several loops in turn: what is left by itself, what is refused, and ``release()``."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from importlib.util import find_spec

import pytest

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._detection.needs import alive
from ae_core.testing import Trace, binding

pytestmark = pytest.mark.usefixtures("unbound")

needs_trio = pytest.mark.skipif(find_spec("trio") is None, reason="needs trio")


async def nap() -> str:
    await ae.sleep(0.001)
    return ae.detect().name


def test_a_script_may_wait_first_and_run_asyncio_later_and_wait_again() -> None:
    for _ in range(2):
        ae.sleep(0.001).recv()
        assert ae.detect().name == "loop"
        assert asyncio.run(nap()) == "asyncio"
    ae.sleep(0.001).recv()


@needs_trio
def test_a_script_may_wait_first_and_run_trio_later() -> None:
    import trio

    assert ae.run(nap()) == "loop"
    assert trio.run(nap) == "trio"
    assert ae.run(nap()) == "loop"


def test_a_loop_that_something_needs_is_not_left_and_it_says_what_and_how() -> None:
    ae.sleep(0.001).recv()
    reader, writer = os.pipe()
    watcher = ae.io(reader, "r", test_a_script_may_wait_first_and_run_asyncio_later_and_wait_again)
    pause = ae.sleep(60)
    try:
        with pytest.raises(ae.WrongLoop) as caught:
            asyncio.run(nap())
        for text in (
            "asyncio",
            "test_a_script_may_wait_first",
            "<sleep of 60 s, pending>",
            "ae_core.release()",
            "ae_core.use('asyncio')",
        ):
            assert text in str(caught.value)
        watcher.cancel()
        pause.cancel()
        assert asyncio.run(nap()) == "asyncio"
    finally:
        os.close(reader)
        os.close(writer)


def test_all_kinds_of_what_needs_a_loop_are_named() -> None:
    with binding():
        ae.sleep(0.001).recv()
        released = threading.Event()
        kept = [
            *(ae.timer(60, print, interval=60), ae.idle(print)),
            *(ae.signal("TERM", print), ae.sleep(60), ae.to_thread(released.wait)),
        ]
        ae.postpone(print)
        named = alive(current_loop())
        released.set()
        for text in (
            "timer builtins.print",
            "idle builtins.print",
            "signal TERM builtins.print",
            "<sleep of 60 s, pending>",
            "<to_thread",
            "1 postponed call",
        ):
            assert any(text in each for each in named), (text, named)
        kept[-1].recv()  # type: ignore[union-attr]


def test_a_loop_that_was_chosen_is_not_left() -> None:
    ae.use("loop")
    ae.sleep(0.001).recv()
    with pytest.raises(ae.WrongLoop, match=r"ae_core\.release\(\)"):
        asyncio.run(nap())


def test_a_loop_that_is_started_in_a_callback_of_ours_is_refused(trace: Trace) -> None:
    def start() -> None:
        with pytest.raises(ae.WrongLoop, match="stand still"):
            asyncio.run(nap())
        trace("refused")

    ae.postpone(start)
    trace.run_until(1)


def test_idle_workers_of_fork_call_keep_no_loop() -> None:
    assert ae.fork_call(abs, -1).recv() == 1
    assert asyncio.run(nap()) == "asyncio"


def test_a_debug_shell_keeps_no_loop_and_follows(tmp_path: os.PathLike[str]) -> None:
    import socket

    path = os.path.join(tmp_path, "shell")
    shell = ae.debug.shell("unix/", path)

    def ask() -> bytes:
        client.sendall(b"exit\n")
        return client.recv(1000)

    async def main() -> None:
        await ae.sleep(0.001)
        client.connect(path)
        while b"Welcome" not in (said := read()):
            await ae.sleep(0.001)
        assert said

    def read() -> bytes:
        try:
            return client.recv(1000)
        except BlockingIOError:
            return b""

    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    ae.sleep(0.001).recv()
    try:
        asyncio.run(main())
    finally:
        shell.cancel()
        client.close()


# ---------------------------------------------------------------------- release()


def test_release_ends_what_is_bound_and_says_what_it_was(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            trace("finally")

    task = ae.spawn(work())
    pause = ae.sleep(60)
    watcher = ae.timer(60, nap)
    ae.sleep(0.001).recv()
    left = ae.release()
    assert sorted(left) == sorted(
        [
            "<sleep of 60 s, pending>",
            repr(task).replace("cancelled", "pending"),
            f"timer {nap.__module__}.{nap.__qualname__}",
        ]
    )
    assert trace == ["finally"]
    assert task.cancelled
    assert pause.cancelled
    assert not watcher.active
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "released while it was alive" in text] == [
        f"released while it was alive: {text}" for text in left
    ]
    assert ae.release() == []
    assert ae.backend() is None


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
def test_release_ends_a_program_and_names_it() -> None:
    process = ae.run_cmd(["sleep", "60"])
    pid: int = process.pid
    assert ae.release() == [f"<Process {pid} ['sleep', '60'] pending>"]
    assert process.cancelled
    assert os.waitpid(pid, 0) == (pid, signal.SIGTERM)


def test_release_in_a_callback_is_refused(trace: Trace) -> None:
    def callback() -> None:
        with pytest.raises(RuntimeError, match="inside of a callback"):
            ae.release()
        trace("refused")

    ae.postpone(callback)
    trace.run_until(1)

    async def main() -> None:
        ae.detect()
        with pytest.raises(RuntimeError, match="coroutine of the asyncio loop"):
            ae.release()

    asyncio.run(main())


def test_a_coroutine_that_waits_in_its_clean_up_is_an_error_of_the_hook(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))

    async def work() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            await ae.CondVar[None]()

    ae.spawn(work())
    ae.sleep(0.001).recv()
    ae.release()
    assert [text for text in trace if "'await cv' works in" in text] == trace
    assert len(trace) == 1


def test_release_forgets_a_choice() -> None:
    ae.use("asyncio")
    assert ae.release() == []
    assert ae.detect().name == "loop"


# ---------------------------------------------------------------------- other hosts


@pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted")
def test_a_script_that_waits_first_and_runs_twisted_later_has_working_watchers(
    script: Callable[..., str],
) -> None:
    output = script("""
        import ae_core as ae
        ae.sleep(0.001).recv()
        from twisted.internet import reactor
        def begin():
            global watcher
            watcher = ae.timer(0.001, end)
        def end():
            print(ae.backend())
            reactor.stop()
        reactor.callWhenRunning(begin)
        reactor.run()
    """)
    assert output in ("twisted\n", "asyncio\n")


@pytest.mark.skipif(find_spec("gi") is None, reason="needs PyGObject")
def test_a_script_that_waits_first_and_runs_glib_later_has_working_watchers(
    script: Callable[..., str],
) -> None:
    output = script("""
        import ae_core as ae
        ae.sleep(0.001).recv()
        from gi.repository import GLib
        loop = GLib.MainLoop()
        def begin():
            global watcher
            watcher = ae.timer(0.001, end)
        def end():
            print(ae.backend())
            loop.quit()
        GLib.idle_add(begin)
        loop.run()
    """)
    assert output == "glib\n"


@pytest.mark.skipif(find_spec("PyQt6") is None, reason="needs PyQt6")
def test_a_script_that_waits_first_and_runs_qt_later_has_working_watchers(
    script: Callable[..., str],
) -> None:
    output = script(
        """
        import ae_core as ae
        ae.sleep(0.001).recv()
        from PyQt6.QtCore import QCoreApplication, QTimer
        application = QCoreApplication([])
        def begin():
            global watcher
            watcher = ae.timer(0.001, end)
        def end():
            print(ae.backend())
            application.quit()
        QTimer.singleShot(0, begin)
        application.exec()
    """,
        QT_QPA_PLATFORM="offscreen",
    )
    assert output == "qt\n"


@pytest.mark.skipif(find_spec("tkinter") is None, reason="needs tkinter")
def test_a_script_that_waits_first_and_runs_tk_later_has_working_watchers(
    script: Callable[..., str],
) -> None:
    output = script("""
        import ae_core as ae
        ae.sleep(0.001).recv()
        import tkinter
        tcl = tkinter.Tcl()
        class Root(tkinter.Misc):
            tk = tcl.tk
            master = None
        root = tkinter._default_root = Root()
        def begin():
            global watcher
            watcher = ae.timer(0.001, end)
        def end():
            print(ae.backend())
            root.quit()
        tcl.createcommand("begin", begin)
        tcl.eval("after 0 begin")
        try:
            root.mainloop(-1)  # there is no window, without which it would end at once
        except ae.WrongLoop as refused:
            print(refused)
    """)
    assert output == "tk\n"


# A program that runs one of these, and calls `begin` inside it. What `begin` prints, and that the
# loop has ended, is all there is.
HOSTS = {
    "twisted": """
        from twisted.internet import reactor
        reactor.callWhenRunning(begin)
        end = reactor.stop
        run = reactor.run
    """,
    "gi": """
        from gi.repository import GLib
        loop = GLib.MainLoop()
        GLib.idle_add(begin)
        end = loop.quit
        run = loop.run
    """,
    "PyQt6": """
        from PyQt6.QtCore import QCoreApplication, QTimer
        application = QCoreApplication([])
        QTimer.singleShot(0, begin)
        end = application.quit
        run = application.exec
    """,
    "tkinter": """
        import tkinter
        tcl = tkinter.Tcl()
        class Root(tkinter.Misc):
            tk = tcl.tk
            master = None
        root = tkinter._default_root = Root()
        tcl.createcommand("begin", begin)
        tcl.eval("after 0 begin")
        end = root.quit
        run = lambda: root.mainloop(-1)  # there is no window, without which it would end at once
    """,
}
BEGIN = """
        import ae_core as ae
        def attempt():
            try:
                ae.timer(0.001, print)
            except ae.WrongLoop as refused:
                print(refused)
        def begin(*_):
            ask()
            end()
"""


@pytest.mark.parametrize("library", HOSTS)
@pytest.mark.parametrize("when", ["before the loop runs", "in the running loop", "after a wait"])
def test_the_built_in_loop_that_was_chosen_is_refused_in_a_loop_that_runs(
    library: str, when: str, script: Callable[..., str]
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")
    name = {"gi": "glib", "PyQt6": "qt", "tkinter": "tk"}.get(library, library)
    asks = {
        "before the loop runs": 'ae.use("loop"); ask = attempt',
        "in the running loop": 'def ask():\n            ae.use("loop"); attempt()',
        "after a wait": 'ae.use("loop"); ae.sleep(0.001).recv(); ask = attempt',
    }
    code = f"{BEGIN}{HOSTS[library]}\n        {asks[when]}\n        run()"
    output = script(code, QT_QPA_PLATFORM="offscreen")
    assert output.startswith(f"the {name} loop runs in this thread, but "), output
    assert output.count("\n") == 1


@pytest.mark.skipif(find_spec("gi") is None, reason="needs PyGObject")
def test_aside_of_a_running_loop_the_built_in_one_works(script: Callable[..., str]) -> None:
    output = script("""
        import ae_core as ae
        from ae_core.abc import aside
        from gi.repository import GLib
        loop = GLib.MainLoop()
        def begin():
            with aside("loop"):
                print(ae.sleep(0.001).recv())
            loop.quit()
        GLib.idle_add(begin)
        loop.run()
    """)
    assert output == "None\n"


# ---------------------------------------------------------------------- the wrong library's waits


@pytest.mark.parametrize(
    ("library", "wait"), [("asyncio", asyncio.sleep), pytest.param("trio", None, marks=needs_trio)]
)
def test_a_coroutine_that_awaits_another_librarys_sleep_is_told_what_to_write(
    library: str, wait: Callable[[float], object] | None
) -> None:
    if wait is None:
        import trio

        wait = trio.sleep

    async def main() -> None:
        await wait(0.001)  # type: ignore[misc]

    with binding("loop"), pytest.raises(RuntimeError) as caught:
        ae.run(main())
    assert f"ae_core.use('{library}')" in "".join(caught.value.__notes__)
