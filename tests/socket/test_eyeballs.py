"""The schedule of attempts on virtual time: no sockets, no clock, no waiting."""

from __future__ import annotations

import heapq
import itertools
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_socket._eyeballs import ATTEMPT_DELAY, Schedule, interleave

BLACKHOLE = None


def race(script: dict[str, tuple[str, float] | None], delay: float = ATTEMPT_DELAY) -> list[str]:
    """Play *script*: each target and what becomes of it ("ok" or "fail") after how long.

    ``None`` is a blackhole. Returns the story, one "time event target" for each event.
    """
    story: list[str] = []
    schedule = Schedule(script, delay=delay)
    now = 0.0
    number = itertools.count()
    ends: list[tuple[float, int, str, str]] = []
    running: set[str] = set()
    while True:
        while (target := schedule.next(now)) is not None:
            story.append(f"{now:.3f} start {target}")
            running.add(target)
            outcome = script[target]
            if outcome is not None:
                heapq.heappush(ends, (now + outcome[1], next(number), outcome[0], target))
        wake_at = schedule.wake_at if schedule.wake_at is not None else inf
        if ends and ends[0][0] <= wake_at:
            now, _, what, target = heapq.heappop(ends)
            story.append(f"{now:.3f} {what} {target}")
            running.remove(target)
            if what == "ok":
                schedule.won(target)
                story += [f"{now:.3f} close {loser}" for loser in script if loser in running]
                return story
            schedule.failed(target)
        elif wake_at < inf:
            now = wake_at
        else:
            if schedule.is_exhausted:
                story.append(f"{now:.3f} all failed")
            return story


def test_first_target_that_answers_wins_alone() -> None:
    assert race({"6": ("ok", 0.249), "4": ("ok", 0.0)}) == ["0.000 start 6", "0.249 ok 6"]


def test_blackhole_costs_one_delay() -> None:
    assert race({"6": BLACKHOLE, "4": ("ok", 0.020)}) == [
        "0.000 start 6",
        "0.250 start 4",
        "0.270 ok 4",
        "0.270 close 6",
    ]


def test_failure_starts_the_next_at_once() -> None:
    assert race({"6": ("fail", 0.010), "4": ("ok", 0.020)}) == [
        "0.000 start 6",
        "0.010 fail 6",
        "0.010 start 4",
        "0.030 ok 4",
    ]


def test_failure_of_an_older_attempt_starts_the_next_at_once_too() -> None:
    assert race({"a": ("fail", 0.3), "b": BLACKHOLE, "c": ("ok", 0.05)}) == [
        "0.000 start a",
        "0.250 start b",
        "0.300 fail a",
        "0.300 start c",
        "0.350 ok c",
        "0.350 close b",
    ]


def test_delay_counts_from_the_last_start() -> None:
    assert race({"a": ("fail", 0.1), "b": BLACKHOLE, "c": BLACKHOLE}) == [
        "0.000 start a",
        "0.100 fail a",
        "0.100 start b",
        "0.350 start c",
    ]


def test_slow_first_answer_can_still_win() -> None:
    assert race({"6": ("ok", 0.3), "4": ("ok", 0.2)})[-2:] == ["0.300 ok 6", "0.300 close 4"]


def test_all_failures_end_the_race() -> None:
    assert race({"a": ("fail", 0.0), "b": ("fail", 0.0), "c": ("fail", 0.0)}) == [
        "0.000 start a",
        "0.000 fail a",
        "0.000 start b",
        "0.000 fail b",
        "0.000 start c",
        "0.000 fail c",
        "0.000 all failed",
    ]


def test_no_targets_are_exhausted_at_once() -> None:
    assert race({}) == ["0.000 all failed"]


def test_losers_are_tried_again_when_the_winner_is_given_up() -> None:
    schedule = Schedule(["a", "b", "c", "d"])
    for now in (0.0, 0.25, 0.5):
        schedule.next(now)
    schedule.won("b")
    schedule.failed("b")
    order = []
    while (target := schedule.next(1.0)) is not None:
        order.append(target)
        schedule.failed(target)
    assert order == ["a", "c", "d"]
    assert schedule.is_exhausted


def test_wake_time_is_now_while_something_is_due() -> None:
    schedule = Schedule(["a", "b", "c"])
    seen = [schedule.next(5.0), schedule.wake_at]
    schedule.failed("a")
    seen += [schedule.wake_at, schedule.next(6.0), schedule.wake_at]
    seen += [schedule.next(6.2), schedule.next(6.25), schedule.wake_at]
    assert seen == ["a", 5.25, 5.0, "b", 6.25, None, "c", None]
    assert not schedule.is_exhausted


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([], []),
        (["6a", "6b", "4a", "4b"], ["6a", "4a", "6b", "4b"]),
        (["4a", "6a", "6b", "6c"], ["4a", "6a", "6b", "6c"]),
        (["6a", "6b", "6c", "4a"], ["6a", "4a", "6b", "6c"]),
        (["6a", "6b"], ["6a", "6b"]),
    ],
)
def test_families_alternate_and_keep_their_order(targets: list[str], expected: list[str]) -> None:
    assert interleave(targets, lambda target: target[0]) == expected


@given(
    st.lists(
        st.sampled_from(["6", "4", "u"]).flatmap(lambda f: st.integers().map(lambda n: (f, n)))
    )
)
def test_interleaving_loses_nothing(targets: list[tuple[str, int]]) -> None:
    result = interleave(targets, lambda target: target[0])
    assert sorted(result) == sorted(targets)
    for family in "64u":
        assert [t for t in result if t[0] == family] == [t for t in targets if t[0] == family]


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.tuples(st.sampled_from(["ok", "fail"]), st.sampled_from([0.0, 0.1, 0.25, 0.3, 2.0])),
        ),
        max_size=6,
    )
)
def test_each_target_is_started_once_and_never_waits_longer_than_the_delay(
    outcomes: list[tuple[str, float] | None],
) -> None:
    script = {str(index): outcome for index, outcome in enumerate(outcomes)}
    story = [event.split(maxsplit=2) for event in race(script)]
    starts = [(float(time), target) for time, what, target in story if what == "start"]
    assert [target for _, target in starts] == list(script)[: len(starts)]
    for (before, _), (after, _) in itertools.pairwise(starts):
        assert after - before <= ATTEMPT_DELAY + 1e-9
    won = [target for _, what, target in story if what == "ok"]
    if any(outcome and outcome[0] == "ok" for outcome in outcomes):
        assert len(won) == 1
    else:
        assert len(starts) == len(script)
        assert not won
