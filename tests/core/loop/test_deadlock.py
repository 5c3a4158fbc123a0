"""When a wait is in vain: what is ours and not the backend's."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ae_core as ae
from ae_core import files
from ae_core._async import thread_pool


def is_in_vain() -> None:
    """Check that nothing is left that could end a wait."""
    with pytest.raises(ae.Deadlock, match="no watcher"):
        ae.CondVar[None]().recv()


def test_a_thread_of_ours_that_rests_is_nobody_who_could_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "IDLE", 1e6)  # it would rest for days
    assert files.readdir(tmp_path).recv() == []
    assert any(thread.name.startswith("ae-core") for thread in threading.enumerate())
    is_in_vain()
    thread_pool.shutdown()


def test_a_thread_of_ours_that_works_is_somebody_who_may_answer() -> None:
    began, go = threading.Event(), threading.Event()
    cv = ae.CondVar[int]()
    backend = ae.detect()

    def work() -> None:
        began.set()
        go.wait()
        backend.call_threadsafe(lambda: cv.send(4))

    call = thread_pool.submit(work)
    began.wait()
    call.cancel()  # nothing of the loop's waits for it any more
    ae.postpone(go.set)
    assert cv.recv() == 4
    thread_pool.shutdown()


@pytest.mark.skipif(sys.platform == "win32", reason="a program there is no child")
def test_the_thread_of_a_child_that_nobody_watches_any_more_could_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ae_core._sources.children._use_pidfd", lambda: False)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ae.child(child.pid, print).cancel()
        is_in_vain()
        child.communicate(b"\n")


def test_handlers_that_are_no_functions_of_the_program_could_not_answer() -> None:
    for handler in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler):
        before = signal.signal(signal.SIGTERM, handler)
        try:
            is_in_vain()
        finally:
            signal.signal(signal.SIGTERM, before)


def test_a_handler_of_the_program_is_waited_for_until_the_time_is_over() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(TimeoutError):
            ae.CondVar[None]().recv(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    is_in_vain()
