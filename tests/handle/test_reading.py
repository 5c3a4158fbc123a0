"""Requests, on_read and what is buffered: who gets which octets, and when."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import (
    NEED_MORE,
    BufferLimitExceeded,
    Chunk,
    Handle,
    Line,
    NeedMore,
    ReadBuffer,
    Regex,
    register_frame_type,
)
from ae_handle.testing import memory_pair

Half = Callable[..., tuple[Handle, socket.socket]]
Turns = Callable[..., None]


def test_lines_are_delivered_in_order(half: Half, trace: Trace) -> None:
    h, peer = half()
    for name in "abc":
        h.push_read("line", lambda h, line, name=name: trace(name, line))
    peer.sendall(b"1\r\n2\n3\n")
    trace.run_until(3)
    assert trace == [("a", b"1"), ("b", b"2"), ("c", b"3")]


def test_nothing_is_delivered_inside_push_read(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()
    peer.sendall(b"1\n2\n")
    h.push_read("line", lambda h, line: trace(line))
    trace.run_until(1)
    assert len(h.read_buffer) == 2
    h.push_read("line", lambda h, line: trace(line))  # it is buffered already
    trace("returned")
    turns()
    assert trace == [b"1", "returned", b"2"]


def test_requests_made_by_a_callback_come_after_it_unshifted_ones_first(
    half: Half, trace: Trace
) -> None:
    h, peer = half()

    def first(h: Handle, line: bytes) -> None:
        trace("L1 start")
        h.push_read("line", lambda h, line: trace("pushed", line))
        h.unshift_read("line", lambda h, line: trace("unshifted", line))
        trace("L1 end")

    h.push_read("line", first)
    h.push_read("line", lambda h, line: trace("L2", line))
    peer.sendall(b"1\n2\n3\n4\n")
    trace.run_until(5)
    assert trace == ["L1 start", "L1 end", ("unshifted", b"2"), ("L2", b"3"), ("pushed", b"4")]


def test_unshifted_requests_are_last_in_first_out(half: Half, trace: Trace) -> None:
    h, peer = half()
    for name in "abc":
        h.unshift_read("line", lambda h, line, name=name: trace(name))
    peer.sendall(b"\n\n\n")
    trace.run_until(3)
    assert trace == ["c", "b", "a"]


def test_a_reader_is_asked_at_once_and_with_every_arrival(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half()

    def reader(buf: ReadBuffer) -> bytes | NeedMore:
        trace(len(buf))
        return buf.take(4) if len(buf) >= 4 else NEED_MORE

    h.push_read(reader, lambda h, data: trace(data))
    assert trace == []
    turns()
    assert trace == [0]
    peer.sendall(b"ab")
    trace.run_until(2)
    peer.sendall(b"cd")
    trace.run_until(4)
    assert trace == [0, 2, 4, b"abcd"]


def test_a_chunk_of_nothing_needs_no_data(half: Half, trace: Trace) -> None:
    h, _ = half()
    h.push_read(Chunk(0), lambda h, data: trace(data))
    assert trace == []
    trace.run_until(1)
    assert trace == [b""]


@pytest.mark.parametrize("value", [None, False, 0, b""])
def test_false_values_are_values(half: Half, trace: Trace, value: object) -> None:
    h, _ = half()
    h.push_read(lambda buf: value, lambda h, got: trace(got))
    trace.run_until(1)
    assert trace == [value]
    assert trace[0] is value


def test_on_read_runs_while_it_consumes(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()

    def on_read(h: Handle) -> None:
        trace(bytes(h.read_buffer))
        if len(h.read_buffer) > 1:
            h.read_buffer.take(1)

    h.on_read = on_read
    peer.sendall(b"abc")
    turns()
    assert trace == [b"abc", b"bc", b"c"]
    peer.sendall(b"d")
    turns()
    assert trace[3:] == [b"cd", b"d"]


def test_on_read_waits_for_the_queue(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()

    def on_read(h: Handle) -> None:
        trace("on_read", h.read_buffer.take(1))
        h.push_read(Chunk(2), lambda h, data: trace("chunk", data))

    h.on_read = on_read
    peer.sendall(b"abbc")
    turns()
    assert trace == [("on_read", b"a"), ("chunk", b"bb"), ("on_read", b"c")]


def test_setting_on_read_with_data_buffered_calls_it_later(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half()
    peer.sendall(b"a\nrest")
    h.push_read("line", lambda h, line: trace(line))
    trace.run_until(1)
    h.on_read = lambda h: trace(h.read_buffer.take(len(h.read_buffer)))
    assert trace == [b"a"]
    turns()
    assert trace == [b"a", b"rest"]


def test_on_read_can_be_cleared(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_read=lambda h: trace(h.read_buffer.take(1)))
    peer.sendall(b"a")
    turns()
    h.on_read = None
    peer.sendall(b"b")
    turns()
    assert trace == [b"a"]
    assert h.push_read(Chunk(1)).recv() == b"b"


def test_an_idle_handle_does_not_read(half: Half, turns: Turns) -> None:
    h, peer = half()
    peer.sendall(b"x" * 100)
    turns()
    assert not h.read_buffer
    assert h._read_watcher is None


def test_stop_read_leaves_what_is_buffered_to_the_running_drain(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half()

    def first(h: Handle, line: bytes) -> None:
        trace(line)
        h.stop_read()

    h.push_read("line", first)
    h.push_read("line", lambda h, line: trace(line))
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"1\n2\n")
    turns()
    peer.sendall(b"3\n")
    turns()
    assert trace == [b"1", b"2"]
    h.start_read()
    trace.run_until(3)
    assert trace == [b"1", b"2", b"3"]


@pytest.mark.parametrize("how", ["push_read", "unshift_read", "on_read", "inside"])
def test_asking_for_something_starts_to_read_again(
    half: Half, trace: Trace, turns: Turns, how: str
) -> None:
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        h.stop_read()
        if how == "inside":
            h.push_read("line", lambda h, line: trace(line))

    h.push_read("line", line)
    peer.sendall(b"1\n")
    turns()
    peer.sendall(b"2\n")
    if how != "inside":
        turns()
        assert trace == [b"1"]
    if how == "push_read":
        h.push_read("line", lambda h, line: trace(line))
    elif how == "unshift_read":
        h.unshift_read("line", lambda h, line: trace(line))
    elif how == "on_read":
        h.on_read = lambda h: trace(h.read_buffer.take(2)[:1])
    trace.run_until(2)
    assert trace == [b"1", b"2"]


def test_stop_read_in_a_standing_reader(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        h.stop_read()

    h.read_each("line", line)
    peer.sendall(b"1\n2\n")
    turns()
    peer.sendall(b"3\n")
    turns()
    assert trace == [b"1", b"2"]
    h.start_read()
    turns()
    assert trace == [b"1", b"2", b"3"]


# ---------------------------------------------------------------------- limits


def test_max_read_buffer_is_looked_at_after_the_readers(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half(max_read_buffer=5, on_error=lambda h, error: trace(error.errno, error.fatal))
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"0123456789\n")  # longer than the limit, but whole
    trace.run_until(1)
    h.push_read(Chunk(10), lambda h, data: trace(data))
    peer.sendall(b"01234")
    turns()
    assert trace == [b"0123456789"]
    peer.sendall(b"5")
    turns()
    assert len(trace) == 2
    assert trace[1] == (BufferLimitExceeded().errno, True)
    assert h.is_destroyed


def test_the_default_limit_is_one_mebibyte(half: Half, until: Any, trace: Trace) -> None:
    h, peer = half(on_error=lambda h, error: trace(type(error), len(h.read_buffer)))
    assert h.max_read_buffer == 1 << 20
    h.push_read("line", lambda h, line: trace(line))
    peer.setblocking(False)
    sent = 0
    while not trace:
        try:
            sent += peer.send(b"x" * 65536)
        except BlockingIOError:
            ae.sleep(0).recv()
        except BrokenPipeError:
            break
    until(lambda: trace)
    assert trace[0][0] is BufferLimitExceeded
    assert 1 << 20 < trace[0][1] <= (1 << 20) + 65536


def test_an_idle_handle_may_hold_more_than_the_limit(half: Half, turns: Turns) -> None:
    h, peer = half(max_read_buffer=5)
    peer.sendall(b"1\n2\n3\n4\n5\n6\n")
    for number in b"1", b"2", b"3", b"4", b"5", b"6":
        assert h.push_read("line").recv() == number
        turns()


def test_the_limit_can_be_lifted_and_lowered(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(max_read_buffer=None, on_error=lambda h, error: trace(type(error)))
    h.push_read(Chunk(1 << 30), lambda h, data: None)
    peer.sendall(b"x" * 100)
    turns()
    assert trace == []
    h.max_read_buffer = 50
    assert trace == []
    turns()
    assert trace == [BufferLimitExceeded]


# ---------------------------------------------------------------------- names and objects


def test_frame_types_by_name_and_by_object(half: Half) -> None:
    h, peer = half()
    peer.sendall(b"[1]4:four,\x80A|x")
    assert h.push_read("json").recv() == [1]
    assert h.push_read("netstring").recv() == b"four"
    assert h.push_read(lambda buf: buf.take(1) if buf else NEED_MORE).recv() == b"\x80"
    assert h.push_read(Line(b"|")).recv() == b"A"
    assert h.push_read(Regex(b"x")).recv() == b"x"


class Pair:
    """A frame type of a third party: two octets."""

    def __call__(self, buf: ReadBuffer) -> bytes | NeedMore:
        return buf.take(2) if len(buf) >= 2 else NEED_MORE

    def encode(self, value: bytes) -> bytes:
        return value[:2].ljust(2, b"-")


def test_registered_types_are_read_and_written(half: Half) -> None:
    register_frame_type("test-pair", Pair)
    h, peer = half()
    h.push_write("test-pair", b"a")
    h.push_write(Pair(), b"bcd")
    assert peer.recv(10) == b"a-bc"
    peer.sendall(b"xyz!")
    assert h.push_read("test-pair").recv() == b"xy"
    assert h.push_read(Pair()).recv() == b"z!"


@pytest.mark.parametrize("method", ["push_read", "unshift_read", "read_each", "each"])
def test_a_reader_that_is_none_is_refused_at_once(half: Half, method: str) -> None:
    h, _ = half()
    arguments = [lambda h, value: None] if method == "read_each" else []
    with pytest.raises(ValueError, match="unknown frame type 'nosuch'"):
        getattr(h, method)("nosuch", *arguments)
    with pytest.raises(TypeError, match="expected a frame type, its name or a callable, got 5"):
        getattr(h, method)(5, *arguments)
    assert h.statistics().requests == 0


@pytest.mark.parametrize("method", ["push_read", "unshift_read", "read_each"])
def test_a_callback_that_is_none_is_refused_at_once(half: Half, method: str) -> None:
    h, _ = half()
    with pytest.raises(TypeError, match="expected a callable, got 5"):
        getattr(h, method)("line", 5)


def test_a_condvar_may_serve_as_a_callback(half: Half) -> None:
    h, peer = half()
    got = ae.CondVar[Any]()
    h.push_read("line", got)
    peer.sendall(b"hi\n")
    assert got.recv() == (h, b"hi")


def test_coders_belong_to_the_handle(join: Any) -> None:
    class Upper:
        @staticmethod
        def loads(data: bytes) -> str:
            return data.decode().upper()

        @staticmethod
        def dumps(value: str) -> bytes:
            return value.encode()

    a, b = join({"json": Upper(), "cbor": Upper()}, {"json": Upper()})
    b.push_write("json", '"x"')
    assert a.push_read("json").recv() == '"X"'
    b.push_write(b"\x61x")
    assert a.push_read("cbor").recv() == "AX"


def test_a_coder_can_be_changed(half: Half) -> None:
    class Reversed:
        @staticmethod
        def loads(data: bytes) -> str:
            return data.decode()[::-1]

        @staticmethod
        def dumps(value: str) -> bytes:
            return value[::-1].encode()

    h, peer = half()
    assert (h.json, h.cbor) == (None, None)
    coder = Reversed()
    h.json = h.cbor = coder
    assert (h.json, h.cbor) == (coder, coder)
    peer.sendall(b"[12]\x61x[12]")
    assert h.push_read("json").recv() == "]21["
    assert h.push_read("cbor").recv() == "xa"
    h.json = None
    assert h.json is None
    assert h.push_read("json").recv() == [12]
    with pytest.raises(TypeError, match="expected cbor as an object with loads"):
        h.cbor = 5  # type: ignore[assignment]


def test_a_coder_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="expected json as an object with loads"):
        Handle(connect=("localhost", 1), json=5)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- sizes


def test_the_read_size_grows_when_it_was_filled(half: Half, turns: Turns) -> None:
    h, peer = half(read_size=4, max_read_size=100, on_read=lambda h: h.read_buffer.clear())
    peer.sendall(b"xyz")
    turns()
    assert h.read_size == 4
    sizes = []
    for _ in range(6):
        peer.sendall(b"x" * h.read_size)
        turns()
        sizes.append(h.read_size)
    assert sizes == [8, 16, 32, 64, 100, 100]
    h.max_read_size = 10
    assert h.read_size == 10
    h.read_size = 5000
    assert h.read_size == 10


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 65536])
def test_a_conversation_is_the_same_however_it_is_cut(
    made: list[Handle], trace: Trace, turns: Turns, piece: int
) -> None:
    a, b = memory_pair(piece=piece)
    h = Handle(a, on_eof=lambda h: trace("eof"))
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        if line.startswith(b"data "):
            h.unshift_read(Chunk(int(line[5:])), lambda h, data: trace("data", data))

    h.read_each("line", line)
    b.send(b"hello\r\ndata 6\r\n1\n2\r\nxbye\n")
    b.close()
    turns(200)
    assert trace == [b"hello", b"data 6", ("data", b"1\n2\r\nx"), b"bye", "eof"]


def test_what_a_reader_has_noted_is_not_the_next_ones(
    half: Half, trace: Trace, turns: Turns
) -> None:
    def first(buf: ReadBuffer) -> str:
        buf.state = "mine"
        return "nothing consumed"

    def second(buf: ReadBuffer) -> bytes:
        trace(buf.state)
        return buf.take(1)

    h, peer = half()
    h.push_read(first, lambda h, value: trace(value))
    h.push_read(second, lambda h, value: trace(value))
    peer.sendall(b"x")
    turns()
    assert trace == ["nothing consumed", None, b"x"]
