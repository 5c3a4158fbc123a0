"""What a live handle does when the peer is not who it should be; and TLS on every loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle, HandleError, TlsError
from ae_socket import tcp_server
from ae_tls import Context
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
PATIENCE = 20.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    yield a, b
    a.close()
    b.close()


def test_a_refused_peer_does_not_destroy_the_handle_that_asked(
    client: Context, server: Context, ends: tuple[socket.socket, socket.socket]
) -> None:
    story: list[Any] = []
    told: ae.CondVar[Any] = ae.CondVar()
    alert: ae.CondVar[HandleError] = ae.CondVar()
    a = Handle(
        ends[0],
        tls="connect",
        tls_context=client,
        peer_name="other.example",
        on_tls_started=lambda handle, error: told.send(error),
        on_error=lambda handle, error: story.append("on_error"),
        on_eof=lambda handle: story.append("on_eof"),
        on_read=lambda handle: story.append("on_read"),
        linger=0,
    )
    b = Handle(
        ends[1],
        tls="accept",
        tls_context=server,
        on_error=lambda handle, error: alert.send(error),
        linger=0,
    )
    b.push_write(b"secret\n")
    error = told.recv(timeout=PATIENCE)
    assert error.reason == "wrong-name"
    assert not a.is_destroyed
    heard = alert.recv(timeout=PATIENCE)
    assert isinstance(heard, TlsError)
    assert heard.reason == "alert"
    assert story == []
    assert bytes(a.read_buffer) == b""
    a.destroy()
    b.destroy()


def test_without_a_callback_a_refused_peer_is_a_fatal_error(
    client: Context, server: Context, ends: tuple[socket.socket, socket.socket]
) -> None:
    errors: ae.CondVar[HandleError] = ae.CondVar()
    a = Handle(
        ends[0],
        tls="connect",
        tls_context=client,
        peer_name="other.example",
        on_error=lambda handle, error: errors.send(error),
        linger=0,
    )
    b = Handle(ends[1], tls="accept", tls_context=server, on_error=lambda h, e: None, linger=0)
    error = errors.recv(timeout=PATIENCE)
    assert isinstance(error, TlsError)
    assert (error.fatal, error.reason) == (True, "wrong-name")
    assert a.is_destroyed
    b.destroy()


def test_an_awaited_read_sees_the_reason(
    client: Context, server: Context, ends: tuple[socket.socket, socket.socket]
) -> None:
    a = Handle(ends[0], tls="connect", tls_context=client, peer_name="other.example", linger=0)
    b = Handle(ends[1], tls="accept", tls_context=server, on_error=lambda h, e: None, linger=0)
    b.push_write(b"secret\n")
    with pytest.raises(TlsError) as caught:
        a.push_read("line").recv(timeout=PATIENCE)
    assert caught.value.reason == "wrong-name"
    b.destroy()


def test_a_handle_without_a_name_sends_nothing(
    client: Context, ends: tuple[socket.socket, socket.socket]
) -> None:
    with pytest.raises(TlsError) as caught:
        Handle(ends[0], tls="connect", tls_context=client, linger=0)
    assert caught.value.reason == "no-name"
    ends[1].setblocking(False)
    try:
        assert ends[1].recv(100) == b""
    except BlockingIOError:
        assert True


def test_the_name_connected_to_is_the_name_verified(
    ca: CertificateAuthority, leaf: Leaf, client: Context
) -> None:
    kept = []
    context = Context(cert=leaf.chain, key=leaf.key)

    def accepted(sock: Any, host: str, port: Any) -> None:
        kept.append(Handle(sock, tls="accept", tls_context=context, linger=0))
        kept[-1].push_write(b"welcome\n")

    listener = tcp_server("127.0.0.1", 0, accepted)
    handle = Handle(connect=listener.address, tls="connect", tls_context=client, linger=0)
    assert handle.push_read("line").recv(timeout=PATIENCE) == b"welcome"
    handle.destroy()
    for other in kept:
        other.destroy()
    listener.cancel()


def test_tls_on_every_loop(backend: Any, client: Context, server: Context) -> None:
    """Callbacks, recv and a coroutine, over one context each."""

    async def talk() -> list[bytes]:
        a, b = socket.socketpair()
        left = Handle(a, tls="connect", tls_context=client, peer_name=HOST, linger=0)
        right = Handle(b, tls="accept", tls_context=server, linger=0)
        right.read_each("line", lambda handle, line: handle.push_write(line[::-1] + b"\n"))
        answers = []
        for word in (b"one", b"two", b"three"):
            left.push_write(word + b"\n")
            answers.append(await left.push_read("line"))
        left.destroy()
        right.destroy()
        return answers

    assert ae.run(talk()) == [b"eno", b"owt", b"eerht"]


def test_a_thousand_connections_share_two_contexts(client: Context, server: Context) -> None:
    """Half of them resumed; every one gets its own answer."""
    done: ae.CondVar[None] = ae.CondVar()
    handles: list[Handle] = []
    answers: list[bytes] = []

    def answer(handle: Handle, line: bytes) -> None:
        answers.append(line)
        if len(answers) % 50 == 0:
            done.send()

    for batch in range(20):
        done = ae.CondVar()
        for number in range(50):
            a, b = socket.socketpair()
            left = Handle(a, tls="connect", tls_context=client, peer_name=HOST, linger=0)
            right = Handle(b, tls="accept", tls_context=server, linger=0)
            right.read_each("line", lambda handle, line: handle.push_write(line + b"\n"))
            left.push_write(b"%d\n" % (batch * 50 + number))
            left.push_read("line", answer)
            handles += [left, right]
        done.recv(timeout=PATIENCE)
        for handle in handles:
            handle.destroy()
        handles.clear()
    assert sorted(map(int, answers)) == list(range(1000))
