"""udp_endpoint against real sockets on the loopback."""

from __future__ import annotations

import errno
import gc
import os
import socket
import weakref
from pathlib import Path

import pytest

import ae_core as ae
from ae_socket import _windows, udp_endpoint


class Received:
    """An on_datagram that keeps its arguments and can be waited for."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, tuple[str, int | str]]] = []
        self.more: ae.CondVar[None] = ae.CondVar()

    def __call__(self, data: bytes, address: tuple[str, int | str]) -> None:
        self.calls.append((data, address))
        self.more.send()

    def wait(self, count: int) -> None:
        while len(self.calls) < count:
            self.more = ae.CondVar()
            self.more.recv(timeout=30)


def nobody(*_: object) -> None:
    raise AssertionError("no datagram was expected")


def descriptors() -> int:
    ae.sleep(0).recv()  # the first one opens what the loop keeps
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_go_both_ways(host: str) -> None:
    here, there = Received(), Received()
    with (
        udp_endpoint(here, local_address=(host, 0)) as one,
        udp_endpoint(there, local_address=host) as two,
    ):
        assert one.address[0] == two.address[0] == host
        assert one.send(b"ping", two.address)
        there.wait(1)
        assert there.calls == [(b"ping", one.address)]
        assert two.send(b"", one.address)
        here.wait(1)
        assert here.calls == [(b"", two.address)]


def test_connected_endpoint_hears_its_peer_only() -> None:
    here, there = Received(), Received()
    with udp_endpoint(there, local_address="127.0.0.1") as server:
        with udp_endpoint(here, remote_address=server.address) as client:
            assert client.address[0] == "127.0.0.1"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"forged", client.address)
            client.send(b"question")
            there.wait(1)
            server.send(b"answer", there.calls[0][1])
            here.wait(1)
            assert here.calls == [(b"answer", server.address)]


def test_nothing_given_is_any_address() -> None:
    with udp_endpoint(nobody) as endpoint:
        host, port = endpoint.address
        assert host == "0.0.0.0"
        assert isinstance(port, int)
        assert port > 0


def test_service_names_are_read() -> None:
    with udp_endpoint(nobody, remote_address=("127.0.0.1", "domain")) as endpoint:
        assert endpoint._sock.getpeername() == ("127.0.0.1", 53)


@pytest.mark.linux
def test_local_and_remote_address_together() -> None:
    received = Received()
    with udp_endpoint(received, local_address="127.0.0.1") as server:
        with udp_endpoint(
            nobody, local_address="127.0.0.7", remote_address=server.address
        ) as client:
            assert client.address[0] == "127.0.0.7"
            client.send(b"x")
            received.wait(1)
            assert received.calls[0][1] == client.address


@pytest.mark.unix_sockets
def test_unix_datagrams(tmp_path: Path) -> None:
    received = Received()
    path = tmp_path / "s"
    with udp_endpoint(received, local_address=("unix/", str(path))) as server:
        assert server.address == ("unix/", str(path))
        with udp_endpoint(nobody, remote_address=server.address) as client:
            client.send(b"hello")
            received.wait(1)
            assert received.calls == [(b"hello", ("unix/", ""))]
    assert not path.exists()


@pytest.mark.linux
@pytest.mark.parametrize(
    ("local", "remote", "text"),
    [
        ("localhost", None, "expected an address or"),
        (("127.0.0.1", 65536), None, "expected a port"),
        (None, ("x.org", 53), "expected an address or"),
        ("127.0.0.1", ("::1", 53), "expected one family"),
        (("127.0.0.1", "no-such-service"), None, "unknown service"),
    ],
)
def test_bad_addresses_are_value_errors(local: object, remote: object, text: str) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match=text):
        udp_endpoint(nobody, local_address=local, remote_address=remote)  # type: ignore[arg-type]
    assert descriptors() == before


@pytest.mark.linux
def test_address_that_cannot_be_had_is_an_error_that_names_it() -> None:
    with udp_endpoint(nobody, local_address="127.0.0.1") as endpoint:
        before = descriptors()
        with pytest.raises(OSError, match=str(endpoint.address[1])) as caught:
            udp_endpoint(nobody, local_address=endpoint.address)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=r"\[fe80::1%4000000\]:53"):
            udp_endpoint(nobody, remote_address=("fe80::1%4000000", 53))
        assert descriptors() == before


@pytest.mark.parametrize("local", [None, "127.0.0.1"])
def test_remote_address_that_cannot_be_had_leaves_nothing_open(local: str | None) -> None:
    before = descriptors()
    with pytest.raises(OSError, match=r"255\.255\.255\.255:9") as caught:
        udp_endpoint(nobody, local_address=local, remote_address=("255.255.255.255", 9))
    assert caught.value.errno in (errno.EACCES, errno.EINVAL, errno.ENETUNREACH)
    assert descriptors() == before


def test_send_wants_an_address_exactly_if_there_is_none() -> None:
    with udp_endpoint(nobody) as loose, udp_endpoint(nobody, remote_address=loose.address) as tied:
        with pytest.raises(ValueError, match="expected an address"):
            loose.send(b"x")
        with pytest.raises(ValueError, match="expected no address"):
            tied.send(b"x", loose.address)
        with pytest.raises(ValueError, match="AF_INET"):
            loose.send(b"x", ("::1", 53))
        with pytest.raises(ValueError, match="expected an address or"):
            loose.send(b"x", ("localhost", 53))
        with pytest.raises(TypeError):
            loose.send("text", ("127.0.0.1", 53))  # type: ignore[arg-type]
        with pytest.raises(OSError) as caught:
            loose.send(bytes(70_000), ("127.0.0.1", 53))
        assert caught.value.errno == errno.EMSGSIZE


def closed_port() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()  # type: ignore[no-any-return]


@pytest.mark.linux
def test_nobody_listening_is_reported_and_the_endpoint_stays_open() -> None:
    errors: list[int | None] = []
    told: ae.CondVar[None] = ae.CondVar()

    def on_error(error: OSError) -> None:
        errors.append(error.errno)
        told.send()

    with udp_endpoint(nobody, remote_address=closed_port(), on_error=on_error) as endpoint:
        endpoint.send(b"one")
        assert errors == []
        told.recv()
        refused = errno.ECONNRESET if _windows.ACTIVE else errno.ECONNREFUSED
        assert errors == [refused]
        # The next error is waiting in the socket when the datagram after it is sent.
        endpoint.send(b"two")
        assert endpoint.send(b"three")
        assert errors == [refused]
        ae.sleep(0.02).recv()
        assert len(errors) >= 2


@pytest.mark.linux
def test_errors_nobody_wants_are_logged_for_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(ae, "log", lambda level, text, *args: logged.append(level))
    with udp_endpoint(nobody, remote_address=closed_port()) as endpoint:
        endpoint.send(b"one")
        ae.sleep(0.02).recv()
    assert logged == ["debug"]


@pytest.mark.unix_sockets
def test_full_kernel_buffer_loses_the_datagram_and_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(path)
        with udp_endpoint(nobody, remote_address=("unix/", path)) as endpoint:
            results = [endpoint.send(bytes(1000)) for _ in range(2000)]
    assert results[0]
    assert not results[-1]


def test_closed_endpoint_is_silent_and_refuses_to_send() -> None:
    endpoint = udp_endpoint(nobody, local_address="127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", endpoint.address)
    endpoint.cancel()
    endpoint.cancel()
    ae.sleep(0.01).recv()
    with pytest.raises(OSError) as caught:
        endpoint.send(b"x", ("127.0.0.1", 53))
    assert caught.value.errno == errno.EBADF
    assert "closed" in repr(endpoint)


@pytest.mark.linux
def test_dropped_endpoint_is_closed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        before = descriptors()
        endpoint = udp_endpoint(nobody)
        assert descriptors() == before + 1
        reference = weakref.ref(endpoint)
        del endpoint
        assert descriptors() == before
        assert reference() is None
    finally:
        gc.enable()


def test_endpoint_may_be_closed_in_its_own_callback() -> None:
    calls: list[bytes] = []

    def on_datagram(data: bytes, address: object) -> None:
        calls.append(data)
        endpoint.cancel()
        done.send()

    done: ae.CondVar[None] = ae.CondVar()
    endpoint = udp_endpoint(on_datagram, local_address="127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(3):
            sock.sendto(b"x", endpoint.address)
    done.recv()
    ae.sleep(0.01).recv()
    assert calls == [b"x"]


def test_what_on_datagram_raises_goes_to_the_hook_and_the_rest_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: caught.append(str(error)))
    seen: list[bytes] = []
    done: ae.CondVar[None] = ae.CondVar()

    def on_datagram(data: bytes, address: object) -> None:
        seen.append(data)
        if len(seen) == 3:
            done.send()
        raise RuntimeError(data.decode())

    with udp_endpoint(on_datagram, local_address="127.0.0.1") as endpoint:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in (b"a", b"b", b"c"):
                sock.sendto(data, endpoint.address)
        done.recv()
    assert caught == ["a", "b", "c"]


def test_callback_must_be_callable() -> None:
    with pytest.raises(TypeError, match="expected on_datagram to be callable"):
        udp_endpoint(5)  # type: ignore[arg-type]


def test_more_datagrams_than_one_turn_takes_all_arrive() -> None:
    received = Received()
    with udp_endpoint(received, local_address="127.0.0.1") as endpoint:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for number in range(200):
                sock.sendto(b"%d" % number, endpoint.address)
        received.wait(200)
    assert [data for data, _ in received.calls] == [b"%d" % number for number in range(200)]


def test_error_after_the_end_is_nobody_s() -> None:
    errors: list[OSError] = []
    endpoint = udp_endpoint(nobody, remote_address=closed_port(), on_error=errors.append)
    for _ in range(5):  # at least one of them meets the error of another
        endpoint.send(b"x")
    endpoint.cancel()
    ae.sleep(0.01).recv()
    assert errors == []
