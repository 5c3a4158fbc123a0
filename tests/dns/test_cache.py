"""The cache: what it keeps, for how long, and what it never believes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.message
import pytest

import ae_core as ae
import ae_dns
from ae_core.abc import Backend
from ae_dns import Cache, _wire_fast
from ae_dns._resolution import Exchange, Reply, Verdict
from ae_dns.testing import NameServer, Query, Step, parse_records

RECV = 10


def made_reply(
    name: str, *records: str, rdtype: int = 1, rcode: int = 0, soa: str | None = None
) -> Reply:
    question = _wire_fast.make_question(_wire_fast.encode_name(name), rdtype)
    exchange = Exchange(question, [("s", 1)], True)
    exchange.ident = b"id"
    message = dns.message.make_response(dns.message.from_wire(exchange.packet()))
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.answer += parse_records(records)
    if soa is not None:
        message.authority += parse_records([soa])
    assert exchange.judge(message.to_wire()) is Verdict.ANSWERED
    assert exchange.reply is not None
    return exchange.reply


DAY = 86400
SOA = "test. {} SOA a. b. 1 2 3 4 {}"


@pytest.mark.parametrize("rdtype", [1, 15])
@pytest.mark.parametrize(
    ("records", "rcode", "soa", "lifetime"),
    [
        pytest.param(["x.test. 60 {}"], 0, None, 60, id="positive"),
        pytest.param(["x.test. 0 {}"], 0, None, 0, id="ttl-0"),
        pytest.param(["x.test. 2000000 {}"], 0, None, 7 * DAY, id="a-week-at-most"),
        pytest.param(["x.test. 60 CNAME y.test.", "y.test. 9 {}"], 0, None, 9, id="chain"),
        pytest.param(["x.test. 9 CNAME y.test.", "y.test. 60 {}"], 0, None, 9, id="alias"),
        pytest.param(["x.test. 60 CNAME y.test."], 0, None, 60, id="alias-elsewhere"),
        pytest.param([], 0, SOA.format(60, 30), 30, id="no-data-minimum"),
        pytest.param([], 0, SOA.format(30, 60), 30, id="no-data-ttl"),
        pytest.param([], 3, SOA.format(60, 60), 60, id="no-such-name"),
        pytest.param([], 3, SOA.format(DAY, DAY), 3 * 3600, id="three-hours-at-most"),
        pytest.param([], 3, None, 0, id="negative-without-soa"),
        pytest.param([], 0, None, 0, id="no-data-without-soa"),
        pytest.param(["x.test. 9 CNAME y.test."], 3, SOA.format(60, 60), 9, id="alias-nowhere"),
    ],
)
def test_lifetimes(
    records: list[str], rcode: int, soa: str | None, lifetime: int, rdtype: int
) -> None:
    data = "A 192.0.2.1" if rdtype == 1 else "MX 1 m.test."
    lines = [line.format(data) for line in records]
    reply = made_reply("x.test", *lines, rdtype=rdtype, rcode=rcode, soa=soa)
    cache = Cache()
    cache.put(reply, 1000.0)
    if lifetime:
        assert cache.get(reply.question, 1000.0 + lifetime - 0.01) is not None
    assert cache.get(reply.question, 1000.0 + lifetime) is None
    cache.put(reply, 1000.0)
    assert len(cache) == bool(lifetime)
    assert cache.get(reply.question, 1000.0 + lifetime + 0.01) is None


def test_the_age_is_known_and_expired_entries_are_gone() -> None:
    reply = made_reply("x.test", "x.test. 60 A 192.0.2.1")
    cache = Cache()
    cache.put(reply, 1000.0)
    assert cache.get(reply.question, 1030.5) == (reply, 30)
    assert (len(cache), cache.hits, cache.misses) == (1, 1, 0)
    assert cache.get(reply.question, 1060.0) is None
    assert (len(cache), cache.hits, cache.misses) == (0, 1, 1)
    assert repr(cache) == "<Cache 0 entries, 1 hits, 1 misses>"


def test_the_entry_used_longest_ago_goes_first() -> None:
    replies = [made_reply(f"{c}.test", f"{c}.test. 60 A 192.0.2.1") for c in "abc"]
    cache = Cache(2)
    cache.put(replies[0], 0.0)
    cache.put(replies[1], 0.0)
    assert cache.get(replies[0].question, 1.0)
    cache.put(replies[2], 1.0)
    assert [cache.get(reply.question, 1.0) is not None for reply in replies] == [True, False, True]
    cache.clear()
    assert len(cache) == 0


def test_octets_are_bounded_as_well() -> None:
    cache = Cache(1000, max_octets=5000)
    for i in range(100):
        cache.put(made_reply(f"n{i}.test", f"n{i}.test. 60 A 192.0.2.1"), 0.0)
    assert 0 < len(cache) < 6
    again = made_reply("n99.test", "n99.test. 60 A 192.0.2.1")
    for _ in range(100):
        cache.put(again, 0.0)
    assert 0 < len(cache) < 6


def test_impossible_bounds_are_refused() -> None:
    for arguments in ({"max_entries": 0}, {"max_octets": 0}):
        with pytest.raises(ValueError):
            Cache(**arguments)
    wrong: Any
    for wrong in ({"max_entries": "many"}, {"max_entries": True}, {"max_octets": 1e6}):
        with pytest.raises(TypeError, match=f"expected {next(iter(wrong))} as int"):
            Cache(**wrong)


def test_a_cached_answer_needs_no_query_and_comes_later(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
    assert resolver.a("alias.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    again = resolver.a("ALIAS.demo.test")
    assert not again.ready
    assert again.recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    answer = resolver.resolve("alias.demo.test", "A").recv(RECV)
    assert (len(answer), answer.name) == (2, "www.demo.test")
    assert 0 < answer.ttl <= 60
    assert len(server.queries) == 1
    assert resolver.statistics()["cached"] == 1
    cancelled = resolver.a("alias.demo.test")
    cancelled.cancel()
    other = resolver.a("alias.demo.test")
    assert other.recv(RECV)
    assert cancelled.cancelled


def test_cached_aliases_lead_on_and_age(server: NameServer) -> None:
    """A chain over two replies, fifteen seconds later."""
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
    server.add("out.test. 50 CNAME in.test.")
    server.script("out.test", "A", "out.test. 50 CNAME in.test.")
    server.script("in.test", "A", "in.test. 40 A 192.0.2.1")
    first = resolver.resolve("out.test", "A").recv(RECV)
    assert (first.ttl, first.name) == (40, "in.test")
    cache = resolver.cache
    assert cache is not None
    for key, (stored, expires, reply) in list(cache._entries.items()):
        cache._entries[key] = (stored - 15, expires, reply)
    again = resolver.resolve("out.test", "A").recv(RECV)
    assert (again.ttl, again.name) == (25, "in.test")
    assert len(server.queries) == 2


def test_negative_answers_are_cached(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=100)
    for _ in range(2):
        with pytest.raises(ae_dns.NoSuchName):
            resolver.resolve("nothing.test", "A").recv(RECV)
        with pytest.raises(ae_dns.NoData):
            resolver.resolve("six.demo.test", "MX").recv(RECV)
    assert len(server.queries) == 2


def test_a_resolver_caches_nothing_unless_told_to(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    for _ in range(2):
        resolver.a("www.demo.test").recv(RECV)
    assert resolver.cache is None
    assert len(server.queries) == 2


def test_what_a_server_volunteers_is_not_believed(server: NameServer) -> None:
    """Unasked records of other names, in any section, change nothing (RFC 2181, 5.4.1)."""

    def poison(query: object) -> dns.message.Message:
        reply = query.reply("evil.test. A 192.0.2.1", "www.demo.test. 900 A 192.0.2.66")  # type: ignore[attr-defined]
        reply.additional += parse_records(["www.demo.test. 900 A 192.0.2.66"])
        reply.authority += parse_records(["demo.test. 900 NS evil.test."])
        return reply  # type: ignore[no-any-return]

    server.script("evil.test", "A", poison)
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
    assert resolver.a("evil.test").recv(RECV) == ["192.0.2.1"]
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert resolver.ns("demo.test").recv(RECV) == ["ns2.demo.test", "ns1.demo.test"]


def test_caches_may_be_shared(server: NameServer) -> None:
    cache = Cache()
    for _ in range(2):
        resolver = ae_dns.Resolver(servers=[server.endpoint], cache=cache)
        assert resolver.a("www.demo.test").recv(RECV)
    assert len(server.queries) == 1


# ------------------------------------------------------------- other servers


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "resolv.conf"
    monkeypatch.setenv("AE_RESOLV_CONF", str(path))
    return path


def test_other_servers_empty_the_cache_of_all_it_has(backend: Backend, conf: Path) -> None:
    async def main() -> None:
        with (
            NameServer("git.corp.test. 3600 A 192.0.2.1") as old,
            NameServer("git.corp.test. 3600 A 10.0.0.1\nnew.test. A 10.0.0.2") as new,
        ):
            conf.write_text(f"nameserver {old.endpoint}\n")
            resolver = ae_dns.Resolver(cache=True)
            for _ in range(2):
                assert await resolver.a("git.corp.test.") == ["192.0.2.1"]
                assert await resolver.a("new.test.") == []
            assert len(old.queries) == len(resolver.cache or ()) == 2
            conf.write_text(f"nameserver {new.endpoint}\n")
            for _ in range(2):
                assert await resolver.a("git.corp.test.") == ["10.0.0.1"]
                assert await resolver.a("new.test.") == ["10.0.0.2"]
            assert (len(old.queries), len(new.queries)) == (2, 2)
            conf.write_text(f"nameserver {old.endpoint}\n")
            assert await resolver.a("git.corp.test.") == ["192.0.2.1"]

    ae.run(main())


@pytest.mark.parametrize("options", ["trust-ad", "use-vc", "edns0"])
def test_options_that_change_how_servers_are_asked_empty_the_cache(
    server: NameServer, conf: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setenv("AE_EDNS0", "0")
    conf.write_text(f"nameserver {server.endpoint}\n")
    resolver = ae_dns.Resolver(cache=True)
    assert resolver.a("www.demo.test.").recv(RECV)
    conf.write_text(f"nameserver {server.endpoint}\noptions timeout:9\nsearch a.test\n")
    assert resolver.a("www.demo.test.").recv(RECV)
    assert len(server.queries) == 1
    conf.write_text(f"nameserver {server.endpoint}\noptions {options}\n")
    assert resolver.a("www.demo.test.").recv(RECV)
    assert len(server.queries) == 2


def test_an_answer_of_the_old_servers_is_not_kept_nor_given_to_who_asks_later(
    conf: Path,
) -> None:
    with NameServer() as old, NameServer("x.test. A 10.0.0.1") as new:
        conf.write_text(f"nameserver {old.endpoint}\n")
        resolver = ae_dns.Resolver(cache=True)
        found: list[ae.CondVar[list[str]]] = []

        def step(_: Query) -> Step:
            conf.write_text(f"nameserver {new.endpoint}\n")
            found.append(resolver.a("x.test."))
            return "x.test. 3600 A 192.0.2.1"

        old.script("x.test", "A", step)
        assert resolver.a("x.test.").recv(RECV) == ["192.0.2.1"]
        assert found[0].recv(RECV) == ["10.0.0.1"]
        assert resolver.a("x.test.").recv(RECV) == ["10.0.0.1"]
        assert (len(old.queries), len(new.queries)) == (1, 1)


@pytest.mark.parametrize("how", ["install", "set_resolver"])
def test_choosing_a_resolver_empties_its_cache(server: NameServer, how: str) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
    ae_dns.set_resolver(resolver)
    assert ae_dns.a("www.demo.test.").recv(RECV)
    assert len(resolver.cache or ()) == 1
    if how == "install":
        ae_dns.install()
    else:
        ae_dns.set_resolver(resolver)
    assert len(resolver.cache or ()) == 0
    assert ae_dns.a("www.demo.test.").recv(RECV)
    assert len(server.queries) == 2


def test_clearing_the_cache_concerns_what_is_under_way_as_well(server: NameServer) -> None:
    cache = Cache()
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=cache)

    def step(_: Query) -> None:
        cache.clear()

    server.script("www.demo.test", "A", step)
    assert resolver.a("www.demo.test.").recv(RECV)
    assert (len(cache), cache.generation) == (0, 1)
