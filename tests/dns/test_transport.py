"""Channels under servers that misbehave: UDP sockets in rotation, one TCP connection."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable

import pytest

import ae_core as ae
import ae_dns
from ae_dns import _transport
from ae_dns.testing import DROP, TRUNCATE, NameServer, Query

RECV = 20
ADDRESSES = ["192.0.2.80", "192.0.2.81"]


def framed(reply: bytes) -> bytes:
    return len(reply).to_bytes(2, "big") + reply


class TcpServer:
    """A TCP name server whose every connection does what *behave* says, octet by octet.

    *behave* gets the framed queries so far and returns what to send, and whether to hang up.
    """

    def __init__(self, behave: Callable[[list[bytes], int], tuple[bytes, bool]]) -> None:
        self.behave = behave
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.endpoint = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.watchers = [ae.io(self.listener, "r", self.accept)]
        self.sockets: list[socket.socket] = []

    def accept(self) -> None:
        sock = self.listener.accept()[0]
        self.connections += 1
        number = self.connections
        self.sockets.append(sock)
        data = bytearray()
        seen = 0

        def readable() -> None:
            nonlocal seen
            got = sock.recv(65536)
            data.extend(got)
            queries, rest = [], bytes(data)
            while len(rest) >= 2 and len(rest) >= (end := 2 + int.from_bytes(rest[:2], "big")):
                queries.append(rest[2:end])
                rest = rest[end:]
            if not got:
                watcher.cancel()
                return
            if len(queries) > seen:
                seen = len(queries)
                out, hang_up = self.behave(queries, number)
                sock.sendall(out)
                if hang_up:
                    watcher.cancel()
                    sock.close()

        watcher = ae.io(sock, "r", readable)
        self.watchers.append(watcher)

    def __enter__(self) -> TcpServer:
        return self

    def __exit__(self, *_: object) -> None:
        for watcher in self.watchers:
            watcher.cancel()
        for sock in (self.listener, *self.sockets):
            sock.close()


def answer(query: bytes, address: bytes = bytes((192, 0, 2, 1))) -> bytes:
    end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + record


def tcp(endpoint: str, **options: object) -> ae_dns.Resolver:
    return ae_dns.Resolver(servers=[endpoint], tcp=True, **options)  # type: ignore[arg-type]


def ask_all(resolver: ae_dns.Resolver, number: int) -> list[list[str]]:
    found = [resolver.a(f"n{i}.test.") for i in range(number)]
    return [each.recv(RECV) for each in found]


def test_replies_may_come_in_any_order_and_any_pieces() -> None:
    def behave(queries: list[bytes], _: int) -> tuple[bytes, bool]:
        if len(queries) < 5:
            return b"", False
        unexpected = framed(b"") + framed(b"x") + framed(b"\0" * 40)
        return unexpected + b"".join(framed(answer(query)) for query in reversed(queries)), False

    with TcpServer(behave) as server:
        assert ask_all(tcp(server.endpoint), 5) == [["192.0.2.1"]] * 5
        assert server.connections == 1


def test_a_server_that_hangs_up_after_each_reply_is_connected_to_again() -> None:
    def behave(queries: list[bytes], _: int) -> tuple[bytes, bool]:
        return framed(answer(queries[0])), True

    with TcpServer(behave) as server:
        assert ask_all(tcp(server.endpoint), 4) == [["192.0.2.1"]] * 4
        assert server.connections == 4


@pytest.mark.parametrize("reply", ["", "junk", "wrong-question"])
def test_a_server_that_hangs_up_without_a_reply_is_given_up(reply: str) -> None:
    def behave(queries: list[bytes], _: int) -> tuple[bytes, bool]:
        if not reply:
            return b"", True
        wire = queries[0][:2] + b"\x81\x80" + bytes(20)
        if reply == "wrong-question":
            wire = answer(queries[0][:13] + b"X" + queries[0][14:])
        return framed(wire), True

    with TcpServer(behave) as server:
        with pytest.raises(ae_dns.ServerFailed, match="closed the connection"):
            ask_all(tcp(server.endpoint, timeouts=(5, 5)), 1)
        assert server.connections == 2


def test_truncation_over_tcp_is_garbage() -> None:
    def behave(queries: list[bytes], _: int) -> tuple[bytes, bool]:
        wire = answer(queries[-1])
        return framed(wire[:2] + b"\x83" + wire[3:]), False

    with TcpServer(behave) as server:
        with pytest.raises(ae_dns.ServerFailed, match="it is truncated, over TCP"):
            ask_all(tcp(server.endpoint, timeouts=(5,)), 1)


def test_a_silent_connection_is_not_used_again() -> None:
    def behave(queries: list[bytes], number: int) -> tuple[bytes, bool]:
        return (b"" if number == 1 else framed(answer(queries[-1]))), False

    with TcpServer(behave) as server:
        assert ask_all(tcp(server.endpoint, timeouts=(0.05, 5)), 1) == [["192.0.2.1"]]
        assert server.connections == 2


def test_many_queries_fill_the_buffers_and_drain() -> None:
    def behave(queries: list[bytes], _: int) -> tuple[bytes, bool]:
        if len(queries) < 3000:
            return b"", False
        return b"".join(framed(answer(query)) for query in queries), False

    with TcpServer(behave) as server:
        resolver = tcp(server.endpoint, max_outstanding=5000)
        assert ask_all(resolver, 3000) == [["192.0.2.1"]] * 3000
        assert server.connections == 1


def test_no_tcp_after_truncation_is_a_failed_step(server: NameServer) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)

        def readable() -> None:
            query, source = udp.recvfrom(4096)
            reply = query[:2] + b"\x83\x80\0\1\0\0\0\0\0\0" + query[12 : query.index(b"\0", 12) + 5]
            udp.sendto(reply, source)

        watcher = ae.io(udp, "r", readable)
        endpoint = f"127.0.0.1:{udp.getsockname()[1]}"
        resolver = ae_dns.Resolver(servers=[endpoint, server.endpoint])
        assert resolver.a("www.demo.test").recv(RECV) == ADDRESSES
        watcher.cancel()


def test_cancelling_while_connecting_and_while_waiting(server: NameServer) -> None:
    server.script("*", "*", DROP, DROP)
    resolver = tcp(server.endpoint)
    at_once = resolver.a("www.demo.test")
    at_once.cancel()
    for number in (1, 2):
        found = [resolver.a(f"n{i}.test") for i in range(number)]
        while len(server.queries) < number:
            turn: ae.CondVar[None] = ae.CondVar()
            timer = ae.timer(0.01, turn)
            turn.recv(RECV)
            timer.cancel()
        for each in found:
            each.cancel()
    assert resolver.statistics()["outstanding"] == 0


# ------------------------------------------------------------- UDP


def test_late_replies_are_dropped(server: NameServer) -> None:
    """DNS-32: nobody listens on the port of a step that timed out."""
    late: list[Query] = []

    def keep(query: Query) -> list[bytes]:
        late.append(query)
        return []

    server.script("www.demo.test", "A", keep)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.05, 5))
    assert resolver.a("www.demo.test").recv(RECV) == ADDRESSES
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", late[0].source[1]))


def test_an_exhausted_range_of_ports_leaves_the_choice_to_the_kernel(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        monkeypatch.setattr(
            _transport, "_PORTS", range(*(taken.getsockname()[1] + i for i in (0, 1)))
        )
        resolver = ae_dns.Resolver(servers=[server.endpoint])
        assert resolver.a("www.demo.test").recv(RECV) == ADDRESSES
        assert server.queries[0].source[1] != taken.getsockname()[1]


def test_equal_identifiers_on_one_socket_are_avoided(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolls = [b"\0\0\0"] * 2 + [b"\0\0", b"\0\1"]

    class Rigged:
        @staticmethod
        def token_bytes(number: int) -> bytes:
            return rolls.pop(0) if rolls else os.urandom(number)

        @staticmethod
        def randbelow(bound: int) -> int:
            return int.from_bytes(os.urandom(4), "big") % bound

    monkeypatch.setattr(_transport, "secrets", Rigged)
    monkeypatch.setattr(_transport, "POOL", 1)
    resolver = ae_dns.Resolver(servers=[server.endpoint])
    assert ask_all(resolver, 2) == [[], []]
    assert [query.wire[:2] for query in server.queries] == [b"\0\0", b"\0\1"]


def test_a_flood_does_not_starve_the_loop(server: NameServer) -> None:
    """Only so many packets are read per turn; timers and other watchers go on."""
    turns: list[int] = []

    def flood(query: Query) -> list[bytes]:
        return [b"zz" + bytes(30)] * 250

    server.script("www.demo.test", "A", flood)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.2, 5))
    ticking = ae.timer(0.0, lambda: turns.append(1), interval=0.001)
    assert resolver.a("www.demo.test").recv(RECV) == ADDRESSES
    ticking.cancel()
    assert turns
    assert server.asked()[-1] == "www.demo.test A tcp", "and it was answered over TCP"


def test_what_happens_is_the_same_with_truncation_under_sharing(server: NameServer) -> None:
    server.script("*", "*", *[TRUNCATE] * 100)
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=60)
    server.add(*(f"n{i}.test. A 192.0.2.{i}" for i in range(100)))
    assert ask_all(resolver, 100) == [[f"192.0.2.{i}"] for i in range(100)]
    assert sum(query.transport == "tcp" for query in server.queries) == 100


def test_a_thousand_queries_at_once_are_not_lost_at_once(server: NameServer) -> None:
    """Sent in one go they would overflow the buffers, and again at each time-out."""
    server.add("*.w.test. A 127.0.0.9")
    # A time-out that is longer than a busy machine takes for all of them.
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=2000, timeouts=(30,))
    found = [resolver.a(f"n{i}.w.test.") for i in range(2000)]
    assert len([each for each in found if each.recv(60) == ["127.0.0.9"]]) == 2000
    assert resolver.statistics()["sent"] == 2000


def test_delayed_queries_can_be_cancelled(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=2000)
    found = [resolver.a(f"n{i}.test.") for i in range(500)]
    for each in found[:400]:
        each.cancel()
    assert [each.recv(RECV) for each in found[400:]] == [[]] * 100
    assert len(server.queries) == 200
    found = [resolver.a(f"n{i}.test.") for i in range(500)]
    for each in found:
        each.cancel()
    assert resolver.statistics()["outstanding"] == 0


def test_a_callback_may_cancel_waiters_that_come_later(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    """Several wait for one exchange; the first to hear cancels one that had more to ask."""
    server.add("far.demo.test. CNAME away.other.test.")
    first = resolver.resolve("far.demo.test.", "A", accept=["CNAME"])
    second = resolver.a("far.demo.test.")
    third = resolver.a("far.demo.test.")
    fourth = resolver.a("far.demo.test.")
    first.on_ready(lambda _: second.cancel())
    first.on_ready(lambda _: fourth.cancel())
    assert first.recv(RECV)[0].to_text() == "away.other.test."
    assert third.recv(RECV) == []
    assert second.cancelled
    assert fourth.cancelled
    assert server.asked() == ["far.demo.test A udp", "away.other.test A udp"]


def test_time_outs_of_several_end_together_though_one_cancels_another(server: NameServer) -> None:
    server.script("*", "*", *[DROP] * 6)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.05,))
    found = [resolver.a(f"n{i}.test.") for i in range(3)]
    found[0].on_ready(lambda _: found[1].cancel())
    for i in (0, 2):
        with pytest.raises(ae_dns.QueryTimedOut):
            found[i].recv(RECV)
    assert found[1].cancelled
    assert resolver.statistics()["outstanding"] == 0


def test_a_refused_port_fails_everything_on_it_and_callbacks_may_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One ICMP error for many queries; what a callback cancels meanwhile is left alone."""
    monkeypatch.setattr(_transport, "POOL", 1)
    for tcp_only in (False, True):
        with NameServer() as gone:
            endpoint = gone.endpoint
        resolver = ae_dns.Resolver(servers=[endpoint], timeouts=(5,), tcp=tcp_only)
        found = [resolver.a(f"n{i}.test.") for i in range(4)]
        found[0].on_ready(lambda _, found=found: found[2].cancel())  # type: ignore[misc]
        for i in (0, 1, 3):
            with pytest.raises(ae_dns.ServerFailed, match="no server could be asked"):
                found[i].recv(RECV)
        assert found[2].cancelled
        assert resolver.statistics()["outstanding"] == 0


def test_a_used_up_socket_that_times_out_is_closed(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "POOL", 1)
    monkeypatch.setattr(_transport, "USES", 2)
    server.script("*", "*", *[DROP] * 2)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.05, 5))
    assert ask_all(resolver, 4) == [[]] * 4
    ports = [query.source[1] for query in server.queries]
    assert max(ports.count(port) for port in ports) == 2


def test_where_no_watcher_can_be_made_no_socket_stays_open(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **options: object) -> None:
        raise RuntimeError("no watchers today")

    resolver = ae_dns.Resolver(servers=[server.endpoint])
    with monkeypatch.context() as patch:
        patch.setattr(_transport.ae, "io", refuse)  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            resolver.a("www.demo.test")
    assert resolver.a("www.demo.test").recv(RECV) == ADDRESSES, "the slot was not lost"
    assert resolver.statistics()["outstanding"] == 0


def test_a_slow_reader_makes_us_wait_to_write() -> None:
    """The server reads nothing until our buffer is full; then everything goes out."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.setblocking(False)
    accepted: list[socket.socket] = []
    watchers: list[ae.Watcher] = []
    data = bytearray()

    def readable() -> None:
        nonlocal data
        data += accepted[0].recv(65536)
        out = bytearray()
        while len(data) >= 2 and len(data) >= (end := 2 + int.from_bytes(data[:2], "big")):
            out += framed(answer(bytes(data[2:end])))
            del data[:end]
        accepted[0].setblocking(True)
        accepted[0].sendall(out)

    def accept() -> None:
        accepted.append(listener.accept()[0])
        watchers.append(ae.timer(0.05, start))

    def start() -> None:
        watchers.append(ae.io(accepted[0], "r", readable))

    watchers.append(ae.io(listener, "r", accept))
    endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
    resolver = tcp(endpoint, max_outstanding=100_000, timeouts=(60,))
    suffix = "x" * 60 + "." + "y" * 60 + "." + "z" * 60
    found = [resolver.a(f"n{i}.{suffix}.test.") for i in range(20_000)]
    assert [each.recv(60) for each in found] == [["192.0.2.1"]] * 20_000
    for watcher in watchers:
        watcher.cancel()
    for sock in (listener, *accepted):
        sock.close()


# ------------------------------------------------------------- source ports


def ports(server: NameServer) -> list[int]:
    return [query.source[1] for query in server.queries]


def turn(server: NameServer, count: int) -> None:
    """Run the loop until the server has seen *count* queries."""
    while len(server.queries) < count:
        ae.sleep(0.001).recv()


def test_up_to_sixteen_queries_in_flight_have_a_port_each_used_once(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=16)
    for _ in range(3):
        assert ask_all(resolver, 16) == [[]] * 16
    server.script("*", "*", *[DROP] * 16)
    found = [resolver.a(f"m{i}.test.") for i in range(16)]
    turn(server, 64)
    assert len(set(ports(server)[48:])) == 16
    for each in found:
        each.cancel()


def test_a_shared_socket_is_replaced_after_a_hundred_queries(server: NameServer) -> None:
    server.add("*.w.test. A 127.0.0.9")
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=50, timeouts=(30,))
    found = [resolver.a(f"n{i}.w.test.") for i in range(3000)]
    for each in found:
        assert each.recv(60) == ["127.0.0.9"]
    used = Counter(ports(server))
    assert max(used.values()) <= 100
    assert len(used) >= 30


def test_a_shared_socket_is_replaced_after_thirty_seconds(server: NameServer) -> None:
    server.script("*", "*", *[DROP] * 99)
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=99, timeouts=(999,))
    found = [resolver.a(f"n{i}.test.") for i in range(40)]
    turn(server, 40)
    old = set(ports(server))
    assert len(old) == 16
    engine = resolver._here()
    clock = engine.clock
    engine.clock = lambda: clock() + 30
    found += [resolver.a(f"m{i}.test.") for i in range(40)]
    turn(server, 80)
    young = set(ports(server)[40:])
    assert not young & old
    assert len(young) > 1
    for each in found:
        each.cancel()
    assert resolver.statistics()["outstanding"] == 0
