"""Fixtures of the handle's tests: pairs of handles, turns of the loop, certificates."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle
from ae_handle.testing import end_lingering, lingering

Pair = tuple[Handle, Handle]


@pytest.fixture
def turns() -> Callable[..., None]:
    """Run a number of turns of the loop: enough for anything that needs no waiting."""

    def run(count: int = 12) -> None:
        for _ in range(count):
            ae.sleep(0).recv()

    return run


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Run the loop until something is true."""

    def run(condition: Callable[[], object]) -> None:
        give_up = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < give_up, "waited for 30 s"
            ae.sleep(0.001).recv()

    return run


@pytest.fixture
def made() -> Iterator[list[Handle]]:
    """Handles that are destroyed at the end of the test, with all that lingers of them."""
    handles: list[Handle] = []
    yield handles
    for handle in handles:
        handle.linger = 0
        handle.destroy()
    handles.clear()
    end_lingering()


@pytest.fixture
def join(made: list[Handle]) -> Callable[..., Pair]:
    """Make a pair of handles; the options of the first, then those of the second."""

    def make(left: dict[str, Any] | None = None, right: dict[str, Any] | None = None) -> Pair:
        a, b = socket.socketpair()
        pair = Handle(a, **(left or {})), Handle(b, **(right or {}))
        made.extend(pair)
        return pair

    return make


@pytest.fixture
def half(made: list[Handle]) -> Iterator[Callable[..., tuple[Handle, socket.socket]]]:
    """Make a handle whose other side is a plain socket."""
    peers: list[socket.socket] = []

    def make(**options: Any) -> tuple[Handle, socket.socket]:
        a, b = socket.socketpair()
        peers.append(b)
        b.settimeout(10)
        handle = Handle(a, **options)
        made.append(handle)
        return handle, b

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def tcp() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Make a pair of TCP sockets over the loopback."""
    sockets: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
        sockets.extend((client, peer))
        return client, peer

    yield make
    for sock in sockets:
        sock.close()


class Certificates:
    """A certificate for "peer.test", and contexts that use it."""

    def __init__(self, directory: Path) -> None:
        self.cert = str(directory / "cert.pem")
        self.key = str(directory / "key.pem")
        self.ca = self.cert
        if shutil.which("openssl") is None:
            self.ca = str(directory / "ca.pem")
            trustme = pytest.importorskip("trustme", reason="needs the openssl program or trustme")
            ca = trustme.CA()
            ca.cert_pem.write_to_path(self.ca)
            leaf = ca.issue_cert("peer.test")
            leaf.cert_chain_pems[0].write_to_path(self.cert)
            leaf.private_key_pem.write_to_path(self.key)
            return
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
                *("-subj", "/CN=peer.test", "-addext", "subjectAltName=DNS:peer.test"),
                *("-keyout", self.key, "-out", self.cert),
            ],
            check=True,
            capture_output=True,
        )

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["ssl", "ae_tls"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of a TLS engine, whose package is installed."""
    if request.param != "ssl":
        # here, and not where its contexts are made: a skip in mid-test leaves things behind
        pytest.importorskip("ae_tls", reason="the engine of ae_tls needs ae_tls")
    return str(request.param)


@pytest.fixture
def contexts(certificates: Certificates) -> Callable[[str], tuple[Any, Any]]:
    """Make the contexts of a client and a server, of the engine of the given name."""

    def make(engine: str) -> tuple[Any, Any]:
        if engine == "ssl":
            return certificates.client(), certificates.server()
        tls: Any = pytest.importorskip("ae_tls")
        client = tls.Context(ca_cert=Path(certificates.ca).read_text())
        return client, tls.Context(cert_file=certificates.cert, key_file=certificates.key)

    return make


@pytest.fixture(params=["asyncio", "trio"])
def run_anyio(request: pytest.FixtureRequest, unbound: None) -> Callable[..., Any]:
    """Run a coroutine function in a loop that anyio knows."""
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    if request.param == "trio":
        pytest.importorskip("trio", reason="trio is not installed")

    def run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            with anyio.fail_after(60):
                result = await function()
                while lingering():
                    await anyio.sleep(0.001)
                return result

        return anyio.run(main, backend=request.param)

    return run


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the exception hook was given, as texts."""
    errors: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(repr(error)))
    return errors


@pytest.fixture
def join_tls(join: Callable[..., Pair], certificates: Certificates) -> Callable[..., Pair]:
    """Make a pair of handles that speak TLS: the client, then the server."""

    def make(client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> Pair:
        return join(
            {
                "tls": "connect",
                "tls_context": certificates.client(),
                "peer_name": "peer.test",
                **(client or {}),
            },
            {"tls": "accept", "tls_context": certificates.server(), **(server or {})},
        )

    return make
