"""Whatever a server sends, each lookup has one outcome, in time, and its text names the trouble."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_dns
from ae_core.abc import Backend
from ae_dns import _wire_fast
from ae_dns._cache import Cache
from ae_dns._resolution import Exchange, Reply, Verdict
from ae_dns.testing import DROP, TRUNCATE, NameServer, Query, Step, rcode

RECV = 30
A, NS, CNAME, SOA, TXT, AAAA, OPT = 1, 2, 5, 6, 16, 28, 41
ME = b"\xc0\x0c"
LONG = 60.0  # time-outs that no test waits for


def raw(query: Query, count: int, make: Callable[[int], bytes], tc: bool = False) -> bytes:
    """Return a reply with *count* answers."""
    end = query.wire.index(b"\0", 12) + 5
    head = query.wire[:2] + struct.pack(">HHHHH", 0x8180 | tc << 9, 1, count, 0, 0)
    return head + query.wire[12:end] + b"".join(make(i) for i in range(count))


def address(i: int) -> bytes:
    return ME + struct.pack(">HHIHI", A, 1, 60, 4, i)


def text(i: int) -> bytes:
    return ME + struct.pack(">HHIHB", TXT, 1, 60, 2, 1) + b"x"


def bare(code: int, opt: bool = False, extended: int = 0) -> Callable[[Query], Step]:
    """Reply with a header only, as servers do that would not read the query."""

    def step(query: Query) -> Step:
        record = b"\0" + struct.pack(">HHBBHH", OPT, 1232, extended, 0, 0, 0) if opt else b""
        return query.wire[:2] + bytes((0x81, code)) + bytes(7) + bytes((opt,)) + record

    return step


def garbage(query: Query) -> Step:
    """Reply with the right question and promises that are not kept."""
    return raw(query, 0, address)[:7] + b"\5" + raw(query, 0, address)[8:]


# ------------------------------------------------------------- more records than anybody needs


@pytest.mark.parametrize("count", [601, 4000])
def test_every_lookup_of_a_name_with_hundreds_of_addresses_ends(
    backend: Backend, count: int
) -> None:
    async def main() -> None:
        with NameServer() as server:
            server.script("x.test", "A", TRUNCATE, lambda query: raw(query, count, address))
            resolver = ae_dns.Resolver(servers=[server.endpoint], search=[])
            found = resolver.resolve("x.test", "A"), resolver.a("x.test")
            answer, texts = await found[0], await found[1]
            assert len(answer) == len(texts) == count
            assert [rdata.to_text() for rdata in answer[:3]] == ["0.0.0.0", "0.0.0.1", "0.0.0.2"]
            assert answer[-1].to_text() == texts[-1]
            assert len(server.queries) == 2
            assert resolver.statistics()["outstanding"] == 0

    ae.run(main())


def test_more_records_of_other_types_than_are_read_are_a_failure_that_says_so() -> None:
    with NameServer() as server:
        step = TRUNCATE, lambda query: raw(query, 601, text)
        server.script("x.test", "TXT", *step)
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,))
        found = resolver.resolve("x.test.", "TXT"), resolver.txt("x.test.")
        for each in found:
            with pytest.raises(ae_dns.ServerFailed, match=r"more than 600 records.*'x\.test'"):
                each.recv(RECV)


def test_both_readers_agree_on_packets_of_any_size() -> None:
    """What the fast one decides the thorough one decides likewise, and nothing raises later."""
    roll = random.Random(random.SystemRandom().randrange(2**32))
    decided = 0
    for _ in range(400):
        wire, question, rdtype = big_packet(roll)
        exchange = Exchange(question, [("s", 1)], True, stream=True)
        exchange.next_step()
        verdict = exchange.judge(wire)
        fast = _wire_fast.read_addresses(wire, question, rdtype)
        assert verdict in (Verdict.ANSWERED, Verdict.NEXT_STEP), wire.hex()
        if fast is not None:
            decided += 1
            assert verdict is Verdict.ANSWERED, wire.hex()
            assert Reply(wire, question, fast.rcode, None, None).read_addresses() == fast, (
                wire.hex()
            )
        if exchange.reply is not None:
            exchange.reply.lifetime()
            texts = exchange.reply.read_addresses().values
            assert len(exchange.reply.read((rdtype,)).values) == len(texts), wire.hex()
            exchange.reply.read(None)
    assert decided > 40


def big_packet(roll: random.Random) -> tuple[bytes, bytes, int]:
    """Make a packet with up to thousands of records, mostly well-formed ones."""
    rdtype = roll.choice([A, AAAA])
    label = bytes((roll.choice([1, 1, 3, 63]),))
    name = roll.choice(
        [b"\1x\4test\0", b"\1a" * 120 + b"\0", (label + b"y" * label[0]) * 3 + b"\0"]
    )
    question = _wire_fast.make_question(name, rdtype)
    wire = bytearray(12) + question
    counts = [0, 0, 0]
    starts = [12, 12 + 1 + name[0]]
    sizes = [0, 1, 3, 40, 601, 1600, 4000]
    for section, kinds in enumerate(([rdtype] * 9, [NS], [A, AAAA])):
        odd = roll.random() < 0.2
        for i in range(roll.choice(sizes)):
            kind = roll.choice(kinds + odd * [TXT, SOA, CNAME])
            owner = roll.choice([ME, ME, name, b"\1a" + ME]) if odd or section else ME
            if section and roll.random() < 0.3:
                owner = b"\2ns" + struct.pack(">H", 0xC000 | roll.choice(starts))
            rdata = {
                A: struct.pack(">I", i),
                AAAA: struct.pack(">QQ", 1 << 61, i),
                NS: roll.choice([b"\2ns" + ME, b"\3ns%d\0" % (i % 10)]),
                SOA: b"\0\0" + bytes(20),
                CNAME: b"\1z\0",
                TXT: b"\1x",
            }[kind]
            if len(wire) + len(owner) + 10 + len(rdata) > 65_000:
                break
            if len(wire) < 0x3F00:
                starts.append(len(wire))
            wire += owner + struct.pack(">HHIH", kind, 1, 60, len(rdata)) + rdata
            counts[section] += 1
    wire[2:12] = b"\x81\x80\0\1" + struct.pack(">HHH", *counts)
    return bytes(wire), question, rdtype


# ------------------------------------------------------------- errors behind the verdict


class Surprise(Exception):
    """Something that nobody thought of."""


def surprise(*_: object, **__: object) -> Any:
    raise Surprise("nobody thought of it")


@pytest.mark.parametrize("where", ["read", "read_addresses", "lifetime", "put"])
def test_a_reply_that_cannot_be_read_after_all_ends_all_lookups_that_share_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(Cache if where == "put" else Reply, where, surprise)
    hooked: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: hooked.append(error))

    async def main() -> None:
        with NameServer("x.test. A 192.0.2.1") as server:
            resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True, timeouts=(LONG,))
            found = [resolver.resolve("x.test.", "A"), resolver.resolve("x.test.", "A")]
            texts: list[ae.CondVar[Any]] = [
                resolver.a("x.test."),
                resolver.getaddrinfo("x.test.", 80, family=4),
            ]
            for each in found:
                if where == "read":
                    with pytest.raises(ae_dns.ServerFailed, match="nobody thought of it") as caught:
                        await each
                    assert isinstance(caught.value.__cause__, Surprise)
                else:
                    assert len(await each) == 1
            if where == "read_addresses":
                for one in texts:
                    with pytest.raises(ae_dns.ServerFailed, match="cannot be read"):
                        await one
            else:
                assert await texts[0] == ["192.0.2.1"]
                assert len(await texts[1]) == 1
            assert resolver.statistics()["outstanding"] == 0

    ae.run(main())
    assert len(hooked) == (where in ("lifetime", "put"))


@pytest.mark.parametrize("tcp", [False, True])
def test_a_callback_that_ends_the_program_costs_no_other_lookup_its_outcome(
    server: NameServer, tcp: bool
) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], tcp=tcp, timeouts=(LONG,))
    names = ["www.demo.test.", "alias.demo.test."]
    found = [resolver.a(name) for name in names for _ in range(3)]

    def leave(_: object) -> None:
        raise SystemExit(3)

    found[0].on_ready(leave)
    with pytest.raises(SystemExit):
        found[5].recv(RECV)
    for each in found:
        assert each.recv(RECV) == ["192.0.2.80", "192.0.2.81"]


def test_records_that_dnspython_cannot_print_are_left_out_of_any(
    server: NameServer, resolver: ae_dns.Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dns.rdtypes.ANY.TXT

    monkeypatch.setattr(dns.rdtypes.ANY.TXT.TXT, "to_text", surprise)
    server.script("demo.test", "ANY", "demo.test. TXT x\ndemo.test. A 192.0.2.9")
    assert resolver.any_("demo.test.").recv(RECV) == ["A 192.0.2.9"]


# ------------------------------------------------------------- replies without a question


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("name", "opt"),
    [
        *((name, opt) for name in ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED") for opt in (0, 1)),
        ("BADVERS", 1),  # a code above 15 takes an OPT record
    ],
)
def test_an_error_without_a_question_counts_as_an_answer(
    backend: Backend, name: str, tcp: bool, opt: int
) -> None:
    code = rcode(name)
    step = bare(code & 15, bool(opt), code >> 4)

    async def main() -> None:
        with NameServer() as bad, NameServer("x.test. A 192.0.2.1") as good:
            bad.script("*", "*", *[step] * 20)
            servers = [bad.endpoint, good.endpoint]
            resolver = ae_dns.Resolver(servers=servers, tcp=tcp, timeouts=(LONG,))
            assert await resolver.a("x.test.") == ["192.0.2.1"]
            alone = ae_dns.Resolver(servers=[bad.endpoint], tcp=tcp, timeouts=(LONG, LONG))
            with pytest.raises(ae_dns.ServerFailed) as caught:
                await alone.resolve("x.test.", "A")
            assert caught.value.rcode == code

    ae.run(main())


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"id\x81\x80" + bytes(8), id="noerror"),
        pytest.param(b"id\x81\x83" + bytes(8), id="nxdomain"),
        pytest.param(b"id\x81\x89" + bytes(8), id="notauth"),
        pytest.param(b"id\x81\x85" + bytes(9), id="with-more"),
        pytest.param(b"id\x81\x85" + bytes(7) + b"\1", id="opt-missing"),
        pytest.param(b"id\x81\x85" + bytes(7) + b"\1" + b"\0\0\x29" + bytes(7), id="opt-short"),
        pytest.param(
            b"id\x81\x85" + bytes(7) + b"\1" + b"\0\0\x29" + bytes(7) + b"\1", id="opt-lies"
        ),
        pytest.param(b"id\x81\x85" + bytes(7) + b"\1" + b"\0\0\xfa" + bytes(8), id="tsig"),
        pytest.param(b"id\x81\x85" + bytes(3) + b"\1" + bytes(4), id="an-answer"),
        pytest.param(b"id\x81\x85" + bytes(5) + b"\1" + bytes(2), id="an-authority"),
        pytest.param(b"id\x01\x85" + bytes(8), id="a-query"),
        pytest.param(b"id\x81\x85" + bytes(7), id="short"),
    ],
)
def test_other_replies_without_a_question_change_nothing(wire: bytes) -> None:
    assert not _wire_fast.is_reply_to(wire, _wire_fast.make_question(b"\1x\0", A), False)


# ------------------------------------------------------------- EDNS that is not liked


@pytest.mark.parametrize("code", ["SERVFAIL", "NOTIMP"])
@pytest.mark.parametrize("timeouts", [(LONG,), (LONG, LONG)])
def test_servers_that_fail_at_edns_are_asked_once_more_without(
    code: str, timeouts: tuple[float, ...]
) -> None:
    def step(query: Query) -> Step | None:
        return None if query.message.edns == -1 else rcode(code)

    with NameServer("x.test. A 192.0.2.1") as one, NameServer("x.test. A 192.0.2.1") as two:
        for server in (one, two):
            server.script("*", "*", *[step] * 9)
        resolver = ae_dns.Resolver(servers=[one.endpoint, two.endpoint], timeouts=timeouts)
        assert resolver.a("x.test.").recv(RECV) == ["192.0.2.1"]
        assert [query.message.edns for query in one.queries] == [0, -1]
        assert [query.message.edns for query in two.queries] == [0]


def test_servers_that_fail_in_any_case_are_asked_no_more_than_once_without_edns() -> None:
    with NameServer() as server:
        server.script("*", "*", *[rcode("SERVFAIL")] * 9)
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,))
        with pytest.raises(ae_dns.ServerFailed, match="response code 2"):
            resolver.resolve("x.test.", "A").recv(RECV)
        assert [query.message.edns for query in server.queries] == [0, -1]
        plain = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,), edns=False)
        with pytest.raises(ae_dns.ServerFailed):
            plain.resolve("x.test.", "A").recv(RECV)
        assert len(server.queries) == 3


def test_a_refusal_is_no_reason_to_leave_edns_out() -> None:
    with NameServer() as server:
        server.script("*", "*", *[rcode("REFUSED")] * 9)
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG, LONG))
        with pytest.raises(ae_dns.ServerFailed, match="response code 5"):
            resolver.a("x.test.").recv(RECV)
        assert [query.message.edns for query in server.queries] == [0, 0]


# ------------------------------------------------------------- the trouble has its name


def unused_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        pytest.param([garbage], r"cannot be read \(the structure is broken\)", id="garbage"),
        pytest.param([TRUNCATE, TRUNCATE], r"it is truncated, over TCP", id="truncated"),
        pytest.param([rcode("REFUSED")], r"response code 5", id="refused"),
    ],
)
def test_servers_that_answer_uselessly_are_no_time_out(steps: list[Step], text: str) -> None:
    with NameServer() as server:
        server.script("*", "*", *steps)
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,), search=["a", "b"])
        with pytest.raises(ae_dns.ServerFailed, match=rf"{text}.*'x'") as caught:
            resolver.resolve("x.", "A").recv(RECV)
        assert not isinstance(caught.value, ae_dns.QueryTimedOut)
        server.script("*", "*", *steps)
        with pytest.raises(ae_dns.ServerFailed, match=text):
            resolver.getaddrinfo("x.", 80, family=4).recv(RECV)


@pytest.mark.parametrize("tcp", [False, True])
def test_servers_that_are_not_there_are_no_time_out(backend: Backend, tcp: bool) -> None:
    async def main() -> None:
        server = f"127.0.0.1:{unused_port()}"
        resolver = ae_dns.Resolver(servers=[server], timeouts=(LONG,), tcp=tcp)
        with pytest.raises(ae_dns.ServerFailed, match=f"no server could be asked.*{server}"):
            await resolver.resolve("x.test.", "A")

    ae.run(main())


def test_a_server_that_hangs_up_is_no_time_out(server: NameServer) -> None:
    server.script("*", "*", TRUNCATE, lambda query: hang_up(server))
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(LONG,))
    with pytest.raises(ae_dns.ServerFailed, match="closed the connection"):
        resolver.resolve("x.test.", "A").recv(RECV)


def hang_up(server: NameServer) -> Step:
    for stream in list(server._streams):
        ae.postpone(stream.close)
    return DROP


def test_time_that_ran_out_is_a_time_out_even_if_another_server_is_not_there() -> None:
    with NameServer() as silent:
        silent.script("*", "*", DROP)
        servers = [f"127.0.0.1:{unused_port()}", silent.endpoint]
        resolver = ae_dns.Resolver(servers=servers, timeouts=(0.02,))
        with pytest.raises(ae_dns.QueryTimedOut, match="in time"):
            resolver.resolve("x.test.", "A").recv(RECV)


def test_damaged_replies_do_not_let_another_name_of_the_search_list_win() -> None:
    with NameServer("x.two. A 192.0.2.2") as server:
        server.script("x.one", "A", garbage)
        resolver = ae_dns.Resolver(
            servers=[server.endpoint], timeouts=(LONG,), search=["one", "two"]
        )
        with pytest.raises(ae_dns.ServerFailed, match="cannot be read"):
            resolver.a("x").recv(RECV)
        assert {query.name for query in server.queries} == {"x.one"}
