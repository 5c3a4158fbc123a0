"""The throw-away CA refuses nonsense, and what it makes is sound."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from ae_handle import TlsError
from ae_tls import Context
from ae_tls.testing import CertificateAuthority, pump

HOST = "www.example.org"


def test_what_it_makes_passes_a_strict_verifier() -> None:
    root = CertificateAuthority("root")
    leaf = root.intermediate("a").intermediate("b").issue(HOST)
    verifier = PolicyBuilder().store(Store([root.cert])).build_server_verifier(x509.DNSName(HOST))
    chain = verifier.verify(leaf.cert, list(leaf.issuers))
    assert chain == [*leaf.chain, root.cert]


def test_texts_are_pem() -> None:
    ca = CertificateAuthority()
    leaf = ca.intermediate().issue(HOST)
    assert x509.load_pem_x509_certificate(ca.pem.encode()) == ca.cert
    assert x509.load_pem_x509_certificates(leaf.cert_pem.encode()) == leaf.chain
    assert leaf.key_pem.startswith("-----BEGIN PRIVATE KEY-----")


def test_a_leaf_needs_no_purpose() -> None:
    leaf = CertificateAuthority().issue(HOST, purposes=[])
    with pytest.raises(x509.ExtensionNotFound):
        leaf.cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_nonsense_is_refused_by_name() -> None:
    ca = CertificateAuthority()
    wrong: Any = "dsa"
    with pytest.raises(ValueError, match="got 'dsa'"):
        ca.issue(HOST, key_type=wrong)
    wrong = "cooking"
    with pytest.raises(ValueError, match="got 'cooking'"):
        ca.issue(HOST, purposes=[wrong])
    with pytest.raises(ValueError, match="weak_hash needs an issuer with an RSA key"):
        ca.issue(HOST, weak_hash=True)


def test_a_failed_handshake_leaves_nothing_for_the_garbage_collector() -> None:
    ca = CertificateAuthority()
    leaf = ca.issue("other.example")
    client, server = Context(ca_cert=ca.cert), Context(cert=leaf.chain, key=leaf.key)
    gc.collect()
    gc.disable()
    try:
        a, b = client.new_session("connect", HOST), server.new_session("accept", None)
        gone = [weakref.ref(a), weakref.ref(b)]
        with contextlib.suppress(TlsError):
            pump(a, b)
        del a, b
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


class Chatterbox:
    """A session that always has something to say."""

    state: Any = "handshake"
    peer_certificate = None

    def feed(self, data: bytes) -> None:
        self.last = data

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        self.last = data

    def drain(self) -> bytes:
        return b"and another thing"

    def shutdown(self) -> None:
        self.last = b""


def test_two_sessions_that_never_end_are_noticed() -> None:
    with pytest.raises(RuntimeError, match="still talk after 5 rounds"):
        pump(Chatterbox(), Chatterbox(), limit=5)
