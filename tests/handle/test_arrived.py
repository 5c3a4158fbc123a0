"""What has arrived is delivered before the stream's end or any error is told (HANDLE-37).

On every backend, in clear and in TLS with both engines, however it is read: the same items, then
the true reason. A handle of TLS, or with ``watch_eof``, reads ahead and so knows of the end while
its readers are still at the beginning.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import (
    Chunk,
    Handle,
    HandleError,
    TlsError,
    UnexpectedEOF,
)
from ae_handle.testing import lingering

COUNT = 300
LINES = [b"line %d" % i for i in range(COUNT)]
WIRE = b"".join(line + b"\n" for line in LINES)
DAMAGED = b"\x17\x03\x03\x00\x20" + bytes(32)


class Connection:
    """A handle, and how its peer ends after it has said everything."""

    def __init__(self, handle: Handle, sock: socket.socket, peer: Handle | None = None) -> None:
        self.handle = handle
        self.sock = sock
        self.peer = peer

    async def say_all_and(self, end: str) -> None:
        if self.peer is None:
            self.sock.sendall(WIRE)
        else:
            self.peer.push_write(WIRE)
            await self.peer.drained()
        if end == "damaged":
            self.sock.send(DAMAGED)
        elif end == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end != "damaged":
            self.end()

    def end(self) -> None:
        if self.peer is None:
            self.sock.close()
        else:
            self.peer.linger = 0
            self.peer.destroy()


async def connect(kind: str, contexts: Any, **options: Any) -> Connection:
    """Return a connection of the given kind, whose TLS is established."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    if kind in ("plain", "watch_eof"):
        return Connection(Handle(ours, watch_eof=kind == "watch_eof", **options), theirs)
    near, far = contexts(kind)
    tls = {"tls": "connect", "tls_context": near, "peer_name": "peer.test"}
    handle = Handle(ours, **tls, **options)
    peer = Handle(theirs, tls="accept", tls_context=far, on_error=lambda h, error: None)
    peer.push_write(b"hello\n")
    assert await handle.push_read("line") == b"hello"
    handle.push_write(b"!")
    assert await peer.push_read(Chunk(1)) == b"!"
    return Connection(handle, theirs, peer)


def expected(kind: str, end: str) -> str:
    if end == "damaged":
        return "TlsError"
    return "TransportError" if end == "reset" else "UnexpectedEOF"


async def by_await(h: Handle, got: list[Any]) -> None:
    try:
        while True:
            got.append(await h.push_read("line"))
    except HandleError as error:
        got.append(type(error).__name__)


async def by_await_behind_tasks(h: Handle, got: list[Any]) -> None:
    """Each item comes through a coroutine of its own, as behind a time limit."""

    async def one() -> bytes:
        return await h.push_read("line")

    try:
        while True:
            got.append(await ae.spawn(one()))
    except HandleError as error:
        got.append(type(error).__name__)


async def by_each(h: Handle, got: list[Any]) -> None:
    try:
        async for line in h.each("line"):
            got.append(line)
        got.append("UnexpectedEOF")  # a good end, that is
    except HandleError as error:
        got.append(type(error).__name__)


async def by_each_with_a_pause(h: Handle, got: list[Any]) -> None:
    try:
        async for line in h.each("line"):
            got.append(line)
            if len(got) % 100 == 50:
                await ae.sleep(0.005)
        got.append("UnexpectedEOF")
    except HandleError as error:
        got.append(type(error).__name__)


async def late(h: Handle, got: list[Any]) -> None:
    got.append(await h.push_read("line"))
    await ae.sleep(0.01)  # the program does something else meanwhile
    await by_await(h, got)


def told(h: Handle, got: list[Any]) -> ae.CondVar[None]:
    """Record the error that on_error is called with."""
    done = ae.CondVar[None]()

    def failed(h: Handle, error: HandleError) -> None:
        got.append(type(error).__name__)
        done.send()

    h.on_error = failed
    return done


async def queued(h: Handle, got: list[Any]) -> None:
    done = told(h, got)
    for _ in range(COUNT + 1):
        h.push_read("line", lambda h, line: got.append(line))
    await done


async def standing(h: Handle, got: list[Any]) -> None:
    done = told(h, got)
    h.read_each("line", lambda h, line: got.append(line))
    await done


async def by_on_read(h: Handle, got: list[Any]) -> None:
    done = told(h, got)

    def on_read(h: Handle) -> None:
        while (end := h.read_buffer.find(b"\n")) >= 0:
            got.append(h.read_buffer.take(end + 1)[:-1])

    h.on_read = on_read
    await done


async def each_and_on_error(h: Handle, got: list[Any]) -> None:
    heard: list[Any] = []
    done = told(h, heard)
    await by_each_with_a_pause(h, got)
    if h.statistics().state == "ended":
        return  # a good end is not an error for an iterator
    await done
    assert heard == got[-1:]


async def await_and_on_error(h: Handle, got: list[Any]) -> None:
    heard: list[Any] = []
    done = told(h, heard)
    await by_await(h, got)
    await done
    assert heard == got[-1:]


async def tasks_and_on_error(h: Handle, got: list[Any]) -> None:
    told(h, [])
    await by_await_behind_tasks(h, got)


STYLES: tuple[Callable[[Handle, list[Any]], Awaitable[None]], ...] = (
    by_await,
    by_await_behind_tasks,
    by_each,
    by_each_with_a_pause,
    late,
    queued,
    standing,
    by_on_read,
    each_and_on_error,
    await_and_on_error,
    tasks_and_on_error,
)


async def settled() -> None:
    while lingering():
        await ae.sleep(0.001)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
@pytest.mark.parametrize("kind", ["plain", "watch_eof", "ssl", "ae_tls"])
def test_everything_that_arrived_is_read_before_the_end_is_told(
    backend: Backend, contexts: Any, hooked: list[str], kind: str, style: Any
) -> None:
    if kind == "ae_tls":
        contexts(kind)  # or skip

    async def main(end: str) -> list[Any]:
        got: list[Any] = []
        connection = await connect(kind, contexts)
        await connection.say_all_and(end)
        await style(connection.handle, got)
        connection.handle.destroy()
        connection.end()
        await settled()
        return got

    for end in ("close", "reset") if kind in ("plain", "watch_eof") else ("close", "damaged"):
        assert ae.run(main(end)) == [*LINES, expected(kind, end)], end
    assert hooked == []


@pytest.mark.parametrize("kind", ["watch_eof", "ssl", "ae_tls"])
def test_with_on_error_a_later_read_gets_the_reason(
    backend: Backend, contexts: Any, hooked: list[str], kind: str
) -> None:
    if kind == "ae_tls":
        contexts(kind)  # or skip

    async def main(end: str) -> list[Any]:
        heard: list[Any] = []
        connection = await connect(kind, contexts)
        h = connection.handle
        done = told(h, heard)
        await connection.say_all_and(end)
        got: list[Any] = [await h.push_read("line")]
        await ae.sleep(0.02)
        await done
        await by_await(h, got)
        assert heard == got[1:]
        h.destroy()
        await by_await(h, got)  # it was not this that ended it
        connection.end()
        await settled()
        return got

    for end in ("close", "reset") if kind == "watch_eof" else ("close", "damaged"):
        assert ae.run(main(end)) == [LINES[0], *[expected(kind, end)] * 2], end
    assert hooked == []


def test_every_backend_reads_what_the_peer_said_before_a_write_failed(
    backend: Backend, hooked: list[str]
) -> None:
    """The peer has sent its last words, and reset the connection: then we write."""

    async def main() -> list[Any]:
        connection = await connect("plain", None)
        h = connection.handle
        await connection.say_all_and("reset")
        h.push_write(b"too late")
        await ae.sleep(0.01)
        got: list[Any] = []
        await by_await(h, got)
        return got

    assert ae.run(main()) == [*LINES, "TransportError"]
    assert hooked == []


def test_a_truncated_stream_is_no_error_of_tls_anywhere(
    engine: str, contexts: Any, hooked: list[str]
) -> None:
    """Also where what the callbacks write can no longer be encrypted."""
    heard: list[Any] = []

    async def main() -> None:
        connection = await connect(engine, contexts)
        h = connection.handle
        h.on_error = lambda h, error: heard.append(error)
        h.read_each("line", lambda h, line: h.push_write(line))
        await connection.say_all_and("close")
        while not heard:
            await ae.sleep(0.001)

    ae.run(main())
    (error,) = heard
    assert type(error) is UnexpectedEOF
    assert "truncated" in str(error)
    assert not isinstance(error, (TlsError, ssl.SSLError))
    assert hooked == []
