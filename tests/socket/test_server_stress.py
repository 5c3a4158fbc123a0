"""tcp_server under stress: exhaustion, floods, bursts, and what a system lacks."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_socket import Server, _binding, tcp_server
from ae_socket._server import _Listener
from ae_socket.testing import refused_address


def nobody(*_: object) -> None:
    raise AssertionError("nobody was expected to connect")


def descriptors() -> int:
    ae.sleep(0).recv()  # the first one opens what the loop keeps
    return len(os.listdir("/proc/self/fd"))


# ---------------------------------------------------------------------- accepting under stress


class Exhausted:
    """Stands in for a listening socket whose accept() fails as it is told."""

    def __init__(self, sock: socket.socket, code: int) -> None:
        self.sock = sock
        self.code: int | None = code
        self.accepts = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.sock, name)

    def accept(self) -> tuple[socket.socket, object]:
        self.accepts += 1
        if self.code is not None:
            raise OSError(self.code, os.strerror(self.code))
        return self.sock.accept()


def listener_of(server: Server) -> _Listener:
    (listener,) = server._open
    assert isinstance(listener, _Listener)
    return listener


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_exhaustion_pauses_accepting_and_it_resumes(
    code: int, accepted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[object] = []
    monkeypatch.setattr(ae, "log", lambda level, text, *args: logged.append((level, args)))
    with tcp_server("127.0.0.1", 0, accepted) as server:
        stand_in = Exhausted(listener_of(server)._bound.sock, code)
        listener_of(server)._bound.sock = stand_in  # type: ignore[assignment]
        with socket.create_connection(server.address):
            ae.sleep(0.5).recv()
            assert 1 <= stand_in.accepts <= 4
            assert len(logged) == 1
            assert logged[0][0] == "error"  # type: ignore[index]
            stand_in.code = None
            accepted.wait(1)


def test_fate_of_one_connection_does_not_stop_the_next(accepted: Any) -> None:
    with tcp_server("127.0.0.1", 0, accepted) as server:
        stand_in = Exhausted(listener_of(server)._bound.sock, errno.ECONNABORTED)
        listener_of(server)._bound.sock = stand_in  # type: ignore[assignment]
        ae.postpone(lambda: setattr(stand_in, "code", None))
        with socket.create_connection(server.address):
            accepted.wait(1)


def test_listening_socket_that_died_ends_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(ae, "log", lambda level, text, *args: logged.append(text % args))
    server = tcp_server("127.0.0.1", 0, nobody)
    with socket.create_connection(server.address):
        stand_in = Exhausted(listener_of(server)._bound.sock, errno.EINVAL)
        listener_of(server)._bound.sock = stand_in  # type: ignore[assignment]
        ae.sleep(0.05).recv()
        assert stand_in.accepts == 1
        assert "any more" in logged[0]
    server.cancel()


FLOOD = """
import resource, socket, sys, time
import ae_core as ae
from ae_socket import tcp_server
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []
server = tcp_server("127.0.0.1", 0, lambda sock, host, port: kept.append(sock))
calls = 0
listener = server._open[0]
class Counting:
    def __init__(self, sock): self.sock = sock
    def __getattr__(self, name): return getattr(self.sock, name)
    def accept(self):
        global calls
        calls += 1
        return self.sock.accept()
listener._bound.sock = Counting(listener._bound.sock)
print(server.address[1], flush=True)
while len(kept) < 40:
    ae.sleep(0.01).recv()
ae.sleep(0.5).recv()
calls, full = 0, len(kept)
ae.sleep(1.0).recv()
print(calls, len(kept) - full, flush=True)
for sock in kept: sock.close()
count = len(kept)
kept.clear()
started = time.monotonic()
while not kept:
    ae.sleep(0.01).recv()
print(time.monotonic() - started, flush=True)
for sock in kept: sock.close()
server.cancel()
"""


@pytest.mark.linux
def test_flood_against_a_descriptor_limit_neither_spins_nor_kills() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FLOOD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "AE_STRICT": "0"},  # strict mode may import, and so needs descriptors
    ) as child:
        assert child.stdout is not None
        address = ("127.0.0.1", int(child.stdout.readline()))
        clients = [socket.create_connection(address) for _ in range(80)]
        accepts, more = map(int, child.stdout.readline().split())
        assert 1 <= accepts <= 20
        assert more == 0
        assert float(child.stdout.readline()) <= 1.0
        for client in clients:
            client.close()
    assert child.returncode == 0


def test_burst_of_five_thousand_connections_is_accepted() -> None:
    count = 0
    wanted = 5000
    done: ae.CondVar[None] = ae.CondVar()

    def on_accept(sock: socket.socket, host: str, port: int | str) -> None:
        nonlocal count
        sock.close()
        count += 1
        if count == wanted:
            done.send()

    def connect() -> None:
        for _ in range(wanted):
            with socket.create_connection(server.address) as client:
                # RST instead of TIME_WAIT: 5,000 ports are a sixth of all there are.
                if sys.platform == "win32":
                    continue  # there a connection that is reset before it is accepted is none
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with tcp_server("127.0.0.1", 0, on_accept, backlog=1024) as server:
        thread = threading.Thread(target=connect)
        thread.start()
        done.recv(timeout=60)
        thread.join()
    assert count == wanted


def test_refused_address_is_refused() -> None:
    with refused_address() as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


# ---------------------------------------------------------------------- what a system lacks


def refusing(family: int, code: int, monkeypatch: pytest.MonkeyPatch, times: int = -1) -> list[int]:
    """Let bind() fail for one family; returns the list of the ports it was tried with."""
    tried: list[int] = []
    for place, name in ((socket, "socket"), (_binding, "_BoundSocket")):
        original: Any = getattr(place, name)

        class Refusing(original):  # type: ignore[misc]
            __slots__ = ()

            def bind(self, address: tuple[str, int]) -> None:
                if self.family == family and len(tried) != times:
                    tried.append(address[1])
                    raise OSError(code, os.strerror(code))
                super().bind(address)

        monkeypatch.setattr(place, name, Refusing)
    return tried


def test_family_that_is_switched_off_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(socket.AF_INET6, errno.EADDRNOTAVAIL, monkeypatch)
    for dual_stack in (False, True):
        with tcp_server(None, 0, nobody, dual_stack=dual_stack) as server:
            assert [host for host, _ in server.addresses] == ["0.0.0.0"]
    with pytest.raises(OSError, match="::"):
        tcp_server("::", 0, nobody)


@pytest.mark.linux
def test_no_family_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(socket.AF_INET6, errno.EADDRNOTAVAIL, monkeypatch)
    refusing(socket.AF_INET, errno.EADDRNOTAVAIL, monkeypatch)
    before = descriptors()
    with pytest.raises(OSError) as caught:
        tcp_server(None, 0, nobody)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert descriptors() == before


def test_port_that_the_other_family_uses_is_picked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = refusing(socket.AF_INET6, errno.EADDRINUSE, monkeypatch, times=3)
    with tcp_server(None, 0, nobody) as server:
        assert len(server.addresses) == 2
        assert server.addresses[0][1] == server.addresses[1][1]
    assert len(tried) == 3
    assert 0 not in tried
    tried = refusing(socket.AF_INET6, errno.EADDRINUSE, monkeypatch)
    with pytest.raises(OSError) as caught:
        tcp_server(None, 0, nobody)
    assert caught.value.errno == errno.EADDRINUSE
    assert len(tried) == 64


@pytest.mark.linux
def test_reuse_port_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    before = descriptors()
    with pytest.raises(ValueError, match="reuse_port is not supported"):
        tcp_server("127.0.0.1", 0, nobody, reuse_port=True)
    assert descriptors() == before


@pytest.mark.unix_sockets
def test_dead_socket_file_that_vanishes_meanwhile_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    lstat = os.lstat

    def vanishing(name: str) -> os.stat_result:
        monkeypatch.setattr(os, "lstat", lstat)
        os.unlink(name)
        return lstat(name)

    monkeypatch.setattr(os, "lstat", vanishing)
    with tcp_server("unix/", path, nobody) as server:
        assert server.address == ("unix/", path)
        os.unlink(path)  # and it may be gone before we are
    assert not os.path.exists(path)


@pytest.mark.unix_sockets
def test_dead_socket_file_that_vanishes_before_it_is_probed_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    class Slow(socket.socket):
        def connect_ex(self, address: Any) -> int:
            os.unlink(path)
            return super().connect_ex(address)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Slow)
        with tcp_server("unix/", path, nobody) as server:
            assert server.address == ("unix/", path)


@pytest.mark.unix_sockets
def test_socket_file_that_comes_back_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    unlink = os.unlink
    others: list[socket.socket] = []

    def quick(name: str) -> None:
        unlink(name)
        other = socket.socket(socket.AF_UNIX)
        other.bind(name)
        others.append(other)

    monkeypatch.setattr(os, "unlink", quick)
    with pytest.raises(OSError, match="in use") as caught:
        tcp_server("unix/", path, nobody)
    assert caught.value.errno == errno.EADDRINUSE
    others[0].close()
    assert os.path.exists(path)


def test_backlog_is_not_known_everywhere(accepted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ae_socket import _server

    monkeypatch.setattr(_server, "_TCP_INFO", None)
    with tcp_server("127.0.0.1", 0, accepted) as server:
        with socket.create_connection(server.address), socket.create_connection(server.address):
            accepted.wait(2)


@pytest.mark.linux
def test_closed_listening_socket_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ae_socket import _server

    closed = socket.socket()
    closed.close()
    assert _server._waiting(closed) == 1
    monkeypatch.delattr(socket, "SO_ACCEPTCONN")
    with socket.socket() as sock:
        assert not _server._is_listening(sock)


def test_listen_that_fails_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(_binding._BoundSocket):
        __slots__ = ()

        def listen(self, backlog: int = 128) -> None:
            raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(_binding, "_BoundSocket", Refusing)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:\d+"):
        tcp_server("127.0.0.1", 0, nobody)


def test_listening_socket_is_an_ordinary_socket() -> None:
    with tcp_server("127.0.0.1", 0, nobody) as server:
        sock = listener_of(server)._bound.sock
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, 6)
        with sock.dup() as copy:
            assert copy.getsockname() == server.address
            assert (copy.family, copy.type, copy.proto) == (sock.family, sock.type, sock.proto)
            assert "AF_INET" in repr(sock) or "family=2" in repr(sock)
