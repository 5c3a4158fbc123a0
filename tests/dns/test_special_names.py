"""localhost and invalid never leave this host, whatever asks and however (RFC 6761)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_dns
import ae_socket
from ae_core.abc import Backend
from ae_dns import _wire_fast
from ae_dns.testing import NameServer

RECV = 30
LIES = """
*.localhost. A 6.6.6.6
localhost. A 6.6.6.6
localhost. AAAA 2001:db8::6
localhost. MX 1 evil.test.
localhost.corp.test. A 6.6.6.6
_http._tcp.localhost. SRV 0 0 66 evil.test.
*.invalid. A 6.6.6.6
invalid.corp.test. A 6.6.6.6
x.invalid.corp.test. A 6.6.6.6
alias.test. 60 CNAME localhost.
deep.test. 60 CNAME a.b.localhost.
gone.test. 60 CNAME x.invalid.
"""
LOCAL = ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.localhost.", "local\\104ost"]


@pytest.fixture
def server() -> Any:
    with NameServer(LIES) as server:
        yield server


@pytest.fixture
def resolver(server: NameServer) -> ae_dns.Resolver:
    return ae_dns.Resolver(servers=[server.endpoint], search=["corp.test"], cache=True)


@pytest.mark.parametrize("name", LOCAL)
def test_every_function_answers_localhost_itself(
    resolver: ae_dns.Resolver, server: NameServer, name: str
) -> None:
    assert resolver.a(name).recv(RECV) == ["127.0.0.1"]
    assert resolver.aaaa(name).recv(RECV) == ["::1"]
    assert resolver.any_(name).recv(RECV) == ["A 127.0.0.1", "AAAA ::1"]
    for function in (resolver.mx, resolver.ns, resolver.txt, resolver.ptr):
        assert function(name).recv(RECV) == []
    assert resolver.srv("http", "tcp", name).recv(RECV) == []
    for rdtype in ("MX", "SOA", "TXT", "SRV", "HTTPS", 65280):
        with pytest.raises(ae_dns.NoData):
            resolver.resolve(name, rdtype).recv(RECV)
    answer = resolver.resolve(name, "A", search=["corp.test"]).recv(RECV)
    assert [rdata.to_text() for rdata in answer] == ["127.0.0.1"]
    assert answer.message.answer[0].to_text().endswith("IN A 127.0.0.1")
    with pytest.raises(ae_dns.NoData):
        resolver.resolve(name, "A", rdclass="CH").recv(RECV)
    assert server.queries == []
    assert resolver.statistics() == {"sent": 0, "outstanding": 0, "queued": 0, "cached": 0}


@pytest.mark.parametrize("name", ["invalid", "Invalid.", "x.invalid", "a.b.INVALID."])
def test_invalid_does_not_exist(resolver: ae_dns.Resolver, server: NameServer, name: str) -> None:
    for function in (resolver.a, resolver.aaaa, resolver.mx, resolver.any_, resolver.ptr):
        assert function(name).recv(RECV) == []
    for rdtype in ("A", "TXT"):
        with pytest.raises(ae_dns.NoSuchName):
            resolver.resolve(name, rdtype).recv(RECV)
    with pytest.raises(ae_dns.NoSuchName):
        resolver.getaddrinfo(name, 80).recv(RECV)
    with pytest.raises(ae_dns.NoSuchName):
        resolver.getaddrinfo(name, "http").recv(RECV)
    assert server.queries == []


@pytest.mark.parametrize("name", ["localhost.test", "notlocalhost", "x\\009localhost"])
def test_other_names_are_asked_for(
    resolver: ae_dns.Resolver, server: NameServer, name: str
) -> None:
    resolver.a(f"{name}.").recv(RECV)
    assert len(server.queries) == 1


def test_names_are_compared_by_labels() -> None:
    for name in (b"\x0bx\x09localhost\0", b"\x0alocalhostx\0", b"\0", b"\x09localhost\4test\0"):
        assert not _wire_fast.is_special(name)
    for name in (b"\x09localhost\0", b"\1x\x09localhost\0", b"\7invalid\0", b"\1x\7invalid\0"):
        assert _wire_fast.is_special(name)


@pytest.mark.parametrize("with_addresses", [True, False])
def test_an_alias_into_localhost_ends_on_this_host(backend: Backend, with_addresses: bool) -> None:
    lies = LIES if with_addresses else "\n".join(LIES.splitlines()[-3:])

    async def main() -> None:
        with NameServer(lies) as server:
            resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
            for _ in range(2):
                assert await resolver.a("alias.test") == ["127.0.0.1"]
                assert await resolver.aaaa("deep.test") == ["::1"]
                answer = await resolver.resolve("alias.test", "A")
                assert (answer.name, answer[0].to_text()) == ("localhost", "127.0.0.1")
                assert answer.ttl == 60
                assert await resolver.mx("alias.test") == []
                assert await resolver.a("gone.test") == []
                with pytest.raises(ae_dns.NoSuchName):
                    await resolver.resolve("gone.test", "A")
                infos = await resolver.getaddrinfo("alias.test", 80)
                assert {info.sockaddr[0] for info in infos} == {"127.0.0.1", "::1"}
            assert {query.name for query in server.queries} == {
                "alias.test", "deep.test", "gone.test"
            }  # fmt: skip

    ae.run(main())


def test_an_alias_into_localhost_that_the_server_calls_missing_ends_on_this_host(
    server: NameServer, resolver: ae_dns.Resolver
) -> None:
    def step(query: Any) -> Any:
        return query.reply("alias.test. CNAME localhost.", rcode=3)

    server.script("alias.test", "*", step, step)
    assert resolver.a("alias.test.").recv(RECV) == ["127.0.0.1"]
    assert len(resolver.resolve("alias.test.", "AAAA").recv(RECV)) == 1


def test_a_search_list_that_ends_in_localhost_is_answered_here(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], search=["dev.localhost"])
    assert resolver.a("www").recv(RECV) == ["127.0.0.1"]
    assert server.queries == []


def test_targets_of_services_below_localhost_are_answered_here(
    server: NameServer, resolver: ae_dns.Resolver
) -> None:
    server.add("_odd._tcp.demo.test. SRV 0 0 99 localhost.")
    infos = resolver.getaddrinfo("demo.test", "odd=1", family=4).recv(RECV)
    assert [info.sockaddr for info in infos] == [("127.0.0.1", 99)]
    assert [query.name for query in server.queries] == ["_odd._tcp.demo.test"]


def test_verifying_a_name_below_localhost_asks_nobody_for_it(
    server: NameServer, resolver: ae_dns.Resolver
) -> None:
    server.add(
        "1.0.0.127.in-addr.arpa. PTR localhost.",
        "6.6.6.6.in-addr.arpa. PTR localhost.",
    )
    assert resolver.reverse_verify("127.0.0.1").recv(RECV) == ["localhost"]
    assert resolver.reverse_verify("6.6.6.6").recv(RECV) == []
    assert {query.rdtype for query in server.queries} == {"PTR"}


def test_the_hosts_file_may_name_what_is_invalid(
    resolver: ae_dns.Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts").write_text("127.9.9.9 x.invalid\n6.6.6.6 localhost\n")
    monkeypatch.setenv("AE_HOSTS", str(tmp_path / "hosts"))
    [info] = resolver.getaddrinfo("x.invalid", 80).recv(RECV)
    assert info.sockaddr == ("127.9.9.9", 80)
    [info] = resolver.getaddrinfo("localhost", 80, family=4).recv(RECV)
    assert info.sockaddr == ("127.0.0.1", 80)


class System:
    """Stands for the system's resolver, which may know multicast DNS."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, port: int, **_: Any) -> ae.CondVar[Any]:
        self.asked.append(host)
        return ae_socket.resolve("127.0.0.7", port)


@pytest.mark.parametrize("service", [631, "ipp=631", "http"])
def test_local_names_are_the_systems_if_ae_socket_asks(
    server: NameServer,
    resolver: ae_dns.Resolver,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    service: str | int,
) -> None:
    (tmp_path / "hosts").write_text("")
    monkeypatch.setenv("AE_HOSTS", str(tmp_path / "hosts"))
    system = System()
    monkeypatch.setattr("ae_dns._getaddrinfo._system", system)
    server.add("_odd._tcp.demo.test. SRV 0 0 99 printer.local.")
    ae_dns.set_resolver(resolver)
    ae_dns.install()
    for host in ("printer.local", "Printer.Local."):
        [info] = ae_socket.resolve(host, service).recv(RECV)
        assert info.sockaddr[0] == "127.0.0.7"
    assert server.queries == []
    [info] = ae_socket.resolve("demo.test", "odd=1").recv(RECV)
    assert info.sockaddr == ("127.0.0.7", 99)
    assert system.asked == ["printer.local", "Printer.Local.", "printer.local."]
    assert resolver.a("printer.local.").recv(RECV) == []
    assert server.queries[-1].name == "printer.local"
