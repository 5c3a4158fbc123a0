"""Groups: ``begin``, ``end``, ``group()`` and the group callback, without a loop."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_core as ae
from ae_core.testing import Trace


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BaseException, object]]:
    """Collect what goes to the exception hook."""
    seen: list[tuple[BaseException, object]] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append((error, watcher)))
    return seen


def test_the_last_end_sends() -> None:
    # CORE-73
    cv = ae.CondVar[None]()
    cv.begin()
    cv.begin()
    cv.end()
    assert not cv.ready
    cv.end()
    assert cv.ready
    assert cv.recv() is None


def test_the_last_group_callback_wins_and_begin_without_one_keeps_it(trace: Trace) -> None:
    # CORE-74
    cv = ae.CondVar[Any]()
    cv.begin(lambda cv: trace("a"))
    cv.begin(lambda cv: trace("b", cv is cv))
    cv.begin()
    for _ in range(3):
        cv.end()
    assert trace == [("b", True)]


def test_a_group_callback_need_not_send_and_runs_again(trace: Trace) -> None:
    # CORE-75, B8
    cv = ae.CondVar[Any]()
    cv.begin(lambda cv: trace("zero"))
    cv.end()
    cv.begin()
    cv.end()
    assert trace == ["zero", "zero"]
    assert not cv.ready


@pytest.mark.parametrize("kind", [ValueError, ae.CancelledError, GeneratorExit])
def test_what_a_group_callback_raises_goes_to_the_hook(
    errors: list[tuple[BaseException, object]], kind: type[BaseException]
) -> None:
    error = kind("of a test")

    def fails(cv: ae.CondVar[None]) -> None:
        raise error

    cv = ae.CondVar[None]()
    cv.begin(fails)
    cv.end()
    assert errors == [(error, None)]


def test_what_a_group_callback_raises_does_not_replace_the_error_of_the_block(
    errors: list[tuple[BaseException, object]],
) -> None:
    def fails(cv: ae.CondVar[None]) -> None:
        raise ValueError("of a test")

    cv = ae.CondVar[None]()
    cv.begin(fails)
    cv.begin()
    cv.end()
    with pytest.raises(KeyError, match="mine"):
        with cv.group():
            cv.end()
            raise KeyError("mine")
    assert [str(error) for error, _ in errors] == ["of a test"]


def test_a_group_callback_may_leave_recv_by_an_interrupt() -> None:
    def leave(cv: ae.CondVar[None]) -> None:
        raise SystemExit(3)

    cv = ae.CondVar[None]()
    cv.begin(leave)
    ae.postpone(cv.end)
    with pytest.raises(SystemExit):
        cv.recv()


def test_end_without_begin_is_an_error_and_never_fires_early() -> None:
    # CORE-76, B7
    cv = ae.CondVar[None]()
    with pytest.raises(RuntimeError, match=r"begin\(\)"):
        cv.end()
    cv.begin()
    cv.begin()
    cv.end()
    assert not cv.ready
    cv.end()
    assert cv.ready


def test_the_context_manager_counts_also_through_an_exception() -> None:
    cv = ae.CondVar[None]()
    with cv.group() as same:
        assert same is cv
        with pytest.raises(KeyError), cv.group():
            raise KeyError
        assert not cv.ready
    assert cv.ready


@given(st.lists(st.booleans(), max_size=40))
def test_it_becomes_ready_exactly_at_zero(steps: list[bool]) -> None:
    cv = ae.CondVar[None]()
    count, ready = 0, False
    for begin in steps:
        if begin:
            cv.begin()
            count += 1
        elif count:
            cv.end()
            count -= 1
            ready = ready or not count
        assert cv.ready == ready
