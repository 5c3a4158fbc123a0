"""An item of ``each()`` whose task is cancelled before it took it stays for the next reader."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import Chunk, Handle, HandleDestroyed, Json, UnexpectedEOF

Half = Callable[..., tuple[Handle, socket.socket]]


def test_a_time_limit_that_passes_while_the_item_comes_loses_nothing(unbound: None) -> None:
    async def main() -> list[Any]:
        a, b = socket.socketpair()
        got: list[Any] = []
        handle = Handle(a)
        lines = handle.each("line")

        async def busy() -> None:
            await asyncio.sleep(0.01)
            b.sendall(b"first\nsecond\n")
            time.sleep(0.1)  # the loop is busy while the line comes and the time runs out

        task = asyncio.ensure_future(busy())
        try:
            async with asyncio.timeout(0.05):
                got.append(await anext(lines))
        except TimeoutError:
            got.append("timed out")
        got += [await anext(lines), await anext(lines)]
        await task
        handle.destroy()
        b.close()
        return got

    assert asyncio.run(main()) == ["timed out", b"first", b"second"]


async def cancelled_with(item: bytes, reader: Any, order: str) -> tuple[Handle, socket.socket, Any]:
    """Return a handle, its peer and the iterator of a task that was cancelled as *item* came.

    An empty item is the end of the stream.
    """
    a, peer = socket.socketpair()
    h = Handle(a)
    items = h.each(reader)
    taken: list[Any] = []

    async def take() -> None:
        async for item in items:
            taken.append(item)

    task = ae.spawn(take())
    while not h.statistics().requests:
        await ae.sleep(0)

    if item:
        peer.sendall(item)
    else:
        peer.shutdown(socket.SHUT_WR)
    if order == "item first":
        h._events.readable()  # as the loop does, but before the task can run
        task.cancel()
    else:
        task.cancel()
        h._events.readable()
    with pytest.raises(ae.CancelledError):
        await task
    assert taken == []
    return h, peer, items


@pytest.mark.parametrize("order", ["item first", "cancel first"])
def test_the_item_stays_for_whoever_reads_next(backend: Backend, order: str) -> None:
    async def main() -> list[Any]:
        got: list[Any] = []
        for reader, item, nexts in (
            ("line", b"first\r\nsecond\n", ["each", "each"]),
            ("line", b"first\r\nsecond\n", ["line", "line"]),
            ("line", b"first\r\nsecond\n", [Chunk(7), "line"]),
            (Json(), b'{"a": 1} [2]', ["json", "json"]),
            (Chunk(3), b"abcdef", [Chunk(2), Chunk(4)]),
        ):
            h, peer, _ = await cancelled_with(item, reader, order)
            for following in nexts:
                if following == "each":
                    got.append(await anext(h.each("line")))
                else:
                    got.append(await h.push_read(following))
            h.destroy()
            peer.close()
        return got

    assert ae.run(main()) == [
        *(b"first", b"second"),
        *(b"first", b"second"),
        *(b"first\r\n", b"second"),
        *({"a": 1}, [2]),
        *(b"ab", b"cdef"),
    ]


@pytest.mark.parametrize("order", ["item first", "cancel first"])
def test_the_order_is_kept_when_more_arrives_meanwhile(backend: Backend, order: str) -> None:
    async def main() -> list[Any]:
        big = b"x" * 100_000
        h, peer, items = await cancelled_with(b"first\n", "line", order)
        h.max_read_buffer = None
        sent = ae.CondVar[None]()
        rest = memoryview(b"second\n" + big + b"\n")

        def writable() -> None:
            nonlocal rest
            rest = rest[peer.send(rest) :]
            if not rest:
                sent.send()

        peer.setblocking(False)
        got: list[Any] = [await anext(items)]
        with ae.io(peer, "w", writable):
            got += [await anext(items), await anext(items)]
            await sent
        h.destroy()
        peer.close()
        return [item[:10] for item in got]

    assert ae.run(main()) == [b"first", b"second", b"x" * 10]


@pytest.mark.parametrize("order", ["item first", "cancel first"])
def test_an_iterator_keeps_the_item_if_something_behind_it_was_read(
    backend: Backend, order: str
) -> None:
    """The item cannot go back into the buffer then; the iterator gives it out itself."""

    async def main() -> list[Any]:
        got: list[Any] = []
        a, peer = socket.socketpair()
        h = Handle(a)
        items = h.each("line")
        task = ae.spawn(anext(items))  # type: ignore[arg-type]
        while not h.statistics().requests:
            await ae.sleep(0)
        h.push_read("line", lambda h, line: (got.append(line), task.cancel()))
        peer.sendall(b"1\n2\n3\n")
        try:
            got.append(await task)
        except ae.CancelledError:
            got.append("cancelled")
            got.append(await anext(items))
        got.append(await anext(items))
        h.destroy()
        peer.close()
        return got

    assert ae.run(main()) in ([b"2", "cancelled", b"1", b"3"], [b"2", b"1", b"3"])


def test_the_end_that_a_cancelled_task_was_told_is_told_again(backend: Backend) -> None:
    async def main() -> list[Any]:
        h, peer, items = await cancelled_with(b"1\n", "line", "item first")
        peer.close()
        got = [line async for line in items]
        got += [line async for line in h.each("line")]
        with pytest.raises(UnexpectedEOF):
            await h.push_read("line")
        h.destroy()
        return got

    assert ae.run(main()) == [b"1"]


@pytest.mark.parametrize("order", ["item first", "cancel first"])
def test_the_end_stays_for_whoever_reads_next(backend: Backend, order: str) -> None:
    async def main() -> list[Any]:
        h, peer, items = await cancelled_with(b"", "line", order)
        got = [line async for line in items]
        with pytest.raises(UnexpectedEOF):
            await h.push_read("line")
        h.destroy()
        peer.close()
        return got

    assert ae.run(main()) == []


def test_an_iterator_keeps_the_item_of_a_cancelled_task_when_the_handle_has_ended(
    backend: Backend,
) -> None:
    async def main() -> bytes:
        a, peer = socket.socketpair()
        h = Handle(a)
        items = h.each("line")
        task = ae.spawn(anext(items))  # type: ignore[arg-type]
        while not h.statistics().requests:
            await ae.sleep(0)
        peer.sendall(b"1\n")
        h._events.readable()  # as the loop does, but before the task can run
        h.destroy()
        task.cancel()
        with pytest.raises(ae.CancelledError):
            await task
        peer.close()
        line = await anext(items)
        with pytest.raises(HandleDestroyed):
            await anext(items)
        return line

    assert ae.run(main()) == b"1"
