"""The helpers for authors of frame types and protocols: they fail when they should."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import NEED_MORE, Chunk, Handle, Line, ReadBuffer, TransportError
from ae_handle.testing import (
    ScriptedPeer,
    check_cuts,
    check_reader,
    end_lingering,
    lingering,
    memory_pair,
)


def eager(buf: ReadBuffer) -> Any:
    """A reader that takes an incomplete line for a line."""
    return buf.take(len(buf)).rstrip(b"\n")


def greedy(buf: ReadBuffer) -> Any:
    """A reader that consumes what it cannot use yet."""
    data = buf.take(len(buf))
    return data[:-1] if data.endswith(b"\n") else NEED_MORE


def wasteful(buf: ReadBuffer) -> Any:
    """A reader that consumes what is behind the item."""
    end = buf.find(b"\n")
    return NEED_MORE if end < 0 else buf.take(len(buf))[:end]


@pytest.mark.parametrize(
    ("reader", "complaint"),
    [
        (eager, "after 0 of 4 bytes"),
        (greedy, "consumed 1 bytes of an incomplete item"),
        (wasteful, "with trailing data"),
        (Chunk(3), "read b'abc', expected"),
        (Chunk(5), "NEED_MORE"),
    ],
)
def test_check_reader_finds_the_fault(reader: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_reader(reader, b"abc\n", b"abc\n" if isinstance(reader, Chunk) else b"abc")


def test_check_reader_tells_false_values_apart() -> None:
    with pytest.raises(AssertionError, match="read b'0', expected 0"):
        check_reader(Chunk(1), b"0", 0)


def test_check_cuts_finds_the_fault() -> None:
    check_cuts(Line(), b"a\nb\n", [b"a", b"b"])
    with pytest.raises(AssertionError, match="cut at"):
        check_cuts(eager, b"a\nb\n", [b"a", b"b"])


def test_a_script_is_played(made: list[Handle], trace: Trace) -> None:
    peer = ScriptedPeer().send(b"220 hi\r\n").expect(b"HELO\r\n").send(b"250 ok\r\n").close()
    h = Handle(peer.stream, on_eof=lambda h: trace("eof"))
    made.append(h)
    assert h.push_read("line").recv() == b"220 hi"
    h.push_write("line", b"HELO")
    h.read_each("line", lambda h, line: trace(line))
    peer.done.recv()
    trace.run_until(2)
    assert trace == [b"250 ok", "eof"]
    assert peer.received == b"HELO\r\n"


def test_a_script_fails_if_something_else_is_said(made: list[Handle]) -> None:
    peer = ScriptedPeer().expect(b"HELO\r\n")
    h = Handle(peer.stream)
    made.append(h)
    h.push_write(b"HE")
    ae.sleep(0).recv()
    assert not peer.done.ready
    h.push_write(b"LP\r\n")
    with pytest.raises(AssertionError, match=r"expected b'HELO\\r\\n', got b'HELP\\r\\n'"):
        peer.done.recv()


def test_a_script_fails_if_the_handle_goes_too_early() -> None:
    peer = ScriptedPeer().expect(b"HELO\r\n").expect(b"QUIT\r\n")
    h = Handle(peer.stream)
    h.push_write(b"HELO\r\n")
    h.destroy()
    with pytest.raises(AssertionError, match="the handle closed; still to be done"):
        peer.done.recv()


def test_a_script_may_break_the_connection(made: list[Handle]) -> None:
    peer = ScriptedPeer().expect(b"x").reset()
    h = Handle(peer.stream)
    made.append(h)
    h.push_write(b"x")
    with pytest.raises(TransportError, match="broken"):
        h.push_read("line").recv()
    peer.done.recv()


def test_unread_data_in_memory_is_a_reset_as_with_tcp(made: list[Handle]) -> None:
    a, b = memory_pair()
    h = Handle(a)
    made.append(h)
    h.push_write(b"never read")
    b.close()
    b.close()
    with pytest.raises(TransportError) as caught:
        h.push_read("line").recv()
    assert caught.value.errno == errno.ECONNRESET


def test_lingering_can_be_ended() -> None:
    a, _ = memory_pair(capacity=1)
    h = Handle(a)
    h.push_write(b"xy")
    h.destroy()
    assert lingering() == 1
    assert end_lingering() == 1
    assert lingering() == 0
    assert end_lingering() == 0
    assert a.closed


def test_a_script_fails_if_the_handle_breaks_the_connection() -> None:
    peer = ScriptedPeer().send(b"220 hi\r\n").expect(b"HELO\r\n")
    ae.sleep(0).recv()
    peer.stream.close()  # with the greeting unread
    with pytest.raises(AssertionError, match="the handle closed; still to be done"):
        peer.done.recv()


def test_a_script_fails_once(made: list[Handle]) -> None:
    peer = ScriptedPeer().expect(b"HELO\r\n")
    h = Handle(peer.stream)
    h.push_write(b"EHLO\r\n")
    with pytest.raises(AssertionError, match="expected b'HELO"):
        peer.done.recv()
    peer.expect(b"QUIT\r\n")
    h.destroy()
    ae.sleep(0).recv()
    with pytest.raises(AssertionError, match="expected b'HELO"):
        peer.done.recv()


def test_a_watcher_of_a_stream_in_memory_may_end_after_the_stream(trace: Trace) -> None:
    a, b = memory_pair()
    watcher = a.watch("r", lambda: trace("ready"))
    a.close()
    watcher.cancel()
    watcher.cancel()
    b.close()
    ae.sleep(0).recv()
    assert trace == []
