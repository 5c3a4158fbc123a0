"""``ScriptedNetwork``: programs that connect by themselves, without a network."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_core.testing import binding, virtual_time
from ae_handle import Handle, TransportError
from ae_handle.testing import ScriptedNetwork, ScriptedPeer, memory_pair
from ae_socket import ConnectFailed, tcp_connect


def greeting(host: str = "mail.test", port: int = 25, **options: Any) -> bytes:
    with Handle(connect=(host, port), **options) as handle:
        return handle.push_read("line").recv()


def test_a_handle_that_connects_by_itself_talks_to_the_scripted_peer() -> None:
    peer = ScriptedPeer().send(b"220 hi\r\n").expect(b"QUIT\r\n").close()
    with ScriptedNetwork({("mail.test", 25): [peer]}) as network:
        told: list[tuple[str, int | str]] = []
        handle = Handle(
            connect=("mail.test", 25), on_connect=lambda handle, *at: told.append(at[:2])
        )
        assert network.asked == []  # nothing happens inside the call
        assert handle.push_read("line").recv() == b"220 hi"
        handle.push_write(b"QUIT\r\n")
        peer.done.recv()
        handle.destroy()
        assert told == [("mail.test", 25)]
        assert network.asked == [("mail.test", 25)]


def test_each_attempt_takes_the_next_outcome_and_without_any_it_is_refused() -> None:
    refused = ConnectionResetError(errno.ECONNRESET, "not today")
    script = {("mail.test", 25): [refused, ScriptedPeer().send(b"second\n")]}
    with ScriptedNetwork(script) as network:
        with pytest.raises(TransportError, match="not today"):
            greeting()
        assert greeting() == b"second"
        for host in ("mail.test", "other.test"):
            with pytest.raises(TransportError) as caught:
                greeting(host)
            assert caught.value.errno == errno.ECONNREFUSED
        assert len(network.asked) == 4


def test_outcomes_may_be_added_and_services_be_named() -> None:
    with ScriptedNetwork() as network:
        network.add("mail.test", "smtp", ScriptedPeer().send(b"hello\n"))
        assert greeting("mail.test", "smtp") == b"hello"  # type: ignore[arg-type]


def test_a_host_that_never_answers_costs_the_time_limit() -> None:
    with virtual_time() as clock, ScriptedNetwork({("mail.test", 25): [None, None]}):

        async def limited() -> None:
            async with ae.timeout(10), Handle(connect=("mail.test", 25)) as handle:
                await handle.push_read("line")

        with pytest.raises(TimeoutError):
            ae.run(limited())
        assert clock.elapsed == 10
        with pytest.raises(TransportError) as caught:
            greeting(on_prepare=lambda handle: 5.0)
        assert caught.value.errno == errno.ETIMEDOUT
        assert clock.elapsed == 15


def test_the_other_end_may_be_a_handle() -> None:
    ours, theirs = memory_pair()
    with ScriptedNetwork({("echo.test", 7): [ours]}), Handle(theirs) as server:
        server.read_each("line", lambda handle, line: handle.push_write(line + b"\n"))
        with Handle(connect=("echo.test", 7)) as handle:
            handle.push_write(b"hello\n")
            assert handle.push_read("line").recv() == b"hello"


def test_a_program_may_refuse_a_connection_and_gets_the_next() -> None:
    peers = [ScriptedPeer().send(b"bad\n"), ScriptedPeer().send(b"good\n")]
    with ScriptedNetwork({("mail.test", 25): peers}):
        lines: list[bytes] = []
        done = ae.CondVar[None]()

        def look(handle: Handle, host: str, port: Any, retry: Any) -> None:
            def got(handle: Handle, line: bytes) -> None:
                lines.append(line)
                done.send() if line == b"good" else retry()

            handle.push_read("line", got)

        with Handle(connect=("mail.test", 25), on_connect=look):
            done.recv()
        assert lines == [b"bad", b"good"]


def test_tcp_connect_is_led_there_too_and_can_be_cancelled() -> None:
    peer = ScriptedPeer()
    with ScriptedNetwork({("mail.test", 25): [peer, None]}) as network:
        # as programs write it that import the module
        assert ae_socket.tcp_connect("mail.test", 25).recv() is peer.stream
        operation = ae_socket.tcp_connect("mail.test", 25)
        ae.sleep(0).recv()
        operation.cancel()
        with pytest.raises(TypeError):
            ae_socket.tcp_connect(25, "mail.test")  # type: ignore[arg-type]
        assert len(network.asked) == 2


def test_the_network_is_back_at_the_end_and_refused_twice() -> None:
    network = ScriptedNetwork()
    with network:
        assert ae_socket.tcp_connect is not tcp_connect
        with pytest.raises(RuntimeError, match="already"):
            network.__enter__()
    assert ae_socket.tcp_connect is tcp_connect


def test_what_is_no_outcome_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a ScriptedPeer, a MemoryStream, an OSError or"):
        ScriptedNetwork({("mail.test", 25): ["hello"]})  # type: ignore[list-item]


def test_a_failure_is_told_as_that_of_a_connection() -> None:
    with ScriptedNetwork(), binding("loop"):
        with pytest.raises(ConnectFailed, match=r"nothing listens at mail\.test:25"):
            ae_socket.tcp_connect("mail.test", 25).recv()


def test_an_attempt_that_is_cancelled_before_its_turn_is_not_made() -> None:
    with ScriptedNetwork({("mail.test", 25): [ScriptedPeer()]}) as network:
        operation = ae_socket.tcp_connect("mail.test", 25)
        operation.cancel()
        ae.sleep(0).recv()
        assert network.asked == []


def test_an_attempt_may_be_cancelled_when_it_has_connected() -> None:
    with ScriptedNetwork({("mail.test", 25): [ScriptedPeer()]}):
        operation = ae_socket.tcp_connect("mail.test", 25, lambda *_: operation.cancel())
        with pytest.raises(ae.CancelledError):
            operation.recv()


@pytest.mark.parametrize("how", ["answers", "raises"])
def test_what_on_connect_does_to_the_operation_is_as_on_a_real_network(
    how: str, hooked: list[str]
) -> None:
    def connected(stream: Any, *at: object) -> None:
        if how == "answers":
            stream.close()
            operation.send("mine")
        else:
            raise LookupError("mine")

    for real in (True, False):
        hooked.clear()
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
            network = ScriptedNetwork({(host, port): [memory_pair()[0]]})
            with contextlib.nullcontext() if real else network:
                operation: ae.CondVar[Any] = ae_socket.tcp_connect(host, port, connected)
                result = operation.recv(timeout=60)
            if how == "answers":
                assert (result, hooked) == ("mine", [])
            else:
                result.close()
                assert hooked == ["LookupError('mine')"]
