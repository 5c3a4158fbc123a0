"""What is different on Windows, on a scripted network that answers as Winsock does.

This is no proof of Windows; `tools/windows_tests.sh` runs the suite on a Windows Python.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any

import pytest

import ae_core as ae
from ae_socket import (
    ConnectFailed,
    _hosts,
    _windows,
    resolve,
    tcp_connect,
    tcp_server,
    udp_endpoint,
)
from ae_socket._sockaddr import host_and_port
from ae_socket.testing import ScriptedResolver


def failure(condvar: ae.CondVar[Any]) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        condvar.recv()
    return caught.value


def test_connect_that_would_block_has_started(windows: Any) -> None:
    windows.script["10.0.0.1"] = "ok 0.1"
    tcp_connect("10.0.0.1", 80).recv().close()
    assert windows.story == ["0.000 start 10.0.0.1", "0.100 ok 10.0.0.1", "0.100 close 10.0.0.1"]


def test_started_and_failed_codes_are_told_apart() -> None:
    assert _windows.is_started(10035)  # WSAEWOULDBLOCK
    assert _windows.is_started(10022)  # WSAEINVAL, of early stacks
    for code in (0, 10036, errno.EINPROGRESS, errno.EAGAIN, 10061):
        assert not _windows.is_started(code)


def test_winsock_s_in_progress_is_a_failure(windows: Any) -> None:
    windows.script["10.0.0.1"] = "code 10036"
    error = failure(tcp_connect("10.0.0.1", 80))
    assert error.errno == 10036
    assert "WSAEINPROGRESS" in str(error)


def test_posix_s_in_progress_is_a_failure_there(windows: Any) -> None:
    windows.script["10.0.0.1"] = f"code {errno.EINPROGRESS}"
    assert failure(tcp_connect("10.0.0.1", 80)).errno == errno.EINPROGRESS


def test_failure_that_only_the_exception_set_shows_is_found(windows: Any) -> None:
    windows.script.update({"10.0.0.1": "refused 0.05", "10.0.0.2": "ok 0.01"})
    resolver = ScriptedResolver({"x.test": ["10.0.0.1", "10.0.0.2"]})
    tcp_connect("x.test", 80, resolver=resolver).recv().close()
    assert windows.story == [
        "0.000 start 10.0.0.1",
        "0.050 refused 10.0.0.1",
        "0.100 close 10.0.0.1",
        "0.100 start 10.0.0.2",
        "0.110 ok 10.0.0.2",
        "0.110 close 10.0.0.2",
    ]
    error = failure(tcp_connect("10.0.0.1", 80))
    assert error.errno == 10061
    assert "10.0.0.1:80: WSAECONNREFUSED: connection refused" in str(error)


def test_silent_connect_ends_after_thirty_seconds(windows: Any) -> None:
    windows.script["10.0.0.1"] = "silent"
    error = failure(tcp_connect("10.0.0.1", 80))
    assert windows.clock.elapsed == 30.0
    assert error.errno == errno.ETIMEDOUT


def test_time_out_of_on_prepare_replaces_the_thirty_seconds(windows: Any) -> None:
    windows.script["10.0.0.1"] = "silent"
    failure(tcp_connect("10.0.0.1", 80, on_prepare=lambda sock: 1.0))
    assert windows.clock.elapsed == 1.0


def test_more_connects_than_select_takes_are_looked_at_in_portions(windows: Any) -> None:
    windows.script["10.0.0.1"] = "refused 0.01"
    pending = [tcp_connect("10.0.0.1", 80) for _ in range(1100)]
    for condvar in pending:
        assert failure(condvar).errno == 10061
    assert windows.clock.elapsed == pytest.approx(0.1)


def test_nothing_pending_is_never_asked_about(windows: Any) -> None:
    assert _windows.failed_connects([], windows.select) == []
    with pytest.raises(OSError, match="three empty sets"):
        windows.select([], [], [], 0)


def test_looking_stops_when_no_connect_is_pending(windows: Any) -> None:
    windows.script["10.0.0.1"] = "silent"
    condvar = tcp_connect("10.0.0.1", 80)
    windows.clock.advance(0.5)
    condvar.cancel()
    with pytest.raises(ae.Deadlock):
        ae.CondVar().recv()


def test_failure_found_together_with_another_that_cancels_it(windows: Any) -> None:
    windows.script["10.0.0.1"] = "refused 0.01"
    first = tcp_connect("10.0.0.1", 80)
    second = tcp_connect("10.0.0.1", 80)
    first.on_ready(lambda _: second.cancel())
    failure(first)
    assert second.cancelled


def test_there_are_no_unix_sockets(windows: Any) -> None:
    for condvar in (resolve("unix/", "/x"), tcp_connect("unix/", "/x")):
        with pytest.raises(OSError, match="no UNIX sockets") as caught:
            condvar.recv()
        assert isinstance(caught.value, ConnectFailed) or caught.value.errno == errno.EAFNOSUPPORT
    with pytest.raises(OSError, match="no UNIX sockets"):
        tcp_server("unix/", "/x", print)
    with pytest.raises(OSError, match="no UNIX sockets"):
        udp_endpoint(print, local_address=("unix/", "/x"))


def test_listening_sockets_are_exclusive_instead_of_reused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Options:
        def __init__(self) -> None:
            self.set: list[tuple[int, int, int]] = []

        def setsockopt(self, level: int, option: int, value: int) -> None:
            self.set.append((level, option, value))

    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", ~socket.SO_REUSEADDR, raising=False)
    for active, option in ((False, socket.SO_REUSEADDR), (True, ~socket.SO_REUSEADDR)):
        monkeypatch.setattr(_windows, "ACTIVE", active)
        sock = Options()
        _windows.set_bind_options(sock)  # type: ignore[arg-type]
        assert sock.set == [(socket.SOL_SOCKET, option, 1)]
    monkeypatch.delattr(socket, "SO_EXCLUSIVEADDRUSE")
    sock = Options()
    _windows.set_bind_options(sock)  # type: ignore[arg-type]
    assert sock.set == []


def test_local_port_is_not_reused_either(windows: Any) -> None:
    windows.script["10.0.0.1"] = "ok 0"
    bound: list[object] = []

    def socket_with_bind(*arguments: Any) -> Any:
        sock = windows.socket(*arguments)
        sock.bind = bound.append  # and no setsockopt at all
        return sock

    windows.module.socket = socket_with_bind
    tcp_connect("10.0.0.1", 80, local_address=("10.9.9.9", 7)).recv().close()
    assert bound == [("10.9.9.9", 7)]


def test_codes_have_texts() -> None:
    assert _windows.error_text(10061) == "WSAECONNREFUSED: connection refused"
    assert _windows.error_text(errno.ENOENT) == "No such file or directory"


def test_hosts_file_stands_in_the_system_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", r"D:\WINNT")
    assert _hosts._default_path() == r"D:\WINNT\System32\drivers\etc\hosts"


def test_descriptor_limit_pauses_accepting_whatever_its_number() -> None:
    from ae_socket import _server

    assert 10024 in _server._EXHAUSTED  # WSAEMFILE
    assert errno.EMFILE in _server._EXHAUSTED


def test_reset_of_a_datagram_socket_is_reported_and_it_stays_open() -> None:
    # Windows: an ICMP "port unreachable" fails the next receive even if not connected.
    errors: list[int | None] = []
    received: ae.CondVar[bytes] = ae.CondVar()

    class Reset:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.is_first = True

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

        def recvfrom(self, size: int) -> Any:
            if self.is_first:
                self.is_first = False
                raise OSError(10054, "connection reset")
            return self.sock.recvfrom(size)

    endpoint = udp_endpoint(
        lambda data, address: received.send(data),
        local_address="127.0.0.1",
        on_error=lambda error: errors.append(error.errno),
    )
    with endpoint, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        bound = endpoint._open[0]._bound
        bound.sock = Reset(bound.sock)  # type: ignore[assignment]
        sender.sendto(b"after", endpoint.address)
        assert received.recv() == b"after"
        assert errors == [10054]


def test_scope_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def if_indextoname(index: int) -> str:
        raise OSError(errno.ENXIO, "no such interface")

    monkeypatch.setattr(socket, "if_indextoname", if_indextoname)
    assert host_and_port(socket.AF_INET6, ("fe80::1", 80, 0, 7)) == ("fe80::1%7", 80)
