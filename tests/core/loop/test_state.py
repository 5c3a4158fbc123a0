"""The state of a loop at its end, and where something breaks off or ends inside a turn."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core import logs
from ae_core._backends._loop import LoopBackend
from ae_core._base import log as front
from ae_core._detection import current
from ae_core._detection.current import current_loop
from ae_core._loop.timers import TimerQueue
from ae_core._loop.watchers import TimerWatcher
from ae_core.abc import at_loop_end
from ae_core.testing import Trace, binding


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


class Once(LoopBackend):
    """Is closed once, and asked for nothing then."""

    closes = 0

    def arm(self, at: float | None) -> None:
        assert not self.closes
        super().arm(at)

    def close(self) -> None:
        self.closes += 1
        super().close()


def test_a_timer_that_ends_its_loop_is_the_last_one_that_is_called(trace: Trace) -> None:
    with binding(Once) as backend:
        assert backend is not None
        core = current_loop()
        kept = [ae.timer(0, core.close), ae.timer(0, trace.recorder("second"))]
        backend.poll(False)
        assert trace == []
        assert not any(timer.active for timer in kept)


def test_timers_go_on_when_a_turn_inside_one_of_them_was_broken_off(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    """A signal handler raises where the inner turn has taken what is due."""
    again = TimerQueue.again

    def strike(*_: Any) -> None:
        monkeypatch.setattr(TimerQueue, "again", again)
        raise LookupError("out of a signal handler")

    def turn() -> None:
        monkeypatch.setattr(TimerQueue, "again", strike)
        core.poll(False)

    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))
    with binding("loop"):
        core = current_loop()
        kept = [ae.timer(0, turn), ae.timer(0, trace.recorder("tick"), interval=60)]
        kept.append(ae.timer(0, trace.recorder("once")))
        for _ in range(9):
            core.raw_poll(False)  # as a program's loop does, which knows nothing of us
        assert [type(error) for error in errors] == [LookupError]
        assert sorted(trace) == ["once", "tick"]
        del kept


def test_a_loop_ends_once_also_where_its_end_is_heard_of(trace: Trace) -> None:
    with binding(Once) as backend:
        core = current_loop()
        kept = at_loop_end(lambda: (trace("heard"), core.close()))
        core.close()
        core.close()
        assert trace == ["heard"]
        assert isinstance(backend, Once)
        assert backend.closes == 1
        assert not kept.active


def test_an_interrupt_out_of_an_operation_leaves_when_all_have_ended(trace: Trace) -> None:
    async def task(name: str) -> None:
        try:
            await ae.CondVar[None]()
        finally:
            trace(name)
            raise KeyboardInterrupt

    with binding("loop"):
        core = current_loop()
        tasks = [ae.spawn(task(name)) for name in ("one", "two")]
        ae.sleep(0.001).recv()
        with pytest.raises(KeyboardInterrupt):
            core.close()
        assert sorted(trace) == ["one", "two"]
        assert core.closed
        assert not core.backend.usable()
        del tasks


def test_the_end_is_heard_of_in_the_loops_own_thread_only(trace: Trace) -> None:
    with binding("loop"):
        core = current_loop()
        kept = at_loop_end(trace.recorder("heard"))
        in_thread(core.call_ends)
        assert trace == []
        core.call_ends()
        assert trace == ["heard"]
        del kept


@pytest.mark.parametrize("kind", ["io", "timer"])
def test_one_that_is_collected_elsewhere_when_its_loop_takes_no_calls_ends_in_silence(
    kind: str, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has been closed behind the back of its binding."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    loop = asyncio.new_event_loop()
    with binding("asyncio", loop=loop):
        make: dict[str, Callable[[], ae.Watcher]] = {
            "io": lambda: ae.io(pair[1], "r", print),
            "timer": lambda: ae.timer(60, print),
        }
        kept = [make[kind]()]
        type(loop).close(loop)
        in_thread(kept.clear)
        gc.collect()
        assert unraisable == []


@pytest.mark.parametrize("kind", ["io", "timer"])
def test_one_that_is_collected_elsewhere_while_its_loop_ends_is_the_loops_matter(
    kind: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    with binding("loop"):
        core = current_loop()
        kept = [ae.io(pair[1], "r", print) if kind == "io" else ae.timer(60, print)]
        core.closed = True  # and its watchers not yet
        in_thread(kept.clear)
        core.closed = False
        core.poll(False)
        assert len(core.io.records()) + len(core.timers.live) == 1


def test_a_wait_that_is_broken_off_before_it_counts_leaves_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strike(condvar: object) -> None:
        monkeypatch.undo()
        raise LookupError("out of a signal handler")

    condvar = ae.sleep(0.001)
    monkeypatch.setattr(ae.CondVar, "_enter", strike)
    with pytest.raises(LookupError):
        condvar.recv(30)
    assert not condvar.cancelled
    condvar.recv(30)


def test_a_hook_of_ours_that_cannot_log_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, fresh_logs: None
) -> None:
    said: list[str] = []
    logs.ctx("ae_core").log_callback(lambda text: said.append(text) or True)
    log = front.log

    def fails(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(front, "log", log)
        raise LookupError("no room")

    def bad() -> None:
        raise ValueError("of the program")

    monkeypatch.setattr(front, "log", fails)
    ae.postpone(bad)
    ae.sleep(0.001).recv()
    assert len(said) == 1
    assert "no room" in said[0]


def test_a_loop_that_another_thread_has_left_behind_is_not_ours_to_close() -> None:
    """It is closed when its own thread looks for another."""
    with binding("loop"):
        core = current_loop()
        current._ended.append(core)
        closed: list[bool] = []
        in_thread(lambda: (ae.detect(), closed.append(core.closed)))
        current._ended.remove(core)
    assert closed == [False]


def test_a_timer_whose_making_was_broken_off_goes_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    TimerWatcher.__new__(TimerWatcher)
    assert unraisable == []
