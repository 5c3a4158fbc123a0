"""The runner of callbacks and the calls by themselves: no loop, no socket, no clock."""

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

from ae_core._loop.calls import POSTPONED_PER_TURN
from ae_core._loop.runner import CallbackRunner

from .conftest import State, fails, interrupts

variable: ContextVar[str] = ContextVar("variable", default="unset")


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


def test_an_error_that_has_come_by_failed_is_told_from_one_that_came_before_the_call(
    state: State,
) -> None:
    """What broke off before its call is called again; what was called is not."""
    with pytest.raises(KeyboardInterrupt) as called:
        state.runner.call(interrupts, None, None)
    assert state.runner.has_called(called.value)
    with pytest.raises(KeyboardInterrupt) as struck:
        interrupts()
    assert not state.runner.has_called(struck.value)
    assert not state.runner.has_called(KeyboardInterrupt())


def test_the_first_interrupt_that_is_kept_stays_until_it_is_taken(state: State) -> None:
    first, second = KeyboardInterrupt(), SystemExit()
    state.runner.keep(first)
    state.runner.keep(second)
    assert state.runner.take_interrupt() is first
    state.runner.keep(second)
    assert state.runner.take_interrupt() is second


@pytest.mark.parametrize("blocks", [False, True])
def test_what_leaves_a_function_of_ours_is_reported_or_kept_and_the_loop_goes_on(
    blocks: bool, state: State
) -> None:
    if blocks:
        state.runner.blocked.add("a recv()")
    error = ValueError("out of a signal handler")
    state.runner.escaped(error)
    assert state.said == (["resume", "wake"] if blocks else ["resume"])
    assert state.reported == ([] if blocks else [(error, None)])
    assert state.runner.take_interrupt() is (error if blocks else None)


def test_an_error_after_the_end_of_the_loop_leaves_and_nothing_goes_on(state: State) -> None:
    state.closed = True
    state.runner.blocked.add("a recv()")
    with pytest.raises(ValueError, match="late"):
        state.runner.escaped(ValueError("late"))
    assert state.said == []
    assert state.runner.take_interrupt() is None


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


def test_the_loop_is_asked_once_for_what_is_left_and_not_at_all_for_nothing(state: State) -> None:
    state.calls.resume()
    assert state.backend.soon == []
    state.calls.expect()
    state.calls.expect()
    assert state.backend.soon == [state.calls.run_postponed]


@pytest.mark.parametrize("kind", ["owed", "postponed", "threadsafe"])
def test_what_is_left_is_asked_for_again_whatever_the_loop_was_told(
    kind: str, state: State
) -> None:
    state.calls.expect()
    getattr(state.calls, kind).append(fails)
    state.calls.resume()
    assert len(state.backend.soon) == 2
    state.calls.clear()
    state.calls.resume()
    assert len(state.backend.soon) == 2
    assert not [*state.calls.owed, *state.calls.postponed, *state.calls.threadsafe]


def test_a_call_that_was_owed_and_taken_back_is_not_made(state: State) -> None:
    calls: list[str] = []
    first, second = (partial(calls.append, name) for name in ("first", "second"))
    state.calls.owe(first)
    state.calls.owe(second)
    state.calls.owe_no_more(first)
    state.calls.owe_no_more(first)  # it is not owed any more
    state.calls.serve()
    assert calls == ["second"]
    assert state.backend.soon == []


def test_an_interrupt_leaves_when_all_that_is_owed_was_called(state: State) -> None:
    calls: list[str] = []
    state.calls.owe(interrupts)
    state.calls.owe(lambda: calls.append("behind it"))
    with pytest.raises(KeyboardInterrupt):
        state.calls.serve()
    assert calls == ["behind it"]
    assert state.backend.soon == []


def test_what_is_owed_behind_an_error_is_left_to_the_loop(state: State) -> None:
    calls: list[str] = []
    state.calls.owe(fails)
    state.calls.owe(lambda: calls.append("behind it"))
    with pytest.raises(ValueError, match="of a test"):
        state.calls.serve()
    assert calls == []
    state.turn()
    assert calls == ["behind it"]


def test_a_loop_inside_a_call_is_told_of_the_others_that_are_owed(state: State) -> None:
    state.nests = True
    told: list[int] = []
    for _ in range(2):
        state.calls.owed.append(lambda: told.append(len(state.backend.soon)))
    state.calls.serve()
    assert told == [1, 1]  # before the first call; behind the last there is no other


def test_calls_from_threads_are_made_in_order_and_those_made_meanwhile_wait(state: State) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        state.calls.call_threadsafe(lambda: calls.append("third"))

    state.calls.call_threadsafe(first)
    state.calls.call_threadsafe(lambda: calls.append("second"))
    state.calls.run_threadsafe()
    assert calls == ["first", "second"]
    state.calls.run_threadsafe()
    assert calls == ["first", "second", "third"]


def test_a_call_that_was_made_although_the_loop_refuses_is_not_made_again(state: State) -> None:
    calls: list[int] = []

    def refuse(run: Callable[[], None]) -> None:
        run()
        raise RuntimeError("the loop has ended")

    state.raw_threadsafe = refuse
    with pytest.raises(RuntimeError, match="has ended"):
        state.calls.call_threadsafe(lambda: calls.append(1))
    state.calls.run_threadsafe()
    assert calls == [1]


def test_a_call_that_was_broken_off_before_it_was_made_is_made_later(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler has raised between the taking off and the call."""
    calls: list[int] = []
    error = ValueError("out of a signal handler")

    def strike(*_: object) -> None:
        monkeypatch.undo()
        raise error

    state.calls.call_threadsafe(lambda: calls.append(1))
    state.calls.call_threadsafe(lambda: calls.append(2))
    monkeypatch.setattr(CallbackRunner, "call", strike)
    state.calls.run_threadsafe()
    assert calls == []
    assert state.reported == [(error, None)]
    state.calls.run_threadsafe()
    assert calls == [1, 2]


def test_a_call_that_the_loop_refuses_is_not_kept(state: State) -> None:
    def refuse(call: Callable[[], None]) -> None:
        raise OSError(errno.EBADF, "no wake-up")

    state.raw_threadsafe = refuse
    with pytest.raises(OSError, match="no wake-up"):
        state.calls.call_threadsafe(fails)
    assert not state.calls.threadsafe
