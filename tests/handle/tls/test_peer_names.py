"""One name for one host, whatever the TLS engine: final dot, brackets, zone, other alphabets."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle, TlsError
from ae_handle.testing import ssl_context


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("peer.test", "peer.test"),
        ("Peer.Test.", "peer.test"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("faß.test.", "xn--fa-hia.test"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("fe80::1%lo", "fe80::1"),
    ],
)
def test_the_ssl_engine_is_given_the_name_as_certificates_have_it(given: str, sent: str) -> None:
    if not given.isascii():
        pytest.importorskip("idna", reason="needs idna (ae-socket[idna])")
    session: Any = ssl_context(ssl.create_default_context()).new_session("connect", given)
    assert session.engine.server_hostname == sent


@pytest.mark.parametrize("given", ["peer test", "a..b", "*.test", "unix/", "a/b", "x" * 64])
def test_what_no_host_is_called_is_refused_before_an_octet_is_sent(given: str) -> None:
    context = ssl_context(ssl.create_default_context())
    with pytest.raises(TlsError) as caught:
        context.new_session("connect", given)
    assert caught.value.reason == "wrong-name"


def test_without_verification_any_name_will_do() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    session: Any = ssl_context(context).new_session("connect", "unix/")
    assert session.engine.server_hostname is None


def test_a_name_with_its_final_dot_is_verified(contexts: Any, engine: str) -> None:
    near, far = contexts(engine)
    a, b = socket.socketpair()
    server = Handle(b, tls="accept", tls_context=far)
    client = Handle(a, tls="connect", tls_context=near, peer_name="PEER.test.")
    client.push_write(b"hello\n")
    assert server.push_read("line").recv() == b"hello"
    for h in (client, server):
        h.linger = 0
        h.destroy()
    ae.sleep(0).recv()
