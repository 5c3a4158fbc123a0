"""Handles, TLS and DNS over a bad network: relays between real sockets, repeatable by their seed.

The relay of streams delays, stalls and cuts what it carries down to single octets. The relay of
datagrams loses, doubles, delays and reorders them.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_dns
from ae_dns.testing import NameServer
from ae_handle import (
    Cbor,
    Chunk,
    Handle,
    Json,
    Line,
    NetString,
    PackString,
    UnexpectedEOF,
)
from ae_handle.testing import end_lingering
from ae_socket import tcp_server
from ae_tls import Context
from ae_tls.testing import CertificateAuthority


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        scale: Any = metafunc.config.getoption("--scale")
        metafunc.parametrize("seed", range(max(3, scale)))


async def until(sock: socket.socket, what: Any) -> None:
    """Wait until *sock* can be read or written."""
    ready: ae.CondVar[None] = ae.CondVar()
    with ae.io(sock, what, ready.send):
        await ready


class StreamRelay:
    """Carries connections to *target*, each direction as the dice of *seed* have it."""

    def __init__(self, target: tuple[str, int | str], seed: int) -> None:
        self._target = target
        self._seed = seed
        self._tasks: set[ae.CondVar[None]] = set()
        self.did: Counter[str] = Counter()
        self._server = tcp_server("127.0.0.1", 0, self._accept)
        self.address = self._server.address

    def _accept(self, sock: socket.socket, *_: object) -> None:
        task = ae.spawn(self._connection(sock, len(self._tasks)))
        self._tasks.add(task)

    async def _connection(self, near: socket.socket, number: int) -> None:
        far = socket.create_connection(self._target)
        far.setblocking(False)
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with near, far:
            there = ae.spawn(self._carry(near, far, random.Random(f"{self._seed} {number} there")))
            back = ae.spawn(self._carry(far, near, random.Random(f"{self._seed} {number} back")))
            try:
                await there
                await back
            finally:
                there.cancel()
                back.cancel()

    async def _carry(
        self, source: socket.socket, target: socket.socket, roll: random.Random
    ) -> None:
        while True:
            await until(source, "r")
            data = source.recv(roll.choice((1, 1000, 65536)))
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            while data:
                how = roll.random()
                if how < 0.03:
                    self.did["stalled"] += 1
                    await ae.sleep(roll.uniform(0, 0.03))
                elif how < 0.3:
                    self.did["delayed"] += 1
                    await ae.sleep(roll.uniform(0, 0.002))
                await until(target, "w")
                size = target.send(data[: roll.choice((1, 1, 1, 2, 7, 100, 500, 1400))])
                self.did["single octets"] += size == 1
                data = data[size:]

    async def aclose(self) -> None:
        self._server.cancel()
        for task in self._tasks:
            await task


class DatagramRelay:
    """Carries datagrams to *target* and back, or not, or twice, or late.

    What becomes of one is decided by the seed, its contents behind the identifier, and how often
    the like came before: so a run can be repeated. Of those that are alike two are lost at most.
    """

    def __init__(self, target: tuple[str, int | str], seed: int) -> None:
        self._target = target
        self._seed = seed
        self._front = self._socket()
        self._front.bind(("127.0.0.1", 0))
        self.address = self._front.getsockname()
        self._upstream: dict[Any, socket.socket] = {}
        self._watchers: list[ae.Watcher] = [ae.io(self._front, "r", self._from_client)]
        self._alike: Counter[Any] = Counter()
        self._lost: Counter[Any] = Counter()
        self._order: dict[bool, list[int]] = {True: [], False: []}
        self.did: Counter[str] = Counter()

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        return sock

    def _from_client(self) -> None:
        data, client = self._front.recvfrom(65536)
        sock = self._upstream.get(client)
        if sock is None:
            sock = self._upstream[client] = self._socket()
            sock.connect(self._target)
            self._watchers.append(ae.io(sock, "r", lambda: self._from_server(sock, client)))
        self._carry(True, data, lambda: sock.send(data))

    def _from_server(self, sock: socket.socket, client: Any) -> None:
        data = sock.recv(65536)
        self._carry(False, data, lambda: self._front.sendto(data, client))

    def _carry(self, forth: bool, data: bytes, send: Callable[[], object]) -> None:
        key = (forth, data[2:])
        self._alike[key] += 1
        roll = random.Random(f"{self._seed} {key} {self._alike[key]}")
        if roll.random() < 0.3 and self._lost[key] < 2:
            self._lost[key] += 1
            self.did["lost"] += 1
            return
        number = sum(self._alike.values())
        for copy in range(roll.choice((1, 1, 2))):
            self.did["doubled"] += copy
            self._later(forth, number, roll.uniform(0, 0.02), send)

    def _later(self, forth: bool, number: int, delay: float, send: Callable[[], object]) -> None:
        def due() -> None:
            order = self._order[forth]
            self.did["overtaken"] += bool(order and order[-1] > number)
            order.append(number)
            send()

        self._watchers.append(ae.timer(delay, due))

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        for sock in (self._front, *self._upstream.values()):
            sock.close()


FRAMES: dict[str, tuple[Any, Callable[[random.Random], Any]]] = {
    "line": (Line(b"\0"), lambda roll: roll.randbytes(roll.randrange(300)).replace(b"\0", b"")),
    "netstring": (NetString(), lambda roll: roll.randbytes(roll.choice((0, 1, 9, 10, 3000)))),
    "packstring": (PackString("w"), lambda roll: roll.randbytes(roll.choice((0, 127, 20_000)))),
    "json": (Json(), lambda roll: {"a": [roll.random(), "\u00e9\\" * roll.randrange(50)]}),
    "cbor": (Cbor(), lambda roll: {"b": [roll.randbytes(roll.randrange(400)), None]}),
}


def conversation(seed: int) -> list[tuple[Any, Any]]:
    """Return frame types and values: what one says and the other says again."""
    roll = random.Random(seed)
    return [(frame, make(roll)) for frame, make in roll.choices(list(FRAMES.values()), k=25)]


async def repeat(h: Handle, said: list[tuple[Any, Any]]) -> None:
    for frame, _ in said:
        h.push_write(frame, await h.push_read(frame))
    h.push_write(b"end")
    await h.drained()
    h.destroy()


async def talk(h: Handle, said: list[tuple[Any, Any]]) -> None:
    for frame, value in said:
        h.push_write(frame, value)
    for frame, value in said:
        assert await h.push_read(frame) == value
    assert await h.push_read(Chunk(3)) == b"end"
    with pytest.raises(UnexpectedEOF):
        await h.push_read(Chunk(1))
    h.destroy()


async def over_a_bad_network(
    seed: int, client: dict[str, Any], server: dict[str, Any]
) -> Counter[str]:
    """Hold a conversation through a relay; return what the relay did to it."""
    said = conversation(seed)
    tasks: list[ae.CondVar[None]] = []

    def accept(sock: socket.socket, *_: object) -> None:
        tasks.append(ae.spawn(repeat(Handle(sock, **server), said)))

    async with ae.timeout(60):
        with tcp_server("127.0.0.1", 0, accept) as listening:
            relay = StreamRelay(listening.address, seed)
            await talk(Handle(connect=relay.address, **client), said)
            await relay.aclose()
        await tasks[0]
    end_lingering()  # the closed relay has what was left to say
    return relay.did


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.mark.parametrize("kind", ["plain", "ssl", "ae_tls"])
def test_a_handle_says_and_hears_the_same_over_a_bad_network(
    authority: CertificateAuthority, tmp_path: Path, kind: str, seed: int
) -> None:
    client: dict[str, Any] = {}
    server: dict[str, Any] = {}
    if kind != "plain":
        leaf = authority.issue("peer.test")
        client = {"tls": "connect", "peer_name": "peer.test"}
        server = {"tls": "accept"}
        if kind == "ae_tls":
            client["tls_context"] = Context(ca_cert=authority.cert)
            server["tls_context"] = Context(cert=leaf.chain, key=leaf.key)
        else:
            file = tmp_path / "own.pem"
            file.write_text(leaf.cert_pem + leaf.key_pem)
            client["tls_context"] = ssl.create_default_context(cadata=authority.pem)
            server["tls_context"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server["tls_context"].load_cert_chain(file)
    did = ae.run(over_a_bad_network(seed, client, server))
    assert did["single octets"] > 0
    assert did["stalled"] + did["delayed"] > 0


NAMES = [f"n{number}.test" for number in range(20)]
RECORDS = [f"{name}. A 192.0.2.{number}" for number, name in enumerate(NAMES)]


def test_names_are_found_over_a_network_that_loses_doubles_and_reorders(seed: int) -> None:
    async def look_up_all(resolver: ae_dns.Resolver) -> list[list[str]]:
        async with ae.timeout(60):
            asked = [resolver.a(name) for name in NAMES]
            return [await each for each in asked]

    with NameServer(RECORDS) as server:
        relay = DatagramRelay(server.address, seed)
        try:
            resolver = ae_dns.Resolver(
                servers=[f"127.0.0.1:{relay.address[1]}"], timeouts=[0.1] * 12
            )
            found = ae.run(look_up_all(resolver))
        finally:
            relay.close()
    assert found == [[f"192.0.2.{number}"] for number in range(len(NAMES))]
    assert min(relay.did[what] for what in ("lost", "doubled", "overtaken")) > 0
