"""The seam to ae_socket: hosts file, localhost, SRV, both families, order."""

from __future__ import annotations

import gc
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_dns
import ae_socket
from ae_core.abc import Backend
from ae_dns import _getaddrinfo
from ae_dns.testing import DROP, NameServer, Query, Step, rcode
from ae_socket import ThreadResolver

RECV = 10


@pytest.fixture(autouse=True)
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    path.write_text("")
    monkeypatch.setenv("AE_HOSTS", str(path))
    monkeypatch.delenv("AE_PROTOCOLS", raising=False)
    return path


def texts(infos: list[ae_socket.AddressInfo]) -> list[str]:
    return [f"{info.sockaddr[0]} {info.sockaddr[1]}" for info in infos]


def ask(resolver: ae_dns.Resolver, host: str, service: str | int = 80, **options: Any) -> list[str]:
    found = resolver.getaddrinfo(host, service, **options)
    assert not found.ready
    return texts(found.recv(RECV))


def test_both_families_are_asked_for_at_once(resolver: ae_dns.Resolver, server: NameServer) -> None:
    found = ask(resolver, "www.demo.test")
    assert sorted(found) == ["192.0.2.80 80", "192.0.2.81 80", "2001:db8::80 80"]
    assert sorted(server.asked()) == ["www.demo.test A udp", "www.demo.test AAAA udp"]


def test_the_parts_of_an_address_info(resolver: ae_dns.Resolver) -> None:
    (info,) = resolver.getaddrinfo("six.demo.test", 53, type="dgram").recv(RECV)
    assert info == ae_socket.AddressInfo(
        socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, ("2001:db8::6", 53, 0, 0)
    )
    info = resolver.getaddrinfo("www.demo.test", 80, family=4).recv(RECV)[0]
    assert info == ae_socket.AddressInfo(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("192.0.2.80", 80)
    )


@pytest.mark.parametrize(("family", "rdtype"), [(4, "A"), (6, "AAAA")])
def test_one_family_is_one_query(
    resolver: ae_dns.Resolver, server: NameServer, family: int, rdtype: str
) -> None:
    assert ask(resolver, "www.demo.test", family=family)
    assert server.asked() == [f"www.demo.test {rdtype} udp"]


def test_families_that_are_not_allowed_are_not_used(
    resolver: ae_dns.Resolver, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_PROTOCOLS", "ipv6")
    assert ask(resolver, "www.demo.test") == ["2001:db8::80 80"]
    assert ask(resolver, "www.demo.test", family=4) == []
    assert server.asked() == ["www.demo.test AAAA udp"]


def test_protocols_order_families(
    resolver: ae_dns.Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    v4, v6 = ["192.0.2.80 80", "192.0.2.81 80"], ["2001:db8::80 80"]
    monkeypatch.setenv("AE_PROTOCOLS", "ipv6,ipv4")
    assert ask(resolver, "www.demo.test") == v6 + v4
    monkeypatch.setenv("AE_PROTOCOLS", "ipv4,ipv6")
    assert ask(resolver, "www.demo.test") == v4 + v6


@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        pytest.param("192.0.2.7", 0, ["192.0.2.7 80"], id="ipv4"),
        pytest.param("2001:db8::7", 0, ["2001:db8::7 80"], id="ipv6"),
        pytest.param("192.0.2.7", 6, [], id="mismatch"),
        pytest.param("localhost", 4, ["127.0.0.1 80"], id="localhost"),
        pytest.param("a.LocalHost.", 6, ["::1 80"], id="below-localhost"),
    ],
)
def test_what_is_known_asks_nobody(
    resolver: ae_dns.Resolver, server: NameServer, host: str, family: int, expected: list[str]
) -> None:
    assert ask(resolver, host, family=family) == expected
    assert server.queries == []


# ------------------------------------------------------------- hosts file


def test_a81_the_hosts_file_names_a_host_on_the_first_attempt(
    resolver: ae_dns.Resolver, server: NameServer, hosts: Path
) -> None:
    hosts.write_text("127.9.9.9 test.invalid.  alias # not this\n")
    for _ in range(2):
        assert ask(resolver, "Test.Invalid") == ["127.9.9.9 80"]
    assert ask(resolver, "alias.") == ["127.9.9.9 80"]
    assert server.queries == []


def test_the_hosts_file_is_read_again_when_it_changes(
    resolver: ae_dns.Resolver, hosts: Path
) -> None:
    hosts.write_text("127.9.9.9 here.test\n")
    assert ask(resolver, "here.test") == ["127.9.9.9 80"]
    hosts.write_text("127.9.9.10 here.test\n::1 here.test\n")
    os.utime(hosts, ns=(1, 1))
    assert sorted(ask(resolver, "here.test")) == ["127.9.9.10 80", "::1 80"]


def test_the_hosts_file_may_change_twice_within_a_tick_of_the_clock(
    resolver: ae_dns.Resolver, hosts: Path
) -> None:
    stamp = time.time_ns()
    for address in ("127.9.9.1", "127.9.9.2"):
        hosts.write_text(f"{address} here.test\n")
        os.utime(hosts, ns=(stamp, stamp))
        assert ask(resolver, "here.test") == [f"{address} 80"]


def test_a_line_of_the_hosts_file_that_makes_no_sense_hides_no_other(
    resolver: ae_dns.Resolver, hosts: Path
) -> None:
    for line in ("127.9.9.8 a..b", "127.9.9.8 \u2100.test", "x here.test", "fe80::1%nosuch", "\0"):
        hosts.write_text(f"{line}\n127.9.9.9 here.test\n{line} here.test\n", encoding="utf-8")
        assert "127.9.9.9 80" in ask(resolver, "here.test", family=4)
        system = ThreadResolver().getaddrinfo("here.test", 80).recv(RECV)
        assert ("127.9.9.9", 80) in [info.sockaddr for info in system]


def test_a_family_that_the_hosts_file_does_not_have_is_asked_for(
    resolver: ae_dns.Resolver, server: NameServer, hosts: Path
) -> None:
    hosts.write_text("127.9.9.9 www.demo.test\n")
    assert ask(resolver, "www.demo.test") == ["127.9.9.9 80"]
    assert server.queries == []
    assert ask(resolver, "www.demo.test", family=6) == ["2001:db8::80 80"]


def test_targets_of_srv_records_may_be_in_the_hosts_file(
    resolver: ae_dns.Resolver, hosts: Path
) -> None:
    hosts.write_text("127.9.9.9 www.demo.test\n")
    assert ask(resolver, "demo.test", "xmpp-client=1", family=4) == ["127.9.9.9 5223"]


def test_scopes_in_the_hosts_file(resolver: ae_dns.Resolver, hosts: Path) -> None:
    index, name = socket.if_nameindex()[0]
    hosts.write_text(f"fe80::1%{name} one.test\nfe80::1%{index} two.test\nfe80::1%nosuch x.test\n")
    for host, scope in (("one.test", index), ("two.test", index), ("x.test", 0)):
        (info,) = resolver.getaddrinfo(host, 80).recv(RECV)
        assert info.sockaddr == ("fe80::1", 80, 0, scope)


def test_lookups_do_not_read_the_hosts_file(resolver: ae_dns.Resolver, hosts: Path) -> None:
    hosts.write_text("127.9.9.9 www.demo.test\n")
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]


# ------------------------------------------------------------- services


def test_names_of_services_ask_for_srv_first(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.add("late.demo.test. A 192.0.2.9")
    found = ask(resolver, "demo.test", "xmpp-client=5222", family=4)
    assert found == ["192.0.2.80 5223", "192.0.2.81 5223", "192.0.2.9 5222"]
    assert server.asked() == [
        "_xmpp-client._tcp.demo.test SRV udp",
        "www.demo.test A udp",
        "late.demo.test A udp",
    ]


def test_without_srv_records_it_is_the_host_and_the_port(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    assert ask(resolver, "www.demo.test", "http", family=4) == ["192.0.2.80 80", "192.0.2.81 80"]
    assert ask(resolver, "www.demo.test", "odd=81", family=4)[0] == "192.0.2.80 81"
    assert server.asked()[0] == "_http._tcp.www.demo.test SRV udp"
    ask(resolver, "www.demo.test", "80", family=4)
    ask(resolver, "www.demo.test", 80, family=4)
    assert not any("SRV" in query for query in server.asked()[-2:])


def test_datagrams_have_srv_records_of_their_own(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    server.add("_odd._udp.demo.test. SRV 0 0 99 www.demo.test.")
    found = ask(resolver, "demo.test", "odd=1", type="dgram", family=4)
    assert found == ["192.0.2.80 99", "192.0.2.81 99"]


def test_a_root_target_says_there_is_no_such_service(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    assert ask(resolver, "demo.test", "gone=7") == []
    assert server.asked() == ["_gone._tcp.demo.test SRV udp"]


def test_unknown_services_are_an_error(resolver: ae_dns.Resolver, server: NameServer) -> None:
    for service in ("no-such-service", "x=", "70000", -1):
        found = resolver.getaddrinfo("www.demo.test", service)
        assert not found.ready
        with pytest.raises(ValueError):
            found.recv(RECV)
    assert server.queries == []


# ------------------------------------------------------------- one family keeps silent

LONG = 60.0  # a time-out that nobody waits for


@pytest.mark.parametrize(("silent", "host"), [("AAAA", "192.0.2.80"), ("A", "2001:db8::80")])
def test_a_family_that_keeps_silent_costs_a_moment(
    backend: Backend, silent: str, host: str
) -> None:
    async def main() -> None:
        with NameServer(f"www.demo.test. {'A' if '.' in host else 'AAAA'} {host}") as server:
            server.script("www.demo.test", silent, *[DROP] * 9)
            resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,))
            started = ae.time()
            [info] = await resolver.getaddrinfo("www.demo.test.", 80)
            assert ae.time() - started >= _getaddrinfo.RESOLUTION_DELAY
            assert info.sockaddr[0] == host
            assert resolver.statistics()["outstanding"] == 0

    ae.run(main())


def test_connecting_does_not_wait_for_a_family_that_keeps_silent(backend: Backend) -> None:
    async def main() -> None:
        with NameServer("v4.demo.test. A 127.0.0.1") as server:
            server.script("v4.demo.test", "AAAA", *[DROP] * 9)
            ae_dns.set_resolver(ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,)))
            ae_dns.install()
            accepted: list[socket.socket] = []
            listener = ae_socket.tcp_server("127.0.0.1", 0, lambda sock, *_: accepted.append(sock))
            for service in (listener.address[1], f"odd={listener.address[1]}"):
                infos = await ae_socket.resolve("v4.demo.test", service)
                assert [info.sockaddr[0] for info in infos] == ["127.0.0.1"]
                (await ae_socket.tcp_connect("v4.demo.test", service)).close()
            listener.cancel()
            for sock in accepted:
                sock.close()

    ae.run(main())


def test_no_clock_starts_with_a_family_that_is_empty_or_failed(server: NameServer) -> None:
    for step in (None, rcode("REFUSED")):
        server.script("only4.demo.test", "AAAA", *[step or (lambda _: None)] * 2)
        server.script("only4.demo.test", "A", DROP)
        server.add("only4.demo.test. A 192.0.2.4")
        seconds = 4 * _getaddrinfo.RESOLUTION_DELAY
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(seconds, LONG))
        assert ask(resolver, "only4.demo.test.") == ["192.0.2.4 80"]


def test_a_family_that_comes_within_the_moment_counts(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    seen: list[object] = []

    def later(query: Query) -> Step:
        # The reply to the other question is on its way already, and arrives first.
        seen.append(ae.timer(0.001, lambda: reply(query)))
        return DROP

    def reply(query: Query) -> None:
        records = query.reply("www.demo.test. AAAA 2001:db8::80")
        server._udp.sendto(records.to_wire(), query.source)

    server.script("www.demo.test", "AAAA", later)
    found = ask(resolver, "www.demo.test")
    assert sorted(found) == ["192.0.2.80 80", "192.0.2.81 80", "2001:db8::80 80"]


def test_a_silent_family_does_not_hold_up_a_name_of_the_search_list(server: NameServer) -> None:
    server.script("www.demo.test", "AAAA", *[DROP] * 9)
    resolver = ae_dns.Resolver(
        servers=[server.endpoint], timeouts=(LONG,), search=["none.test", "demo.test"]
    )
    assert ask(resolver, "www") == ["192.0.2.80 80", "192.0.2.81 80"]


def test_families_asked_one_after_the_other_have_the_same_moment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: NameServer
) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {server.endpoint}\noptions single-request\n")
    monkeypatch.setenv("AE_RESOLV_CONF", str(conf))
    server.script("www.demo.test", "AAAA", *[DROP] * 9)
    resolver = ae_dns.Resolver(timeouts=(LONG,))
    assert ask(resolver, "www.demo.test.") == ["192.0.2.80 80", "192.0.2.81 80"]


@pytest.mark.parametrize("where", ["on_all", "on_one", "try_next", "texts"])
def test_what_goes_wrong_inside_is_the_outcome(
    resolver: ae_dns.Resolver, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def surprise(*_: object) -> None:
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(_getaddrinfo._HostLookup, where, surprise)
    for service in (80, "xmpp-client=1"):
        for host in ("www.demo.test", "demo.test"):
            with pytest.raises(RuntimeError, match="nobody"):
                resolver.getaddrinfo(host, service).recv(RECV)
    monkeypatch.setattr(_getaddrinfo._hosts, "addresses", surprise)
    with pytest.raises(RuntimeError, match="nobody"):
        resolver.getaddrinfo("www.demo.test", 80).recv(RECV)


def test_what_raises_after_the_outcome_does_not_take_its_place(
    resolver: ae_dns.Resolver,
) -> None:
    lookup = _getaddrinfo._HostLookup(resolver, "www.demo.test.", [4], lambda _: [])

    def step() -> None:
        lookup.result.send([])
        raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late"):
        lookup.go_on(step)
    assert lookup.result.recv(RECV) == []


# ------------------------------------------------------------- failures


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
def test_a_path_is_the_address_of_a_unix_socket(resolver: ae_dns.Resolver) -> None:
    [info] = resolver.getaddrinfo("unix/", "/tmp/no-such-socket").recv(RECV)
    assert (info.family, info.sockaddr) == (socket.AF_UNIX, "/tmp/no-such-socket")


def test_missing_hosts_raise(resolver: ae_dns.Resolver) -> None:
    with pytest.raises(ae_dns.NoSuchName):
        ask(resolver, "nothing.test")
    with pytest.raises(ae_dns.NoData):
        ask(resolver, "demo.test")
    with pytest.raises(ae_dns.ResolveError, match="empty label"):
        ask(resolver, "a..b")


def test_one_family_is_enough(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.script("www.demo.test", "AAAA", *[rcode("SERVFAIL")] * 3)
    assert ask(resolver, "www.demo.test") == ["192.0.2.80 80", "192.0.2.81 80"]


def test_silence_is_reported_as_such(server: NameServer) -> None:
    server.script("*", "*", *[DROP] * 9)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.02,), search=["a", "b"])
    with pytest.raises(ae_dns.QueryTimedOut):
        ask(resolver, "www")
    assert {query.name for query in server.queries} == {"www.a"}


def test_both_families_are_of_one_host_of_the_search_list() -> None:
    records = "h.one.test. AAAA 2001:db8::1\nh.two.test. A 192.0.2.2"
    with NameServer(records) as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint], search=["one.test", "two.test"])
        assert ask(resolver, "h") == ["2001:db8::1 80"]


def test_bad_arguments_raise_at_once(resolver: ae_dns.Resolver) -> None:
    with pytest.raises(TypeError):
        resolver.getaddrinfo(5, 80)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        resolver.getaddrinfo("x", 80, family=5)
    with pytest.raises(ValueError):
        resolver.getaddrinfo("x", 80, type="raw")  # type: ignore[arg-type]


def test_a_cancelled_question_asks_no_more(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.script("*", "*", *[DROP] * 9)
    for service in (80, "http"):
        found = resolver.getaddrinfo("www.demo.test", service)
        turn = ae.CondVar[None]()
        ae.postpone(partial(ae.postpone, turn))
        turn.recv(RECV)
        found.cancel()
        with pytest.raises(ae.CancelledError):
            found.recv()
        assert resolver.statistics()["outstanding"] == 0


def test_cancelling_in_every_turn(resolver: ae_dns.Resolver, server: NameServer) -> None:
    for service in (80, "xmpp-client=1"):
        for turns in range(12):
            found = resolver.getaddrinfo("demo.test", service)
            for _ in range(turns):
                turn: ae.CondVar[None] = ae.CondVar()
                timer = ae.timer(0, turn)
                turn.recv(RECV)
                timer.cancel()
            found.cancel()
            assert resolver.statistics()["outstanding"] == 0


# ------------------------------------------------------------- options, .local


def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, text: str) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {endpoint}\nsearch .\noptions {text}\n")
    monkeypatch.setenv("AE_RESOLV_CONF", str(path))
    monkeypatch.delenv("RES_OPTIONS", raising=False)
    monkeypatch.delenv("LOCALDOMAIN", raising=False)


def test_no_aaaa(server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options(tmp_path, monkeypatch, server.endpoint, "no-aaaa")
    assert ask(ae_dns.Resolver(), "www.demo.test") == ["192.0.2.80 80", "192.0.2.81 80"]
    assert server.asked() == ["www.demo.test A udp"]


def test_single_request(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options(tmp_path, monkeypatch, server.endpoint, "single-request")
    resolver = ae_dns.Resolver()
    outstanding = []

    def note(_: object) -> None:
        outstanding.append(resolver.statistics()["outstanding"])

    server.script("*", "*", note, note)
    assert len(ask(resolver, "www.demo.test")) == 3
    assert server.asked() == ["www.demo.test A udp", "www.demo.test AAAA udp"]
    assert outstanding == [1, 1]


def test_use_vc_and_trust_ad(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options(tmp_path, monkeypatch, server.endpoint, "use-vc trust-ad")
    assert len(ask(ae_dns.Resolver(), "www.demo.test", family=4)) == 2
    assert server.asked() == ["www.demo.test A tcp"]
    assert server.queries[0].wire[3] & 0x20


def test_rotate_spreads_queries(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NameServer("x.test. A 192.0.2.1") as other:
        options(tmp_path, monkeypatch, f"{other.endpoint}\nnameserver {server.endpoint}", "rotate")
        resolver = ae_dns.Resolver()
        for _ in range(6):
            resolver.a("x.test").recv(RECV)
        assert (len(other.queries), len(server.queries)) == (3, 3)


def test_edns_can_be_turned_off(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_EDNS0", "0")
    ae_dns.Resolver(servers=[server.endpoint]).a("www.demo.test").recv(RECV)
    monkeypatch.delenv("AE_EDNS0")
    ae_dns.Resolver(servers=[server.endpoint], edns=False).a("www.demo.test").recv(RECV)
    ae_dns.Resolver(servers=[server.endpoint]).a("www.demo.test").recv(RECV)
    assert [query.message.edns for query in server.queries] == [-1, -1, 0]
    assert server.queries[2].message.payload == 1232


def test_local_names_are_the_systems_affair(
    resolver: ae_dns.Resolver, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class System:
        def getaddrinfo(self, *arguments: Any, **options: Any) -> ae.CondVar[Any]:
            found: ae.CondVar[Any] = ae.CondVar()
            info = ae_socket.AddressInfo(2, 1, 6, ("192.0.2.99", arguments[1]))
            ae.postpone(lambda: found.send([info]))
            return found

    monkeypatch.setattr(_getaddrinfo, "_system", System())
    assert ask(resolver, "printer.local") == ["192.0.2.99 80"]
    assert ask(resolver, "Printer.LOCAL.", "http", family=4) == ["192.0.2.99 80"]
    assert server.queries == []


# ------------------------------------------------------------- through ae_socket


def test_installed_it_connects_by_name(server: NameServer, resolver: ae_dns.Resolver) -> None:
    server.add("here.demo.test. A 127.0.0.1")
    ae_dns.set_resolver(resolver)
    ae_dns.install()
    accepted: list[socket.socket] = []
    listener = ae_socket.tcp_server("127.0.0.1", 0, lambda sock, *_: accepted.append(sock))
    sock = ae_socket.tcp_connect("here.demo.test", listener.address[1]).recv(RECV)
    assert sock.getpeername()[0] == "127.0.0.1"
    sock.close()
    listener.cancel()
    for each in accepted:
        each.close()
    assert "here.demo.test A udp" in server.asked()


def test_the_entry_point_gives_the_shared_resolver(
    resolver: ae_dns.Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ae_dns.set_resolver(resolver)
    monkeypatch.setenv("AE_RESOLVER", "dns")
    infos = ae_socket.resolve("www.demo.test", 80, family=4).recv(RECV)
    assert texts(infos) == ["192.0.2.80 80", "192.0.2.81 80"]


def test_questions_leave_no_garbage(resolver: ae_dns.Resolver, server: NameServer) -> None:
    """With the collector off, everything a question needed is gone when it is answered."""

    def round_trip() -> None:
        assert ask(resolver, "www.demo.test")
        assert ask(resolver, "demo.test", "xmpp-client=1", family=4)
        assert resolver.a("nothing.test").recv(RECV) == []
        assert resolver.mx("demo.test").recv(RECV)
        assert resolver.reverse_verify("192.0.2.80").recv(RECV)
        resolver.getaddrinfo("www.demo.test", 80).cancel()
        resolver.a("www.demo.test").cancel()
        turn: ae.CondVar[None] = ae.CondVar()
        ae.postpone(turn)
        turn.recv(RECV)

    server.add("late.demo.test. A 192.0.2.9")
    round_trip()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(10):
            round_trip()
        gc.collect()
        # asyncio leaves garbage of its own at each recv(), with the watchers' records in it
        ours = [each for each in gc.garbage if type(each).__module__[:6] in ("ae_dns", "ae_soc")]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
