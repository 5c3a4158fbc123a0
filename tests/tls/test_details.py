"""What a session knows about its connection: the peer, key material, channel bindings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf, pump

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]

VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


def test_a_client_sees_who_it_speaks_to(
    client: Context, server: Context, join: Join, leaf: Leaf, ca: CertificateAuthority
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    a, b = join(client, server)
    assert a.peer_certificate == leaf.cert.public_bytes(Encoding.DER)
    assert a.certificate == leaf.cert
    assert a.chain == [leaf.cert, ca.cert]
    assert b.peer_certificate is None
    assert b.chain == []
    assert a.cipher == b.cipher is not None
    assert a.cipher_bits in (128, 256)
    assert a.group == b.group is not None
    assert b.server_name == HOST
    assert repr(a) == "<Session connect 'www.example.org' established>"


def test_before_the_handshake_nothing_is_known(client: Context) -> None:
    session = client.new_session("connect", HOST)
    assert session.peer_certificate is None
    assert session.version is None
    assert session.cipher is None
    assert session.group is None
    assert session.alpn is None
    assert session.resumed is False
    assert session.chain == []
    assert session.channel_binding("tls-exporter") is None
    with pytest.raises(TlsError, match="before the handshake"):
        session.export("EXPORTER-x", 16)


@VERSIONS
def test_both_ends_export_the_same_key_material(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    a, b = join(Context(ca_cert=ca.cert), server)
    key = a.export("EXPORTER-test", 32)
    assert len(key) == 32
    assert key == b.export("EXPORTER-test", 32)
    assert key != a.export("EXPORTER-other", 32)
    assert a.export("EXPORTER-test", 32, b"context") == b.export("EXPORTER-test", 32, b"context")
    with pytest.raises(ValueError, match="length"):
        a.export("EXPORTER-test", 0)


@VERSIONS
@pytest.mark.parametrize("kind", ["tls-exporter", "tls-unique", "tls-server-end-point"])
def test_channel_bindings_are_equal_at_both_ends(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any, kind: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    client = Context(ca_cert=ca.cert)
    seen = set()
    for resumed in (False, True):
        a, b = join(client, server)
        assert a.resumed is resumed
        assert a.channel_binding(kind) == b.channel_binding(kind)
        defined = kind != {"1.2": "tls-exporter", "1.3": "tls-unique"}[version]
        assert (a.channel_binding(kind) is not None) is defined
        seen.add(a.channel_binding(kind))
        a.shutdown()
        b.shutdown()
        pump(a, b)
    assert len(seen) == (2 if defined and kind != "tls-server-end-point" else 1)


def test_an_unknown_channel_binding_is_refused(client: Context) -> None:
    wrong: Any = "tls-magic"
    with pytest.raises(ValueError, match="tls-magic"):
        client.new_session("connect", HOST).channel_binding(wrong)


@pytest.mark.parametrize(("kind", "defined"), [("ed25519", False), ("rsa", True)])
def test_the_end_point_binding_depends_on_the_certificate(
    ca: CertificateAuthority, client: Context, join: Join, kind: Any, defined: bool
) -> None:
    issuer = CertificateAuthority(key_type=kind)
    leaf = issuer.issue(HOST)
    a, b = join(Context(ca_cert=issuer.cert), Context(cert=leaf.chain, key=leaf.key))
    binding = a.channel_binding("tls-server-end-point")
    assert (binding is not None) is defined
    assert b.channel_binding("tls-server-end-point") == binding


def test_a_weak_hash_is_replaced_in_the_end_point_binding(join: Join) -> None:
    issuer = CertificateAuthority(key_type="rsa")
    leaf = issuer.issue(HOST, weak_hash=True)
    lax = "DEFAULT:@SECLEVEL=0"
    server = Context(cert=leaf.chain, key=leaf.key, cipher_list=lax)
    a, _ = join(Context(ca_cert=issuer.cert, cipher_list=lax), server)
    binding = a.channel_binding("tls-server-end-point")
    assert binding is not None
    assert len(binding) == 32


def test_an_export_that_openssl_refuses_is_our_error(
    client: Context, server: Context, join: Join
) -> None:
    a, _ = join(client, server)
    with pytest.raises(TlsError):
        a.export("EXPORTER-x", 1_000_000)
