"""How much a handle with TLS reads in one event, and what may come up while it reads on.

The engine hides nothing: an ``!`` is its close_notify, a ``?`` is no record at all.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ae_core.testing import Trace
from ae_handle import Chunk, Handle, TlsError, TransportError
from ae_handle.testing import MemoryStream, memory_pair

Turns = Callable[..., None]

SIZE = 1000  # what is read at once


class Clear:
    """A session that is its own context."""

    peer_certificate = None

    def __init__(self) -> None:
        self.state = "established"
        self.plain = b""

    def new_session(self, role: str, peer_name: str | None) -> Clear:
        return self

    def feed(self, data: bytes) -> None:
        assert self.state == "established", "fed behind the end"
        if not data:
            self.state = "closed"
            raise TlsError("cut off", reason="truncated")
        data = bytes(data)
        if b"?" in data:
            self.state = "closed"
            raise TlsError("what is that", reason="protocol")
        self.plain += data.rstrip(b"!")
        if b"!" in data:
            self.state = "closing"

    def read(self) -> bytes:
        plain, self.plain = self.plain, b""
        return plain

    def write(self, data: bytes) -> None:
        raise AssertionError("nothing is written here")

    def drain(self) -> bytes:
        return b""

    def shutdown(self) -> None:
        self.state = "closed"


Make = Callable[..., tuple[Handle, MemoryStream]]


@pytest.fixture
def make(made: list[Handle], trace: Trace, turns: Turns) -> Make:
    def make(**options: Any) -> tuple[Handle, MemoryStream]:
        ours, peer = memory_pair(capacity=1 << 20)
        options.setdefault("on_error", lambda h, error: trace(error))
        h = Handle(ours, tls="accept", tls_context=Clear(), max_read_size=SIZE, linger=0, **options)
        made.append(h)
        return h, peer

    return make


def took(trace: Trace) -> Callable[[Handle], object]:
    return lambda h: trace(len(h.read_buffer.take(len(h.read_buffer))))


@pytest.mark.parametrize("sent", [SIZE - 1, SIZE, SIZE + 1, 4 * SIZE, 10 * SIZE])
def test_what_was_read_is_offered_before_more_is_read(
    make: Make, trace: Trace, turns: Turns, sent: int
) -> None:
    _, peer = make(on_read=took(trace))
    peer.send(bytes(sent))
    turns(6)
    assert sum(trace) == sent
    assert max(trace) <= SIZE


@pytest.fixture
def streaming(made: list[Handle], trace: Trace) -> Iterator[Make]:
    """A handle on a socket, with an engine that copies its input."""
    sockets = []

    def make(copies: bool = True, **options: Any) -> tuple[Handle, Any]:
        session = Clear()
        session.copies_input = copies  # type: ignore[attr-defined]
        ours, peer = socket.socketpair()
        sockets.append(peer)
        options.setdefault("on_error", lambda h, error: trace(error))
        options.setdefault("max_read_size", SIZE)
        h = Handle(ours, tls="accept", tls_context=session, linger=0, **options)
        made.append(h)
        return h, peer

    yield make
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (SIZE - 1, [SIZE - 1]),
        (SIZE, [SIZE]),
        (SIZE + 1, [SIZE, 1]),
        (6 * SIZE, [SIZE, 4 * SIZE, SIZE]),
        (12 * SIZE - 1, [SIZE, 4 * SIZE, 4 * SIZE, 3 * SIZE - 1]),
    ],
)
def test_more_is_read_while_data_streams_in(
    streaming: Make, trace: Trace, turns: Turns, sent: int, taken: list[int]
) -> None:
    _, peer = streaming(on_read=took(trace))
    peer.send(bytes(sent))
    turns(8)
    assert trace == taken
    trace.clear()
    peer.send(bytes(SIZE))  # what comes now fills a large read no more, or is a first read again
    peer.send(bytes(SIZE))
    turns(8)
    assert sum(trace) == 2 * SIZE


def test_what_streams_in_is_what_was_sent(streaming: Make, turns: Turns) -> None:
    got = []
    _, peer = streaming(on_read=lambda h: got.append(h.read_buffer.take(len(h.read_buffer))))
    data = bytes(octet for octet in range(256) if octet not in b"!?") * 100
    peer.sendall(data)
    turns(12)
    assert b"".join(got) == data


@pytest.mark.parametrize("options", [{"copies": False}, {"max_read_size": 1 << 20}])
def test_an_engine_that_keeps_its_input_gets_octets_of_its_own(
    streaming: Make, trace: Trace, turns: Turns, options: dict[str, Any]
) -> None:
    h, peer = streaming(on_read=took(trace), **options)
    feed = h.tls.feed
    kinds = set()
    h.tls.feed = lambda data: (kinds.add(type(data)), feed(data))[1]
    for _ in range(5):
        peer.send(bytes(10 * SIZE))
        turns(12)
    assert sum(trace) == 50 * SIZE
    assert kinds == {bytes}


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ECONNRESET])
def test_a_large_read_may_fail(streaming: Make, trace: Trace, turns: Turns, number: int) -> None:
    def fails(buffer: memoryview, size: int) -> int:
        h._tls.recv_into = recv_into
        raise OSError(number, "broken by the test")

    h, peer = streaming(on_read=took(trace))
    recv_into = h._tls.recv_into
    h._tls.recv_into = fails
    peer.send(bytes(SIZE))
    turns()
    peer.send(b"rest")
    turns()
    if number == errno.EAGAIN:
        assert trace == [SIZE, 4]
    else:
        assert trace[0] == SIZE
        assert [error.errno for error in trace[1:]] == [number]


def test_the_end_of_the_stream_may_come_in_a_large_read(
    streaming: Make, trace: Trace, turns: Turns
) -> None:
    _, peer = streaming(on_read=took(trace), allow_truncated=True, on_eof=lambda h: trace("end"))
    peer.send(bytes(SIZE))
    turns()
    peer.close()
    turns()
    assert trace == [SIZE, "end"]


def test_it_does_not_read_on_behind_the_peers_end(make: Make, trace: Trace, turns: Turns) -> None:
    h, peer = make(on_tls_stopped=lambda h: trace("stopped"))
    h.push_read(Chunk(SIZE - 1), lambda h, data: trace(len(data)))
    peer.send(bytes(SIZE - 1) + b"!" + b"in clear")
    turns()
    assert trace == [SIZE - 1, "stopped"]
    h.push_read(Chunk(8), lambda h, data: trace(data))
    turns()
    assert trace == [SIZE - 1, "stopped", b"in clear"]


def test_a_reset_comes_behind_the_data_before_it(make: Make, trace: Trace, turns: Turns) -> None:
    h, peer = make(on_read=took(trace))
    peer.send(bytes(2 * SIZE))
    peer.peer.break_off(errno.ECONNRESET)
    turns()
    *sizes, error = trace
    assert sizes == [SIZE, SIZE]
    assert isinstance(error, TransportError)
    assert error.errno == errno.ECONNRESET
    assert h.is_destroyed


def test_a_reset_is_not_told_to_who_has_gone(make: Make, trace: Trace, turns: Turns) -> None:
    def read(h: Handle) -> None:
        trace(len(h.read_buffer))
        h.destroy()

    _, peer = make(on_read=read)
    peer.send(bytes(2 * SIZE))
    peer.peer.break_off(errno.ECONNRESET)
    turns()
    assert trace == [SIZE]


def test_the_end_of_the_stream_comes_behind_the_data(
    make: Make, trace: Trace, turns: Turns
) -> None:
    _, peer = make(on_read=took(trace), allow_truncated=True, on_eof=lambda h: trace("end"))
    peer.send(bytes(2 * SIZE))
    peer.close()
    turns()
    assert trace == [SIZE, SIZE, "end"]


def test_an_engine_that_fails_on_the_way_does_so_behind_the_data(
    make: Make, trace: Trace, turns: Turns
) -> None:
    _, peer = make(on_read=took(trace))
    peer.send(bytes(2 * SIZE) + b"?" * 10)
    turns()
    *sizes, error = trace
    assert sizes == [SIZE, SIZE]
    assert error.reason == "protocol"


def test_who_stops_reading_gets_no_more(make: Make, trace: Trace, turns: Turns) -> None:
    def read(h: Handle) -> None:
        trace(len(h.read_buffer.take(len(h.read_buffer))))
        h.stop_read()

    h, peer = make(on_read=read)
    peer.send(bytes(10 * SIZE))
    turns()
    assert trace == [SIZE]
    h.start_read()
    turns()
    assert trace == [SIZE, SIZE]


def test_an_idle_handle_stops_at_its_limit(make: Make, turns: Turns) -> None:
    h, peer = make(max_read_buffer=2 * SIZE)
    peer.send(bytes(20 * SIZE))
    turns(10)
    assert len(h.read_buffer) == 3 * SIZE
