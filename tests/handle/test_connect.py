"""Connecting in the constructor (HANDLE-06 to 16, B128, B129, AH3, AH4)."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_core.testing import Trace
from ae_handle import Chunk, Handle, HandleDestroyed, HandleError, TransportError
from ae_handle.testing import lingering

Turns = Callable[..., None]


@pytest.fixture
def echo(trace: Trace) -> Iterator[tuple[str, int]]:
    """A server that records its lines and answers them in capitals."""
    live: list[Handle] = []

    def accept(sock: socket.socket, host: str, port: int) -> None:
        h = Handle(sock, on_eof=Handle.destroy, on_error=lambda h, error: h.destroy())
        live.append(h)
        h.read_each("line", lambda h, line: (trace(line), h.push_write(line.upper() + b"\n")))

    server = ae_socket.tcp_server("127.0.0.1", 0, accept)
    yield server.address
    server.cancel()
    for h in live:
        h.destroy()


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_what_is_queued_while_connecting_is_sent_before_on_connect(
    echo: tuple[str, int], made: list[Handle], trace: Trace, until: Any
) -> None:
    def on_connect(h: Handle, host: str, port: int, retry: Any) -> None:
        trace("connect", host, port == echo[1])
        h.push_write(b"late\n")

    h = Handle(
        connect=echo,
        on_prepare=lambda h: trace("prepare", isinstance(h.socket, socket.socket)),
        on_connect=on_connect,
        on_drain=lambda h: trace("drain"),
    )
    made.append(h)
    assert h.socket is None
    assert h.statistics().state == "connecting"
    assert h.peer_name == "127.0.0.1"
    h.push_write(b"early\n")
    h.push_read("line", lambda h, line: trace("read", line))
    assert trace == []
    until(lambda: ("read", b"EARLY") in trace)
    assert [event for event in trace if not isinstance(event, bytes)][:5] == [
        ("prepare", True),
        "drain",
        ("connect", "127.0.0.1", True),
        "drain",
        ("read", b"EARLY"),
    ]
    assert [event for event in trace if isinstance(event, bytes)] == [b"early", b"late"]
    assert h.socket.getpeername() == echo


def test_a_client_in_four_lines(echo: tuple[str, int], made: list[Handle]) -> None:
    h = Handle(connect=echo)
    made.append(h)
    h.push_write(b"hello\n")
    assert h.push_read("line").recv() == b"HELLO"


def test_nobody_needs_to_refer_to_a_handle_that_connects(echo: tuple[str, int]) -> None:
    condvar = Handle(connect=echo, on_connect=lambda h, *_: h.push_write(b"hi\n")).push_read("line")
    gc.collect()
    assert condvar.recv() == b"HI"


def test_on_connect_may_take_the_only_reference(
    echo: tuple[str, int], made: list[Handle], until: Any
) -> None:
    Handle(connect=echo, on_connect=lambda h, *_: made.append(h))
    gc.collect()
    until(lambda: made)
    assert made[0].statistics().state == "open"


def test_a_refused_connection_is_told_to_on_connect_error(
    closed_port: int, trace: Trace, turns: Turns
) -> None:
    def refused(h: Handle, error: HandleError) -> None:
        trace("on_connect_error", type(error), error.errno, error.fatal, h.is_destroyed)
        assert isinstance(error.__cause__, ae_socket.ConnectFailed)

    h = Handle(
        connect=("127.0.0.1", closed_port),
        on_connect_error=refused,
        on_error=lambda h, error: trace("on_error"),
        on_connect=lambda *_: trace("on_connect"),
    )
    assert trace == []
    trace.run_until(1)
    turns()
    assert trace == [("on_connect_error", TransportError, errno.ECONNREFUSED, True, False)]
    assert h.is_destroyed


def test_without_on_connect_error_it_is_a_fatal_error(closed_port: int, trace: Trace) -> None:
    h = Handle(
        connect=("127.0.0.1", closed_port),
        on_error=lambda h, error: trace(error.errno, error.fatal),
    )
    trace.run_until(1)
    assert trace == [(errno.ECONNREFUSED, True)]
    assert h.is_destroyed


def test_awaited_operations_are_told(closed_port: int) -> None:
    h = Handle(connect=("127.0.0.1", closed_port))
    line, drained = h.push_read("line"), h.drained()
    for condvar in (line, drained):
        with pytest.raises(TransportError) as caught:
            condvar.recv()
        assert caught.value.errno == errno.ECONNREFUSED


def test_an_unknown_service_is_an_error_of_the_connection(trace: Trace) -> None:
    Handle(connect=("127.0.0.1", "no-such-service"), on_error=lambda h, error: trace(error.errno))
    trace.run_until(1)
    assert trace == [errno.ENXIO]


def test_destroying_while_connecting_is_silent(
    echo: tuple[str, int], trace: Trace, turns: Turns
) -> None:
    h = Handle(
        connect=echo,
        on_connect=lambda *_: trace("on_connect"),
        on_connect_error=lambda *_: trace("on_connect_error"),
        on_error=lambda *_: trace("on_error"),
    )
    pending = h.push_read("line")
    h.destroy()
    turns()
    ae.sleep(0.02).recv()
    assert trace == []
    with pytest.raises(HandleDestroyed):
        pending.recv()


def test_limits_hold_while_connecting(made: list[Handle], trace: Trace, turns: Turns) -> None:
    h = Handle(
        connect=("127.0.0.1", 1),
        max_write_buffer=5,
        on_connect_error=lambda h, error: trace(error.errno),
    )
    h.push_write(b"12345")
    turns(1)
    h.push_write(b"6")
    trace.run_until(1)
    assert trace in ([errno.ENOSPC], [errno.ECONNREFUSED])
    assert h.is_destroyed


def test_a_bad_argument_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="either a stream or connect"):
        Handle()
    with pytest.raises(ValueError, match="either a stream or connect"):
        Handle(5, connect=("localhost", 1))
    for connect in ("localhost:80", ("localhost",), 5):
        with pytest.raises(TypeError, match=r"expected connect as \(host, service\)"):
            Handle(connect=connect)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected on_connect as a callable or None, got 5"):
        Handle(connect=("localhost", 1), on_connect=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword"):
        Handle(connect=("localhost", 1), on_raed=print)  # type: ignore[call-arg]


# ---------------------------------------------------------------------- retry


class Addresses:
    """A tcp_connect whose targets the test hands out, with the retry of the real one."""

    def __init__(self) -> None:
        self.condvar: ae.CondVar[socket.socket] = ae.CondVar()
        self.peers: list[socket.socket] = []
        self.connected: Any = None

    def __call__(self, host: str, service: Any, connected: Any, **options: Any) -> Any:
        self.connected = connected
        ae.postpone(self.next)
        return self.condvar

    def next(self) -> None:
        if len(self.peers) == 3:
            self.condvar.throw(
                ae_socket.ConnectFailed("all", [OSError(errno.ECONNREFUSED, "no more")])
            )
            return
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        peer.settimeout(5)
        self.peers.append(peer)
        retried = False

        def retry() -> Any:
            nonlocal retried
            retried = True
            ours.close()
            if self.condvar.ready:
                self.condvar = ae.CondVar()
            ae.postpone(self.next)
            return self.condvar

        self.connected(ours, "host", len(self.peers), retry)
        if not retried:
            self.condvar.send(ours)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Addresses]:
    addresses = Addresses()
    monkeypatch.setattr(ae_socket, "tcp_connect", addresses)
    yield addresses
    for peer in addresses.peers:
        peer.close()


def test_retry_in_on_connect_goes_on_and_forgets_everything(
    addresses: Addresses, made: list[Handle], trace: Trace, turns: Turns
) -> None:
    def on_connect(h: Handle, host: str, port: int, retry: Any) -> None:
        trace("connect", port)
        h.push_write(b"hello %d\n" % port)
        h.push_read("line", lambda h, line: trace(line))
        if port < 3:
            retry()

    h = Handle(connect=("peer.test", 1), on_connect=on_connect)
    made.append(h)
    h.push_write(b"early\n")
    pending = h.push_read("line")
    turns()
    assert trace == [("connect", 1), ("connect", 2), ("connect", 3)]
    assert addresses.peers[0].recv(100) == b"early\nhello 1\n"
    assert addresses.peers[0].recv(100) == b""
    assert addresses.peers[2].recv(100) == b"hello 3\n"
    assert h.statistics().requests == 1
    with pytest.raises(TransportError, match="given up for the next address"):
        pending.recv()
    addresses.peers[2].sendall(b"welcome\n")
    turns()
    assert trace[-1] == b"welcome"


def test_retry_may_be_called_later(
    addresses: Addresses, made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """The server answers, but it is the wrong one."""

    def on_connect(h: Handle, host: str, port: int, retry: Any) -> None:
        trace("connect", port)

        def line(h: Handle, line: bytes) -> None:
            trace(line)
            if line == b"wrong":
                retry()
                retry()  # nothing more happens

        h.push_read("line", line)

    made.append(Handle(connect=("peer.test", 1), on_connect=on_connect))
    turns()
    addresses.peers[0].sendall(b"wrong\nrest\n")
    turns()
    addresses.peers[1].sendall(b"right\n")
    turns()
    assert trace == [("connect", 1), b"wrong", ("connect", 2), b"right"]


def test_retry_without_another_address_is_an_error(
    addresses: Addresses, trace: Trace, turns: Turns
) -> None:
    h = Handle(
        connect=("peer.test", 1),
        on_connect=lambda h, host, port, retry: (trace(port), retry()),
        on_connect_error=lambda h, error: trace("error", error.errno),
    )
    turns()
    assert trace == [1, 2, 3, ("error", errno.ECONNREFUSED)]
    assert h.is_destroyed


def test_destroying_after_a_late_retry_ends_it(
    addresses: Addresses, trace: Trace, turns: Turns
) -> None:
    retries: list[Any] = []
    h = Handle(
        connect=("peer.test", 1),
        on_connect=lambda h, host, port, retry: (trace(port), retries.append(retry)),
    )
    turns()
    retries[0]()
    h.destroy()
    turns()
    assert trace == [1]
    retries[0]()  # of a destroyed handle


def test_an_exception_in_on_connect_is_reported(
    addresses: Addresses,
    made: list[Handle],
    trace: Trace,
    turns: Turns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))

    def on_connect(*_: Any) -> None:
        raise RuntimeError("in on_connect")

    h = Handle(connect=("peer.test", 1), on_connect=on_connect)
    made.append(h)
    turns()
    assert trace == ["in on_connect"]
    assert h.statistics().state == "open"


def test_on_prepare_sets_the_time_out_of_an_attempt(
    monkeypatch: pytest.MonkeyPatch, made: list[Handle]
) -> None:
    asked: list[Any] = []

    def tcp_connect(host: str, service: Any, connected: Any, *, on_prepare: Any, **_: Any) -> Any:
        with socket.socket() as sock:
            asked.append(on_prepare(sock))
        return ae.CondVar()

    monkeypatch.setattr(ae_socket, "tcp_connect", tcp_connect)
    made.append(Handle(connect=("peer.test", 1), on_prepare=lambda h: 2.5))
    assert asked == [2.5]
    assert made[0].socket is None


# ---------------------------------------------------------------------- upstream's own cases


def test_read_a_reply_until_the_peer_closes(trace: Trace, until: Any) -> None:
    """Upstream's handle/03_http_req (AH3), against a server of our own."""
    page = b"<html>" + b"text " * 50_000 + b"</html>"

    def accept(sock: socket.socket, host: str, port: int) -> None:
        h = Handle(sock)

        def head(h: Handle, line: bytes) -> None:
            h.push_write(b"HTTP/1.0 200 OK\r\n\r\n" + page)
            h.destroy()

        h.push_read("line", head)
        live.append(h)

    live: list[Handle] = []
    server = ae_socket.tcp_server("127.0.0.1", 0, accept)
    body = bytearray()

    def first(h: Handle, data: bytes) -> None:
        trace(data[:4])
        h.on_read = lambda h: body.extend(h.read_buffer.take(len(h.read_buffer)))
        h.on_eof = lambda h: trace("eof")

    client = Handle(connect=server.address)
    client.push_write(b"GET / HTTP/1.0\r\n\r\n")
    client.push_read(Chunk(10), first)
    until(lambda: "eof" in trace)
    assert trace == [b"HTTP", "eof"]
    assert body.endswith(page)
    server.cancel()
    client.destroy()
    until(lambda: not lingering())


def test_a_server_on_any_port(trace: Trace, made: list[Handle]) -> None:
    """Upstream's handle/04_listen (AH4)."""
    ports: list[int] = []

    def prepare(sock: socket.socket, host: str, port: int) -> None:
        ports.append(port)

    def accept(sock: socket.socket, host: str, port: int) -> None:
        h = Handle(sock, on_error=lambda h, error: None)
        made.append(h)

        def got(h: Handle, data: bytes) -> None:
            trace(data)
            h.push_write(b"BLABLABLA\r\n")

        h.push_read(Chunk(6), got)

    server = ae_socket.tcp_server(None, None, accept, on_prepare=prepare)
    client = Handle(connect=("localhost", ports[0]))
    made.append(client)
    client.push_write(b"TEST\r\n")
    assert client.push_read("line").recv() == b"BLABLABLA"
    assert trace == [b"TEST\r\n"]
    server.cancel()
