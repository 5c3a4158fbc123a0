"""The engine by itself: waiters that raise or leave, time-outs that come together, a slot's end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

import ae_core as ae
import ae_dns
from ae_dns import _transport
from ae_dns._config import Server, parse_server
from ae_dns._engine import BURST, Engine
from ae_dns._lookup import Lookup
from ae_dns._resolution import Exchange, Verdict, make_plan
from ae_dns._wire_fast import encode_name, make_question
from ae_dns.testing import DROP, NameServer

RECV = 20


class Waiter:
    """Notes which exchange it is told of, then does something."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.told: list[Exchange] = []
        self.then = then

    def exchange_over(self, exchange: Exchange) -> None:
        self.told.append(exchange)
        self.then()


@pytest.fixture
def engine() -> Engine:
    return Engine(ae.detect(), 10, None)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, _watcher: seen.append(str(error)))
    return seen


def exchange(server: NameServer, name: str, *waiters: Waiter, seconds: float = 60.0) -> Exchange:
    plan = make_plan([parse_server(server.endpoint)], [seconds])
    made = Exchange(make_question(encode_name(name), 1), plan, True)
    made.waiters += waiters
    return made


def fail(text: str) -> Callable[[], object]:
    def then() -> None:
        raise RuntimeError(text)

    return then


def turn() -> None:
    """Let the loop turn once."""
    turned: ae.CondVar[None] = ae.CondVar()
    ae.postpone(turned)
    turned.recv(RECV)


def test_what_a_waiter_raises_costs_no_other_waiter_its_outcome(
    engine: Engine, server: NameServer, errors: list[str]
) -> None:
    done: ae.CondVar[None] = ae.CondVar()
    first, second = Waiter(fail("of the first")), Waiter(done.send)
    asked = exchange(server, "www.demo.test", first, second)
    engine.submit(asked)
    done.recv(RECV)
    assert first.told == second.told == [asked]
    assert asked.reply is not None
    assert errors == ["of the first"]
    assert engine.outstanding == 0


def test_who_is_offered_a_slot_and_raises_keeps_it_from_nobody(
    engine: Engine, errors: list[str]
) -> None:
    done: ae.CondVar[None] = ae.CondVar()
    engine.wait_for_slot(fail("of the first"))
    engine.wait_for_slot(done.send)
    done.recv(RECV)
    assert errors == ["of the first"]


def test_an_exchange_that_another_ones_end_takes_away_is_not_told_that_its_time_is_up(
    engine: Engine, server: NameServer
) -> None:
    server.script("*", "*", DROP, DROP)
    now = [1000.0]
    engine.clock = lambda: now[0]
    done: ae.CondVar[None] = ae.CondVar()
    later = Waiter()
    second = exchange(server, "b.test", later, seconds=0.02)

    def leave() -> None:
        engine.leave(second, later)
        done.send()

    first = exchange(server, "a.test", Waiter(leave), seconds=0.02)
    engine.submit(first)
    engine.submit(second)
    now[0] += 1  # the time of both is up when the timer fires
    done.recv(RECV)
    turn()
    assert later.told == []
    assert engine.outstanding == 0


def test_a_query_whose_time_is_up_before_it_could_be_sent_is_never_sent(
    engine: Engine, server: NameServer
) -> None:
    engine.burst = BURST  # so it has to wait for the next turn
    done: ae.CondVar[None] = ae.CondVar()
    asked = exchange(server, "www.demo.test", Waiter(done.send), seconds=1e-9)
    engine.submit(asked)
    done.recv(RECV)
    turn()
    assert (asked.reply, engine.sent, engine.outstanding) == (None, 0, 0)
    assert server.queries == []


def test_a_query_that_is_left_before_it_could_be_sent_is_never_sent(
    engine: Engine, server: NameServer
) -> None:
    engine.burst = BURST  # so it has to wait for the next turn
    waiter = Waiter()
    asked = exchange(server, "www.demo.test", waiter)
    engine.submit(asked)
    engine.leave(asked, waiter)
    turn()
    assert (engine.burst, engine.sent, engine.outstanding) == (BURST, 0, 0)
    assert (waiter.told, server.queries) == ([], [])


def test_a_lookup_that_is_cancelled_after_a_flush_leaves_its_successor_alone(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    server.script("www.demo.test", "A", DROP)
    old = resolver.a("www.demo.test.")
    resolver.flush()
    new = resolver.a("www.demo.test.")
    old.cancel()
    also = resolver.a("www.demo.test.")
    for each in (new, also):
        assert each.recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert old.cancelled
    assert len(server.queries) == 2
    assert resolver.statistics()["outstanding"] == 0


def test_a_lookup_that_is_cancelled_right_after_its_query_could_not_be_sent_is_over(
    resolver: ae_dns.Resolver, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError(24, "no descriptors today")

    with monkeypatch.context() as patch:
        patch.setattr(_transport, "_open", refuse)
        found = resolver.a("www.demo.test.")
        found.cancel()
        turn()
    assert server.queries == []
    assert resolver.statistics() == {"sent": 1, "outstanding": 0, "queued": 0, "cached": 0}


@pytest.mark.parametrize("tcp", [False, True])
def test_what_goes_wrong_in_the_middle_of_sending_leaves_no_channel_waiting(
    server: NameServer, monkeypatch: pytest.MonkeyPatch, tcp: bool
) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], tcp=tcp)
    packet = Exchange.packet
    calls: list[Exchange] = []

    def fail_once(exchange: Exchange) -> bytes:
        calls.append(exchange)
        if len(calls) == 1:
            raise RuntimeError("nobody thought of it")
        return packet(exchange)

    monkeypatch.setattr(Exchange, "packet", fail_once)
    with pytest.raises(RuntimeError, match="nobody"):
        resolver.a("www.demo.test.")
    engine = resolver._here()
    assert not any(pool.in_flight for pool in engine._pools.values())
    assert not any(stream.pending for stream in engine._streams.values())
    assert resolver.a("www.demo.test.").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert resolver.statistics()["outstanding"] == 0


def test_what_raises_after_the_outcome_does_not_take_its_place(
    engine: Engine, server: NameServer, errors: list[str]
) -> None:
    """The outcome has been told; an error in its place would be told to nobody."""

    def deliver(lookup: Lookup) -> None:
        lookup.condvar.send("the outcome")
        raise RuntimeError("too late")

    name = encode_name("www.demo.test")
    lookup = Lookup([name], 1, 1, (1,), lambda _: None, engine, deliver)
    asked = exchange(server, "www.demo.test")
    asked.waiters.append(lookup)
    lookup.exchange = asked
    engine.submit(asked)
    assert lookup.condvar.recv(RECV) == "the outcome"
    turn()
    assert lookup.condvar.recv(RECV) == "the outcome"
    assert errors == ["too late"]


def test_a_reply_behind_one_whose_reading_raises_is_read_all_the_same(
    server: NameServer, errors: list[str]
) -> None:
    """Both may come in one segment of TCP, of which nothing more will be heard."""
    resolver = ae_dns.Resolver(servers=[server.endpoint], tcp=True)
    received: list[Verdict | None] = []

    def trace(what: str, _exchange: Exchange, _wire: bytes, verdict: Verdict | None) -> None:
        if what == "received":
            received.append(verdict)
            if len(received) == 1:
                raise RuntimeError("nobody thought of it")

    resolver.trace(trace)
    lost, found = resolver.a("www.demo.test."), resolver.a("six.demo.test.")
    assert found.recv(RECV) == []
    assert len(received) == 2
    assert errors == ["nobody thought of it"]
    assert not lost.ready
    lost.cancel()
    assert resolver.statistics()["outstanding"] == 0


def test_an_old_socket_that_waits_for_nothing_is_closed(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more queries are in flight than there are sockets, one may be idle for a while."""
    rolls = [b"\0\1\0", b"\0\2\0", b"\0\3\1", b"\0\4\0"]  # the last octet chooses the socket
    random = _transport.secrets.token_bytes
    monkeypatch.setattr(_transport, "POOL", 2)
    monkeypatch.setattr(
        _transport.secrets, "token_bytes", lambda size: rolls.pop(0) if rolls else random(size)
    )
    for name in ("b.test", "c.test", "d.test"):
        server.script(name, "A", DROP)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(60,))
    first, *found = [resolver.a(f"{letter}.test.") for letter in "abc"]
    assert first.recv(RECV) == []
    engine = resolver._here()
    [pool] = engine._pools.values()
    idle, busy = pool.sharing
    assert (idle.pending, len(busy.pending)) == ({}, 2)
    clock = engine.clock
    engine.clock = lambda: clock() + _transport.AGE
    found.append(resolver.a("d.test."))
    assert idle.sock.fileno() == -1
    assert idle not in pool.sharing
    for each in found:
        each.cancel()
    assert pool.in_flight == 0


def test_a_close_that_fails_is_logged_and_nobodys_outcome(
    resolver: ae_dns.Resolver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[bool] = []

    class Socket(socket.socket):
        def close(self) -> None:
            super().close()
            closed.append(True)
            raise OSError(5, "an error of the device")

    open_ = _transport._open

    def failing(server: Server) -> socket.socket:
        sock = open_(server)
        made = Socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.setblocking(False)
        return made

    monkeypatch.setattr(_transport, "_open", failing)
    assert resolver.a("www.demo.test.").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert closed == [True]
    assert "an error of the device" in caplog.text
