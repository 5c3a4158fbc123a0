"""Lookups against a scripted server, as a program makes them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

import ae_core as ae
import ae_dns
from ae_core.testing import leak_check
from ae_dns.testing import DROP, TRUNCATE, NameServer, Query, Step, rcode

ZONE = "www.demo.test. A 192.0.2.80"

RECV = 10  # seconds after which a test would hang otherwise


def test_a_gives_addresses_in_the_order_of_the_reply(resolver: ae_dns.Resolver) -> None:
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]


def test_names_are_asked_for_in_lower_case(resolver: ae_dns.Resolver, server: NameServer) -> None:
    assert resolver.a("WWW.Demo.TEST").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert b"\x03www\x04demo\x04test\x00" in server.queries[0].wire


def test_aaaa(resolver: ae_dns.Resolver) -> None:
    assert resolver.aaaa("six.demo.test").recv(RECV) == ["2001:db8::6"]


def test_ns(resolver: ae_dns.Resolver) -> None:
    assert resolver.ns("demo.test").recv(RECV) == ["ns2.demo.test", "ns1.demo.test"]


def test_mx_is_sorted_by_preference(resolver: ae_dns.Resolver) -> None:
    assert resolver.mx("demo.test").recv(RECV) == ["Fast.demo.test", "slow.demo.test"]


def test_txt_joins_the_strings_of_a_record(resolver: ae_dns.Resolver) -> None:
    assert resolver.txt("demo.test").recv(RECV) == ["one,two", "caf\xe9"]


def test_txt_that_is_not_utf8_survives(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.add('raw.demo.test. TXT "\\255x"')
    (text,) = resolver.txt("raw.demo.test").recv(RECV)
    assert text.encode("utf-8", "surrogateescape") == b"\xffx"


def test_ptr(resolver: ae_dns.Resolver) -> None:
    names = resolver.ptr("80.2.0.192.in-addr.arpa").recv(RECV)
    assert names == ["www.demo.test", "liar.demo.test"]


def test_any_gives_types_and_data(resolver: ae_dns.Resolver) -> None:
    assert resolver.any_("six.demo.test").recv(RECV) == ["AAAA 2001:db8::6"]


def test_srv_is_ordered_by_priority(resolver: ae_dns.Resolver) -> None:
    records = resolver.srv("xmpp-client", "tcp", "demo.test").recv(RECV)
    assert records == [
        ae_dns.Srv(1, 0, 5223, "www.demo.test"),
        ae_dns.Srv(10, 0, 5222, "late.demo.test"),
    ]


def test_srv_root_target_is_a_dot(resolver: ae_dns.Resolver) -> None:
    assert resolver.srv("gone", "tcp", "demo.test").recv(RECV) == [ae_dns.Srv(0, 0, 0, ".")]


@pytest.mark.parametrize("ip", ["192.0.2.80", "::ffff:192.0.2.80", "::192.0.2.80"])
def test_reverse_lookup_takes_ipv4_in_ipv6_clothes(resolver: ae_dns.Resolver, ip: str) -> None:
    assert resolver.reverse_lookup(ip).recv(RECV) == ["www.demo.test", "liar.demo.test"]


def test_reverse_lookup_of_ipv6(resolver: ae_dns.Resolver, server: NameServer) -> None:
    name = "6.0.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2.ip6.arpa."
    server.add(f"{name} PTR six.demo.test.")
    assert resolver.reverse_lookup("2001:db8::6").recv(RECV) == ["six.demo.test"]
    assert resolver.reverse_verify("2001:db8::6").recv(RECV) == ["six.demo.test"]


def test_reverse_verify_keeps_only_names_that_lead_back(resolver: ae_dns.Resolver) -> None:
    assert resolver.reverse_verify("192.0.2.80").recv(RECV) == ["www.demo.test"]


@pytest.mark.parametrize("junk", ["", "www.demo.test", "1.2.3.4.5", "::g", "unix/"])
def test_reverse_lookup_of_junk_asks_nobody(
    resolver: ae_dns.Resolver, server: NameServer, junk: str
) -> None:
    for lookup in (resolver.reverse_lookup, resolver.reverse_verify):
        found = lookup(junk)
        assert not found.ready
        assert found.recv(RECV) == []
    assert server.queries == []


def test_impossible_names_are_refused_before_a_packet_is_sent(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    for name in ("a..b", ".a", "x" * 64, "a." * 128, "a\\999b", "a\\"):
        found = resolver.resolve(name, "A")
        assert not found.ready
        with pytest.raises(ae_dns.ResolveError) as caught:
            found.recv(RECV)
        assert caught.value.rcode is None
        assert caught.value.errno == errno.ENXIO
    assert server.queries == []


def test_the_longest_names_are_asked_for(resolver: ae_dns.Resolver, server: NameServer) -> None:
    longest = ".".join(["x" * 63] * 3 + ["y" * 61])
    server.add(f"{longest}. A 192.0.2.1")
    assert resolver.a(longest).recv(RECV) == ["192.0.2.1"]
    with pytest.raises(ae_dns.ResolveError, match="bytes"):
        resolver.a(longest + "y").recv(RECV)
    assert len(server.queries) == 1


# ------------------------------------------------------------- resolve


def test_resolve_gives_rdata_and_what_is_known_about_it(resolver: ae_dns.Resolver) -> None:
    answer = resolver.resolve("alias.DEMO.test", "a").recv(RECV)
    assert [rdata.to_text() for rdata in answer] == ["192.0.2.80", "192.0.2.81"]
    assert answer.name == "www.demo.test"
    assert answer.rdtype.name == "A"
    assert answer.rcode.name == "NOERROR"
    assert answer.ttl == 60
    assert len(answer.message.answer) == 2
    assert repr(answer) == "<Answer www.demo.test A ttl=60 [192.0.2.80, 192.0.2.81]>"
    with pytest.raises(AttributeError):
        answer.name = "x"  # type: ignore[misc]


def test_no_such_name(resolver: ae_dns.Resolver) -> None:
    with pytest.raises(ae_dns.NoSuchName, match=r"'nothing\.test'") as caught:
        resolver.resolve("nothing.test", "A").recv(RECV)
    assert caught.value.rcode is not None
    assert caught.value.rcode.name == "NXDOMAIN"
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ae.AEError)


def test_no_data(resolver: ae_dns.Resolver) -> None:
    with pytest.raises(ae_dns.NoData) as caught:
        resolver.resolve("six.demo.test", "A").recv(RECV)
    assert caught.value.rcode is not None
    assert caught.value.rcode.name == "NOERROR"


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_error_codes_try_the_next_server_and_the_last_is_reported(code: str) -> None:
    with NameServer() as first, NameServer() as second:
        first.script("*", "*", *[rcode("SERVFAIL")] * 3)
        second.script("*", "*", *[rcode(code)] * 3)
        resolver = ae_dns.Resolver(servers=[first.endpoint, second.endpoint])
        with pytest.raises(ae_dns.ServerFailed) as caught:
            resolver.resolve("www.demo.test", "A").recv(RECV)
        assert caught.value.rcode is not None
        assert caught.value.rcode.name == code
        assert len(first.queries) == len(second.queries) == 3


def test_a_good_second_server_answers_for_a_bad_first(server: NameServer) -> None:
    with NameServer() as bad:
        for step in (rcode("REFUSED"), garbage):
            bad.script("*", "*", step)
            resolver = ae_dns.Resolver(servers=[bad.endpoint, server.endpoint])
            assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]


def garbage(query: Query) -> bytes:
    """Return a reply that matches in everything, but is none."""
    head = bytearray(query.wire[:12])
    head[2] |= 0x80
    head[7] = 5
    end = 12 + query.wire[12:].index(b"\0") + 5
    return bytes(head) + query.wire[12:end] + b"\xff" * 30


def test_resolve_of_other_classes(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.add('version.bind. CH TXT "9"')
    answer = resolver.resolve("version.bind.", "TXT", rdclass="CH").recv(RECV)
    assert answer[0].to_text() == '"9"'


def test_unknown_types_are_raw(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.add("odd.demo.test. TYPE34463 \\# 3 616263")
    answer = resolver.resolve("odd.demo.test", 34463).recv(RECV)
    assert answer[0].to_text() == "\\# 3 616263"
    assert answer.rdtype == 34463


def test_star_and_accept_filter_types(resolver: ae_dns.Resolver) -> None:
    answer = resolver.resolve("www.demo.test", "*", accept=["aaaa"]).recv(RECV)
    assert [rdata.to_text() for rdata in answer] == ["2001:db8::80"]
    answer = resolver.resolve("www.demo.test", "ANY").recv(RECV)
    assert len(answer) == 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"name": 5, "rdtype": "A"}, TypeError, id="name"),
        pytest.param({"name": "x", "rdtype": "NOSUCH"}, ValueError, id="type"),
        pytest.param({"name": "x", "rdtype": 0}, ValueError, id="type-zero"),
        pytest.param({"name": "x", "rdtype": None}, TypeError, id="type-none"),
        pytest.param({"name": "x", "rdtype": "A", "rdclass": "XX"}, ValueError, id="class"),
        pytest.param({"name": "x", "rdtype": "A", "rdclass": 0}, ValueError, id="class-zero"),
        pytest.param({"name": "x", "rdtype": "A", "rdclass": None}, TypeError, id="class-none"),
        pytest.param({"name": "x", "rdtype": "A", "search": "abc"}, TypeError, id="search"),
        pytest.param({"name": "x", "rdtype": "A", "search": ["a..b"]}, ValueError, id="suffix"),
    ],
)
def test_bad_arguments_raise_at_once(
    resolver: ae_dns.Resolver, arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        resolver.resolve(**arguments)  # type: ignore[arg-type]


def test_classes_and_types_may_be_numbers(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.add('version.bind. CH TXT "9"')
    assert len(resolver.resolve("version.bind.", 16, rdclass=3, accept=["ANY"]).recv(RECV)) == 1


def test_the_message_is_parsed_once_and_whatever_it_holds(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    def odd(query: Query) -> bytes:
        reply = query.reply("www.demo.test. A 192.0.2.1").to_wire()
        broken = b"\xc0\x0c\0\x0f\0\1\0\0\0\x3c\0\1\0"  # an MX record of one octet
        return reply[:7] + b"\2" + reply[8:-11] + broken + reply[-11:]

    server.script("www.demo.test", "A", odd)
    answer = resolver.resolve("www.demo.test", "A").recv(RECV)
    assert len(answer) == 1
    assert answer.message is answer.message
    assert answer.message.answer[0][0].to_text() == "192.0.2.1"


def test_arguments_of_the_wrong_type_raise_at_once(resolver: ae_dns.Resolver) -> None:
    for call in (resolver.a, resolver.mx, resolver.reverse_lookup, resolver.reverse_verify):
        with pytest.raises(TypeError):
            call(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        resolver.srv("x", "tcp", None)  # type: ignore[arg-type]


def test_an_impossible_name_may_be_cancelled(resolver: ae_dns.Resolver) -> None:
    for lookup, name in ((resolver.a, "a..b"), (resolver.reverse_lookup, "junk")):
        found = lookup(name)
        found.cancel()
        turn: ae.CondVar[None] = ae.CondVar()
        ae.postpone(turn)
        turn.recv(RECV)
        assert found.cancelled


def test_reverse_verify_may_be_cancelled_at_any_time(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    at_once = resolver.reverse_verify("192.0.2.80")
    at_once.cancel()
    server.script("www.demo.test", "A", DROP)
    later = resolver.reverse_verify("192.0.2.80")
    while "www.demo.test A udp" not in server.asked():
        turn: ae.CondVar[None] = ae.CondVar()
        ae.postpone(turn)
        turn.recv(RECV)
    later.cancel()
    assert resolver.statistics()["outstanding"] == 0
    assert resolver.reverse_verify("192.0.2.1").recv(RECV) == []
    assert resolver.reverse_lookup("::1").recv(RECV) == []
    assert server.asked()[-1].endswith("ip6.arpa PTR udp")


def test_cancelling_what_is_queued_or_shared(server: NameServer) -> None:
    server.script("*", "*", *[DROP] * 9)
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=1)
    flying, queued, twin = resolver.a("a.test."), resolver.a("b.test."), resolver.a("b.test.")
    resolver.max_outstanding = 2
    resolver.max_outstanding = 1
    twin.cancel()
    assert resolver.statistics()["queued"] == 1
    queued.cancel()
    assert resolver.statistics() == {"sent": 1, "outstanding": 1, "queued": 0, "cached": 0}
    flying.cancel()
    assert resolver.statistics()["outstanding"] == 0


# ------------------------------------------------------------- how it is asked


def test_truncated_replies_are_fetched_over_tcp(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    server.script("www.demo.test", "A", TRUNCATE)
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert server.asked() == ["www.demo.test A udp", "www.demo.test A tcp"]


def test_tcp_queries_share_one_connection(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], tcp=True)
    found = [resolver.a("www.demo.test."), resolver.aaaa("six.demo.test."), resolver.a("x.test.")]
    assert [each.recv(RECV) for each in found] == [
        ["192.0.2.80", "192.0.2.81"],
        ["2001:db8::6"],
        [],
    ]
    assert [query.transport for query in server.queries] == ["tcp"] * 3
    assert len({query.source for query in server.queries}) == 1


def test_time_outs_are_outer_and_servers_inner() -> None:
    with NameServer() as first, NameServer() as second:
        order: list[str] = []

        def silent(name: str) -> Callable[[Query], Step]:
            def step(_: Query) -> Step:
                order.append(name)
                return DROP

            return step

        first.script("*", "*", *[silent("s1")] * 3)
        second.script("*", "*", *[silent("s2")] * 3)
        resolver = ae_dns.Resolver(servers=[first.endpoint, second.endpoint], timeouts=(0.03, 0.04))
        started = ae.time()
        with pytest.raises(ae_dns.QueryTimedOut) as caught:
            resolver.resolve("www.demo.test.", "A").recv(RECV)
        assert ae.time() - started >= 2 * 0.03 + 2 * 0.04
        assert order == ["s1", "s2", "s1", "s2"]
        assert caught.value.rcode is None


def test_a_silent_first_server_costs_its_time_out_only(server: NameServer) -> None:
    with NameServer() as silent:
        silent.script("*", "*", DROP)
        resolver = ae_dns.Resolver(servers=[silent.endpoint, server.endpoint], timeouts=(0.05,))
        assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
        assert len(silent.queries) == 1


def test_a_server_that_is_not_there_is_passed_over(server: NameServer) -> None:
    with NameServer() as gone:
        endpoint = gone.endpoint
    resolver = ae_dns.Resolver(servers=[endpoint, server.endpoint], timeouts=(9.0,))
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]


def test_every_query_has_a_port_of_its_own(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint])
    found = [resolver.a(f"n{i}.demo.test.") for i in range(40)]
    for each in found:
        each.recv(RECV)
    assert len({query.source[1] for query in server.queries}) >= 39
    assert len({query.wire[:2] for query in server.queries}) >= 39


def test_nothing_stays_open_when_nothing_is_asked() -> None:
    with leak_check():
        server = NameServer(ZONE)
        resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=50)
        for each in [resolver.a(f"n{i}.demo.test.") for i in range(60)]:
            each.recv(RECV)
        server.script("*", "*", *[TRUNCATE] * 10)
        for each in [resolver.a(f"n{i}.demo.test.") for i in range(10)]:
            each.recv(RECV)
        assert len(server.queries) == 60 + 20
        assert resolver.statistics()["outstanding"] == 0
        server.cancel()


def test_queries_beyond_max_outstanding_wait_in_order(server: NameServer) -> None:
    """Case B86."""
    server.script("*", "*", *[DROP] * 2)
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.1, 5), max_outstanding=2)
    in_flight: list[int] = []
    found = [resolver.a(f"n{i}.demo.test.") for i in range(5)]
    for each in found:
        each.on_ready(lambda _: in_flight.append(resolver.statistics()["outstanding"]))
    assert resolver.statistics()["outstanding"] == 2
    assert resolver.statistics()["queued"] == 3
    for each in found:
        each.recv(RECV)
    assert max(in_flight) == 2
    names = [query.name[:2] for query in server.queries]
    assert names[:2] == ["n0", "n1"]
    assert (names.count("n0"), names.count("n1")) == (2, 2), "they time out and are repeated"
    assert [name for name in names if name > "n1"] == ["n2", "n3", "n4"]


def test_wait_for_slot_comes_when_nothing_has_to_wait(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=1)
    order: list[str] = []
    first = resolver.a("www.demo.test.")
    second = resolver.a("six.demo.test.")
    slot = resolver.wait_for_slot()
    first.on_ready(lambda _: order.append("first"))
    second.on_ready(lambda _: order.append("second"))
    slot.on_ready(lambda _: order.append("slot"))
    assert order == []
    assert slot.recv(RECV) is resolver
    assert order[:2] == ["first", "slot"] or order == ["first", "second", "slot"]
    second.recv(RECV)
    assert order == ["first", "second", "slot"]
    cancelled, free = resolver.wait_for_slot(), resolver.wait_for_slot()
    cancelled.cancel()
    assert not free.ready
    free.recv(RECV)


def test_equal_questions_in_flight_are_asked_once(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    found = [resolver.a("www.demo.test"), resolver.a("www.demo.test")]
    answer = resolver.resolve("www.demo.test", "A")
    assert found[0].recv(RECV) == found[1].recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert len(answer.recv(RECV)) == 2
    assert len(server.queries) == 1
    found[0].recv().append("x")
    assert found[1].recv() == ["192.0.2.80", "192.0.2.81"]


def test_a_cancelled_lookup_asks_no_more(resolver: ae_dns.Resolver, server: NameServer) -> None:
    server.script("*", "*", *[DROP] * 9)
    found, other = resolver.a("www.demo.test"), resolver.a("www.demo.test")
    found.cancel()
    with pytest.raises(ae.CancelledError):
        found.recv()
    assert resolver.statistics()["outstanding"] == 1
    other.cancel()
    assert resolver.statistics()["outstanding"] == 0


def test_a_forgotten_resolver_still_answers(server: NameServer) -> None:
    found = ae_dns.Resolver(servers=[server.endpoint]).a("www.demo.test")
    assert found.recv(RECV) == ["192.0.2.80", "192.0.2.81"]


def test_ipv6_servers() -> None:
    with NameServer("x.test. A 192.0.2.1", host="::1") as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint])
        assert resolver.a("x.test").recv(RECV) == ["192.0.2.1"]


# ------------------------------------------------------------- the shared resolver


def test_module_functions_ask_the_shared_resolver(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    ae_dns.set_resolver(resolver)
    assert ae_dns.resolver() is resolver
    assert ae_dns.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    assert ae_dns.aaaa("six.demo.test").recv(RECV) == ["2001:db8::6"]
    assert ae_dns.mx("demo.test").recv(RECV) == ["Fast.demo.test", "slow.demo.test"]
    assert ae_dns.ns("demo.test").recv(RECV) == ["ns2.demo.test", "ns1.demo.test"]
    assert ae_dns.txt("demo.test").recv(RECV)[0] == "one,two"
    assert ae_dns.ptr("80.2.0.192.in-addr.arpa").recv(RECV)[0] == "www.demo.test"
    assert ae_dns.any_("six.demo.test").recv(RECV) == ["AAAA 2001:db8::6"]
    assert ae_dns.srv("gone", "tcp", "demo.test").recv(RECV)[0].target == "."
    assert ae_dns.reverse_lookup("192.0.2.80").recv(RECV)[0] == "www.demo.test"
    assert ae_dns.reverse_verify("192.0.2.80").recv(RECV) == ["www.demo.test"]
    assert ae_dns.resolve("www.demo.test", "A").recv(RECV).name == "www.demo.test"


def test_a_resolver_of_another_make_is_shared_and_installed_as_well() -> None:
    import ae_socket

    class Own:
        def resolve(self, *_: object, **__: object) -> None:
            raise AssertionError("nobody asks for records")

        def getaddrinfo(
            self, host: str, service: str | int, **_: object
        ) -> ae.CondVar[list[ae_socket.AddressInfo]]:
            found: ae.CondVar[list[ae_socket.AddressInfo]] = ae.CondVar()
            sockaddr = ("192.0.2.7", int(service))
            found.send([ae_socket.AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, sockaddr)])
            return found

    ae_dns.set_resolver(Own())  # type: ignore[arg-type]
    ae_dns.install()
    [info] = ae_socket.resolve("own.test", 80).recv(RECV)
    assert info.sockaddr == ("192.0.2.7", 80)


def test_installed_it_resolves_for_ae_socket(resolver: ae_dns.Resolver) -> None:
    import ae_socket

    ae_dns.set_resolver(resolver)
    ae_dns.install()
    infos = ae_socket.resolve("www.demo.test", 80, family=4).recv(RECV)
    assert [info.sockaddr for info in infos] == [("192.0.2.80", 80), ("192.0.2.81", 80)]
