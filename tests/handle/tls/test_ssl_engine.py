"""Sessions of the module ``ssl``, without a handle."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest

from ae_handle.abc import TlsSession
from ae_handle.testing import ssl_context


@pytest.fixture
def sessions(certificates: Any) -> tuple[TlsSession, TlsSession]:
    """A client and a server that have not said anything yet."""
    client = ssl_context(certificates.client()).new_session("connect", "peer.test")
    return client, ssl_context(certificates.server()).new_session("accept", None)


@pytest.mark.parametrize("size", [1, 60_000, 70_000, 500_000])
def test_the_end_of_the_handshake_and_data_may_be_fed_together(
    sessions: tuple[TlsSession, TlsSession], size: int
) -> None:
    client, server = sessions
    data = bytes(range(250)) * (size // 250 + 1)
    client.write(data)
    server.feed(client.drain())
    client.feed(server.drain())
    assert server.state == "handshake"
    server.feed(client.drain())
    assert server.state == "established"
    got = b""
    while piece := server.read():
        got += piece
    assert got == data


def test_a_certificate_without_a_hash_of_its_own_binds_no_channel(tmp_path: Path) -> None:
    """RFC 5929 knows no end point for Ed25519."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.generate()
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("peer.test")])
    until = now + datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, now, until)
    cert = builder.add_extension(names, critical=True).sign(key, None).public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "both").write_bytes(cert + secret)
    far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    far.load_cert_chain(tmp_path / "both")
    near = ssl.create_default_context(cadata=cert.decode())
    client = ssl_context(near).new_session("connect", "peer.test")
    server = ssl_context(far).new_session("accept", None)
    server.feed(client.drain())
    client.feed(server.drain())
    assert client.state == "established"
    assert client.peer_certificate == ssl.PEM_cert_to_DER_cert(cert.decode())
    assert client.channel_binding("tls-server-end-point") is None


def test_to_write_nothing_sends_nothing(sessions: tuple[TlsSession, TlsSession]) -> None:
    client, server = sessions
    for _ in range(2):
        server.feed(client.drain())
        client.feed(server.drain())
    client.drain()
    client.write(b"")
    assert client.drain() == b""
    client.write(b"x")
    server.feed(client.drain())
    assert server.read() == b"x"
