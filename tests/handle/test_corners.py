"""Rare turns of events: each was once wrong, or looks as if it might be."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, binding, virtual_time
from ae_handle import Chunk, Handle, HandleError, Line, ReadBuffer
from ae_handle.testing import MemoryStream, handle_pair, lingering, memory_pair

Turns = Callable[..., None]


class Refusing(MemoryStream):
    """A stream whose next sends fail as told: an error number, or how many octets it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: list[int] = []
        self.sizes: list[int] = []

    def send(self, data: bytes | memoryview) -> int:
        if self.plan:
            what = self.plan.pop(0)
            if what < 0:
                raise OSError(-what, "as told")
            data = data[:what]
        size = super().send(data)
        self.sizes.append(size)
        return size


@pytest.fixture
def echo(made: list[Handle], trace: Trace) -> tuple[Handle, Refusing, MemoryStream]:
    """A server of lines in the fastest lane there is."""
    ours, peer = Refusing(), MemoryStream()
    ours.peer, peer.peer = peer, ours
    h = Handle(ours, on_error=lambda h, error: trace(error.errno))
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        h.push_write(line)
        h.push_write(b"!")
        h.push_read("line", line_again)

    line_again = line
    h.push_read("line", line)
    return h, ours, peer


def answer_in(way: str, h: Handle) -> None:
    """Have *h* answer in one of its ways, each with its own code for what is sent."""
    if way == "pieces":
        return

    def line(h: Handle, line: bytes) -> None:
        h.push_write(line + b"!")
        if way == "one piece":
            h.push_read("line", line_again)

    line_again = line
    h._read.queue.clear()
    if way == "one piece":
        h.push_read("line", line)
    elif way == "each":
        h.read_each("line", line)
    else:
        h.on_read = lambda h: h.push_write(h.read_buffer.take(4)[:3] + b"!")


WAYS = ["pieces", "one piece", "each", "on_read"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("plan", [[-errno.EAGAIN], [-errno.EINTR], [1], [0], [1, -errno.EAGAIN, 1]])
def test_an_answer_that_does_not_go_at_once_goes_later(
    echo: Any, turns: Turns, plan: list[int], way: str
) -> None:
    h, ours, peer = echo
    answer_in(way, h)
    turns()
    ours.plan = plan.copy()
    peer.send(b"one\n")
    turns()
    peer.send(b"two\n")
    turns()
    assert peer.recv(100) == b"one!two!"
    assert h.statistics().unsent == 0


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_cannot_be_sent_is_an_error(
    echo: Any, trace: Trace, turns: Turns, way: str
) -> None:
    h, ours, peer = echo
    answer_in(way, h)
    turns()
    ours.plan = [-errno.EPIPE]
    peer.send(b"one\n")
    turns()
    assert trace == [errno.EPIPE]


def test_a_limit_holds_in_the_fastest_lane(echo: Any, trace: Trace, turns: Turns) -> None:
    h, ours, peer = echo
    h.max_write_buffer = 2
    turns()
    ours.plan = [1]
    peer.send(b"one\n")
    turns(1)
    ours.plan = [0] * 100
    turns(3)
    assert trace in ([], [errno.ENOSPC])
    h.linger = 0


def test_an_answer_bigger_than_a_block_goes_in_order(echo: Any, turns: Turns) -> None:
    h, ours, peer = echo
    ours.capacity = peer.capacity = 1 << 30
    h._read.queue.clear()
    parts = [bytes([i]) * 200_000 for i in range(5)]

    def line(h: Handle, line: bytes) -> None:
        for part in parts:
            h.push_write(part)
        h.push_read("line", line)

    h.push_read("line", line)
    peer.send(b"go\n")
    turns()
    got = b""
    while len(got) < 1_000_000:
        got += peer.recv(1 << 16)
    assert got == b"".join(parts)


def test_several_requests_wait_for_single_lines(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)
    for name in "abc":
        h.push_read("line", lambda h, line, name=name: trace(name, line))
    for line in (b"1\n", b"2\r\n", b"\n"):
        peer.send(line)
        turns()
    assert trace == [("a", b"1"), ("b", b"2"), ("c", b"")]


def test_a_callback_in_the_fastest_lane_may_raise(
    made: list[Handle], trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook"))
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        h.push_read("line", line_again)
        h.push_write(line)
        raise RuntimeError

    line_again = line
    h.push_read("line", line)
    peer.send(b"1\n")
    turns()
    peer.send(b"2\n")
    turns()
    assert trace == ["hook", "hook"]
    assert peer.recv(10) == b"12"


@pytest.mark.parametrize("count", range(4, 8))
def test_many_queued_lines_and_the_first_part_of_a_long_one(
    made: list[Handle], trace: Trace, turns: Turns, count: int
) -> None:
    """After a few lines in a row the rest would be split at once, but there is none."""
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)
    for _ in range(count + 2):
        h.push_read("line", lambda h, line: trace(line[:5]))
    peer.send(b"".join(b"%d\n" % i for i in range(count)) + b"long " * 200)
    turns()
    assert len(h.read_buffer) == 1000
    peer.send(b"\nlast\n")
    turns()
    assert trace == [*(b"%d" % i for i in range(count)), b"long ", b"last"]


def test_one_of_many_queued_callbacks_may_raise(
    made: list[Handle], trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook"))
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        trace(int(line))
        if int(line) % 20 == 10:
            raise RuntimeError

    for _ in range(60):
        h.push_read("line", line)
    peer.send(b"".join(b"%020d\n" % i for i in range(60)))
    turns()
    for i in (10, 30, 50):
        assert trace.pop(i + 1) == "hook"
    assert trace == list(range(60))


def test_what_is_unread_is_counted_while_lines_are_handed_out(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)
    h.read_each("line", lambda h, line: trace(line, h.statistics().unread))
    peer.send(b"1\n22\n333\n4")
    turns()
    assert trace == [(b"1", 8), (b"22", 5), (b"333", 1)]


def test_lines_from_a_buffer_that_grew_octet_by_octet(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """The buffer is a bytearray then, and what comes out is bytes all the same."""
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)
    h.push_read("line", lambda h, line: trace(type(line), len(line)))
    h.push_read("line", lambda h, line: trace(type(line), line))
    for _ in range(600):
        peer.send(b"x")
        turns(1)
    peer.send(b"\nnext\nrest")
    turns()
    assert trace == [(bytes, 600), (bytes, b"next")]
    assert bytes(h.read_buffer) == b"rest"
    h.read_each("line", lambda h, line: trace(type(line), line))
    peer.send(b"\n")
    turns()
    assert trace[-1] == (bytes, b"rest")


def test_small_pieces_behind_big_ones() -> None:
    buf = ReadBuffer()
    for size in (5000, 6000, 10, 7000):
        buf.feed(b"x" * size)
    assert buf.peek(11_005) == b"x" * 11_005
    assert len(buf) == 18_010
    buf.feed(b"\n")
    assert Line()(buf) == b"x" * 18_010


def test_a_big_bytearray_is_shortened_in_front() -> None:
    buf = ReadBuffer()
    for _ in range(300):
        buf.feed(b"y" * 1000)
    while len(buf) > 1000:
        assert buf.take(1000) == b"y" * 1000
    assert bytes(buf) == b"y" * 1000


def test_a_view_that_is_kept_does_not_stop_the_buffer() -> None:
    buf = ReadBuffer(b"x" * 300)
    buf.feed(b"y")
    view = buf.view()
    buf.feed(b"z" * 10)
    assert len(buf) == 311
    assert len(view) == 301


# ---------------------------------------------------------------------- lifetimes


def test_a_handle_collected_after_its_loop_in_another_thread() -> None:
    a, b = socket.socketpair()
    handles = []
    with binding("loop"):
        handles.append(Handle(a, on_read=lambda h: None))
    thread = threading.Thread(target=handles.clear)
    thread.start()
    thread.join()
    assert a.fileno() == -1
    b.close()


def test_a_time_out_of_a_forgotten_handle_does_nothing(unbound: None, trace: Trace) -> None:
    with virtual_time() as clock:
        a, _ = memory_pair()
        h = Handle(a, timeout=5, on_timeout=lambda h: trace("timeout"))
        del h
        clock.advance(20)
    assert trace == []


def test_an_unanswered_stop_of_a_forgotten_handle(unbound: None, certificates: Any) -> None:
    with virtual_time() as clock:
        a, b = memory_pair()
        h = Handle(a, tls="connect", tls_context=certificates.client(), peer_name="peer.test")
        other = Handle(b, tls="accept", tls_context=certificates.server())
        clock.advance(1)
        other.stop_read()
        b._watchers.clear()  # the peer hangs
        h.stop_tls()
        del h
        clock.advance(60)
        other.destroy()
        clock.advance(10)
        assert not lingering()


def test_closing_that_fails_is_no_error_of_ours(trace: Trace) -> None:
    class Stubborn(MemoryStream):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, "lost on the way")

        def shutdown(self, how: int) -> None:
            super().shutdown(how)
            raise OSError(errno.ENOTCONN, "gone already")

    a, b = Stubborn(), MemoryStream()
    a.peer, b.peer = b, a
    h = Handle(a)
    h.push_shutdown()
    ae.sleep(0).recv()
    assert a.shut
    h.destroy()
    assert a.closed


def test_repr_of_a_handle_that_was_never_made() -> None:
    h = Handle.__new__(Handle)
    assert repr(h) == "<Handle>"


# ---------------------------------------------------------------------- nested


def test_an_ended_inner_handle_does_not_spin_under_a_full_one(
    made: list[Handle], turns: Turns
) -> None:
    """The peer has ended its side and reads nothing: we wait for room, we do not ask for it."""
    a, b = memory_pair(capacity=10)
    inner = Handle(a)
    outer = Handle(inner, on_eof=lambda h: None, on_read=lambda h: None)
    made += [inner, outer]
    b.shutdown(1)
    turns()
    outer.push_write(bytes(1 << 20))
    turns()
    inner_stream = outer._stream
    stream_send = inner_stream.send
    asked = 0

    def send(data: Any) -> int:
        nonlocal asked
        asked += 1
        return stream_send(data)

    outer._stream = type("Counting", (), {"send": staticmethod(send), "recv": inner_stream.recv})()
    turns(30)
    outer._stream = inner_stream
    assert asked == 0
    outer.linger = inner.linger = 0


def test_a_write_to_a_broken_inner_handle_fails(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    a, _ = memory_pair()
    inner = Handle(a)
    outer = Handle(inner, on_error=lambda h, error: trace(error.errno))
    made += [inner, outer]
    inner.on_read = lambda h: None
    inner.watch_eof = True
    turns()
    a.break_off(errno.ECONNRESET)
    turns()
    outer.push_write(b"x")
    turns()
    assert trace == [errno.ECONNRESET]
    assert "destroyed" in repr(outer)


def test_a_lifted_limit_in_a_callback(made: list[Handle], trace: Trace, turns: Turns) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, max_read_buffer=5, on_error=lambda h, error: trace("error"))
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        h.max_read_buffer = None
        h.max_write_buffer = 10
        h.low_water_mark = 5
        h.push_read(Chunk(100), lambda h, data: trace(len(data)))

    h.push_read("line", line)
    peer.send(b"1\n" + b"x" * 50)
    turns()
    peer.send(b"x" * 50)
    turns()
    assert trace == [100]


def test_errors_before_the_connection_limit(
    made: list[Handle], trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ae_socket

    monkeypatch.setattr(ae_socket, "tcp_connect", lambda *args, **options: ae.CondVar())
    h = Handle(
        connect=("peer.test", 1),
        max_write_buffer=3,
        on_error=lambda h, error: trace(error.errno),
    )
    made.append(h)
    h.push_write(b"123")
    turns()
    assert trace == []
    h.push_write(b"4")
    assert trace == []
    turns()
    assert trace == [errno.ENOSPC]
    assert h.is_destroyed
    g = Handle(connect=("peer.test", 1))
    made.append(g)
    g.max_write_buffer = 3
    g.push_write(b"1234")
    with pytest.raises(HandleError):
        g.push_read("line").recv()


def test_an_endless_chain_of_things_due_lets_others_run(made: list[Handle]) -> None:
    """on_drain that pushes a read that is satisfied at once, for ever."""
    a, b = handle_pair()
    made += [a, b]

    def drain(h: Handle) -> None:
        h.push_read(Chunk(0), lambda h, data: None)
        h.push_write(b"x")

    b.on_read = lambda h: h.read_buffer.clear()
    a.on_drain = drain
    drains = 0
    original = drain

    def counted(h: Handle) -> None:
        nonlocal drains
        drains += 1
        original(h)

    a.on_drain = counted
    ae.sleep(0).recv(10)
    ae.sleep(0).recv(10)
    assert 0 < drains < 100  # a few rounds in each turn
    a.on_drain = None
