"""Cases 80: the five conversations of upstream's TLS test, over TCP, with one context for both.

As there, nothing is verified, every handle has a time-out, any error fails the test, and a side
that is done drops its handle in ``on_drain`` or in a read callback.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle, PackString
from ae_handle.testing import end_lingering
from ae_socket import tcp_connect, tcp_server
from ae_tls import Context
from ae_tls.testing import CertificateAuthority

PATIENCE = 20.0
BLOCKS = 64
N = PackString("N")


@pytest.fixture(params=["openssl", "ssl"])
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    leaf = CertificateAuthority().issue("www.example.org")
    file = tmp_path / "both.pem"
    file.write_text(leaf.cert_pem + leaf.key_pem)
    if request.param == "openssl":
        both = Context(cert_file=file, verify=False)
        return {"accept": both, "connect": both}
    accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accept.load_cert_chain(file)
    connect = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connect.check_hostname = False
    connect.verify_mode = ssl.CERT_NONE
    return {"accept": accept, "connect": connect}


class Side:
    """One side of a conversation: what happened to it, and its handle while it has one."""

    def __init__(self, role: Any, sock: Any, contexts: dict[str, Any]) -> None:
        self.story: list[Any] = []
        self.done: ae.CondVar[None] = ae.CondVar()
        self.handle: Handle | None = Handle(
            sock,
            tls=role,
            tls_context=contexts[role],
            timeout=PATIENCE,
            on_error=lambda h, error: self.end(error),
            on_eof=lambda h: self.end("eof"),
        )

    def end(self, how: Any) -> None:
        self.story.append(how)
        self.handle = None
        if not self.done.ready:
            self.done()

    def drop_when_sent(self, h: Handle) -> None:
        h.on_drain = lambda h: self.end("dropped")

    def line(self, then: Callable[[Handle], object] | None = None) -> None:
        assert self.handle is not None

        def got(h: Handle, line: bytes) -> None:
            self.story.append(line)
            if then is not None:
                then(h)

        self.handle.push_read("line", got)


Converse = Callable[[Callable[[Side], object], Callable[[Side], object]], tuple[Side, Side]]


@pytest.fixture
def converse(contexts: dict[str, Any], tally: Counter[str]) -> Iterator[Converse]:
    made: list[Any] = []

    def run(
        server_does: Callable[[Side], object], client_does: Callable[[Side], object]
    ) -> tuple[Side, Side]:
        accepted: ae.CondVar[Side] = ae.CondVar()

        def accept(sock: Any, host: str, port: Any) -> None:
            assert host == "127.0.0.1"
            side = Side("accept", sock, contexts)
            server_does(side)
            accepted(side)

        server = tcp_server("127.0.0.1", 0, accept)
        made.append(server)
        sock = tcp_connect("127.0.0.1", server.address[1]).recv(timeout=PATIENCE)
        client = Side("connect", sock, contexts)
        client_does(client)
        near, far = client, accepted.recv(timeout=PATIENCE)
        near.done.recv(timeout=PATIENCE)
        far.done.recv(timeout=PATIENCE)
        tally["cases 80 of upstream"] += 1
        return near, far

    yield run
    end_lingering()
    for server in made:
        server.cancel()


def says(side: Side, text: bytes) -> None:
    """Write *text*, and drop the handle when it is sent."""
    assert side.handle is not None
    side.handle.push_write(text)
    side.drop_when_sent(side.handle)


def test_the_client_speaks_and_goes(converse: Converse) -> None:
    client, server = converse(lambda it: it.line(), lambda it: says(it, b"1\n"))
    assert client.story == ["dropped"]
    assert server.story == [b"1", "eof"]


def test_the_server_speaks_and_goes(converse: Converse) -> None:
    client, server = converse(lambda it: says(it, b"2\n"), lambda it: it.line())
    assert server.story == ["dropped"]
    assert client.story == [b"2", "eof"]


def test_the_client_asks_and_the_server_answers_and_goes(converse: Converse) -> None:
    def ask(it: Side) -> None:
        assert it.handle is not None
        it.handle.push_write(b"3\n")
        it.line()

    client, server = converse(lambda it: it.line(lambda h: says(it, b"4\n")), ask)
    assert server.story == [b"3", "dropped"]
    assert client.story == [b"4", "eof"]


def test_the_server_asks_and_the_client_answers_and_goes(converse: Converse) -> None:
    def ask(it: Side) -> None:
        assert it.handle is not None
        it.handle.push_write(b"5\n")
        it.line()

    client, server = converse(ask, lambda it: it.line(lambda h: says(it, b"6\n")))
    assert client.story == [b"5", "dropped"]
    assert server.story == [b"6", "eof"]


def test_blocks_of_any_size_are_echoed(converse: Converse) -> None:
    """64 requests wait for a line each; each line unshifts the request for its block.

    The server is asked by ``on_read`` whenever its queue is empty, also if what it reads next
    came in the same record as what it read last.
    """
    random = Random(80)
    sizes = [4 ** random.randrange(10) for _ in range(BLOCKS)]
    echoed: list[int] = []

    def serve(it: Side) -> None:
        def on_read(h: Handle) -> None:
            h.push_read("line", line)

        def line(h: Handle, size: bytes) -> None:
            h.push_read(N, lambda h, block: echo(h, size, block))

        def echo(h: Handle, size: bytes, block: bytes) -> None:
            assert int(size) == len(block)
            h.push_write(size + b"\n")
            h.push_write(N, block)

        assert it.handle is not None
        it.handle.max_read_buffer = None
        it.handle.on_read = on_read

    def ask(it: Side) -> None:
        def send(h: Handle) -> None:
            size = sizes[len(echoed)]
            h.push_write(b"%d\n" % size)
            h.push_write(N, bytes(size))

        def line(h: Handle, size: bytes) -> None:
            h.unshift_read(N, lambda h, block: got(h, int(size), block))

        def got(h: Handle, size: int, block: bytes) -> None:
            assert len(block) == size
            echoed.append(size)
            if len(echoed) == BLOCKS:
                it.end("dropped")
            else:
                send(h)

        assert it.handle is not None
        it.handle.max_read_buffer = None
        for _ in range(BLOCKS):
            it.handle.push_read("line", line)
        send(it.handle)

    client, server = converse(serve, ask)
    assert echoed == sizes
    assert client.story == ["dropped"]
    assert server.story == ["eof"]
