"""Writing: when octets leave, joined with what, and who is told (HANDLE-50 to 62)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import BufferLimitExceeded, Chunk, Handle, HandleDestroyed, NetString
from ae_handle.testing import MemoryStream, memory_pair

Half = Callable[..., tuple[Handle, socket.socket]]
Turns = Callable[..., None]


class Counting(MemoryStream):
    """A stream that remembers what it was given in one go."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.sends: list[bytes] = []

    def send(self, data: bytes | memoryview) -> int:
        count = super().send(data)
        self.sends.append(bytes(data[:count]))
        return count


@pytest.fixture
def counting(made: list[Handle]) -> Callable[..., tuple[Handle, Counting, MemoryStream]]:
    def make(capacity: int = 65536, **options: Any) -> tuple[Handle, Counting, MemoryStream]:
        ours, peer = Counting(capacity=capacity), MemoryStream(capacity=capacity)
        ours.peer, peer.peer = peer, ours
        h = Handle(ours, **options)
        made.append(h)
        return h, ours, peer

    return make


def test_outside_a_read_callback_octets_leave_at_once(half: Half) -> None:
    h, peer = half()
    h.push_write(b"now")
    assert peer.recv(10) == b"now"


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_anything_bytes_like_is_written(half: Half, data: Any) -> None:
    h, peer = half()
    h.push_write(data)
    assert peer.recv(10) == b"abc"


def test_mutable_data_is_copied(half: Half, turns: Turns) -> None:
    h, peer = half(autocork=True)
    data = bytearray(b"abc")
    h.push_write(data)
    data[:] = b"xyz"
    turns()
    assert peer.recv(10) == b"abc"


@pytest.mark.parametrize("data", ["text", 5, None, ["a"]])
def test_what_is_no_octets_is_refused(half: Half, data: Any) -> None:
    h, _ = half()
    with pytest.raises(TypeError, match="bytes-like"):
        h.push_write(data)


def test_values_are_written_by_frame_types(half: Half) -> None:
    h, peer = half()
    h.push_write("json", {"a": None})
    h.push_write("netstring", b"x")
    h.push_write(NetString(), b"y")
    h.push_write("line", b"z")
    assert peer.recv(100) == b'{"a":null}1:x,1:y,z\r\n'
    with pytest.raises(ValueError, match="unknown frame type 'nosuch'"):
        h.push_write("nosuch", 1)
    with pytest.raises(TypeError, match="can be written"):
        h.push_write(lambda buf: None, 1)  # type: ignore[call-overload]


def test_writes_of_one_drain_are_one_send(counting: Any, turns: Turns) -> None:
    h, ours, peer = counting()
    h.read_each("line", lambda h, line: h.push_write(line + b"!"))
    peer.send(b"1\n2\n3\n")
    turns()
    assert ours.sends == [b"1!2!3!"]


def test_writes_of_queued_callbacks_are_one_send(counting: Any, turns: Turns) -> None:
    h, ours, peer = counting()

    def line(h: Handle, line: bytes) -> None:
        h.push_write(line)
        h.push_write(b"!")
        h.push_read("line", line_again)

    line_again = line
    h.push_read("line", line)
    peer.send(b"1\n2\n3\n")
    turns()
    assert ours.sends == [b"1!2!3!"]
    peer.send(b"4\n")
    turns()
    assert ours.sends[1:] == [b"4!"]


def test_autocork_sends_in_the_next_turn(counting: Any, turns: Turns) -> None:
    h, ours, _ = counting(autocork=True)
    h.push_write(b"a")
    h.push_write(b"b")
    assert ours.sends == []
    turns()
    assert ours.sends == [b"ab"]
    h.autocork = False
    h.push_write(b"c")
    assert ours.sends == [b"ab", b"c"]


def test_order_is_kept_when_the_kernel_is_full(counting: Any, turns: Turns) -> None:
    h, _, peer = counting(capacity=10)
    for i in range(20):
        h.push_write(b"%02d" % i)
    assert len(h._write.queue) == 30
    got = b""
    while len(got) < 40:
        try:
            got += peer.recv(7)
        except BlockingIOError:
            turns(1)
    assert got == b"".join(b"%02d" % i for i in range(20))
    assert h.statistics().unsent == 0


def test_a_drain_that_fills_the_kernel_goes_on(counting: Any, turns: Turns) -> None:
    h, _, peer = counting(capacity=10)
    h.read_each("line", lambda h, line: h.push_write(line * 10))
    peer.send(b"ab\ncd\n")
    got = b""
    while len(got) < 40:
        turns(2)
        try:
            got += peer.recv(100)
        except BlockingIOError:
            continue
    assert got == b"ab" * 10 + b"cd" * 10


# ---------------------------------------------------------------------- on_drain


def test_on_drain_is_called_at_the_start_and_after_each_emptying(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, _ = half(on_drain=lambda h: trace("drain"))
    assert trace == []
    turns()
    assert trace == ["drain"]
    h.push_write(b"x")
    assert trace == ["drain"]
    turns()
    assert trace == ["drain", "drain"]
    h.push_write(b"")
    turns()
    assert trace == ["drain", "drain"]


def test_on_drain_set_while_empty_is_called(half: Half, trace: Trace, turns: Turns) -> None:
    h, _ = half()
    h.push_write(b"x")
    turns()
    h.on_drain = lambda h: trace("drain")
    assert trace == []
    turns()
    assert trace == ["drain"]


def test_on_drain_set_while_unsent_waits(counting: Any, trace: Trace, turns: Turns) -> None:
    h, _, peer = counting(capacity=4)
    h.push_write(b"123456")
    h.on_drain = lambda h: trace("drain")
    turns()
    assert trace == []
    peer.recv(4)
    turns()
    assert trace == ["drain"]


def test_writes_in_on_drain_follow_one_another(half: Half, trace: Trace, turns: Turns) -> None:
    """A loop instead of a recursion; the octets are in the same order (HANDLE-52)."""

    def drain(h: Handle) -> None:
        if len(trace) < 3:
            trace(len(trace))
            h.push_write(b"%d" % len(trace))
            trace("pushed")

    _, peer = half(on_drain=drain)
    turns()
    assert trace == [0, "pushed", 2, "pushed"]
    assert peer.recv(10) == b"13"


def test_three_drains_in_order_before_the_reader(join: Any, trace: Trace) -> None:
    """Upstream's handle/02_write (AH2)."""

    def first(h: Handle) -> None:
        trace(1)
        h.on_drain = None
        h.push_write(b"Y")
        h.on_drain = second

    def second(h: Handle) -> None:
        trace(2)
        h.on_drain = None
        h.push_write(b"Z")
        h.on_drain = third

    def third(h: Handle) -> None:
        trace(3)
        h.on_drain = None

    writer, reader = join()
    reader.push_read(Chunk(5132), lambda h, data: trace(data))
    writer.push_write(b"A" * 5000)
    writer.push_write(b"X" * 130)
    writer.on_drain = first
    trace.run_until(4)
    assert trace[:3] == [1, 2, 3]
    assert trace[3] == b"A" * 5000 + b"X" * 130 + b"YZ"


def test_an_endless_on_drain_lets_others_run(half: Half, until: Any) -> None:
    h, peer = half()
    read = 0
    peer.setblocking(False)

    def drain(h: Handle) -> None:
        h.push_write(b"x" * 1000)

    def consume() -> None:
        nonlocal read
        try:
            read += len(peer.recv(1 << 20))
        except BlockingIOError:
            return

    watcher = ae.io(peer, "r", consume)
    fired = ae.CondVar[None]()
    timer = ae.timer(0.01, fired)
    h.on_drain = drain
    fired.recv(10)
    until(lambda: read > 100_000)
    h.on_drain = None
    watcher.cancel()
    timer.cancel()


def test_unsent_counts_what_the_kernel_has_not_taken(
    counting: Any, trace: Trace, turns: Turns
) -> None:
    h, _, peer = counting(capacity=10)
    assert h.unsent == 0
    h.push_write(b"x" * 30)
    assert h.unsent == 20
    assert peer.recv(10) == b"x" * 10
    turns()
    assert h.unsent == 10
    h.push_read("line", lambda h, line: (h.push_write(line), trace(h.unsent)))
    peer.send(b"four\n")
    turns()
    assert trace == [14]  # what a callback has pushed counts before it is offered
    peer.recv(10)
    turns()
    peer.recv(10)
    turns()
    assert h.unsent == 0


def test_unsent_counts_what_waits_for_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        h = Handle(connect=server.getsockname())
        h.push_write(b"hello")
        assert h.unsent == 5
        h.drained().recv()
        assert h.unsent == 0
        h.destroy()


def test_low_water_mark(counting: Any, trace: Trace, turns: Turns) -> None:
    h, _, peer = counting(
        capacity=10, low_water_mark=5, on_drain=lambda h: trace(h.statistics().unsent)
    )
    turns()
    assert trace == [0]
    h.push_write(b"x" * 30)
    turns()
    for size in (10, 5, 5):
        peer.recv(size)
        turns()
    assert trace == [0, 0] or trace == [0, 5]
    assert len(trace) == 2


@pytest.mark.parametrize("mark", [-1, "5", 1.5])
def test_a_mark_that_is_none_is_refused(half: Half, mark: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="low_water_mark"):
        Handle(connect=("localhost", 1), low_water_mark=mark)


# ---------------------------------------------------------------------- drained()


def test_drained_is_never_ready_at_once(half: Half) -> None:
    h, _ = half()
    condvar = h.drained()
    assert not condvar.ready
    assert condvar.recv() is None


def test_drained_waits_for_what_is_unsent(counting: Any, trace: Trace, turns: Turns) -> None:
    h, _, peer = counting(capacity=4)
    h.push_write(b"123456")
    condvar = h.drained()
    turns()
    assert not condvar.ready
    peer.recv(4)
    turns()
    assert condvar.ready


def test_drained_does_not_call_on_drain(half: Half, trace: Trace, turns: Turns) -> None:
    h, _ = half(on_drain=lambda h: trace("drain"))
    turns()
    h.drained().recv()
    turns()
    assert trace == ["drain"]


def test_drained_raises_what_ends_the_handle(counting: Any, turns: Turns) -> None:
    h, _, _ = counting(capacity=4)
    h.push_write(b"123456")
    condvar = h.drained()
    h.linger = 0
    h.destroy()
    assert not condvar.ready
    with pytest.raises(HandleDestroyed):
        condvar.recv()
    with pytest.raises(HandleDestroyed):
        h.drained().recv()


def test_drained_can_be_cancelled(counting: Any, turns: Turns) -> None:
    h, _, peer = counting(capacity=4)
    h.push_write(b"123456")
    h.drained().cancel()
    peer.recv(4)
    turns()
    assert h.statistics().unsent == 0


# ---------------------------------------------------------------------- limits, shutdown


def test_max_write_buffer_counts_what_the_kernel_does_not_take(
    counting: Any, trace: Trace, turns: Turns
) -> None:
    h, _, _ = counting(
        capacity=10,
        max_write_buffer=5,
        on_error=lambda h, error: trace(error.errno, error.fatal),
    )
    h.push_write(b"x" * 15)
    turns()
    assert trace == []
    h.push_write(b"y")
    assert trace == []  # never inside the call
    turns()
    assert trace == [(errno.ENOSPC, True)]
    h.linger = 0


def test_max_write_buffer_holds_during_a_drain(counting: Any, trace: Trace, turns: Turns) -> None:
    h, _, peer = counting(
        capacity=10, max_write_buffer=5, on_error=lambda h, error: trace(type(error))
    )
    h.linger = 0
    h.read_each("line", lambda h, line: h.push_write(b"x" * 16))
    peer.send(b"\n")
    turns()
    assert trace == [BufferLimitExceeded]


def test_max_write_buffer_with_autocork(counting: Any, trace: Trace, turns: Turns) -> None:
    h, ours, _ = counting(
        capacity=10, max_write_buffer=5, autocork=True, on_error=lambda h, error: trace("error")
    )
    h.push_write(b"x" * 4)
    h.push_write(b"x" * 4)
    turns()
    assert ours.sends == [b"x" * 8]
    assert trace == []


def test_push_shutdown_ends_the_write_side_when_all_is_sent(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half(on_drain=lambda h: trace("drain"))
    turns()
    h.push_write(b"last")
    h.push_shutdown()
    h.push_shutdown()
    turns()
    assert peer.recv(10) == b"last"
    assert peer.recv(10) == b""
    assert trace == ["drain"]
    with pytest.raises(RuntimeError, match="after push_shutdown"):
        h.push_write(b"too late")
    peer.sendall(b"reply\n")
    assert h.push_read("line").recv() == b"reply"


def test_push_shutdown_waits_for_the_kernel(counting: Any, turns: Turns) -> None:
    h, ours, peer = counting(capacity=4)
    h.push_write(b"123456")
    h.push_shutdown()
    turns()
    assert not ours.shut
    assert peer.recv(4) == b"1234"
    turns()
    assert ours.shut
    assert peer.recv(4) == b"56"
    assert peer.recv(4) == b""


def test_a_write_that_only_the_kernel_sees_fail(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair(capacity=4)
    h = Handle(ours, on_error=lambda h, error: trace(error.errno))
    made.append(h)
    h.push_write(b"123456")
    turns()
    peer.close()
    turns()
    assert trace == [errno.EPIPE]


def test_who_is_told_first_may_cancel_another_that_waits_for_the_same(
    half: Half, hooked: list[str], turns: Turns
) -> None:
    h, _ = half()
    first, second = h.drained(), h.drained()
    first.on_ready(lambda condvar: second.cancel())
    turns()
    assert first.ready
    assert second.cancelled
    assert hooked == []
