"""Connections that the server has closed meanwhile, in programs that do not let the loop run."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_http import Client
from ae_http._look import Look

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Server:
    """A server in threads: answers each request, and closes when it is told.

    Attributes:
        accepted: How many connections there were.
        requests: What was asked for, as (method, connection).
        last_words: What it sends before it closes.
        answers: Not before this is set.
    """

    def __init__(self, context: ssl.SSLContext | None, fields: bytes = b"") -> None:
        self._context = context
        self._fields = fields
        self._sock = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._sock.getsockname()[1]}/"
        self.accepted = 0
        self.requests: list[tuple[str, int]] = []
        self.last_words = b""
        self.answers = threading.Event()
        self.answers.set()
        self._serving: list[tuple[threading.Thread, socket.socket]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                conn = self._sock.accept()[0]
            except OSError:
                return  # the end
            self.accepted += 1
            told, tell = socket.socketpair()
            thread = threading.Thread(target=self._serve, args=(conn, told, self.accepted))
            self._serving.append((thread, tell))
            thread.start()

    def _serve(self, conn: Any, told: socket.socket, number: int) -> None:
        with told:
            if self._context is not None:
                conn = self._context.wrap_socket(conn, server_side=True)
            with conn:
                while conn in select.select([conn, told], [], [])[0]:
                    data = conn.recv(65536)
                    if not data:
                        return
                    self.requests.append((data.split(b" ")[0].decode(), number))
                    self.answers.wait()
                    conn.sendall(OK % self._fields)
                conn.sendall(self.last_words)
                if self._context is not None:
                    conn.settimeout(0)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        conn.unwrap()

    def close_all(self) -> None:
        """Close the connections; when this returns, the client's system knows."""
        serving, self._serving = self._serving, []
        for thread, tell in serving:
            tell.close()
            thread.join()

    def end(self) -> None:
        """End it."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()
        self.close_all()


@pytest.fixture(params=["plain", "ae-tls", "ssl"])
def stale(
    request: pytest.FixtureRequest, pem: Path, trusting: Any, authority: Any
) -> Iterator[tuple[Callable[..., Server], Any]]:
    """A function that starts such a server, and the ``tls_context`` of its clients."""
    started: list[Server] = []
    context = None
    if request.param != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    ours = trusting if request.param == "ae-tls" else ssl.create_default_context()
    if request.param == "ssl":
        ours.load_verify_locations(cadata=authority.pem)

    def start(fields: bytes = b"") -> Server:
        server = Server(context, fields)
        started.append(server)
        return server

    yield start, ours
    for server in started:
        server.end()


@pytest.mark.parametrize("last_words", [b"", TIMED_OUT], ids=["silent", "408"])
def test_a_script_sends_nothing_on_a_connection_that_was_closed(
    last_words: bytes, stale: Any
) -> None:
    start, context = stale
    server = start()
    server.last_words = last_words
    with Client(tls_context=context, read_timeout=5) as client:
        for number in (1, 2, 3):
            assert client.post(server.url, b"x").recv(30).status == 200
            assert client.post(server.url, b"x").recv(30).status == 200
            assert server.accepted == number
            assert client.idle == 1
            server.close_all()  # and the loop does not run until the next request
    assert server.requests == [("POST", number) for number in (1, 1, 2, 2, 3, 3)]


def test_a_coroutine_that_works_without_await_does_not_either(stale: Any) -> None:
    start, context = stale
    server = start()

    async def main() -> None:
        async with Client(tls_context=context) as client:
            for _ in range(3):
                assert (await client.post(server.url, b"x")).status == 200
                server.close_all()
            streams = [await client.stream("POST", server.url, body=b"x") for _ in range(2)]
            for stream in streams:
                assert await stream.read_all() == b"ok"

    ae.run(main())
    assert len(server.requests) == 5


def test_who_waits_for_a_connection_gets_one_that_is_open(stale: Any, until: Any) -> None:
    start, context = stale
    server = start()
    server.answers.clear()

    def asked() -> bool:
        if len(server.requests) == 1:
            server.answers.set()
            server.close_all()  # so the response and the end are there when the loop goes on
        return bool(server.requests)

    with Client(tls_context=context, max_connections=1) as client:
        responses = [client.post(server.url, b"x") for _ in range(3)]
        until(asked)
        assert [each.recv(30).status for each in responses] == [200] * 3
    assert server.requests == [("POST", 1), ("POST", 2), ("POST", 2)]


def test_of_several_idle_connections_the_closed_ones_are_passed_over(stale: Any) -> None:
    start, context = stale
    server = start()
    with Client(tls_context=context) as client:
        for each in [client.post(server.url, b"x") for _ in range(4)]:
            each.recv(30)
        assert client.idle == 4
        server.close_all()
        client.post(server.url, b"x").recv(30)
        assert (client.idle, server.accepted) == (1, 5)


@pytest.mark.parametrize(
    ("options", "fields", "seconds"),
    [
        ({"idle_timeout": 4.0}, b"", 4.5),
        ({}, b"Keep-Alive: timeout=3\r\n", 2.5),
        ({}, b'keep-alive: max=100, Timeout = "3"\r\n', 2.5),
        ({}, b"Keep-Alive: timeout=0\r\n", 0.0),
    ],
)
def test_an_expired_connection_is_not_used_though_no_timer_could_run(
    options: Any, fields: bytes, seconds: float, stale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, context = stale
    server = start(fields)
    with Client(tls_context=context, **options) as client:
        client.post(server.url, b"x").recv(30)
        ahead = seconds
        clock = time.monotonic
        monkeypatch.setattr(ae.detect(), "clock", lambda: clock() + ahead)
        client.post(server.url, b"x").recv(30)
        assert server.accepted == 2
        monkeypatch.undo()


def test_a_stream_without_a_descriptor_is_not_looked_at() -> None:
    assert Look(None).is_quiet()
