"""The whole room once on every backend, and resolvers that outlive their loops."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import sys
import threading

import pytest

import ae_core as ae
import ae_dns
from ae_core.abc import Backend
from ae_dns.testing import DROP, TRUNCATE, NameServer

RECV = 30
ZONE = """
www.demo.test. A 192.0.2.80
www.demo.test. A 192.0.2.81
six.demo.test. AAAA 2001:db8::6
80.2.0.192.in-addr.arpa. PTR www.demo.test.
"""
ADDRESSES = ["192.0.2.80", "192.0.2.81"]


def test_lookups_over_udp_and_tcp(backend: Backend) -> None:
    async def main() -> None:
        with NameServer(ZONE) as server:
            resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
            assert await resolver.a("www.demo.test") == ADDRESSES
            server.script("six.demo.test", "AAAA", TRUNCATE)
            assert await resolver.aaaa("six.demo.test") == ["2001:db8::6"]
            assert await resolver.reverse_verify("192.0.2.80") == ["www.demo.test"]
            assert await resolver.a("www.demo.test") == ADDRESSES
            with pytest.raises(ae_dns.NoSuchName):
                await resolver.getaddrinfo("nothing.test", 80)

    ae.run(main())


def test_many_lookups_share_sockets(backend: Backend) -> None:
    async def main() -> None:
        with NameServer(ZONE) as server:
            resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=100)
            found = [resolver.a("www.demo.test."), *(resolver.a(f"n{i}.test.") for i in range(400))]
            assert [await each for each in found] == [ADDRESSES, *[[]] * 400]
            assert len({query.source for query in server.queries}) >= 16

    ae.run(main())


def test_time_outs_and_the_next_server(backend: Backend) -> None:
    async def main() -> None:
        with NameServer(ZONE) as server, NameServer() as silent:
            silent.script("*", "*", DROP)
            servers = [silent.endpoint, server.endpoint]
            resolver = ae_dns.Resolver(servers=servers, timeouts=(0.05, 9))
            assert await resolver.a("www.demo.test") == ADDRESSES

    ae.run(main())


def test_a_cancelled_lookup_leaves_nothing(backend: Backend) -> None:
    async def main() -> None:
        with NameServer(ZONE) as server:
            server.script("*", "*", DROP, TRUNCATE, DROP)
            resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(9,))
            for _ in range(2):
                found = resolver.a("www.demo.test")
                await ae.sleep(0.03)
                found.cancel()
            assert resolver.statistics()["outstanding"] == 0

    ae.run(main())


# ------------------------------------------------------------- loops that come and go


def port_to_come() -> int:
    """Return a port that is free, and which the system gives to nobody who wants any."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usefixtures("unbound")
def test_what_was_in_flight_when_a_loop_ended_takes_no_slots_from_the_next() -> None:
    port = port_to_come()
    resolver = ae_dns.Resolver(servers=[f"127.0.0.1:{port}"], max_outstanding=2)
    over_tcp = ae_dns.Resolver(servers=[f"127.0.0.1:{port}"], tcp=True)
    before = descriptors()
    found: list[ae.CondVar[list[str]]] = []

    async def ends_too_early() -> None:
        with NameServer(port=port) as server:
            server.script("*", "*", *[DROP] * 2)
            found.extend(resolver.a(f"n{i}.test.") for i in range(4))
            server.script("t.test", "A", DROP)
            found.append(over_tcp.a("t.test."))
            await ae.sleep(0.05)
            assert not any(each.ready for each in found)
            assert resolver.statistics()["outstanding"] == 2

    async def goes_on() -> list[str]:
        with NameServer("x.test. A 192.0.2.1", port=port):
            assert await over_tcp.a("x.test.") == ["192.0.2.1"]
            return await resolver.a("x.test.")

    asyncio.run(ends_too_early())
    for _ in range(2):
        assert asyncio.run(goes_on()) == ["192.0.2.1"]
        assert resolver.statistics()["outstanding"] == 0
    for each in found:  # nothing is left to be given back
        each.cancel()
    assert resolver.statistics()["outstanding"] == 0
    assert descriptors() == before


@pytest.mark.usefixtures("unbound")
def test_a_loop_may_end_before_a_burst_has_left() -> None:
    port = port_to_come()
    resolver = ae_dns.Resolver(servers=[f"127.0.0.1:{port}"], max_outstanding=1000)
    before = descriptors()

    async def leaves_at_once() -> None:
        for i in range(300):
            resolver.a(f"n{i}.test.")

    async def goes_on() -> list[str]:
        with NameServer("x.test. A 192.0.2.1", port=port):
            return await resolver.a("x.test.")

    asyncio.run(leaves_at_once())
    assert asyncio.run(goes_on()) == ["192.0.2.1"]
    assert resolver.statistics()["outstanding"] == 0
    assert descriptors() == before


def test_threads_share_a_resolver_but_no_sockets(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], cache=True)
    done: ae.CondVar[None] = ae.CondVar()
    loop = ae.detect()
    found: list[list[str]] = []

    def ask() -> None:
        try:
            for _ in range(20):
                found.append(resolver.a("www.demo.test.").recv(RECV))
        finally:
            loop.call_threadsafe(done.end)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        done.begin()
        thread.start()
    done.recv(RECV)
    for thread in threads:
        thread.join()
    assert found == [ADDRESSES] * 60


@pytest.mark.parametrize("connected", [False, True])
def test_a_thread_that_ends_with_lookups_in_flight_leaves_nothing(
    server: NameServer, connected: bool
) -> None:
    server.script("*", "*", *[DROP] * 99)
    resolvers = [ae_dns.Resolver(servers=[server.endpoint], tcp=tcp) for tcp in (False, True)]
    gc.collect()
    before = descriptors()

    def ask() -> None:
        for resolver in resolvers:
            resolver.a("www.demo.test.")
        if connected:
            with pytest.raises(TimeoutError):
                ae.CondVar[None]().recv(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    gc.collect()
    assert descriptors() == before
    server.cancel()


def test_await(server: NameServer, resolver: ae_dns.Resolver) -> None:
    async def main() -> list[str]:
        answer = await resolver.resolve("alias.demo.test", "A")
        return [answer.name, *(await resolver.a("www.demo.test"))]

    assert ae.run(main()) == ["www.demo.test", *ADDRESSES]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_asks_for_itself(server: NameServer) -> None:
    code = f"""if True:
        import os, ae_dns
        resolver = ae_dns.Resolver(servers=[{server.endpoint!r}])
        assert resolver.a("www.demo.test").recv(20)
        found = resolver.a("www.demo.test")
        child = os.fork()
        good = resolver.a("www.demo.test.").recv(20) == {ADDRESSES!r}
        if child == 0:
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert found.recv(20) == {ADDRESSES!r} and good
    """
    assert ae.run_cmd([sys.executable, "-W", "error", "-c", code]).recv(RECV) == 0
