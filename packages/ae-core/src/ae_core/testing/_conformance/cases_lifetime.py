"""Demands on what is process-wide: it is given back, and a fork takes nothing along."""

from __future__ import annotations

__all__ = ()

import gc
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from ... import _api as ae
from ..._async import tasks
from ..._async.condvar import CondVar
from ..._base.errors import CancelledError
from .scene import BLOCKING, Scene, case, expect, expect_equal

if TYPE_CHECKING:
    from typing import Any


def _wakeup_fd() -> int:
    """Return the signal wake-up descriptor in force."""
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


@case("lifetime", "main thread", "posix")
async def the_last_watcher_of_a_signal_gives_its_handler_back(scene: Scene) -> None:
    names = ("USR1", "TERM", "INT")
    before = [signal.getsignal(signal.Signals[f"SIG{name}"]) for name in names]
    fd = _wakeup_fd()
    for _ in range(2):
        watchers = [ae.signal(name, lambda: None) for name in (*names, *names)]
        await scene.wait(tasks.sleep(0))
        for watcher in watchers:
            watcher.cancel()
        after = [signal.getsignal(signal.Signals[f"SIG{name}"]) for name in names]
        expect_equal(after, before, "handlers")
        expect_equal(_wakeup_fd(), fd, "the wake-up descriptor")


@case("lifetime", "main thread", "posix", ways=(BLOCKING,))
async def a_signal_watcher_that_outlives_its_wait_restores_what_was_before_the_wait(
    scene: Scene,
) -> None:
    before, fd = signal.getsignal(signal.SIGINT), _wakeup_fd()
    kept: list[Any] = []
    done: CondVar[None] = CondVar()

    def watch() -> None:
        kept.append(ae.signal("INT", lambda: None))
        done.send(None)

    ae.postpone(watch)
    done.recv(timeout=10)
    kept.clear()
    expect_equal(signal.getsignal(signal.SIGINT), before, "the handler")
    expect_equal(_wakeup_fd(), fd, "the wake-up descriptor")


def _in_the_child(called: list[str]) -> int:
    """Return 0 if nothing of the parent's is called in a loop of the child's own."""
    done: CondVar[None] = CondVar()
    ours = ae.timer(0.02, lambda: done.send(None))
    done.recv(timeout=10)
    del ours
    gc.collect()
    return len(called)


@case("lifetime", "main thread", "posix", ways=(BLOCKING,))
async def a_forked_child_calls_nothing_of_its_parents(scene: Scene) -> None:
    called: list[str] = []  # of the child's own: nothing runs in the parent before it forks
    note = called.append

    async def session() -> None:
        try:
            await CondVar()
        finally:
            note("finally")

    left, right = scene.pair()
    left.send(b"x")
    task = tasks.spawn(session())
    watchers = [
        ae.timer(0.001, lambda: note("timer"), interval=0.001),
        ae.io(right, "r", lambda: note("io")),
        ae.signal("USR1", lambda: note("signal")),
        ae.idle(lambda: note("idle")),
    ]
    ae.postpone(lambda: note("postponed"))
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = _in_the_child(called)
        finally:
            os._exit(status)
    ended: CondVar[int] = CondVar()
    with ae.child(pid, lambda _, status: ended.send(status)):
        expect_equal(ended.recv(timeout=30), 0, "calls in the child, times 256")
    expect(all(watcher.active for watcher in watchers), "the parent's watchers live on")
    watchers.clear()
    task.cancel()
    with suppress(CancelledError):
        task.recv(timeout=10)
