"""A peer that resets, or closes its half, in each phase: one outcome, told once, and nothing left.

The peer is a plain socket in the same thread; TLS it speaks by the standard library, flight by
flight. Each case is a role, a transport, a phase, one of the two ends, and a way of using the
handle (``KINDS``); a test goes through all ways with ``--scale`` of 2 or more, else through two.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

import ae_core as ae
from ae_handle import Handle, HandleError
from ae_handle.testing import end_lingering
from ae_socket import tcp_server

HOST = "peer.test"
PATIENCE = 30.0
#: More than the system's buffers take, which are made small.
MUCH = b"x" * 1_000_000
SMALL = 16_384

TRANSPORTS = ("plain", "ssl-1.2", "ssl-1.3", "ae_tls-1.2", "ae_tls-1.3")
#: Who uses the handle, and how: by callbacks, by awaiting, or by writing only.
KINDS = ("callback", "await", "each", "read_each", "on_read", "drained")
#: What has happened when the peer ends. "half flight": within the peer's first flight of the
#: handshake; "flight": right after it; then the handshake is done and ...
PHASES = {
    "idle": "nothing has been said",
    "half a line": "it has not said all",
    "a line": "it has said a whole line and no more",
    "unsent": "it has not read what it was sent",
    "shut down": "we have ended our half",
}
FLIGHTS = {"silent": 0.0, "half a flight": 0.5, "a flight": 1.0}
#: A peer of TLS 1.2 has a second one before anybody is sure.
SECOND = {"half a second flight": 1.5}


class Peer:
    """The other side: a socket, and TLS by hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None, server: bool) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.arrived, self.leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None
        if context is not None:
            name = None if server else HOST
            self.tls = context.wrap_bio(self.arrived, self.leaving, server, name)
        self.established = self.tls is None
        self.flights = 0.0

    def receive(self) -> None:
        """Take what has come."""
        try:
            while data := self.sock.recv(1 << 16):
                self.arrived.write(data)
        except BlockingIOError:
            pass

    def shake_hands(self, flights: float) -> None:
        """Do what can be done for the handshake, but say no more than so many flights."""
        assert self.tls is not None
        self.receive()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            self.established = True
        if data := self.leaving.read():
            part = min(1.0, flights - self.flights)
            self.flights += part
            self.sock.sendall(data[: int(len(data) * part)])

    def say(self, data: bytes) -> None:
        if self.tls is not None:
            self.tls.write(data)
            data = self.leaving.read()
        self.sock.sendall(data)

    def end(self, how: str) -> None:
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        else:
            self.sock.shutdown(socket.SHUT_WR)


def turns(count: int = 5) -> None:
    for _ in range(count):
        ae.sleep(0).recv()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        ae.sleep(0.001).recv()


def small(h: Handle) -> None:
    h.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)


class Certificates:
    def __init__(self, place: Path) -> None:
        from ae_tls.testing import CertificateAuthority

        ca = CertificateAuthority("test CA")
        leaf = ca.issue(HOST)
        self.ca_pem, self.both = ca.pem, place / "both.pem"
        self.both.write_text(leaf.cert_pem + leaf.key_pem)

    def ssl(self, server: bool, version: str = "1.3") -> ssl.SSLContext:
        if server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.both)
        else:
            context = ssl.create_default_context(cadata=self.ca_pem)
        if version == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def ours(self, server: bool) -> Any:
        from ae_tls import Context

        if server:
            return Context(cert_file=self.both)
        return Context(ca_cert=self.ca_pem)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pytest.importorskip("ae_tls", reason="certificates are made by ae_tls.testing")
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Case:
    """One handle of ours, its peer, and all that was told of the handle."""

    def __init__(
        self, role: str, transport: str, certificates: Certificates, **options: Any
    ) -> None:
        engine, _, version = transport.partition("-")
        theirs = None
        if engine != "plain":
            accepting = role == "accept"
            make = certificates.ssl if engine == "ssl" else certificates.ours
            theirs = certificates.ssl(not accepting, version)
            options.update(tls=role, tls_context=make(accepting))
        self.story: list[Any] = []
        self.awaited: list[Any] = []
        self.task: ae.CondVar[None] | None = None
        options = {
            "on_error": lambda h, error: self.story.append(error),
            "on_eof": lambda h: self.story.append("eof"),
            "linger": 0,
            **options,
        }
        if role == "accept":
            accepted: list[socket.socket] = []
            with tcp_server("127.0.0.1", 0, lambda sock, *_: accepted.append(sock)) as server:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
                sock.connect(server.address[:2])
                until(lambda: accepted)
            accepted[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            self.handle = Handle(accepted[0], **options)
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
                self.handle = Handle(
                    connect=listener.getsockname(), peer_name=HOST, on_prepare=small, **options
                )
                until(lambda: self.handle.statistics().state != "connecting")
                sock, _ = listener.accept()
        self.peer = Peer(sock, theirs, role == "connect")

    def use(self, kind: str) -> None:
        """Begin to use the handle in one of the ways."""
        h, story = self.handle, self.story

        def awaited(work: Any) -> None:
            async def body() -> None:
                try:
                    self.awaited.append(await work())
                except HandleError as error:
                    self.awaited.append(error)

            self.task = ae.spawn(body())

        async def lines() -> str:
            async for line in h.each("line"):
                story.append(line)
            return "eof"

        if kind == "callback":
            h.push_read("line", lambda h, line: story.append(line))
            h.push_read("line", lambda h, line: story.append(line))
        elif kind == "await":

            async def two() -> bytes:
                story.append(await h.push_read("line"))
                return await h.push_read("line")

            awaited(two)
        elif kind == "each":
            awaited(lines)
        elif kind == "read_each":
            h.read_each("line", lambda h, line: story.append(line))
        elif kind == "on_read":
            h.on_read = lambda h: h.read_buffer.clear()
        else:

            async def write() -> str:
                h.push_write(MUCH)
                await h.drained()
                return "sent"

            awaited(write)

    def shake_hands(self, flights: float = 9.0) -> None:
        """Let the peer say so many flights of the handshake; without a number, all."""
        peer = self.peer

        def far_enough() -> bool:
            if peer.flights < flights and not peer.established:
                peer.shake_hands(flights)
            ours = self.handle.tls
            done = peer.established and ours is not None and ours.state == "established"
            return done or peer.flights >= flights

        if peer.tls is not None:
            until(far_enough)
        turns()

    def reach(self, phase: str) -> None:
        """Let the two of them get so far in their conversation."""
        if phase == "half a line":
            self.peer.say(b"half")
        elif phase == "a line":
            self.peer.say(b"line\n")
        elif phase == "unsent":
            self.handle.push_write(MUCH)
        elif phase == "shut down":
            self.handle.push_shutdown()
        turns()

    def outcomes(self) -> list[str]:
        """What callbacks were told, but for lines, and what was raised or returned, as words."""
        words = []
        for story in (self.story, self.awaited):
            for event in story:
                if isinstance(event, HandleError):
                    reset = event.errno in (errno.ECONNRESET, errno.EPIPE)
                    is_reset = type(event).__name__ == "TransportError" and reset
                    reason = getattr(event, "reason", None)
                    words.append("reset" if is_reset else reason or type(event).__name__)
                elif isinstance(event, str):
                    words.append(event)
        return words

    def outcomes_while_the_peer_reads(self) -> list[str]:
        self.peer.receive()
        return self.outcomes()

    def close(self) -> None:
        self.handle.destroy()
        self.peer.sock.close()
        turns(2)


def expected(transport: str, phase: str, end: str, kind: str) -> list[str]:
    """What is told: an error to ``on_error`` and to who awaits, once each; an end likewise."""
    awaits = kind in ("await", "each", "drained")
    if phase in {**FLIGHTS, **SECOND}:
        return ["truncated"] * (1 + awaits)
    if end == "reset":
        return ["reset"] * (1 + awaits)
    if transport == "plain":
        if kind == "drained":
            return ["sent"]
        if kind == "on_read" or (kind in ("each", "read_each") and phase != "half a line"):
            return ["eof"] * (1 + awaits)
    return ["UnexpectedEOF"] * (1 + awaits)


def cases() -> Iterator[Any]:
    for transport in TRANSPORTS:
        for role in ("connect", "accept"):
            phases = list(PHASES)
            if transport != "plain":
                phases += FLIGHTS
            if transport.endswith("1.2"):
                phases += SECOND
            elif role == "connect" and transport != "plain":
                phases.remove("a flight")  # which is all that TLS 1.3 needs
            for phase in phases:
                for end in ("reset", "half-close"):
                    name = f"{transport}-{role}-{phase}-{end}".replace(" ", "_")
                    yield pytest.param(transport, role, phase, end, id=name)


@pytest.mark.parametrize(("transport", "role", "phase", "end"), [*cases()])
def test_an_end_in_mid_conversation_is_told_once_whoever_waits(
    transport: str,
    role: str,
    phase: str,
    end: str,
    certificates: Certificates,
    scale: int,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    tried = 0
    first = crc32(request.node.name.encode())
    kinds = KINDS if scale > 1 else (KINDS[first % 6], KINDS[(first + 1 + first // 6 % 5) % 6])
    for kind in kinds:
        if kind == "drained" and phase in ("shut down", "unsent"):
            continue  # is the same as another, or nothing may be written any more
        case = Case(role, transport, certificates)
        try:
            if phase in PHASES:
                case.shake_hands()
                case.use(kind)
                case.reach(phase)
            else:
                case.use(kind)
                case.shake_hands({**FLIGHTS, **SECOND}[phase])
            case.peer.end(end)
            if kind == "drained" and end == "half-close" and transport == "plain":
                until(case.outcomes_while_the_peer_reads)
            until(case.outcomes)
            turns()
            assert case.outcomes() == expected(transport, phase, end, kind), (kind, case.story)
            tried += 1
        finally:
            case.close()
    end_lingering()
    record_property("cases", tried)
