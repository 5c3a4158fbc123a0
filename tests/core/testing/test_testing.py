"""``ae_core.testing`` itself: does it find what is wrong, and only that?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import pytest

import ae_core as ae
from ae_core._backends._loop import LoopBackend
from ae_core.testing import (
    ConformanceError,
    LeakError,
    ScriptedDescriptor,
    Trace,
    VirtualBackend,
    binding,
    check_backend,
    leak_check,
    release,
    virtual_time,
)


def nothing() -> None:
    return None


# ---------------------------------------------------------------------- Trace


def test_a_trace_is_the_list_of_what_it_was_called_with() -> None:
    trace = Trace()
    trace("a")
    trace("b", 1)
    trace.recorder("c")()
    trace()
    assert trace == ["a", ("b", 1), "c", ()]
    assert trace.recorder("d")() is None


def test_run_until_runs_the_loop_and_says_what_was_missing(trace: Trace) -> None:
    trace.run_until(1) if trace else None
    with ae.timer(0, trace.recorder("timer")):
        trace.run_until(1)
    with pytest.raises(TimeoutError, match=r"2 events, got \['timer'\]"):
        trace.run_until(2, timeout=0)
    trace("late")
    assert trace == ["timer", "late"]


def test_several_may_wait_for_different_lengths(trace: Trace) -> None:
    one, two = trace.reaches(1), trace.reaches(2)
    trace("a")
    assert (one.ready, two.ready) == (True, False)
    trace("b")
    assert two.ready
    assert trace.reaches(2).ready


@pytest.mark.parametrize(("bad", "kind"), [("1", TypeError), (True, TypeError), (0, ValueError)])
def test_a_bad_length_is_refused(trace: Trace, bad: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="event"):
        trace.reaches(bad)


# ---------------------------------------------------------------------- leaks


def leak_timer() -> object:
    return ae.timer(60, nothing)


def leak_io() -> object:
    pair = socket.socketpair()
    return [*pair, ae.io(pair[0], "r", nothing)]


LEAKS: dict[str, tuple[Callable[[], object], str]] = {
    "a timer": (leak_timer, "timer tests.core"),
    "a descriptor watcher": (leak_io, "io "),
    "a signal watcher": (lambda: ae.signal("TERM", nothing), "signal TERM"),
    "an idle watcher": (lambda: ae.idle(nothing), "idle"),
    "a pending operation": (ae.pending, "operation"),
    "a sleep": (lambda: ae.sleep(60), "timer"),
}
if os.name == "posix":  # elsewhere nobody lists them
    LEAKS["a descriptor"] = (lambda: open(os.devnull), "/dev/null")  # noqa: SIM115


@pytest.mark.parametrize("leak", LEAKS)
def test_what_is_left_behind_is_listed(leak: str) -> None:
    make, text = LEAKS[leak]
    with binding("loop"):
        with pytest.raises(LeakError) as caught, leak_check():
            keep = make()
        assert "left behind" in str(caught.value)
        assert text.replace("tests.core", "") in str(caught.value)
        for each in keep if isinstance(keep, list) else [keep]:
            getattr(each, "close", lambda: None)()
        del keep, each


def test_a_thread_and_a_child_left_behind_are_listed() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="the left one")
    with pytest.raises(LeakError, match="thread the left one"), leak_check():
        thread.start()
    go.set()
    thread.join()
    if not hasattr(os, "waitid"):
        return  # there nobody knows whose child a process is
    with pytest.raises(LeakError, match="child process"), leak_check():
        child = subprocess.Popen(["/bin/sh", "-c", "exec sleep 1000"])
    child.kill()
    child.wait()


@pytest.mark.skipif(os.name != "posix", reason="descriptors are not listed here")
@pytest.mark.parametrize("system", ["proc", "dev", "devices", "none"])
def test_descriptors_are_listed_as_the_system_lists_them(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /proc, in /dev/fd as links or as devices; or nobody knows what is open."""
    real = os.listdir

    def list_directory(path: str) -> list[str]:
        if system == "none" or (system != "proc" and path.startswith("/proc/self/fd")):
            raise FileNotFoundError(path)
        return real(path)

    def no_link(path: str) -> str:
        raise OSError(path)

    monkeypatch.setattr(os, "listdir", list_directory)
    if system == "devices":
        monkeypatch.setattr(os, "readlink", no_link)
    expected = nullcontext() if system == "none" else pytest.raises(LeakError, match="descriptor")
    with expected, leak_check():
        fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="nobody knows whose child a process is")
def test_children_are_not_listed_where_nobody_knows_them(
    monkeypatch: pytest.MonkeyPatch, exits: Callable[[int], int]
) -> None:
    with leak_check(), monkeypatch.context() as patch:
        patch.delattr(os, "waitid")
        with leak_check():
            pid = exits(0)
        os.waitpid(pid, 0)


def test_a_thread_of_ours_that_ends_by_itself_is_waited_for() -> None:
    class Resting(threading.Thread):
        """Rests until somebody waits for it."""

        awake = threading.Event()

        def run(self) -> None:
            self.awake.wait()

        def join(self, timeout: float | None = None) -> None:
            self.awake.set()
            super().join(timeout)

    with leak_check():
        Resting(name="ae-core-9", daemon=True).start()


def test_what_was_there_before_is_not_listed() -> None:
    with ae.timer(60, nothing), open(os.devnull), leak_check():
        ae.sleep(0).recv()


def test_a_cycle_is_collected_before_anything_is_said() -> None:
    with leak_check():
        holder: list[object] = []
        holder.append((holder, ae.timer(60, nothing)))
        del holder


def test_an_exception_of_the_block_goes_through() -> None:
    with pytest.raises(KeyError), leak_check():
        keep = ae.timer(60, nothing)
        raise KeyError
    keep.cancel()


# ---------------------------------------------------------------------- binding


def test_a_binding_puts_the_threads_own_aside(trace: Trace) -> None:
    ours = ae.detect()
    watcher = ae.timer(0, trace.recorder("ours"))
    with binding("loop", multiplexer="select") as backend:
        assert ae.detect() is backend
        assert backend is not ours
        inner = ae.timer(60, nothing)
        ae.call_threadsafe(trace.recorder("inner"))
        trace.run_until(1)
    assert not inner.active
    assert ae.detect() is ours
    assert watcher.active
    ae.call_threadsafe(trace.recorder("outer"))
    trace.run_until(3)
    assert trace[0] == "inner"
    assert set(trace[1:]) == {"ours", "outer"}


@pytest.mark.usefixtures("unbound")
def test_a_binding_left_to_detection() -> None:
    ae.use("asyncio")
    with binding() as backend:
        assert backend is None
        assert ae.detect().name == "loop"
    assert ae.backend() is None


def test_a_class_can_be_bound_without_being_registered() -> None:
    class Acme(LoopBackend):
        name = "acme"

    with binding(Acme, multiplexer="select") as backend:
        assert type(backend) is Acme
        assert ae.backend() == "acme"
        ae.sleep(0).recv()


@pytest.mark.parametrize("bad", [3, object, LoopBackend.poll])
def test_what_is_no_backend_cannot_be_bound(bad: Any) -> None:
    ours = ae.detect()
    with pytest.raises(TypeError, match="backend"), binding(bad):
        pass
    with pytest.raises(ValueError, match="nosuch"), binding("nosuch"):
        pass
    assert ae.detect() is ours


def test_release_ends_the_binding() -> None:
    watcher = ae.timer(60, nothing)
    ours = ae.detect()
    release()
    release()
    assert ae.backend() is None
    assert not watcher.active
    assert ae.detect() is not ours


# ---------------------------------------------------------------------- virtual time


def test_an_hour_takes_no_time(trace: Trace) -> None:
    started = time.monotonic()
    with virtual_time() as clock:
        with ae.timer(3600, trace.recorder("an hour")):
            trace.run_until(1, timeout=10_000)
        assert clock.elapsed == 3600
    assert time.monotonic() - started < 60


def test_the_time_of_day_follows() -> None:
    with virtual_time(epoch=5e8) as clock:
        assert (ae.time(), ae.now()) == (5e8, 5e8)
        clock.advance(1.5)
        clock.pass_time(1)
        assert (ae.time(), ae.now()) == (5e8 + 2.5, 5e8 + 2.5)
        assert clock.statistics() == {"elapsed": 2.5}


def test_advance_runs_what_is_due_and_nothing_else(trace: Trace) -> None:
    with virtual_time() as clock:
        timers = [ae.timer(after, trace.recorder(after)) for after in (3, 1, 2.5, 2)]
        clock.advance(2.5)
        assert trace == [1, 2, 2.5]
        assert clock.elapsed == 2.5
        clock.advance(0)
        clock.advance(10)
        assert trace == [1, 2, 2.5, 3]
        timers.clear()


def test_the_clock_stands_while_there_is_work(trace: Trace) -> None:
    with virtual_time() as clock:
        count = 0

        def busy() -> None:
            nonlocal count
            count += 1
            if count < 5000:
                holder[:] = [ae.timer(0, busy)]
            else:
                trace(clock.elapsed)

        holder = [ae.timer(0, busy)]
        with ae.timer(1, trace.recorder("a second")):
            trace.run_until(2)
    assert trace == [0, "a second"]


def test_a_program_that_polls_does_not_stop_the_clock_for_ever(trace: Trace) -> None:
    left, right = socket.socketpair()
    with left, right, virtual_time():
        left.send(b"x")
        with ae.io(right, "r", nothing), ae.timer(1, trace.recorder("a second")):
            trace.run_until(1)


def test_readiness_by_script(trace: Trace) -> None:
    with virtual_time() as clock, clock.descriptor() as line:
        assert isinstance(line, ScriptedDescriptor)

        def read() -> None:
            trace("read", clock.elapsed)
            line.readable = False

        def write() -> None:
            trace("write", clock.elapsed)
            line.writable = False

        def set_readable() -> None:
            line.readable = True

        with ae.io(line, "r", read), ae.io(line, "w", write):
            with ae.timer(1, set_readable), ae.timer(2, set_readable):
                clock.advance(3)
                line.writable = True
                clock.advance(1)
        assert trace == [("read", 1), ("read", 2), ("write", 3)]


def test_a_scripted_descriptor_can_be_closed_and_its_number_used_again() -> None:
    with virtual_time() as clock:
        line = clock.descriptor()
        number = line.fileno()
        line.close()
        line.close()
        assert line.fileno() == -1
        with clock.descriptor() as other:
            assert other.fileno() == number


def test_the_threshold_waits_for_the_real_world(trace: Trace) -> None:
    with virtual_time(threshold=30) as clock:
        backend = ae.detect()
        thread = threading.Thread(
            target=lambda: backend.call_threadsafe(trace.recorder("thread", clock.elapsed))
        )
        with ae.timer(3600, trace.recorder("timer")):
            thread.start()
            trace.run_until(1, timeout=7200)
        thread.join()
    assert trace == [("thread", 0)]


def test_without_deadlines_it_waits_for_real(exits: Callable[[int], int]) -> None:
    with virtual_time():
        pid = exits(3)
        done = ae.CondVar[Any]()
        with ae.child(pid, done):
            assert done.recv() == (pid, 768)


def test_idle_callbacks_run_and_time_goes_on(trace: Trace) -> None:
    with virtual_time() as clock:
        with ae.idle(trace.recorder("idle")), ae.timer(1, trace.recorder("timer")):
            clock.advance(1)
    assert trace[0] == "idle"
    assert "timer" in trace


def test_advance_outside_of_its_binding_is_refused() -> None:
    with virtual_time() as clock:
        with binding("loop"), pytest.raises(RuntimeError, match="bound to the loop"):
            clock.advance(1)
    with virtual_time() as clock:
        seen = []

        def inside() -> None:
            try:
                clock.advance(1)
            except ae.RecursiveWait as error:
                seen.append(error)

        with ae.timer(0, inside):
            clock.advance(2)
        assert len(seen) == 1
        assert clock.elapsed == 2


@pytest.mark.parametrize("bad", ["1", None, -1, float("inf"), float("nan")])
def test_bad_virtual_times_are_refused(bad: Any) -> None:
    with virtual_time() as clock:
        for method in (clock.advance, clock.pass_time):
            with pytest.raises((TypeError, ValueError), match="expected"):
                method(bad)
    with pytest.raises((TypeError, ValueError), match="expected"), virtual_time(threshold=bad):
        pass


# ---------------------------------------------------------------------- check_backend


def test_the_virtual_backend_meets_every_demand() -> None:
    report = check_backend(VirtualBackend)
    assert report.failed == []
    assert len(report.results) > 150


class Deaf(LoopBackend):
    """Never calls when the time has come."""

    name = "deaf"

    def arm(self, at: float | None) -> None:
        super().arm(None)


class Eager(LoopBackend):
    """Calls inside the call."""

    name = "eager"

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()


class Refusing(LoopBackend):
    """Has no room for descriptors."""

    name = "refusing"

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> int:
        raise RuntimeError("no room")


class OneSided(LoopBackend):
    """Never tells that a descriptor is writable."""

    name = "one-sided"

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> int:
        return super().io_start(fd, write, nothing if write else callback)


class Unthreaded(LoopBackend):
    """Takes calls from threads for calls of its own."""

    name = "unthreaded"

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        callback()


class Shallow(LoopBackend):
    """Does nothing inside a callback, although it says that it can be run there."""

    name = "shallow"
    inside = False

    def _turn(self, block: bool) -> None:
        if not self.inside:
            self.inside = True
            try:
                super()._turn(block)
            finally:
                self.inside = False


# what ends a hang strikes anywhere, also where Python only reports what is raised
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("broken", "only", "text"),
    [
        pytest.param(
            *(Deaf, "timer: three of them run", "hangs here"),
            marks=pytest.mark.skipif(
                not hasattr(signal, "setitimer"), reason="a hang is ended by an alarm signal only"
            ),
        ),
        (Eager, "call: postponed calls run later", "expected ['postponed'"),
        (Eager, "task: it starts in a later turn", "expected ['spawned'"),
        (Eager, "cancel: one that has not begun never does", "expected CancelledError, nothing"),
        (Refusing, "io: one shot write", "RuntimeError: no room"),
        (OneSided, "io: one shot write watchers", "nothing came for"),
        (Unthreaded, "call: a call from the loops own thread", "expected ['made'"),
        (Shallow, "nested: what one event owes", "timers: expected ['first begins', 'second"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_broken_backend_is_found_out(broken: type[LoopBackend], only: str, text: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        # threads take their time where each of their calls wakes a loop by a socket
        check_backend(broken, only=only, patience=0.2 if os.name == "posix" else 2.0)
    message = str(caught.value)
    assert text in message
    assert only in message
    assert f"backend '{broken.name}': " in message
    assert caught.value.report.failed


class Interrupted(LoopBackend):
    """The user has pressed Ctrl-C."""

    name = "interrupted"

    def arm(self, at: float | None) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_ends_the_whole_check() -> None:
    with pytest.raises(KeyboardInterrupt):
        check_backend(Interrupted, only="timer: it runs once")


class TooLate(LoopBackend):
    """Goes on calling for a descriptor after it was told to stop."""

    name = "too-late"

    def io_stop(self, token: int) -> None:
        return None


def test_a_backend_that_calls_too_late_reaches_nobody() -> None:
    report = check_backend(TooLate, only="io: a dropped watcher is not called")
    assert len(report.results) == 2


@pytest.mark.skipif(os.name != "posix", reason="needs a demand that is made here")
def test_the_report_counts_and_names_what_was_left_out() -> None:
    report = check_backend("loop", only="signal: an interrupt leaves the wait once")
    assert str(report) == "backend 'loop': 1 ok, 0 failed, 1 skipped"
    assert "coroutine" in repr(report.skipped[0])


def test_off_the_main_thread_signals_are_left_out() -> None:
    reports = []

    def check() -> None:
        for only in ("signal: different ones", "nested: what one event owes"):
            reports.append(check_backend("loop", only=only))

    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    signals, nested = reports
    assert [result.text for result in signals.results] == ["needs the main thread"] * 2
    assert [result.outcome for result in nested.results] == ["ok"] * 2


@pytest.mark.skipif(find_spec("trio") is None, reason="needs trio")
def test_a_loop_that_cannot_be_blocked_is_checked_as_a_coroutine_only() -> None:
    report = check_backend("trio", only="timer: it runs once")
    assert {(result.way, result.outcome, result.text) for result in report.results} == {
        ("blocking", "skipped", "trio cannot be blocked"),
        ("coroutine", "ok", ""),
    }


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="'nosuch'"):
        check_backend("nosuch")
    with pytest.raises(TypeError, match="backend"):
        check_backend(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no demand contains 'nosuch'"):
        check_backend("loop", only="nosuch")


def test_the_threads_own_binding_is_back_afterwards() -> None:
    ours = ae.detect()
    check_backend("loop", only="timer: it runs once")
    assert ae.detect() is ours
