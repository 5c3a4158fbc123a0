"""What type checkers infer for a user's code: checked by mypy and pyright, never run.

``hatch run types:check`` fails if one of these types gets vaguer or wrong.
"""

from __future__ import annotations

import socket
from typing import assert_type

import ae_core as ae
import ae_dns
from ae_handle import Chunk, Handle, Line, NeedMore, ReadBuffer, Regex
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
