"""Connections for httpcore without a pool: its interface, method by method."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpcore
import pytest

import ae_core as ae
from ae_handle import Handle, serve
from ae_handle.httpcore import NetworkBackend

Run = Callable[..., Any]


async def echo(handle: Handle) -> None:
    async for line in handle.each("line"):
        handle.push_write(line.upper() + b"\n")


def test_a_unix_socket_is_connected_to(run_anyio: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with serve("unix/", path, echo):
            stream = await NetworkBackend().connect_unix_socket(path)
            await stream.write(b"hello\n")
            await stream.write(b"")
            assert await stream.read(100) == b"HELLO\n"
            assert stream.get_extra_info("server_addr") == path
            await stream.aclose()
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"x")
            assert stream.get_extra_info("socket") is None
            assert stream.get_extra_info("is_readable")
        with pytest.raises(httpcore.ConnectError):
            await NetworkBackend().connect_unix_socket(path, timeout=10)

    run_anyio(main)


def test_the_options_of_the_socket_are_set_before_it_connects(run_anyio: Run) -> None:
    level = socket.SOL_SOCKET
    options = [(level, socket.SO_KEEPALIVE, 1), (level, socket.SO_RCVBUF, 9)]

    async def main() -> None:
        async with serve("127.0.0.1", 0, echo) as server:
            backend = NetworkBackend()
            stream = await backend.connect_tcp(*server.address, socket_options=options)
            sock = stream.get_extra_info("socket")
            assert sock.getsockopt(level, socket.SO_KEEPALIVE)
            plain = await backend.connect_tcp(*server.address, local_address="127.0.0.1")
            usual = plain.get_extra_info("socket").getsockopt(level, socket.SO_RCVBUF)
            assert sock.getsockopt(level, socket.SO_RCVBUF) < usual
            await stream.aclose()
            await plain.aclose()

    run_anyio(main)


@pytest.mark.parametrize("poll", [True, False])
def test_what_is_asked_of_a_connection_is_answered_by_its_socket(
    run_anyio: Run, monkeypatch: pytest.MonkeyPatch, poll: bool
) -> None:
    if not poll:  # as on Windows
        monkeypatch.delattr(select, "poll", raising=False)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            stream = await NetworkBackend().connect_tcp(*address)
            peer, client = listener.accept()
            ask = stream.get_extra_info
            assert (ask("client_addr"), ask("server_addr")) == (client, address)
            assert ask("socket").getsockname() == client
            assert ask("ssl_object") is None
            assert ask("something else") is None
            assert not ask("is_readable")
            peer.close()
            while not ask("is_readable"):
                await anyio.sleep(0.001)
            assert await stream.read(100) == b""
            await stream.aclose()

    run_anyio(main)


def test_its_sleep_is_the_loops(run_anyio: Run) -> None:
    async def main() -> None:
        loop = ae.detect()
        before = loop.clock()
        await NetworkBackend().sleep(0.02)
        assert loop.clock() - before >= 0.01

    run_anyio(main)


def test_tls_through_a_proxy_that_speaks_tls_itself(
    run_anyio: Run,
    contexts: Callable[[str], tuple[Any, Any]],
    engine: str,
    certificates: Any,
) -> None:
    """A session of ours is asked what httpcore asks an ``ssl.SSLObject``."""
    client, server = contexts(engine)

    async def proxy(handle: Handle) -> None:
        await handle.push_read("line")
        handle.push_write(b"200\n")
        inner = Handle(handle, tls="accept", tls_context=server)
        await echo(inner)

    async def main() -> None:
        async with serve("127.0.0.1", 0, proxy, tls_context=server) as listening:
            backend = NetworkBackend(tls_context=client)
            tcp = await backend.connect_tcp(*listening.address)
            assert tcp.get_extra_info("ssl_object") is None
            outer = await tcp.start_tls(certificates.client(), "peer.test")
            await outer.write(b"CONNECT\n")
            assert await outer.read(100) == b"200\n"
            inner = await outer.start_tls(certificates.client(), "peer.test", 30)
            await inner.write(b"hello\n")
            assert await inner.read(100) == b"HELLO\n"
            assert inner.get_extra_info("server_addr") == listening.address
            assert not inner.get_extra_info("is_readable")
            for stream in (inner, outer):
                tls = stream.get_extra_info("ssl_object")
                assert tls.version() == "TLSv1.3"
                assert tls.selected_alpn_protocol() is None
                assert tls.getpeercert(binary_form=True)[:1] == b"0"
            await inner.aclose()

    run_anyio(main)
