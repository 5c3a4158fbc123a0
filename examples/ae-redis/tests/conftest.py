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

from ae_redis import Redis
from ae_redis.testing import FakeServer

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


def start(directory: Path, port_option: str, *options: str) -> tuple[subprocess.Popen[str], int]:
    """Start a server on a free port, and wait until it says that it is ready."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    command = [program, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
    command += ["--dir", str(directory), "--unixsocket", str(directory / "socket")]
    command += ["--enable-debug-command", "yes", *options]
    if shutil.which("setpriv") is not None:  # it does not outlive a test run that is killed
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    said: list[str] = []
    for _ in range(5):  # somebody else may take the port that was free
        port = free_port()
        process = subprocess.Popen(
            [*command, port_option, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "ready to accept" in line and str(directory) in line:  # its last socket
                return process, port
        stop(process)
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
    process, port = start(directory, "--port")
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
    files = {"ca-cert": "ca", "cert": "cert", "key": "key"}
    tls = [word for key, name in files.items() for word in (f"--tls-{key}-file", directory / name)]
    process, port = start(
        directory,
        "--tls-port",
        *("--port", "0", "--tls-auth-clients", "no", "--requirepass", "s3cret:@/%"),
        *map(str, tls),
    )
    yield Server(port, str(directory / "socket"), "s3cret:@/%", str(directory / "ca"))
    stop(process)


@pytest.fixture
def make(redis_server: Server) -> Iterator[Callable[..., Redis]]:
    """Make clients of the real server, with an empty database; they are closed at the end."""
    clients: list[Redis] = []

    def make(url: str | None = None, **options: Any) -> Redis:
        given: dict[str, Any] = {"db": 7, **options}
        clients.append(Redis(url or redis_server.url, **given))
        return clients[-1]

    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=10) as sock:
        sock.sendall(b"FLUSHALL\r\n")
        assert sock.recv(100) == b"+OK\r\n"
    yield make
    for client in clients:
        client.close()


# ---------------------------------------------------------------------- a server as it is told


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server on the built-in loop, which a test may script."""
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Callable[..., Redis]]:
    """Make clients of the scripted server; they are closed at the end."""
    clients: list[Redis] = []

    def make(**options: Any) -> Redis:
        given: dict[str, Any] = {"timeout": 60.0, **options}
        clients.append(Redis(fake.url, **given))
        return clients[-1]

    yield make
    for each in clients:
        each.close()
