"""The TLS seam from the engine's side: any object of the right shape will do, and may fail.

The engine here is a toy: records look like TLS's (five octets of header, the last two the length)
and hide their content by XOR. It knows no octets behind the peer's end, so the handle has to feed
it record by record after ``stop_tls``.

Long because the one toy serves every test here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_core.testing import Trace, virtual_time
from ae_handle import Chunk, Handle, TlsAutostart, TlsError, UnexpectedEOF
from ae_handle.testing import MemoryStream, lingering, memory_pair

Turns = Callable[..., None]


def record(kind: int, data: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(data).to_bytes(2, "big") + bytes(b ^ 0x55 for b in data)


class Toy:
    """A session. ``fails`` names the method that raises, at its ``at``-th call."""

    def __init__(self, fails: str = "", at: int = 1) -> None:
        self.state = "handshake"
        self.peer_certificate = None
        self.fails = fails
        self.left = at
        self.input = b""
        self.plain: list[bytes] = []
        self.early: list[bytes] = []
        self.out = record(22, b"hello")
        self.we_closed = self.they_closed = False

    def _may_fail(self, method: str) -> None:
        if method == self.fails:
            self.left -= 1
            if not self.left:
                self.state = "closed"
                self.out += b"ALERT"
                raise TlsError(f"{method} failed", reason="toy")

    def feed(self, data: bytes) -> None:
        self._may_fail("feed")
        self.input += data
        while len(self.input) >= 5:
            size = 5 + int.from_bytes(self.input[3:5], "big")
            if len(self.input) < size:
                return
            kind, body = self.input[0], bytes(b ^ 0x55 for b in self.input[5:size])
            self.input = self.input[size:]
            if kind == 22:
                self.state = "established"
                for data in self.early:
                    self.out += record(23, data)
            elif kind == 23:
                self.plain.append(body)
            elif kind == 21:
                self.they_closed = True
                self.state = "closed" if self.we_closed else "closing"
            else:
                self.state = "closed"
                raise TlsError("not a record", reason="protocol")

    def read(self) -> bytes:
        self._may_fail("read")
        return self.plain.pop(0) if self.plain else b""

    def write(self, data: bytes) -> None:
        self._may_fail("write")
        if self.state == "handshake":
            self.early.append(data)
        else:
            self.out += record(23, data)

    def drain(self) -> bytes:
        if not self.out.endswith(b"ALERT"):
            self._may_fail("drain")
        out, self.out = self.out, b""
        return out

    def shutdown(self) -> None:
        self._may_fail("shutdown")
        if not self.we_closed:
            self.we_closed = True
            self.out += record(21, b"")
            self.state = "closed" if self.they_closed else "closing"


class ToyContext:
    def __init__(self, fails: str = "", at: int = 1) -> None:
        self.fails = fails
        self.at = at
        self.asked: list[tuple[str, str | None]] = []

    def new_session(self, role: str, peer_name: str | None) -> Toy:
        self.asked.append((role, peer_name))
        if self.fails == "new_session":
            raise TlsError("no session", reason="toy")
        return Toy(self.fails, self.at)


@pytest.fixture
def toys(made: list[Handle]) -> Callable[..., tuple[Handle, Handle]]:
    def make(
        left: dict[str, Any] | None = None,
        right: dict[str, Any] | None = None,
        fails: str = "",
        at: int = 1,
        capacity: int = 65536,
    ) -> tuple[Handle, Handle]:
        a, b = memory_pair(capacity=capacity)
        context = ToyContext(fails, at)
        made.append(Handle(a, tls="connect", tls_context=context, **(left or {})))
        made.append(Handle(b, tls="accept", tls_context=ToyContext(), **(right or {})))
        return made[-2], made[-1]

    return make


def test_an_engine_of_ones_own(toys: Any, trace: Trace, turns: Turns) -> None:
    a, b = toys({"on_tls_started": lambda h, error: trace("a", error)})
    b.read_each("line", lambda h, line: h.push_write(line[::-1] + b"\n"))
    a.push_write(b"abc\n")
    assert a.push_read("line").recv() == b"cba"
    assert trace == [("a", None)]


def test_the_context_is_told_the_role_and_the_name(made: list[Handle]) -> None:
    context = ToyContext()
    a, b = memory_pair()
    made.append(Handle(a, tls="connect", tls_context=context, peer_name="peer.test"))
    made.append(Handle(b, tls="accept", tls_context=context))
    assert context.asked == [("connect", "peer.test"), ("accept", None)]


@pytest.mark.parametrize("how", ["line", "chunk", "on_read"])
def test_an_engine_may_hand_out_pieces(
    made: list[Handle], trace: Trace, turns: Turns, how: str
) -> None:
    class InPieces(Toy):
        def read_pieces(self) -> list[bytes]:
            plain, self.plain = self.plain, []
            return plain

        def read(self) -> bytes:
            raise AssertionError("the pieces are better")

    class Context:
        def new_session(self, role: str, peer_name: str | None) -> Toy:
            return InPieces()

    ours, peer = memory_pair(capacity=1 << 20)
    h = Handle(ours, tls="accept", tls_context=Context())
    made.append(h)
    pieces = [b"a" * 9000, b"b" * 9000 + b"\n", b"c" * 9000]
    if how == "line":
        h.read_each("line", lambda h, line: trace(line))
    elif how == "chunk":
        h.push_read(Chunk(27001), lambda h, data: trace(data))
    else:
        h.on_read = lambda h: trace(h.read_buffer.take(len(h.read_buffer)))
    peer.send(record(22, b"hello") + b"".join(record(23, piece) for piece in pieces))
    turns()
    whole = b"".join(pieces)
    assert trace == ([whole[:18000]] if how == "line" else [whole])


@pytest.mark.parametrize("fails", ["feed", "read", "write", "drain"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("told", ["on_error", "on_tls_started"])
def test_an_engine_may_fail_in_any_call(
    toys: Any, trace: Trace, turns: Turns, fails: str, at: int, told: str
) -> None:
    options: dict[str, Any] = {"on_error": lambda h, error: trace("error", error.reason)}
    if told == "on_tls_started":
        options["on_tls_started"] = lambda h, error: trace(
            "started", None if error is None else error.reason
        )
    a, b = toys(options, {"on_error": lambda h, error: None}, fails, at)
    b.read_each("line", lambda h, line: h.push_write(line + b"\n"))

    def again(h: Handle, line: bytes) -> None:
        h.push_write(line + b"\n")
        h.push_read("line", again)

    a.push_write(b"one\n")
    a.push_read("line", again)
    for _ in range(8):
        turns(6)
        if not a.is_destroyed:
            a.push_write(b"more\n")
    failures = [event for event in trace if event[1] == "toy"]
    assert len(failures) == 1, trace
    assert len([event for event in trace if event[0] == "error"]) <= 1
    if ("started", "toy") in trace:
        assert trace == [("started", "toy")]
        assert not a.is_destroyed
    else:
        assert a.is_destroyed


@pytest.mark.parametrize("fails", ["shutdown", "write", "drain"])
@pytest.mark.parametrize("how", ["stop_tls", "push_shutdown", "destroy", "answer"])
def test_an_engine_may_fail_at_the_end(
    toys: Any, trace: Trace, turns: Turns, fails: str, how: str
) -> None:
    a, b = toys(
        {"on_error": lambda h, error: trace(error.reason), "on_tls_stopped": lambda h: None},
        {"on_error": lambda h, error: None, "on_tls_stopped": lambda h: None},
    )
    turns()
    a.tls.fails, a.tls.left = fails, 1
    if how == "answer":
        b.stop_tls()
        if fails == "write":
            a.push_write(b"last")
    else:
        if fails == "write":
            a.autocork = True
        a.push_write(b"last")
        getattr(a, how)()
    turns(30)
    if how == "destroy" or (how == "answer" and fails == "write"):
        assert trace in ([], ["toy"])
        assert a.is_destroyed
        assert not lingering()
    else:
        assert trace == ["toy"]


def test_clear_text_behind_the_end_is_found_record_by_record(
    toys: Any, trace: Trace, turns: Turns
) -> None:
    def stopped(h: Handle) -> None:
        trace("b stopped")
        h.push_write(b"clear\n")

    a, b = toys({"on_tls_stopped": lambda h: trace("a stopped")}, {"on_tls_stopped": stopped})
    turns()
    b.push_write(b"secret\n")
    a.stop_tls()
    a.read_each("line", lambda h, line: trace(line))
    turns()
    assert trace == [b"secret", "b stopped", "a stopped", b"clear"]
    assert a.tls is None


def test_a_record_may_arrive_in_pieces_after_the_end_was_asked_for(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair(piece=2)
    a = Handle(ours, tls="connect", tls_context=ToyContext())
    made.append(a)
    peer.send(record(22, b"hello"))
    turns(30)
    a.stop_tls()
    a.read_each("line", lambda h, line: trace(line))
    peer.send(record(23, b"secret\n") + record(21, b"") + b"clear\n")
    turns(60)
    assert trace == [b"secret", b"clear"]


def test_an_unanswered_end_is_bounded_in_time(unbound: None, trace: Trace) -> None:
    with virtual_time() as clock:
        ours, peer = memory_pair()
        a = Handle(
            ours,
            tls="connect",
            tls_context=ToyContext(),
            on_error=lambda h, error: trace(error.reason, clock.elapsed),
        )
        peer.send(record(22, b"hello"))
        clock.advance(1)
        a.stop_tls()
        clock.advance(9)
        assert trace == []
        clock.advance(2)
        assert trace == [("timeout", 11)]


def test_an_end_answered_by_closing(toys: Any, trace: Trace, turns: Turns) -> None:
    a, b = toys({"on_tls_stopped": lambda h: trace("stopped"), "on_eof": lambda h: trace("eof")})
    turns()
    a.on_read = lambda h: None
    b.allow_truncated = True
    a.stop_tls()
    a._stream.end()  # the peer closes without an answer of its own
    turns()
    assert trace == ["stopped", "eof"]


def test_both_sides_may_stop_at_once(toys: Any, trace: Trace, turns: Turns) -> None:
    a, b = toys({"on_tls_stopped": lambda h: trace("a")}, {"on_tls_stopped": lambda h: trace("b")})
    turns()
    a.stop_tls()
    b.stop_tls()
    a.push_write(b"clear from a\n")
    b.push_write(b"clear from b\n")
    got = [a.push_read("line"), b.push_read("line")]
    turns()
    assert sorted(trace) == ["a", "b"]
    assert [condvar.recv() for condvar in got] == [b"clear from b", b"clear from a"]


def test_stop_when_the_peer_has_stopped_already(toys: Any, trace: Trace, turns: Turns) -> None:
    a, b = toys({"on_eof": lambda h: trace("eof")}, {"on_tls_stopped": lambda h: trace("b")})
    a.on_read = lambda h: None
    turns()
    b.stop_tls()
    turns()
    assert trace == ["eof"]
    a.on_tls_stopped = lambda h: trace("a")
    a.stop_tls()
    turns()
    assert sorted(trace) == ["a", "b", "eof"]
    assert a.tls is None


def test_push_shutdown_during_the_handshake_waits(toys: Any, trace: Trace, turns: Turns) -> None:
    a, b = toys({}, {"on_eof": lambda h: trace("eof")})
    b.read_each("line", lambda h, line: trace(line))
    a.push_write(b"last\n")
    a.push_shutdown()
    turns(30)
    assert trace == [b"last", "eof"]
    assert a._stream.shut


def test_push_shutdown_waits_for_a_full_pipe(toys: Any, trace: Trace, turns: Turns) -> None:
    a, b = toys({}, {"on_eof": lambda h: trace("eof")}, capacity=12)
    total = 0

    def on_read(h: Handle) -> None:
        nonlocal total
        total += len(h.read_buffer)
        h.read_buffer.clear()

    b.on_read = on_read
    turns()
    a.push_write(b"x" * 100)
    a.push_shutdown()
    assert not a._stream.shut
    turns(60)
    assert total == 100
    assert trace == ["eof"]
    assert a._stream.shut


def test_data_before_a_broken_record_is_delivered(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair()
    a = Handle(
        ours,
        tls="connect",
        tls_context=ToyContext(),
        on_error=lambda h, error: trace(error.reason),
        on_tls_started=lambda h, error: trace("started"),
    )
    made.append(a)
    a.read_each("line", lambda h, line: trace(line))
    peer.send(record(22, b"hello") + record(23, b"good\n"))
    turns()
    peer.send(record(23, b"better\n") + b"\0\0\0\0\0")
    turns()
    assert trace[0] == "started"
    assert trace[1:] in ([b"good", b"better", "protocol"], [b"good", "protocol"])


def test_an_end_in_the_middle_of_the_stream_is_an_error_with_the_data_before_it(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair()
    a = Handle(
        ours,
        tls="connect",
        tls_context=ToyContext(),
        on_error=lambda h, error: trace(type(error)),
    )
    made.append(a)
    a.read_each("line", lambda h, line: trace(line))
    peer.send(record(22, b"hello") + record(23, b"good\n"))
    peer.end()
    ours.end()
    turns()
    assert trace == [b"good", UnexpectedEOF]


def test_a_session_that_cannot_be_made(trace: Trace, turns: Turns, half: Any) -> None:
    a, _ = memory_pair()
    with pytest.raises(TlsError, match="no session"):
        Handle(a, tls="connect", tls_context=ToyContext("new_session"))
    h, peer = half(on_error=lambda h, error: trace(error.reason))
    with pytest.raises(TlsError, match="no session"):
        h.start_tls("connect", ToyContext("new_session"))
    h.push_read(TlsAutostart("accept", ToyContext("new_session")), lambda h, version: None)
    peer.sendall(bytes.fromhex("1603010200"))
    turns()
    assert trace == ["toy"]


@pytest.mark.parametrize("told", [False, True])
def test_what_was_to_be_encrypted_never_leaves_in_clear(
    trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """The session is refused when the connection is there, and something was pushed already."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    condvar: ae.CondVar[Any] = ae.CondVar()

    def tcp_connect(host: str, service: Any, connected: Any, **options: Any) -> Any:
        ae.postpone(lambda: (connected(ours, host, 1, None), condvar.send(ours)))
        return condvar

    monkeypatch.setattr(ae_socket, "tcp_connect", tcp_connect)
    options: dict[str, Any] = {"on_error": lambda h, error: trace("error", error.reason)}
    if told:
        options["on_tls_started"] = lambda h, error: trace("started", error.reason)
    h = Handle(
        connect=("peer.test", 1),
        tls="connect",
        tls_context=ToyContext("new_session"),
        on_connect=lambda *_: trace("connected"),
        **options,
    )
    h.push_write(b"secret")
    turns()
    assert trace == [("started" if told else "error", "toy")]
    h.destroy()
    peer.settimeout(5)
    assert peer.recv(100) == b""
    peer.close()


def test_two_starts_while_connecting_are_an_error(made: list[Handle]) -> None:
    h = Handle(connect=("127.0.0.1", 1), on_error=lambda h, error: None)
    made.append(h)
    h.start_tls("connect", ToyContext())
    with pytest.raises(ValueError, match="to be started already"):
        h.start_tls("connect", ToyContext())


def test_an_autostart_on_a_handle_with_tls_is_reported(
    toys: Any, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))
    a, b = toys()
    a.push_read(TlsAutostart("accept", ToyContext()), lambda h, version: trace(version))
    b.push_write(bytes.fromhex("1603010200"))
    turns()
    assert trace == ["TLS is active already on this handle", (3, 1)]


def test_an_exception_in_a_tls_callback_is_reported(
    toys: Any, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))

    def raises(h: Handle, error: Any = None) -> None:
        raise RuntimeError("in the callback")

    toys({"on_tls_started": raises}, {}, "feed", 1)
    turns()
    assert trace == ["in the callback"]
    c, d = toys({"on_tls_started": raises})
    d.push_write(b"x")
    assert c.push_read(Chunk(1)).recv() == b"x"
    assert trace == ["in the callback"] * 2


def test_lingering_ends_a_handshake_that_fails(turns: Turns) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, tls="connect", tls_context=ToyContext("feed"))
    h.push_write(b"never")
    h.destroy()
    assert lingering() == 1
    peer.send(b"\0\0\0\0\0")
    turns()
    assert lingering() == 0
    assert ours.closed


def test_lingering_tells_nobody_of_a_handshake_that_fails_after_an_error(
    hooked: list[str], trace: Trace, turns: Turns
) -> None:
    """The loss of what was to be encrypted was told by the error."""
    ours, peer = memory_pair()
    h = Handle(ours, tls="connect", tls_context=ToyContext("feed"))
    h.on_error = lambda h, error: trace(str(error))
    h.max_write_buffer = 3
    turns()
    h.push_write(b"never")
    turns()
    assert trace == ["5 bytes are unsent, max_write_buffer is 3"]
    assert lingering() == 1
    peer.send(b"\0\0\0\0\0")
    turns()
    assert lingering() == 0
    assert ours.closed
    assert hooked == []


def test_lingering_ends_with_a_peer_that_goes_during_the_handshake(turns: Turns) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, tls="connect", tls_context=ToyContext())
    h.push_write(b"never")
    h.destroy()
    peer.recv(100)
    peer.close()
    turns()
    assert ours.closed


def drained(peer: MemoryStream, turns: Turns) -> bytes:
    """Read until nothing comes any more."""
    got = b""
    while True:
        turns(3)
        try:
            data = peer.recv(1 << 16)
        except BlockingIOError:
            return got
        if not data:
            return got
        got += data


def test_an_answer_goes_behind_what_waited_for_room(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair(capacity=100)
    h = Handle(
        ours,
        tls="accept",
        tls_context=ToyContext(),
        on_tls_stopped=lambda h: trace("stopped"),
    )
    made.append(h)
    peer.send(record(22, b"hello"))
    turns()
    for octet in b"abc":
        h.push_write(bytes([octet]) * 90)
    peer.send(record(21, b""))
    turns()
    assert trace == ["stopped"]
    got = drained(peer, turns)
    (a, b, c), end = b"abc", record(21, b"")
    letters = [bytes([octet]) * 90 for octet in (a, b, c)]
    assert got.startswith(record(22, b"hello") + record(23, letters[0]))
    assert bytes(octet ^ 0x55 for octet in got).count(letters[2]) == 1
    assert got.endswith(end)


def test_a_goodbye_that_finds_no_room_lingers_though_the_peer_has_ended(turns: Turns) -> None:
    ours, peer = memory_pair(capacity=100)
    h = Handle(ours, tls="accept", tls_context=ToyContext())
    h.on_eof = lambda h: h.destroy()
    h.on_read = lambda h: None
    peer.send(record(22, b"hello"))
    turns()
    h.push_write(b"x" * 90)
    h.push_write(b"y" * 90)
    peer.send(record(21, b""))
    turns()
    assert lingering() == 1
    got = drained(peer, turns)
    assert got.endswith(record(21, b""))
    assert lingering() == 0
    assert ours.closed


class Quiet(Toy):
    """It takes the end of the stream for nothing special, and may have kept something back."""

    kept: tuple[bytes, ...] = ()

    def feed(self, data: bytes) -> None:
        if not data:
            self.plain += self.kept
        super().feed(data)


class QuietContext:
    def new_session(self, role: str, peer_name: str | None) -> Quiet:
        return Quiet()


@pytest.mark.parametrize("told", ["on_tls_started", "on_error"])
def test_an_engine_need_not_say_that_a_handshake_was_cut_off(
    made: list[Handle], trace: Trace, turns: Turns, told: str
) -> None:
    ours, peer = memory_pair()
    options: dict[str, Any] = {told: lambda h, error: trace(error.reason)}
    h = Handle(ours, tls="accept", tls_context=QuietContext(), **options)
    made.append(h)
    h.on_read = lambda h: trace("read")
    turns()
    peer.recv(100)
    peer.close()
    turns()
    assert trace == ["truncated"]


@pytest.mark.parametrize("leaves", [False, True])
def test_data_that_an_engine_gives_only_at_the_end_is_delivered(
    made: list[Handle], trace: Trace, turns: Turns, leaves: bool
) -> None:
    def read(h: Handle) -> None:
        trace(h.read_buffer.take(len(h.read_buffer)))
        if leaves:
            h.destroy()

    ours, peer = memory_pair()
    h = Handle(ours, tls="accept", tls_context=QuietContext(), linger=0)
    made.append(h)
    h.on_read = read
    h.on_error = lambda h, error: trace(type(error))
    peer.send(record(22, b"hello"))
    turns()
    h.tls.kept = (b"kept ", b"back")
    peer.recv(100)
    peer.close()
    turns()
    assert trace == [b"kept back"] + [UnexpectedEOF] * (not leaves)


@pytest.mark.parametrize("leaves", [False, True])
def test_data_that_an_engine_gives_only_at_the_end_comes_before_the_end_of_tls(
    made: list[Handle], trace: Trace, turns: Turns, leaves: bool
) -> None:
    """It takes the end of the stream for the answer to our close_notify."""

    def read(h: Handle) -> None:
        trace(h.read_buffer.take())
        if leaves:
            h.destroy()

    ours, peer = memory_pair()
    h = Handle(ours, tls="accept", tls_context=QuietContext(), linger=0)
    made.append(h)
    h.on_read = read
    h.on_tls_stopped = lambda h: trace("stopped")
    h.on_eof = lambda h: trace("end")
    peer.send(record(22, b"hello"))
    turns()
    h.tls.kept = (b"kept ", b"back")
    h.stop_tls()
    turns()
    peer.recv(100)
    peer.close()
    turns()
    assert trace == [b"kept back"] + ["stopped", "end"] * (not leaves)


class Odd(MemoryStream):
    """A stream that cannot be watched."""

    def watch(self, direction: str, callback: Any) -> Any:
        raise OSError(9, "cannot be watched")


def test_a_stream_that_cannot_be_watched_any_more_is_closed() -> None:
    ours, peer = Odd(capacity=1), MemoryStream(capacity=1)
    ours.peer, peer.peer = peer, ours
    h = Handle(ours)
    h._write.queue.pieces.append(b"unsent")
    h.destroy()
    assert ours.closed
    assert lingering() == 0
