"""The kernel has no room to watch one more descriptor: every operation ends with that error.

It is played by a loop whose `io_start` refuses: at once, as asyncio's does, or in a later turn,
as trio's and libev's do.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_dns
from ae_dns import _transport
from ae_dns.testing import TRUNCATE, NameServer
from ae_handle import Handle, HandleDestroyed, TransportError
from ae_socket import ConnectFailed, tcp_connect, tcp_server, udp_endpoint

PATIENCE = 60.0


def no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Kernel:
    """Stands between the core and its backend, and refuses descriptors on request."""

    def __init__(self, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self._waiting: set[object] = set()  # tokens of what will be refused
        self._late = late
        self._backend: Any = ae.detect()
        self._start = self._backend.io_start
        self._stop = self._backend.io_stop
        ae.sleep(0).recv()  # the loop has all that is its own
        monkeypatch.setattr(self._backend, "io_start", self.start)
        monkeypatch.setattr(self._backend, "io_stop", self.stop)

    def start(self, fd: int, write: bool, callback: Callable[[], None]) -> Any:
        if not self.is_full:
            return self._start(fd, write, callback)
        if not self._late:
            raise no_room()
        token = object()
        self._waiting.add(token)
        self._backend.call_soon(partial(self.refuse, token, fd, write))
        return token

    def refuse(self, token: object, fd: int, write: bool) -> None:
        if token in self._waiting:
            self._waiting.discard(token)
            self._backend.on_refused(fd, write, no_room())

    def stop(self, token: Any) -> None:
        if token in self._waiting:
            self._waiting.discard(token)
        else:
            self._stop(token)


@pytest.fixture(params=["at once", "late"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(request.param == "late", monkeypatch)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Collect what goes to the exception hook."""
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    return seen


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def settle() -> None:
    for _ in range(4):
        ae.sleep(0).recv()


Pair = tuple[socket.socket, socket.socket]


def test_a_watcher_is_inactive_and_the_hook_has_the_error(
    kernel: Kernel, errors: list[BaseException], pair: Pair
) -> None:
    kernel.is_full = True
    try:
        watcher = ae.io(pair[0], "r", print)
    except OSError as error:
        errors.append(error)
    else:
        settle()
        assert not watcher.active
        watcher.cancel()
    assert [getattr(error, "errno", None) for error in errors] == [errno.ENOSPC]


def test_a_read_of_a_handle_ends_with_the_error(kernel: Kernel, pair: Pair) -> None:
    kernel.is_full = True
    handle = Handle(pair[0])
    seen: list[Any] = []
    handle.on_error = lambda handle, error: seen.append(error)
    line = handle.push_read("line")
    assert not line.ready
    with pytest.raises(TransportError) as caught:
        line.recv(PATIENCE)
    assert caught.value.errno == errno.ENOSPC
    assert [error.errno for error in seen] == [errno.ENOSPC]
    assert handle.is_destroyed


def test_a_write_of_a_handle_that_has_to_wait_ends_with_the_error(
    kernel: Kernel, pair: Pair
) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    handle = Handle(pair[0], linger=0)
    kernel.is_full = True
    handle.push_write(b"x" * 1_000_000)
    drained = handle.drained()
    with pytest.raises(TransportError) as caught:
        drained.recv(PATIENCE)
    assert caught.value.errno == errno.ENOSPC
    handle.destroy()


def test_a_connect_ends_with_the_error(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    # a loopback connect may be over at once: then there is nothing to watch
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EINPROGRESS)
    kernel.is_full = True
    with pytest.raises(ConnectFailed) as caught:
        tcp_connect("127.0.0.1", 9).recv(PATIENCE)
    assert caught.value.errno == errno.ENOSPC


def test_a_server_is_closed_and_the_hook_has_the_error(
    kernel: Kernel, errors: list[BaseException]
) -> None:
    kernel.is_full = True
    server = tcp_server("127.0.0.1", 0, print)
    settle()
    assert [getattr(error, "errno", None) for error in errors] == [errno.ENOSPC]
    with socket.socket() as peer:
        assert peer.connect_ex(server.address) == errno.ECONNREFUSED
    server.cancel()


def test_a_datagram_endpoint_tells_who_asked_for_errors(
    kernel: Kernel, errors: list[BaseException]
) -> None:
    kernel.is_full = True
    seen: list[OSError] = []
    told = udp_endpoint(print, on_error=seen.append)
    silent = udp_endpoint(print)
    settle()
    assert [error.errno for error in seen] == [errno.ENOSPC]
    assert [getattr(error, "errno", None) for error in errors] == [errno.ENOSPC]
    for endpoint in (told, silent):
        with pytest.raises(OSError) as caught:
            endpoint.send(b"x", ("127.0.0.1", 9))
        assert caught.value.errno == errno.EBADF


def test_requests_for_datagrams_end_with_the_error(kernel: Kernel) -> None:
    kernel.is_full = True
    with udp_endpoint(local_address="127.0.0.1") as endpoint:
        for request in (endpoint.receive(), endpoint.receive()):
            with pytest.raises(OSError) as caught:
                request.recv(PATIENCE)
            assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError) as caught:
            endpoint.receive()
        assert caught.value.errno == errno.EBADF


def test_a_query_is_a_failure_at_once(kernel: Kernel) -> None:
    with NameServer("www.demo.test. 60 IN A 192.0.2.80") as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint], search=[], timeouts=(PATIENCE,))
        assert resolver.a("www.demo.test").recv(PATIENCE) == ["192.0.2.80"]
        settle()
        kernel.is_full = True
        with pytest.raises(ae_dns.ResolveError):
            resolver.resolve("other.demo.test", "A").recv(PATIENCE / 2)
        kernel.is_full = False


def test_a_query_over_tcp_is_a_failure_at_once(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = _transport.StreamChannel._connected

    def connected(channel: Any, connecting: Any) -> None:
        kernel.is_full = True  # from the connection on
        start(channel, connecting)

    monkeypatch.setattr(_transport.StreamChannel, "_connected", connected)
    with NameServer() as server:
        server.script("www.demo.test", "A", TRUNCATE)
        resolver = ae_dns.Resolver(servers=[server.endpoint], search=[], timeouts=(PATIENCE,))
        with pytest.raises(ae_dns.ResolveError, match=os.strerror(errno.ENOSPC)):
            resolver.resolve("www.demo.test", "A").recv(PATIENCE / 2)
        kernel.is_full = False


@pytest.mark.skipif(os.name == "nt", reason="no pipes are watched there")
@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_program_is_ended_and_its_condition_variable_has_the_error(
    kernel: Kernel, stream: str
) -> None:
    kernel.is_full = True
    redirect: Any = b"x" * 1_000_000 if stream == "stdin" else bytearray()
    process = ae.run_cmd(["sleep", "1000"], **{stream: redirect})
    kernel.is_full = False
    settle()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        process.recv(PATIENCE)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(ae.Deadlock):  # it is waited for in the background
        ae.CondVar[None]().recv()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


@pytest.mark.skipif(os.name == "nt", reason="no sockets are watched there")
def test_a_call_in_another_process_ends_with_the_error(kernel: Kernel) -> None:
    import math

    kernel.is_full = True
    call = ae.fork_call(math.factorial, 5)
    settle()
    kernel.is_full = False
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        call.recv(PATIENCE)
    assert ae.fork_call(math.factorial, 5).recv(PATIENCE) == 120


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs a pidfd")
def test_the_end_of_a_child_is_told_all_the_same(kernel: Kernel) -> None:
    ended = ae.CondVar[int]()
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
    kernel.is_full = True
    watcher = ae.child(pid, lambda pid, status: ended.send(status))
    assert ended.recv(PATIENCE) == 3 << 8
    assert not watcher.active


@pytest.mark.skipif(os.name == "nt", reason="no process sends this signal there")
def test_a_signal_is_told_all_the_same(kernel: Kernel) -> None:
    told = ae.CondVar[None]()
    kernel.is_full = True
    watcher = ae.signal("USR1", told.send)
    settle()
    kernel.is_full = False
    os.kill(os.getpid(), signal.SIGUSR1)
    told.recv(PATIENCE)
    watcher.cancel()


def test_a_loop_whose_wake_up_is_refused_waits_all_the_same(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        "ae_core._base.log.log", lambda level, text, *rest, **_: logged.append(text)
    )
    from ae_core._detection.current import current_loop

    core = current_loop()
    core.io.end_own(core.io.own[core.per_loop["interrupt"].fd])
    core.closers.clear()
    del core.per_loop["interrupt"]
    kernel.is_full = True
    settle()
    assert logged == ["signals cannot end a wait: %s"]
    done = ae.CondVar[None]()
    with ae.timer(0.01, done.send):
        done.recv(PATIENCE)
    core.closers.clear()
    del core.per_loop["interrupt"]


def test_the_rest_of_a_closing_handle_is_reported_as_lost(
    kernel: Kernel, pair: Pair, errors: list[BaseException]
) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    handle = Handle(pair[0])
    handle.push_write(b"x" * 1_000_000)
    drained = handle.drained()
    kernel.is_full = True
    handle.destroy()
    with pytest.raises(HandleDestroyed):
        drained.recv(PATIENCE)
    settle()
    assert [getattr(error, "errno", None) for error in errors] == [errno.ENOSPC]


# ---------------------------------------------------------------------- the true kernel

PROGRAM = """
import socket, sys
import ae_core as ae
from ae_handle import Handle

ae.use(sys.argv[1])
ours, theirs = socket.socketpair()
handle = Handle(ours)
for _ in range(3):
    ae.sleep(0.001).recv()
line = handle.push_read("line")
for _ in range(3):
    ae.sleep(0.001).recv()
try:
    theirs.send(b"hello\\n")
except BrokenPipeError:
    print("closed")
for what in (line, ae.run_cmd("echo hi", stdout=bytearray())):
    try:
        print(what.recv(60))
    except OSError as error:
        print(error.errno)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("loop", "first", "outcomes"),
    [
        ("loop", 1, ["b'hello'", "0"]),  # by poll(2), beside the set
        ("asyncio", 2, ["closed", "28", "28"]),  # the first one is the loop's own
    ],
)
@pytest.mark.parametrize("refusal", ["ENOSPC", "ENOMEM"])
def test_a_kernel_that_refuses_every_descriptor(
    loop: str, first: int, outcomes: list[str], refusal: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    inject = f"inject=epoll_ctl:error={refusal}:when={first}+"
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=epoll_ctl", "-e", inject]
    done = subprocess.run(
        [*command, sys.executable, str(program), loop],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    expected = [outcome.replace("28", str(getattr(errno, refusal))) for outcome in outcomes]
    assert done.stdout.splitlines() == expected, done.stderr
