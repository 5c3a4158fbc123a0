"""Who is told of what ended a handle, and when: the readers first, each once, nobody in vain."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import virtual_time
from ae_handle import Chunk, Handle, HandleDestroyed, HandleError, HandleTimedOut, TransportError
from ae_handle._tls.engines import find_context
from ae_handle.testing import memory_pair

Turns = Callable[..., None]


def broken(made: list[Handle], turns: Turns, said: bytes = b"1\n2\n", **options: Any) -> Handle:
    """Return a handle that has read ahead until the connection broke."""
    ours, peer = memory_pair()
    h = Handle(ours, watch_eof=True, **options)
    made.append(h)
    peer.send(said)
    turns()
    ours.break_off(errno.ECONNRESET)
    turns()
    return h


def test_an_error_that_nobody_asks_for_is_reported_when_the_handle_goes(
    made: list[Handle], turns: Turns, hooked: list[str]
) -> None:
    for how in ("destroyed", "forgotten"):
        h = broken(made, turns)
        assert hooked == []
        assert h.push_read("line").recv() == b"1"
        if how == "destroyed":
            h.destroy()
        made.clear()
        del h
        assert len(hooked) == 1
        assert "broken by the test" in hooked.pop()


def test_an_error_is_told_once(made: list[Handle], turns: Turns, hooked: list[str]) -> None:
    h = broken(made, turns)
    assert h.statistics().state == "failed"
    assert h.push_read(Chunk(4)).recv() == b"1\n2\n"
    for _ in range(2):
        with pytest.raises(TransportError) as caught:
            h.push_read("line").recv()
        assert caught.value.errno == errno.ECONNRESET
        assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert h.is_destroyed
    h.destroy()
    assert hooked == []


def test_after_ones_own_destroy_reads_throw_handle_destroyed(
    made: list[Handle], turns: Turns, hooked: list[str]
) -> None:
    h = broken(made, turns)
    h.destroy()
    with pytest.raises(HandleDestroyed):
        h.push_read("line").recv()


def test_an_error_without_any_input_waits_as_well(
    made: list[Handle], turns: Turns, hooked: list[str]
) -> None:
    h = broken(made, turns, said=b"")
    with pytest.raises(TransportError, match="broken by the test"):
        h.push_read("line").recv()
    assert hooked == []


def test_an_on_error_that_is_set_late_is_still_called(
    made: list[Handle], turns: Turns, trace: Any, hooked: list[str]
) -> None:
    h = broken(made, turns)
    h.on_error = lambda h, error: trace(error.errno, bytes(h.read_buffer))
    assert trace == []
    turns()
    assert trace == [(errno.ECONNRESET, b"1\n2\n")]
    assert h.is_destroyed
    assert hooked == []


@pytest.mark.parametrize("reader", ["callback", "standing", "on_read"])
def test_readers_that_come_late_are_served_and_then_the_hook_is_told(
    made: list[Handle], turns: Turns, trace: Any, hooked: list[str], reader: str
) -> None:
    h = broken(made, turns)
    if reader == "callback":
        for _ in range(3):
            h.push_read("line", lambda h, line: trace(line))
    elif reader == "standing":
        h.read_each("line", lambda h, line: trace(line))
    else:
        h.on_read = lambda h: trace(h.read_buffer.take(2)[:1])
    turns()
    assert trace == [b"1", b"2"]
    assert h.is_destroyed
    assert len(hooked) == 1


def test_who_waits_for_writes_is_told_and_the_input_is_kept(
    made: list[Handle], turns: Turns, hooked: list[str]
) -> None:
    """``await drained()`` of an upload that the server refuses; its answer is read next."""
    ours, peer = memory_pair(capacity=10)
    h = Handle(ours)
    made.append(h)
    h.push_write(bytes(100))
    drained = h.drained()
    peer.send(b"413\n")
    turns()
    ours.shut = True  # writes fail, reads go on
    peer.recv(10)
    with pytest.raises(TransportError):
        drained.recv()
    h.push_write(b"ignored")
    assert h.push_read("line").recv() == b"413"
    with pytest.raises(TransportError):
        h.drained().recv()
    with pytest.raises(TransportError) as caught:
        h.push_read("line").recv()
    assert caught.value.errno == errno.EPIPE
    assert hooked == []


def test_input_in_the_kernel_is_read_before_a_write_error_although_reading_was_stopped(
    made: list[Handle], turns: Turns, trace: Any
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, on_error=lambda h, error: trace(error.errno))
    made.append(h)
    h.read_each("line", lambda h, line: trace(line))
    turns()
    h.stop_read()
    peer.send(b"last words\n")
    ours.shut = True
    h.push_write(b"x")
    turns()
    assert trace == [b"last words", errno.EPIPE]


def test_a_time_out_spares_what_nobody_has_read_yet(
    made: list[Handle], turns: Turns, hooked: list[str], unbound: None
) -> None:
    with virtual_time() as clock:
        ours, peer = memory_pair()
        h = Handle(ours, timeout=1, watch_eof=True)
        peer.send(b"1\n2\n")
        clock.advance(3)
        assert ours.closed  # it is for nothing any more
        assert hooked == []
        assert h.push_read("line").recv() == b"1"
        assert h.push_read("line").recv() == b"2"
        with pytest.raises(HandleTimedOut, match="timeout of 1 s has passed"):
            h.push_read("line").recv()
        with pytest.raises(TimeoutError):
            h.push_read("line").recv()
        h.timeout = 5
    assert hooked == []


def test_a_limit_of_writes_spares_what_nobody_has_read_yet(
    made: list[Handle], turns: Turns, hooked: list[str]
) -> None:
    ours, peer = memory_pair(capacity=10)
    h = Handle(ours, watch_eof=True, max_write_buffer=20)
    made.append(h)
    peer.send(b"1\n2\n")
    turns()
    h.push_write(bytes(40))
    turns()
    assert h.push_read("line").recv() == b"1"
    assert h.push_read("line").recv() == b"2"
    with pytest.raises(HandleError, match="max_write_buffer is 20"):
        h.push_read("line").recv()
    assert hooked == []


def test_a_request_that_is_about_to_be_served_comes_before_an_error_of_the_same_turn(
    made: list[Handle], turns: Turns, trace: Any
) -> None:
    ours, peer = memory_pair(capacity=10)
    h = Handle(ours, watch_eof=True, max_write_buffer=20, on_error=lambda h, error: trace("error"))
    made.append(h)
    peer.send(b"1\n2\n")
    turns()
    h.push_read("line", lambda h, line: trace(line))
    h.push_write(bytes(40))
    turns()
    assert trace == [b"1", "error"]


def test_an_iterator_that_is_dropped_lets_the_error_come(
    made: list[Handle], turns: Turns, trace: Any
) -> None:
    async def main() -> None:
        h = broken(made, lambda: None, on_error=lambda h, error: trace("error"))
        async for line in h.each("line"):
            trace(line)
            await ae.sleep(0.01)
            break
        await ae.sleep(0.01)

    async def settle() -> None:
        await main()

    ae.run(settle())
    assert trace == [b"1", "error"]


def test_input_of_the_inner_handle_comes_before_its_error(made: list[Handle], turns: Turns) -> None:
    """TLS in TLS, and any handle in a handle: the outer one reads when it is asked."""
    ours, peer = memory_pair()
    inner = Handle(ours, watch_eof=True)
    outer = Handle(inner)
    made += [inner, outer]
    peer.send(b"1\n2\n")
    turns()
    ours.break_off(errno.ECONNRESET)
    turns()
    assert outer.push_read("line").recv() == b"1"
    assert outer.push_read("line").recv() == b"2"
    with pytest.raises(TransportError) as caught:
        outer.push_read("line").recv()
    assert caught.value.errno == errno.ECONNRESET


def test_what_was_to_be_encrypted_never_leaves_in_clear(
    engine: str, contexts: Any, turns: Turns
) -> None:
    """The peer's record is damaged while much is unsent: the rest is lost, not sent as it is."""
    near, far = contexts(engine)
    ours, wire = memory_pair(capacity=5000)
    h = Handle(ours, tls="connect", tls_context=near, peer_name="peer.test")
    server = find_context(far).new_session("accept", None)
    sent = bytearray()

    def carry() -> None:
        try:
            data = wire.recv(1 << 16)
        except BlockingIOError:
            data = b""
        sent.extend(data)
        if data:
            server.feed(data)
        out = server.drain()
        if out:
            wire.send(out)

    while server.state == "handshake":
        turns(2)
        carry()
    turns(4)
    carry()
    h.push_write(b"secret" * 100_000)
    turns()
    wire.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    turns()
    h.destroy()
    for _ in range(500):
        turns(2)
        try:
            data = wire.recv(1 << 16)
        except BlockingIOError:
            break
        sent.extend(data)
        if not data:
            break
    assert b"secret" not in sent
    wire.close()
    turns()
