"""A ``close()`` that fails: the operation whose descriptor it is has its outcome all the same."""

from __future__ import annotations

import errno
import math
import os
import socket
import sys

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
import ae_dns
import ae_socket
from ae_core._fork_call import call
from ae_dns.testing import NameServer
from ae_handle import Handle

PATIENCE = 60.0


def interrupted() -> OSError:
    return OSError(errno.EINTR, os.strerror(errno.EINTR))


@pytest.fixture(params=["closed all the same", "left open"])
def fail(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the first close() of each descriptor by ae_core fail; the numbers of those."""
    real = os.close
    failed: list[int] = []
    left_open: set[int] = set()

    def close(fd: int) -> None:
        if fd in left_open or "ae_core" not in sys._getframe(1).f_globals["__name__"]:
            left_open.discard(fd)
            real(fd)
            return
        failed.append(fd)
        if request.param == "left open":
            left_open.add(fd)
        else:
            real(fd)
        raise interrupted()

    monkeypatch.setattr(os, "close", close)
    return failed


@pytest.fixture
def fail_sockets(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Have the close() of sockets by ours fail, after it was done; those for which it did."""
    real = socket.socket.close
    failed: list[socket.socket] = []

    def close(sock: socket.socket) -> None:
        caller = sys._getframe(1).f_globals["__name__"]
        is_ours = caller.startswith("ae_") and "testing" not in caller
        is_open = sock.fileno() >= 0
        real(sock)
        if is_open and is_ours:
            failed.append(sock)
            raise interrupted()

    monkeypatch.setattr(socket.socket, "close", close)
    return failed


def test_a_command_ends_with_its_status_and_all_its_output(fail: list[int]) -> None:
    out, err = bytearray(), bytearray()
    process = ae.run_cmd("cat; echo err >&2; exit 3", stdin=b"hello", stdout=out, stderr=err)
    assert process.recv(PATIENCE) == 3 << 8
    assert (bytes(out), bytes(err)) == (b"hello", b"err\n")
    assert len(fail) >= 6  # both ends of three pipes


def test_a_command_is_cancelled_and_reaped(fail: list[int]) -> None:
    process = ae.run_cmd("read x", stdin=lambda: b"", stdout=bytearray())
    ended = ae.CondVar[object]()
    with ae.child(process.pid, ended):
        process.cancel()
        ended.recv(PATIENCE)
    assert process.cancelled
    assert fail


def test_a_command_that_needs_the_helper_starts(fail: list[int]) -> None:
    out = bytearray()
    process = ae.run_cmd("cat <&5; pwd", fds={5: b"five\n"}, cwd="/", stdout=out)
    assert process.recv(PATIENCE) == 0
    assert out == b"five\n/\n"
    assert fail


def test_a_call_in_another_process_has_its_result(fail: list[int]) -> None:
    assert ae.fork_call(math.factorial, 5).recv(PATIENCE) == 120
    call.shutdown()
    assert fail


def test_the_end_of_a_child_is_told(fail: list[int]) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], os.environ)
    ended = ae.CondVar[tuple[int, int]]()
    with ae.child(pid, ended):
        assert ended.recv(PATIENCE) == (pid, 7 << 8)


def test_closing_a_file_that_fails_is_the_outcome_of_that_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fd = ae.files.open("/dev/null").recv(PATIENCE)
    real = os.close

    def close(number: int) -> None:
        real(number)
        raise interrupted()

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", close)
        with pytest.raises(InterruptedError):
            ae.files.close(fd).recv(PATIENCE)


def test_a_file_that_nobody_wants_any_more_ends_no_thread_of_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ae_core._async import thread_pool

    def close(fd: int) -> None:
        os.close(fd)
        raise interrupted()

    begun, go_on = os.pipe(), os.pipe()

    def open_slowly() -> int:
        os.write(begun[1], b"x")
        os.read(go_on[0], 1)
        return os.open("/dev/null", os.O_RDONLY)

    unwanted = thread_pool.submit_ordered("lane", open_slowly, undo=close)
    behind = thread_pool.submit_ordered("lane", lambda: "served")
    os.read(begun[0], 1)
    unwanted.cancel()
    os.write(go_on[1], b"x")
    assert behind.recv(PATIENCE) == "served"
    for fd in (*begun, *go_on):
        os.close(fd)


def test_a_connect_that_is_refused_says_so(fail_sockets: list[socket.socket]) -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    with pytest.raises(ae_socket.ConnectFailed, match="refused"):
        ae_socket.tcp_connect(*bound.getsockname()).recv(PATIENCE)
    bound.close()
    assert fail_sockets


def test_a_server_is_cancelled_and_its_port_is_free(fail_sockets: list[socket.socket]) -> None:
    server = ae_socket.tcp_server("127.0.0.1", 0, print)
    address = server.address
    server.cancel()
    assert fail_sockets
    ae_socket.tcp_server(*address, print).cancel()


def test_a_connect_that_is_cancelled_is_over(fail_sockets: list[socket.socket]) -> None:
    server = ae_socket.tcp_server("127.0.0.1", 0, print)
    operation = ae_socket.tcp_connect(*server.address)
    ae.sleep(0).recv()
    operation.cancel()
    server.cancel()
    assert operation.ready


def test_a_lookup_has_its_answer(fail_sockets: list[socket.socket]) -> None:
    with NameServer("www.test. 60 IN A 192.0.2.1") as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint], search=[])
        assert resolver.a("www.test").recv(PATIENCE) == ["192.0.2.1"]
        assert resolver.a("nosuch.test").recv(PATIENCE) == []
    assert fail_sockets


def test_the_other_side_hears_of_a_destroyed_handle(fail_sockets: list[socket.socket]) -> None:
    ours, theirs = socket.socketpair()
    with Handle(theirs) as other:
        handle = Handle(ours)
        ended: ae.CondVar[None] = ae.CondVar()
        other.on_eof = lambda handle: ended.send()
        other.on_read = lambda handle: None
        handle.destroy()
        ended.recv(PATIENCE)
    assert fail_sockets


def test_a_signal_watcher_gives_everything_back(fail_sockets: list[socket.socket]) -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    for _ in range(2):
        arrived = ae.CondVar[None]()
        with ae.signal("TERM", arrived):
            signal.raise_signal(signal.SIGTERM)
            arrived.recv(PATIENCE)
        assert signal.getsignal(signal.SIGTERM) == before
        assert signal.set_wakeup_fd(-1) == -1
