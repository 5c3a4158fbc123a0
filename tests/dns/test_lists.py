"""What the functions that give lists do where there is no list, and when they are cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_dns
from ae_core.abc import Backend
from ae_dns.testing import DROP, NameServer, Step, rcode

RECV = 10


def lists(resolver: ae_dns.Resolver, name: str) -> list[ae.CondVar[Any]]:
    """Call every function whose result is a list."""
    methods = (resolver.a, resolver.aaaa, resolver.mx, resolver.ns, resolver.txt, resolver.ptr)
    return [
        *(method(name) for method in methods),
        resolver.any_(name),
        resolver.srv("imap", "tcp", name),
    ]


def test_functions_give_an_empty_list_where_there_is_none(resolver: ae_dns.Resolver) -> None:
    asked = lists(resolver, "nothing.test")
    assert not any(found.ready for found in asked)
    assert [found.recv(RECV) for found in asked] == [[]] * len(asked)
    for there_is_none in (resolver.a("six.demo.test"), resolver.mx("www.demo.test")):
        assert there_is_none.recv(RECV) == []
    assert resolver.reverse_lookup("192.0.2.99").recv(RECV) == []


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (rcode("REFUSED"), ae_dns.ServerFailed),
        (rcode("SERVFAIL"), ae_dns.ServerFailed),
        (DROP, ae_dns.QueryTimedOut),
    ],
)
def test_functions_throw_what_resolve_throws_where_nobody_can_tell(
    server: NameServer, step: Step, error: type[ae_dns.ResolveError]
) -> None:
    server.script("*", "*", *[step] * 99)
    seconds = 0.05 if step is DROP else 60
    resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(seconds,), max_outstanding=99)
    asked = lists(resolver, "demo.test")
    asked += [resolver.reverse_lookup("192.0.2.80"), resolver.reverse_verify("192.0.2.80")]
    assert not any(found.ready for found in asked)
    for found in asked:
        with pytest.raises(error) as caught:
            found.recv(RECV)
        assert type(caught.value) is error


def test_functions_throw_if_there_is_no_server() -> None:
    with NameServer() as gone:
        endpoint = gone.endpoint
    for found in lists(ae_dns.Resolver(servers=[endpoint], timeouts=(9,)), "demo.test"):
        with pytest.raises(ae_dns.ServerFailed, match="no server could be asked"):
            found.recv(RECV)


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "a." * 128])
def test_functions_throw_if_the_name_is_impossible(resolver: ae_dns.Resolver, name: str) -> None:
    found = resolver.a(name)
    assert not found.ready
    with pytest.raises(ae_dns.ResolveError):
        found.recv(RECV)


def test_a_domain_that_accepts_no_mail_says_so(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    """RFC 7505; a service that is decidedly not offered (RFC 2782) has the same target."""
    server.add("no.demo.test. MX 0 .")
    assert resolver.mx("no.demo.test").recv(RECV) == ["."]
    assert [record.target for record in resolver.srv("gone", "tcp", "demo.test").recv(RECV)] == [
        "."
    ]


def test_a_name_that_cannot_be_verified_is_left_out_if_another_one_is(
    resolver: ae_dns.Resolver, server: NameServer
) -> None:
    server.script("liar.demo.test", "A", *[rcode("SERVFAIL")] * 9)
    assert resolver.reverse_verify("192.0.2.80").recv(RECV) == ["www.demo.test"]
    server.script("www.demo.test", "A", *[rcode("SERVFAIL")] * 9)
    server.add("liar.demo.test. A 192.0.2.1")
    with pytest.raises(ae_dns.ServerFailed):
        resolver.reverse_verify("192.0.2.80").recv(RECV)


# ------------------------------------------------------------- cancelled


def test_a_lookup_whose_only_awaiter_is_cancelled_frees_its_slot(backend: Backend) -> None:
    async def main() -> None:
        with NameServer("www.demo.test. A 192.0.2.80") as server:
            server.script("silent.test", "*", *[DROP] * 9)
            resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(60,), max_outstanding=1)
            starts: list[Callable[[], ae.CondVar[Any]]] = [
                lambda: resolver.a("silent.test."),
                lambda: resolver.resolve("silent.test.", "MX"),
                lambda: resolver.getaddrinfo("silent.test.", 80, family=4),
                lambda: resolver.reverse_verify("192.0.2.80"),
            ]
            server.script("80.2.0.192.in-addr.arpa", "PTR", *[DROP] * 9)
            for start in starts:

                async def ask(start: Callable[[], ae.CondVar[Any]] = start) -> object:
                    return await start()

                task = ae.spawn(ask())
                while not resolver.statistics()["outstanding"]:
                    await ae.sleep(0)
                next_one = resolver.a("www.demo.test.")
                task.cancel()
                with pytest.raises((ae.CancelledError, ae.cancelled_class())):
                    await task
                assert await next_one == ["192.0.2.80"]
                assert resolver.statistics()["outstanding"] == 0

    ae.run(main())


def test_a_cancelled_wait_for_a_slot_is_over(resolver: ae_dns.Resolver) -> None:
    slots = [resolver.wait_for_slot() for _ in range(3)]
    slots[1].cancel()
    assert slots[2].recv(RECV) is resolver
    assert slots[0].ready


def test_lookups_say_what_they_are(resolver: ae_dns.Resolver) -> None:
    found = resolver.mx("demo.test")
    assert "lookup of demo.test MX" in repr(found)
    found.recv(RECV)
