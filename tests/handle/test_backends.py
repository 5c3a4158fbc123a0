"""The whole room once on every backend: what a loop could get wrong."""

from __future__ import annotations

import socket
from typing import Any

import ae_core as ae
import ae_socket
from ae_core.abc import Backend
from ae_handle import Chunk, Handle, HandleTimedOut
from ae_handle.testing import handle_pair, lingering


async def settle() -> None:
    """Wait until nothing lingers any more."""
    while lingering():
        await ae.sleep(0.001)


def test_a_conversation_over_tcp(backend: Backend) -> None:
    async def main() -> tuple[list[Any], list[bytes]]:
        live: set[Handle] = set()

        def leave(h: Handle, *error: Any) -> None:
            live.discard(h)
            h.destroy()

        def accept(sock: socket.socket, host: str, port: int | str) -> None:
            h = Handle(sock, on_eof=leave, on_error=leave, no_delay=True)
            live.add(h)
            h.read_each("line", lambda h, line: h.push_write("json", line.decode()))

        server = ae_socket.tcp_server("127.0.0.1", 0, accept)
        async with Handle(connect=server.address) as h:
            for i in range(100):  # pipelined
                h.push_write(b"%d\n" % i)
            answers = [await h.push_read("json") for _ in range(100)]
            h.push_write(b"a\nb\n")
            h.push_shutdown()
            rest = [value async for value in h.each("json")]
        server.cancel()
        await settle()
        assert not live
        return answers, rest

    assert ae.run(main()) == ([str(i) for i in range(100)], ["a", "b"])


def test_a_megabyte_each_way(backend: Backend) -> None:
    async def main() -> None:
        data = bytes(range(256)) * 4096
        a, b = handle_pair(max_read_buffer=None)
        drained: list[str] = []
        a.on_drain = lambda h: drained.append("drained")
        a.push_write(data)
        b.push_write(data)
        assert await b.push_read(Chunk(len(data))) == data
        assert await a.push_read(Chunk(len(data))) == data
        await a.drained()
        assert drained
        a.destroy()
        b.destroy()
        await settle()

    ae.run(main())


def test_time_outs_and_the_end(backend: Backend) -> None:
    async def main() -> list[str]:
        told: list[str] = []
        ended = ae.CondVar[None]()

        def timed_out(h: Handle) -> None:
            told.append("timeout")
            h.timeout = 0
            b.push_write(b"last\n")
            b.destroy()

        a, b = handle_pair()
        a.on_timeout = timed_out
        a.on_eof = lambda h: (told.append("eof"), ended.send())
        a.read_each("line", lambda h, line: told.append(line.decode()))
        a.timeout = 0.02
        await ended
        a.destroy()
        await settle()
        return told

    assert ae.run(main()) == ["timeout", "last", "eof"]


def test_a_time_out_ends_a_wait(backend: Backend) -> None:
    async def main() -> None:
        a, b = handle_pair()
        a.read_timeout = 0.01
        try:
            await a.push_read("line")
        except HandleTimedOut:
            assert not a.is_destroyed  # who waited was told
        else:
            raise AssertionError("nothing was sent")
        finally:
            a.destroy()
            b.destroy()

    ae.run(main())


def test_a_forgotten_handle_stops_watching(backend: Backend) -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        h = Handle(a, on_read=lambda h: None)
        await ae.sleep(0.001)
        del h
        assert a.fileno() == -1
        assert b.recv(1) == b""
        b.close()

    ae.run(main())
