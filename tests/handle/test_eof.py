"""The end of the stream, and what errors do to a handle (HANDLE-20 to 37)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import (
    NEED_MORE,
    BadMessage,
    Chunk,
    Handle,
    HandleError,
    NeedMore,
    ReadBuffer,
    TransportError,
    UnexpectedEOF,
)
from ae_handle.testing import MemoryStream, lingering, memory_pair

Half = Callable[..., tuple[Handle, socket.socket]]
Turns = Callable[..., None]


def reporter(trace: Trace) -> dict[str, Any]:
    """Callbacks that tell what they were called with."""
    return {
        "on_eof": lambda h: trace("eof"),
        "on_error": lambda h, error: trace(
            type(error).__name__, error.errno, error.fatal, bytes(h.read_buffer)
        ),
    }


EPIPE = ("UnexpectedEOF", errno.EPIPE, True)


def test_the_end_inside_a_request_is_an_error_and_not_the_end(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half(**reporter(trace))
    h.push_read("line", lambda h, line: trace(line))
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"a\npartial")
    peer.close()
    turns()
    assert trace == [b"a", (*EPIPE, b"partial")]
    assert h.is_destroyed


def test_the_end_with_an_empty_queue_is_the_end(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(**reporter(trace), on_read=lambda h: trace(h.read_buffer.take(1)))
    peer.sendall(b"ab")
    peer.close()
    turns()
    assert trace == [b"a", b"b", "eof"]
    assert not h.is_destroyed
    assert h.statistics().state == "ended"


def test_the_end_is_an_error_for_an_on_read_that_consumes_nothing(
    half: Half, trace: Trace, turns: Turns
) -> None:
    _, peer = half(**reporter(trace), on_read=lambda h: trace("on_read"))
    peer.sendall(b"ab")
    turns()
    peer.close()
    turns()
    assert trace == ["on_read", "on_read", (*EPIPE, b"ab")]


def test_an_on_read_may_leave_the_end_to_on_error(half: Half, trace: Trace, turns: Turns) -> None:
    """Reading until the peer closes, the way an HTTP client does (USER-03)."""
    body: list[bytes] = []

    def failed(h: Handle, error: HandleError) -> None:
        body.append(h.read_buffer.take(len(h.read_buffer)))
        trace(error.fatal)

    _, peer = half(on_read=lambda h: None, on_error=failed)
    for piece in (b"the ", b"whole ", b"body"):
        peer.sendall(piece)
        turns()
    peer.close()
    turns()
    assert body == [b"the whole body"]
    assert trace == [True]


def test_the_end_without_on_eof_is_an_error(half: Half, trace: Trace, turns: Turns) -> None:
    callbacks = reporter(trace)
    del callbacks["on_eof"]
    h, peer = half(**callbacks, on_read=lambda h: h.read_buffer.clear())
    peer.sendall(b"x")
    peer.close()
    turns()
    assert trace == [(*EPIPE, b"")]
    assert h.is_destroyed


def test_on_read_that_pushes_requests(half: Half, trace: Trace, turns: Turns) -> None:
    """The documented pattern of a server that idles between requests (HANDLE-26)."""
    for wire, end in ((b"ab", "eof"), (b"abc", (*EPIPE, b"c"))):
        trace.clear()

        def on_read(h: Handle) -> None:
            h.push_read(Chunk(2), lambda h, data: trace(data))

        _, peer = half(**reporter(trace), on_read=on_read)
        peer.sendall(wire)
        peer.close()
        turns()
        assert trace == [b"ab", end]


def test_the_end_between_frames_of_a_standing_reader(
    half: Half, trace: Trace, turns: Turns
) -> None:
    for wire, end in ((b"1\n2\n", "eof"), (b"1\n2\n3", (*EPIPE, b"3"))):
        trace.clear()
        h, peer = half(**reporter(trace))
        h.read_each("line", lambda h, line: trace(line))
        peer.sendall(wire)
        peer.close()
        turns()
        assert trace == [b"1", b"2", end]


def test_the_end_completes_what_only_it_can_complete(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half(**reporter(trace))
    h.push_read("json", lambda h, value: trace(value))
    peer.sendall(b" 42")
    turns()
    assert trace == []
    peer.close()
    turns()
    assert trace == [42, "eof"]


@pytest.mark.parametrize("tail", [b"", b" \r\n", b"7"])
def test_space_behind_the_last_json_value_is_between_frames(
    half: Half, trace: Trace, turns: Turns, tail: bytes
) -> None:
    h, peer = half(**reporter(trace))
    h.read_each("json", lambda h, value: trace(value))
    peer.sendall(b"[1] 2 " + tail)
    peer.close()
    turns()
    assert trace == [[1], 2, *([7] if tail == b"7" else []), "eof"]


def test_an_idle_handle_notices_the_end_when_it_asks(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half(**reporter(trace))
    peer.sendall(b"last\n")
    peer.close()
    turns()
    assert trace == []
    h.push_read("line", lambda h, line: trace(line))
    turns()
    assert trace == [b"last"]
    h.push_read("line", lambda h, line: trace(line))
    turns()
    assert trace == [b"last", (*EPIPE, b"")]


def test_watch_eof_notices_while_idle(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(**reporter(trace), watch_eof=True)
    turns()
    peer.sendall(b"unasked")
    turns()
    assert bytes(h.read_buffer) == b"unasked"
    peer.close()
    turns()
    assert trace == ["eof"]
    assert h.push_read(Chunk(7)).recv() == b"unasked"


def test_watch_eof_reads_ahead_no_further_than_the_limit(half: Half, turns: Turns) -> None:
    h, peer = half(watch_eof=True, max_read_buffer=10, read_size=8, max_read_size=8)
    peer.sendall(b"x" * 100)
    turns()
    assert len(h.read_buffer) == 16
    assert not h.is_destroyed
    for _ in range(10):
        assert h.push_read(Chunk(10)).recv() == b"x" * 10


def test_watch_eof_can_be_switched_on_later(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(**reporter(trace))
    peer.close()
    turns()
    assert trace == []
    h.watch_eof = True
    turns()
    assert trace == ["eof"]


def test_on_eof_is_called_once(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(**reporter(trace), watch_eof=True)
    peer.sendall(b"1\n2\n")
    peer.close()
    turns()
    assert trace == ["eof"]
    h.push_read("line", lambda h, line: trace(line))  # it can be satisfied
    assert trace == ["eof"]
    turns()
    assert trace == ["eof", b"1"]
    h.push_read(Chunk(3), lambda h, data: trace(data))  # and this cannot
    turns()
    assert trace == ["eof", b"1", (*EPIPE, b"2\n")]


def test_requests_pushed_by_on_eof_are_served(half: Half, trace: Trace, turns: Turns) -> None:
    def on_eof(h: Handle) -> None:
        trace("eof")
        h.push_read(Chunk(2), lambda h, data: trace(data))

    _, peer = half(on_eof=on_eof, watch_eof=True)
    peer.sendall(b"ab")
    peer.close()
    turns()
    assert trace == ["eof", b"ab"]


def test_an_exception_in_what_on_eof_asked_for_is_reported(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook"))

    def chunk(h: Handle, data: bytes) -> None:
        trace(data)
        raise RuntimeError

    def eof(h: Handle) -> None:
        trace("eof")
        h.push_read(Chunk(0), chunk)
        h.push_read(Chunk(0), lambda h, data: trace("next", data))

    h, peer = half(on_eof=eof)
    h.on_read = lambda h: h.read_buffer.clear()
    peer.close()
    turns()
    assert trace == ["eof", b"", "hook", ("next", b"")]
    assert not h.is_destroyed


@pytest.mark.parametrize("refuses", [False, True])
def test_a_reader_may_say_that_the_end_completes_nothing(
    half: Half, trace: Trace, turns: Turns, refuses: bool
) -> None:
    class Choosy:
        def __call__(self, buf: ReadBuffer, /) -> NeedMore:
            return NEED_MORE

        def at_eof(self, buf: ReadBuffer, /) -> NeedMore:
            if refuses:
                raise BadMessage
            return NEED_MORE

    h, peer = half(**reporter(trace))
    h.push_read(Choosy(), lambda h, value: trace(value))
    peer.sendall(b"part")
    peer.close()
    turns()
    assert trace == [(*EPIPE, b"part")]


def test_a_request_is_not_asked_anew_at_the_end_without_data(
    half: Half, trace: Trace, turns: Turns
) -> None:
    """It was asked when it came to the front, and nothing has arrived since."""

    def reader(buf: ReadBuffer) -> NeedMore:
        trace("asked")
        return NEED_MORE

    h, peer = half(**reporter(trace))
    h.push_read(reader, lambda h, value: None)
    turns()
    peer.close()
    turns()
    assert trace == ["asked", (*EPIPE, b"")]


def test_writing_goes_on_after_the_end(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_eof=lambda h: h.push_write(b"goodbye"), on_read=lambda h: None)
    peer.shutdown(socket.SHUT_WR)
    turns()
    assert peer.recv(100) == b"goodbye"
    assert not h.is_destroyed


def test_an_on_eof_set_too_late_is_still_called(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_error=lambda h, error: trace(error))
    h.push_read("json", lambda h, value: trace(value))
    peer.sendall(b"1")
    peer.close()
    turns()
    h.on_eof = lambda h: trace("eof")
    assert trace == [1]
    turns()
    assert trace == [1, "eof"]


# ---------------------------------------------------------------------- errors


@pytest.mark.skipif(os.name == "nt", reason="how a peer is made to reset differs on Windows")
def test_a_reset_by_the_peer(tcp: Any, made: list[Handle], trace: Trace, turns: Turns) -> None:
    ours, peer = tcp()
    h = Handle(ours, on_error=lambda h, error: trace(error))
    made.append(h)
    h.push_read("line", lambda h, line: trace(line))
    turns()
    peer.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    )
    peer.close()
    trace.run_until(1)
    (error,) = trace
    assert isinstance(error, TransportError)
    assert (error.errno, error.fatal) == (errno.ECONNRESET, True)
    assert str(error) == "Connection reset by peer"
    assert isinstance(error.__cause__, ConnectionResetError)
    assert h.is_destroyed


def test_a_fatal_error_without_on_error_reaches_the_hook(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(error))
    h, peer = half(on_read=lambda h: None)
    peer.close()
    turns()
    assert h.is_destroyed
    assert [type(error) for error in trace] == [UnexpectedEOF]


def test_an_awaited_read_is_told_and_then_on_error(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_error=lambda h, error: trace("on_error", error.errno))
    first = h.push_read("line")
    first.on_ready(lambda condvar: trace("first"))
    h.push_read("line", lambda h, line: trace(line))
    second = h.push_read("line")
    second.on_ready(lambda condvar: trace("second"))
    peer.close()
    turns()
    assert trace == ["first", "second", ("on_error", errno.EPIPE)]
    for condvar in (first, second):
        with pytest.raises(UnexpectedEOF):
            condvar.recv()


def test_an_awaited_read_is_told_instead_of_the_hook(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(error))
    h, peer = half()
    condvar = h.push_read("line")
    peer.close()
    turns()
    assert trace == []
    assert h.is_destroyed
    with pytest.raises(UnexpectedEOF):
        condvar.recv()


def test_inside_a_fatal_on_error_reads_and_writes_are_ignored(
    half: Half, trace: Trace, turns: Turns
) -> None:
    def failed(h: Handle, error: HandleError) -> None:
        trace(error.errno)
        h.push_write(b"ignored")
        h.push_read("line", lambda h, line: trace(line))
        h.on_read = lambda h: trace("on_read")
        h.start_tls("connect")
        trace(bytes(h.read_buffer))
        condvars.append(h.push_read("line"))

    condvars: list[Any] = []
    h, peer = half(on_error=failed)
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"rest")
    peer.shutdown(socket.SHUT_WR)
    turns()
    assert trace == [errno.EPIPE, b"rest"]
    assert peer.recv(100) == b""
    with pytest.raises(UnexpectedEOF):
        condvars[0].recv()
    assert h.is_destroyed


def test_an_exception_in_on_error_does_not_save_the_handle(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))

    def failed(h: Handle, error: HandleError) -> None:
        raise RuntimeError("in on_error")

    h, peer = half(on_error=failed, on_read=lambda h: None)
    peer.close()
    turns()
    assert trace == ["in on_error"]
    assert h.is_destroyed


def test_unread_input_is_delivered_before_a_write_error(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """The answer of a server that refuses half of an upload (HANDLE-37)."""
    ours, peer = memory_pair(piece=4)
    h = Handle(ours, on_error=lambda h, error: trace(type(error).__name__, error.errno))
    made.append(h)
    h.read_each("line", lambda h, line: trace(line))
    peer.send(b"413 too large\nlast words\n")
    ours.shut = True  # writes fail, reads go on
    h.push_write(b"more")
    assert trace == []
    turns()
    assert trace == [b"413 too large", b"last words", ("TransportError", errno.EPIPE)]
    assert h.is_destroyed


@pytest.mark.parametrize("destroys", [False, True])
def test_callbacks_for_input_before_a_write_error_may_write_or_destroy(
    made: list[Handle], trace: Trace, turns: Turns, destroys: bool
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, on_error=lambda h, error: trace(error.errno))
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        h.push_write(b"never sent")
        if destroys:
            h.destroy()

    h.read_each("line", line)
    peer.send(b"last words\n")
    ours.shut = True
    h.push_write(b"more")
    turns()
    assert trace == ([b"last words"] if destroys else [b"last words", errno.EPIPE])
    assert h.is_destroyed
    assert h.statistics().unsent == 0


def test_a_write_error_is_told_at_once_if_nobody_reads(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, on_error=lambda h, error: trace(error.errno))
    made.append(h)
    peer.send(b"unread")
    ours.shut = True
    h.push_write(b"x")
    h.push_write(b"ignored from now on")
    turns()
    assert trace == [errno.EPIPE]


def test_a_dead_peer_is_reported_once(made: list[Handle], trace: Trace, turns: Turns) -> None:
    ours, peer = memory_pair()

    def failed(h: Handle, error: HandleError) -> None:
        trace(error.errno)
        h.push_write(b"again")  # endless in the original (HANDLE-34)

    h = Handle(ours, on_error=failed)
    made.append(h)
    peer.close()
    h.push_write(b"x")
    turns()
    assert trace == [errno.EPIPE]


def test_a_callback_behind_the_end_may_write_much_and_destroy(
    made: list[Handle], hooked: list[str], trace: Trace, turns: Turns
) -> None:
    def leave(h: Handle, data: bytes) -> None:
        h.push_write(bytes(100))
        h.push_write(bytes(1 << 20))
        h.destroy()
        trace("left")

    ours, peer = memory_pair(capacity=10)
    h = Handle(ours, on_eof=lambda h: h.push_read(Chunk(0), leave), watch_eof=True)
    made.append(h)
    peer.shutdown(1)
    turns()
    assert trace == ["left"]
    assert hooked == []
    assert lingering() == 1
    assert peer.recv(10) == bytes(10)


def test_what_came_before_a_write_error_is_not_read_without_end(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """256 reads of 64 KiB are enough: a peer that goes on sending would never be given up."""

    class Endless(MemoryStream):
        reads = 0

        def recv(self, size: int) -> bytes:
            self.reads += 1
            return b"x" * size

        def send(self, data: bytes | memoryview) -> int:
            raise OSError(errno.EPIPE, "as told")

    ours = Endless()
    h = Handle(ours, on_error=lambda h, error: trace(error.errno))
    made.append(h)
    h.push_write(b"x")
    turns()
    assert trace == [errno.EPIPE]
    assert ours.reads == 256
