"""An awaited read that is cancelled consumes nothing, whenever the cancellation comes."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import Chunk, Handle

Join = Callable[..., tuple[Handle, Handle]]
READS = int(os.environ.get("AE_SOAK_READS", "300"))


async def pending(h: Handle, count: int = 1) -> None:
    while h.statistics().requests < count:
        await ae.sleep(0)


@pytest.mark.parametrize("order", ["item first", "cancel first", "no item"])
@pytest.mark.parametrize("following", ["line", "each", "callback", "read_each", "on_read"])
def test_what_was_not_taken_is_read_by_whatever_comes_next(
    backend: Backend, order: str, following: str
) -> None:
    async def main() -> list[Any]:
        a, peer = socket.socketpair()
        h = Handle(a)
        got: list[Any] = []

        async def take() -> None:
            got.append(await h.push_read("line"))

        task = ae.spawn(take())
        await pending(h)
        if order == "item first":
            peer.sendall(b"first\nsecond\n")
            h._events.readable()  # as the loop does, but before the task can run
        task.cancel()
        if order == "cancel first":
            peer.sendall(b"first\nsecond\n")
            h._events.readable()
        with pytest.raises(ae.CancelledError):
            await task
        assert got == []
        assert h.statistics().requests == 0
        if order == "no item":
            peer.sendall(b"first\nsecond\n")
        done = ae.CondVar[None]()

        def line(h: Handle, item: bytes) -> None:
            got.append(item)
            if len(got) == 2:
                done.send()

        def data(h: Handle) -> None:
            got.extend(h.read_buffer.take().splitlines())
            if len(got) >= 2:
                done.send()

        if following == "line":
            got += [await h.push_read("line"), await h.push_read("line")]
        elif following == "each":
            lines = h.each("line")
            got += [await anext(lines), await anext(lines)]
        elif following == "callback":
            h.push_read("line", line)
            h.push_read("line", line)
            await done
        elif following == "read_each":
            h.read_each("line", line)
            await done
        else:
            h.on_read = data
            await done
        h.destroy()
        peer.close()
        return got

    assert ae.run(main()) == [b"first", b"second"]


def test_two_items_that_were_not_taken_go_back_in_their_order(backend: Backend) -> None:
    async def main() -> list[Any]:
        a, peer = socket.socketpair()
        h = Handle(a)

        async def take(reader: Any) -> Any:
            return await h.push_read(reader)

        tasks = [ae.spawn(take(reader)) for reader in ("line", Chunk(2), "line")]
        await pending(h, 3)
        peer.sendall(b"one\ntwo\nthree\n")
        h._events.readable()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(ae.CancelledError):
                await task
        got = [await h.push_read("line") for _ in range(3)]
        h.destroy()
        peer.close()
        return got

    assert ae.run(main()) == [b"one", b"two", b"three"]


def test_an_operation_says_what_it_reads_from_whom_and_no_value() -> None:
    a, b = socket.socketpair()
    h = Handle(a, peer_name="example.org")
    operation = h.push_read("line")
    assert repr(operation) == "<read 'line' from example.org, pending>"
    b.sendall(b"secret\n")
    operation.recv()
    assert repr(operation) == "<read 'line' from example.org, 6 bytes>"
    assert "Chunk(size=4)" in repr(h.push_read(Chunk(4)))
    assert repr(h.drained()) == "<everything sent to example.org, pending>"
    h.destroy()
    b.close()


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "tls"])
def test_reads_that_are_cancelled_at_random_lose_double_and_reorder_nothing(
    backend: Backend, plain: bool, join_tls: Join
) -> None:
    """``AE_SOAK_READS`` reads; 300 unless that is set."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choice = random.Random(seed)

    async def main() -> None:
        if plain:
            a, b = socket.socketpair()
            client, server = Handle(a), Handle(b)
        else:
            client, server = join_tls()
        sent = taken = 0
        lines = client.each("line")

        async def take(how: Any) -> Any:
            return await (anext(lines) if how == "each" else client.push_read(how))

        while taken < READS:
            task = ae.spawn(take(choice.choice(["line", "each", Chunk(9)])))
            for _ in range(choice.randrange(3)):
                await ae.sleep(0)
            for _ in range(choice.randrange(sent == taken, 4)):
                server.push_write(b"%08d\n" % sent)
                sent += 1
            for _ in range(choice.randrange(8)):
                await ae.sleep(0)
            if choice.randrange(2):
                task.cancel()
            try:
                value = await task
            except ae.CancelledError:
                continue
            assert value[:8] == b"%08d" % taken
            taken += 1
        client.destroy()
        server.destroy()

    ae.run(main())


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_goes_back_is_what_was_sent(backend: Backend, end: bytes) -> None:
    """Whether it came alone, or with others before or behind it."""

    async def main() -> None:
        a, peer = socket.socketpair()
        h = Handle(a)
        for sent in ([b"line" + end], [b"li", b"ne" + end], [b"line" + end + b"more"], [end]):

            async def take() -> None:
                await h.push_read("line")

            task = ae.spawn(take())
            await pending(h)
            for piece in sent:
                peer.sendall(piece)
                h._events.readable()
            assert h.statistics().requests == 0
            task.cancel()
            with pytest.raises(ae.CancelledError):
                await task
            whole = b"".join(sent)
            assert await h.push_read(Chunk(len(whole)), timeout=60) == whole
        h.destroy()
        peer.close()

    ae.run(main())


def test_a_read_of_another_thread_that_was_not_told_can_still_be_cancelled(
    script: Callable[..., str],
) -> None:
    """Its condition variable belongs to that thread: the loop's own can deliver nothing to it."""
    program = """
        import socket, threading
        import ae_core as ae
        from ae_handle import Handle

        ae.exception_hook = lambda error, watcher: print(str(error)[:30])
        a, peer = socket.socketpair()
        first = ae.CondVar()
        handle = Handle(a)
        handle.push_read("line", lambda handle, line: None)
        ae.sleep(0).recv()
        asked, answered = threading.Event(), threading.Event()

        def read():
            line = handle.push_read("line")
            asked.set()
            answered.wait(60)
            line.cancel()
            print(line.cancelled)

        thread = threading.Thread(target=read)
        thread.start()
        asked.wait(60)
        handle.push_read("line", lambda handle, line: first.send())
        peer.sendall(b"1\\n2\\n3\\n")
        first.recv(60)
        answered.set()
        thread.join()
        handle.destroy()
        peer.close()
        """
    assert script(program) == "send() in another thread than \nTrue\n"
