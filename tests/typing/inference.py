"""What type checkers infer for a user's code: checked by mypy and pyright, never run.

``hatch run types:check`` fails if one of these types gets vaguer or wrong.
"""

from __future__ import annotations

import socket
from typing import assert_type

import ae_core as ae
import ae_dns
from ae_handle import (
    Chunk,
    Handle,
    HandleError,
    Line,
    NeedMore,
    ReadBuffer,
    Regex,
    Served,
    relay,
    serve,
)
from ae_socket import AddressInfo, Server, resolve, tcp_connect, tcp_server


def condition_variables() -> None:
    cv = ae.CondVar[int]()
    assert_type(cv.recv(), int)
    assert_type(cv.ready, bool)
    cv.on_ready(lambda done: assert_type(done.recv(), int))


async def awaiting(cv: ae.CondVar[str]) -> None:
    assert_type(await cv, str)
    assert_type(await ae.sleep(1), None)


async def answer() -> bytes:
    return b"42"


def coroutines() -> None:
    assert_type(ae.run(answer()), bytes)
    assert_type(ae.spawn(answer()), ae.CondVar[bytes])


def sockets() -> None:
    assert_type(tcp_connect("localhost", 80), ae.CondVar[socket.socket])
    assert_type(resolve("localhost", 80), ae.CondVar[list[AddressInfo]])

    def accepted(sock: socket.socket, host: str, port: int) -> None: ...

    assert_type(tcp_server(None, 0, accepted), Server)


def names() -> None:
    assert_type(ae_dns.a("www.example.com"), ae.CondVar[list[str]])
    assert_type(ae_dns.srv("xmpp-client", "tcp", "example.com"), ae.CondVar[list[ae_dns.Srv]])
    assert_type(ae_dns.resolve("example.com", "MX"), ae.CondVar[ae_dns.Answer])


def own_reader(buffer: ReadBuffer) -> int | NeedMore:
    return len(buffer)


def frames(handle: Handle) -> None:
    assert_type(handle.push_read(Line()), ae.CondVar[bytes])
    assert_type(handle.push_read(Chunk(4)), ae.CondVar[bytes])
    assert_type(handle.push_read(own_reader), ae.CondVar[int])
    assert_type(handle.push_read("line", timeout=5), ae.CondVar[bytes])
    if handle.tls is not None:
        assert_type(handle.tls.version, str | None)
    assert_type(handle.unshift_read(own_reader, timeout=None), ae.CondVar[int])
    assert_type(handle.push_read("line"), ae.CondVar[bytes])
    assert_type(handle.push_read(Regex(rb"x")), ae.CondVar[bytes])
    assert_type(handle.drained(), ae.CondVar[None])

    def got_line(handle: Handle, line: bytes) -> None: ...

    def got_number(handle: Handle, number: int) -> None: ...

    handle.push_read(Line(), got_line)
    handle.push_read(own_reader, got_number)
    handle.unshift_read(Line(), got_line)
    handle.read_each(own_reader, got_number)
    handle.push_read(own_reader, got_line)  # type: ignore[arg-type]  # pyright: ignore


async def standing_reader(handle: Handle) -> None:
    async for line in handle.each(Line()):
        assert_type(line, bytes)
    async for number in handle.each(own_reader):
        assert_type(number, int)


class Mine(Handle):
    """A handle of the user's."""


def callbacks(sock: socket.socket) -> None:
    # what a callback is given is known without an annotation
    Handle(sock, on_read=lambda h: assert_type(h, Handle))
    Handle(sock, on_error=lambda h, error: assert_type((h, error), tuple[Handle, HandleError]))
    Handle(connect=("host", 1), on_connect=lambda h, host, port, retry: assert_type(retry(), None))
    Mine(sock, on_eof=lambda h: assert_type(h, Mine))
    handle = Handle(sock)
    handle.on_read = lambda h: assert_type(h, Handle)
    handle.on_error = lambda h, error: assert_type(error, HandleError)
    handle.on_timeout = lambda h: assert_type(h, Handle)
    handle.on_eof = None
    mine = Mine(sock)
    mine.on_drain = lambda h: assert_type(h, Handle)

    def nothing() -> None: ...

    def one(handle: Handle) -> None: ...

    def two(handle: Handle, item: bytes) -> None: ...

    # a wrong number of arguments is an error
    Handle(sock, on_read=nothing)  # type: ignore[arg-type]  # pyright: ignore
    Handle(sock, on_error=one)  # type: ignore[arg-type]  # pyright: ignore
    handle.on_read = two  # type: ignore[assignment]  # pyright: ignore
    handle.on_timeout = two  # type: ignore[assignment]  # pyright: ignore
    handle.on_error = one  # type: ignore[assignment]  # pyright: ignore
    handle.push_read("line", one)  # type: ignore[arg-type]  # pyright: ignore
    handle.push_read("json", one)  # type: ignore[arg-type]  # pyright: ignore
    handle.read_each(Chunk(4), one)  # type: ignore[arg-type]  # pyright: ignore
    serve(None, 0, two)  # type: ignore[arg-type]  # pyright: ignore


class Client:
    """What users write: a client of a host and a port."""

    def __init__(self, host: str, port: str | int) -> None:
        self.handle = Handle(connect=(host, port))


def servers(server: Server, served: Served) -> None:
    Client(*server.address)
    Client(*served.address)
    Handle(connect=served.address)
    assert_type(served.clients, tuple[Handle, ...])
    assert_type(
        relay(Client(*server.address).handle, served.clients[0]), ae.CondVar[tuple[int, int]]
    )


def groups(cv: ae.CondVar[int], other: ae.CondVar[int]) -> None:
    assert_type(ae.gather(cv, other), ae.CondVar[list[int]])
    assert_type(ae.first(cv, other), ae.CondVar[int])
    assert_type(ae.to_thread(len, "x"), ae.CondVar[int])
    assert_type(ae.as_condvar(cv.as_concurrent_future()), ae.CondVar[int])
    assert_type(ae.as_condvar(cv.as_future()), ae.CondVar[int])
    assert_type(ae.shield(cv), ae.CondVar[int])
