"""Demands on what comes from outside the process: signals and the end of children."""

from __future__ import annotations

__all__ = ()

import os
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING

from ... import _api as ae
from ..._async.condvar import CondVar
from ..._operations import pending
from .scene import BLOCKING, Scene, case, expect, expect_equal, expect_raises, send_once

if TYPE_CHECKING:
    from ..._loop.watchers import Watcher


def _child(script: str, stdin: int = 0) -> int:
    """Start a shell and return its process id."""
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0)] if stdin else []
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ, file_actions=actions)


# Two signals that have no other use here. Windows has none for users.
_ONE, _TWO = ("USR1", "USR2") if hasattr(signal, "SIGUSR1") else ("TERM", "BREAK")
_SIGONE = signal.Signals[f"SIG{_ONE}"]


def _kill(name: str) -> None:
    # on Windows os.kill() ends a process
    kill = partial(os.kill, os.getpid()) if os.name == "posix" else signal.raise_signal
    kill(signal.Signals[f"SIG{name}"])


@case("signal", "main thread")
async def it_is_called_by_the_loop(scene: Scene) -> None:
    # A02.1, A02.2
    before = signal.getsignal(_SIGONE)
    for which in (_ONE, _SIGONE, int(_SIGONE)):
        scene.trace.clear()
        watcher = ae.signal(which, scene.trace.recorder("signal"))
        _kill(_ONE)
        scene.trace("sent")
        await scene.wait_until(2)
        expect_equal(scene.trace, ["sent", "signal"], f"for {which!r}")
        del watcher
    expect(signal.getsignal(_SIGONE) == before, "the handler is restored")


@case("signal", "main thread", "posix")
async def one_that_arrives_during_the_wait_ends_it(scene: Scene) -> None:
    _, right = scene.pair()
    done: CondVar[None] = CondVar()
    ended: CondVar[None] = CondVar()
    with ae.io(right, "r", lambda: None), ae.signal("USR1", lambda: send_once(done)):
        child = _child(f"kill -USR1 {os.getpid()}")
        with ae.child(child, lambda pid, status: ended.send()):
            await scene.wait(done)
            await scene.wait(ended)


@case("signal", "main thread")
async def several_arrivals_are_one_call_of_every_watcher(scene: Scene) -> None:
    # B17, A09.5
    one = ae.signal(_ONE, scene.trace.recorder(1))
    two = ae.signal(_ONE, scene.trace.recorder(2))
    await scene.pause(0.005)
    expect_equal(scene.trace, [], "before it was sent")
    for _ in range(5):
        _kill(_ONE)
    await scene.wait_until(2)
    await scene.pause(0.005)
    expect_equal(sorted(scene.trace), [1, 2])
    one.cancel()
    _kill(_ONE)
    await scene.wait_until(3)
    await scene.pause(0.005)
    expect_equal(scene.trace[2:], [2], "after the first has ended")
    two.cancel()


@case("signal", "main thread")
async def different_ones_are_told_apart(scene: Scene) -> None:
    with ae.signal(_ONE, scene.trace.recorder(_ONE)):
        with ae.signal(_TWO, scene.trace.recorder(_TWO)):
            _kill(_TWO)
            await scene.wait_until(1)
            _kill(_ONE)
            await scene.wait_until(2)
    expect_equal(scene.trace, [_TWO, _ONE])


@case("signal", "main thread")
async def a_watched_interrupt_is_an_event(scene: Scene) -> None:
    # A02.1: INT
    with ae.signal("INT", scene.trace.recorder("signal")):
        _kill("INT")
        await scene.wait_until(1)
    expect_equal(scene.trace, ["signal"])


@case("signal", "main thread", ways=(BLOCKING,))
async def an_interrupt_leaves_the_wait_once(scene: Scene) -> None:
    condvar: CondVar[None] = CondVar()
    for _ in range(2):
        with ae.timer(0.001, lambda: _kill("INT")):
            with expect_raises(KeyboardInterrupt):
                condvar.recv(scene.limit)
        await scene.pause(0.002)
    expect(not condvar.ready, "the condition variable is as it was")


@case("signal", "main thread", "posix", ways=(BLOCKING,))
async def an_interrupt_from_outside_leaves_the_wait(scene: Scene) -> None:
    reader, writer = os.pipe()
    try:
        # told to by a timer: then this thread is certain to wait in the loop
        child = _child(f"read line; kill -INT {os.getpid()}", stdin=reader)
        operation = pending()
        with ae.timer(0.001, lambda: os.write(writer, b"now\n")):
            with expect_raises(KeyboardInterrupt):
                CondVar[None]().recv(scene.limit)
        operation.cancel()
        os.waitpid(child, 0)
    finally:
        os.close(reader)
        os.close(writer)


@case("signal", "main thread")
async def a_wake_up_descriptor_set_before_is_served_and_restored(scene: Scene) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        with ae.signal(_ONE, scene.trace.recorder("signal")):
            _kill(_ONE)
            await scene.wait_until(1)
        expect_equal(ours.recv(10), bytes([_SIGONE]), "what was forwarded")
    finally:
        now = signal.set_wakeup_fd(before)
        expect_equal(now, theirs.fileno(), "the descriptor in force at the end")
        ours.close()
        theirs.close()


@case("signal", "main thread")
async def an_error_in_its_callback_is_reported(scene: Scene) -> None:
    def fails() -> None:
        raise ValueError("of a test")

    first = ae.signal(_ONE, fails)
    second = ae.signal(_ONE, scene.trace.recorder("second"))
    _kill(_ONE)
    await scene.wait_until(1)
    expect_equal([who for _, who in scene.errors], [first], "the watchers named")
    expect_equal(scene.take_errors(), ["ValueError: of a test"])
    first.cancel()
    second.cancel()


@case("signal", "main thread")
async def one_watcher_may_end_another_of_the_same_signal(scene: Scene) -> None:
    watchers: list[Watcher] = []

    def first() -> None:
        scene.trace("signal")
        watchers.clear()

    watchers += [ae.signal(_ONE, first), ae.signal(_ONE, first)]
    _kill(_ONE)
    await scene.wait_until(1)
    await scene.pause(0.002)
    expect_equal(scene.trace, ["signal"])


@case("child", "posix")
async def its_end_is_reported_with_its_status(scene: Scene) -> None:
    # A03.1, CORE-45
    for script, status in (("exit 3", 3 << 8), ("exit 0", 0), ("kill -9 $$", 9)):
        pid = _child(script)
        scene.trace.clear()
        with ae.child(pid, scene.trace):
            scene.trace("made")
            await scene.wait_until(2)
        expect_equal(scene.trace, ["made", (pid, status)], f"for {script!r}")


@case("child", "posix")
async def one_that_has_ended_already_is_reported(scene: Scene) -> None:
    # B18, CORE-46
    pid = _child("exit 3")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with ae.child(pid, scene.trace):
        scene.trace("made")
        await scene.wait_until(2)
    expect_equal(scene.trace, ["made", (pid, 3 << 8)])
    with expect_raises(ChildProcessError):
        ae.child(pid, scene.trace)


@case("child", "posix")
async def any_number_of_watchers_share_one_child(scene: Scene) -> None:
    pid = _child("exit 4")
    watchers = [ae.child(pid, lambda p, s, n=n: scene.trace((n, p, s))) for n in range(3)]  # type: ignore[misc]
    watchers[1].cancel()
    await scene.wait_until(2)
    expect_equal(scene.trace, [(0, pid, 4 << 8), (2, pid, 4 << 8)])
    expect(not any(watcher.active for watcher in watchers), "none is active any more")


@case("child", "posix")
async def children_of_others_are_left_to_them(scene: Scene) -> None:
    foreign = _child("exit 5")
    ours = _child("exit 6")
    with ae.child(ours, scene.trace):
        await scene.wait_until(1)
    expect_equal(scene.trace, [(ours, 6 << 8)])
    expect_equal(os.waitpid(foreign, 0), (foreign, 5 << 8), "what its owner gets")


@case("child", "posix")
async def twenty_end_at_once(scene: Scene) -> None:
    pids = [_child(f"exit {number}") for number in range(20)]
    watchers = [ae.child(pid, scene.trace) for pid in pids]
    await scene.wait_until(20)
    expect_equal(sorted(scene.trace), sorted((pid, n << 8) for n, pid in enumerate(pids)))
    watchers.clear()


@case("child", "posix")
async def a_cancelled_watcher_leaves_it_to_be_waited_for(scene: Scene) -> None:
    pid = _child("exit 7")
    watcher = ae.child(pid, scene.trace)
    watcher.cancel()
    expect_equal(os.waitpid(pid, 0), (pid, 7 << 8))
    await scene.turns(2)
    expect_equal(scene.trace, [])


@case("child", "posix", "main thread")
async def any_child_is_reported_to_a_watcher_for_all(scene: Scene) -> None:
    # CORE-47
    before = _child("exit 1")
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    with ae.child(0, lambda pid, status: scene.trace((0, pid, status))):
        await scene.wait_until(1)
        after = _child("exit 2")
        with ae.child(after, scene.trace):
            await scene.wait_until(3)
    expect_equal(scene.trace[0], (0, before, 1 << 8))
    expect_equal({(0, after, 2 << 8), (after, 2 << 8)}, set(scene.trace[1:]))


@case("child", "posix")
async def an_error_in_the_callback_is_reported(scene: Scene) -> None:
    def fails(pid: int, status: int) -> None:
        scene.trace("ended")
        raise ValueError("of a test")

    pid = _child("exit 0")
    with ae.child(pid, fails) as watcher:
        await scene.wait_until(1)
        await scene.turns(1)
        expect_equal([who for _, who in scene.errors], [watcher], "the watchers named")
    expect_equal(scene.take_errors(), ["ValueError: of a test"])
