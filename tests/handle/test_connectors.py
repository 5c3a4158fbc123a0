"""Handles whose connection a connector makes, or that say from where to connect."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import Chunk, Handle, Regex, TransportError, ask_proxy, relay, serve
from ae_handle.testing import end_lingering
from ae_socket import ProxyConnector, ProxyRefused, http_connect, socks5
from ae_socket.testing import ScriptedResolver, refused_address, silent_address

Main = Callable[[], Coroutine[Any, Any, None]]


def run(main: Main) -> None:
    """Run *main* to its end, within reason."""

    async def bounded() -> None:
        task = ae.spawn(main())
        with ae.timer(60, task.cancel):
            await task
        end_lingering()

    ae.run(bounded())


class Proxies:
    """A SOCKS and an HTTP proxy, for which each name is the loopback's."""

    def __init__(self, tls_context: Any = None) -> None:
        self.asked: list[str] = []
        self.socks = serve("127.0.0.1", 0, self._serve_socks, tls_context=tls_context)
        self.http = serve("127.0.0.1", 0, self._serve_http, tls_context=tls_context)

    def cancel(self) -> None:
        self.socks.cancel()
        self.http.cancel()

    async def _serve_socks(self, handle: Handle) -> None:
        await handle.push_read(Chunk(3))
        handle.push_write(b"\5\0")
        size = (await handle.push_read(Chunk(5)))[4]
        name = (await handle.push_read(Chunk(size))).decode()
        port = int.from_bytes(await handle.push_read(Chunk(2)), "big")
        await self._pass_on(handle, name, port, b"\5\0\0\1\0\0\0\0\0\0")

    async def _serve_http(self, handle: Handle) -> None:
        head = await handle.push_read(Regex(rb"\r\n\r\n"))
        name, _, port = head.split()[1].decode().rpartition(":")
        await self._pass_on(handle, name, int(port), b"HTTP/1.1 200 OK\r\n\r\n")

    async def _pass_on(self, handle: Handle, name: str, port: int, answer: bytes) -> None:
        self.asked.append(name)
        target = Handle(connect=("127.0.0.1", port))
        await target.drained()
        handle.push_write(answer)
        await relay(handle, target)


async def greeter(handle: Handle) -> None:
    handle.push_write(b"220 hello\r\n")
    async for line in handle.each("line"):
        handle.push_write(line.upper() + b"\n")


def test_the_end_of_the_loop_cancels_what_connects_and_closes_its_sockets(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would stay open until the collector finds them."""
    opened: list[socket.socket] = []
    errors: list[BaseException] = []
    unfinished: ae.CondVar[socket.socket] = ae.CondVar(cancel=lambda: None)
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))
    create = socket.socket

    def opening(*args: Any, **options: Any) -> socket.socket:
        opened.append(create(*args, **options))
        return opened[-1]

    async def main(address: tuple[str, int], listening: tuple[str, int]) -> None:
        with monkeypatch.context() as during:
            during.setattr(socket, "socket", opening)
            for connector in (None, socks5(address), socks5(listening), lambda *_: unfinished):
                handle = Handle(connect=address, connector=connector, linger=60)
                handle.push_write(b"never sent\n")
                handle.destroy()
            socks5(listening)("peer.test", 80)
            await ae.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener, silent_address() as silent:
        ae.run(main(silent, listener.getsockname()))
        ae.release()
    assert unfinished.cancelled
    assert [sock.fileno() for sock in opened] == [-1] * 4
    assert [type(error) for error in errors] == [TransportError] * 4


def test_through_either_proxy_to_a_server_that_speaks_first(backend: Backend) -> None:
    async def main() -> None:
        proxies = Proxies()
        with serve("127.0.0.1", 0, greeter) as server:
            target = ("target.test", server.address[1])
            for connector in (socks5(proxies.socks.address), http_connect(proxies.http.address)):
                handle = Handle(connect=target, connector=connector, linger=0)
                handle.push_write(b"pushed before\n")
                assert await handle.push_read("line") == b"220 hello"
                assert await handle.push_read("line") == b"PUSHED BEFORE"
                handle.destroy()
            assert proxies.asked == ["target.test"] * 2
        proxies.cancel()

    run(main)


def test_tls_verifies_the_target_not_the_proxy(
    backend: Backend, contexts: Callable[[str], tuple[Any, Any]], engine: str
) -> None:
    client_context, server_context = contexts(engine)

    async def main() -> None:
        proxies = Proxies()
        with serve("127.0.0.1", 0, greeter, tls_context=server_context) as server:
            handle = Handle(
                connect=("peer.test", server.address[1]),
                connector=socks5(proxies.socks.address),
                tls="connect",
                tls_context=client_context,
                linger=0,
            )
            assert await handle.push_read("line") == b"220 hello"
            handle.destroy()
        proxies.cancel()

    run(main)


@pytest.mark.parametrize("kind", ["http", "socks"])
def test_a_proxy_within_tls_is_asked_on_a_handle_and_tls_goes_on_through_it(
    backend: Backend, contexts: Callable[[str], tuple[Any, Any]], engine: str, kind: str
) -> None:
    client_context, server_context = contexts(engine)

    async def main() -> None:
        proxies = Proxies(server_context)
        address = getattr(proxies, kind).address
        connector = {"http": http_connect, "socks": socks5}[kind](address)
        with serve("127.0.0.1", 0, greeter, tls_context=server_context) as server:
            outer = Handle(
                connect=address,
                tls="connect",
                tls_context=client_context,
                peer_name="peer.test",
                linger=0,
            )
            await ask_proxy(outer, connector, "peer.test", server.address[1])
            inner = Handle(
                outer, tls="connect", tls_context=client_context, peer_name="peer.test", linger=0
            )
            assert await inner.push_read("line") == b"220 hello"
            inner.push_write(b"x\n")
            assert await inner.push_read("line") == b"X"
            inner.destroy()
        assert proxies.asked == ["peer.test"]
        proxies.cancel()

    run(main)


@pytest.mark.parametrize("piece", [1, 1000])
def test_what_is_behind_the_proxys_answer_stays_in_the_buffer(
    join: Callable[..., Any], piece: int
) -> None:
    ours, theirs = socket.socketpair()
    handle = Handle(ours)
    asking = ask_proxy(handle, http_connect(("proxy.test", 1)), "target.test", 25)
    answer = b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n220 hello\r\n\r\n"
    for start in range(0, len(answer), piece):
        theirs.send(answer[start : start + piece])
        ae.sleep(0).recv()
    asking.recv(timeout=30)
    assert theirs.recv(100).startswith(b"CONNECT target.test:25 HTTP/1.1\r\n")
    assert handle.push_read("line").recv(timeout=30) == b"220 hello"
    handle.destroy()
    theirs.close()


@pytest.mark.parametrize(
    ("connector", "answer", "reply", "text"),
    [
        (http_connect(("p.test", 1)), b"HTTP/1.1 407 Who\r\n\r\n", 407, "407 Who"),
        (http_connect(("p.test", 1)), b"x\n\n", None, "not HTTP"),
        (http_connect(("p.test", 1)), b"HTTP/1.1 200 OK\r\n" + b"a" * 65536, None, "no end"),
        (http_connect(("p.test", 1)), b"HTTP/1.1 200 OK\r\n", None, "closed the connection"),
        (socks5(("p.test", 1)), b"\5\0\5\2\0\1", 2, "not allowed by its rules"),
        (socks5(("p.test", 1)), b"\5\0\5", None, "closed the connection"),
        (socks5(("p.test", 1)), b"", None, "closed the connection"),
    ],
)
def test_a_proxy_that_refuses_a_handle_is_refused_with_its_reply(
    connector: ProxyConnector, answer: bytes, reply: int | None, text: str
) -> None:
    ours, theirs = socket.socketpair()
    handle = Handle(ours)
    asking = ask_proxy(handle, connector, "target.test", 25)
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ProxyRefused, match=text) as caught:
        asking.recv(timeout=30)
    assert caught.value.reply == reply
    assert "the proxy p.test:1 does not connect to target.test:25" in str(caught.value)
    handle.destroy()
    theirs.close()


def test_asking_a_proxy_takes_a_handle_and_a_host_that_can_be() -> None:
    ours, theirs = socket.socketpair()
    handle = Handle(ours)
    with pytest.raises(ValueError, match="in no host name"):
        ask_proxy(handle, socks5(("p.test", 1)), "a b", 25)
    with pytest.raises(TypeError, match="expected a Handle, got 'x'"):
        ask_proxy("x", socks5(("p.test", 1)), "a", 25)  # type: ignore[arg-type]
    asking = ask_proxy(handle, socks5(("p.test", 1)), "a.test", 25)
    asking.cancel()
    handle.destroy()
    ae.sleep(0).recv()
    theirs.close()


def test_on_connect_tells_the_target_and_retry_finds_no_other(backend: Backend) -> None:
    told: list[Any] = []

    async def main() -> None:
        proxies = Proxies()
        failed: ae.CondVar[None] = ae.CondVar()

        def connected(handle: Handle, host: str, port: Any, retry: Callable[[], None]) -> None:
            told.append((host, port))
            retry()

        def refused(handle: Handle, error: TransportError) -> None:
            told.append(error.errno)
            failed.send()

        with serve("127.0.0.1", 0, greeter) as server:
            port = server.address[1]
            handle = Handle(
                connect=("target.test", port),
                connector=socks5(proxies.socks.address),
                on_connect=connected,
                on_connect_error=refused,
            )
            await failed
            assert handle.is_destroyed
        assert told == [("target.test", port), errno.ECONNABORTED]
        proxies.cancel()

    run(main)


def test_a_hop_that_fails_is_named_in_the_error(backend: Backend) -> None:
    async def main() -> None:
        with refused_address() as address:
            handle = Handle(connect=("target.test", 25), connector=socks5(address))
            with pytest.raises(TransportError, match=f"the proxy 127.0.0.1:{address[1]}") as caught:
                await handle.push_read("line")
            assert caught.value.errno == errno.ECONNREFUSED

    run(main)


def test_destroying_the_handle_ends_the_negotiation(backend: Backend) -> None:
    async def main() -> None:
        silent: list[Handle] = []
        with serve("127.0.0.1", 0, silent.append) as proxy:
            handle = Handle(connect=("target.test", 25), connector=socks5(proxy.address))
            while not silent:
                await ae.sleep(0.001)
            handle.destroy()
            while proxy.clients:
                await ae.sleep(0.001)

    run(main)


def test_a_connector_that_is_done_at_once_calls_nobody_back_inside_the_call(
    join: Callable[..., Any],
) -> None:
    ours, theirs = socket.socketpair()

    def ready(host: str, service: str | int, /) -> ae.CondVar[socket.socket]:
        made: ae.CondVar[socket.socket] = ae.CondVar()
        made.send(ours)
        return made

    connected: ae.CondVar[tuple[str, Any]] = ae.CondVar()
    handle = Handle(
        connect=("target.test", 25),
        connector=ready,
        on_connect=lambda handle, host, port, retry: connected.send((host, port)),
    )
    assert not connected.ready
    assert connected.recv(timeout=30) == ("target.test", 25)
    handle.push_write(b"x")
    assert theirs.recv(1) == b"x"
    handle.destroy()
    theirs.close()


@pytest.mark.parametrize("ready", [False, True])
def test_a_connector_that_gives_up_by_a_cancel_is_an_error_of_the_connection(
    backend: Backend, ready: bool
) -> None:
    """Whatever waits for the connection would wait for ever."""
    told: list[Any] = []

    async def main() -> None:
        made: ae.CondVar[socket.socket] = ae.CondVar()
        failed: ae.CondVar[None] = ae.CondVar()

        def refused(handle: Handle, error: TransportError) -> None:
            told.append(error.errno)
            failed.send()

        if ready:
            made.cancel()
        handle = Handle(
            connect=("target.test", 25),
            connector=lambda host, service: made,
            on_connect_error=refused,
        )
        reading = handle.push_read("line")
        made.cancel()
        assert told == []
        with pytest.raises(TransportError, match="was cancelled"):
            await reading
        await failed
        assert handle.is_destroyed

    run(main)
    assert told == [errno.ECANCELED]


def test_local_address_and_resolver_are_those_of_tcp_connect(backend: Backend) -> None:
    async def main() -> None:
        peers: list[str] = []

        def who(handle: Handle) -> None:
            peers.append(handle.socket.getpeername()[0])
            handle.push_write(b"hello\n")

        with serve("127.0.0.1", 0, who) as server:
            handle = Handle(
                connect=("anywhere.test", server.address[1]),
                local_address="127.0.0.2",
                resolver=ScriptedResolver({"anywhere.test": [server.address]}),
                linger=0,
            )
            assert await handle.push_read("line") == b"hello"
            handle.destroy()
        assert peers == ["127.0.0.2"]

    run(main)


def test_what_does_not_go_together_is_refused() -> None:
    ours, theirs = socket.socketpair()
    target = ("target.test", 25)
    with pytest.raises(ValueError, match="are for connect="):
        Handle(ours, local_address="127.0.0.1")
    with pytest.raises(TypeError, match="expected connector as a callable or None, got 'socks'"):
        Handle(connect=target, connector="socks")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a connector connects in its own way"):
        Handle(connect=target, connector=socks5(target), local_address="127.0.0.1")
    with pytest.raises(ValueError, match="in no host name"):
        Handle(connect=("a b", 25), connector=socks5(target))
    ours.close()
    theirs.close()
