"""Connections through proxies, against proxies that say and expect what the RFCs have."""

from __future__ import annotations

import errno
import pickle
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_socket import (
    ConnectFailed,
    Connector,
    ProxyRefused,
    ProxyStep,
    Server,
    _connectors,
    http_connect,
    socks5,
    tcp_server,
)
from ae_socket.testing import refused_address, silent_address

Script = list[tuple[bytes, bytes]]


class Proxy:
    """Expects and answers what its script says, piece by piece if so told; then hangs up, or not.

    What it heard in all is in ``heard``.
    """

    def __init__(self, script: Script, *, piece: int = 1 << 20, hang_up: bool = False) -> None:
        self.heard = b""
        self._script = script
        self._piece = piece
        self._hang_up = hang_up
        self._open: list[socket.socket] = []
        self._watches: list[ae.Watcher] = []
        self._server: Server = tcp_server("127.0.0.1", 0, self._accepted)
        self.address = self._server.address

    def close(self) -> None:
        self._server.cancel()
        self._watches.clear()
        for sock in self._open:
            sock.close()

    def _accepted(self, sock: socket.socket, host: str, port: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(sock)
        self._watches.append(ae.io(sock, "r", lambda: self._readable(sock)))

    def _readable(self, sock: socket.socket) -> None:
        data = sock.recv(65536)
        if not data:
            self._watches.clear()
            return
        self.heard += data
        expected = b"".join(question for question, _ in self._script)
        assert expected.startswith(self.heard) or self.heard.startswith(expected), self.heard
        length = 0
        for index, (question, answer) in enumerate(self._script):
            length += len(question)
            if length == len(self.heard):
                self._say(sock, answer, is_last=index == len(self._script) - 1)

    def _say(self, sock: socket.socket, answer: bytes, *, is_last: bool) -> None:
        sock.send(answer[: self._piece])
        if rest := answer[self._piece :]:
            later = ae.timer(0.0, lambda: self._say(sock, rest, is_last=is_last))
            self._watches.append(later)
        elif is_last and self._hang_up:
            sock.shutdown(socket.SHUT_WR)


GREETING = b"220 hello, I speak first\r\n"
SOCKS_OK = b"\5\0\0\1\x7f\0\0\1\x04\x38"
SOCKS_NAME = b"\5\1\0\3\x0btarget.test\0\x19"
CONNECT = b"CONNECT target.test:25 HTTP/1.1\r\nHost: target.test:25\r\n\r\n"
SUCCESSES: dict[str, tuple[Callable[[Any], Connector], tuple[str, str | int], Script]] = {
    "socks-name": (
        socks5,
        ("target.test", 25),
        [(b"\5\1\0", b"\5\0"), (SOCKS_NAME, SOCKS_OK)],
    ),
    "socks-ipv4": (
        socks5,
        ("192.0.2.7", "smtp"),
        [(b"\5\1\0", b"\5\0"), (b"\5\1\0\1\xc0\0\2\7\0\x19", SOCKS_OK)],
    ),
    "socks-ipv6": (
        socks5,
        ("2001:db8::7", 25),
        [
            (b"\5\1\0", b"\5\0"),
            (
                b"\5\1\0\4" + bytes.fromhex("20010db8000000000000000000000007") + b"\0\x19",
                b"\5\0\0\4" + bytes(16) + b"\0\0",
            ),
        ],
    ),
    "socks-login": (
        lambda proxy: socks5(proxy, user="me", password="pass"),
        ("target.test", 25),
        [(b"\5\2\0\2", b"\5\2"), (b"\1\2me\4pass", b"\1\0"), (SOCKS_NAME, SOCKS_OK)],
    ),
    "socks-login-not-wanted": (
        lambda proxy: socks5(proxy, user="me", password="pass"),
        ("target.test", 25),
        [(b"\5\2\0\2", b"\5\0"), (SOCKS_NAME, b"\5\0\0\3\4here\0\1")],
    ),
    "http": (
        http_connect,
        ("target.test", 25),
        [(CONNECT, b"HTTP/1.1 200 Connection established\r\nVia: 1.1 p\r\n\r\n")],
    ),
    "http-bare": (http_connect, ("target.test", 25), [(CONNECT, b"HTTP/1.0 200\n\n")]),
    "http-interim": (
        http_connect,
        ("target.test", 25),
        [(CONNECT, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 OK\r\n\r\n")],
    ),
    "http-ipv6": (
        http_connect,
        ("2001:db8::7", 25),
        [
            (
                b"CONNECT [2001:db8::7]:25 HTTP/1.1\r\nHost: [2001:db8::7]:25\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n",
            )
        ],
    ),
    "http-login": (
        lambda proxy: http_connect(
            proxy, user="Aladdin", password="open sesame", headers=[("User-Agent", "test")]
        ),
        ("target.test", 25),
        [
            (
                CONNECT[:-2] + b"User-Agent: test\r\n"
                b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n",
            )
        ],
    ),
}


@pytest.mark.parametrize("piece", [1 << 20, 1, 7])
@pytest.mark.parametrize("case", SUCCESSES)
def test_the_socket_has_what_the_host_said_and_nothing_of_the_proxy(
    backend: Backend, case: str, piece: int
) -> None:
    """The host's greeting comes in one segment with the proxy's answer."""
    connector, target, script = SUCCESSES[case]
    question, answer = script[-1]

    async def main() -> bytes:
        proxy = Proxy([*script[:-1], (question, answer + GREETING)], piece=piece, hang_up=True)
        sock = await connector(proxy.address)(*target)
        assert proxy.heard == b"".join(question for question, _ in script)
        assert sock.gettimeout() == 0
        heard = b""
        readable = ae.CondVar[None]()
        while True:
            with ae.io(sock, "r", readable.send):
                await readable
            data = sock.recv(65536)
            if not data:
                break
            heard += data
            readable = ae.CondVar()
        sock.close()
        proxy.close()
        return heard

    assert ae.run(main()) == GREETING


@pytest.mark.parametrize(
    ("connector", "script", "code", "text"),
    [
        (socks5, [(b"\5\1\0", b"\5\xff")], errno.EACCES, "it wants a user and password"),
        (socks5, [(b"\5\1\0", b"HT")], errno.EPROTO, "what it says is not SOCKS 5"),
        (
            lambda proxy: socks5(proxy, user="u", password="p"),
            [(b"\5\2\0\2", b"\5\2"), (b"\1\1u\1p", b"\1\1")],
            errno.EACCES,
            "the user or password is wrong",
        ),
        (
            socks5,
            [(b"\5\1\0", b"\5\0"), (SOCKS_NAME, b"\5\5\0\1\0\0\0\0\0\0")],
            errno.ECONNREFUSED,
            "connection refused",
        ),
        (
            socks5,
            [(b"\5\1\0", b"\5\0"), (SOCKS_NAME, b"\5\x63\0\1\0\0\0\0\0\0")],
            errno.EPROTO,
            "reply 99",
        ),
        (
            socks5,
            [(b"\5\1\0", b"\5\0"), (SOCKS_NAME, b"\5\0\0\2")],
            errno.EPROTO,
            "an address of type 2",
        ),
        (
            http_connect,
            [(CONNECT, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\nwho are you?")],
            errno.EACCES,
            "407 Proxy Authentication Required",
        ),
        (
            http_connect,
            [(CONNECT, b"HTTP/1.1 502 \x1b[2J\r\n\r\n")],
            errno.EHOSTUNREACH,
            r"502 \x1b",
        ),
        (http_connect, [(CONNECT, GREETING + b"\r\n")], errno.EPROTO, "what it says is not HTTP"),
        (http_connect, [(CONNECT, b"x" * 70_000)], errno.EPROTO, "its answer has no end"),
    ],
)
def test_what_the_proxy_refuses_names_both_and_the_reason(
    connector: Callable[[Any], Connector], script: Script, code: int, text: str
) -> None:
    proxy = Proxy(script)
    with pytest.raises(ProxyRefused) as caught:
        connector(proxy.address)("target.test", 25).recv(timeout=30)
    port = proxy.address[1]
    proxy.close()
    assert caught.value.errno == code
    number = re.search(r"connection refused|reply 99|407|502", text)
    replies = {"connection refused": 5, "reply 99": 99, "407": 407, "502": 502}
    assert caught.value.reply == (None if number is None else replies[number[0]])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reply) == (str(caught.value), caught.value.reply)
    assert f"the proxy 127.0.0.1:{port} does not connect to target.test:25: " in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize("connector", [socks5, http_connect])
def test_a_proxy_that_hangs_up_in_between_is_named(connector: Callable[[Any], Connector]) -> None:
    script = {socks5: [(b"\5\1\0", b"\5")], http_connect: [(CONNECT, b"HTTP/1.1 200 OK\r\n")]}
    proxy = Proxy(script[connector], hang_up=True)
    with pytest.raises(ConnectFailed, match="it closed the connection") as caught:
        connector(proxy.address)("target.test", 25).recv(timeout=30)
    assert caught.value.errno == errno.ECONNRESET
    proxy.close()


RESET = struct.pack("ii", 1, 0)


@pytest.mark.parametrize("octets", [1, 5_000_000], ids=["reading", "writing"])
def test_a_proxy_that_resets_the_connection_is_named(octets: int) -> None:
    watchers: list[ae.Watcher] = []

    def accepted(sock: socket.socket, *_: object) -> None:
        def readable() -> None:
            watchers.clear()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()

        watchers.append(ae.io(sock, "r", readable))

    with tcp_server("127.0.0.1", 0, accepted) as server:
        connect = http_connect(server.address, headers=[("X-Long", "x" * octets)])
        with pytest.raises(ConnectFailed, match="the connection to the proxy") as caught:
            connect("target.test", 25).recv(timeout=30)
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)


def test_what_a_proxy_does_not_take_at_once_is_sent_when_it_does() -> None:
    size = 5_000_000
    request = CONNECT[:-2] + b"X-Long: " + b"x" * size + b"\r\n\r\n"
    heard = bytearray()
    open_: list[Any] = []

    def accepted(sock: socket.socket, *_: object) -> None:
        def readable() -> None:
            heard.extend(sock.recv(1 << 20))
            if len(heard) == len(request):
                sock.send(b"HTTP/1.1 200 OK\r\n\r\n")

        open_.extend((sock, ae.io(sock, "r", readable)))

    with tcp_server("127.0.0.1", 0, accepted) as server:
        connect = http_connect(server.address, headers=[("X-Long", "x" * size)])
        connect("target.test", 25).recv(timeout=30).close()
    assert heard == request
    sock, watcher = open_
    watcher.cancel()
    sock.close()


@pytest.mark.parametrize("case", ["socks-name", "http"])
def test_a_connection_to_a_proxy_that_was_called_readable_and_is_not_stays_open(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = _connectors._Negotiation._receive
    again: list[bool] = []

    def twice(negotiation: _connectors._Negotiation) -> None:
        receive(negotiation)
        if negotiation._watch is not None and not negotiation._unsent:
            again.append(True)
            receive(negotiation)  # the rest of the answer has not come yet

    monkeypatch.setattr(_connectors._Negotiation, "_receive", twice)
    make, target, script = SUCCESSES[case]
    proxy = Proxy(script, piece=1)
    make(proxy.address)(*target).recv(timeout=30).close()
    proxy.close()
    assert again


def test_the_talk_with_a_proxy_can_be_had_without_a_connection() -> None:
    steps = socks5(("proxy.test", 1080)).negotiate("target.test", 25)
    assert next(steps).data == b"\5\1\0"
    assert steps.send(b"\5\0").data == SOCKS_NAME
    with pytest.raises(ConnectFailed):
        steps.throw(EOFError())


@pytest.mark.parametrize("connector", [socks5, http_connect])
def test_a_proxy_that_cannot_be_reached_is_named(connector: Callable[[Any], Connector]) -> None:
    with refused_address() as address, pytest.raises(ConnectFailed) as caught:
        connector(address)("target.test", 25).recv(timeout=30)
    assert caught.value.errno == errno.ECONNREFUSED
    start = f"cannot connect to target.test:25: the proxy 127.0.0.1:{address[1]} cannot be reached"
    assert start in str(caught.value)


def test_nobody_here_is_asked_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked"))
    proxy = Proxy([(b"\5\1\0", b"\5\0"), (SOCKS_NAME, SOCKS_OK)])
    socks5(proxy.address)("target.test", 25).recv(timeout=30).close()
    proxy.close()


@pytest.mark.linux
def test_a_cancelled_negotiation_leaves_nothing(backend: Backend) -> None:
    async def main() -> None:
        with silent_address() as silent:  # the proxy does not even accept
            operation = socks5(silent)("target.test", 25)
            await ae.sleep(0.01)
            operation.cancel()
        proxy = Proxy([])  # accepts, and says nothing
        operation = http_connect(proxy.address)("target.test", 25)
        while not proxy.heard:
            await ae.sleep(0.001)
        operation.cancel()
        proxy.close()
        proxy = Proxy([(b"\5\1\0", b"\5\0"), (SOCKS_NAME, SOCKS_OK)])
        operation = socks5(proxy.address)("target.test", 25)
        while not operation.ready:
            await ae.sleep(0.001)
        (await operation).close()
        proxy.close()

    ae.run(main())


def test_a_socket_that_was_sent_and_not_taken_is_closed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector, target, script = SUCCESSES[next(iter(SUCCESSES))]
    original = _connectors._Negotiation._step
    socks: list[socket.socket] = []

    async def main() -> None:
        proxy = Proxy(script)
        operation = connector(proxy.address)(*target)

        async def connect() -> socket.socket:
            return await operation

        task = ae.spawn(connect())

        def step(negotiation: Any, answer: bytes | None) -> None:
            sock = negotiation._sock
            original(negotiation, answer)
            if operation.ready:  # sent, and no awaiter has it yet
                socks.append(sock)
                task.cancel()

        monkeypatch.setattr(_connectors._Negotiation, "_step", step)
        with pytest.raises((ae.CancelledError, ae.cancelled_class())):
            await task
        await ae.sleep(0)
        proxy.close()

    ae.run(main())
    assert [sock.fileno() for sock in socks] == [-1]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: http_connect("p:1"), TypeError, "expected proxy as"),  # type: ignore[arg-type]
        (lambda: socks5(("p", None)), TypeError, "expected a service"),  # type: ignore[arg-type]
        (lambda: socks5(1080), TypeError, "expected proxy as"),  # type: ignore[arg-type]
        (lambda: socks5(("p", 1), user="u"), ValueError, "both user and password"),
        (lambda: socks5(("p", 1), user="", password="p"), ValueError, "user of 1 to 255 bytes"),
        (lambda: socks5(("p", 1), user="u", password="p" * 256), ValueError, "got 256"),
        (lambda: http_connect(("p", 1), user="a:b", password="c"), ValueError, "without a colon"),
        (lambda: http_connect(("p", 1), headers=[("A", "b\r\nC: d")]), ValueError, "of one line"),
        (lambda: http_connect(("p", 1), headers=[("A b", "c")]), ValueError, "of one line"),
        (lambda: socks5(("p", 1))("unix/", "/tmp/x"), ValueError, "a UNIX socket"),
        (lambda: socks5(("p", 1))("fe80::1%lo", 80), ValueError, "without a scope"),
        (lambda: socks5(("p", 1))("a b", 80), ValueError, "a b"),
        (lambda: http_connect(("p", 1))("x.test", "nosuchservice"), ValueError, "unknown service"),
    ],
)
def test_what_no_proxy_can_be_asked_for_is_refused_at_the_call(
    make: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    ("is_head", "data", "end"),
    [
        pytest.param(False, b"1234", 0, id="too-short"),
        pytest.param(False, b"12345", 5, id="exact"),
        pytest.param(False, b"1\n\n45678", 5, id="a-line-means-nothing"),
        pytest.param(True, b"a\n\r", 0, id="no-empty-line"),
        pytest.param(True, b"a\n\nb", 3, id="an-empty-line"),
        pytest.param(True, b"\r\n\r\nb", 4, id="a-line-of-crlf"),
        pytest.param(True, b"abcdefgh", 5, id="no-longer-than-the-size"),
        pytest.param(True, b"abcd\n\nh", 5, id="an-empty-line-behind-the-size"),
    ],
)
def test_an_answer_ends_with_its_size_or_a_head_with_an_empty_line(
    is_head: bool, data: bytes, end: int
) -> None:
    assert ProxyStep(b"", 5, is_head).end_of_answer(data) == end
    assert ProxyStep(b"", 5, is_head).end_of_answer(bytearray(data)) == end
