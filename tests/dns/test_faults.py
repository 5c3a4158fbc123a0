"""Every system call that a lookup makes fails once, in every way: one outcome, nothing left."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ae_core as ae
import ae_dns
import ae_socket
from ae_dns import _transport
from ae_dns.testing import TRUNCATE, NameServer

RECV = 20
CODES = (
    *(errno.EINTR, errno.EAGAIN, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE),
    *(errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EADDRINUSE, errno.EPERM),
)


class Faults:
    """Counts the calls and lets one of them fail."""

    def __init__(self, fail: int, code: int) -> None:
        self.calls = 0
        self.fail = fail
        self.code = code

    def check(self) -> None:
        self.calls += 1
        if self.calls == self.fail:
            raise OSError(self.code, "injected")


def faulty(faults: Faults) -> type[socket.socket]:
    class Socket(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            if "fileno" not in options:
                faults.check()
            super().__init__(*arguments, **options)

        def bind(self, *arguments: Any) -> None:
            faults.check()
            super().bind(*arguments)

        def connect(self, *arguments: Any) -> None:
            faults.check()
            super().connect(*arguments)

        def send(self, *arguments: Any) -> int:
            faults.check()
            return super().send(*arguments)

        def recv(self, *arguments: Any) -> bytes:
            faults.check()
            return super().recv(*arguments)

    return Socket


def inject(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    cls = faulty(faults)

    module = SimpleNamespace(socket=cls, SOCK_DGRAM=socket.SOCK_DGRAM)

    def connect(host: str, port: int) -> ae.CondVar[socket.socket]:
        found: ae.CondVar[socket.socket] = ae.CondVar()

        def ready(connected: ae.CondVar[socket.socket]) -> None:
            if connected.cancelled:
                return
            try:
                faults.check()
            except OSError as error:
                connected.recv().close()
                found.throw(error)
            else:
                found.send(cls(fileno=connected.recv().detach()))

        connecting = real(host, port)
        connecting.on_ready(ready)
        found.on_ready(lambda _: connecting.cancel())
        return found

    real: Callable[[str, int], ae.CondVar[socket.socket]] = ae_socket.tcp_connect
    monkeypatch.setattr(_transport, "socket", module)
    monkeypatch.setattr(_transport, "tcp_connect", connect)


def scenario(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Look two names up, one of them over TCP in the end."""
    with monkeypatch.context() as patch, NameServer("www.x.test. A 192.0.2.1") as server:
        inject(patch, faults)
        server.script("www.x.test", "A", TRUNCATE)
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=(0.1, 5, 5))
        outcomes = []
        for name in ("www.x.test", "nothing.x.test"):
            found = resolver.resolve(name, "A")
            assert not found.ready
            try:
                outcomes.append(found.recv(RECV)[0].to_text())
            except ae_dns.ResolveError as error:
                outcomes.append(type(error).__name__)
        assert resolver.statistics()["outstanding"] == 0
        return outcomes


def test_every_call_may_fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Faults(0, 0)
    assert scenario(counting, monkeypatch) == ["192.0.2.1", "NoSuchName"]
    assert counting.calls >= 12
    for code in CODES:
        for k in range(1, counting.calls + 1):
            outcomes = scenario(Faults(k, code), monkeypatch)
            # There are three tries, and only one call fails: the answer is found anyhow.
            assert outcomes == ["192.0.2.1", "NoSuchName"], (errno.errorcode[code], k)


def test_without_any_socket_every_lookup_fails_and_none_hangs(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Always(Faults):
        def check(self) -> None:
            raise OSError(errno.EMFILE, "injected")

    resolver = ae_dns.Resolver(servers=[server.endpoint])
    with monkeypatch.context() as patch:
        inject(patch, Always(0, 0))
        events: list[str] = []
        resolver.trace(lambda what, *_: events.append(what))
        found = [resolver.a(f"n{i}.test") for i in range(30)]
        assert not any(each.ready for each in found)
        for each in found:
            with pytest.raises(ae_dns.ServerFailed, match="injected"):
                each.recv(RECV)
        assert events == ["failed"] * 90
    assert resolver.a("www.demo.test").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
