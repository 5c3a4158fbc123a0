"""The standing reader, and everything that can be awaited."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, binding
from ae_handle import (
    NEED_MORE,
    BadMessage,
    Chunk,
    Handle,
    HandleDestroyed,
    Line,
    NetString,
    ReadBuffer,
    UnexpectedEOF,
)
from ae_handle.testing import handle_pair, memory_pair

Half = Callable[..., tuple[Handle, socket.socket]]
Turns = Callable[..., None]


@pytest.mark.parametrize("reader", ["line", Line(), Line(b"\n")])
def test_every_line_goes_to_the_callback(
    half: Half, trace: Trace, turns: Turns, reader: Any
) -> None:
    h, peer = half()
    h.read_each(reader, lambda h, line: trace(line))
    peer.sendall(b"1\n2\n\n3")
    turns()
    assert trace == [b"1", b"2", b""]
    peer.sendall(b"4\n5\n")
    turns()
    assert trace[3:] == [b"34", b"5"]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 100])
def test_a_carriage_return_belongs_to_the_marker(
    made: list[Handle], trace: Trace, turns: Turns, piece: int
) -> None:
    ours, peer = memory_pair(piece=piece)
    h = Handle(ours)
    made.append(h)
    h.read_each("line", lambda h, line: trace(line))
    peer.send(b"a\r\nb\n\r\nc\rd\r\n\n")
    turns(60)
    assert trace == [b"a", b"b", b"", b"c\rd", b""]


def test_values_of_any_type(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()
    h.read_each("json", lambda h, value: trace(value))
    peer.sendall(b'{"a":1} null[]false 0 ')
    turns()
    assert trace == [{"a": 1}, None, [], False, 0]


def test_requests_come_before_the_standing_reader(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        if line.startswith(b"body "):
            h.push_read(Chunk(int(line[5:])), lambda h, data: trace("body", data))
            h.unshift_read(Chunk(1), lambda h, data: trace("mark", data))

    h.read_each("line", line)
    peer.sendall(b"one\nbody 5\n!a\nb\ncbody 0\n?two\n")
    turns()
    assert trace == [
        b"one",
        b"body 5",
        ("mark", b"!"),
        ("body", b"a\nb\nc"),
        b"body 0",
        ("mark", b"?"),
        ("body", b""),
        b"two",
    ]


def test_the_buffer_is_right_whenever_it_is_looked_at(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half()
    h.read_each("line", lambda h, line: trace(line, bytes(h.read_buffer)))
    peer.sendall(b"1\n2\r\n3\nrest")
    turns()
    assert trace == [(b"1", b"2\r\n3\nrest"), (b"2", b"3\nrest"), (b"3", b"rest")]


def test_a_callback_may_take_from_the_buffer(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        if line == b"skip":
            h.read_buffer.take(3)

    h.read_each("line", line)
    peer.sendall(b"skip\n12\n3\n")
    turns()
    assert trace == [b"skip", b"3"]


@pytest.mark.parametrize("how", ["on_read", "none", "other"])
def test_it_can_be_replaced_in_its_own_callback(
    half: Half, trace: Trace, turns: Turns, how: str
) -> None:
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        if how == "on_read":
            h.on_read = lambda h: trace("on_read", h.read_buffer.take(len(h.read_buffer)))
        elif how == "none":
            h.on_read = None
        else:
            h.read_each(Chunk(2), lambda h, data: trace("chunk", data))

    h.read_each("line", line)
    peer.sendall(b"1\n2\n3\n")
    turns()
    expected = {
        "on_read": [b"1", ("on_read", b"2\n3\n")],
        "none": [b"1"],
        "other": [b"1", ("chunk", b"2\n"), ("chunk", b"3\n")],
    }
    assert trace == expected[how]
    assert bytes(h.read_buffer) == (b"2\n3\n" if how == "none" else b"")


def test_it_replaces_on_read(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_read=lambda h: trace("on_read"))
    h.read_each("line", lambda h, line: trace(line))
    assert h.on_read is None
    peer.sendall(b"1\n")
    turns()
    assert trace == [b"1"]


def test_a_reader_that_consumes_nothing_is_asked_once_per_arrival(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half()
    h.read_each(len, lambda h, size: trace(size))
    peer.sendall(b"abc")
    turns()
    peer.sendall(b"de")
    turns()
    assert trace == [3, 5]


def test_a_refused_frame_stays(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_error=lambda h, error: trace(type(error)))
    h.read_each(NetString(), lambda h, data: trace(data))
    peer.sendall(b"1:a,x2:bc,")
    turns()
    assert trace == [b"a", BadMessage]
    h.read_buffer.take(1)
    h.start_read()
    peer.sendall(b"0:,")
    turns()
    assert trace == [b"a", BadMessage, b"bc", b""]


def test_the_limit_holds_for_a_line_without_an_end(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(max_read_buffer=10, on_error=lambda h, error: trace(type(error).__name__))
    h.read_each("line", lambda h, line: trace(line))
    peer.sendall(b"1\n" + b"x" * 10)
    turns()
    assert trace == [b"1"]
    peer.sendall(b"x")
    turns()
    assert trace == [b"1", "BufferLimitExceeded"]


# ---------------------------------------------------------------------- awaiting


def run(coroutine: Any) -> Any:
    return ae.run(coroutine)


@pytest.fixture(params=["loop", "asyncio"])
def loop(request: pytest.FixtureRequest, unbound: None) -> Iterator[str]:
    with binding(request.param):
        yield request.param


async def pair() -> tuple[Handle, Handle]:
    return handle_pair()


def test_reads_can_be_awaited(loop: str) -> None:
    async def main() -> list[Any]:
        a, b = handle_pair()
        async with a, b:
            a.push_write(b"1\n[2]3:abc,")
            return [
                await b.push_read("line"),
                await b.push_read("json"),
                await b.push_read(NetString()),
            ]

    assert run(main()) == [b"1", [2], b"abc"]


def test_iterating_over_lines_ends_with_the_stream(loop: str) -> None:
    async def main() -> list[bytes]:
        a, b = handle_pair()
        async with a, b:
            a.push_write(b"1\n2\n3\n")
            a.push_shutdown()
            return [line async for line in b.each("line")]

    assert run(main()) == [b"1", b"2", b"3"]


def test_iterating_over_json_ends_with_the_stream(loop: str) -> None:
    async def main() -> list[Any]:
        a, b = handle_pair()
        async with a, b:
            a.push_write(b" 1 [2]\n3\n")
            a.push_shutdown()
            return [value async for value in b.each("json")]

    assert run(main()) == [1, [2], 3]


def test_iterating_raises_if_the_stream_ends_inside_an_item(loop: str) -> None:
    async def main() -> list[bytes]:
        got = []
        a, b = handle_pair()
        async with a:
            a.push_write(b"1\npartial")
            a.push_shutdown()
            iterator = b.each("line")
            with pytest.raises(UnexpectedEOF):
                async for line in iterator:
                    got.append(line)
            assert [line async for line in iterator] == []
        return got

    assert run(main()) == [b"1"]


def test_an_iterator_does_not_read_ahead_of_its_loop(loop: str) -> None:
    async def main() -> list[Any]:
        a, b = handle_pair()
        async with a, b:
            a.push_write(b"size 5\n1\n2\n3tail\n")
            got: list[Any] = []
            async for line in b.each("line"):
                got.append(line)
                if line.startswith(b"size"):
                    got.append(await b.push_read(Chunk(5)))
                else:
                    break
            return got

    assert run(main()) == [b"size 5", b"1\n2\n3", b"tail"]


def test_the_end_between_items_is_told_to_on_eof_as_well(loop: str) -> None:
    told = []

    async def main() -> None:
        a, b = handle_pair(on_eof=lambda h: told.append("eof"))
        async with a, b:
            a.push_shutdown()
            async for _ in b.each("line"):
                told.append("a line")
            await ae.sleep(0.001)

    run(main())
    assert told == ["eof"]


def test_closing_an_iterator_ends_it(loop: str) -> None:
    async def main() -> list[bytes]:
        a, b = handle_pair()
        async with a, b:
            a.push_write(b"1\n2\n")
            iterator = b.each("line")
            first = [await anext(iterator)]
            await iterator.aclose()  # type: ignore[attr-defined]
            return [*first, *[line async for line in iterator], await b.push_read("line")]

    assert run(main()) == [b"1", b"2"]


def test_a_bad_item_is_raised_in_the_loop(loop: str) -> None:
    async def main() -> bytes:
        a, b = handle_pair()
        async with a, b:
            a.push_write(b"1:a,bad\n")
            got = []
            with pytest.raises(BadMessage):
                async for item in b.each("netstring"):
                    got.append(item)
            assert got == [b"a"]
            return await b.push_read("line")

    assert run(main()) == b"bad"


def test_a_cancelled_read_consumes_nothing(half: Half) -> None:
    h, peer = half()
    first = h.push_read("line")
    second = h.push_read(Chunk(2))
    third = h.push_read("line")
    second.cancel()
    peer.sendall(b"one\ntwo\n")
    assert first.recv() == b"one"
    assert third.recv() == b"two"
    assert second.cancelled


def test_a_cancelled_front_request_lets_the_next_one_look(half: Half, turns: Turns) -> None:
    h, peer = half()
    first = h.push_read(Chunk(100))
    second = h.push_read("line")
    peer.sendall(b"one\n")
    turns()
    assert not second.ready
    first.cancel()
    assert not second.ready
    assert second.recv() == b"one"


def test_a_wait_that_times_out_does_not_take_the_request_back(half: Half) -> None:
    h, peer = half()
    condvar = h.push_read("line")
    with pytest.raises(TimeoutError):
        condvar.recv(timeout=0.001)
    peer.sendall(b"late\n")
    assert condvar.recv() == b"late"


def test_a_cancelled_task_in_an_iteration_leaves_the_item(unbound: None) -> None:
    async def main() -> None:
        a, b = handle_pair()

        async def consume() -> None:
            async for line in b.each("line"):
                raise AssertionError(line)

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        a.push_write(b"still here\n")
        assert await b.push_read("line") == b"still here"
        a.destroy()
        b.destroy()

    with binding("asyncio"):
        ae.run(main())


def test_entering_waits_for_the_connection(loop: str) -> None:
    import ae_socket

    async def main() -> bytes:
        live: list[Handle] = []

        def accept(sock: socket.socket, host: str, port: int) -> None:
            live.append(Handle(sock))
            live[0].read_each("line", lambda h, line: h.push_write(line + b"!\n"))

        server = ae_socket.tcp_server("127.0.0.1", 0, accept)
        async with Handle(connect=server.address) as h:
            assert h.statistics().state == "open"
            h.push_write(b"hi\n")
            answer = await h.push_read("line")
        assert h.is_destroyed
        server.cancel()
        live[0].destroy()
        return answer

    assert run(main()) == b"hi!"


def test_entering_raises_if_there_is_no_connection(loop: str) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        h = Handle(connect=("127.0.0.1", port))
        with pytest.raises(OSError, match="refused"):
            async with h:
                raise AssertionError("entered")
        assert h.is_destroyed

    run(main())


def test_leaving_waits_until_everything_is_sent(loop: str) -> None:
    async def main() -> int:
        a, b = memory_pair(capacity=1000)
        reader = Handle(b, max_read_buffer=None)
        chunk = reader.push_read(Chunk(50_000))
        async with Handle(a) as h:
            h.push_write(bytes(50_000))
            unsent = h.statistics().unsent
        data = await chunk
        reader.destroy()
        return unsent - len(data)

    assert run(main()) == -1000


def test_leaving_with_an_exception_does_not_wait(loop: str) -> None:
    async def main() -> None:
        a, _ = memory_pair(capacity=10)
        with pytest.raises(KeyError):
            async with Handle(a, linger=0) as h:
                h.push_write(bytes(100))
                raise KeyError
        assert h.is_destroyed

    run(main())


def test_a_handle_may_be_destroyed_inside_its_block(loop: str) -> None:
    async def main() -> None:
        a, b = handle_pair()
        async with a:
            pending = a.push_read("line")
            a.destroy()
            with pytest.raises(HandleDestroyed):
                await pending
        b.destroy()

    run(main())


@pytest.mark.usefixtures("unbound")
def test_a_wait_for_nothing_is_a_deadlock() -> None:
    ae.use("loop")  # of others nobody can say that they have nothing to do
    a, _ = memory_pair()
    h = Handle(a)
    with pytest.raises(ae.Deadlock):
        h.push_read("line").recv()
    h.destroy()


def test_a_reader_of_ones_own_can_be_awaited(half: Half) -> None:
    h, peer = half()

    def word(buf: ReadBuffer) -> Any:
        end = buf.find(b" ")
        return NEED_MORE if end < 0 else buf.take(end + 1)[:-1]

    peer.sendall(b"two words ")
    assert h.push_read(word).recv() == b"two"
    assert h.unshift_read(word).recv() == b"words"


def test_an_iterator_that_is_dropped_in_another_thread_leaves_the_handle_alone(
    half: Any, until: Any
) -> None:
    """Its loop would be told otherwise that the end may be reported, by a thread that has none."""
    bound: list[Any] = []

    def drop() -> None:
        kept.clear()
        bound.append(ae.backend())

    h, peer = half(watch_eof=True)
    kept = [h.each("line")]
    peer.close()
    until(lambda: h._read.eof)
    dropper = threading.Thread(target=drop)
    dropper.start()
    dropper.join()
    assert bound == [None]
    with pytest.raises(UnexpectedEOF):
        h.push_read("line").recv()
