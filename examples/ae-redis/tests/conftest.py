"""Servers for the tests: real ones, started once, and one that is scripted.

``redis_server`` and ``secure_server`` are Debian's redis-server on free ports and UNIX sockets;
``fake`` is a server of our own, which answers what a test says.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ae_handle import Handle
from ae_redis import Parser, Redis
from ae_socket import tcp_server

GREETING = b"%1\r\n+server\r\n+fake\r\n"


# ---------------------------------------------------------------------- real servers


@dataclass(frozen=True)
class Server:
    """A running redis-server."""

    port: int
    path: str
    password: str | None = None
    ca_file: str | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    """Start a server and wait until it says that it is ready."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    volatile = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", str(directory))
    process = subprocess.Popen(
        [program, *volatile, "--unixsocket", str(directory / "socket"), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if "unix socket" in line:  # the last thing it opens
            return process
    process.wait()
    pytest.fail("redis-server does not start: " + "".join(said))


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in clear, without a password."""
    directory = tmp_path_factory.mktemp("redis")
    port = free_port()
    process = start(directory, "--port", str(port))
    yield Server(port, str(directory / "socket"))
    stop(process)


@pytest.fixture(scope="session")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that speaks TLS and wants a password."""
    testing = pytest.importorskip("ae_tls.testing", reason="ae-tls is not installed")
    directory = tmp_path_factory.mktemp("redis-tls")
    authority = testing.CertificateAuthority()
    leaf = authority.issue("127.0.0.1")
    for name, text in (("ca", authority.pem), ("cert", leaf.cert_pem), ("key", leaf.key_pem)):
        (directory / name).write_text(text)
    port = free_port()
    files = {"ca-cert": "ca", "cert": "cert", "key": "key"}
    tls = [word for key, name in files.items() for word in (f"--tls-{key}-file", directory / name)]
    process = start(
        directory,
        *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
        *map(str, tls),
        *("--requirepass", "s3cret:@/%"),
    )
    yield Server(port, str(directory / "socket"), "s3cret:@/%", str(directory / "ca"))
    stop(process)


@pytest.fixture
def make(redis_server: Server) -> Iterator[Callable[..., Redis]]:
    """Make clients of the real server, with an empty database; they are closed at the end."""
    clients: list[Redis] = []

    def make(url: str | None = None, **options: Any) -> Redis:
        client = Redis(url or redis_server.url, **{"db": 7, **options})
        clients.append(client)
        return client

    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=10) as sock:
        sock.sendall(b"FLUSHALL\r\n")
        assert sock.recv(100) == b"+OK\r\n"
    yield make
    for client in clients:
        client.close()


# ---------------------------------------------------------------------- a server as it is told


class Fake:
    """A server that answers commands as a function says.

    ``answer(client, command)`` gets the handle and the words, and returns octets, or None for
    nothing; HELLO is answered by itself unless ``greets`` is false.

    Attributes:
        commands: All commands that came, as texts.
        accepted: How many connections were made.
        clients: The handles of those that are open.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Handle, list[bytes]], bytes | None] = lambda client, words: (
            b"+OK\r\n"
        )
        self.greets = True
        self.refuses = False
        self.commands: list[str] = []
        self.accepted = 0
        self.clients: set[Handle] = set()
        self._server = tcp_server("127.0.0.1", 0, self._accept)
        self.port = self._server.address[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _accept(self, sock: socket.socket, host: str, port: int | str) -> None:
        self.accepted += 1
        if self.refuses:
            sock.close()
            return
        parser = Parser()

        def read(client: Handle) -> None:
            buffer = client.read_buffer
            for words in parser.feed(buffer.take(len(buffer))):
                text = b" ".join(words).decode("latin-1")
                self.commands.append(text)
                if self.greets and words[0] == b"HELLO":
                    client.push_write(GREETING)
                    continue
                reply = self.answer(client, words)
                if reply is not None:
                    client.push_write(reply)

        def gone(client: Handle, *error: Any) -> None:
            self.clients.discard(client)
            client.destroy()

        client = Handle(sock, on_read=read, on_eof=gone, on_error=gone, linger=0)
        self.clients.add(client)

    def kick(self) -> None:
        """Close all connections."""
        while self.clients:
            self.clients.pop().destroy()

    def close(self) -> None:
        """End it."""
        self._server.cancel()
        self.kick()


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server on the built-in loop, which a test may script."""
    server = Fake()
    yield server
    server.close()


@pytest.fixture
def client(fake: Fake) -> Iterator[Callable[..., Redis]]:
    """Make clients of the scripted server; they are closed at the end."""
    clients: list[Redis] = []

    def make(**options: Any) -> Redis:
        clients.append(Redis(fake.url, **{"timeout": 60.0, **options}))
        return clients[-1]

    yield make
    for each in clients:
        each.close()
