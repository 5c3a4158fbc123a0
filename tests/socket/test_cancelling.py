"""Whoever awaits a connect or a lookup may be cancelled at any moment: nothing stays open."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_socket import _connect, resolve, tcp_connect, tcp_server
from ae_socket.testing import ScriptedResolver, silent_address


class Peer:
    """Listens, and keeps what it accepts."""

    def __init__(self) -> None:
        self.accepted: list[socket.socket] = []
        self.server = tcp_server("127.0.0.1", 0, lambda sock, *_: self.accepted.append(sock))
        self.port = int(self.server.address[1])

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.cancel()
        for sock in self.accepted:
            sock.close()


async def connect(port: int, **options: Any) -> socket.socket:
    return await tcp_connect("127.0.0.1", port, **options)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Call what is in the list when a socket has been sent, before any awaiter has it."""
    calls: list[Any] = []
    original = _connect._Connect._send

    def send(operation: Any, sock: socket.socket) -> None:
        original(operation, sock)
        for call in calls:
            call(sock)

    monkeypatch.setattr(_connect._Connect, "_send", send)
    return calls


def test_a_socket_that_was_sent_and_not_taken_is_closed(backend: Backend, sent: list[Any]) -> None:
    async def main() -> None:
        with Peer() as peer:
            task = ae.spawn(connect(peer.port))
            socks: list[socket.socket] = []
            sent.extend((socks.append, lambda _: task.cancel()))
            with pytest.raises((ae.CancelledError, ae.cancelled_class())):
                await task
            await ae.sleep(0)
            assert [sock.fileno() for sock in socks] == [-1]

    ae.run(main())


def test_a_socket_that_on_connect_was_told_of_stays_open(backend: Backend, sent: list[Any]) -> None:
    async def main() -> None:
        with Peer() as peer:
            told: list[socket.socket] = []
            task = ae.spawn(connect(peer.port, on_connect=lambda sock, *_: told.append(sock)))
            sent.append(lambda _: task.cancel())
            with pytest.raises((ae.CancelledError, ae.cancelled_class())):
                await task
            await ae.sleep(0)
            [sock] = told
            assert sock.fileno() >= 0
            sock.close()

    ae.run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_connect_whose_awaiter_is_cancelled_in_any_turn_leaves_nothing(
    backend: Backend, turns: int
) -> None:
    async def main() -> None:
        with Peer() as peer:
            connecting = ae.spawn(connect(peer.port, timeout=60))
            for _ in range(turns):
                await ae.sleep(0)
            connecting.cancel()
            try:
                (await connecting).close()
            except (ae.CancelledError, ae.cancelled_class()):
                await ae.sleep(0)

    ae.run(main())  # an open socket is an error of the test: a warning, and a leak


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("answers", [True, False])
def test_the_end_of_the_loop_closes_what_a_connect_has_opened(
    backend: Backend, turns: int, answers: bool
) -> None:
    """Whether the caller kept it or not, and whether or not an attempt had begun."""
    opened: list[socket.socket] = []
    kept: list[ae.CondVar[socket.socket]] = []
    ended: list[object] = []  # who connects again there would do so without end

    async def main(address: tuple[str, int]) -> None:
        for keep in (kept.append, lambda _: None):
            # on_connect is told of a socket: whatever is connected is the program's
            keep(tcp_connect(*address, lambda *_: None, on_prepare=opened.append))
        kept[0].on_ready(ended.append)
        for _ in range(turns):
            await ae.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as listener, silent_address() as silent:
        ae.run(main(listener.getsockname() if answers else silent))
        ae.release()
    (operation,) = kept
    if operation.ready:
        assert answers
        operation.recv().close()
        opened = [sock for sock in opened if sock.fileno() >= 0]
        for sock in opened:  # the one that was forgotten
            sock.close()
    else:
        assert not ended
        assert [sock.fileno() for sock in opened] == [-1] * len(opened)


@pytest.mark.parametrize("name", ["loop", "asyncio"])
def test_a_handler_of_the_interpreters_exit_may_wait_for_a_connect(
    script: Callable[..., str], name: str
) -> None:
    printed = script(f"""
        import atexit, socket
        import ae_core as ae
        from ae_socket import tcp_connect

        server = socket.create_server(("127.0.0.1", 0))
        atexit.register(lambda: (connecting.recv(30).close(), server.close(), print("connected")))
        ae.use({name!r})
        connecting = tcp_connect(*server.getsockname())
    """)
    assert printed == "connected\n"


def test_a_lookup_whose_only_awaiter_is_cancelled_is_cancelled(backend: Backend) -> None:
    async def lookup(resolver: ScriptedResolver) -> object:
        return await resolve("x.test", 80, resolver=resolver)

    async def connecting(resolver: ScriptedResolver) -> object:
        return await tcp_connect("x.test", "http", resolver=resolver)

    async def main() -> None:
        for services in (None, {"_http._tcp.x.test": None}):
            for asks in (lookup, connecting):
                resolver = ScriptedResolver({"x.test": None}, services)
                task = ae.spawn(asks(resolver))
                while not resolver.pending:
                    await ae.sleep(0)
                task.cancel()
                with pytest.raises((ae.CancelledError, ae.cancelled_class())):
                    await task
                await ae.sleep(0)
                assert [each.cancelled for each in resolver.pending] == [True]

    ae.run(main())


def test_operations_say_what_they_are() -> None:
    resolver = ScriptedResolver({"x.test": None})
    connecting = tcp_connect("x.test", "http=8080", resolver=resolver)
    looking = resolve("x.test", 80, resolver=resolver)
    assert "connect to x.test:http=8080" in repr(connecting)
    assert "resolve x.test:80" in repr(looking)
    connecting.cancel()
    looking.cancel()
    with silent_address("127.0.0.1") as first, silent_address("127.0.0.2") as second:
        resolver = ScriptedResolver({"two.test": [first, second]})
        connecting = tcp_connect("two.test", 25, resolver=resolver)
        ae.sleep(0.3).recv()
        targets = ", ".join(f"{host}:{port}" for host, port in (first, second))
        assert repr(connecting) == f"<connect to two.test:25 over {targets}, pending>"
        connecting.cancel()
        connecting = tcp_connect(*first)
        ae.sleep(0).recv()
        assert repr(connecting) == f"<connect to {first[0]}:{first[1]}, pending>"
        connecting.cancel()
