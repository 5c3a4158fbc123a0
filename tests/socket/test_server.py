"""tcp_server against real sockets on the loopback."""

from __future__ import annotations

import errno
import gc
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_socket import Server, inherited_sockets, tcp_connect, tcp_server
from ae_socket._binding import Bound
from ae_socket._server import _Listener


def nobody(*_: object) -> None:
    raise AssertionError("nobody was expected to connect")


def descriptors() -> int:
    ae.sleep(0).recv()  # the first one opens what the loop keeps
    return len(os.listdir("/proc/self/fd"))


# ---------------------------------------------------------------------- addresses


def test_server_listens_when_the_call_returns(accepted: Any) -> None:
    with tcp_server("127.0.0.1", 0, accepted) as server:
        host, port = server.address
        assert host == "127.0.0.1"
        assert isinstance(port, int)
        assert port > 0
        assert server.addresses == [server.address]
        with socket.create_connection(server.address) as client:  # blocking: nothing runs here
            assert accepted.calls == []
            accepted.wait(1)
            sock, host, port = accepted.calls[0]
            assert (host, port) == client.getsockname()
            assert sock.gettimeout() == 0


def test_no_host_means_every_family_on_one_port(accepted: Any) -> None:
    with tcp_server(None, None, accepted) as server:
        port = server.address[1]
        assert server.addresses == [("0.0.0.0", port), ("::", port)]
        for host in ("127.0.0.1", "::1"):
            tcp_connect(host, port).recv().close()
        accepted.wait(2)
        assert sorted(host for _, host, _ in accepted.calls) == ["127.0.0.1", "::1"]


def test_ipv6_socket_accepts_no_ipv4_unless_told(accepted: Any) -> None:
    with socket.socket() as reserved:  # bound, not listening: no other program has this port
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with tcp_server("::", port, accepted), pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    for wildcard in ("::", None):
        with tcp_server(wildcard, 0, accepted, dual_stack=True) as server:
            assert [address[0] for address in server.addresses] == ["::"]
            with socket.create_connection(("127.0.0.1", server.address[1])) as client:
                accepted.wait(1)
                sock, host, port = accepted.calls.pop()
                sock.close()
                assert (host, port) == client.getsockname()


@pytest.mark.environment
def test_protocols_variable_chooses_families_and_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AE_PROTOCOLS", "ipv6,ipv4")
    with tcp_server(None, 0, nobody) as server:
        assert [host for host, _ in server.addresses] == ["::", "0.0.0.0"]
    monkeypatch.setenv("AE_PROTOCOLS", "ipv6")
    with tcp_server(None, 0, nobody) as server:
        assert [host for host, _ in server.addresses] == ["::"]
    with tcp_server("0", 0, nobody) as server:  # an address that was named counts
        assert server.address[0] == "0.0.0.0"


@pytest.mark.linux
def test_scope_is_shown_and_taken(accepted: Any) -> None:
    name = next((name for _, name in socket.if_nameindex() if link_local(name)), None)
    if name is None:
        pytest.skip("no interface has a link-local address here")
    scoped = f"{link_local(name)}%{name}"
    with tcp_server(scoped, 0, accepted) as server:
        assert server.address[0] == scoped
        shown: list[str] = []
        connecting = tcp_connect(
            scoped,
            server.address[1],
            lambda sock, host, port, retry: shown.append(host),
            local_address=scoped,
        )
        with connecting.recv() as client:
            assert client.getsockname()[3] == socket.if_nametoindex(name)
            accepted.wait(1)
            assert accepted.calls[0][1] == scoped
            assert shown == [scoped]


def link_local(interface: str) -> str | None:
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, scope, _, name = line.split()
        if name == interface and scope == "20":
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    return None


@pytest.mark.parametrize(
    ("host", "service", "text"),
    [
        ("localhost", 0, "expected an IP address, None or 'unix/' as host, got 'localhost'"),
        ("", 0, "expected an IP address"),
        ("1.2.3.4.5", 0, "'1.2.3.4.5'"),
        ("127.0.0.1", "no-such-service", "unknown service 'no-such-service'"),
        ("127.0.0.1", 65536, "65536"),
        ("unix/", "relative", "expected an absolute path"),
        ("unix/", "/a\0b", "without NUL"),
        ("unix/", None, "expected an absolute path"),
    ],
)
def test_bad_addresses_are_value_errors(host: str, service: str | int | None, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        tcp_server(host, service, nobody)
    assert text in str(caught.value)


def test_wrong_types_are_refused() -> None:
    for arguments in ((b"127.0.0.1", 0, nobody), ("127.0.0.1", 1.5, nobody), (None, 0, None)):
        with pytest.raises(TypeError, match="expected"):
            tcp_server(*arguments)


@pytest.mark.unix_sockets
def test_address_that_cannot_be_had_is_an_error_that_names_it() -> None:
    with tcp_server("127.0.0.1", 0, nobody) as server:
        port = server.address[1]
        for host in ("127.0.0.1", None):
            with pytest.raises(OSError, match=f":{port}") as caught:
                tcp_server(host, port, nobody)
            assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match=r"192\.0\.2\.77") as caught:
        tcp_server("192.0.2.77", 0, nobody)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    with pytest.raises(OSError) as caught:
        tcp_server("unix/", "/" + 200 * "x", nobody)
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.linux
def test_failed_servers_leave_nothing_open_even_with_the_traceback_kept() -> None:
    with tcp_server(None, 0, nobody) as server:
        port = server.address[1]
        before = descriptors()
        kept: list[BaseException] = []
        for host in ("127.0.0.1", "::1", None, "192.0.2.77", "unix/"):
            with pytest.raises(OSError) as caught:
                tcp_server(host, port if host != "unix/" else "/no/such/directory/s", nobody)
            kept.append(caught.value)
        assert descriptors() == before


@pytest.mark.linux
def test_reuse_port_shares_the_port() -> None:
    with tcp_server("127.0.0.1", 0, nobody, reuse_port=True) as one:
        with tcp_server("127.0.0.1", one.address[1], nobody, reuse_port=True) as two:
            assert one.address == two.address


def test_port_can_be_bound_again_at_once(accepted: Any) -> None:
    with tcp_server("127.0.0.1", 0, accepted) as server:
        address = server.address
        client = tcp_connect(*address).recv()
        accepted.wait(1)
        accepted.calls[0][0].close()  # our end closes first: it gets the TIME_WAIT
        client.close()
    tcp_server(*address, nobody).cancel()


# ---------------------------------------------------------------------- on_prepare


def test_on_prepare_sees_the_real_address_before_the_socket_listens() -> None:
    seen: list[tuple[str, int | str]] = []

    def on_prepare(sock: socket.socket, host: str, port: int | str) -> int:
        seen.append((host, port))
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return 7

    with tcp_server(None, 0, nobody, on_prepare=on_prepare) as server:
        assert seen == server.addresses
        assert server.address[1] != 0


@pytest.mark.linux
@pytest.mark.unix_sockets
def test_what_on_prepare_raises_ends_the_call_and_leaves_nothing_open(tmp_path: Path) -> None:
    def on_prepare(sock: socket.socket, host: str, port: int | str) -> None:
        raise LookupError(f"no luck with {port}")

    before = descriptors()
    for host, service in ((None, 0), ("unix/", str(tmp_path / "s"))):
        with pytest.raises(LookupError, match="no luck") as caught:
            tcp_server(host, service, nobody, on_prepare=on_prepare)
        assert descriptors() == before
        assert caught.traceback
    assert not os.listdir(tmp_path)


# ---------------------------------------------------------------------- lifetime


def test_dropped_server_stops_listening_and_accepted_sockets_live_on(accepted: Any) -> None:
    server = tcp_server("127.0.0.1", 0, accepted)
    address = server.address
    with socket.create_connection(address) as client:
        accepted.wait(1)
        del server
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        accepted.calls[0][0].sendall(b"still here")
        assert client.recv(100) == b"still here"


def test_cancelled_server_accepts_nothing_more() -> None:
    server = tcp_server("127.0.0.1", 0, nobody)
    with socket.create_connection(server.address):
        server.cancel()
        server.cancel()
        assert "closed" in repr(server)
        ae.sleep(0).recv()


def test_server_may_be_closed_in_its_own_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[object] = []
    monkeypatch.setattr(ae, "log", lambda *args: logged.append(args))
    calls: list[socket.socket] = []

    def on_accept(sock: socket.socket, host: str, port: int | str) -> None:
        calls.append(sock)
        server.cancel()
        done.send()

    done: ae.CondVar[None] = ae.CondVar()
    server = tcp_server("127.0.0.1", 0, on_accept)
    clients = [socket.create_connection(server.address) for _ in range(3)]
    done.recv()
    ae.sleep(0).recv()
    assert len(calls) == 1
    assert not logged
    for sock in (*clients, *calls):
        sock.close()


def test_what_on_accept_raises_goes_to_the_hook_and_the_server_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: caught.append(str(error)))
    done: ae.CondVar[None] = ae.CondVar()
    kept: list[socket.socket] = []

    def on_accept(sock: socket.socket, host: str, port: int | str) -> None:
        kept.append(sock)
        if len(kept) == 3:
            done.send()
        raise RuntimeError(f"number {len(kept)}")

    with tcp_server("127.0.0.1", 0, on_accept) as server:
        clients = [socket.create_connection(server.address) for _ in range(3)]
        done.recv()
    assert caught == ["number 1", "number 2", "number 3"]
    for sock in (*clients, *kept):
        sock.close()


def test_reference_cycles_do_not_keep_a_server() -> None:
    gc.disable()
    gc.freeze()  # what other tests have left does not count
    try:
        server = tcp_server("127.0.0.1", 0, nobody)
        address = server.address
        del server
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        assert not any(isinstance(one, (Server, _Listener, Bound)) for one in gc.get_objects())
    finally:
        gc.unfreeze()
        gc.enable()


# ---------------------------------------------------------------------- UNIX sockets


@pytest.mark.unix_sockets
def test_unix_peer_has_no_port(tmp_path: Path, accepted: Any) -> None:
    path = str(tmp_path / "s")
    with tcp_server("unix/", path, accepted) as server:
        assert server.address == ("unix/", path)
        tcp_connect("unix/", path).recv().close()
        accepted.wait(1)
        assert accepted.calls[0][1:] == ("unix/", "")


@pytest.mark.linux
@pytest.mark.unix_sockets
def test_abstract_name_leaves_no_file(accepted: Any) -> None:
    name = f"\0ae-socket-server-{os.getpid()}"
    with tcp_server("unix/", name, accepted) as server:
        assert server.address == ("unix/", name)
        tcp_connect("unix/", name).recv().close()
        accepted.wait(1)
        with pytest.raises(OSError) as caught:
            tcp_server("unix/", name, nobody)
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.unix_sockets
@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_file_of_a_unix_server_goes_with_it(tmp_path: Path, how: str) -> None:
    path = tmp_path / "s"
    server = tcp_server("unix/", str(path), nobody)
    assert stat.S_ISSOCK(path.stat().st_mode)
    if how == "cancel":
        server.cancel()
    del server
    assert not path.exists()


@pytest.mark.unix_sockets
def test_file_that_is_not_ours_any_more_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    one = tcp_server("unix/", str(path), nobody)
    path.unlink()
    two = tcp_server("unix/", str(path), nobody)
    one.cancel()
    assert path.exists()
    two.cancel()
    assert not path.exists()


@pytest.mark.unix_sockets
def test_dead_socket_file_is_replaced(tmp_path: Path, accepted: Any) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with tcp_server("unix/", path, accepted):
        tcp_connect("unix/", path).recv().close()
        accepted.wait(1)


@pytest.mark.unix_sockets
def test_live_socket_file_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as live:
            live.bind(path)
            if kind == socket.SOCK_STREAM:
                live.listen(0)
            for _ in range(3):  # the third finds a full backlog
                with pytest.raises(OSError, match="in use") as caught:
                    tcp_server("unix/", path, nobody)
                assert caught.value.errno == errno.EADDRINUSE
        os.unlink(path)


@pytest.mark.unix_sockets
def test_files_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    (tmp_path / "plain").write_text("precious")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(dead)
    os.mkfifo(tmp_path / "fifo")
    for name in ("plain", "directory", "link", "fifo"):
        with pytest.raises(FileExistsError, match=name):
            tcp_server("unix/", str(tmp_path / name), nobody)
    assert (tmp_path / "plain").read_text() == "precious"
    assert dead.exists()


@pytest.mark.linux
@pytest.mark.unix_sockets
def test_forked_child_does_not_take_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bound = Bound(socket.socket(socket.AF_UNIX), (str(path), 0, 0))
    bound.sock.bind(str(path))
    status = os.lstat(path)
    mine = Bound(bound.sock, (str(path), status.st_dev, status.st_ino))
    mine._process += 1  # as in a child
    mine.close()
    assert path.exists()


# ---------------------------------------------------------------------- sockets from elsewhere


@pytest.mark.unix_sockets
def test_inherited_socket_is_used_and_its_file_stays(tmp_path: Path, accepted: Any) -> None:
    path = tmp_path / "s"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(5)
    with tcp_server(None, None, accepted, sock=sock) as server:
        assert server.address == ("unix/", str(path))
        tcp_connect("unix/", str(path)).recv().close()
        accepted.wait(1)
    assert sock.fileno() == -1
    assert path.exists()


def test_inherited_socket_that_does_not_listen_yet_is_made_to(accepted: Any) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    with tcp_server(None, None, accepted, sock=sock) as server:
        tcp_connect(*server.address).recv().close()
        accepted.wait(1)


def test_inherited_socket_is_left_open_if_on_prepare_raises() -> None:
    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    with socket.create_server(("127.0.0.1", 0)) as sock:
        with pytest.raises(ZeroDivisionError):
            tcp_server(None, None, nobody, on_prepare=refuse, sock=sock)
        assert sock.fileno() != -1


def test_unsuitable_inherited_sockets_are_refused_and_left_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, socket.socket() as stream:
        closed = socket.socket()
        closed.close()
        for sock in (datagram, closed):
            with pytest.raises(ValueError, match="expected an open stream socket"):
                tcp_server(None, None, nobody, sock=sock)
        with pytest.raises(ValueError, match="expected no host and service"):
            tcp_server("127.0.0.1", 80, nobody, sock=stream)
        with pytest.raises(TypeError, match="expected a socket, got 3"):
            tcp_server(None, None, nobody, sock=3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected a socket that is bound"):
            tcp_server(None, None, nobody, sock=stream)
        left, right = socket.socketpair()
        with left, right, pytest.raises(ValueError, match="expected a socket that is"):
            tcp_server(None, None, nobody, sock=left)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
            with client, accepted:
                for sock in (client, accepted):
                    with pytest.raises(ValueError, match="expected a socket that is not connected"):
                        tcp_server(None, None, nobody, sock=sock)
        gone = socket.socket()
        os.close(gone.fileno())
        with pytest.raises(ValueError, match="expected an open stream socket"):
            tcp_server(None, None, nobody, sock=gone)
        gone.detach()
        assert datagram.fileno() >= 0


SERVICE = """
import os, sys
import ae_core as ae
from ae_socket import inherited_sockets, tcp_server
os.dup2(int(sys.argv[1]), 3)  # what a service manager does in the child it starts
os.environ["LISTEN_PID"] = str(os.getpid())
sockets = inherited_sockets()
assert len(sockets) == 1, sockets
assert not os.get_inheritable(3)
assert not [name for name in os.environ if name.startswith("LISTEN_")]
assert inherited_sockets() == []
done = ae.CondVar()
def on_accept(sock, host, port):
    with sock:
        sock.send(b"hello")
    done.send()
server = tcp_server(None, None, on_accept, sock=sockets[0])
done.recv()
"""


@pytest.mark.linux
def test_sockets_of_a_service_manager_are_found() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        number = listener.fileno()
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVICE, str(number)],
            pass_fds=[number],
            env={**os.environ, "LISTEN_FDS": "1"},
        ) as child:
            with socket.create_connection(listener.getsockname(), timeout=30) as client:
                assert client.recv(10) == b"hello"
        assert child.returncode == 0


@pytest.mark.linux
def test_sockets_for_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert inherited_sockets() == []
    assert "LISTEN_FDS" not in os.environ
