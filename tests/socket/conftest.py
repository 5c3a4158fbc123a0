"""A scripted network on virtual time: sockets that connect when, and if, the test says so."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing._virtual import VirtualBackend, virtual_time
from ae_socket import _connect, _windows

Address = tuple[Any, ...]

NEEDS = {
    "linux": (
        sys.platform == "linux",
        "needs Linux: /proc, abstract names, ICMP errors or a backlog that swallows what comes",
    ),
    "environment": (
        not sys.flags.ignore_environment,
        "needs a Python that heeds its environment (an embedded one does not)",
    ),
    "unix_sockets": (hasattr(socket, "AF_UNIX"), "needs UNIX sockets"),
}


def pytest_configure(config: pytest.Config) -> None:
    for name, (_, reason) in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: {reason}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, (is_there, reason) in NEEDS.items():
        if item.get_closest_marker(name) is not None and not is_there:
            pytest.skip(reason)


class Codes:
    """The numbers a system's sockets answer with."""

    def __init__(self, *, windows: bool) -> None:
        self.started = 10035 if windows else errno.EINPROGRESS
        self.refused = 10061 if windows else errno.ECONNREFUSED
        self.not_connected = 10057 if windows else errno.ENOTCONN
        self.would_block = 10035 if windows else errno.EAGAIN


class Network:
    """Knows what becomes of a connect to each address.

    ``script["10.0.0.1"] = "ok 0.1"`` connects after 0.1 s, ``"refused 0"`` fails, ``"silent"``
    never answers, ``"code 5"`` makes ``connect_ex`` itself return 5. ``story`` records what
    happened when, in virtual seconds.
    """

    def __init__(self, clock: VirtualBackend, *, windows: bool) -> None:
        self.clock = clock
        self.codes = Codes(windows=windows)
        self.windows = windows
        self.script: dict[str, str] = {}
        self.story: list[str] = []
        self.open: set[ScriptedSocket] = set()
        self.module: SocketModule

    def tell(self, event: str, address: Address) -> None:
        self.story.append(f"{self.clock.elapsed:.3f} {event} {address[0]}")

    def socket(self, family: int, kind: int = 0, protocol: int = 0) -> ScriptedSocket:
        return ScriptedSocket(self, family)

    def select(
        self, readers: list[Any], writers: list[Any], failing: list[Any], timeout: float
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Behave like Winsock's select(): 512 at most, not nothing, failures in the third set."""
        if not (readers or writers or failing):
            raise OSError(10022, "three empty sets")
        if max(map(len, (readers, writers, failing))) > 512:
            raise ValueError("too many file descriptors in select()")
        assert timeout == 0
        return [], [], [one for one in failing if one.error]


class ScriptedSocket:
    """As much of a socket as ``tcp_connect`` uses."""

    def __init__(self, network: Network, family: int) -> None:
        self.network = network
        self.family = family
        self.address: Address = ()
        self.connected = False
        self.error = 0
        self.timer: ae.Watcher | None = None
        self.descriptor = network.clock.descriptor()
        network.open.add(self)

    def fileno(self) -> int:
        return self.descriptor.fileno()

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def connect_ex(self, address: Address) -> int:
        network = self.network
        self.address = address
        network.tell("start", address)
        what, _, number = network.script[address[0]].partition(" ")
        if what == "code":
            return int(number)
        outcome: dict[str, Callable[[], None]] = {"ok": self.succeed, "refused": self.fail}
        if what in outcome:
            self.timer = ae.timer(float(number), outcome[what])
        return network.codes.started

    def succeed(self) -> None:
        self.network.tell("ok", self.address)
        self.connected = self.descriptor.writable = True

    def fail(self) -> None:
        self.network.tell("refused", self.address)
        self.error = self.network.codes.refused
        # Winsock's loops see nothing of it; everywhere else a failure makes writable.
        self.descriptor.writable = not self.network.windows

    def getpeername(self) -> Address:
        if not self.connected:
            raise OSError(self.network.codes.not_connected, "not connected")
        return self.address

    def getsockname(self) -> Address:
        return ("10.9.9.9", 1, *self.address[2:])

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.error

    def recv(self, size: int) -> bytes:
        raise BlockingIOError(self.network.codes.would_block, "would block")

    def close(self) -> None:
        if self.descriptor.fileno() != -1:
            self.network.tell("close", self.address or ("unused",))
            self.descriptor.close()
            self.timer = None
            self.network.open.discard(self)


class SocketModule:
    """The socket module with another ``socket``."""

    def __init__(self, network: Network) -> None:
        self.socket = network.socket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)


def scripted(monkeypatch: pytest.MonkeyPatch, *, windows: bool) -> Iterator[Network]:
    with virtual_time() as clock:
        network = Network(clock, windows=windows)
        network.module = SocketModule(network)
        monkeypatch.setattr(_connect, "socket", network.module)
        monkeypatch.setattr(_windows, "ACTIVE", windows)
        if windows:
            monkeypatch.setattr(_windows, "_select", network)
        yield network
        assert not network.open, "sockets left open"


@pytest.fixture
def network(unbound: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    yield from scripted(monkeypatch, windows=_windows.ACTIVE)


@pytest.fixture
def networks(unbound: None) -> Callable[[], Any]:
    """Return a function that makes networks: for tests that need many."""

    @contextmanager
    def network() -> Iterator[Network]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            yield from scripted(monkeypatch, windows=_windows.ACTIVE)

    return network


@pytest.fixture
def windows(unbound: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """The same with everything that Windows does differently."""
    monkeypatch.setattr(_windows, "AF_UNIX", -1)
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    yield from scripted(monkeypatch, windows=True)


class Accepted:
    """An on_accept that keeps its arguments and can be waited for."""

    def __init__(self) -> None:
        self.calls: list[tuple[socket.socket, str, int | str]] = []
        self.more: ae.CondVar[None] = ae.CondVar()

    def __call__(self, sock: socket.socket, host: str, port: int | str) -> None:
        self.calls.append((sock, host, port))
        self.more.send()

    def wait(self, count: int) -> None:
        while len(self.calls) < count:
            self.more = ae.CondVar()
            self.more.recv(timeout=30)

    def close(self) -> None:
        for sock, _, _ in self.calls:
            sock.close()


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    accepted = Accepted()
    yield accepted
    accepted.close()
