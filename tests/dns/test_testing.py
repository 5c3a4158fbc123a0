"""The scripted name server itself: what it says, and what it does on request."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest

import ae_core as ae
import ae_dns
from ae_dns.testing import (
    DROP,
    TRUNCATE,
    NameServer,
    Query,
    Step,
    _Stream,
    parse_records,
    rcode,
)

RECV = 20


class Client:
    """A plain UDP client that asks as dnspython would."""

    def __init__(self, server: NameServer) -> None:
        self.sock = socket.socket(type=socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.server = server

    def send(self, wire: bytes) -> None:
        self.sock.sendto(wire, self.server.address)

    def receive(self, seconds: float = RECV) -> dns.message.Message:
        arrived: ae.CondVar[None] = ae.CondVar()
        watcher = ae.io(self.sock, "r", arrived)
        try:
            arrived.recv(seconds)
        finally:
            watcher.cancel()
        return dns.message.from_wire(self.sock.recv(65535))

    def ask(self, name: str, rdtype: str = "A") -> dns.message.Message:
        self.send(dns.message.make_query(name, rdtype).to_wire())
        return self.receive()


@pytest.fixture
def client(server: NameServer) -> Iterator[Client]:
    made = Client(server)
    yield made
    made.sock.close()


def test_it_answers_from_its_records_in_order(client: Client) -> None:
    reply = client.ask("WWW.demo.test")
    assert [rdata.to_text() for rdata in reply.answer[0]] == ["192.0.2.80", "192.0.2.81"]
    assert reply.rcode() == dns.rcode.NOERROR
    assert not reply.authority


def test_what_it_does_not_have_comes_with_an_soa(client: Client) -> None:
    for name, code in (("nothing.test", 3), ("six.demo.test", 0), ("_tcp.demo.test", 0)):
        reply = client.ask(name)
        assert (reply.rcode(), reply.answer) == (code, [])
        assert reply.authority[0].to_text().split()[3] == "SOA"


def test_records_are_added_and_merged(client: Client, server: NameServer) -> None:
    server.add("www.demo.test. A 192.0.2.82\nnew.demo.test. 5 IN A 192.0.2.90", "")
    assert len(client.ask("www.demo.test").answer[0]) == 3
    assert client.ask("new.demo.test").answer[0].ttl == 5


def test_wildcards(client: Client, server: NameServer) -> None:
    server.add("*.wild.test. A 192.0.2.1", "; a comment")
    assert client.ask("deep.down.wild.test").answer[0].name.to_text() == "deep.down.wild.test."
    assert client.ask("other.test").rcode() == 3


def test_aliases_may_loop(client: Client, server: NameServer) -> None:
    server.add("a.test. CNAME b.test.", "b.test. CNAME a.test.")
    assert len(client.ask("a.test").answer) == 2


@pytest.mark.parametrize("line", ["x.test.", "x.test. A", "x.test. A 1.2.3", "x.test. NOSUCH 1"])
def test_lines_that_are_no_records_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="record as in a zone file"):
        NameServer(line)


def test_records_with_class_and_ttl() -> None:
    first, second = parse_records(["x.test. 7 CH TXT hi", "x.test. IN A 192.0.2.1"])
    assert (first.ttl, int(first.rdclass), second.ttl) == (7, 3, 60)


def test_steps_of_all_kinds(client: Client, server: NameServer) -> None:
    raw = dns.message.make_response(dns.message.make_query("raw.test", "A"))
    seen: list[str] = []

    def note(query: Query) -> Step | None:
        seen.append(query.name)
        return None

    server.script("www.demo.test", "A", raw.to_wire(), raw, "www.demo.test. A 192.0.2.7")
    server.script("www.demo.test", "*", rcode("REFUSED"), TRUNCATE, note)
    server.script("*", "A", lambda query: [query.reply(rcode=5), query.reply(rcode=4)])
    assert client.ask("www.demo.test").id == raw.id
    assert client.ask("www.demo.test").id == raw.id
    assert client.ask("www.demo.test").answer[0][0].to_text() == "192.0.2.7"
    assert client.ask("www.demo.test").rcode() == 5
    assert client.ask("www.demo.test").flags & dns.flags.TC
    assert len(client.ask("www.demo.test").answer) == 1
    assert seen == ["www.demo.test"]
    assert client.ask("other.test").rcode() == 5
    assert client.receive().rcode() == 4
    assert server.asked()[-1] == "other.test A udp"


def test_a_dropped_query_has_no_reply(client: Client, server: NameServer) -> None:
    server.script("*", "*", DROP)
    with pytest.raises(TimeoutError):
        client.send(dns.message.make_query("www.demo.test", "A").to_wire())
        client.receive(0.05)
    assert client.ask("www.demo.test").answer


def test_garbage_is_no_query(client: Client, server: NameServer) -> None:
    client.send(b"")
    client.send(b"\xff" * 40)
    client.send(dns.message.Message().to_wire())
    assert client.ask("www.demo.test").answer
    assert len(server.queries) == 1


def test_a_step_that_is_none_is_refused(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, _watcher: errors.append(error))
    server.script("*", "*", 1.5)  # type: ignore[arg-type]
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.05,))
    with pytest.raises(ae_dns.QueryTimedOut):
        resolver.a("www.demo.test").recv(RECV)
    assert "step of a script, got 1.5" in str(errors[0])


def test_big_replies_over_tcp_and_pieces() -> None:
    records = [f"big.test. TXT {'x' * 200}{i}" for i in range(200)]
    with NameServer(records) as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint], tcp=True)
        found = [resolver.resolve("big.test", "TXT") for _ in range(3)]
        assert [len(each.recv(RECV)) for each in found] == [200] * 3


def test_queries_over_tcp_may_come_in_pieces(server: NameServer) -> None:
    query = dns.message.make_query("www.demo.test", "A").to_wire()
    with socket.create_connection(server.address) as sock:
        sock.setblocking(False)
        got = bytearray()
        done: ae.CondVar[None] = ae.CondVar()

        def readable() -> None:
            got.extend(sock.recv(4096))
            if len(got) >= 2 and len(got) >= 2 + int.from_bytes(got[:2], "big"):
                done.send()

        watcher = ae.io(sock, "r", readable)
        for octet in len(query).to_bytes(2, "big") + query:
            sock.send(bytes((octet,)))
            turn: ae.CondVar[None] = ae.CondVar()
            ae.postpone(turn)
            turn.recv(RECV)
        done.recv(RECV)
        watcher.cancel()
    assert len(dns.message.from_wire(bytes(got[2:])).answer[0]) == 2


def test_a_client_that_reads_nothing_does_not_stop_the_others(client: Client) -> None:
    server = client.server
    server.add(*(f"big.test. TXT {'x' * 250}{i}" for i in range(200)))
    query = dns.message.make_query("big.test", "TXT").to_wire()
    with socket.create_connection(server.address) as lazy:
        for _ in range(60):
            lazy.sendall(len(query).to_bytes(2, "big") + query)
        while sum(each.transport == "tcp" for each in server.queries) < 60:
            assert client.ask("www.demo.test").answer
    assert client.ask("www.demo.test").answer


def test_forgetting_it_ends_it() -> None:
    server = NameServer("x.test. A 192.0.2.1")
    address = server.address
    del server
    gc.collect()
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(address)
        tcp.bind(address)


def test_a_port_that_is_taken_is_an_error(server: NameServer) -> None:
    with pytest.raises(OSError):
        NameServer(port=server.address[1])


class Failing:
    """A socket all of whose calls fail."""

    def __init__(self, closes_after: int = 1) -> None:
        self.calls = 0
        self.closes_after = closes_after

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        return None

    def accept(self) -> None:
        raise OSError("injected")

    def recvfrom(self, _: int) -> tuple[bytes, tuple[str, int]]:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionResetError("an ICMP error about an earlier reply")
        return dns.message.make_query("www.demo.test", "A").to_wire(), ("127.0.0.1", 9)

    def sendto(self, *_: object) -> None:
        raise OSError("injected")


def test_errors_of_its_sockets_do_not_end_it(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint])
    with monkeypatch.context() as patch:
        patch.setattr(server, "_udp", Failing())
        patch.setattr(server, "_tcp", Failing())
        server._on_datagram()
        server._on_connection()
    assert len(server.queries) == 1
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]


def test_a_flood_of_datagrams_does_not_keep_it_from_everything_else(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Failing):
        def recvfrom(self, _: int) -> tuple[bytes, tuple[str, int]]:
            self.calls += 1
            return b"no query", ("127.0.0.1", 9)

        def fileno(self) -> int:
            return 99

    flood = Endless()
    with monkeypatch.context() as patch:
        patch.setattr(server, "_udp", flood)
        server._on_datagram()
    assert flood.calls == 256


def test_a_connection_that_was_called_readable_and_is_not_stays_open(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], tcp=True)
    readable = _Stream._on_readable

    def twice(stream: _Stream) -> None:
        readable(stream)
        readable(stream)  # nothing is left to be read

    monkeypatch.setattr(_Stream, "_on_readable", twice)
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert server.asked() == ["www.demo.test A tcp"]


def test_a_client_that_reads_late_gets_everything(client: Client) -> None:
    server = client.server
    server.add(*(f"big.test. TXT {'x' * 250}{i}" for i in range(200)))
    query = dns.message.make_query("big.test", "TXT").to_wire()
    with socket.create_connection(server.address) as late:
        late.setblocking(False)
        while not server._streams:
            assert client.ask("www.demo.test").answer
        for stream in server._streams:
            stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for count in (6, 12):
            for _ in range(6):
                late.send(len(query).to_bytes(2, "big") + query)
            while sum(each.transport == "tcp" for each in server.queries) < count:
                assert client.ask("www.demo.test").answer
        got = bytearray()
        arrived: ae.CondVar[None] = ae.CondVar()

        def readable() -> None:
            got.extend(late.recv(1 << 20))
            size = 2 + int.from_bytes(got[:2], "big")
            if len(got) == 12 * size:
                arrived.send()

        watcher = ae.io(late, "r", readable)
        arrived.recv(RECV)
        watcher.cancel()
    assert client.ask("www.demo.test").answer


def test_where_udp_has_not_the_port_that_tcp_was_given_it_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[int] = []

    class Socket(socket.socket):
        def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            if self.type == socket.SOCK_DGRAM and len(refused) < 2:
                refused.append(address[1])
                raise OSError("in use")
            super().bind(address)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Socket)
        server = NameServer("x.test. A 192.0.2.1")
    with server:
        assert len(refused) == 2
        resolver = ae_dns.Resolver(servers=[server.endpoint])
        assert resolver.a("x.test").recv(RECV) == ["192.0.2.1"]


def test_a_query_cannot_be_changed(server: NameServer, resolver: ae_dns.Resolver) -> None:
    resolver.a("www.demo.test").recv(RECV)
    with pytest.raises(AttributeError):
        server.queries[0].name = "other.test"  # type: ignore[misc]


def test_where_no_watcher_can_be_made_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no watchers today")

    with monkeypatch.context() as patch:
        patch.setattr(ae, "io", refuse)
        with pytest.raises(RuntimeError):
            NameServer()


def test_it_ends_with_replies_unsent_and_connections_reset(client: Client) -> None:
    server = client.server
    server.add(*(f"big.test. TXT {'x' * 250}{i}" for i in range(200)))
    query = dns.message.make_query("big.test", "TXT").to_wire()
    for reset in (True, False):
        asked = len(server.queries)
        with socket.create_connection(server.address) as lazy:
            while not server._streams:
                assert client.ask("www.demo.test").answer
            for stream in server._streams:
                stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for _ in range(9):
                lazy.sendall(len(query).to_bytes(2, "big") + query)
            while sum(each.transport == "tcp" for each in server.queries[asked:]) < 9:
                assert client.ask("www.demo.test").answer
            if reset:
                linger = b"\1\0\0\0\0\0\0\0"
                lazy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                lazy.close()
                assert client.ask("www.demo.test").answer
            else:
                server.cancel()
