"""What ``handle.tls`` tells about a connection is the same for every engine."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from ae_handle import Handle
from ae_handle._tls.ssl_engine import _signature_hash
from ae_handle.abc import ChannelBinding, TlsDetails

KINDS: tuple[ChannelBinding, ...] = ("tls-exporter", "tls-unique", "tls-server-end-point")


@pytest.fixture
def meet(join: Any, certificates: Any) -> Callable[..., tuple[TlsDetails, TlsDetails]]:
    """Join a client and a server of the given engines; return what both say."""

    def make(near: str, far: str, version: str) -> tuple[TlsDetails, TlsDetails]:
        contexts: list[Any] = []
        for engine, is_client in ((near, True), (far, False)):
            if engine == "ssl":
                made = certificates.client() if is_client else certificates.server()
                made.maximum_version = ssl.TLSVersion[f"TLSv1_{version[-1]}"]
                made.set_alpn_protocols(["irc", "xmpp"])
                contexts.append(made)
                continue
            tls: Any = pytest.importorskip("ae_tls")
            files: dict[str, Any] = {"ca_file": certificates.ca}
            if not is_client:
                files = {"cert_file": certificates.cert, "key_file": certificates.key}
            contexts.append(tls.Context(**files, max_version=version, alpn=["irc", "xmpp"]))
        client, server = join(
            {"tls": "connect", "tls_context": contexts[0], "peer_name": "peer.test"},
            {"tls": "accept", "tls_context": contexts[1]},
        )
        assert (client.tls.version, client.tls.cipher, client.tls.alpn) == (None, None, None)
        assert client.tls.peer_certificate is client.tls.channel_binding("tls-unique") is None
        for sender, receiver in ((client, server), (server, client)):
            sender.push_write(b"hello\n")
            assert receiver.push_read("line", timeout=60).recv() == b"hello"
        return client.tls, server.tls

    return make


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("near", ["ssl", "ae_tls"])
@pytest.mark.parametrize("far", ["ssl", "ae_tls"])
def test_both_ends_agree(
    meet: Callable[..., tuple[TlsDetails, TlsDetails]],
    certificates: Any,
    near: str,
    far: str,
    version: str,
) -> None:
    client, server = meet(near, far, version)
    assert client.version == server.version == f"TLSv{version}"
    assert client.cipher == server.cipher
    assert isinstance(client.cipher, str)
    assert client.alpn == server.alpn == "irc"
    with open(certificates.cert, encoding="ascii") as file:
        der = ssl.PEM_cert_to_DER_cert(file.read())
    assert client.peer_certificate == der
    assert server.peer_certificate is None
    bound = {kind: (client.channel_binding(kind), server.channel_binding(kind)) for kind in KINDS}
    for kind, ends in bound.items():
        known = [end for end in ends if end is not None]
        assert known in ([], known[:1] * len(known)), kind  # whoever knows it says the same
    ours = [engine == "ae_tls" for engine in (near, far)]
    modern = version == "1.3"
    assert [end is not None for end in bound["tls-unique"]] == [not modern] * 2
    assert [end is not None for end in bound["tls-exporter"]] == [modern and own for own in ours]
    assert [end is not None for end in bound["tls-server-end-point"]] == [True, ours[1]]
    assert bound["tls-server-end-point"][0] == hashlib.sha256(der).digest()
    for session in (client, server):
        with pytest.raises(ValueError, match="'tls-server-end-point', got 'tls-none'"):
            session.channel_binding("tls-none")  # type: ignore[arg-type]


def test_without_tls_there_is_none(half: Callable[..., tuple[Handle, Any]]) -> None:
    assert half()[0].tls is None


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_the_end_point_is_hashed_as_the_certificate_is_signed(kind: str) -> None:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding

    key: Any = ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now)
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        der = builder.sign(key, algorithm).public_bytes(Encoding.DER)
        assert _signature_hash(der) == algorithm.name


def test_the_end_point_of_any_other_signature_is_not_known() -> None:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding

    key = Ed25519PrivateKey.generate()
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now).sign(key, None)
    assert _signature_hash(made.public_bytes(Encoding.DER)) is None
