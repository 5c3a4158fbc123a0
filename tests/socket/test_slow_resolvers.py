"""What a resolver owes an answer for is not waited for to the end while there are addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import ae_core as ae
from ae_core.testing import virtual_time
from ae_socket import AddressInfo, ResolveFailed, resolve, tcp_connect
from ae_socket.testing import SrvRecord

Answer = tuple[float | None, Any]
SRV = "_xmpp-client._tcp.x.test"


class Asked(NamedTuple):
    at: float
    name: str


class Late:
    """Answers each question after so many seconds, or never (``None``)."""

    def __init__(self, clock: Any, answers: dict[str, Answer]) -> None:
        self.clock = clock
        self.answers = answers
        self.asked: list[Asked] = []
        self.pending: list[ae.CondVar[Any]] = []
        self.timers: list[ae.Watcher] = []

    def answer(self, name: str, make: Any) -> ae.CondVar[Any]:
        self.asked.append(Asked(round(self.clock.elapsed, 3), name))
        found: ae.CondVar[Any] = ae.CondVar()
        delay, value = self.answers[name]
        if delay is None:
            self.pending.append(found)
        elif isinstance(value, BaseException):
            self.timers.append(ae.timer(delay, lambda: found.throw(value)))
        else:
            self.timers.append(ae.timer(delay, lambda: found.send(make(value))))
        return found

    def srv(self, service: str, protocol: str, domain: str) -> ae.CondVar[Any]:
        return self.answer(f"_{service}._{protocol}.{domain}", list)

    def getaddrinfo(self, host: str, service: Any, **_: Any) -> ae.CondVar[Any]:
        return self.answer(host, lambda hosts: [AddressInfo(2, 1, 6, (h, service)) for h in hosts])


@pytest.fixture
def clock(unbound: None) -> Iterator[Any]:
    with virtual_time() as clock:
        yield clock


def ask(resolver: Late) -> tuple[list[Any], float]:
    """Resolve a service by name; return the addresses and how long that took."""
    found = resolve("x.test", "xmpp-client=5222", resolver=resolver)
    infos = found.recv()
    assert all(each.cancelled for each in resolver.pending), "nothing is asked for in vain"
    return [info.sockaddr for info in infos], round(resolver.clock.elapsed, 3)


def record(target: str, port: int = 1, priority: int = 0) -> SrvRecord:
    return SrvRecord(priority, 0, port, target)


def test_a_silent_srv_query_costs_two_seconds_more_than_the_addresses(clock: Any) -> None:
    resolver = Late(clock, {SRV: (None, ()), "x.test": (0.1, ["10.0.0.1"])})
    assert ask(resolver) == ([("10.0.0.1", 5222)], 0.25 + 0.1 + 2.0)
    assert resolver.asked == [(0.0, SRV), (0.25, "x.test")]


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.6, 2.2])
def test_srv_records_that_come_late_still_win(clock: Any, seconds: float) -> None:
    resolver = Late(
        clock,
        {
            SRV: (seconds, [record("y.test", 7)]),
            "x.test": (0.1, ["10.0.0.1"]),
            "y.test.": (0.1, ["10.0.0.2"]),
        },
    )
    assert ask(resolver) == ([("10.0.0.2", 7)], round(seconds + 0.1, 3))


@pytest.mark.parametrize("value", [(), OSError("refused")], ids=["none", "failed"])
def test_where_there_are_no_srv_records_the_host_is_not_asked_for_twice(
    clock: Any, value: Any
) -> None:
    resolver = Late(clock, {SRV: (1.0, value), "x.test": (0.1, ["10.0.0.1"])})
    assert ask(resolver) == ([("10.0.0.1", 5222)], 1.0)
    assert len(resolver.asked) == 2


def test_srv_records_in_time_ask_nothing_about_the_host(clock: Any) -> None:
    resolver = Late(clock, {SRV: (0.2, [record("y.test")]), "y.test.": (0.1, ["10.0.0.2"])})
    ask(resolver)
    assert [asked.name for asked in resolver.asked] == [SRV, "y.test."]


def test_while_there_are_no_addresses_everything_is_waited_for(clock: Any) -> None:
    resolver = Late(
        clock,
        {
            SRV: (30.0, [record("y.test")]),
            "x.test": (1.0, ResolveFailed("no such host")),
            "y.test.": (5.0, ["10.0.0.2"]),
        },
    )
    assert ask(resolver) == ([("10.0.0.2", 1)], 35.0)


def test_a_service_that_is_not_offered_is_known_though_the_host_has_addresses(clock: Any) -> None:
    resolver = Late(clock, {SRV: (1.0, [record(".")]), "x.test": (0.1, ["10.0.0.1"])})
    assert ask(resolver) == ([], 1.0)


def test_a_silent_target_costs_two_seconds_if_it_is_preferred(clock: Any) -> None:
    resolver = Late(
        clock,
        {
            SRV: (0.1, [record("one.test", 1), record("two.test", 2, 10)]),
            "one.test.": (None, ()),
            "two.test.": (0.1, ["10.0.0.2"]),
        },
    )
    assert ask(resolver) == ([("10.0.0.2", 2)], 2.2)


def test_a_silent_target_costs_a_quarter_of_a_second_if_it_stands_behind(clock: Any) -> None:
    targets = [record(f"t{n}.test", n, n) for n in range(4)]
    resolver = Late(
        clock,
        {
            SRV: (0.1, targets),
            "t0.test.": (0.1, ["10.0.0.1"]),
            "t1.test.": (None, ()),
            "t2.test.": (0.2, ["10.0.0.3"]),
            "t3.test.": (None, ()),
        },
    )
    assert ask(resolver) == ([("10.0.0.1", 0), ("10.0.0.3", 2)], 0.45)


def test_a_preferred_target_that_comes_late_stands_first(clock: Any) -> None:
    resolver = Late(
        clock,
        {
            SRV: (0.1, [record("one.test", 1), record("two.test", 2), record("three.test", 3)]),
            "one.test.": (1.0, ["10.0.0.1"]),
            "two.test.": (0.1, ["10.0.0.2"]),
            "three.test.": (None, ()),
        },
    )
    infos, seconds = ask(resolver)
    assert infos == [("10.0.0.1", 1), ("10.0.0.2", 2)]
    assert seconds == 1.1 + 0.25


def test_a_target_that_no_host_can_be_called_does_not_keep_the_others_away(clock: Any) -> None:
    good = {"y.test.": (0.1, ["10.0.0.2"])}
    resolver = Late(clock, {SRV: (0.1, [record("a b"), record("y.test")]), **good})
    assert ask(resolver)[0] == [("10.0.0.2", 1)]
    with pytest.raises(ValueError, match="a b"):
        ask(Late(clock, {SRV: (0.1, [record("a b")])}))


def test_cancelling_at_any_time_cancels_what_is_asked(clock: Any) -> None:
    for turns in range(40):
        resolver = Late(
            clock,
            {
                SRV: (1.0, [record("one.test"), record("two.test")]),
                "x.test": (0.1, ["10.0.0.1"]),
                "one.test.": (None, ()),
                "two.test.": (0.5, ["10.0.0.2"]),
            },
        )
        found = tcp_connect("x.test", "xmpp-client=5222", resolver=resolver)
        clock.advance(turns * 0.05)
        found.cancel()
        assert all(each.cancelled for each in resolver.pending)
        asked = len(resolver.asked)
        clock.advance(10)
        assert len(resolver.asked) == asked
