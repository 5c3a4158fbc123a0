"""What the author of a protocol library needs (USER rows): the moves of an HTTP client."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, virtual_time
from ae_handle import Chunk, Handle, HandleError, Line, UnexpectedEOF
from ae_handle.testing import MemoryStream, ScriptedPeer, memory_pair

Turns = Callable[..., None]
BLANK_LINE = Line(re.compile(rb"\r?\n\r?\n"))


@pytest.fixture
def client(made: list[Handle]) -> tuple[Handle, MemoryStream]:
    ours, peer = memory_pair()
    made.append(Handle(ours))
    return made[0], peer


def test_callbacks_change_with_the_phase(client: Any, trace: Trace, turns: Turns) -> None:
    """USER-01: active, reading a body, idle."""
    h, peer = client
    h.on_error = lambda h, error: trace("active", error)
    h.push_read("line", lambda h, line: trace(line))
    peer.send(b"200 ok\nbody")
    turns()
    h.on_read = lambda h: trace("body", h.read_buffer.take(len(h.read_buffer)))
    turns()
    h.on_read = h.on_error = None
    assert h.on_read is None
    peer.send(b"ignored while idle")
    turns()
    assert trace == [b"200 ok", ("body", b"body")]


@pytest.mark.parametrize("event", ["data", "eof", "reset", "time"])
def test_any_event_kills_an_idle_connection(unbound: None, trace: Trace, event: str) -> None:
    """USER-02: in the cache every callback is the same one."""
    with virtual_time() as clock:
        ours, peer = memory_pair()
        h = Handle(ours)

        def gone(h: Handle, *error: Any) -> None:
            trace("gone")
            h.destroy()

        h.on_read = h.on_eof = h.on_error = h.on_timeout = gone
        h.timeout_reset()
        h.timeout = 3
        clock.advance(2.9)
        assert trace == []
        if event == "data":
            peer.send(b"x")
        elif event == "eof":
            peer.close()
        elif event == "reset":
            ours.break_off(errno.ECONNRESET)
        clock.advance(1)
        assert trace == ["gone"]
        assert h.is_destroyed


@pytest.mark.parametrize("end", ["eof", "reset"])
def test_a_body_until_the_connection_ends(
    client: Any, trace: Trace, turns: Turns, end: str
) -> None:
    """USER-03: even an error is an end, so what was read is still there in on_error."""
    h, peer = client
    h.on_eof = None
    h.on_read = lambda h: None
    h.on_error = lambda h, error: trace(bytes(h.read_buffer), error.fatal)
    peer.send(b"the whole ")
    turns()
    peer.send(b"body")
    turns()
    if end == "eof":
        peer.shutdown(1)
    else:
        h._stream.break_off(errno.ECONNRESET)
    turns()
    assert trace == [(b"the whole body", True)]


def test_a_streamed_body_may_be_stopped(client: Any, trace: Trace, turns: Turns) -> None:
    """USER-04"""
    h, peer = client
    left = 10

    def on_read(h: Handle) -> None:
        nonlocal left
        part = h.read_buffer.take(min(left, len(h.read_buffer)))
        left -= len(part)
        trace(part)
        if not left:
            h.destroy()

    h.on_read = on_read
    for piece in (b"0123", b"4567", b"89rest"):
        peer.send(piece)
        turns()
    assert trace == [b"0123", b"4567", b"89"]
    assert h.is_destroyed


def test_chunked_coding(client: Any, trace: Trace, turns: Turns) -> None:
    """USER-05: nested line, chunk, line; then trailers as one request."""
    h, peer = client
    body = bytearray()

    def size(h: Handle, line: bytes) -> None:
        length = int(line, 16)
        if length:
            h.push_read(Chunk(length), data)
        else:
            h.push_read(Line(re.compile(rb"^\r?\n|\r?\n\r?\n")), lambda h, line: trace("end", line))

    def data(h: Handle, piece: bytes) -> None:
        body.extend(piece)
        h.push_read("line", lambda h, line: h.push_read("line", size))

    h.push_read("line", size)
    wire = b"4\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX: 1\r\nY: 2\r\n\r\n"
    for octet in wire:
        peer.send(bytes([octet]))
        turns(1)
    turns()
    assert bytes(body) == b"Wikipedia in \r\n\r\nchunks."
    assert trace == [("end", b"X: 1\r\nY: 2")]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_header_block_is_one_request(client: Any, newline: bytes) -> None:
    """USER-06"""
    h, peer = client
    head = newline.join([b"HTTP/1.1 200 OK", b"A: 1", b"B: 2"])
    peer.send(head + newline * 2 + b"body")
    assert h.push_read(BLANK_LINE).recv() == head
    assert h.push_read(Chunk(4)).recv() == b"body"


def test_it_is_known_whether_tls_is_on(client: Any, certificates: Any, turns: Turns) -> None:
    """USER-08: after a proxy's CONNECT, on the same handle; USER-07: with a shared context."""
    h, peer = client
    context = certificates.client()
    h.push_write("line", b"CONNECT peer.test:443")
    peer.send(b"200 go ahead\r\n\r\n")
    assert h.push_read(BLANK_LINE).recv().startswith(b"200")
    assert h.tls is None
    h.peer_name = "peer.test"
    h.start_tls("connect", context)
    assert h.tls is not None
    with pytest.raises(ValueError, match="active already"):
        h.start_tls("connect", context)


@pytest.mark.parametrize("stale", [False, True])
def test_a_stale_connection_is_tried_again(
    client: Any, trace: Trace, turns: Turns, stale: bool
) -> None:
    """USER-11: an end before the first octet is no error of the request."""
    h, peer = client

    def first(h: Handle) -> None:
        h.on_read = None
        h.on_eof = lambda h: trace("eof while reading")
        h.push_read("line", lambda h, line: trace(line))

    h.on_eof = lambda h: trace("try again")
    h.on_error = lambda h, error: trace(type(error))
    h.on_read = first
    h.push_write(b"GET /\n")
    turns()
    if stale:
        peer.recv(100)
        peer.close()
    else:
        peer.send(b"200 ok\npart")
    turns()
    assert trace == (["try again"] if stale else [b"200 ok"])


def test_a_request_can_be_cancelled(client: Any, trace: Trace, turns: Turns) -> None:
    """USER-10: who holds the operation may end it, and the handle with it."""
    h, peer = client
    answer = h.push_read("line")
    answer.on_ready(lambda condvar: h.destroy() if condvar.cancelled else trace("answer"))
    peer.send(b"partial")
    turns()
    answer.cancel()
    assert h.is_destroyed
    turns()
    assert trace == []


def test_errors_sort_by_class(made: list[Handle]) -> None:
    """USER-14: the text and the number tell the phases apart."""
    peer = ScriptedPeer().expect(b"GET\n").send(b"200 par").close()
    h = Handle(peer.stream)
    made.append(h)
    h.push_write(b"GET\n")
    with pytest.raises(UnexpectedEOF) as caught:
        h.push_read("line").recv()
    assert caught.value.errno == errno.EPIPE
    assert "7 bytes are unread" in str(caught.value)


def test_condvars_serve_as_callbacks(client: Any) -> None:
    """USER-16"""
    h, peer = client
    eof, drained, line = (ae.CondVar[Any]() for _ in range(3))
    error = ae.CondVar[tuple[Handle, HandleError]]()
    h.on_eof, h.on_drain, h.on_error = eof, drained, error
    h.push_read("line", line)
    peer.send(b"x\n")
    assert line.recv() == (h, b"x")
    assert drained.recv() is h
    h.watch_eof = True
    peer.close()
    assert eof.recv() is h
    h.push_read(Chunk(1), line)
    handle, reason = error.recv()
    assert handle is h
    assert reason.fatal
