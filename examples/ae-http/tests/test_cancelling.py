"""Cancelled while waiting, or before what was delivered is taken: connections, the pool, pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle
from ae_http import Client, ResponseStream, _operation
from ae_http._operation import Operation

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"


def slow_or(reply: bytes) -> Any:
    """Return a handler that says half of a response to ``/slow``, nothing to ``/silent``."""

    def answer(handle: Handle, head: bytes) -> None:
        if b"/slow" in head:
            handle.push_write(HALF)
        elif b"/silent" not in head:
            handle.push_write(reply)

    return answer


@pytest.mark.parametrize("path", ["/slow", "/silent"])
def test_a_request_ends_with_its_last_awaiter_and_its_place_is_free(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Any, path: str
) -> None:
    server = serve(slow_or(reply(b"quick")))

    async def main() -> None:
        async with Client(max_connections=1, timeout=None, read_timeout=None) as client:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with ae.timeout(0.02):
                        await client.get(server.url + path)
            async with ae.timeout(20):
                assert (await client.get(server.url)).body == b"quick"
            assert client.idle == 1
        assert len(server.requests) == len(server.handles) == 4

    run(main())


def test_who_waits_for_a_place_and_is_cancelled_is_not_asked_for(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Any
) -> None:
    server = serve(slow_or(reply(b"quick")))

    async def main() -> None:
        async with Client(max_connections=1) as client:
            first = client.get(server.url + "/silent")
            with pytest.raises(TimeoutError):
                async with ae.timeout(0.02):
                    await client.get(server.url + "/never")
            first.cancel()
            assert (await client.get(server.url + "/then")).body == b"quick"
        assert [head.split()[1] for head in server.requests] == [b"/silent", b"/then"]

    run(main())


def test_a_request_that_somebody_else_waits_for_goes_on(serve: Any, reply: Any, run: Any) -> None:
    held: list[Handle] = []
    server = serve(lambda handle, head: held.append(handle))

    async def main() -> None:
        told: list[int] = []
        async with Client() as client:
            for kept in ("shield", "callback", "task"):
                asked = client.get(server.url)
                if kept == "callback":
                    asked.on_ready(lambda asked: told.append(asked.recv().status))
                other = ae.spawn(_status(asked)) if kept == "task" else None
                await ae.sleep(0)
                with pytest.raises(TimeoutError):
                    async with ae.timeout(0.02):
                        await (ae.shield(asked) if kept == "shield" else asked)
                while not held:
                    await ae.sleep(0.001)
                held.pop().push_write(reply(b"x"))
                assert (await asked).status == 200
                if other is not None:
                    assert await other == 200
        assert told == [200]
        assert len(server.handles) == 1

    run(main())


async def _status(asked: ae.CondVar[Any]) -> int:
    status: int = (await asked).status
    return status


def test_a_piece_that_is_waited_for_no_more_is_given_to_the_next(
    backend: ae.abc.Backend, serve: Any, run: Any
) -> None:
    server = serve(HALF)

    async def main() -> None:
        async with Client() as client, await client.stream("GET", server.url) as stream:
            assert await stream.read() == b"half"
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with ae.timeout(0.02):
                        await stream.read()
            server.handles[0].push_write(b"the re")
            assert await stream.read() == b"the re"
            assert await stream.read() == b""

    run(main())


def test_a_piece_that_was_delivered_and_not_taken_comes_again(
    backend: ae.abc.Backend, serve: Any, run: Any
) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce")

    async def main() -> None:
        async with Client() as client, await client.stream("GET", server.url) as stream:
            assert await _cancelled_when_ready(stream.read, "_serve")
            assert await stream.read() == b"once"
            assert await _cancelled_when_ready(stream.read, "_serve")
            assert await stream.read() == b""

    run(main())


def test_what_was_delivered_and_not_taken_is_closed(
    backend: ae.abc.Backend, serve: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        switch = b"HTTP/1.1 101 ok\r\nUpgrade: x\r\n\r\n"
        handle.push_write(switch if b"Upgrade: x" in head else HALF)

    server = serve(answer)
    kept: list[object] = []  # what nobody refers to any more would be closed all the same

    class Stream(ResponseStream):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self)

    finish = Operation._finish

    def keep(operation: Operation, value: Any) -> None:
        kept.append(value)
        finish(operation, value)

    monkeypatch.setattr(_operation, "ResponseStream", Stream)
    monkeypatch.setattr(Operation, "_finish", keep)

    async def main() -> None:
        async with Client() as client:
            assert await _cancelled_when_ready(lambda: client.stream("GET", server.url), "got_head")
            assert await _cancelled_when_ready(lambda: client.upgrade(server.url, "x"), "_finish")
            while server.alive:
                await ae.sleep(0.001)
        assert len(kept) == 2

    run(main())


async def _cancelled_when_ready(begin: Callable[[], ae.CondVar[Any]], sender: str) -> bool:
    """Cancel who awaits what *begin* begins between its being ready and their going on."""
    original = getattr(Operation, sender)
    begun: list[ae.CondVar[Any]] = []

    async def wait() -> None:
        begun.append(begin())
        await begun[0]

    def send(operation: Operation, *value: Any) -> None:
        original(operation, *value)
        if begun and begun[0].ready:  # and its awaiter does not have it yet
            task.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operation, sender, send)
        task = ae.spawn(wait())
        try:
            async with ae.timeout(20):
                await task
        except (ae.CancelledError, ae.cancelled_class()):
            return True
    return False
