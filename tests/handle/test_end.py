"""How a handle ends: destroyed, forgotten, lingering (HANDLE-30 to 32, B121 to B123)."""

from __future__ import annotations

import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, binding, virtual_time
from ae_handle import Chunk, Handle, HandleDestroyed
from ae_handle.testing import MemoryStream, end_lingering, lingering, memory_pair

Half = Callable[..., tuple[Handle, socket.socket]]
Turns = Callable[..., None]


def test_destroy_closes_the_stream_and_calls_nobody(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(
        on_error=lambda h, error: trace("error"),
        on_eof=lambda h: trace("eof"),
        on_drain=lambda h: trace("drain"),
    )
    h.push_read("line", lambda h, line: trace("line"))
    sock = h.socket
    h.destroy()
    h.destroy()
    assert h.is_destroyed
    assert h.socket is None
    assert sock.fileno() == -1
    assert peer.recv(1) == b""
    turns()
    assert trace == []
    assert repr(h) == "<Handle destroyed requests=0 unread=0 unsent=0>"


def test_methods_of_a_destroyed_handle_do_nothing(half: Half, trace: Trace, turns: Turns) -> None:
    h, _ = half()
    h.destroy()
    h.push_write(b"x")
    h.push_write("json", 1)
    h.push_read("line", lambda h, line: trace(line))
    h.unshift_read("line", lambda h, line: trace(line))
    h.read_each("line", lambda h, line: trace(line))
    h.on_read = lambda h: trace("on_read")
    h.on_drain = lambda h: trace("on_drain")
    h.on_eof = lambda h: trace("on_eof")
    h.timeout = h.read_timeout = h.write_timeout = 0.001
    h.timeout_reset()
    h.max_read_buffer = 1
    h.no_delay = h.keepalive = h.oob_inline = True
    h.start_read()
    h.stop_read()
    h.push_shutdown()
    h.start_tls("connect")
    h.stop_tls()
    h.clear_callbacks()
    assert h.tls is None
    assert h.on_read is None
    assert not h.read_buffer
    turns()
    assert trace == []


@pytest.mark.parametrize("method", ["push_read", "unshift_read"])
def test_awaited_operations_of_a_destroyed_handle_raise(half: Half, method: str) -> None:
    h, _ = half()
    pending = getattr(h, method)("line")
    h.destroy()
    late = getattr(h, method)("line")
    assert not pending.ready  # never inside the call
    assert not late.ready
    for condvar in (pending, late):
        with pytest.raises(HandleDestroyed):
            condvar.recv()


def test_destroy_inside_a_callback_stops_the_drain(half: Half, trace: Trace, turns: Turns) -> None:
    for standing in (False, True):
        trace.clear()

        def line(h: Handle, line: bytes) -> None:
            trace(line)
            h.destroy()
            h.push_write(b"x")
            h.push_read(Chunk(0), lambda h, data: trace("never"))

        h, peer = half()
        if standing:
            h.read_each("line", line)
        else:
            h.push_read("line", line)
            h.push_read("line", line)
        peer.sendall(b"1\n2\n")
        turns()
        assert trace == [b"1"]
        assert peer.recv(10) == b""


# ---------------------------------------------------------------------- forgetting


def test_a_forgotten_handle_is_gone_at_once(turns: Turns) -> None:
    a, b = socket.socketpair()
    h = Handle(a, on_read=lambda h: None, timeout=1000)
    seen = weakref.ref(h)
    turns()
    gc.disable()
    try:
        del h
        assert seen() is None
        assert a.fileno() == -1
        assert b.recv(1) == b""
    finally:
        gc.enable()
        b.close()


def test_a_callback_that_runs_keeps_the_handle_alive(trace: Trace, turns: Turns) -> None:
    """Forgetting the last reference in a callback: the running drain goes on (B122)."""
    a, b = socket.socketpair()
    handles: list[Handle] = [Handle(a)]

    def line(h: Handle, line: bytes) -> None:
        handles.clear()
        trace(line)

    handles[0].push_read("line", line)
    handles[0].push_read("line", lambda h, line: trace(line))
    b.sendall(b"1\n2\n")
    turns()
    assert trace == [b"1", b"2"]
    assert a.fileno() == -1
    b.close()


def test_a_pending_read_keeps_the_handle_alive() -> None:
    a, b = socket.socketpair()
    condvar = Handle(a).push_read("line")
    gc.collect()
    b.sendall(b"still here\n")
    assert condvar.recv() == b"still here"
    assert a.fileno() == -1
    b.close()


def test_a_pending_read_needs_no_reference_at_all(trace: Trace) -> None:
    a, b = socket.socketpair()
    Handle(a).push_read("line").on_ready(lambda condvar: trace(condvar.recv()))
    gc.collect()
    b.sendall(b"still here\n")
    trace.run_until(1)
    assert trace == [b"still here"]
    b.close()


def test_cancelling_the_last_read_lets_the_handle_go() -> None:
    a, b = socket.socketpair()
    condvar = Handle(a).push_read("line")
    condvar.cancel()
    assert a.fileno() == -1
    b.close()


def test_a_handle_collected_in_another_thread_is_closed_in_its_own(until: Any) -> None:
    a, b = socket.socketpair()
    handles = [Handle(a, on_read=lambda h: None)]
    thread = threading.Thread(target=handles.clear)
    thread.start()
    thread.join()
    until(lambda: a.fileno() == -1)
    b.close()


def test_a_cycle_is_collected(turns: Turns) -> None:
    a, b = socket.socketpair()

    def make() -> weakref.ref[Handle]:
        h = Handle(a)
        h.on_read = lambda _: h.push_write(b"x")  # refers to itself by name
        return weakref.ref(h)

    seen = make()
    assert seen() is not None
    gc.collect()
    assert seen() is None
    assert a.fileno() == -1
    b.close()


def test_with_destroys(half: Half) -> None:
    h, _ = half()
    with h as same:
        assert same is h
    assert h.is_destroyed


# ---------------------------------------------------------------------- lingering

BIG = 64_000_000 if os.name == "nt" else 2_000_000  # more than the kernel takes


def read_all(peer: socket.socket) -> int:
    peer.setblocking(False)
    total = 0
    done = ae.CondVar[None]()

    def readable() -> None:
        nonlocal total
        data = peer.recv(1 << 16)
        total += len(data)
        if not data:
            done.send()

    watcher = ae.io(peer, "r", readable)
    done.recv(30)
    watcher.cancel()
    return total


@pytest.mark.parametrize("how", ["destroy", "forget"])
def test_unsent_octets_arrive_after_the_handle(how: str, until: Any) -> None:
    a, b = socket.socketpair()
    h = Handle(a)
    h.push_write(bytes(BIG))
    if how == "destroy":
        h.destroy()
    del h
    assert lingering() == 1
    assert read_all(b) == BIG
    b.close()
    until(lambda: not lingering())
    assert a.fileno() == -1


def test_without_linger_unsent_octets_are_dropped(half: Half) -> None:
    h, peer = half(linger=0)
    h.push_write(bytes(BIG))
    h.destroy()
    assert lingering() == 0
    assert 0 < read_all(peer) < BIG


def test_lingering_ends_in_time() -> None:
    with virtual_time() as clock:
        a, b = memory_pair(capacity=10)
        h = Handle(a, linger=7)
        h.push_write(b"x" * 20)
        h.destroy()
        clock.advance(6.9)
        assert lingering() == 1
        assert not a.closed
        clock.advance(0.2)
        assert lingering() == 0
        assert a.closed
        assert len(b.recv(100)) == 10


def test_lingering_waits_for_the_peer_to_close_but_not_for_ever() -> None:
    with virtual_time() as clock:
        a, b = memory_pair(capacity=10)
        h = Handle(a)
        h.push_write(b"x" * 15)
        h.destroy()
        clock.advance(1)
        assert b.recv(100) == b"x" * 10
        clock.advance(1)
        assert b.recv(100) == b"x" * 5
        assert a.shut
        assert not a.closed
        b.send(b"dropped")
        clock.advance(1)
        assert a._arrived == b""
        clock.advance(5)
        assert a.closed


def test_lingering_reads_so_that_two_writers_do_not_wait_for_each_other(turns: Turns) -> None:
    a, b = memory_pair(capacity=10)
    h = Handle(a)
    h.push_write(b"x" * 20)
    h.destroy()
    got = b""
    for _ in range(10):
        b.send(b"y" * 10)
        turns(2)
        try:
            got += b.recv(100)
        except BlockingIOError:
            continue
    assert got == b"x" * 20
    b.close()
    turns()
    assert lingering() == 0


def test_a_peer_that_ends_first_still_gets_everything() -> None:
    """It has said its last word, while we have not: no input is to be awaited any more."""
    with virtual_time() as clock:
        a, b = memory_pair(capacity=10)
        h = Handle(a)
        h.push_write(b"x" * 15)
        h.destroy()
        b.shutdown(socket.SHUT_WR)
        clock.advance(1)
        assert not a.closed
        assert b.recv(100) == b"x" * 10
        clock.advance(0)
        assert b.recv(100) == b"x" * 5
        assert a.closed
        assert not lingering()


@pytest.mark.parametrize("error", [BlockingIOError, InterruptedError])
def test_readiness_that_was_none_does_not_end_the_lingering(error: type[OSError]) -> None:
    """Loops may report it falsely, and signals interrupt calls."""

    class Hasty(MemoryStream):
        refusals = 0

        def recv(self, size: int) -> bytes:
            if self.refusals:
                self.refusals -= 1
                raise error
            return super().recv(size)

    with virtual_time() as clock:
        a, b = Hasty(10), MemoryStream(10)
        a.peer, b.peer = b, a
        h = Handle(a)
        h.push_write(b"x" * 15)
        h.destroy()
        a.refusals = 1
        b.send(b"y")
        clock.advance(1)
        assert a.refusals == 0
        assert lingering() == 1
        assert b.recv(100) == b"x" * 10
        clock.advance(0)
        assert b.recv(100) == b"x" * 5
        b.close()
        clock.advance(0)
        assert a.closed


def test_a_peer_that_breaks_ends_the_lingering(turns: Turns) -> None:
    a, b = memory_pair(capacity=10)
    h = Handle(a)
    h.push_write(b"x" * 20)
    h.destroy()
    b.close()
    turns()
    assert lingering() == 0
    assert a.closed


def test_unread_input_does_not_destroy_what_was_sent(tcp: Any, until: Any) -> None:
    """Closing a socket with unread input resets it, and what was sent may be lost."""
    ours, peer = tcp()
    h = Handle(ours)
    h.push_write(b"answer")
    peer.sendall(b"never read")
    until(lambda: len(ours.recv(100, socket.MSG_PEEK)) == 10)
    h.destroy()
    assert peer.recv(100) == b"answer"
    assert peer.recv(100) == b""  # an end, not a reset


# ---------------------------------------------------------------------- the end of the loop


def test_what_lingers_ends_with_its_loop(unbound: None) -> None:
    a, b = socket.socketpair()

    def life() -> None:
        with binding("loop"):
            h = Handle(a)
            h.push_write(bytes(BIG))
            h.destroy()
            assert lingering() == 1
            ae.sleep(0).recv()

    thread = threading.Thread(target=life)
    thread.start()
    thread.join()
    assert a.fileno() == -1
    assert lingering() == 0
    b.close()


def test_a_handle_that_outlives_its_loop_is_closed(unbound: None) -> None:
    a, b = socket.socketpair()
    with binding("loop"):
        h = Handle(a, on_read=lambda h: None)
        pending = h.push_read("line")
        h.push_write(bytes(BIG))
        ae.sleep(0).recv()
    h.destroy()
    assert a.fileno() == -1
    with pytest.raises(HandleDestroyed):
        pending.recv()
    b.close()


def test_a_thread_that_ends_takes_its_handles_along(unbound: None) -> None:
    a, b = socket.socketpair()

    def life() -> None:
        h = Handle(a, on_read=lambda h: None)
        h.push_write(bytes(BIG))
        ae.sleep(0).recv()

    thread = threading.Thread(target=life)
    thread.start()
    thread.join()
    gc.collect()
    assert a.fileno() == -1
    b.close()


def test_end_lingering_concerns_this_loop_only(unbound: None) -> None:
    a, b = memory_pair(capacity=1)
    with binding("loop"):
        h = Handle(a)
        h.push_write(b"xy")
        h.destroy()
        thread = threading.Thread(target=end_lingering)
        thread.start()
        thread.join()
        assert lingering() == 1
        assert end_lingering() == 1
    assert a.closed
    assert b.recv(1) == b"x"


def test_nothing_is_left_for_the_garbage_collector(turns: Turns) -> None:
    """A conversation, an error, a destroy: every object goes when it is no longer needed."""
    seen: list[Any] = []
    told: list[str] = []
    gc.collect()
    gc.disable()
    try:
        for kind in ("destroy", "eof", "reset", "await", "refused"):
            a, b = memory_pair()
            h = Handle(a, on_error=lambda h, error: told.append(str(error)))
            seen.append(weakref.ref(h))
            h.read_each("line", lambda h, line: h.push_write(line))
            b.send(b"1\n2\npartial")
            turns(4)
            if kind == "destroy":
                h.destroy()
            elif kind == "eof":
                b.close()
            elif kind == "reset":
                a.break_off(104)
            elif kind == "refused":
                h.push_read("netstring", lambda h, data: None)
            else:
                h.on_read = None
                condvar = h.push_read("line")
                b.send(b"\n")
                assert condvar.recv() == b"partial"
                del condvar
            turns(4)
            h.linger = 0
            h.destroy()
            del h, a, b
            turns(2)
        assert [ref() for ref in seen if ref() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["read", "each", "drained", "dropped", "task"])
def test_what_the_program_itself_has_ended_is_never_not_looked_at(
    backend: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = socket.socketpair()

    async def lines(handle: Handle) -> None:
        async for _ in handle.each("line"):
            raise AssertionError("nothing comes")

    async def line(handle: Handle) -> None:
        await handle.push_read("line")

    async def sent(handle: Handle) -> None:
        handle.push_write(b"x" * 5_000_000)
        await handle.drained()

    async def main() -> None:
        handle = Handle(one, linger=0)
        waiting = []
        if kind == "dropped":
            handle.push_read("line")
        else:
            function = {"each": lines, "drained": sent}.get(kind, line)
            waiting.append(ae.spawn(function(handle)))
            await ae.sleep(0.001)
        handle.destroy()
        if waiting and kind != "task":
            waiting[0].cancel()
        del handle
        await ae.sleep(0.001)

    with one, two:
        ae.run(main())
    gc.collect()
    assert [record for record in caplog.records if "looked at" in record.getMessage()] == []


def test_a_read_whose_handle_was_destroyed_says_so(half: Half) -> None:
    h, _ = half()
    read = h.push_read("line")
    h.destroy()
    assert repr(read) == "<read 'line' from a stream that is not open, pending>"
    with pytest.raises(HandleDestroyed):
        read.recv()
