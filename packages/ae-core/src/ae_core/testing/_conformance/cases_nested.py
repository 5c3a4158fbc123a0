"""Demands on a loop inside a callback: a modal dialog, say.

What one event owes to many callbacks is served by the inner loop if the first of them runs one;
nothing is called twice, nothing is lost, and the inner loop does whatever the outer one does.
"""

from __future__ import annotations

__all__ = ()

import os
import tempfile
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ... import _api as ae
from ..._async import tasks as _tasks
from ..._async.condvar import CondVar
from ..._detection.current import current_loop
from .._virtual import VirtualBackend
from .cases_process import _ONE, _child, _kill
from .scene import CaseSkipped, Scene, case, expect, expect_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Callback = Callable[[], None]


class _Inner:
    """Runs loops inside callbacks."""

    def __init__(self, scene: Scene) -> None:
        if not scene.backend.nests:
            raise CaseSkipped(f"{scene.backend.name} is not run inside a callback")
        core = current_loop()
        self.virtual = isinstance(scene.backend, VirtualBackend)
        # As other code would run it, if that is possible: the core is not told of it.
        self.poll = core.raw_poll if core.nests else scene.backend.poll
        self.patience = scene.patience

    def run(self, ended: Callable[[], bool]) -> None:
        """Run the loop until *ended*, or for so long that it must be a hang."""
        end = time.monotonic() + self.patience
        while not ended() and time.monotonic() < end:
            self.poll(self.virtual)


# Each entry has a name, and a function that makes one event or one turn owe a call to each of
# *callbacks*, in this order. What it returns is held.


def _timers(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    return [ae.timer(-1.0 + n * 1e-3, each) for n, each in enumerate(callbacks)]


def _timers_in_turn(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    return [ae.timer(0.002 * n, each) for n, each in enumerate(callbacks)]


def _repeating_timers(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    return [_Once(each, lambda call: ae.timer(0.001, call, interval=60)) for each in callbacks]


def _postponed(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    for each in callbacks:
        ae.postpone(each)


def _postponed_inside(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    def first() -> None:
        for each in callbacks[1:]:
            ae.postpone(each)
        callbacks[0]()

    ae.postpone(first)


def _coroutines(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    async def step(each: Callback) -> None:
        each()

    return [_tasks.spawn(step(each)) for each in callbacks]


def _coroutines_that_slept(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    async def step(n: int, each: Callback) -> None:
        await _tasks.sleep(n * 1e-4)
        each()

    return [_tasks.spawn(step(n, each)) for n, each in enumerate(callbacks)]


def _coroutines_that_wait_for_one_thing(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    ready: CondVar[None] = CondVar()

    async def step(each: Callback) -> None:
        await ready
        each()

    tasks = [_tasks.spawn(step(each)) for each in callbacks]
    return [*tasks, ae.timer(0.002, ready.send)]


def _condvar(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    ready: CondVar[None] = CondVar()
    for each in callbacks:
        ready.on_ready(lambda _, each=each: each())  # type: ignore[misc]
    return ae.timer(0.001, ready.send)


def _threads(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    backend = scene.backend

    def work() -> None:
        for each in callbacks:
            backend.call_threadsafe(each)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _watchers_of_one_descriptor(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    left, right = scene.pair()
    left.send(b"x")

    def first() -> None:
        right.recv(1)
        callbacks[0]()

    return [ae.io(right, "r", each) for each in (first, *callbacks[1:])]


def _descriptors(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    made = []
    for each in callbacks:
        left, right = scene.pair()
        left.send(b"x")

        def readable(right: Any = right, each: Callback = each) -> None:
            right.recv(1)
            each()

        made.append(ae.io(right, "r", readable))
    return made


def _signal(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    made = [ae.signal(_ONE, each) for each in callbacks]
    _kill(_ONE)
    return made


def _child_of_several(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    pid = _child("exit 0")
    return [ae.child(pid, lambda *_, each=each: each()) for each in callbacks]


def _any_child(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    left = list(callbacks)
    for _ in callbacks:
        pid = _child("exit 0")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # all have ended
    return ae.child(0, lambda *_: left.pop(0)() if left else None)


def _idle(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    return [_Once(each, ae.idle) for each in callbacks]


def _regular_file(scene: Scene, callbacks: Sequence[Callback]) -> Any:
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    scene.stack.callback(os.close, fd)
    return [_Once(each, lambda call: ae.io(fd, "r", call)) for each in callbacks]


class _Once:
    """A watcher that is cancelled before its callback is called."""

    def __init__(self, callback: Callback, make: Callable[[Callback], Any]) -> None:
        self.callback = callback
        self.watcher = make(self.call)

    def call(self) -> None:
        self.watcher.cancel()
        self.callback()


_KINDS: dict[str, Callable[[Scene, Sequence[Callback]], Any]] = {
    "timers": _timers,
    "timers in turn": _timers_in_turn,
    "repeating timers": _repeating_timers,
    "postponed calls": _postponed,
    "calls postponed by the first": _postponed_inside,
    "coroutines": _coroutines,
    "coroutines that slept": _coroutines_that_slept,
    "coroutines that wait for one thing": _coroutines_that_wait_for_one_thing,
    "callbacks of a condition variable": _condvar,
    "calls from a thread": _threads,
    "watchers of one descriptor": _watchers_of_one_descriptor,
    "descriptors": _descriptors,
    "idle": _idle,
}
if os.name == "posix":
    _KINDS["watchers of one child"] = _child_of_several
    _KINDS["watchers of a regular file"] = _regular_file
if hasattr(os, "waitid"):
    _KINDS["any child"] = _any_child
_IN_MAIN_THREAD = {"watchers of one signal": _signal}

# In which order these come is not promised.
_UNORDERED = {"descriptors", "idle", "any child"}

# An event here is reported to all watchers of the kind.
_FOR_ALL = {"any child", "watchers of one signal"}


def _here() -> dict[str, Callable[[Scene, Sequence[Callback]], Any]]:
    if threading.current_thread() is not threading.main_thread():
        return {kind: make for kind, make in _KINDS.items() if kind != "any child"}
    return {**_KINDS, **_IN_MAIN_THREAD}


@case("nested", "lax")
async def what_one_event_owes_is_done_by_a_loop_inside_its_first_callback(scene: Scene) -> None:
    inner = _Inner(scene)
    for kind, make in _here().items():
        trace = scene.trace
        trace.clear()
        ended: CondVar[None] = CondVar()

        def first(trace: Any = trace, ended: CondVar[None] = ended) -> None:
            trace("first begins")
            inner.run(lambda: "third" in trace)
            trace("first ends")
            ended.send()

        def second(trace: Any = trace) -> None:
            trace("second begins")
            inner.run(lambda: "third" in trace)
            trace("second ends")

        held = make(scene, [first, second, trace.recorder("third")])
        await scene.wait(ended)
        await scene.pause(0.003)
        wanted = ["first begins", "second begins", "third", "second ends", "first ends"]
        if kind in _UNORDERED:
            expect_equal(sorted(trace), sorted(wanted), kind)
        else:
            expect_equal(trace, wanted, kind)
        del held


@case("nested", "lax")
async def a_loop_inside_any_callback_does_whatever_a_loop_does(scene: Scene) -> None:
    inner = _Inner(scene)
    for outer, open_by in _here().items():
        ended: CondVar[None] = CondVar()
        made: dict[str, list[int]] = {}

        def opener(
            outer: str = outer, ended: CondVar[None] = ended, made: dict[str, list[int]] = made
        ) -> None:
            for kind, make in _here().items():
                if kind == outer and kind in _FOR_ALL:
                    continue  # the outer watcher would be called, too
                called: list[int] = []
                calls = [partial(called.append, n) for n in range(3)]
                held = make(scene, calls)
                inner.run(lambda called=called: len(called) >= 3)  # type: ignore[misc]
                del held
                made[kind] = sorted(called)
            ended.send()

        held = open_by(scene, [opener])
        await scene.wait(ended)
        wanted = {kind: [0, 1, 2] for kind in made}
        expect_equal(made, wanted, f"calls by a loop inside a callback of {outer}")
        del held


@case("nested")
async def a_loop_inside_a_callback_may_be_left_by_an_exception(scene: Scene) -> None:
    inner = _Inner(scene)
    trace = scene.trace

    def first() -> None:
        inner.run(lambda: "second" in trace)
        trace("first")
        raise ValueError("of a test")

    held = [ae.timer(0, first), ae.timer(0, trace.recorder("second"))]
    ae.postpone(trace.recorder("third"))
    await scene.wait_until(3)
    expect_equal(sorted(trace), ["first", "second", "third"])
    expect_equal(scene.take_errors(), ["ValueError: of a test"])
    await scene.pause(0.001)
    held.clear()


@case("nested")
async def a_watcher_cancelled_by_a_loop_inside_is_not_called_afterwards(scene: Scene) -> None:
    inner = _Inner(scene)
    trace = scene.trace
    held: list[Any] = []

    def first() -> None:
        trace("first")
        inner.run(lambda: "second" in trace)
        held.clear()

    held += [ae.timer(-1, first), ae.timer(-0.9, trace.recorder("second"))]
    held += [ae.timer(0.005, trace.recorder("third"))]
    await scene.wait_until(2)
    await scene.pause(0.01)
    expect(trace[:2] == ["first", "second"], f"in this order: {list(trace)!r}")


@case("nested")
async def a_coroutine_that_runs_a_loop_lets_the_others_take_their_steps(scene: Scene) -> None:
    inner = _Inner(scene)
    trace = scene.trace

    async def other() -> None:
        for n in range(3):
            await _tasks.sleep(0.001)
            trace(n)

    async def outer() -> None:
        task = _tasks.spawn(other())
        inner.run(lambda: task.ready)
        await _tasks.sleep(0.001)
        trace("outer")

    await scene.wait(_tasks.spawn(outer()))
    expect_equal(trace, [0, 1, 2, "outer"])
