"""The TCP proxy of the examples: a thousand connections, and none left when one side resets."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import ae_core as ae
from ae_handle import Handle, serve
from ae_handle.testing import lingering

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONNECTIONS = 1000
DESCRIPTORS = 4 * CONNECTIONS + 200  # all four ends of each are in this process


@pytest.fixture
def many_descriptors() -> None:
    """Have as many descriptors as the test needs, or skip it."""
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS:
        return
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"needs {DESCRIPTORS} descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def reset(handle: Handle) -> None:
    """Close so that the peer is sent an RST."""
    handle.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handle.linger = 0
    handle.destroy()


@pytest.mark.parametrize("who", ["client", "target"])
def test_a_thousand_connections_and_none_is_left_when_one_side_resets(
    on_examples_path: Path,
    many_descriptors: None,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
) -> None:
    from tcp_proxy import proxy

    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))
    arrived: list[Handle] = []

    def echo(handle: Handle) -> None:
        handle.read_each("line", lambda handle, line: handle.push_write(line + b"\n"))
        arrived.append(handle)

    async def main() -> None:
        with (
            serve("127.0.0.1", 0, echo) as target,
            proxy("127.0.0.1", 0, target.address) as served,
        ):
            clients = [Handle(connect=served.address) for _ in range(CONNECTIONS)]
            for client in clients:
                client.push_write(b"hello\n")
            for client in clients:
                assert await client.push_read("line") == b"hello"
            assert len(served.clients) == CONNECTIONS
            for handle in clients if who == "client" else arrived:
                reset(handle)
            while served.clients or target.clients or lingering():
                await ae.sleep(0.01)
            for client in clients:
                client.destroy()
            arrived.clear()

    ae.run(main())
    assert errors == []


def test_the_program_passes_on_and_ends_with_its_signal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        host, port = target.getsockname()
        program = [sys.executable, str(EXAMPLES / "tcp_proxy.py"), "0", host, str(port)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdout is not None
            address = proxy.stdout.readline().split()[2]
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
                inside, _ = target.accept()
                with inside:
                    client.sendall(b"question")
                    assert inside.recv(100) == b"question"
                    client.shutdown(socket.SHUT_WR)
                    assert inside.recv(100) == b""
                    inside.sendall(b"answer")
                assert client.recv(100) == b"answer"
            proxy.send_signal(signal.SIGTERM)
            assert proxy.wait(60) == 0
