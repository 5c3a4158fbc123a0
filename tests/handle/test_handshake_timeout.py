"""``handshake_timeout``: the whole handshake, on either side, however it trickles."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import virtual_time
from ae_handle import Handle, HandleTimedOut
from ae_handle.testing import MemoryStream, lingering, memory_pair

HELLO = bytes.fromhex("16030102000100")


def roles(contexts: Any, engine: str) -> list[dict[str, Any]]:
    near, far = contexts(engine)
    return [
        {"tls": "connect", "tls_context": near, "peer_name": "peer.test"},
        {"tls": "accept", "tls_context": far},
    ]


def trickle(peer: MemoryStream, clock: Any, seconds: int) -> None:
    """Let *seconds* pass, in which the peer says an octet of a handshake now and then."""
    for i in range(seconds):
        if i % 10 == 9:
            peer.send(HELLO[i // 10 :][:1])
        clock.advance(1)


def test_a_silent_peer_ends_the_handshake_on_every_backend(
    backend: Backend, contexts: Any, engine: str, hooked: list[str]
) -> None:
    async def main() -> None:
        for options in roles(contexts, engine):
            a, b = socket.socketpair()
            told = ae.CondVar[Any]()
            h = Handle(
                a,
                handshake_timeout=0.01,
                on_tls_started=lambda h, error, told=told: told.send(error),
                on_error=lambda h, error: hooked.append("on_error"),
                **options,
            )
            pending = h.push_read("line")
            error = await told
            assert type(error) is HandleTimedOut
            assert (error.reason, error.fatal) == ("timed-out", True)
            assert str(error) == "handshake_timeout of 0.01 s has passed"
            with pytest.raises(HandleTimedOut):
                await pending
            assert not h.is_destroyed  # as after any handshake that fails
            h.destroy()
            assert a.fileno() == -1
            b.close()

    ae.run(main())
    assert hooked == []


def test_it_is_a_minute_and_a_trickle_does_not_extend_it(
    unbound: None, contexts: Any, engine: str, trace: Any
) -> None:
    with virtual_time() as clock:
        for options in roles(contexts, engine):
            a, b = memory_pair()
            h = Handle(a, on_error=lambda h, error: trace(error.reason, error.fatal), **options)
            assert h.handshake_timeout == 60
            trickle(b, clock, 59)
            assert trace == []
            clock.advance(2)
            assert trace == [("timed-out", True)]
            assert h.is_destroyed
            trace.clear()


@pytest.mark.parametrize("limit", [None, 0])
def test_there_may_be_no_limit(unbound: None, contexts: Any, engine: str, limit: Any) -> None:
    with virtual_time() as clock:
        for options in roles(contexts, engine):
            a, _ = memory_pair()
            h = Handle(a, handshake_timeout=limit, **options)
            clock.advance(100_000)
            assert h.statistics().tls == "handshake"
            h.linger = 0
            h.destroy()


def test_it_counts_from_start_tls_and_can_be_changed(
    unbound: None, contexts: Any, engine: str, trace: Any
) -> None:
    with virtual_time() as clock:
        a, _ = memory_pair()
        h = Handle(a, on_error=lambda h, error: trace(str(error)), peer_name="peer.test")
        clock.advance(1000)
        h.start_tls("connect", contexts(engine)[0])
        clock.advance(50)
        h.handshake_timeout = 100
        clock.advance(49)
        assert trace == []
        clock.advance(2)
        assert trace == ["handshake_timeout of 100 s has passed"]
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError, match="expected handshake_timeout"):
                Handle(a, handshake_timeout=wrong)


def test_a_handshake_that_is_done_is_not_limited_any_more(
    unbound: None, contexts: Any, engine: str, trace: Any
) -> None:
    with virtual_time() as clock:
        client, server = roles(contexts, engine)
        a, b = memory_pair()
        failed = {"on_error": lambda h, error: trace(error)}
        near, far = Handle(a, **client, **failed), Handle(b, **server, **failed)
        clock.advance(1000)
        near.push_write(b"still here\n")
        assert far.push_read("line").recv() == b"still here"
        for h in (near, far):
            h.linger = 0
            h.destroy()
    assert trace == []


def test_it_holds_for_tls_inside_another_handle(
    unbound: None, contexts: Any, engine: str, trace: Any
) -> None:
    with virtual_time() as clock:
        client, server = roles(contexts, engine)
        a, b = memory_pair()
        near, far = Handle(a, **client), Handle(b, **server)
        inner = Handle(near, on_tls_started=lambda h, error: trace(error.reason), **client)
        clock.advance(59)
        assert trace == []
        clock.advance(2)
        assert trace == ["timed-out"]
        for h in (inner, far):
            h.linger = 0
            h.destroy()


def test_it_holds_for_a_handle_that_lingers(
    unbound: None, contexts: Any, engine: str, hooked: list[str]
) -> None:
    with virtual_time() as clock:
        for options in roles(contexts, engine):
            a, b = memory_pair()
            h = Handle(a, **options)
            h.push_write(b"secret")
            clock.advance(20)
            h.destroy()
            clock.advance(39)
            assert lingering() == 1
            clock.advance(2)
            assert lingering() == 0
            assert a.closed
            (loss,) = hooked
            assert loss.startswith("HandleTimedOut('6 bytes to ")
            hooked.clear()
            del b


def test_the_handshake_of_a_connection_that_came_later_is_limited_as_well(
    backend: Backend, contexts: Any, engine: str
) -> None:
    async def main() -> Any:
        with socket.create_server(("127.0.0.1", 0)) as server:
            told = ae.CondVar[Any]()
            h = Handle(
                connect=server.getsockname(),
                handshake_timeout=0.02,
                tls="connect",
                tls_context=contexts(engine)[0],
                on_error=lambda h, error: told.send(error),
            )
            error = await told
            assert h.is_destroyed
            return error

    assert ae.run(main()).reason == "timed-out"
