"""Two handles joined: order, half-close, back-pressure, and no end but that of both."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import (
    Chunk,
    Handle,
    HandleDestroyed,
    HandleTimedOut,
    TransportError,
    relay,
    serve,
)
from ae_handle.testing import end_lingering, handle_pair

Main = Callable[[], Coroutine[Any, Any, None]]


def run(main: Main) -> None:
    """Run *main* to its end, within reason."""

    async def bounded() -> None:
        task = ae.spawn(main())
        with ae.timer(60, task.cancel):
            await task
        end_lingering()

    ae.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await ae.sleep(0.001)


def joined(**options: Any) -> tuple[Handle, Handle, ae.CondVar[tuple[int, int]]]:
    """Return the outer ends of two connections whose inner ends are joined."""
    left, a = handle_pair(**options)
    b, right = handle_pair(**options)
    return left, right, relay(a, b)


def reset(sock: socket.socket) -> None:
    """Close so that the peer is sent an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_both_directions_are_passed_on_and_counted(backend: Backend) -> None:
    async def main() -> None:
        left, right, result = joined()
        left.push_write(b"question\n")
        assert await right.push_read("line") == b"question"
        right.push_write(b"an answer\n")
        assert await left.push_read("line") == b"an answer"
        assert not result.ready
        left.push_shutdown()
        right.push_shutdown()
        assert await result == (9, 10)
        left.destroy()
        right.destroy()

    run(main)


def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(backend: Backend) -> None:
    async def main() -> None:
        left, right, result = joined()
        left.push_write(b"all I have to say\n")
        left.push_shutdown()
        assert [line async for line in right.each("line")] == [b"all I have to say"]
        for number in range(3):
            right.push_write(b"%d\n" % number)
            assert await left.push_read("line") == b"%d" % number
        assert not result.ready
        right.push_shutdown()
        assert await result == (18, 6)
        left.destroy()
        right.destroy()

    run(main)


def test_a_slow_reader_slows_the_writer_down_and_loses_nothing(backend: Backend) -> None:
    size = 8_000_000

    async def main() -> None:
        left, a = handle_pair()
        b, right = handle_pair(max_read_buffer=None)
        result = relay(a, b)
        data = bytes(range(256)) * (size // 256)
        left.push_write(data)
        left.push_shutdown()
        right.push_write(data[::-1])
        right.push_shutdown()
        for _ in range(50):
            await ae.sleep(0.001)
            assert b.statistics().unsent <= (256 << 10) + 4 * 65536
            assert a.statistics().unsent <= (256 << 10) + 4 * 65536
        assert left.statistics().unsent > size // 2  # nobody has read, so it had to wait
        left.max_read_buffer = None
        forth, back = right.push_read(Chunk(len(data))), left.push_read(Chunk(len(data)))
        assert await forth == data
        assert await back == data[::-1]
        assert await result == (len(data), len(data))
        left.destroy()
        right.destroy()

    run(main)


def test_the_bound_that_a_handle_has_for_sending_is_the_relays(backend: Backend) -> None:
    async def main() -> None:
        left, a = handle_pair()
        b, right = handle_pair(max_write_buffer=1000)
        right.max_read_buffer = right.max_write_buffer = None
        result = relay(a, b)
        left.push_write(b"x" * 3_000_000)
        await until(lambda: b.statistics().unsent > 1000 or result.ready)
        assert len(await right.push_read(Chunk(3_000_000))) == 3_000_000
        assert not result.ready
        result.cancel()
        left.destroy()
        right.destroy()

    run(main)


def test_what_was_read_already_goes_first(backend: Backend) -> None:
    async def main() -> None:
        left, a = handle_pair()
        b, right = handle_pair()
        left.push_write(b"a greeting\nand more\n")
        assert await a.push_read("line") == b"a greeting"
        result = relay(a, b)
        assert await right.push_read("line") == b"and more"
        result.cancel()
        left.destroy()
        right.destroy()

    run(main)


def test_a_reset_of_one_side_closes_both_and_is_thrown(
    backend: Backend, tcp: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    async def main() -> None:
        for broken in (0, 1):
            pairs = [tcp(), tcp()]
            a, b = (Handle(inner) for _, inner in pairs)
            result = relay(a, b)
            await ae.sleep(0.001)
            reset(pairs[broken][0])
            with pytest.raises(TransportError):
                await result
            assert a.is_destroyed
            assert b.is_destroyed
            other = Handle(pairs[1 - broken][0])
            other.watch_eof = True
            ended: ae.CondVar[None] = ae.CondVar()
            other.on_eof = ended.send
            await ended
            other.destroy()

    run(main)


def test_a_target_that_cannot_be_reached_ends_the_other_side(backend: Backend) -> None:
    async def main() -> None:
        left, a = handle_pair()
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))  # nobody listens there
            with pytest.raises(TransportError, match="refused"):
                await relay(a, Handle(connect=reserved.getsockname()))
        assert a.is_destroyed
        left.destroy()

    run(main)


def test_what_arrives_while_the_target_is_being_connected_waits(backend: Backend) -> None:
    async def main() -> None:
        def echo(handle: Handle) -> None:
            handle.on_read = lambda handle: handle.push_write(handle.read_buffer.take())

        with serve("127.0.0.1", 0, echo) as target:
            left, a = handle_pair()
            left.push_write(b"early\n")
            result = relay(a, Handle(connect=target.address))
            assert await left.push_read("line") == b"early"
            left.push_shutdown()
            assert await result == (6, 6)
            left.destroy()

    run(main)


def test_cancelling_destroys_both(backend: Backend) -> None:
    async def main() -> None:
        left, a = handle_pair()
        b, right = handle_pair()
        result = relay(a, b)
        await ae.sleep(0.001)
        result.cancel()
        assert a.is_destroyed
        assert b.is_destroyed
        left.destroy()
        right.destroy()

    run(main)


def test_whoever_destroys_one_side_has_ended_the_other(backend: Backend) -> None:
    async def main() -> None:
        left, a = handle_pair()
        b, right = handle_pair()
        result = relay(a, b)
        a.destroy()
        assert not result.ready
        with pytest.raises(HandleDestroyed):
            await result
        assert b.is_destroyed
        with pytest.raises(HandleDestroyed):
            await relay(a, handle_pair()[0])
        left.destroy()
        right.destroy()

    run(main)


def test_a_time_out_of_a_handle_ends_the_relay(backend: Backend) -> None:
    async def main() -> None:
        left, right, result = joined(timeout=0.02)
        left.timeout = right.timeout = 0
        with pytest.raises(HandleTimedOut):
            await result
        left.destroy()
        right.destroy()

    run(main)


def test_tls_on_either_side(
    backend: Backend, contexts: Callable[[str], tuple[Any, Any]], engine: str
) -> None:
    """A TLS terminator in front of a client that speaks TLS: the handshakes are not its matter."""
    client_context, server_context = contexts(engine)

    async def main() -> None:
        def echo(handle: Handle) -> None:
            handle.on_read = lambda handle: handle.push_write(handle.read_buffer.take())

        def forward(handle: Handle) -> object:
            tls = {"tls": "connect", "tls_context": client_context, "peer_name": "peer.test"}
            return relay(handle, Handle(connect=target.address, **tls))

        with (
            serve("127.0.0.1", 0, echo, tls_context=server_context) as target,
            serve("127.0.0.1", 0, forward) as proxy,
        ):
            async with Handle(connect=proxy.address) as client:
                client.push_write(b"in clear here\n" * 1000)
                for _ in range(1000):
                    assert await client.push_read("line") == b"in clear here"
                client.push_shutdown()
                await until(lambda: not proxy.clients)

    run(main)


def test_pending_requests_and_what_are_no_two_handles_are_refused() -> None:
    a, b = handle_pair()
    with pytest.raises(TypeError, match="expected a Handle, got 1"):
        relay(a, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the same twice"):
        relay(a, a)
    request = a.push_read("line")
    with pytest.raises(RuntimeError, match="read requests are pending on <Handle"):
        relay(b, a)
    request.cancel()
    relay(a, b).cancel()
