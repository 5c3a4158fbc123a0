"""TLS on live handles, the same tests over three engines behind the seam.

``openssl`` is ours, ``ssl`` the standard library's, ``xor`` a toy without certificates that
shows that the seam does not depend on TLS.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Chunk, Handle, HandleError, TlsAutostart, TlsError, UnexpectedEOF
from ae_tls import Context
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
PATIENCE = 20.0


class XorSession:
    """The toy: one octet each way is the key; FF 00 is close_notify, FF FF stands for FF."""

    peer_certificate = None

    def __init__(self, key: int) -> None:
        self.key = key
        self.peer_key: int | None = None
        self.state: Any = "handshake"
        self.unused_data = b""
        self.out = bytes([key])
        self.waiting = b""
        self.plain = b""
        self.escaped = False
        self.sent_close = self.peer_closed = False

    def feed(self, data: bytes) -> None:
        if not data and not self.peer_closed:
            self.state = "closed"
            raise TlsError("cut off", reason="truncated")
        for at, octet in enumerate(data):
            if self.peer_closed:
                self.unused_data += data[at:]
                return
            if self.peer_key is None:
                self.peer_key = octet
                self.state = "established"
                self.out += self._encode(self.waiting)
            elif self.escaped:
                self.escaped = False
                if octet == 0:
                    self.peer_closed = True
                    self.state = "closed" if self.sent_close else "closing"
                elif octet == 0xFF:
                    self.plain += bytes([0xFF ^ self.peer_key])
                else:
                    self.state = "closed"
                    raise TlsError("not XOR", reason="protocol")
            elif octet == 0xFF:
                self.escaped = True
            else:
                self.plain += bytes([octet ^ self.peer_key])

    def _encode(self, data: bytes) -> bytes:
        return bytes(octet ^ self.key for octet in data).replace(b"\xff", b"\xff\xff")

    def read(self) -> bytes:
        data, self.plain = self.plain, b""
        return data

    def write(self, data: bytes) -> None:
        if self.sent_close:
            raise TlsError("shut down", reason="closed")
        if self.state == "handshake":
            self.waiting += data
        else:
            self.out += self._encode(data)

    def drain(self) -> bytes:
        data, self.out = self.out, b""
        return data

    def shutdown(self) -> None:
        if not self.sent_close:
            self.sent_close = True
            self.out += b"\xff\x00"
            self.state = "closed" if self.peer_closed else "closing"


class XorContext:
    def new_session(self, role: str, peer_name: str | None) -> XorSession:
        return XorSession(0x5A if role == "connect" else 0xA5)


class Engine:
    """One engine, ready for use on both sides."""

    def __init__(self, name: str, client: Any, server: Any) -> None:
        self.name = name
        self.client = client
        self.server = server


@pytest.fixture(params=["openssl-1.3", "openssl-1.2", "ssl", "xor"])
def engine(
    request: pytest.FixtureRequest, ca: CertificateAuthority, leaf: Leaf, tmp_path: Path
) -> Engine:
    name = request.param
    if name.startswith("openssl"):
        version = name.rpartition("-")[2]
        server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
        return Engine(name, Context(ca_cert=ca.cert), server)
    if name == "ssl":
        (tmp_path / "both.pem").write_text(leaf.cert_pem + leaf.key_pem)
        accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accept.load_cert_chain(tmp_path / "both.pem")
        return Engine(name, ssl.create_default_context(cadata=ca.pem), accept)
    return Engine(name, XorContext(), XorContext())


class Side:
    """One handle, and everything that happened to it, in order."""

    def __init__(self, stream: Any, context: Any, peer_name: str | None, **options: Any) -> None:
        self.story: list[Any] = []
        self.happened: ae.CondVar[None] = ae.CondVar()
        options.setdefault("on_error", self.error)
        options.setdefault("on_eof", lambda handle: self.note("eof"))
        options.setdefault("on_tls_started", self.started)
        self.handle = Handle(stream, tls_context=context, peer_name=peer_name, linger=0, **options)

    def note(self, what: Any) -> None:
        self.story.append(what)
        happened, self.happened = self.happened, ae.CondVar()
        happened.send()

    def error(self, handle: Handle, error: HandleError) -> None:
        self.note(type(error).__name__ + (" fatal" if error.fatal else ""))

    def started(self, handle: Handle, error: BaseException | None) -> None:
        self.note("started" if error is None else f"not started: {getattr(error, 'reason', error)}")

    def all_there_is(self, handle: Handle) -> None:
        self.note(handle.read_buffer.take(len(handle.read_buffer)))

    def line(self, handle: Handle, line: bytes) -> None:
        self.note(line)

    def until(self, what: Any) -> None:
        """Let the loop run until *what* has happened."""
        while what not in self.story:
            self.happened.recv(timeout=PATIENCE)


Pair = tuple[Side, Side]


def turns(count: int) -> None:
    """Let the loop go round, with everything that is ready."""
    for _ in range(count):
        turn: ae.CondVar[None] = ae.CondVar()
        timer = ae.timer(0.001, turn.send)
        turn.recv(timeout=PATIENCE)
        timer.cancel()


@pytest.fixture
def pair(engine: Engine) -> Iterator[Callable[..., Pair]]:
    """Two handles, a client's and a server's, joined by a socket pair."""
    sides: list[Side] = []

    def make(*, tls: bool = True, client: dict[str, Any] | None = None, **server: Any) -> Pair:
        a, b = socket.socketpair()
        sides.append(Side(a, engine.client, HOST, **(client or {})))
        sides.append(Side(b, engine.server, None, **server))
        if tls:
            sides[-2].handle.start_tls("connect")
            sides[-1].handle.start_tls("accept")
        return sides[-2], sides[-1]

    yield make
    for side in sides:
        side.handle.destroy()


# The toy takes any octet for a key, so it neither detects clear text nor refuses it.
OF_TLS = pytest.mark.parametrize("engine", ["openssl-1.3", "openssl-1.2", "ssl"], indirect=True)


def test_both_sides_are_told_and_lines_pass(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    a.handle.push_write(b"hello\n")
    assert b.handle.push_read("line").recv(timeout=PATIENCE) == b"hello"
    b.handle.push_write(b"goodbye\n")
    assert a.handle.push_read("line").recv(timeout=PATIENCE) == b"goodbye"
    a.until("started")
    b.until("started")
    assert (a.story, b.story) == (["started"], ["started"])


def test_started_comes_before_any_data(pair: Callable[..., Pair]) -> None:
    """Upstream delivers the first flight's data before on_starttls in some cases (HANDLE-105)."""
    a, b = pair()
    for side in (a, b):
        side.handle.push_write(b"first\n")
        side.handle.push_read("line", side.line)
    a.until(b"first")
    b.until(b"first")
    assert a.story == b.story == ["started", b"first"]


def test_tls_as_an_option_of_the_handle(engine: Engine) -> None:
    a, b = socket.socketpair()
    client = Handle(a, tls="connect", tls_context=engine.client, peer_name=HOST, linger=0)
    server = Handle(b, tls="accept", tls_context=engine.server, linger=0)
    client.push_write("json", {"a": [1, 2]})
    assert server.push_read("json").recv(timeout=PATIENCE) == {"a": [1, 2]}
    if engine.name != "xor":
        assert client.tls is not None
        assert client.tls.peer_certificate is not None
    client.destroy()
    server.destroy()


def test_upgrade_in_the_middle_of_a_stream(pair: Callable[..., Pair]) -> None:
    a, b = pair(tls=False)

    def command(handle: Handle, line: bytes) -> None:
        b.note(line)
        handle.push_write(b"go ahead\n")
        handle.start_tls("accept")
        handle.push_read("line", b.line)

    def answer(handle: Handle, line: bytes) -> None:
        a.note(line)
        handle.start_tls("connect")
        handle.push_write(b"secret\n")

    b.handle.push_read("line", command)
    a.handle.push_read("line", answer)
    a.handle.push_write(b"STARTTLS\n")
    b.until(b"secret")
    assert a.story == [b"go ahead", "started"]
    assert b.story == [b"STARTTLS", "started", b"secret"]


@OF_TLS
def test_injected_clear_text_is_never_data(pair: Callable[..., Pair]) -> None:
    """The attack on STARTTLS: a command in clear behind the one that starts TLS."""
    a, b = pair(tls=False)

    def command(handle: Handle, line: bytes) -> None:
        b.note(line)
        handle.push_write(b"go ahead\n")
        handle.start_tls("accept")
        handle.push_read("line", b.line)

    b.handle.push_read("line", command)
    a.handle.push_write(b"STARTTLS\nDELETE everything\n")
    b.until("not started: protocol")
    assert b.story == [b"STARTTLS", "not started: protocol"]
    assert not b.handle.is_destroyed


@OF_TLS
def test_injection_is_refused_at_every_cut(engine: Engine, tally: Counter[str]) -> None:
    wire = b"STARTTLS\nDELETE everything, and then some more of it\n"
    for cut in range(9, len(wire)):
        a, b = socket.socketpair()
        side = Side(b, engine.server, None)

        def command(handle: Handle, line: bytes, side: Side = side) -> None:
            handle.start_tls("accept")
            handle.push_read("line", side.line)

        side.handle.push_read("line", command)
        with a:
            a.sendall(wire[:cut])
            turns(1)
            a.sendall(wire[cut:])
            side.until("not started: protocol")
        assert side.story == ["not started: protocol"]
        side.handle.destroy()
        tally["injected clear text"] += 1


def test_tls_stops_on_both_sides_and_clear_text_goes_on(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    a.handle.on_tls_stopped = lambda handle: a.note("stopped")
    b.handle.on_tls_stopped = lambda handle: b.note("stopped")
    a.handle.push_write(b"secret\n")
    b.handle.push_read("line", b.line)
    b.until(b"secret")
    a.handle.stop_tls()
    a.handle.push_write(b"in clear\n")
    b.handle.push_read("line", b.line)
    b.until(b"in clear")
    b.handle.push_write(b"clear too\n")
    a.handle.push_read("line", a.line)
    a.until(b"clear too")
    assert a.story == ["started", "stopped", b"clear too"]
    assert b.story == ["started", b"secret", "stopped", b"in clear"]
    assert a.handle.tls is None
    assert b.handle.tls is None


def test_tls_can_be_stopped_and_started_again(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    a.handle.on_tls_stopped = lambda handle: a.note("stopped")
    b.handle.on_tls_stopped = lambda handle: b.note("stopped")
    for number in range(3):
        line = b"round %d" % number
        a.handle.push_write(line + b"\n")
        b.handle.push_read("line", b.line)
        b.until(line)
        a.handle.stop_tls()
        a.until("stopped")
        assert b.story[-1] == "stopped"
        a.story.clear()
        b.story.clear()
        a.handle.start_tls("connect")
        b.handle.start_tls("accept")


def test_a_close_notify_is_the_end_where_nobody_waits_for_it(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    a.handle.push_write(b"last\n")
    b.handle.push_read("line", b.line)
    a.handle.stop_tls()
    b.until("eof")
    assert b.story == ["started", b"last", "eof"]


def test_data_and_close_in_one_flight(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    b.handle.on_read = b.all_there_is
    a.until("started")
    b.until("started")
    a.handle.push_write(b"all of it")
    a.handle.stop_tls()
    b.until("eof")
    assert b.story == ["started", b"all of it", "eof"]


def cut_off(handle: Handle, *, reset: bool = False) -> None:
    """Let the peer of *handle* see the TCP connection end without a word of TLS."""
    sock = handle.socket
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handle.destroy()
        sock.close()
    else:
        sock.shutdown(socket.SHUT_WR)


def test_truncation_is_reported(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    a.until("started")
    b.until("started")
    b.handle.on_read = lambda handle: None
    cut_off(a.handle)
    b.until("UnexpectedEOF fatal")
    assert b.story == ["started", "UnexpectedEOF fatal"]


def test_truncation_may_be_allowed(pair: Callable[..., Pair]) -> None:
    a, b = pair(allow_truncated=True)
    a.until("started")
    b.until("started")
    b.handle.on_read = lambda handle: None
    cut_off(a.handle)
    b.until("eof")
    assert b.story == ["started", "eof"]


def test_an_awaited_read_sees_the_truncation(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    line = b.handle.push_read("line")
    a.handle.push_write(b"half a li")
    a.until("started")
    b.until("started")
    cut_off(a.handle)
    with pytest.raises(UnexpectedEOF):
        line.recv(timeout=PATIENCE)


def test_end_of_stream_in_the_handshake_is_told_to_on_tls_started(engine: Engine) -> None:
    a, b = socket.socketpair()
    side = Side(b, engine.server, None)
    side.handle.start_tls("accept")
    line = side.handle.push_read("line")
    a.shutdown(socket.SHUT_WR)
    with pytest.raises(HandleError):
        line.recv(timeout=PATIENCE)
    side.until("not started: truncated")
    assert side.story == ["not started: truncated"]
    side.handle.destroy()
    a.close()


def test_large_data_passes_both_ways_at_once(pair: Callable[..., Pair], engine: Engine) -> None:
    size = 100_000 if engine.name == "xor" else 3_000_000
    a, b = pair(client={"max_read_buffer": None}, max_read_buffer=None)
    data = bytes(range(251)) * (size // 251)
    reads = [side.handle.push_read(Chunk(len(data))) for side in (a, b)]
    for side in (a, b):
        for at in range(0, len(data), 100_000):
            side.handle.push_write(data[at : at + 100_000])
    for read in reads:
        assert read.recv(timeout=PATIENCE) == data


def test_many_small_lines_pass(pair: Callable[..., Pair]) -> None:
    a, b = pair()
    got: list[bytes] = []
    b.handle.read_each("line", lambda handle, line: handle.push_write(line + b"\n"))

    def answer(handle: Handle, line: bytes) -> None:
        got.append(line)
        if len(got) == 5000:
            a.note("done")

    a.handle.read_each("line", answer)
    for number in range(5000):
        a.handle.push_write(b"%d\n" % number)
    a.until("done")
    assert got == [b"%d" % number for number in range(5000)]


def test_tls_inside_tls(engine: Engine, ca: CertificateAuthority, leaf: Leaf) -> None:
    """As through an HTTPS proxy: the inner connection is with somebody else."""
    a, b = socket.socketpair()
    outer_client = Side(a, engine.client, HOST)
    outer_server = Side(b, engine.server, None)
    outer_client.handle.start_tls("connect")
    outer_server.handle.start_tls("accept")
    outer_client.until("started")
    outer_server.until("started")
    inner = ca.issue("inner.example")
    client = Side(outer_client.handle, Context(ca_cert=ca.cert), "inner.example")
    server = Side(outer_server.handle, Context(cert=inner.chain, key=inner.key), None)
    client.handle.start_tls("connect")
    server.handle.start_tls("accept")
    client.handle.push_write(b"through two layers\n")
    line = server.handle.push_read("line").recv(timeout=PATIENCE)
    assert line == b"through two layers"
    client.until("started")
    assert client.handle.tls is not None
    assert client.handle.tls.peer_certificate is not None
    for side in (client, server, outer_client, outer_server):
        side.handle.destroy()


@OF_TLS
def test_autostart_tells_tls_from_clear_text(engine: Engine) -> None:
    for secure in (False, True):
        a, b = socket.socketpair()
        client = Side(a, engine.client, HOST)
        server = Side(b, engine.server, None)
        server.handle.push_read(TlsAutostart("accept"), lambda handle, version: None)
        server.handle.push_read("line", server.line)
        if secure:
            client.handle.start_tls("connect")
        client.handle.push_write(b"hello\n")
        server.until(b"hello")
        assert (server.handle.tls is not None) is secure
        client.handle.destroy()
        server.handle.destroy()


def test_starting_twice_and_a_wrong_mode_are_errors(pair: Callable[..., Pair]) -> None:
    a, _ = pair()
    with pytest.raises(ValueError, match="active already"):
        a.handle.start_tls("connect")
    wrong: Any = "server"
    b, _ = pair(tls=False)
    with pytest.raises(ValueError, match="'server'"):
        b.handle.start_tls(wrong)


def test_destroy_says_goodbye(engine: Engine) -> None:
    """Upstream's destroy sends no close_notify (HANDLE-113); ours does."""
    a, b = socket.socketpair()
    client = Handle(a, tls="connect", tls_context=engine.client, peer_name=HOST)
    server = Side(b, engine.server, None)
    server.handle.start_tls("accept")
    client.push_write(b"last words\n")
    client.destroy()
    server.handle.push_read("line", server.line)
    server.until("eof")
    assert server.story == ["started", b"last words", "eof"]
    server.handle.destroy()
    while a.fileno() != -1:  # the client lingers until it has seen our end
        turns(1)


def test_reset_at_every_step_of_the_handshake_is_one_failure(
    engine: Engine, tally: Counter[str]
) -> None:
    """RST before the first flight, and after each of ours and theirs."""
    for flights in range(4):
        for victim in ("connect", "accept"):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                near = socket.create_connection(listener.getsockname())
                far, _ = listener.accept()
            role: Any = victim
            context = engine.client if victim == "connect" else engine.server
            side = Side(near, context, HOST)
            side.handle.start_tls(role)
            peer_context = engine.server if victim == "connect" else engine.client
            peer = Side(far, peer_context, HOST)
            if flights:
                relay_steps(peer, side, victim, flights)
            far_sock = peer.handle.socket
            far_sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.handle.destroy()
            side.handle.on_read = lambda handle: handle.read_buffer.clear()
            while not any(str(event).startswith(FAILURES) for event in side.story):
                side.happened.recv(timeout=PATIENCE)
            failures = [event for event in side.story if event != "started"]
            assert len(failures) == 1, side.story
            side.handle.destroy()
            tally["resets in the handshake"] += 1


FAILURES = ("not started", "UnexpectedEOF", "TransportError", "eof")


def relay_steps(peer: Side, side: Side, victim: str, steps: int) -> None:
    """Let the peer take part for *steps* turns of the loop."""
    peer.handle.start_tls("accept" if victim == "connect" else "connect")
    turns(steps)
