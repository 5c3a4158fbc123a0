"""Every system call of a conversation fails once, in every way: one outcome each, never a hang.

The stream is in memory, so a wait for something that will never come is a Deadlock at once, and
the k-th call fails in each run, for every k until the conversation needs no more calls.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import binding
from ae_handle import Chunk, Handle, HandleError
from ae_handle.testing import MemoryStream, end_lingering, lingering

HARMLESS = ("EAGAIN", "EINTR", "one octet")
FATAL = ("ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH", "end")


class Faulty(MemoryStream):
    """A stream one of whose calls fails."""

    def __init__(self, fault: str, at: int) -> None:
        super().__init__(capacity=300)
        self.fault = fault
        self.at = at
        self.calls = 0

    def _fails(self) -> bool:
        self.calls += 1
        return self.calls == self.at

    def _raise(self) -> None:
        if self.fault in ("one octet", "end"):
            return
        number = getattr(errno, self.fault)
        if self.fault not in HARMLESS:
            self.peer.break_off(errno.ECONNRESET)
            self._broken = number
        raise OSError(number, self.fault)  # BlockingIOError and InterruptedError are made of it

    def recv(self, size: int) -> bytes:
        if self._fails():
            self._raise()
            if self.fault == "end":
                self._arrived.clear()
                self.end()
                return b""
            size = 1
        return super().recv(size)

    def send(self, data: bytes | memoryview) -> int:
        if self._fails():
            self._raise()
            if self.fault == "end":
                raise BrokenPipeError(errno.EPIPE, "end")
            data = data[:1]
        return super().send(data)


class Outcome:
    """What each side of a conversation was told in the end."""

    def __init__(self) -> None:
        self.ends: dict[str, list[str]] = {"client": [], "server": []}

    def options(self, side: str) -> dict[str, Any]:
        def ended(h: Handle, error: HandleError | None = None) -> None:
            self.ends[side].append("eof" if error is None else type(error).__name__)
            h.destroy()

        return {"on_error": ended, "on_eof": ended}


def conversation(client: Handle, server: Handle) -> ae.CondVar[str]:
    """Lines both ways, a body bigger than the pipe, a value."""
    done = ae.CondVar[str]()

    def command(h: Handle, line: bytes) -> None:
        if line == b"PUT":
            h.unshift_read(Chunk(1000), lambda h, body: h.push_write("json", {"size": len(body)}))
        else:
            h.push_write(line[::-1] + b"\n")

    def answered(h: Handle, line: bytes) -> None:
        h.push_write(b"PUT\n" + bytes(1000))
        h.push_read("json", last)

    def last(h: Handle, value: Any) -> None:
        done.send(f"{value}")

    server.read_each("line", command)
    client.push_write(b"abc\n")
    client.push_read("line", answered)
    return done


def run(kind: str, fault: str, at: int, certificates: Any) -> tuple[int, str, Outcome]:
    """Return how many calls there were, what was achieved, and who was told what."""
    ours, peer = Faulty(fault, at), MemoryStream(capacity=300)
    ours.peer, peer.peer = peer, ours
    outcome = Outcome()
    client_tls: dict[str, Any] = {}
    server_tls: dict[str, Any] = {}
    if kind != "plain":
        client_tls = {"tls": "connect", "tls_context": certificates.client()}
        client_tls["peer_name"] = "peer.test"
        server_tls = {"tls": "accept", "tls_context": certificates.server()}
    faulty_is_client = kind != "tls-server"
    streams = (ours, peer) if faulty_is_client else (peer, ours)
    client = Handle(streams[0], **outcome.options("client"), **client_tls)
    server = Handle(streams[1], **outcome.options("server"), **server_tls)
    done = conversation(client, server)
    try:
        result = done.recv()
    except ae.Deadlock:
        result = "nothing more happens"
    calls = ours.calls
    for h in (client, server):
        h.destroy()
    end_lingering()
    assert not lingering()
    return calls, result, outcome


@pytest.fixture
def loop(unbound: None) -> Iterator[None]:
    with binding("loop"):
        yield


@pytest.mark.parametrize("fault", HARMLESS + FATAL)
@pytest.mark.parametrize("kind", ["plain", "tls-client", "tls-server"])
def test_every_call_may_fail(
    loop: None, certificates: Any, monkeypatch: pytest.MonkeyPatch, kind: str, fault: str
) -> None:
    hooked: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: hooked.append(error))
    at = 0
    while True:
        at += 1
        calls, result, outcome = run(kind, fault, at, certificates)
        story = f"{kind}, {fault} in call {at} of {calls}: {result!r}, {outcome.ends}"
        assert hooked == [], story
        if at > calls:
            assert result == "{'size': 1000}", story
            break
        if fault in HARMLESS:
            assert result == "{'size': 1000}", story
            assert outcome.ends == {"client": [], "server": []}, story
        else:
            told = outcome.ends["client"] + outcome.ends["server"]
            assert result == "{'size': 1000}" or told, story
            assert len(outcome.ends["client"]) <= 1, story
            assert len(outcome.ends["server"]) <= 1, story
    assert at >= 8


@pytest.mark.parametrize("fault", FATAL)
def test_a_stream_that_breaks_while_it_lingers_is_closed(
    loop: None, certificates: Any, fault: str, turns: Callable[..., None]
) -> None:
    for at in range(1, 12):
        for tls in (False, True):
            ours, peer = Faulty(fault, at), MemoryStream(capacity=300)
            ours.peer, peer.peer = peer, ours
            options: dict[str, Any] = {}
            if tls:
                options = {"tls": "accept", "tls_context": certificates.server()}
            h = Handle(ours, **options)
            h.push_write(bytes(1000))
            h.destroy()
            if tls:
                other = Handle(
                    peer,
                    tls="connect",
                    tls_context=certificates.client(),
                    peer_name="peer.test",
                    on_error=lambda h, error: h.destroy(),
                    on_eof=lambda h: h.destroy(),
                    on_read=lambda h: h.read_buffer.clear(),
                )
            else:
                other = Handle(
                    peer,
                    on_error=lambda h, error: h.destroy(),
                    on_eof=lambda h: h.destroy(),
                    on_read=lambda h: h.read_buffer.clear(),
                )
            turns(40)
            other.destroy()
            turns(10)
            assert ours.closed, f"{fault} in call {at}"
            end_lingering()
