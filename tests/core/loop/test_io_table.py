"""The table of descriptors by itself: no loop, no socket."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ae_core._loop.io_table import AlwaysReady, IoRecord

from .conftest import Key, Recorder, State, fails, interrupts

variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture
def state(state: State) -> Iterator[State]:
    yield state
    assert state.said == []  # nothing is broken off


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
        assert self.state.said == []  # nothing is broken off


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


def test_a_table_that_is_attached_is_what_the_backend_calls(state: State) -> None:
    backend: Any = Recorder()
    state.io.attach(backend)
    assert state.io.backend is backend
    assert backend.on_ready == state.io.ready
    assert backend.on_refused == state.io.refused


def test_what_the_core_watches_for_itself_is_called_and_is_no_watcher(state: State) -> None:
    calls: list[int] = []
    record = state.io.watch_own(3, lambda: calls.append(1), fails)
    assert state.io.records() == []
    assert state.backend.uncounted == []
    state.io.ready([state.backend.watched[3, False]])
    assert calls == [1]
    state.io.end_own(record)
    assert state.backend.watched == {}
    assert state.io.own == {}
    state.io.end_own(record)  # again: nothing is left to end
    assert not record.active


def test_a_watch_of_the_cores_own_may_be_no_reason_for_the_loop_to_go_on(state: State) -> None:
    state.io.watch_own(3, fails, fails, counts=False)
    assert state.backend.uncounted == [(3, False)]


def test_a_watch_of_the_cores_own_that_is_refused_is_told_in_a_later_turn(state: State) -> None:
    refusal = state.backend.refusal = OSError(errno.ENOSPC, "no room")
    told: list[OSError] = []
    record = state.io.watch_own(3, fails, told.append)
    assert told == []
    state.turn()
    assert told == [refusal]
    assert state.io.own == {}
    state.io.end_own(record)  # it has ended by itself
    assert not state.timers


@pytest.mark.parametrize("late", [False, True])
def test_a_file_that_the_core_watches_for_itself_is_ready_once_a_turn(
    late: bool, state: State
) -> None:
    refusal = PermissionError(errno.EPERM, "a regular file")
    if not late:
        state.backend.refusal = refusal
    calls: list[int] = []
    record = state.io.watch_own(3, lambda: calls.append(1), fails)
    if late:
        del state.backend.watched[3, False]
        state.backend.on_refused(3, False, refusal)
    state.turn()
    state.turn()
    assert calls == [1, 1]
    assert state.io.records() == []
    state.io.end_own(record)
    assert not state.timers
    assert state.io.own == {}


def test_a_refusal_to_write_ends_no_watch_of_the_cores_own(state: State) -> None:
    record = state.io.watch_own(3, fails, fails)
    state.backend.on_refused(3, True, OSError(errno.EBADF, "closed"))
    assert record.active
    assert state.io.own == {3: record}


def test_a_watch_that_ends_behind_its_loop_asks_the_backend_for_nothing(state: State) -> None:
    record = state.io.watch_own(3, fails, fails)
    other = state.io.watch_own(4, fails, fails)
    state.closed = True
    state.io.end_own(record)
    assert not record.active
    assert set(state.backend.watched) == {(3, False), (4, False)}
    state.io.close_own(other)  # by whoever closes the loop, while its backend is there
    assert not other.active
    assert set(state.backend.watched) == {(3, False)}
    state.io.close_own(other)
    state.io.clear()
    assert state.io.own == {}


def test_all_records_end_without_the_backend_and_what_they_held_is_handed_over(
    state: State,
) -> None:
    refused: list[OSError] = []
    reader = state.io.start(3, False, fails, None, refused.append)
    shared = state.io.start(3, False, interrupts, None)
    writer = state.io.start(3, True, fails, None)
    held = state.io.end_all()
    for each in (reader, shared, writer, fails, interrupts, refused.append):
        assert each in held
    assert not [record for record in (reader, shared, writer) if record.active]
    assert set(state.backend.watched) == {(3, False), (3, True)}
    state.io.clear()
    assert state.io.records() == []
    writer.cancel()
    assert (3, True) in state.backend.watched


def test_the_last_one_to_leave_a_descriptor_that_several_share_ends_its_watch(
    state: State,
) -> None:
    calls: list[int] = []
    records = [state.io.start(3, False, partial(calls.append, n), None) for n in range(3)]
    for at, left in ((0, [1, 2]), (2, [1])):
        records[at].cancel()
        records[at].cancel()  # again: nothing
        calls.clear()
        state.io.ready([state.backend.watched[3, False]])
        assert calls == left
    records[1].cancel()
    assert state.backend.watched == {}
    assert state.io.readers == {}
    assert state.io.start(3, False, fails, None).peers is None  # for a new file of that number


@pytest.mark.parametrize("write", [False, True])
def test_one_of_several_that_share_leaves_a_table_that_was_cleared(
    write: bool, state: State
) -> None:
    first, second = (state.io.start(3, write, fails, None) for _ in range(2))
    state.io.clear()
    second.cancel()
    assert list(first.peers or ()) == [first, second]
    assert set(state.backend.watched) == {(3, write)}


def test_a_record_that_nobody_wants_any_more_is_released_when_the_backend_calls(
    state: State,
) -> None:
    """A signal handler has raised inside ``cancel``, which then stopped there."""
    record = state.io.start(3, False, fails, None)
    call = state.backend.watched[3, False]
    record.callback = None
    record.fire()
    assert state.backend.watched
    call()
    assert state.backend.watched == {}
    assert state.io.readers == {}
    assert state.reported == []
    record.release()  # again: nothing


def test_nothing_is_released_behind_the_end_of_the_loop(state: State) -> None:
    record = state.io.start(3, False, fails, None)
    state.closed = True
    record.release()
    assert set(state.backend.watched) == {(3, False)}


def test_a_token_is_forgotten_by_whoever_has_made_it(state: State) -> None:
    record = state.io.start(3, True, fails, None)
    state.io.forget(record.token)
    assert state.backend.watched == {}
    state.backend.refusal = PermissionError(errno.EPERM, "a regular file")
    always = state.io.start(4, True, fails, None)
    assert len(state.timers) == 1
    state.io.forget(always.token)
    assert state.timers == {}


def test_a_record_says_its_descriptor_and_direction(state: State) -> None:
    assert state.io.start(3, False, fails, None).describe() == " 3 r"
    assert state.io.start(0, True, fails, None).describe() == " 0 w"


def test_what_a_callback_sets_is_not_seen_by_the_next_one(state: State) -> None:
    seen: list[str] = []

    def callback() -> None:
        seen.append(variable.get("unset"))
        variable.set("left over")

    state.io.start(3, False, callback, None)
    for _ in range(2):
        state.backend.watched[3, False]()
    assert seen == ["unset"] * 2


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("runs", ["a turn", "nothing"])
def test_a_cancel_that_something_comes_between_ends_the_watch_once(
    write: bool, runs: str, state: State
) -> None:
    """A signal handler runs the loop, or what an exception has broken off went as far."""

    class Side(dict[int, IoRecord]):
        def __delitem__(self, key: int) -> None:
            super().__delitem__(key)
            if runs == "a turn":
                call = state.backend.watched.get((3, write))
                if call is not None:
                    call()
            raise KeyError(key)

    record = state.io.start(3, write, fails, None)
    for name in ("readers", "writers"):
        setattr(state.io, name, Side(getattr(state.io, name)))
    record.cancel()
    assert state.backend.watched == {}
    assert record.token is None
    assert state.reported == []


def test_one_that_shared_a_number_leaves_those_alone_that_share_it_now(state: State) -> None:
    old = [state.io.start(3, False, fails, None) for _ in range(2)]
    state.backend.watched.clear()
    state.io.clear()
    new = [state.io.start(3, False, fails, None) for _ in range(2)]
    old[1].cancel()
    assert list(new[0].peers or ()) == new
    assert set(state.backend.watched) == {(3, False)}


def test_a_record_that_left_the_table_before_it_was_broken_off_is_released(state: State) -> None:
    record = state.io.start(3, False, fails, None)
    record.callback = None
    del state.io.readers[3]
    record()
    assert state.backend.watched == {}
    assert record.token is None


def test_a_direction_that_is_refused_twice_is_raised_and_the_other_is_told(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time because of what the loop knew of the number, the second in earnest."""
    told: list[OSError] = []
    other = state.io.start(3, True, fails, None, told.append)
    refusals = [OSError(errno.EBADF, text) for text in ("of both", "in earnest", "of what it knew")]
    left = iter(refusals)

    def refuse(*_: object) -> None:
        raise next(left)

    monkeypatch.setattr(state.backend, "io_start", refuse)
    with pytest.raises(OSError, match="in earnest"):
        state.io.start(3, False, fails, None)
    assert state.io.readers == {}
    state.turn()
    assert told == refusals[2:]
    assert not other.active


def test_a_late_refusal_passes_over_one_whose_cancel_was_broken_off(state: State) -> None:
    left, stays = (state.io.start(3, False, fails, None) for _ in range(2))
    left.callback = None
    error = OSError(errno.EBADF, "closed")
    state.backend.on_refused(3, False, error)
    assert state.reported == [(error, (stays, fails))]
    assert not stays.active
