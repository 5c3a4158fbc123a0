"""Order of service records, and what answers look like."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_dns
from ae_dns import Srv
from ae_dns._answers import order_srv


class Loaded:
    """Dice that always show the same share of the range."""

    def __init__(self, share: float) -> None:
        self.share = share

    def randint(self, a: int, b: int, /) -> int:
        return a + round(self.share * (b - a))


def test_priority_comes_before_weight() -> None:
    late, soon = Srv(2, 99, 1, "late"), Srv(1, 0, 1, "soon")
    assert order_srv([late, soon]) == [soon, late]


def test_weight_zero_is_selected_by_a_roll_of_zero_only() -> None:
    heavy, light = Srv(1, 60, 1, "heavy"), Srv(1, 0, 1, "light")
    assert order_srv([heavy, light], Loaded(0))[0] is light
    assert order_srv([heavy, light], Loaded(1 / 60))[0] is heavy


def test_weight_zero_is_rare_but_not_impossible() -> None:
    """Case B88: its chance is 1/61."""
    records = [Srv(1, 60, 1, "heavy"), Srv(1, 0, 1, "light")]
    rng = random.Random(1)
    first = Counter(order_srv(records, rng)[0].target for _ in range(6100))
    assert 60 < first["light"] < 150


def test_the_chosen_record_is_the_first_whose_running_sum_reaches_the_roll() -> None:
    """RFC 2782, the algorithm on its page 3."""
    records = [Srv(1, weight, 1, str(weight)) for weight in (0, 2, 3)]

    class Rolls:
        def __init__(self, roll: int) -> None:
            self.rolls = [roll, 0]

        def randint(self, a: int, b: int, /) -> int:
            assert (a, b) == (0, 5) or not self.rolls[1:]
            return self.rolls.pop(0)

    first = [order_srv(records, Rolls(roll))[0].target for roll in range(6)]
    assert first == ["0", "2", "2", "3", "3", "3"]


def test_chances_follow_the_weights() -> None:
    records = [Srv(1, weight, 1, str(weight)) for weight in (10, 30, 60)]
    rng = random.Random(2)
    first = Counter(order_srv(records, rng)[0].target for _ in range(10_000))
    for weight in (10, 30, 60):
        assert abs(first[str(weight)] / 100 - weight) < 3


@given(st.lists(st.builds(Srv, st.integers(0, 3), st.integers(0, 5), st.integers(), st.text())))
def test_ordering_loses_nothing_and_keeps_priorities(records: list[Srv]) -> None:
    ordered = order_srv(records)
    assert sorted(ordered) == sorted(records)
    assert [each.priority for each in ordered] == sorted(each.priority for each in records)


def test_errors_survive_pickling_and_show_their_text() -> None:
    import pickle

    for cls in (
        ae_dns.ResolveError,
        ae_dns.NoSuchName,
        ae_dns.NoData,
        ae_dns.ServerFailed,
        ae_dns.QueryTimedOut,
    ):
        error = pickle.loads(pickle.dumps(cls("what happened", 3)))
        assert type(error) is cls
        assert str(error) == "what happened"
        assert error.rcode is not None
        assert error.rcode.name == "NXDOMAIN"
        assert issubclass(cls, ae_dns.ResolveError)
    assert ae_dns.ResolveError("x").rcode is None


def test_answers_are_sequences(resolver: ae_dns.Resolver) -> None:
    answer = resolver.resolve("www.demo.test", "A").recv(10)
    first, second = answer
    assert (answer[0], answer[-1], answer[:1]) == (first, second, (first,))
    assert first in answer
    assert len(answer) == 2
    with pytest.raises(TypeError):
        answer[0] = second  # type: ignore[index]
