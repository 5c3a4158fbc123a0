"""The parts of a loop's state by themselves: no loop, no socket, no clock."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ae_core._base.thread_identity import get_ident
from ae_core._loop.calls import POSTPONED_PER_TURN, CallQueue
from ae_core._loop.io_table import AlwaysReady, IoRecord, IoTable
from ae_core._loop.runner import CallbackRunner

Key = tuple[int, bool]
variable: ContextVar[str] = ContextVar("variable", default="unset")


class Recorder:
    """A backend that waits for nothing, and says what it was asked for."""

    name = "recorder"

    def __init__(self) -> None:
        self.watched: dict[Key, Callable[[], None]] = {}
        self.soon: list[Callable[[], None]] = []
        self.refusal: OSError | None = None
        self.on_ready: Any = None
        self.on_refused: Any = None

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> Key:
        if self.refusal is not None:
            raise self.refusal
        assert (fd, write) not in self.watched, "a second watch of one descriptor and direction"
        self.watched[fd, write] = callback
        return fd, write

    def io_stop(self, token: Key) -> None:
        del self.watched[token]

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)


class State:
    """A loop state made of the parts alone; its timers are called by the test."""

    def __init__(self) -> None:
        self.backend: Any = Recorder()
        self.closed = False
        self.nests = False
        self.thread = get_ident()
        self.said: list[str] = []
        self.reported: list[tuple[BaseException, Any]] = []
        self.timers: dict[int, Callable[[], object]] = {}
        self.from_threads: list[Callable[[], None]] = []
        self.raw_threadsafe = self.from_threads.append
        self.runner = CallbackRunner(
            self, lambda error, owner, source: self.reported.append((error, source))
        )
        self.calls = CallQueue(self)
        self.io = IoTable(self, self.runner)
        self.io.attach(self.backend)

    def resume(self) -> None:
        self.said.append("resume")

    def repeat(self, callback: Callable[[], object]) -> None:
        self.said.append("repeat")

    def wake(self) -> None:
        self.said.append("wake")

    def timer(self, after: float, callback: Callable[[], object]) -> int:
        self.timers[number := len(self.timers) + 1] = callback
        return number

    def cancel_timer(self, number: int) -> None:
        self.timers.pop(number, None)

    def has_timer(self, number: int) -> bool:
        return number in self.timers

    def turn(self) -> None:
        """Do what the loop was asked for."""
        soon, self.backend.soon = self.backend.soon, []
        for call in soon:
            call()
        for number in list(self.timers):
            self.timers.pop(number)()
        calls, self.from_threads[:] = self.from_threads.copy(), []
        for call in calls:
            call()


@pytest.fixture
def state() -> State:
    return State()


def fails() -> None:
    raise ValueError("of a test")


def interrupts() -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------------- the runner


def test_a_callback_runs_in_the_context_it_was_made_in_and_leaves_nothing_there(
    state: State,
) -> None:
    seen: list[str] = []

    def callback() -> None:
        seen.append(variable.get())
        variable.set("of the callback")

    context = copy_context()
    context.run(variable.set, "of the maker")
    state.runner.call(callback, context, None)
    state.runner.call(callback, context, None)
    state.runner.call(callback, None, None)
    state.runner.call(callback, None, None)
    assert seen == ["of the maker"] * 2 + ["unset"] * 2
    assert variable.get() == "unset"


def test_an_error_is_reported_with_its_record_and_nobody_is_woken(state: State) -> None:
    state.runner.call(fails, None, "record")
    assert [(str(error), source) for error, source in state.reported] == [
        ("of a test", ("record", fails))
    ]
    assert state.said == []


def test_an_interrupt_leaves_where_nobody_blocks(state: State) -> None:
    with pytest.raises(KeyboardInterrupt):
        state.runner.call(interrupts, None, None)
    assert state.runner.take_interrupt() is None


def test_of_two_interrupts_while_somebody_blocks_the_first_is_kept(state: State) -> None:
    state.runner.blocked.add("a recv()")
    first = SystemExit(1)
    state.runner.failed(first, None)
    state.runner.call(interrupts, None, None)
    assert state.runner.take_interrupt() is first
    assert state.runner.take_interrupt() is None
    assert state.said == ["wake", "wake"]


def test_a_callback_of_ours_that_was_broken_off_is_called_again(state: State) -> None:
    state.runner.blocked.add("a recv()")
    fails_once: Any = partial(fails)
    fails_once.repeatable = True
    state.runner.call(fails_once, None, None)
    assert state.said == ["repeat", "resume", "wake"]
    assert str(state.runner.take_interrupt()) == "of a test"


# ---------------------------------------------------------------------- the calls


class Calls(RuleBasedStateMachine):
    """Whatever is postponed, owed or comes from a thread is called once, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.state.runner.blocked.add("a recv()")
        self.made = 0
        self.called: list[tuple[str, int]] = []
        self.expected: dict[str, list[int]] = {"postponed": [], "thread": [], "owed": []}

    def call(self, kind: str, then: Callable[[], object]) -> Callable[[], None]:
        self.made += 1
        number = self.made
        self.expected[kind].append(number)

        def called() -> None:
            self.called.append((kind, number))
            then()

        return called

    def chain(self) -> None:
        self.state.calls.postpone(self.call("postponed", lambda: None))

    def inner(self) -> None:
        self.state.calls.run_postponed()

    def then(self, what: str) -> Callable[[], object]:
        return {"fails": fails, "interrupts": interrupts, "chain": self.chain, "inner": self.inner}[
            what
        ]

    actions = st.sampled_from(["fails", "interrupts", "chain", "inner"])

    @rule(what=actions)
    def postpone(self, what: str) -> None:
        self.state.calls.postpone(self.call("postponed", self.then(what)))

    @rule(what=actions)
    def from_a_thread(self, what: str) -> None:
        self.state.calls.call_threadsafe(self.call("thread", self.then(what)))

    @rule(nests=st.booleans())
    def owe(self, nests: bool) -> None:
        self.state.nests = nests
        self.state.calls.owe(self.call("owed", lambda: None))
        self.state.calls.expect()

    @rule()
    def turn(self) -> None:
        self.state.turn()

    def teardown(self) -> None:
        for _ in range(5):
            self.state.turn()
        for kind, numbers in self.expected.items():
            assert [number for each, number in self.called if each == kind] == numbers

    @invariant()
    def nothing_is_called_twice(self) -> None:
        assert len(set(self.called)) == len(self.called)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_an_endless_chain_leaves_the_rest_to_the_next_turn(state: State) -> None:
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        state.calls.postpone(again)

    state.calls.postpone(again)
    state.turn()
    assert count >= POSTPONED_PER_TURN
    assert state.timers or state.backend.soon


def test_a_call_for_a_loop_that_has_ended_is_refused(state: State) -> None:
    state.closed = True
    with pytest.raises(RuntimeError, match="the recorder loop has ended"):
        state.calls.call_threadsafe(fails)
    assert not state.from_threads


# ---------------------------------------------------------------------- the descriptors


class Interests(RuleBasedStateMachine):
    """The backend watches what somebody wants, once, and all who want it are called."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.model: dict[Key, list[IoRecord]] = {}
        self.called: list[IoRecord] = []

    @rule(fd=st.integers(0, 3), write=st.booleans(), fails=st.booleans())
    def start(self, fd: int, write: bool, fails: bool) -> None:
        def callback() -> None:
            self.called.append(record)
            if fails:
                raise ValueError("of a test")

        record = self.state.io.start(fd, write, callback, None)
        self.model.setdefault((fd, write), []).append(record)

    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        records = [record for side in self.model.values() for record in side]
        if records:
            self.end(data.draw(st.sampled_from(records)))

    def end(self, record: IoRecord) -> None:
        record.cancel()
        assert not record.active
        for side in self.model.values():
            if record in side:
                side.remove(record)

    @rule(data=st.data())
    def some_are_ready(self, data: Any) -> None:
        watched = list(self.state.backend.watched.items())
        ready = data.draw(st.lists(st.sampled_from(watched), unique=True)) if watched else []
        self.called.clear()
        self.state.io.ready([callback for _, callback in ready])
        assert self.called == [record for key, _ in ready for record in self.model[key]]

    @rule(data=st.data())
    def one_callback_cancels_what_comes_after_it(self, data: Any) -> None:
        watched = list(self.state.backend.watched)
        if not watched:
            return
        key = data.draw(st.sampled_from(watched))
        victims = self.model[key].copy()
        canceller = self.state.io.start(
            9, False, lambda: [self.end(each) for each in victims], None
        )
        backend = self.state.backend
        self.called.clear()
        self.state.io.ready([backend.watched[9, False], backend.watched[key]])
        assert self.called == []
        canceller.cancel()

    @invariant()
    def what_is_watched_is_what_is_wanted(self) -> None:
        wanted = {key for key, side in self.model.items() if side}
        assert set(self.state.backend.watched) == wanted
        active = [record for side in self.model.values() for record in side]
        assert {id(record) for record in self.state.io.records()} == {id(each) for each in active}


TestInterests = Interests.TestCase
TestInterests.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_a_file_that_cannot_be_waited_for_is_ready_once_a_turn(state: State) -> None:
    state.backend.refusal = PermissionError(errno.EPERM, "a regular file")
    calls: list[int] = []
    record = state.io.start(3, False, lambda: calls.append(1), None)
    assert isinstance(record.token, AlwaysReady)
    state.turn()
    state.turn()
    assert calls == [1, 1]
    record.cancel()
    assert not state.timers


@pytest.mark.parametrize("heard", [False, True])
def test_what_the_kernel_refuses_is_raised_or_told_in_a_later_turn(
    heard: bool, state: State
) -> None:
    refusal = state.backend.refusal = OSError(errno.ENOSPC, "no room")
    told: list[OSError] = []
    if not heard:
        with pytest.raises(OSError, match="no room"):
            state.io.start(3, True, fails, None)
        assert not state.io.writers
        return
    record = state.io.start(3, True, fails, None, told.append)
    assert told == []
    state.turn()
    assert told == [refusal]
    assert not record.active
    assert not state.io.writers


def test_a_refusal_that_comes_late_ends_all_watchers_of_that_direction(state: State) -> None:
    records = [state.io.start(3, False, fails, None) for _ in range(2)]
    other = state.io.start(3, True, fails, None)
    error = OSError(errno.EBADF, "closed")
    state.backend.on_refused(3, False, error)
    assert [record.active for record in records] == [False, False]
    assert other.active
    assert [reported for reported, _ in state.reported] == [error, error]
