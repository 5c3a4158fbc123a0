"""httpx on our connections: in asyncio and trio, and as a guest of every other loop."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import ae_core as ae
import ae_tls
from ae_core.abc import Backend
from ae_handle.httpcore import NetworkBackend, httpx_transport
from ae_handle.testing import lingering
from ae_socket import AddressInfo
from ae_tls.testing import CertificateAuthority

#: Answers GET with the path a thousand times, and POST with the body backwards.
SERVER = """
import ssl, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(self.path.encode() * 1000)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1])

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        return

class Server(ThreadingHTTPServer):
    def handle_error(self, request, address):
        return

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
clear, secure = (Server(("127.0.0.1", 0), Handler) for _ in range(2))
secure.socket = context.wrap_socket(
    secure.socket, server_side=True, do_handshake_on_connect=False
)
for server in (clear, secure):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(clear.server_port, secure.server_port, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Servers:
    """Web servers in clear and with TLS, in a process of their own."""

    port: int
    tls_port: int
    authority: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder: Path = tmp_path_factory.mktemp("web")
    authority = CertificateAuthority()
    leaf = authority.issue("www.example.com", "127.0.0.1")
    (folder / "both").write_text(leaf.cert_pem + leaf.key_pem)
    command = [sys.executable, "-c", SERVER, str(folder / "both")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        port, tls_port = map(int, process.stdout.readline().split())
        yield Servers(port, tls_port, authority.pem)
        assert process.stdin is not None
        process.stdin.close()


class Loopback:
    """A resolver that leads every name to the loopback."""

    def getaddrinfo(self, host: str, service: Any, *, family: int = 0, type: str = "stream") -> Any:
        found: ae.CondVar[list[AddressInfo]] = ae.CondVar()
        info = AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", int(service)))
        ae.postpone(lambda: found.send([info]))
        return found


def run(backend: Backend, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine function that needs asyncio or trio."""
    if backend.name in ("asyncio", "trio"):
        return ae.run(function())
    import asyncio

    from ae_guests import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:  # which is closed at the end
        return runner.run(function())


async def farewell() -> None:
    while lingering():
        await ae.sleep(0.001)


def test_requests_on_every_loop(backend: Backend, servers: Servers) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx_transport()) as client:
            url = f"http://127.0.0.1:{servers.port}"
            for path in ("/a", "/b"):
                response = await client.get(url + path)
                assert response.content == path.encode() * 1000
            response = await client.post(url, content=bytes(range(256)) * 4000)
            assert response.content == (bytes(range(256)) * 4000)[::-1]
        await farewell()

    run(backend, main)


@pytest.mark.parametrize("engine", ["ssl", "ae_tls"])
def test_tls_and_a_resolver_of_ours_on_every_loop(
    backend: Backend, servers: Servers, engine: str
) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"resolver": Loopback()}
        if engine == "ssl":
            options["verify"] = ssl.create_default_context(cadata=servers.authority)
        else:
            options["tls_context"] = ae_tls.Context(ca_cert=servers.authority)
        async with httpx.AsyncClient(transport=httpx_transport(**options)) as client:
            response = await client.get(f"https://www.example.com:{servers.tls_port}/s")
            assert response.content == b"/s" * 1000
            with pytest.raises(httpx.ConnectError, match=r"(?i)not for|match"):
                await client.get(f"https://www.example.org:{servers.tls_port}/s")
        await farewell()

    run(backend, main)


def test_errors_are_those_of_httpx(backend: Backend, servers: Servers) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            async with httpx.AsyncClient(transport=httpx_transport(), timeout=0.05) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient(transport=httpx_transport()) as client:
            with pytest.raises(httpx.ConnectError, match=re.escape(f"127.0.0.1:{port}")):
                await client.get(f"http://127.0.0.1:{port}")

    run(backend, main)


def test_a_pool_of_httpcore_takes_the_backend(backend: Backend, servers: Servers) -> None:
    import httpcore

    async def main() -> None:
        async with httpcore.AsyncConnectionPool(network_backend=NetworkBackend()) as pool:
            response = await pool.request("GET", f"http://127.0.0.1:{servers.port}/a")
            assert response.content == b"/a" * 1000

    run(backend, main)
