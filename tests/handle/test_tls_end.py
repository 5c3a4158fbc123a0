"""The end of TLS on a handle, and TLS inside other handles (HANDLE-107 to 113, B142, B149)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from ae_core.testing import Trace, virtual_time
from ae_handle import (
    Chunk,
    Handle,
    UnexpectedEOF,
)
from ae_handle.testing import handle_pair, lingering, memory_pair

Join = Callable[..., tuple[Handle, Handle]]
Turns = Callable[..., None]


# ---------------------------------------------------------------------- the end of TLS


def test_close_notify_is_the_end_of_the_stream(join_tls: Join, trace: Trace, until: Any) -> None:
    client, server = join_tls(
        {"on_error": lambda h, error: trace("ERROR", error)},
        {"on_eof": lambda h: trace("eof"), "on_error": lambda h, error: trace("ERROR", error)},
    )
    server.read_each("line", lambda h, line: trace(line))
    client.push_write(b"last\n")
    client.destroy()
    until(lambda: "eof" in trace)
    assert trace == [b"last", "eof"]
    server.destroy()
    until(lambda: not lingering())


def test_an_end_without_close_notify_is_an_error(
    join_tls: Join, trace: Trace, until: Any, turns: Turns
) -> None:
    for allowed in (False, True):
        trace.clear()
        client, server = join_tls(
            {},
            {
                "on_eof": lambda h: trace("eof"),
                "on_error": lambda h, error: trace(type(error)),
                "allow_truncated": allowed,
            },
        )
        server.read_each("line", lambda h, line: trace(line))
        client.push_write(b"one\n")
        until(lambda: trace)
        turns()  # the client reads its session tickets
        client.linger = 0
        client.destroy()
        until(lambda: len(trace) == 2)
        assert trace == [b"one", "eof" if allowed else UnexpectedEOF]


def test_stop_tls_and_clear_text_again(join_tls: Join, trace: Trace, until: Any) -> None:
    client, server = join_tls(
        {"on_tls_stopped": lambda h: trace("client", h.tls is not None)},
        {"on_tls_stopped": lambda h: trace("server", h.tls is not None)},
    )
    server.read_each("line", lambda h, line: trace(line))
    client.push_write(b"secret\n")
    client.stop_tls()
    client.stop_tls()
    client.push_write(b"clear\n")
    until(lambda: len(trace) == 4)
    assert trace[0] == b"secret"
    assert set(trace) == {b"secret", ("client", True), ("server", True), b"clear"}
    assert trace.index(("client", True)) < trace.index(b"clear")
    assert trace.index(("server", True)) < trace.index(b"clear")
    assert client.tls is None
    assert server.tls is None
    server.push_write(b"answer\n")
    assert client.push_read("line").recv() == b"answer"
    client.stop_tls()  # without TLS nothing happens


def test_clear_text_right_behind_close_notify(join_tls: Join, trace: Trace, until: Any) -> None:
    """The answering side goes on at once: both arrive in one read."""

    def stopped(h: Handle) -> None:
        trace("stopped")
        h.push_write(b"clear from the server\n")

    client, server = join_tls({}, {"on_tls_stopped": stopped})
    client.push_write(b"x")
    assert server.push_read(Chunk(1)).recv() == b"x"
    server.push_write(b"last secret\n")
    client.stop_tls()
    assert client.push_read("line").recv() == b"last secret"
    assert client.push_read("line").recv() == b"clear from the server"
    assert client.tls is None


def test_tls_can_start_again_after_it_stopped(
    join_tls: Join, certificates: Any, trace: Trace, until: Any
) -> None:
    client, server = join_tls(
        {"on_tls_stopped": lambda h: trace("client")},
        {"on_tls_stopped": lambda h: trace("server")},
    )
    client.push_write(b"x")
    assert server.push_read(Chunk(1)).recv() == b"x"
    client.stop_tls()
    until(lambda: len(trace) == 2)
    server.start_tls("accept", certificates.server())
    client.start_tls("connect", certificates.client())
    client.push_write(b"secret again\n")
    assert server.push_read("line").recv() == b"secret again"


def test_stop_tls_without_on_tls_stopped_is_the_end_for_the_peer(
    join_tls: Join, trace: Trace, until: Any
) -> None:
    client, server = join_tls({}, {"on_eof": lambda h: trace("eof")})
    server.read_each("line", lambda h, line: trace(line))
    client.push_write(b"secret\n")
    client.stop_tls()
    until(lambda: len(trace) == 2)
    assert trace == [b"secret", "eof"]


def test_stop_tls_during_the_handshake_waits_for_it(
    join_tls: Join, trace: Trace, until: Any
) -> None:
    client, _ = join_tls(
        {
            "on_tls_started": lambda h, error: trace("started"),
            "on_tls_stopped": lambda h: trace("stopped"),
        },
        {"on_tls_stopped": lambda h: None},
    )
    client.stop_tls()
    until(lambda: len(trace) == 2)
    assert trace == ["started", "stopped"]


def test_push_shutdown_sends_close_notify_first(join_tls: Join, trace: Trace, until: Any) -> None:
    client, server = join_tls(
        {"on_error": lambda h, error: trace("ERROR", error)},
        {"on_eof": lambda h: trace("eof"), "on_error": lambda h, error: trace("ERROR", error)},
    )
    server.read_each("line", lambda h, line: trace(line))
    client.push_write(b"last\n")
    client.push_shutdown()
    until(lambda: "eof" in trace)
    assert trace == [b"last", "eof"]
    server.push_write(b"reply\n")
    assert client.push_read("line").recv() == b"reply"


def test_push_shutdown_waits_for_the_handshake(join_tls: Join, trace: Trace, until: Any) -> None:
    client, server = join_tls({}, {"on_eof": lambda h: trace("eof")})
    client.push_shutdown()
    server.read_each("line", lambda h, line: trace(line))
    until(lambda: "eof" in trace)
    assert trace == ["eof"]
    server.push_write(b"reply\n")
    assert client.push_read("line").recv() == b"reply"
    with pytest.raises(RuntimeError, match="after push_shutdown"):
        client.push_write(b"too late")


def test_destroying_during_the_handshake_still_delivers(
    join_tls: Join, trace: Trace, until: Any
) -> None:
    client, server = join_tls({}, {"on_eof": lambda h: trace("eof")})
    server.read_each("line", lambda h, line: trace(line))
    client.push_write(b"fire and forget\n")
    client.destroy()
    assert lingering() == 1
    until(lambda: "eof" in trace)
    assert trace == [b"fire and forget", "eof"]
    server.destroy()
    until(lambda: not lingering())


def test_an_idle_tls_handle_stops_reading_at_the_limit(
    join_tls: Join, until: Any, turns: Turns
) -> None:
    client, server = join_tls({}, {"max_read_buffer": 100_000})
    client.push_write(b"x" * 5_000_000)
    until(lambda: len(server.read_buffer) > 100_000)
    turns(50)
    held = len(server.read_buffer)
    assert held < 400_000
    assert not server.is_destroyed
    total = 0

    def on_read(h: Handle) -> None:
        nonlocal total
        total += len(h.read_buffer)
        h.read_buffer.clear()

    server.on_read = on_read
    until(lambda: total == 5_000_000)


# ---------------------------------------------------------------------- nested


def test_tls_inside_tls(join_tls: Join, certificates: Any, made: list[Handle]) -> None:
    client, server = join_tls()
    inner_client = Handle(
        client, tls="connect", tls_context=certificates.client(), peer_name="peer.test"
    )
    inner_server = Handle(server, tls="accept", tls_context=certificates.server())
    made += [inner_client, inner_server]
    inner_server.read_each("line", lambda h, line: h.push_write(line[::-1] + b"\n"))
    inner_client.push_write(b"abc\n")
    assert inner_client.push_read("line").recv() == b"cba"
    assert inner_client.tls is not None
    assert inner_client.tls.state == "established"
    data = bytes(range(256)) * 4000
    inner_client.push_write(data + b"\n")


def test_a_handle_inside_a_handle_passes_the_end_on(
    join: Join, made: list[Handle], trace: Trace, until: Any
) -> None:
    a, b = join()
    outer = Handle(a, on_eof=lambda h: trace("eof"))
    made.append(outer)
    outer.read_each("line", lambda h, line: trace(line))
    b.push_write(b"1\n2\n")
    b.push_shutdown()
    until(lambda: "eof" in trace)
    assert trace == [b"1", b"2", "eof"]
    outer.push_write(b"back\n")
    assert b.push_read("line").recv() == b"back"
    outer.destroy()
    until(lambda: a.is_destroyed)


def test_backpressure_passes_through_a_handle_inside_a_handle(
    join: Join, made: list[Handle], until: Any
) -> None:
    a, b = join()
    outer = Handle(a)
    made.append(outer)
    outer.push_write(bytes(3_000_000))
    assert a.statistics().unsent <= 1 << 18
    assert outer.statistics().unsent > 1_000_000
    total = 0

    def on_read(h: Handle) -> None:
        nonlocal total
        total += len(h.read_buffer)
        h.read_buffer.clear()

    b.on_read = on_read
    until(lambda: total == 3_000_000)
    assert outer.statistics().unsent == 0


def test_writes_to_a_full_inner_handle_wait_for_room(
    join: Join, made: list[Handle], until: Any
) -> None:
    a, b = join()
    outer = Handle(a)
    made.append(outer)
    pieces = [bytes([i]) * (1 << 18) for i in range(8)]  # each fills it exactly
    for piece in pieces:
        outer.push_write(piece)
    outer.push_shutdown()
    whole = b"".join(pieces)
    b.max_read_buffer = None
    assert b.push_read(Chunk(len(whole))).recv() == whole
    b.on_eof = lambda h: h.push_write(b"seen\n")
    b.on_read = lambda h: None
    assert outer.push_read("line").recv() == b"seen"  # push_shutdown has gone through


def test_the_end_of_an_inner_handle_waits_to_be_asked_for(
    join: Join, made: list[Handle], turns: Turns
) -> None:
    a, b = join()
    outer = Handle(a)
    made.append(outer)
    outer.push_read("line", lambda h, line: None)
    b.push_write(b"line\n")
    b.push_shutdown()
    turns(30)
    assert outer.statistics().state == "open"
    with pytest.raises(UnexpectedEOF):
        outer.push_read("line").recv()


def test_an_error_passes_through_a_handle_inside_a_handle(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    a, _ = memory_pair()
    inner = Handle(a)
    outer = Handle(inner, on_error=lambda h, error: trace(error.errno))
    made += [inner, outer]
    outer.push_read("line", lambda h, line: trace(line))
    turns()
    a.break_off(104)
    turns()
    assert trace == [104]
    assert inner.is_destroyed


def test_an_error_of_the_inner_handle_that_is_not_fatal_is_none_of_the_outer_one(
    made: list[Handle], trace: Trace, unbound: None
) -> None:
    with virtual_time() as clock:
        a, b = memory_pair()
        inner = Handle(a, read_timeout=1)
        outer = Handle(inner, on_error=lambda h, error: trace(error.errno))
        made += [inner, outer]
        outer.push_read("line", lambda h, line: trace(line))
        clock.advance(3)
        b.send(b"alive\n")
        clock.advance(0)
        assert trace == [b"alive"]
        assert repr(inner) in (repr(outer._stream), repr(outer.socket))
        outer.linger = inner.linger = 0
        outer.destroy()


def test_an_outer_handle_takes_the_inner_one_along(made: list[Handle]) -> None:
    a, b = memory_pair()
    inner = Handle(a)
    outer = Handle(inner)
    made += [inner, outer]
    outer.destroy()
    assert inner.is_destroyed
    assert b.recv(1) == b""


def test_what_an_inner_handle_had_not_handed_out_comes_before_its_error(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    a, b = memory_pair()
    inner = Handle(a, watch_eof=True)
    outer = Handle(inner, read_size=4, max_read_size=4)
    made += [inner, outer]
    b.send(b"0123456789")
    turns()
    a.break_off(errno.ECONNRESET)
    turns()
    outer.on_error = lambda h, error: trace(error.errno)
    outer.on_read = lambda h: trace(h.read_buffer.take())
    turns()
    assert trace == [b"0123", b"4567", b"89", errno.ECONNRESET]


def test_an_end_that_an_inner_handle_knew_is_the_outer_ones(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    a, b = memory_pair()
    inner = Handle(a, watch_eof=True)
    made.append(inner)
    b.shutdown(1)
    turns()
    outer = Handle(inner)
    made.append(outer)
    turns()
    outer.on_eof = lambda h: trace("end")
    outer.push_read(Chunk(0), lambda h, data: trace(data))
    outer.watch_eof = True
    turns()
    assert trace == [b"", "end"]


def test_a_destroyed_handle_is_no_stream(join: Join) -> None:
    a, _ = join()
    a.destroy()
    with pytest.raises(ValueError, match="expected a live handle"):
        Handle(a)


def test_the_pair_of_the_testing_module_takes_tls_options(certificates: Any, until: Any) -> None:
    a, b = handle_pair(on_error=lambda h, error: None)
    b.start_tls("accept", certificates.server())
    a.peer_name = "peer.test"
    a.start_tls("connect", certificates.client())
    a.push_write(b"x\n")
    assert b.push_read("line").recv() == b"x"
    a.destroy()
    b.destroy()
    until(lambda: not lingering())
