"""STARTTLS and its undoing: what was pushed when decides how it leaves, whenever the handle goes.

A client says a line in clear, starts TLS, says a secret, stops TLS and says a line in clear. The
server records what it reads, and whether TLS carried it. Between any two of the client's steps
the loop may have run or not; the connection may be there from the beginning or only be under way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_core.abc import Backend
from ae_handle import Handle
from ae_handle.testing import lingering

Heard = list[Any]

WHOLE = [("clear", b"STARTTLS"), ("tls", b"secret"), ("clear", b"goodbye"), "eof"]


class Server:
    """One connection of a server that follows a client's lead."""

    def __init__(self, sock: socket.socket, context: Any, again: bool) -> None:
        self.heard: Heard = []
        self.context = context
        self.again = again
        self.handle = Handle(
            sock,
            on_eof=self.on_eof,
            on_error=lambda h, error: self.heard.append(error),
            on_tls_stopped=self.on_tls_stopped,
        )
        self.handle.read_each("line", self.on_line)

    def on_line(self, h: Handle, line: bytes) -> None:
        self.heard.append(("clear" if h.tls is None else "tls", line))
        if line == b"STARTTLS":
            h.start_tls("accept", self.context)

    def on_tls_stopped(self, h: Handle) -> None:
        assert h.tls is not None  # can still be looked at
        if self.again:
            self.again = False
            h.start_tls("accept", self.context)

    def on_eof(self, h: Handle) -> None:
        self.heard.append("eof")
        h.destroy()

    async def end(self) -> Heard:
        while not (self.heard and not isinstance(self.heard[-1], tuple)):
            await ae.sleep(0.001)
        return self.heard


class World:
    """A server, and handles that talk to it."""

    def __init__(self, contexts: tuple[Any, Any], again: bool = False) -> None:
        self.client_context, self.server_context = contexts
        self.again = again
        self.accepted = ae.CondVar[Server]()
        self.listener = ae_socket.tcp_server("127.0.0.1", 0, self.accept)

    def accept(self, sock: socket.socket, host: str, port: Any) -> None:
        self.accepted.send(Server(sock, self.server_context, self.again))

    async def client(self, connecting: bool, **options: Any) -> Handle:
        address = self.listener.address
        h = Handle(connect=address, tls_context=self.client_context, **options)
        h.peer_name = "peer.test"
        if not connecting:
            await h.drained()
        return h

    async def end(self) -> Heard:
        server = await self.accepted
        heard = await server.end()
        server.handle.destroy()
        self.listener.cancel()
        while lingering():
            await ae.sleep(0.001)
        return heard


async def whole(world: World, connecting: bool, pauses: Iterator[int]) -> Heard:
    """Do all steps, with a pause where *pauses* says so, and destroy the handle."""

    async def step() -> None:
        if next(pauses):
            await ae.sleep(0.004)

    h = await world.client(connecting)
    h.push_write(b"STARTTLS\n")
    await step()
    h.start_tls("connect")
    await step()
    h.push_write(b"secret\n")
    await step()
    h.stop_tls()
    await step()
    h.push_write(b"goodbye\n")
    await step()
    h.destroy()
    return await world.end()


@pytest.mark.parametrize("connecting", [False, True])
def test_every_octet_leaves_as_it_was_meant_wherever_the_loop_ran(
    contexts: Any, engine: str, connecting: bool, hooked: list[str]
) -> None:
    for pauses in product((0, 1), repeat=5):
        heard = ae.run(whole(World(contexts(engine)), connecting, iter(pauses)))
        assert heard == WHOLE, pauses
    assert hooked == []


@pytest.mark.parametrize("connecting", [False, True])
def test_every_octet_leaves_as_it_was_meant_on_every_backend(
    backend: Backend, contexts: Any, engine: str, connecting: bool, hooked: list[str]
) -> None:
    async def main() -> None:
        for pauses in ((0,) * 5, (0, 0, 1, 0, 0), (0, 0, 0, 1, 1), (1,) * 5):
            heard = await whole(World(contexts(engine)), connecting, iter(pauses))
            assert heard == WHOLE, pauses

    ae.run(main())
    assert hooked == []


def word(heard: Any) -> str:
    if isinstance(heard, tuple):
        return str(heard[0])
    return heard if isinstance(heard, str) else type(heard).__name__


@pytest.mark.parametrize("connecting", [False, True])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("clear destroy", ["clear", "TlsError"]),  # the server waits for a handshake
        ("clear start destroy", ["clear", "eof"]),
        ("clear start secret destroy", ["clear", "tls", "eof"]),
        ("clear start secret stop destroy", ["clear", "tls", "eof"]),
        ("clear start secret stop stop destroy", ["clear", "tls", "eof"]),
        ("clear start stop goodbye destroy", ["clear", "clear", "eof"]),
        ("clear start secret shutdown destroy", ["clear", "tls", "eof"]),
        ("clear start secret stop goodbye shutdown destroy", ["clear", "tls", "clear", "eof"]),
    ],
)
def test_every_way_to_go(
    contexts: Any,
    engine: str,
    connecting: bool,
    steps: str,
    expected: list[str],
    hooked: list[str],
) -> None:
    async def main(pause_at: int) -> list[str]:
        world = World(contexts(engine))
        h = await world.client(connecting)
        does: dict[str, Callable[[], object]] = {
            "clear": lambda: h.push_write(b"STARTTLS\n"),
            "start": lambda: h.start_tls("connect"),
            "secret": lambda: h.push_write(b"secret\n"),
            "stop": h.stop_tls,
            "goodbye": lambda: h.push_write(b"goodbye\n"),
            "shutdown": h.push_shutdown,
            "destroy": h.destroy,
        }
        for number, step in enumerate(steps.split()):
            if number == pause_at:
                await ae.sleep(0.004)
            does[step]()
        return [word(each) for each in await world.end()]

    for pause_at in range(len(steps.split()) + 1):
        assert ae.run(main(pause_at)) == expected, pause_at
    assert hooked == []


def test_what_was_pushed_before_start_tls_leaves_in_clear_while_connecting(
    contexts: Any, engine: str
) -> None:
    """Also if it is more than the kernel takes at once."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            h = Handle(connect=listener.getsockname(), on_error=lambda h, error: None)
            h.peer_name = "peer.test"
            h.push_write(b"STARTTLS\r\n" * 100_000)
            h.start_tls("connect", contexts(engine)[0])
            h.push_write(b"secret\r\n")
            await ae.sleep(0.01)
            peer, _ = listener.accept()
        peer.setblocking(False)
        got = b""
        while len(got) < 1_000_001:
            try:
                got += peer.recv(1 << 16)
            except BlockingIOError:
                await ae.sleep(0.001)
        assert got[:1_000_000] == b"STARTTLS\r\n" * 100_000
        assert got[1_000_000] == 0x16  # a handshake record
        assert b"secret" not in got
        h.linger = 0
        h.destroy()
        peer.close()

    ae.run(main())


def test_tls_can_start_again_from_on_tls_stopped(
    backend: Backend, contexts: Any, engine: str, hooked: list[str]
) -> None:
    async def main() -> Heard:
        world = World(contexts(engine), again=True)
        h = await world.client(connecting=False)
        told: list[str] = []

        def stopped(h: Handle) -> None:
            told.append("stopped")
            h.on_tls_stopped = None
            h.start_tls("connect")
            with pytest.raises(ValueError, match="active already"):
                h.start_tls("connect")
            h.push_write(b"secret again\n")

        h.on_tls_stopped = stopped
        h.push_write(b"STARTTLS\n")
        h.start_tls("connect")
        h.push_write(b"secret\n")
        h.stop_tls()
        while not told:
            await ae.sleep(0.001)
        while h.tls is None or h.tls.state == "handshake":
            await ae.sleep(0.001)
        assert h.tls.state == "established"
        h.destroy()
        return await world.end()

    assert ae.run(main()) == [
        ("clear", b"STARTTLS"),
        ("tls", b"secret"),
        ("tls", b"secret again"),
        "eof",
    ]
    assert hooked == []


def test_both_sides_start_again_and_everything_arrives(
    backend: Backend, contexts: Any, engine: str, hooked: list[str]
) -> None:
    async def main() -> Heard:
        world = World(contexts(engine), again=True)
        h = await world.client(connecting=False)
        stopped = ae.CondVar[None]()

        def again(h: Handle) -> None:
            if h.tls is not None and not stopped.ready:
                h.start_tls("connect")
                h.push_write(b"secret again\n")
                h.stop_tls()
                h.push_write(b"goodbye\n")
                stopped.send()

        h.on_tls_stopped = again
        h.push_write(b"STARTTLS\n")
        h.start_tls("connect")
        h.push_write(b"secret\n")
        h.stop_tls()
        await stopped
        h.destroy()
        return await world.end()

    assert ae.run(main()) == [
        ("clear", b"STARTTLS"),
        ("tls", b"secret"),
        ("tls", b"secret again"),
        ("clear", b"goodbye"),
        "eof",
    ]
    assert hooked == []


@pytest.mark.parametrize("ends", [False, True])
def test_clear_text_follows_when_the_peer_does_not_answer_close_notify(
    certificates: Any, unbound: None, ends: bool
) -> None:
    """It reads, and says nothing: after the bound, or its end, the rest leaves all the same."""
    from ae_core.testing import virtual_time
    from ae_handle.testing import memory_pair, ssl_context

    with virtual_time() as clock:
        ours, wire = memory_pair()
        h = Handle(ours, tls="connect", tls_context=certificates.client(), peer_name="peer.test")
        server = ssl_context(certificates.server()).new_session("accept", None)

        def carry() -> bytes:
            clock.advance(0)
            try:
                data = wire.recv(1 << 16)
            except BlockingIOError:
                return b""
            if server.state != "closed" and data[:1] in (b"\x14", b"\x15", b"\x16", b"\x17"):
                server.feed(data)
                if server.state in ("handshake", "established"):
                    wire.send(server.drain() or b"")
            return data

        while server.state == "handshake":
            carry()
        carry()
        h.stop_tls()
        h.push_write(b"goodbye")
        h.destroy()
        carry()
        if ends:
            wire.shutdown(1)
        else:
            clock.advance(9)
            assert carry() == b""
            clock.advance(2)
        assert carry() == b"goodbye"
        wire.close()
        clock.advance(1)
        assert not lingering()
        assert ours.closed


def test_an_alert_goes_out_before_a_lingering_handle_closes(
    contexts: Any, engine: str, hooked: list[str]
) -> None:
    """The client has gone; the certificate that then arrives is for somebody else."""

    async def main() -> Any:
        near, far = contexts(engine)
        told = ae.CondVar[Any]()

        def started(h: Handle, error: Any) -> None:
            told.send(error)

        a, b = socket.socketpair()
        server = Handle(b, tls="accept", tls_context=far, on_tls_started=started)
        client = Handle(a, tls="connect", tls_context=near, peer_name="other.test")
        client.push_write(b"secret")
        client.destroy()
        error = await told
        server.destroy()
        while lingering():
            await ae.sleep(0.001)
        return error

    assert ae.run(main()).reason == "alert"
    (loss,) = hooked
    assert loss.startswith("TlsError(")
    assert "6 bytes to other.test were not sent: " in loss
