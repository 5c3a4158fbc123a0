"""The read queue and the inactivity timeouts, without any stream."""

from __future__ import annotations

from math import inf

import pytest

from ae_handle._protocol.inactivity import ANY, READ, WRITE, Inactivity, check_period
from ae_handle._protocol.read_queue import ReadQueue


def test_requests_keep_their_order() -> None:
    queue = ReadQueue()
    for name in "ab":
        queue.push("reader " + name, name)
    for name in "xy":
        queue.unshift("reader " + name, name)
    assert len(queue) == 4
    assert queue.reader == "reader y"
    assert [queue.advance() for _ in range(4)] == ["y", "x", "a", "b"]
    assert queue.reader is None
    assert len(queue) == 0


def test_the_first_of_all_requests_may_be_put_before_all_others() -> None:
    queue = ReadQueue()
    queue.unshift("reader", "x")
    assert (queue.reader, len(queue)) == ("reader", 1)
    assert queue.advance() == "x"
    assert len(queue) == 0


@pytest.mark.parametrize(("victim", "left"), [("a", "bc"), ("b", "ac")])
def test_a_request_can_be_removed(victim: str, left: str) -> None:
    queue = ReadQueue()
    callbacks = {name: [name] for name in "abc"}  # found by identity
    for name, callback in callbacks.items():
        queue.push(name, callback)
    assert queue.remove(callbacks[victim]) is True
    assert queue.remove(["c"]) is False
    assert [queue.advance() for _ in left] == [callbacks[name] for name in left]
    assert queue.remove(callbacks[victim]) is False


def test_the_three_timeouts_are_independent() -> None:
    timeouts = Inactivity()
    timeouts.periods[:] = [3.0, 2.0, 4.0]
    assert timeouts.next_at(100.0, 100.0) == 102.0
    assert timeouts.next_at(101.5, 100.0) == 103.5
    assert timeouts.due(103.0, 101.5, 100.0) == []
    assert timeouts.due(103.5, 101.5, 100.0) == [READ]
    assert timeouts.due(104.5, 101.5, 100.0) == [ANY, WRITE]
    assert timeouts.due(105.5, 101.5, 105.0) == [READ]
    assert timeouts.due(108.0, 101.5, 105.0) == [ANY, READ]


def test_a_reset_concerns_its_own_period_only() -> None:
    timeouts = Inactivity()
    timeouts.periods[:] = [1.0, 1.0, 0.0]
    timeouts.reset(ANY, 0.9)
    assert timeouts.due(1.0, 0.0, 0.0) == [READ]


def test_no_period_is_never_due() -> None:
    timeouts = Inactivity()
    assert timeouts.next_at(0.0, 0.0) == inf
    assert timeouts.due(1e9, 0.0, 0.0) == []


@pytest.mark.parametrize(("seconds", "period"), [(None, 0.0), (0, 0.0), (2, 2.0), (0.5, 0.5)])
def test_periods(seconds: float | None, period: float) -> None:
    assert check_period("timeout", seconds) == period


@pytest.mark.parametrize("seconds", [-1, -0.001, inf, float("nan")])
def test_a_period_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"expected timeout of 0 or more seconds, got {seconds}"):
        check_period("timeout", seconds)


@pytest.mark.parametrize("seconds", ["1", True, [1]])
def test_a_period_must_be_a_number(seconds: object) -> None:
    with pytest.raises(TypeError, match="expected timeout in seconds"):
        check_period("timeout", seconds)  # type: ignore[arg-type]
