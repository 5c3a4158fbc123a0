"""The pauses between attempts."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_socket import Backoff


def test_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    backoff = Backoff(1, factor=3, most=20, jitter=False)
    assert list(islice(backoff, 5)) == [1.0, 3.0, 9.0, 20.0, 20.0]


def test_the_default_begins_with_half_a_second_and_ends_at_a_minute() -> None:
    backoff = Backoff(jitter=False)
    assert next(backoff) == 0.5
    assert list(islice(backoff, 20))[-1] == 60.0


def test_reset_begins_again() -> None:
    backoff = Backoff(jitter=False)
    assert [next(backoff), next(backoff)] == [0.5, 1.0]
    backoff.reset()
    assert next(backoff) == 0.5


def test_the_longest_pause_is_a_ceiling_for_the_first_as_well() -> None:
    assert list(islice(Backoff(first=5, most=0.25, jitter=False), 2)) == [0.25, 0.25]
    assert list(islice(Backoff(most=0), 2)) == [0.0, 0.0]


@given(
    st.floats(1e-6, 1e6), st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True)
)
def test_jitter_takes_away_up_to_one_half(
    first: float, factor: float, most: float, chance: float
) -> None:
    whole = list(islice(Backoff(first, factor, most, jitter=False), 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.random", lambda: chance)
        parts = list(islice(Backoff(first, factor, most), 8))
    assert all(
        part <= pause and part >= pause / 2 for part, pause in zip(parts, whole, strict=True)
    )


def test_jitter_does_not_shorten_the_pauses_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    chances = iter([0.5, 0.0])
    monkeypatch.setattr("random.random", lambda: next(chances))
    backoff = Backoff(first=1)
    assert [next(backoff), next(backoff)] == [0.75, 2.0]


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(first=1e300, factor=1e300, most=1e308, jitter=False)
    assert list(islice(backoff, 1000))[-1] == 1e308


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"first": 0}, ValueError, "expected first above 0, got 0"),
        ({"first": float("nan")}, ValueError, "expected first as a finite number, got nan"),
        ({"first": "1"}, TypeError, "expected first as a number, got '1'"),
        ({"first": True}, TypeError, "expected first as a number, got True"),
        ({"factor": 0.5}, ValueError, "expected factor of 1 or more, got 0.5"),
        ({"most": -1}, ValueError, "expected most of 0 or more, got -1"),
        ({"most": float("inf")}, ValueError, "expected most as a finite number, got inf"),
    ],
)
def test_what_is_no_pause_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Backoff(**options)


def test_it_can_be_looked_at() -> None:
    backoff = Backoff()
    next(backoff)
    assert repr(backoff) == "<Backoff 1 s next, 60 s at most>"
