"""The order of work by itself: hooks that record, and a loop that only notes what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ae_handle import BufferLimitExceeded, Chunk, HandleError, TransportError, _work
from ae_handle._phases import (
    CONNECTING,
    DESTROYED,
    DUE_DRAIN,
    DUE_DRAINED,
    DUE_READ,
    DUE_TLS,
    DUE_WRITE,
    OPEN,
    SHUTDOWN_WANTED,
)
from ae_handle._protocol.read_queue import PendingRequest
from ae_handle._protocol.read_side import ReadSide
from ae_handle._protocol.registry import LINE
from ae_handle._protocol.write_side import WriteSide
from ae_handle._work import Later, Work


class Events:
    """What the loop would call; it keeps what has to live."""

    def __init__(self) -> None:
        self.kept: list[object] = []

    def run_due_work(self) -> None:
        raise AssertionError("only a name for it")

    resume_work = dispatch_again = run_due_work

    def keep_alive(self, handle: object) -> None:
        self.kept.append(handle)


class Recorder(Work):
    """The classes that derive from ``Work``, as a list of what they were asked.

    Attributes:
        on: What is done besides in a hook, by its name.
    """

    __slots__ = ("_phase", "on", "seen")

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.on: dict[str, Callable[[], None]] = {}
        self._read = ReadSide()
        self._write = WriteSide()
        self._events: Any = Events()
        self._phase = OPEN
        self._error = None
        self._resume_timer = None
        self._work_due = self._keep_alive_count = 0
        self._work_posted = self._working = False

    def note(self, what: str) -> None:
        self.seen.append(what)
        if what in self.on:
            self.on[what]()

    def _flush(self) -> None:
        self._write.pieces.clear()
        self._write.stop_deferring()
        self.note("flush")

    def _flush_deferred(self) -> None:
        self._write.stop_deferring()
        self.note("flush deferred")

    def _update_interest(self) -> None:
        self.note("interest")

    def _update_fast_path(self) -> None:
        self.note("fast path")

    def _finish_input(self) -> None:
        self.note("end of input")

    def _end_writes(self) -> None:
        self.note("end of writes")

    def _process_early_data(self) -> None:
        self.note("early data")

    def _fail(self, error: HandleError) -> None:
        self.note(type(error).__name__)

    def _report_noted_failure(self) -> None:
        self.note("noted failure")


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What was postponed, and which timers were started."""
    asked: list[tuple[str, object]] = []
    stand_in = SimpleNamespace(
        postpone=lambda callback: asked.append(("postpone", callback)),
        timer=lambda delay, callback: asked.append(("timer", callback)) or object(),
        report_error=lambda error: asked.append(("error", error)),
    )
    monkeypatch.setattr(_work, "ae", stand_in)
    return asked


@pytest.fixture
def work(loop: object) -> Recorder:
    return Recorder()


def test_after_a_dispatch_writes_come_before_the_end_and_the_watcher_last(work: Recorder) -> None:
    work._read.add(LINE, lambda o, line: work._write.pieces.append(line))
    work._read.feed(b"answer\n")
    work._read.end_input()
    work._dispatch()
    assert work.seen == ["flush", "end of input", "interest"]
    assert work._write.deferred is None


def test_writes_are_deferred_while_callbacks_run(work: Recorder) -> None:
    deferred = []
    work._read.add(LINE, lambda o, line: deferred.append(work._write.deferred is not None))
    work._read.feed(b"x\n")
    work._dispatch()
    assert deferred == [True]
    assert work.seen == ["flush deferred", "interest"]


def test_a_dispatch_inside_a_dispatch_is_the_outer_ones(work: Recorder) -> None:
    seen = []

    def line(o: object, item: bytes) -> None:
        seen.append(item)
        work._dispatch()
        work._run_due_work()

    work._read.add(LINE, line)
    work._read.add(LINE, line)
    work._read.feed(b"1\n2\n")
    work._dispatch()
    assert seen == [b"1", b"2"]
    assert work.seen == ["flush deferred", "interest"]


def test_the_limit_is_checked_when_readers_have_had_their_turn(work: Recorder) -> None:
    work._read.max_buffer = 3
    work._read.add(Chunk(100), lambda o, item: None)
    work._read.feed(b"abcd")
    work._dispatch()
    assert work.seen == ["flush deferred", BufferLimitExceeded.__name__, "interest"]


def test_a_callback_that_destroys_the_handle_leaves_nothing_to_do(work: Recorder) -> None:
    def line(o: object, item: bytes) -> None:
        work._phase = DESTROYED
        work._write.pieces.append(b"ignored")

    work._read.add(LINE, line)
    work._read.feed(b"x\n")
    work._dispatch()
    assert work.seen == []
    assert work._write.deferred is None


def test_work_is_done_in_the_order_of_its_urgency(work: Recorder) -> None:
    work._note_due(DUE_READ | DUE_WRITE | DUE_TLS | DUE_DRAIN)
    work._note_failure(TransportError("gone", errno=32))
    work._run_due_work()
    assert work.seen[:3] == ["noted failure", "early data", "flush"]
    assert work._work_due == 0
    assert not work._working


def test_the_first_failure_is_the_one_that_counts(work: Recorder) -> None:
    first = TransportError("first", errno=32)
    work._note_failure(first)
    work._note_failure(TransportError("second", errno=32))
    assert work._error is first


def test_work_is_postponed_once(work: Recorder, loop: list[tuple[str, object]]) -> None:
    work._make_due(DUE_READ)
    work._make_due(DUE_WRITE)
    assert loop == [("postpone", work._events.run_due_work)]
    work._work_was_posted()
    assert work._work_due == 0
    work._make_due(DUE_READ)
    assert len(loop) == 2


@pytest.mark.parametrize("phase", [CONNECTING, DESTROYED])
def test_nothing_becomes_due_without_a_stream(
    work: Recorder, loop: list[tuple[str, object]], phase: int
) -> None:
    work._phase = phase
    work._make_due(DUE_READ)
    assert loop == []
    assert work._work_due == 0


def test_work_without_end_lets_others_run(work: Recorder, loop: list[tuple[str, object]]) -> None:
    work.on["flush"] = lambda: work._note_due(DUE_WRITE)
    work._note_due(DUE_WRITE)
    work._run_due_work()
    rounds = len(work.seen)
    assert rounds >= 2
    assert loop == [("timer", work._events.resume_work)]
    work._reschedule_work()
    assert len(loop) == 1  # one timer is enough
    work._work_resumed()
    assert len(work.seen) == 2 * rounds
    assert len(loop) == 2


def test_work_that_arises_in_work_is_the_outer_calls(work: Recorder) -> None:
    def again() -> None:
        work.on.clear()
        work._note_due(DUE_TLS)
        work._run_due_work()
        assert "early data" not in work.seen

    work.on["flush"] = again
    work._note_due(DUE_WRITE)
    work._run_due_work()
    assert work.seen == ["flush", "early data"]


def test_a_failure_while_connecting_is_reported_and_other_work_stays(work: Recorder) -> None:
    work._phase = CONNECTING
    work._note_due(DUE_WRITE)
    work._note_failure(TransportError("gone", errno=32))
    work._run_due_work()
    assert work.seen == ["noted failure"]
    assert work._work_due == DUE_WRITE
    work._run_due_work()
    assert work.seen == ["noted failure"]
    assert work._work_due == DUE_WRITE


def test_work_of_a_destroyed_handle_is_forgotten(work: Recorder) -> None:
    work._note_due(DUE_WRITE)
    work._phase = DESTROYED
    work._run_due_work()
    assert work.seen == []
    assert work._work_due == 0


def test_a_hook_that_raises_does_not_block_later_work(work: Recorder) -> None:
    def fault() -> None:
        work.on.clear()
        raise ZeroDivisionError

    work.on["flush"] = fault
    work._note_due(DUE_WRITE)
    with pytest.raises(ZeroDivisionError):
        work._run_due_work()
    work._note_due(DUE_WRITE)
    work._run_due_work()
    assert work.seen == ["flush", "flush"]


class Waiter(PendingRequest):
    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    def __call__(self, owner: object, value: object, /) -> None:
        self.seen.append("waiter")


def test_who_waits_is_told_before_the_end_and_before_on_drain(work: Recorder) -> None:
    write = work._write
    write.on_drain = lambda o: work.seen.append("on_drain")
    write.wait(Waiter(work.seen))
    write.shutdown = SHUTDOWN_WANTED
    work._note_due(DUE_DRAIN | DUE_DRAINED)
    work._run_due_work()
    assert work.seen == ["fast path", "waiter", "end of writes", "on_drain", "flush deferred"]


def test_what_was_pushed_meanwhile_is_waited_for(work: Recorder) -> None:
    work._write.on_drain = lambda o: work.seen.append("on_drain")
    work._write.pieces.append(b"unsent")
    work._note_due(DUE_DRAIN)
    work._run_due_work()
    assert work.seen == []
    assert work._write.drain_pending


def test_an_on_drain_that_refills_the_queue_for_ever_lets_others_run(
    work: Recorder, loop: list[tuple[str, object]]
) -> None:
    work._write.on_drain = lambda o: work._note_due(DUE_DRAIN)
    work._note_due(DUE_DRAIN)
    work._run_due_work()
    assert loop == [("timer", work._events.resume_work)]
    assert work._work_due & DUE_DRAIN


def test_an_error_of_on_drain_is_reported_and_the_rest_is_done(
    work: Recorder, loop: list[tuple[str, object]]
) -> None:
    fault = RuntimeError()

    def on_drain(o: object) -> None:
        raise fault

    work._write.on_drain = on_drain
    work._note_due(DUE_DRAIN)
    work._run_due_work()
    assert loop == [("error", fault)]
    assert work.seen == ["flush deferred"]


def test_as_many_releases_as_operations_end_the_keeping_alive(work: Recorder) -> None:
    work._keep_alive()
    work._keep_alive()
    work._release()
    assert work._events.kept == [work, work]
    work._release()
    assert work._events.kept == [work, work, None]


def test_dropping_the_work_drops_its_timer(work: Recorder) -> None:
    work._note_due(DUE_WRITE)
    work._reschedule_work()
    work._drop_work()
    assert work._resume_timer is None
    assert work._work_due == 0


@pytest.mark.parametrize("lives", [True, False])
def test_a_later_call_reaches_only_a_handle_that_lives(work: Recorder, lives: bool) -> None:
    work._events = lambda: work if lives else None
    Later(work, "_flush")()
    assert work.seen == (["flush"] if lives else [])
