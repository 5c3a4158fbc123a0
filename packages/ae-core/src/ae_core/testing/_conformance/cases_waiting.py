"""Demands on a blocking wait: what may still end it, and when it can never end."""

from __future__ import annotations

__all__ = ()

import _thread
import ctypes
import os
import signal
import sys
import threading
from subprocess import Popen
from typing import TYPE_CHECKING, Any

from ... import _api as ae
from ..._async.condvar import CondVar
from ..._base.errors import Deadlock
from ..._operations import pending
from .scene import BLOCKING, CaseSkipped, Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from collections.abc import Callable


def _needs_deadlock(scene: Scene) -> None:
    backend = scene.backend
    if not backend.owns_wait and not backend.ends_by_itself:
        raise CaseSkipped(f"the {backend.name} loop may have work that it does not report")


@case("wait", ways=(BLOCKING,))
async def a_wait_that_nothing_can_end_is_a_deadlock(scene: Scene) -> None:
    _needs_deadlock(scene)
    with expect_raises(Deadlock):
        CondVar[None]().recv()
    done: CondVar[None] = CondVar()
    with ae.timer(0.001, scene.trace.recorder("timer")):
        with expect_raises(Deadlock):
            done.recv()
    expect_equal(scene.trace, ["timer"], "what could still happen")
    with expect_raises(TimeoutError):
        done.recv(0.001)
    with ae.timer(0.001, done):
        done.recv()


@case("wait", ways=(BLOCKING,))
async def a_pending_operation_is_no_deadlock(scene: Scene) -> None:
    done: CondVar[None] = CondVar()
    operation = pending()
    backend = scene.backend
    timer = ae.timer(0.001, lambda: None)
    timer.cancel()

    def work() -> None:
        backend.call_threadsafe(done)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    done.recv()
    thread.join()
    operation.cancel()
    operation.cancel()


@case("wait", ways=(BLOCKING,))
async def a_wait_for_a_pending_operation_alone_rests(scene: Scene) -> None:
    done: CondVar[None] = CondVar()
    operation = pending()
    backend: Any = scene.backend
    run_until = backend.run_until
    asked = 0

    def counted(is_done: Callable[[], bool]) -> None:
        def ask() -> bool:
            nonlocal asked
            asked += 1
            return is_done()

        run_until(ask)

    def work() -> None:
        threading.Event().wait(0.1)
        backend.call_threadsafe(done)

    thread = threading.Thread(target=work, daemon=True)
    backend.run_until = counted
    try:
        thread.start()
        done.recv()
    finally:
        del backend.run_until
    thread.join()
    operation.cancel()
    expect(asked < 50, f"{asked} turns in 0.1 s in which nothing happened")


def _by_threading(work: Callable[[], None]) -> object:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _as_a_daemon(work: Callable[[], None]) -> object:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _by_thread(work: Callable[[], None]) -> object:
    return _thread.start_new_thread(work, ())


def _by_a_c_library(work: Callable[[], None]) -> object:
    """Start a thread of which Python learns when it calls."""
    create: Any = ctypes.CDLL(None).pthread_create
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    keep = kind(lambda _: work())
    ident = ctypes.c_ulong()
    expect_equal(create(ctypes.byref(ident), None, keep, None), 0, "pthread_create()")
    ctypes.CDLL(None).pthread_detach(ident)
    return keep


def _starts() -> list[Callable[[Callable[[], None]], object]]:
    starts: list[Callable[[Callable[[], None]], object]]
    starts = [_by_threading, _as_a_daemon, _by_thread]
    if sys.platform == "linux":
        starts.append(_by_a_c_library)
    return starts


@case("wait", ways=(BLOCKING,))
async def any_thread_that_will_answer_ends_it(scene: Scene) -> None:
    backend = scene.backend
    for start in _starts():
        done: CondVar[str] = CondVar()
        go, gone = _thread.allocate_lock(), _thread.allocate_lock()
        go.acquire()
        gone.acquire()

        def work(
            go: Any = go, gone: Any = gone, done: CondVar[str] = done, name: str = start.__name__
        ) -> None:
            go.acquire(timeout=0.05)  # never released: the thread works for a while
            backend.call_threadsafe(lambda: done.send(name))
            gone.release()

        thread = start(work)
        expect_equal(done.recv(), start.__name__)
        gone.acquire()
        _forget(thread)


@case("wait", ways=(BLOCKING,))
async def a_thread_that_ends_without_a_word_leaves_a_deadlock(scene: Scene) -> None:
    _needs_deadlock(scene)
    for start in _starts():
        go, gone = _thread.allocate_lock(), _thread.allocate_lock()
        go.acquire()
        gone.acquire()

        def work(go: Any = go, gone: Any = gone) -> None:
            go.acquire(timeout=0.05)
            gone.release()

        thread = start(work)
        with expect_raises(Deadlock):
            CondVar[None]().recv()
        gone.acquire()
        _forget(thread)


def _forget(thread: object) -> None:
    """Wait for the end of *thread*, where it can be waited for."""
    if isinstance(thread, threading.Thread):
        thread.join()


@case("wait", "main thread", "posix", ways=(BLOCKING,))
async def a_signal_handler_of_the_program_may_end_it(scene: Scene) -> None:
    for of_sigint in (signal.default_int_handler, lambda *_: None, signal.SIG_IGN):
        done: CondVar[str] = CondVar()

        def answer(number: int, frame: object, done: CondVar[str] = done) -> None:
            done.send("by the handler")

        before_sigint = signal.signal(signal.SIGINT, of_sigint)
        before = signal.signal(signal.SIGUSR1, answer)
        # another process: a thread would count as one that may answer
        sender = Popen(["sh", "-c", f"sleep 0.05; kill -USR1 {os.getpid()}"])
        try:
            expect_equal(done.recv(), "by the handler")
        finally:
            sender.wait()
            signal.signal(signal.SIGUSR1, before)
            signal.signal(signal.SIGINT, before_sigint)
