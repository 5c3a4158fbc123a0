"""A handle as a byte stream of anyio, and back: in asyncio and in trio."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from ae_handle import Handle
from ae_handle.anyio import HandleStream, as_handle
from ae_handle.testing import memory_pair

Run = Callable[..., Any]


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[HandleStream, HandleStream]]:
    a, b = socket.socketpair()
    async with HandleStream(Handle(a)) as one, HandleStream(Handle(b)) as two:
        yield one, two


def test_what_is_sent_is_received_in_pieces_of_any_size(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two):
            await one.send(b"hello")
            assert await two.receive(2) == b"he"
            assert await two.receive() == b"llo"
            with pytest.raises(ValueError, match="1 or more"):
                await two.receive(0)

    run_anyio(main)


def test_one_end_may_stop_sending_and_the_other_go_on(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two):
            await one.send(b"last")
            await one.send_eof()
            assert await two.receive() == b"last"
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await two.receive()
            await two.send(b"answer")
            assert await one.receive() == b"answer"

    run_anyio(main)


def test_a_receive_that_is_cancelled_loses_nothing(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two):
            with anyio.move_on_after(0.01) as scope:
                await two.receive()
            assert scope.cancelled_caught
            await one.send(b"more")
            assert await two.receive() == b"more"

    run_anyio(main)


def test_each_call_lets_others_run_also_where_it_need_not_wait(run_anyio: Run) -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.sleep(0)

        async with pair() as (one, two), anyio.create_task_group() as group:
            group.start_soon(count)
            await one.send(b"x" * 20)
            assert await two.receive(1) == b"x"  # the others are in the buffer
            for call in (lambda: one.send(b"y"), lambda: two.receive(1)):
                before = turns
                for _ in range(10):
                    await call()
                assert turns >= before + 9  # the tasks of a turn run in any order
            group.cancel_scope.cancel()

    run_anyio(main)


def test_a_call_in_a_cancelled_scope_sends_nothing_and_takes_nothing(
    run_anyio: Run,
) -> None:
    async def main() -> None:
        async with pair() as (one, two):
            await one.send(b"abc")
            assert await two.receive(1) == b"a"
            for call in (lambda: one.send(b"never"), two.receive):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught
            await one.send_eof()
            got = b""
            with pytest.raises(anyio.EndOfStream):
                while True:
                    got += await two.receive()
            assert got == b"bc"

    run_anyio(main)


def test_a_send_that_does_not_leave_at_once_waits_for_the_system(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two), anyio.create_task_group() as group:
            group.start_soon(one.send, b"x" * 4_000_000)
            await anyio.wait_all_tasks_blocked()
            assert one.handle.statistics().unsent > 0
            got = 0
            while got < 4_000_000:
                got += len(await two.receive())
        assert one.handle.statistics().unsent == 0

    run_anyio(main)


def test_two_tasks_cannot_receive_at_once(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two), anyio.create_task_group() as group:
            group.start_soon(two.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await two.receive()
            await one.send(b"x")

    run_anyio(main)


def test_closing_ends_what_waits_and_is_the_end_for_the_peer(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two), anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await two.receive()

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await two.aclose()
            with pytest.raises(anyio.EndOfStream):
                await one.receive()
            for call in (two.receive(), two.send(b"x"), two.send_eof()):
                with pytest.raises(anyio.ClosedResourceError):
                    await call

    run_anyio(main)


def test_a_connection_that_breaks_says_so(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two):
            two.handle.linger = 0
            await one.send(b"unread")
            await two.aclose()
            for _ in range(2):
                with pytest.raises(anyio.BrokenResourceError):
                    while True:
                        await one.send(b"x" * 100_000)
            with pytest.raises(anyio.BrokenResourceError):
                await one.receive()

    run_anyio(main)


def test_the_socket_is_an_attribute(run_anyio: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            async with HandleStream(Handle(connect=address)) as stream:
                await stream.send(b"x")
                other, _ = listener.accept()
                attribute = anyio.abc.SocketAttribute
                assert stream.extra(attribute.remote_address) == address
                assert stream.extra(attribute.remote_port) == address[1]
                assert stream.extra(attribute.local_port) == other.getpeername()[1]
                assert stream.extra(attribute.family) == socket.AF_INET
                other.close()

    run_anyio(main)


def test_any_stream_of_anyio_can_be_a_handle(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two):
            async with as_handle(two) as handle:
                handle.push_write(b"question\n" + b"x" * 300_000)
                got = b""
                while len(got) < 300_009:
                    got += await one.receive()
                await one.send(b"answer\n")
                assert await handle.push_read("line") == b"answer"
                handle.push_write(b"and bye")
            assert await one.receive() == b"and bye"
            with pytest.raises(anyio.EndOfStream):
                await one.receive()

    run_anyio(main)


def test_the_end_of_the_stream_is_the_end_for_the_handle(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (one, two), as_handle(two) as handle:
            await one.send(b"a\nb\n")
            await one.send_eof()
            assert [line async for line in handle.each("line")] == [b"a", b"b"]

    run_anyio(main)


def test_what_is_raised_in_the_block_comes_out(run_anyio: Run) -> None:
    async def main() -> None:
        async with pair() as (_, two):
            with pytest.raises((ZeroDivisionError, ExceptionGroup)) as caught:
                async with as_handle(two):
                    raise ZeroDivisionError
            error: Any = caught.value
            while isinstance(error, ExceptionGroup):
                (error,) = error.exceptions
            assert isinstance(error, ZeroDivisionError)
            with pytest.raises(anyio.ClosedResourceError):
                await two.send(b"x")

    run_anyio(main)


def test_a_handle_without_a_socket_has_no_attributes_of_one(run_anyio: Run) -> None:
    async def main() -> None:
        stream, _ = memory_pair()
        async with HandleStream(Handle(stream)) as one:
            assert one.extra(anyio.abc.SocketAttribute.family, None) is None

    run_anyio(main)


def test_a_unix_socket_has_addresses_and_no_ports(run_anyio: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            async with HandleStream(Handle(connect=("unix/", path))) as stream:
                await stream.send(b"x")
                attribute = anyio.abc.SocketAttribute
                assert stream.extra(attribute.remote_address) == path
                assert stream.extra(attribute.remote_port, None) is None

    run_anyio(main)


def test_a_handle_on_a_stream_may_be_destroyed_inside_the_block(run_anyio: Run) -> None:
    """What was pushed before is still sent, as with any handle that is destroyed."""

    async def main() -> None:
        async with pair() as (one, two):
            async with as_handle(two) as handle:
                handle.push_write(b"and bye")
                handle.destroy()
            assert await one.receive() == b"and bye"
            with pytest.raises(anyio.EndOfStream):
                await one.receive()

    run_anyio(main)


class Stalled(anyio.abc.ByteStream):
    """A stream whose peer neither says nor takes anything."""

    closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.sleep_forever()
        return b""

    async def send(self, item: bytes) -> None:
        await anyio.sleep_forever()

    async def send_eof(self) -> None:
        raise AssertionError("not everything was sent")

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("linger", [0, 0.05])
def test_a_destroyed_handle_waits_no_longer_than_it_lingers(
    run_anyio: Run, linger: float, hooked: list[str]
) -> None:
    """The block ends although the peer takes nothing."""

    async def main() -> None:
        stream = Stalled()
        async with as_handle(stream, linger=linger) as handle:
            handle.push_write(b"and bye")
            handle.destroy()
        assert stream.closed

    run_anyio(main)
    assert hooked == []
