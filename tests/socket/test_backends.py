"""The whole room once on every backend: what a loop could get wrong."""

from __future__ import annotations

import errno
import socket

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_socket import ConnectFailed, resolve, tcp_connect, tcp_server, udp_endpoint
from ae_socket.testing import ScriptedResolver, refused_address, silent_address


def test_connections_are_made_and_accepted(backend: Backend) -> None:
    async def main() -> None:
        accepted: list[socket.socket] = []
        enough: ae.CondVar[None] = ae.CondVar()

        def on_accept(sock: socket.socket, host: str, port: int | str) -> None:
            accepted.append(sock)
            if len(accepted) == 20:
                enough.send()

        with tcp_server(None, 0, on_accept) as server:
            port = server.address[1]
            pending = [tcp_connect(host, port) for host in ("127.0.0.1", "::1") for _ in range(10)]
            for condvar in pending:
                accepted.append(await condvar)
                accepted.pop().close()
            await enough
        for sock in accepted:
            sock.close()

    ae.run(main())


def test_paused_server_leaves_connections_in_the_backlog(backend: Backend) -> None:
    async def main() -> list[int]:
        accepted: list[socket.socket] = []
        counts: list[int] = []
        arrived: list[ae.CondVar[None]] = [ae.CondVar(), ae.CondVar()]

        def on_accept(sock: socket.socket, host: str, port: int) -> None:
            accepted.append(sock)
            if len(accepted) % 2 == 0:  # in the middle of what is there to accept
                server.pause()
                server.pause()
                arrived[len(accepted) // 2 - 1].send()

        with tcp_server("127.0.0.1", 0, on_accept) as server:
            clients = [socket.create_connection(server.address) for _ in range(4)]
            await arrived[0]
            await ae.sleep(0.02)
            counts.append(len(accepted))
            server.resume()
            server.resume()
            counts.append(len(accepted))
            await arrived[1]
        counts.append(len(accepted))
        server.resume()  # closed: nothing to accept on
        for sock in (*clients, *accepted):
            sock.close()
        return counts

    assert ae.run(main()) == [2, 2, 4]


def test_refused_connect_is_reported(backend: Backend) -> None:
    async def main() -> None:
        with refused_address() as (host, port):
            for _ in range(3):
                with pytest.raises(ConnectFailed) as caught:
                    await tcp_connect(host, port, timeout=30)
                assert caught.value.errno == errno.ECONNREFUSED

    ae.run(main())


@pytest.mark.linux
def test_silent_target_loses_the_race_and_times_out(backend: Backend) -> None:
    async def main() -> None:
        prepared: list[socket.socket] = []
        with silent_address("::1") as silent, refused_address() as refused:
            resolver = ScriptedResolver({"x.test": [silent, refused]})
            started = ae.time()
            with pytest.raises(ConnectFailed) as caught:
                await tcp_connect(
                    "x.test", 80, on_prepare=prepared.append, timeout=0.4, resolver=resolver
                )
            assert ae.time() - started >= 0.39
        codes = [error.errno for error in caught.value.errors]
        assert codes == [errno.ETIMEDOUT, errno.ECONNREFUSED]
        assert [sock.fileno() for sock in prepared] == [-1, -1]

    ae.run(main())


@pytest.mark.linux
def test_cancelled_connect_leaves_nothing(backend: Backend) -> None:
    async def main() -> None:
        with silent_address() as silent:
            condvar = tcp_connect(*silent, lambda *_: pytest.fail("called after cancel()"))
            await ae.sleep(0.01)
            condvar.cancel()
            await ae.sleep(0.01)
        assert condvar.cancelled

    ae.run(main())


def test_names_are_looked_up_in_threads(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: bytes, port: int, family: int, kind: int) -> list[object]:
        return [(socket.AF_INET, kind, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        pending = [resolve(f"{number}.test", number) for number in range(1, 30)]
        for number, condvar in enumerate(pending, 1):
            assert [info.sockaddr for info in await condvar] == [("10.0.0.1", number)]

    ae.run(main())


def test_datagrams_arrive(backend: Backend) -> None:
    async def main() -> None:
        got: ae.CondVar[tuple[bytes, object]] = ae.CondVar()
        with udp_endpoint(got, local_address="127.0.0.1") as server:
            with udp_endpoint(lambda *_: None, remote_address=server.address) as client:
                assert client.send(b"hello")
                assert await got == (b"hello", client.address)

    ae.run(main())
