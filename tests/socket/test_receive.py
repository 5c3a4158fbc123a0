"""``Endpoint.receive``: datagrams one after the other, for whoever asks."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_socket import Endpoint, _udp, udp_endpoint

RECV = 30


def pair() -> tuple[Endpoint, Endpoint]:
    one = udp_endpoint(local_address="127.0.0.1")
    return one, udp_endpoint(local_address="127.0.0.1")


def test_datagrams_are_received_in_order_with_their_sender(backend: Backend) -> None:
    async def main() -> None:
        here, there = pair()
        with here, there:
            for data in (b"one", b"", b"three"):
                here.send(data, there.address)
            got = [await there.receive() for _ in range(3)]
            assert got == [(b"one", here.address), (b"", here.address), (b"three", here.address)]
            asked = [there.receive() for _ in range(3)]
            assert not any(each.ready for each in asked)
            for data in (b"a", b"b", b"c"):
                here.send(data, there.address)
            assert [(await each)[0] for each in asked] == [b"a", b"b", b"c"]

    ae.run(main())


def test_a_request_that_is_cancelled_takes_no_datagram(backend: Backend) -> None:
    async def receive(endpoint: Endpoint) -> bytes:
        return (await endpoint.receive())[0]

    async def main() -> None:
        here, there = pair()
        with here, there:
            first = ae.spawn(receive(there))
            second = there.receive()
            while "pending" not in repr(first):
                await ae.sleep(0)
            await ae.sleep(0)
            first.cancel()
            with pytest.raises((ae.CancelledError, ae.cancelled_class())):
                await first
            await ae.sleep(0)
            here.send(b"x", there.address)
            assert (await second)[0] == b"x"

    ae.run(main())


def test_a_datagram_that_was_sent_and_not_taken_goes_to_the_next_request(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def receive(endpoint: Endpoint) -> bytes:
        return (await endpoint.receive())[0]

    async def main() -> None:
        here, there = pair()
        with here, there:
            original = _udp._Reader._hand_over
            tasks: list[ae.CondVar[bytes]] = []

            def hand_over(reader: Any, *datagram: Any) -> None:
                original(reader, *datagram)
                for task in tasks:
                    task.cancel()

            with monkeypatch.context() as patch:
                patch.setattr(_udp._Reader, "_hand_over", hand_over)
                tasks.append(ae.spawn(receive(there)))
                here.send(b"one", there.address)
                here.send(b"two", there.address)
                with pytest.raises((ae.CancelledError, ae.cancelled_class())):
                    await tasks[0]
                await ae.sleep(0)
            assert [(await there.receive())[0] for _ in range(2)] == [b"one", b"two"]

    ae.run(main())


def test_a_datagram_that_was_not_taken_goes_to_a_request_that_waits_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def receive(endpoint: Endpoint) -> bytes:
        return (await endpoint.receive())[0]

    async def main() -> None:
        here, there = pair()
        with here, there:
            original = _udp._Reader._hand_over
            task = ae.spawn(receive(there))

            def hand_over(reader: Any, *datagram: Any) -> None:
                original(reader, *datagram)
                task.cancel()

            while not there._open[0]._requests:  # type: ignore[attr-defined]
                await ae.sleep(0)
            second, third = there.receive(), there.receive()
            with monkeypatch.context() as patch:
                patch.setattr(_udp._Reader, "_hand_over", hand_over)
                here.send(b"one", there.address)
                assert (await second)[0] == b"one"
            with pytest.raises(ae.CancelledError):
                await task
            assert not third.ready
            here.send(b"two", there.address)
            assert (await third)[0] == b"two"

    ae.run(main())


def test_after_the_last_request_is_cancelled_nothing_is_watched() -> None:
    here, there = pair()
    with here, there:
        there.receive().cancel()
        assert [reader._watch for reader in there._open] == [None]
        here.send(b"x", there.address)
        assert there.receive().recv(RECV)[0] == b"x"


def test_closing_ends_the_requests(backend: Backend) -> None:
    async def main() -> None:
        with udp_endpoint(local_address="127.0.0.1") as endpoint:
            asked = [endpoint.receive(), endpoint.receive()]
            assert "receive on 127.0.0.1" in repr(asked[0])
        with pytest.raises(OSError, match="closed") as caught:
            await asked[0]
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError, match="closed"):
            endpoint.receive()

    ae.run(main())


def test_that_nobody_listens_is_told_to_who_asks(backend: Backend) -> None:
    async def main() -> None:
        with udp_endpoint(local_address="127.0.0.1") as gone:
            address = gone.address
        with udp_endpoint(remote_address=address) as client:
            client.send(b"x")
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):  # as Windows says
                await client.receive()
            errors: list[OSError] = []
        with udp_endpoint(remote_address=address, on_error=errors.append) as client:
            request = client.receive()
            client.send(b"x")
            while not errors:
                await ae.sleep(0.001)
            assert not request.ready

    ae.run(main())


def test_what_a_datagram_met_with_is_told_to_one_request_and_the_next_one_waits_on() -> None:
    with udp_endpoint(local_address="127.0.0.1") as gone:
        address = gone.address
    with udp_endpoint(remote_address=address) as client:
        first, second = client.receive(), client.receive()
        client.send(b"x")
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            first.recv(RECV)
        assert not second.ready
        with udp_endpoint(local_address=address) as there:
            there.send(b"there", client.address)
            assert second.recv(RECV) == (b"there", address)


def test_without_requests_nothing_is_watched() -> None:
    here, there = pair()
    with here, there:
        here.send(b"x", there.address)
        assert [reader._watch for reader in there._open] == [None]
        assert there.receive().recv(RECV)[0] == b"x"


def test_an_endpoint_with_a_callback_has_no_requests() -> None:
    with (
        udp_endpoint(lambda *_: None, local_address="127.0.0.1") as endpoint,
        pytest.raises(RuntimeError, match="on_datagram"),
    ):
        endpoint.receive()
