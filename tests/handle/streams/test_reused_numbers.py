"""A stream that its user closes while its handle lives or lingers: others do not suffer for it."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import Handle, TransportError
from ae_handle.testing import lingering


async def hears(sock: socket.socket, peer: socket.socket) -> bytes:
    """Return what a new connection reads, which must not be deaf."""
    h = Handle(sock)
    line = h.push_read("line")
    peer.sendall(b"hello\n")
    heard = await line
    h.push_write(b"world")
    await h.drained()
    assert peer.recv(10) == b"world"
    h.destroy()
    peer.close()
    return heard


@pytest.mark.parametrize("lives", [False, True])
def test_a_connection_with_the_number_of_a_closed_one_is_not_deaf(
    backend: Backend, hooked: list[str], lives: bool
) -> None:
    async def main() -> bytes:
        a, b = socket.socketpair()
        number = a.fileno()
        errors: list[Any] = []
        with a:
            h = Handle(a, on_error=lambda h, error: errors.append(error), peer_name="b")
            h.push_read("line", lambda h, line: None)
            await ae.sleep(0.001)
            h.push_write(bytes(1_000_000))  # more than the kernel takes
            if not lives:
                h.destroy()
        c, d = socket.socketpair()
        assert c.fileno() == number
        heard = await hears(c, d)
        if lives:
            while not errors:
                await ae.sleep(0.001)
            (error,) = errors
            assert type(error) is TransportError
        else:
            while lingering():
                await ae.sleep(0.001)
            (loss,) = hooked
            assert "bytes to b were not sent: Bad file descriptor" in loss
        b.close()
        return heard

    assert ae.run(main()) == b"hello"


@pytest.mark.skipif(os.name == "nt", reason="pipes cannot be watched there")
@pytest.mark.parametrize("lives", [False, True])
def test_nothing_is_written_into_the_pipe_that_has_the_number_of_a_closed_one(
    backend: Backend, hooked: list[str], lives: bool
) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        file = os.fdopen(writer, "wb", buffering=0)
        h = Handle(file, peer_name="reader", on_error=lambda h, error: hooked.append(str(error)))
        h.push_write(b"x" * 1_000_000)
        await ae.sleep(0.001)
        if not lives:
            h.destroy()
        innocent, other = os.pipe()
        file.close()
        os.dup2(other, writer)  # what a later open() may get
        os.set_blocking(innocent, False)
        writable = ae.CondVar[None]()
        with ae.io(writer, "w", lambda: writable.ready or writable.send()):
            await writable
            while not hooked:
                await ae.sleep(0.001)
        with pytest.raises(BlockingIOError):
            os.read(innocent, 1)
        for fd in (reader, writer, innocent, other):
            os.close(fd)

    ae.run(main())
    (said,) = hooked
    assert "closed behind the handle's back" in said
