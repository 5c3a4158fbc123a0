"""What is refused and what is passed over, each at its door."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_socket import (
    HostsFile,
    ResolveFailed,
    host_to_ascii,
    http_connect,
    set_resolver,
    socks5,
    udp_endpoint,
)
from ae_socket.testing import ScriptedResolver

PROXY = ("proxy.test", 1080)


@pytest.mark.parametrize("make", [socks5, http_connect])
@pytest.mark.parametrize("one", [{"user": "ann"}, {"password": "secret"}])
def test_a_user_without_a_password_is_none(make: Any, one: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected both user and password, or none"):
        make(PROXY, **one)


@pytest.mark.parametrize("make", [socks5, http_connect])
@pytest.mark.parametrize("proxy", ["proxy.test:1080", ("proxy.test",), None])
def test_a_proxy_is_a_host_and_a_service(make: Any, proxy: object) -> None:
    with pytest.raises(TypeError, match=r"expected proxy as \(host, service\)"):
        make(proxy)


def test_credentials_of_socks_are_texts_and_headers_are_pairs_of_them() -> None:
    with pytest.raises(TypeError, match="expected user as str, got bytes"):
        socks5(PROXY, user=b"ann", password="secret")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a header as two str, got 'X-Number'"):
        http_connect(PROXY, headers=[("X-Number", 7)])  # type: ignore[list-item]


def test_a_connector_says_which_proxy_it_goes_through() -> None:
    assert repr(socks5(PROXY)) == "<ProxyConnector through proxy.test:1080>"


@pytest.mark.parametrize("scope", ["é", "\x7f", "a\nb"])
def test_a_scope_that_no_interface_has_makes_no_address(scope: str) -> None:
    with pytest.raises(ValueError, match="expected the name"):
        host_to_ascii(f"fe80::1%{scope}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_hosts_file_that_is_no_file_has_no_names(tmp_path: Path) -> None:
    fifo = tmp_path / "hosts"
    os.mkfifo(fifo)  # to open it would block
    assert HostsFile(fifo).addresses("localhost") == []
    assert HostsFile(tmp_path).addresses("localhost") == []


def test_a_scripted_resolver_keeps_what_it_never_answers() -> None:
    resolver = ScriptedResolver({"x.test": None}, services={"_sip._udp.x.test": None})
    address = resolver.getaddrinfo("x.test", 80)
    service = resolver.srv("sip", "udp", "x.test")
    ae.sleep(0).recv()
    assert resolver.pending == [address, service]
    assert not address.ready
    assert not service.ready


def test_a_scripted_resolver_throws_what_it_is_told_to() -> None:
    error = ResolveFailed("no such service")
    resolver = ScriptedResolver(services={"_sip._udp.x.test": error})
    with pytest.raises(ResolveFailed, match="no such service"):
        resolver.srv("sip", "udp", "x.test").recv()


def test_what_a_resolver_of_another_make_throws_is_the_outcome_of_a_proxys_name() -> None:
    class Odd(ScriptedResolver):
        def getaddrinfo(self, *_: object, **__: object) -> ae.CondVar[Any]:
            raise ZeroDivisionError

    set_resolver(Odd())
    try:
        with pytest.raises(ZeroDivisionError):
            socks5(PROXY)("target.test", 25).recv(30)
    finally:
        set_resolver(None)


def test_a_datagram_socket_that_cannot_be_connected_for_an_unknown_reason_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[socket.socket] = []

    class Socket(socket.socket):
        def connect(self, _: object) -> None:
            made.append(self)
            raise ZeroDivisionError

    monkeypatch.setattr(socket, "socket", Socket)
    with pytest.raises(ZeroDivisionError):
        udp_endpoint(remote_address=("127.0.0.1", 9))
    assert [sock.fileno() for sock in made] == [-1]


def test_a_request_beside_one_that_is_cancelled_gets_the_datagram() -> None:
    with udp_endpoint(local_address="127.0.0.1") as here:
        with udp_endpoint(remote_address=here.address) as there:
            first, second = here.receive(), here.receive()
            first.cancel()
            there.send(b"one")
            assert second.recv(30)[0] == b"one"
