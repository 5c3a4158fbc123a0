"""What was pushed before a handle went: it is sent, or its loss is reported, once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_core.abc import Backend
from ae_core.testing import binding, virtual_time
from ae_handle import Handle, HandleDestroyed, TlsError, TransportError
from ae_handle.testing import lingering, memory_pair

Turns = Callable[..., None]


async def settled() -> None:
    while lingering():
        await ae.sleep(0.001)


def leave_by_destroy(h: Handle) -> None:
    h.destroy()


def leave_by_with(h: Handle) -> None:
    with h:
        h.push_write(b"")


def leave_by_with_and_an_error(h: Handle) -> None:
    with pytest.raises(LookupError), h:
        raise LookupError


WAYS = (leave_by_destroy, leave_by_with, leave_by_with_and_an_error)


@pytest.mark.parametrize("leave", WAYS, ids=lambda leave: leave.__name__)
def test_what_was_pushed_while_connecting_is_sent_after_the_handle(
    backend: Backend, hooked: list[str], leave: Callable[[Handle], None]
) -> None:
    async def main() -> bytes:
        got = ae.CondVar[bytes]()
        keep: list[Handle] = []

        def accept(sock: socket.socket, host: str, port: Any) -> None:
            h = Handle(sock, on_eof=lambda h: got.send(h.read_buffer.take()))
            h.watch_eof = True
            keep.append(h)

        server = ae_socket.tcp_server("127.0.0.1", 0, accept)
        h = Handle(connect=server.address)
        pending = h.push_read("line")
        h.push_write(b"last words")
        leave(h)
        assert lingering() == 1
        with pytest.raises(HandleDestroyed):
            await pending
        data = await got
        server.cancel()
        keep.pop().destroy()
        await settled()
        return data

    assert ae.run(main()) == b"last words"
    assert hooked == []


def test_an_exception_that_leaves_async_with_is_a_destroy(
    backend: Backend, hooked: list[str]
) -> None:
    async def main() -> bytes:
        a, b = socket.socketpair()
        with pytest.raises(LookupError):
            async with Handle(a) as h:
                h.push_write(b"last words")
                raise LookupError
        b.settimeout(10)
        data = b.recv(100)
        b.close()
        await settled()
        return data

    assert ae.run(main()) == b"last words"
    assert hooked == []


@pytest.mark.parametrize("linger", [3600.0, 0.0])
def test_a_refused_connection_is_a_loss_unless_nothing_should_linger(
    backend: Backend, hooked: list[str], linger: float
) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        h = Handle(connect=("127.0.0.1", port), linger=linger)
        h.push_write(b"last words")
        h.destroy()
        await settled()
        if linger:
            (loss,) = hooked
            assert "10 bytes to 127.0.0.1:" in loss
            assert str(port) in loss
            assert f"errno={errno.ECONNREFUSED}" in loss
        else:
            assert hooked == []

    ae.run(main())


def test_without_anything_to_send_the_attempt_ends_at_once(
    backend: Backend, hooked: list[str]
) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            h = Handle(connect=server.getsockname())
            h.destroy()
            assert lingering() == 0
        await ae.sleep(0.005)

    ae.run(main())
    assert hooked == []


def test_a_connection_that_does_not_come_is_given_up_after_30_seconds(
    unbound: None, hooked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with virtual_time() as clock:
        never: ae.CondVar[Any] = ae.CondVar()
        monkeypatch.setattr(ae_socket, "tcp_connect", lambda *args, **options: never)
        h = Handle(connect=("peer.test", 25))
        h.push_write(b"QUIT\r\n")
        h.destroy()
        del h
        clock.advance(29)
        assert hooked == []
        assert lingering() == 1
        clock.advance(2)
        assert never.cancelled
        assert lingering() == 0
    (loss,) = hooked
    assert "6 bytes to peer.test:25 were not sent" in loss
    assert loss.startswith("HandleTimedOut")


def test_a_connection_that_comes_when_linger_has_passed_is_closed(
    unbound: None, hooked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with virtual_time() as clock:
        operation: ae.CondVar[Any] = ae.CondVar()
        connected: list[Any] = []

        def tcp_connect(host: str, service: Any, on_connect: Any, **options: Any) -> Any:
            connected.append(on_connect)
            return operation

        def arrive() -> None:
            connected[0](a, "peer.test", 25, None)
            operation.send(a)

        monkeypatch.setattr(ae_socket, "tcp_connect", tcp_connect)
        a, b = memory_pair()
        h = Handle(connect=("peer.test", 25), linger=7)
        h.push_write(b"QUIT\r\n")
        in_time = ae.timer(7, arrive)  # before the timer of the same time that ends it
        h.destroy()
        clock.advance(8)
        assert a.closed
        assert b.recv(10) == b""
        assert lingering() == 0
        del in_time
    (loss,) = hooked
    assert "6 bytes to peer.test:25 were not sent: linger has passed" in loss


def test_a_connection_that_comes_later_and_can_have_no_tls_is_closed(
    hooked: list[str], turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def new_session(self, role: str, peer_name: str | None) -> Any:
            raise TlsError("no session for this", reason="internal")

    a, b = memory_pair()

    def tcp_connect(host: str, service: Any, on_connect: Any, **options: Any) -> Any:
        operation: ae.CondVar[Any] = ae.CondVar()

        def arrive() -> None:
            on_connect(a, "peer.test", 25, None)
            operation.send(a)

        ae.postpone(arrive)
        return operation

    monkeypatch.setattr(ae_socket, "tcp_connect", tcp_connect)
    h = Handle(connect=("peer.test", 25), tls="connect", tls_context=Refusing())
    h.push_write(b"QUIT\r\n")
    h.destroy()
    turns()
    assert a.closed
    assert b.recv(10) == b""
    assert lingering() == 0
    (loss,) = hooked
    assert loss.startswith("TlsError")
    assert "6 bytes to peer.test:25 were not sent: no session for this" in loss


def test_a_write_that_has_failed_is_reported_although_the_handle_goes_at_once(
    hooked: list[str], turns: Turns
) -> None:
    for leave in WAYS:
        a, b = socket.socketpair()
        b.close()
        h = Handle(a, peer_name="peer.test", on_error=lambda h, error: hooked.append("on_error"))
        h.push_write(b"lost")
        leave(h)
        turns()
        (loss,) = hooked
        assert "4 bytes to peer.test were not sent: Broken pipe" in loss
        assert f"errno={errno.EPIPE}" in loss
        hooked.clear()


def test_a_peer_that_breaks_while_much_is_unsent_is_reported_once(
    hooked: list[str], turns: Turns
) -> None:
    a, b = memory_pair(capacity=10)
    h = Handle(a, peer_name="peer.test")
    h.push_write(b"x" * 25)
    h.destroy()
    assert hooked == []
    a.break_off(errno.ECONNRESET)
    turns()
    (loss,) = hooked
    assert "15 bytes to peer.test were not sent: broken by the test" in loss
    assert not lingering()
    del b


def test_linger_that_has_passed_is_reported(unbound: None, hooked: list[str]) -> None:
    with virtual_time() as clock:
        a, b = memory_pair(capacity=10)
        h = Handle(a, peer_name="peer.test", linger=7)
        h.push_write(b"x" * 25)
        h.destroy()
        clock.advance(8)
        assert a.closed
        del b
    (loss,) = hooked
    assert "15 bytes to peer.test were not sent: linger of 7 s has passed" in loss


def test_an_error_that_was_told_is_not_reported_again(hooked: list[str], turns: Turns) -> None:
    told: list[Any] = []
    a, b = memory_pair(capacity=10)
    h = Handle(a, on_error=lambda h, error: told.append(error))
    h.push_write(b"x" * 25)
    a.break_off(errno.ECONNRESET)
    turns()
    assert [type(error) for error in told] == [TransportError]
    h.destroy()
    turns()
    assert hooked == []
    del b


@pytest.mark.parametrize("half", [False, True], ids=["both sides", "ended by the peer"])
def test_a_handle_in_tls_that_breaks_below_what_lingers_is_reported(
    hooked: list[str], turns: Turns, half: bool
) -> None:
    a, b = memory_pair()
    inner = Handle(a, linger=0)
    outer = Handle(inner, peer_name="peer.test", on_eof=lambda h: None)
    outer.watch_eof = True
    outer.push_write(bytes(1 << 20))
    turns()
    if half:
        b.shutdown(socket.SHUT_WR)
        turns()
    outer.destroy()
    inner._fail(TlsError("the inner session has failed"))
    turns()
    (loss,) = hooked
    assert "bytes to peer.test were not sent: the inner session has failed" in loss
    assert not lingering()


def test_octets_of_a_loop_that_ends_are_reported(unbound: None, hooked: list[str]) -> None:
    a, b = socket.socketpair()
    with binding("loop"):
        h = Handle(a, peer_name="peer.test")
        h.push_write(bytes(3_000_000))
        h.destroy()
        ae.sleep(0).recv()
    b.close()
    (loss,) = hooked
    assert "bytes to peer.test were not sent: the loop has ended" in loss


def test_a_refused_connection_is_one_error_the_true_one(backend: Backend) -> None:
    """Not that the socket is not connected, which is how the refusal was found out."""

    async def main() -> BaseException:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
        with pytest.raises(TransportError) as caught:
            await Handle(connect=address).push_read("line")
        return caught.value

    error: BaseException | None = ae.run(main())
    while error is not None:
        assert getattr(error, "errno", None) == errno.ECONNREFUSED
        error = error.__cause__ or error.__context__
