"""What callbacks raise: to the hook once, with the watcher named, and nobody is disturbed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import ae_core as ae
from ae_core.testing import Trace, binding

Seen = list[tuple[BaseException, ae.Watcher | None]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    errors: Seen = []
    monkeypatch.setattr(ae, "exception_hook", lambda *error: errors.append(error))
    return errors


class Things(NamedTuple):
    """What watchers are made for."""

    readable: socket.socket
    exits: Callable[[int], int]


@pytest.fixture
def things(exits: Callable[[int], int]) -> Iterator[Things]:
    left, right = socket.socketpair()
    with left, right:
        left.send(b"x")
        yield Things(right, exits)


def watched_signal(callback: Any) -> ae.Watcher:
    watcher = ae.signal("TERM", callback)
    signal.raise_signal(signal.SIGTERM)
    return watcher


KINDS: dict[str, Callable[[Any, Any], Any]] = {
    "io": lambda things, callback: ae.io(things.readable, "r", callback),
    "timer": lambda things, callback: ae.timer(0, callback),
    "interval": lambda things, callback: ae.timer(0, callback, interval=60),
    "signal": lambda things, callback: watched_signal(callback),
    "child": lambda things, callback: ae.child(things.exits(0), callback),
    "idle": lambda things, callback: ae.idle(callback),
    "postpone": lambda things, callback: ae.postpone(callback),  # type: ignore[func-returns-value]
    "threadsafe": lambda things, callback: unheard(ae.call_threadsafe(callback)),  # type: ignore[func-returns-value]
    "condvar": lambda things, callback: ae.postpone(ae.CondVar(callback).send),  # type: ignore[func-returns-value]
    "on_ready": lambda things, callback: ae.postpone(late(callback)),  # type: ignore[func-returns-value]
}


def unheard(future: Any) -> None:
    """Drop *future*: nobody asks it for the error, which goes to the hook then."""


def late(callback: Any) -> Callable[[], None]:
    def call() -> None:
        cv = ae.CondVar[None]()
        cv.send()
        cv.on_ready(callback)

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_reported_once_with_its_watcher(kind: str, seen: Seen, things: Things) -> None:
    # CORE-05, B16
    holder: list[Any] = []
    error = ValueError("of a test")
    calls = 0

    def fails(*args: object) -> None:
        nonlocal calls
        calls += 1
        if kind in ("io", "idle"):
            things.readable.recv(1) if kind == "io" else None
            holder[0].cancel()
        raise error

    holder.append(KINDS[kind](things, fails))
    done = ae.CondVar[None]()
    with ae.timer(0.1 if kind == "child" else 0.01, done):
        while not seen:
            with ae.timer(0.01, lambda: None):
                ae.sleep(0.001).recv()
        done.recv()
    assert calls == 1
    assert [reported for reported, _ in seen] == [error]
    assert seen[0][1] == holder[0]  # None for postpone, call_threadsafe and condvars
    if holder[0] is not None:
        assert seen[0][1] is not holder[0]  # a view: keeping it keeps nothing alive
        assert "fails" in repr(seen[0][1])
        assert seen[0][1].callback is fails
    holder.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_recv_once_from_every_kind(
    kind: str,
    leave: type[BaseException],
    seen: Seen,
    things: Things,
) -> None:
    holder: list[Any] = []

    def leaves(*args: object) -> None:
        if kind in ("io", "idle"):
            holder[0].cancel()
        raise leave("of a test")

    holder.append(KINDS[kind](things, leaves))
    never = ae.CondVar[None]()
    with pytest.raises(leave, match="of a test"):
        never.recv(30)
    ae.sleep(0.001).recv()  # the loop is as good as new
    assert seen == []
    assert not never.ready
    holder.clear()


def test_dropping_the_view_of_a_watcher_does_not_cancel_it(trace: Trace, seen: Seen) -> None:
    def fails() -> None:
        trace("called")
        raise ValueError

    with ae.timer(0, fails, interval=0.001):
        trace.run_until(2)
        seen.clear()
        trace.run_until(4)


def test_cancelling_by_the_view_works(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(error: BaseException, watcher: ae.Watcher | None) -> None:
        assert watcher is not None
        watcher.cancel()

    def fails() -> None:
        trace("called")
        raise ValueError

    monkeypatch.setattr(ae, "exception_hook", hook)
    with ae.timer(0, fails, interval=0.0001) as timer:
        ae.sleep(0.005).recv()
        assert not timer.active
    assert trace == ["called"]


def test_the_hook_is_looked_up_at_each_call(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ValueError

    def first(error: BaseException, watcher: object) -> None:
        trace("first")
        ae.exception_hook = second

    def second(error: BaseException, watcher: object) -> None:
        trace("second")

    monkeypatch.setattr(ae, "exception_hook", first)
    ae.postpone(fails)
    ae.postpone(fails)
    trace.run_until(2)
    assert trace == ["first", "second"]


def test_a_hook_that_raises_is_logged_with_both_errors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trace: Trace
) -> None:
    def fails() -> None:
        raise ValueError("the first")

    def hook(error: BaseException, watcher: object) -> None:
        raise KeyError("the second")

    monkeypatch.setattr(ae, "exception_hook", hook)
    ae.postpone(fails)
    ae.postpone(trace.recorder("next"))
    with caplog.at_level(logging.ERROR):
        trace.run_until(1)
    assert "the second" in caplog.text
    assert "the first" in caplog.text


def test_the_default_logs_the_traceback_and_names_the_watcher(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails() -> None:
        raise ValueError("of a test")

    with caplog.at_level(logging.ERROR), ae.timer(0, fails):
        ae.sleep(0.001).recv()
    assert "of a test" in caplog.text
    assert "Traceback" in caplog.text
    assert "timer" in caplog.text
    assert "fails" in caplog.text
    assert {record.levelno for record in caplog.records} == {40}


def test_a_hook_may_leave_by_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ValueError("of a test")

    def hook(error: BaseException, watcher: object) -> None:
        raise SystemExit(4)

    monkeypatch.setattr(ae, "exception_hook", hook)
    ae.postpone(fails)
    with pytest.raises(SystemExit):
        ae.sleep(10).recv()
    monkeypatch.undo()
    cancel_all_sleeps()


def cancel_all_sleeps() -> None:
    from ae_core.testing import release

    release()  # the sleep that was interrupted goes on otherwise


def test_cancelled_error_in_a_callback_is_an_error_like_any_other(seen: Seen) -> None:
    def fails() -> None:
        raise ae.CancelledError("of a test")

    ae.postpone(fails)
    ae.sleep(0).recv()
    assert [repr(error) for error, _ in seen] == ["CancelledError('of a test')"]


def test_errors_in_a_thread_go_to_the_hook_in_that_thread(seen: Seen) -> None:
    threads = []

    def fails() -> None:
        threads.append(threading.current_thread())
        raise ValueError("of a test")

    def work() -> None:
        ae.postpone(fails)
        ae.sleep(0).recv()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert threads == [thread]
    assert len(seen) == 1


def test_errors_of_a_thread_without_a_loop_reach_the_hook_or_the_caller(seen: Seen) -> None:
    bound: list[str | None] = []

    def work() -> None:
        def fails(condvar: ae.CondVar[type[BaseException]]) -> None:
            raise condvar.recv()

        ae.CondVar(fails).send(ValueError)
        with pytest.raises(KeyboardInterrupt):
            ae.CondVar(fails).send(KeyboardInterrupt)
        bound.append(ae.backend())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert bound == [None]
    assert [type(error) for error, _ in seen] == [ValueError]


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["io", "timer", "interval", "postpone", "threadsafe", "condvar"])
def test_an_interrupt_while_nobody_blocks_leaves_the_turn_and_the_others_come_later(
    kind: str, leave: type[BaseException], things: Things, trace: Trace
) -> None:
    watchers: list[Any] = []

    def first(*args: object) -> None:
        trace("first")
        watchers.clear()
        raise leave

    with socket.socket() as broken, binding("loop") as loop:
        assert loop is not None
        loop.poll(block=False)  # the loop's own wake-up comes first
        watchers.append(KINDS[kind](things, first))
        if kind == "io":
            things = Things(broken, things.exits)  # not connected: ready in both directions
        second = KINDS[kind](things, lambda *args: trace("second"))
        with pytest.raises(leave):
            for _ in range(3):
                loop.poll(block=True)
        trace.run_until(2, timeout=10)
        del second
    assert trace[:2] == ["first", "second"]


SEVERAL: dict[str, Callable[[Things, list[Callable[..., None]]], Any]] = {
    "io": lambda things, callbacks: [ae.io(things.readable, "r", each) for each in callbacks],
    "signal": lambda things, callbacks: [watched_signal(each) for each in callbacks],
    "child": lambda things, callbacks: watched_child(things.exits(0), callbacks),
    "all children": lambda things, callbacks: [ae.child(0, each) for each in callbacks],
    "condvar": lambda things, callbacks: ae.postpone(waited_for(callbacks).send),  # type: ignore[func-returns-value]
}


def watched_child(pid: int, callbacks: list[Callable[..., None]]) -> list[ae.Watcher]:
    return [ae.child(pid, each) for each in callbacks]


def waited_for(callbacks: list[Callable[..., None]]) -> ae.CondVar[None]:
    condvar: ae.CondVar[None] = ae.CondVar()
    for each in callbacks:
        condvar.on_ready(each)
    return condvar


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.skipif(os.name == "nt", reason="POSIX only"))
        if kind == "all children"
        else kind
        for kind in SEVERAL
    ],
)
def test_an_interrupt_while_nobody_blocks_leaves_after_the_others_of_one_event(
    kind: str, things: Things, trace: Trace
) -> None:
    def leaves(*args: object) -> None:
        trace("leaves")
        raise KeyboardInterrupt

    def stays(*args: object) -> None:
        trace("stays")

    with binding("loop") as loop:
        assert loop is not None
        times = 1
        if kind == "all children":
            times = 2
            for pid in things.exits(0), things.exits(1):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # both have ended
        held = [SEVERAL[kind](things, [leaves, stays])]
        with pytest.raises(KeyboardInterrupt):
            for _ in range(10):
                loop.poll(block=True)
        assert sorted(trace) == sorted(["leaves", "stays"] * times)
        held.clear()
        ae.sleep(0).recv()  # it left once


@pytest.mark.parametrize("blocking", [True, False])
def test_a_hook_that_ends_the_program_lets_the_others_of_the_event_be_called(
    blocking: bool, things: Things, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(error: BaseException, watcher: ae.Watcher | None) -> None:
        trace(type(error))
        raise SystemExit

    def fails(*args: object) -> None:
        raise ValueError("of a test")

    monkeypatch.setattr(ae, "exception_hook", hook)
    with binding("loop") as loop:
        assert loop is not None
        held = SEVERAL["child"](things, [fails, lambda *args: trace("called")])
        with pytest.raises(SystemExit):
            if blocking:
                ae.CondVar[None]().recv(60)
            while True:
                loop.poll(block=True)
        assert trace == [ValueError, "called"]
        held.clear()
        ae.sleep(0).recv()


def test_the_rest_of_the_turn_runs_after_an_interrupt(trace: Trace) -> None:
    def leaves() -> None:
        trace("leaves")
        raise KeyboardInterrupt

    timers = [ae.timer(0, leaves), ae.timer(0, trace.recorder("second"))]
    with pytest.raises(KeyboardInterrupt):
        ae.CondVar[None]().recv()
    ae.sleep(0).recv()
    assert trace == ["leaves", "second"]
    timers.clear()


# ---------------------------------------------------------------------- for libraries


def test_a_library_reports_what_its_users_callback_raised(seen: Seen) -> None:
    error = ValueError("of a callback")
    assert ae.report_error(error) is None  # type: ignore[func-returns-value]
    assert seen == [(error, None)]
    with pytest.raises(TypeError, match="'text'"):
        ae.report_error("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_that_a_library_reports_leaves_recv_and_not_the_library(
    kind: type[BaseException], trace: Trace, seen: Seen
) -> None:
    def library() -> None:
        ae.report_error(kind())
        trace("the library goes on")

    ae.postpone(library)
    with pytest.raises(kind):
        ae.CondVar[None]().recv(60)
    assert trace == ["the library goes on"]
    assert seen == []
    ae.sleep(0).recv()


def test_a_hook_that_raises_does_not_reach_the_library(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(error: BaseException, watcher: ae.Watcher | None) -> None:
        raise LookupError("of the hook") if isinstance(error, ValueError) else SystemExit

    monkeypatch.setattr(ae, "exception_hook", hook)
    ae.report_error(ValueError("of a callback"))
    assert "exception in exception_hook" in caplog.text
    ae.report_error(OSError("another"))
    with pytest.raises(SystemExit):
        ae.CondVar[None]().recv(60)


def test_the_loop_keeps_what_a_pending_operation_needs() -> None:
    class Owner:
        pass

    owner = Owner()
    gone = weakref.ref(owner)
    mark = weakref.ref(ae.pending(owner))
    del owner
    assert gone() is not None
    operation = mark()
    assert operation is not None
    operation.cancel()
    operation.cancel()
    assert gone() is None


def test_an_error_that_is_reported_while_the_interpreter_goes_down_raises_none(
    script: Callable[..., str],
) -> None:
    program = """
        import builtins
        import ae_core

        class Late:
            report = staticmethod(ae_core.report_error)

            def __del__(self):
                self.report(ValueError("late"))

        builtins.kept = Late()
    """
    assert script(program) == ""
