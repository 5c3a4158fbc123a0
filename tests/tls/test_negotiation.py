"""What the two sides agree on: versions, ciphers, protocols, server names; and the key log."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]
Refusal = Callable[..., TlsError]


# Versions and ciphers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "agreed"),
    [
        ("1.2", None, "TLSv1.3"),
        ("1.2", "1.2", "TLSv1.2"),
        ("1.3", None, "TLSv1.3"),
        ("1.3", "1.3", "TLSv1.3"),
    ],
)
def test_versions(
    ca: CertificateAuthority, server: Context, join: Join, low: Any, high: Any, agreed: str
) -> None:
    a, b = join(Context(ca_cert=ca.cert, min_version=low, max_version=high), server)
    assert a.version == b.version == agreed


def test_old_versions_are_refused_unless_asked_for(
    ca: CertificateAuthority, leaf: Leaf, server: Context, join: Join, refusal: Refusal
) -> None:
    old: Any = {
        "min_version": "1.0",
        "max_version": "1.1",
        "cipher_list": "DEFAULT:@SECLEVEL=0",
    }
    client = Context(ca_cert=ca.cert, **old)
    assert refusal(client, server, by="accept").reason == "protocol"
    a, _ = join(client, Context(cert=leaf.chain, key=leaf.key, **old))
    assert a.version == "TLSv1.1"


def test_ciphers(ca: CertificateAuthority, leaf: Leaf, join: Join) -> None:
    client = Context(
        ca_cert=ca.cert,
        cipher_list="ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
        ciphersuites="TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256",
    )
    # The server's order counts.
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        cipher_list="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256",
        ciphersuites="TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
    )
    a, _ = join(client, server)
    assert a.cipher == "TLS_CHACHA20_POLY1305_SHA256"
    assert a.cipher_bits == 256
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        max_version="1.2",
        cipher_list="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256",
    )
    a, _ = join(client, server)
    assert a.cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_prepare_sees_each_native_context(ca: CertificateAuthority, leaf: Leaf) -> None:
    from OpenSSL import SSL

    seen: list[Any] = []
    context = Context(cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, prepare=seen.append)
    context.new_session("accept", None)
    context.new_session("connect", HOST)
    context.new_session("connect", HOST)
    assert len(seen) == 2
    assert all(isinstance(native, SSL.Context) for native in seen)
    with pytest.raises(ValueError, match="already been used"):
        seen[0].set_verify_depth(3)


def test_a_context_made_by_hand_is_used_as_it_is(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    from OpenSSL import SSL, crypto

    native = SSL.Context(SSL.TLS_METHOD)
    native.use_certificate(leaf.cert)
    native.use_privatekey(leaf.key)  # type: ignore[arg-type]
    native.set_max_proto_version(SSL.TLS1_2_VERSION)
    lax = Context.from_openssl(native)
    a, _ = join(lax, lax, "other.example")
    assert a.version == "TLSv1.2"

    strict = SSL.Context(SSL.TLS_METHOD)
    strict.use_certificate(leaf.cert)
    strict.use_privatekey(leaf.key)  # type: ignore[arg-type]
    store = strict.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(ca.cert))
    strict.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    both = Context.from_openssl(strict)
    _, b = join(both, both)
    assert b.certificate == leaf.cert
    assert refusal(both, both, "other.example").reason == "wrong-name"
    join(Context.from_openssl(strict, verify_name=None), both, "other.example")
    assert refusal(Context(ca_cert=ca.cert), both, by="accept").reason == "no-certificate"
    server = Context(cert=leaf.chain, key=leaf.key, server_names={HOST: lax})
    a, _ = join(Context(ca_cert=ca.cert), server)
    assert a.certificate == leaf.cert

    wrong: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(TypeError, match=r"expected an OpenSSL\.SSL\.Context"):
        Context.from_openssl(wrong)


# ALPN and SNI --------------------------------------------------------------------------------


def test_alpn_is_the_servers_choice(ca: CertificateAuthority, leaf: Leaf, join: Join) -> None:
    client = Context(ca_cert=ca.cert, alpn=["h2", "http/1.1", "x"])
    server = Context(cert=leaf.chain, key=leaf.key, alpn=["http/1.1", "h2"])
    a, b = join(client, server)
    assert a.alpn == b.alpn == "http/1.1"


def test_alpn_of_one_side_only_is_ignored(
    ca: CertificateAuthority, leaf: Leaf, client: Context, server: Context, join: Join
) -> None:
    a, b = join(Context(ca_cert=ca.cert, alpn=["h2"]), server)
    assert a.alpn is b.alpn is None
    a, b = join(client, Context(cert=leaf.chain, key=leaf.key, alpn=["h2"]))
    assert a.alpn is b.alpn is None


def test_alpn_without_anything_in_common_is_refused(
    ca: CertificateAuthority, leaf: Leaf, refusal: Refusal
) -> None:
    client = Context(ca_cert=ca.cert, alpn=["h2"])
    server = Context(cert=leaf.chain, key=leaf.key, alpn=["spdy/1"])
    assert refusal(client, server, by="accept").reason == "protocol"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (HOST, HOST),
        ("WWW.Example.ORG.", HOST),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", None),
        ("::1", None),
        ("[::1]", None),
        ("fe80::1%eth0", None),
        ("unix/", None),
        (None, None),
    ],
)
def test_server_name_is_sent_for_host_names_only(
    server: Context, join: Join, name: str | None, sent: str | None
) -> None:
    _, b = join(Context(verify=False), server, name)
    assert b.server_name == sent


@pytest.fixture
def by_name(ca: CertificateAuthority) -> Callable[..., Context]:
    def make(name: str, **options: Any) -> Context:
        leaf = ca.issue(name)
        return Context(cert=leaf.chain, key=leaf.key, **options)

    return make


def test_server_names_by_table(
    client: Context, by_name: Callable[..., Context], leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    table = {
        "a.example": by_name("a.example"),
        "*.wild.example": by_name("*.wild.example"),
        "Bücher.example": by_name("xn--bcher-kva.example"),
    }
    server = Context(cert=leaf.chain, key=leaf.key, server_names=table)
    for name in ("a.example", "A.EXAMPLE", "x.wild.example", "bücher.example", HOST, "::1"):
        join(client, server, name)
    assert refusal(client, server, "y.x.wild.example").reason == "wrong-name"
    assert refusal(client, server, "b.example").reason == "wrong-name"


def test_server_names_by_function(
    client: Context, by_name: Callable[..., Context], leaf: Leaf, join: Join
) -> None:
    asked = []
    other = by_name("a.example")

    def choose(name: str | None) -> Context | None:
        asked.append(name)
        return other if name == "a.example" else None

    server = Context(cert=leaf.chain, key=leaf.key, server_names=choose)
    join(client, server, "a.example")
    join(client, server, HOST)
    join(client, server, "127.0.0.1")
    assert asked == ["a.example", HOST, None]


def test_a_failing_server_names_function_ends_the_handshake_only(
    client: Context, leaf: Leaf, refusal: Refusal, by_name: Callable[..., Context], join: Join
) -> None:
    def broken(name: str | None) -> Context:
        raise LookupError("no table")

    server = Context(cert=leaf.chain, key=leaf.key, server_names=broken)
    error = refusal(client, server, by="accept")
    assert isinstance(error.__cause__, LookupError)

    def refusing(name: str | None) -> Context:
        raise TlsError("not today", reason="closed")

    server = Context(cert=leaf.chain, key=leaf.key, server_names=refusing)
    error = refusal(client, server, by="accept")
    assert (str(error), error.reason) == ("not today", "closed")

    def wrong(name: str | None) -> Any:
        return "a string"

    server = Context(cert=leaf.chain, key=leaf.key, server_names=wrong)
    assert "must give a Context" in str(refusal(client, server, by="accept"))

    empty = Context(verify=False)
    server = Context(cert=leaf.chain, key=leaf.key, server_names=lambda name: empty)
    assert "without a certificate" in str(refusal(client, server, by="accept"))


def test_the_named_context_decides_about_alpn_and_client_certificates(
    ca: CertificateAuthority,
    leaf: Leaf,
    by_name: Callable[..., Context],
    join: Join,
    refusal: Refusal,
) -> None:
    strict = by_name("a.example", ca_cert=ca.cert, verify_require_client_cert=True, alpn=["strict"])
    server = Context(
        cert=leaf.chain, key=leaf.key, alpn=["lax"], server_names={"a.example": strict}
    )
    client = Context(ca_cert=ca.cert, alpn=["lax", "strict"])
    a, _ = join(client, server)
    assert a.alpn == "lax"
    assert refusal(client, server, "a.example", by="accept").reason == "no-certificate"
    mine = ca.issue(common_name="me")
    client = Context(ca_cert=ca.cert, alpn=["lax", "strict"], cert=mine.chain, key=mine.key)
    a, b = join(client, server, "a.example")
    assert a.alpn == "strict"
    assert b.certificate == mine.cert

    choosy = by_name(
        "b.example", ca_cert=ca.cert, verify=True, verify_callback=lambda info: info.depth > 0
    )
    server = Context(cert=leaf.chain, key=leaf.key, server_names={"b.example": choosy})
    assert refusal(client, server, "b.example", by="accept").reason == "refused"


# Key log -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_secrets_are_logged_for_wireshark(
    ca: CertificateAuthority, leaf: Leaf, join: Join, tmp_path: Path, version: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    path = tmp_path / "keys.log"
    client = Context(ca_cert=ca.cert, key_log_file=path, session_cache=False)
    join(client, server)
    first = path.read_text().splitlines()
    labels = [line.split()[0] for line in first]
    if version == "1.2":
        assert labels == ["CLIENT_RANDOM"]
    else:
        assert set(labels) >= {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
    assert all(len(line.split()) == 3 for line in first)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    join(client, server)
    assert path.read_text().splitlines()[: len(first)] == first
    assert len(path.read_text().splitlines()) == 2 * len(first)


def test_a_key_log_that_cannot_be_written_is_said_at_once_or_logged(
    ca: CertificateAuthority, server: Context, join: Join, tmp_path: Path, caplog: Any
) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Context(ca_cert=ca.cert, key_log_file=tmp_path / "nowhere" / "keys.log")
    folder = tmp_path / "folder"
    folder.mkdir()
    client = Context(ca_cert=ca.cert, key_log_file=folder / "keys.log")
    (folder / "keys.log").unlink()
    folder.rmdir()
    a, _ = join(client, server)
    assert a.state == "established"
    assert "key_log_file: " in caplog.text
