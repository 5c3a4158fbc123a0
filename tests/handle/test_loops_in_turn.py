"""One thread, several loops in turn: what an idle handle or server means for that."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle
from ae_socket import tcp_server

pytestmark = pytest.mark.usefixtures("unbound")


async def conversation() -> bytes:
    a, b = socket.socketpair()
    async with Handle(a) as h:
        b.sendall(b"hello\n")
        line: bytes = await h.push_read("line", timeout=60)
    b.close()
    return line


async def nap() -> None:
    await ae.sleep(0)


def blocking() -> Handle:
    """A script that has waited, and keeps its handle."""
    a, b = socket.socketpair()
    h = Handle(a)
    b.sendall(b"first\n")
    assert h.push_read("line").recv() == b"first"
    b.close()
    return h


def test_a_script_that_waited_first_runs_asyncio_later_and_waits_again() -> None:
    for _ in range(2):
        blocking().destroy()
        assert ae.backend() == "loop"
        assert asyncio.run(conversation()) == b"hello"
    blocking()  # dropped


def test_a_handle_that_lives_holds_the_loop_and_is_named() -> None:
    h = blocking()
    with pytest.raises(ae.WrongLoop) as caught:
        asyncio.run(nap())
    assert repr(h) in str(caught.value)
    assert "ae_core.release()" in str(caught.value)
    h.destroy()
    assert asyncio.run(conversation()) == b"hello"


def test_a_handle_is_released_with_its_loop() -> None:
    h = blocking()
    assert ae.release() == [repr(h)]
    assert asyncio.run(conversation()) == b"hello"
    h.destroy()


def test_what_ends_is_held_no_longer() -> None:
    ae.sleep(0).recv()
    holders = ae.detect().holders
    h = blocking()
    assert len(holders) == 1
    h.destroy()
    blocking()
    with pytest.raises(TypeError):
        Handle(object())
    assert not holders


def test_a_server_that_is_paused_holds_the_loop() -> None:
    server = tcp_server("127.0.0.1", 0, lambda *args: None)
    server.pause()
    with pytest.raises(ae.WrongLoop) as caught:
        asyncio.run(nap())
    assert repr(server) in str(caught.value)
    server.resume()
    server.pause()
    server.cancel()
    assert asyncio.run(conversation()) == b"hello"
    assert not ae.detect().holders
    tcp_server("127.0.0.1", 0, lambda *args: None).pause()  # dropped
    assert not ae.detect().holders


def test_a_connection_given_up_while_another_loop_runs_is_an_error_in_its_own(
    hooked: list[str],
) -> None:
    told = ae.CondVar[Any]()
    operation = ae.CondVar[socket.socket](cancel=lambda: None)
    h = Handle(
        connect=("peer.test", 25),
        connector=lambda host, service: operation,
        on_error=lambda h, error: told.send(str(error)),
    )
    ae.sleep(0).recv()

    async def give_up() -> None:
        operation.cancel()

    asyncio.run(give_up())
    assert not told.ready
    assert told.recv(timeout=60) == "the operation that connects was cancelled"
    assert h.is_destroyed
    assert hooked == []


def test_a_connection_given_up_when_its_loop_has_ended_is_nobodys_error(hooked: list[str]) -> None:
    operation = ae.CondVar[socket.socket](cancel=lambda: None)

    def connector(host: str, service: str | int) -> ae.CondVar[socket.socket]:
        return operation

    async def begin() -> Handle:
        return Handle(connect=("peer.test", 25), connector=connector)

    h = asyncio.run(begin())
    operation.cancel()
    h.destroy()
    assert hooked == []
