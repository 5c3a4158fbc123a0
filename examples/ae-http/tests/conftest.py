"""Servers for the tests: one that does what the test says, nginx, and Python's own."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import ae_core as ae
import ae_tls
from ae_handle import Chunk, Handle, Line
from ae_handle.testing import end_lingering
from ae_socket import tcp_server
from ae_tls.testing import CertificateAuthority

Handler = Callable[[Handle, bytes], object]
_HEAD = Line(b"\r\n\r\n")


class Served:
    """A server in the test's own loop: calls *handler* with the handle and each request's head.

    Attributes:
        url: Where it is.
        requests: The heads it got, over all connections.
        bodies: The bodies that came with them; with *raw* they are left unread.
        handles: Its ends of the connections there were.
    """

    def __init__(self, handler: Handler, context: Any = None, *, raw: bool = False) -> None:
        self._raw = raw
        self._handler = handler
        self._context = context
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.handles: list[Handle] = []
        self._server: Any = None
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._sock.getsockname()[1]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Accept connections; on trio that is possible in a run only."""
        if self._server is None:
            self._server = tcp_server(None, None, self._accept, sock=self._sock)

    def _accept(self, sock: socket.socket, host: str, port: int | str) -> None:
        handle = Handle(
            sock,
            on_error=lambda handle, error: None,
            on_eof=lambda handle: handle.destroy(),
            tls=None if self._context is None else "accept",
            tls_context=self._context,
            max_read_buffer=None,
        )
        handle.read_each(_HEAD, self._request)
        self.handles.append(handle)

    def _request(self, handle: Handle, head: bytes) -> None:
        self.requests.append(head)
        self.bodies.append(b"")
        fields = head.lower()
        if b"\r\ntransfer-encoding: chunked" in fields:
            handle.unshift_read("line", self._chunk_size)
            return
        length = int(fields.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)
        if length and not self._raw:
            handle.unshift_read(Chunk(length), self._whole_body)
        else:
            self._handler(handle, head)

    def _whole_body(self, handle: Handle, data: bytes) -> None:
        self.bodies[-1] = data
        self._handler(handle, self.requests[-1])

    def _chunk_size(self, handle: Handle, line: bytes) -> None:
        size = int(line, 16)
        if size:
            handle.unshift_read(Chunk(size + 2), self._chunk)
        else:
            handle.unshift_read("line", self._no_trailer)

    def _chunk(self, handle: Handle, data: bytes) -> None:
        self.bodies[-1] += data[:-2]
        handle.unshift_read("line", self._chunk_size)

    def _no_trailer(self, handle: Handle, line: bytes) -> None:
        assert line == b""
        self._handler(handle, self.requests[-1])

    @property
    def alive(self) -> int:
        """How many connections are open."""
        return sum(not handle.is_destroyed for handle in self.handles)

    def close(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.cancel()
        self._sock.close()
        for handle in self.handles:
            handle.destroy()
        end_lingering()


Serve = Callable[..., Served]


@pytest.fixture(autouse=True)
def _no_farewells() -> Iterator[None]:
    """Close what only waits for the peer's close_notify: the next test begins with nothing."""
    yield
    end_lingering()


@pytest.fixture
def servers() -> Iterator[list[Served]]:
    """The servers of this test."""
    started: list[Served] = []
    yield started
    for server in started:
        server.close()


@pytest.fixture
def serve(servers: list[Served]) -> Serve:
    """Return a function that starts a server which does what *handler* says.

    ``serve(handler)``, or ``serve(b"HTTP/1.1 ...")`` for the same answer to every request.
    """

    def start(handler: Handler | bytes, context: Any = None, *, raw: bool = False) -> Served:
        if isinstance(handler, bytes):
            answer = handler
            server = Served(lambda handle, head: handle.push_write(answer), context, raw=raw)
        else:
            server = Served(handler, context, raw=raw)
        servers.append(server)
        if ae.backend() != "trio":
            server.start()
        return server

    return start


def reply(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return a response with *body*."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture(name="reply")
def reply_fixture() -> Callable[..., bytes]:
    """Return the function that makes a response."""
    return reply


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    """The authority whose certificates the tests trust."""
    return CertificateAuthority()


@pytest.fixture(scope="session")
def trusting(authority: CertificateAuthority) -> ae_tls.Context:
    """A client's context that trusts it."""
    return ae_tls.Context(ca_cert=authority.cert)


@pytest.fixture(scope="session")
def server_context(authority: CertificateAuthority) -> ae_tls.Context:
    """A server's context for 127.0.0.1 and localhost."""
    leaf = authority.issue("127.0.0.1", "localhost")
    return ae_tls.Context(cert=leaf.chain, key=leaf.key)


@pytest.fixture(scope="session")
def pem(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and certificate for 127.0.0.1, for servers of other makes."""
    leaf = authority.issue("127.0.0.1", "localhost")
    path = tmp_path_factory.mktemp("pem") / "server.pem"
    path.write_text(leaf.key_pem + leaf.cert_pem)
    return path


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def await_port(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Return whether somebody listens there, before the process ends."""
    end = monotonic() + 30
    while monotonic() < end and process.poll() is None:
        with socket.socket() as sock:
            sock.settimeout(1)
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return True
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    return False


NGINX = r"""
{user} daemon off; worker_processes 1; pid {top}/pid; error_log {top}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    types {{ text/plain txt; application/octet-stream bin; }}
    gzip on; gzip_min_length 100; gzip_types text/plain;
    client_body_temp_path {top}/1; proxy_temp_path {top}/2; fastcgi_temp_path {top}/3;
    uwsgi_temp_path {top}/4; scgi_temp_path {top}/5; keepalive_requests 3;
    server {{
        listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {pem}; ssl_certificate_key {pem};
        root {top}/root;
        location /moved {{ return 302 /hello.txt; }}
        location /loop {{ return 301 /loop; }}
        location /secure {{ return 301 https://127.0.0.1:{tls_port}/hello.txt; }}
        location /method {{
            default_type text/plain;
            return 200 "$request_method $content_length $http_transfer_encoding";
        }}
        location /empty {{ return 204; }}
        location ~ /websocket/(\d+)$ {{
            proxy_pass http://127.0.0.1:$1; proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
        }}
        location /proxied {{
            proxy_pass http://127.0.0.1:{port}/hello.txt; proxy_http_version 1.1;
        }}
    }}
}}
"""


class Nginx:
    """A running nginx: its two addresses, and the directory it serves."""

    def __init__(self, url: str, tls_url: str, root: Path) -> None:
        self.url = url
        self.tls_url = tls_url
        self.root = root


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory, pem: Path) -> Iterator[Nginx]:
    """A real nginx on free ports; keeps a connection for three requests only."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    top = tmp_path_factory.mktemp("nginx")
    root = top / "root"
    root.mkdir()
    (root / "hello.txt").write_bytes(b"hello\n")
    (root / "long.txt").write_bytes(b"the quick brown fox\n" * 5000)
    (root / "big.bin").write_bytes(bytes(range(256)) * 12_000)
    # as root it would serve as somebody else, who may not read pytest's directories
    user = "user root;" if os.geteuid() == 0 else ""
    for _ in range(5):  # another program may take a port meanwhile
        port, tls_port = free_port(), free_port()
        config = top / "nginx.conf"
        config.write_text(NGINX.format(user=user, top=top, port=port, tls_port=tls_port, pem=pem))
        process = subprocess.Popen(
            [program, "-c", str(config), "-e", str(top / "error.log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if await_port(port, process) and await_port(tls_port, process):
            break
        process.kill()
        process.wait()
    else:
        pytest.skip(f"nginx does not start: {(top / 'error.log').read_text()[-500:]}")
    yield Nginx(f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}", root)
    process.terminate()
    process.wait()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and gives back what is posted."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Echo the body, which must have a length."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True


@pytest.fixture(params=["plain", "tls"])
def python_server(request: pytest.FixtureRequest, tmp_path: Path, pem: Path) -> Iterator[str]:
    """The address of Python's own HTTP/1.1 server, in a thread."""
    (tmp_path / "hello.txt").write_bytes(b"hello\n")
    (tmp_path / "directory").mkdir()
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = _Server(("127.0.0.1", 0), handler)
    scheme = "http"
    if request.param == "tls":
        scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(servers: list[Served]) -> Callable[[Any], Any]:
    """Return a function that runs a coroutine on the backend that is bound, for 60 s at most."""

    async def bounded(coroutine: Any) -> Any:
        for server in servers:
            server.start()
        task = ae.spawn(coroutine)
        limit = ae.timer(60.0, task.cancel)
        try:
            return await task
        finally:
            limit.cancel()
            for server in servers:
                server.close()

    return lambda coroutine: ae.run(bounded(coroutine))


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that runs the loop until a condition holds."""

    def wait(condition: Callable[[], bool]) -> None:
        done: ae.CondVar[None] = ae.CondVar()
        poll = ae.timer(0.0, lambda: done.send() if condition() else None, interval=0.002)
        done.recv(timeout=30)
        poll.cancel()

    return wait
