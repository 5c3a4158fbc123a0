"""The options of ``Context``: each does what it says, and complains clearly about nonsense."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from ae_handle import TlsError
from ae_tls import Context, Session, VerifyInfo
from ae_tls.testing import CertificateAuthority, Leaf, pump

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]
Refusal = Callable[..., TlsError]


def finish(a: Session, b: Session) -> None:
    """Close both sides properly, so that their session may be resumed."""
    a.shutdown()
    b.shutdown()
    pump(a, b)


# Certificates and keys ---------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, leaf: Leaf, ca: CertificateAuthority) -> Path:
    (tmp_path / "cert.pem").write_text(leaf.cert_pem)
    (tmp_path / "key.pem").write_text(leaf.key_pem)
    (tmp_path / "both.pem").write_text("a comment\n" + leaf.key_pem + leaf.cert_pem)
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "secret.pem").write_bytes(
        leaf.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass word"),
        )
    )
    return tmp_path


def test_identity_from_files_text_and_objects(
    files: Path, leaf: Leaf, client: Context, join: Join
) -> None:
    for options in (
        {"cert_file": files / "cert.pem", "key_file": files / "key.pem"},
        {"cert_file": str(files / "both.pem")},
        {"cert": leaf.cert_pem, "key": leaf.key_pem},
        {"cert": leaf.cert_pem.encode(), "key": leaf.key_pem.encode()},
        {"cert": leaf.key_pem + leaf.cert_pem},
        {"cert": leaf.cert, "key": leaf.key},
        {"cert": [leaf.cert], "key": leaf.key_pem},
        {"cert": leaf.cert, "key_file": files / "key.pem"},
        {"cert_file": files / "cert.pem", "key": leaf.key},
        {"cert": leaf.cert, "key_file": files / "secret.pem", "cert_password": "pass word"},
        {"cert": leaf.cert, "key_file": files / "secret.pem", "cert_password": b"pass word"},
        {
            "cert": leaf.cert,
            "key_file": files / "secret.pem",
            "cert_password": lambda: "pass word",
        },
    ):
        a, _ = join(client, Context(**options))  # type: ignore[arg-type]
        assert a.certificate == leaf.cert, options


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"cert_file": "a", "cert": "b"}, ValueError, "both cert_file and cert is not allowed"),
        (
            {"cert_file": "a", "key_file": "k", "key": "b"},
            ValueError,
            "both key_file and key is not allowed",
        ),
        ({"key": "k"}, ValueError, "expected cert_file or cert"),
        ({"cert": "no pem"}, ValueError, "cert: no certificate in it"),
        ({"cert": 7}, TypeError, "cert: expected PEM text or cryptography cert.*got int"),
        ({"cert": []}, TypeError, "cert: expected PEM text"),
        ({"ca_cert": "no pem"}, ValueError, "ca_cert: expected PEM text"),
        ({"ca_cert": 7}, TypeError, "ca_cert: .* got int"),
        ({"ca_cert": [b"x"]}, ValueError, "ca_cert: expected PEM text"),
        ({"verify_name": "gopher"}, ValueError, "unknown verify_name 'gopher': expected .*http"),
        ({"verify_name": (1, 0, 1)}, TypeError, "verify_name"),
        ({"verify_callback": 7}, TypeError, "verify_callback must be callable, got 7"),
        ({"prepare": "x"}, TypeError, "prepare must be callable"),
        ({"check_crl": "yes"}, ValueError, "check_crl: .*'yes'"),
        ({"min_version": "sslv3"}, ValueError, "min_version: expected '1.2'.*'sslv3'.*gone"),
        ({"max_version": "1.4"}, ValueError, "max_version: .*'1.4'"),
        ({"min_version": 1.2}, ValueError, "min_version: .*got 1.2"),
        ({"min_version": "1.3", "max_version": "1.2"}, ValueError, "'1.2' is below .*'1.3'"),
        ({"cipher_list": "X"}, ValueError, "'X' was not accepted as a valid cipher list"),
        ({"cipher_list": 7}, TypeError, "cipher_list must be str, got 7"),
        ({"ciphersuites": "TLS_X"}, ValueError, "'TLS_X' was not accepted"),
        ({"ciphersuites": 7}, TypeError, "ciphersuites must be str, got 7"),
        ({"alpn": "h2"}, TypeError, "alpn must be a list"),
        ({"alpn": [b"h2"]}, TypeError, "alpn must be a list of protocol names"),
        ({"alpn": [""]}, ValueError, "alpn: .* 1 to 255"),
        ({"alpn": ["x" * 256]}, ValueError, "alpn: .* 1 to 255"),
        ({"server_names": 7}, TypeError, "server_names must be a mapping"),
        ({"server_names": {"a.example": 7}}, TypeError, "expected a Context for 'a.example'"),
        ({"server_names": {"a b": 7}}, ValueError, "'a b' is not a host name"),
        ({"server_names": {7: 7}}, TypeError, "expected a host name, got 7"),
        ({"ocsp": "maybe"}, TypeError, "ocsp: expected .*'maybe'"),
        ({"verify": False, "verify_require_client_cert": True}, ValueError, "contradicts"),
        ({"sslv3": True}, TypeError, "no option 'sslv3': .*min_version"),
        ({"dh": "schmorp1539"}, TypeError, "no option 'dh': OpenSSL picks"),
        ({"method": "TLSv1"}, TypeError, "no option 'method': use min_version"),
        ({"verify_peername": "http"}, TypeError, "use verify_name"),
        ({"cafile": "x"}, TypeError, "unexpected keyword argument 'cafile'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_nonsense_is_refused_by_name(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Context(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cert_file": "empty.pem"}, "cert_file '.*empty.pem': no certificate"),
        ({"cert_file": "cert.pem"}, "cert_file '.*cert.pem': no private key"),
        ({"cert_file": "cert.pem", "key_file": "cert.pem"}, "key_file '.*cert.pem': no private"),
        ({"cert_file": "cert.pem", "key_file": "secret.pem"}, "is encrypted, .* cert_password"),
        (
            {"cert_file": "cert.pem", "key_file": "secret.pem", "cert_password": "wrong"},
            "key_file '.*secret.pem': wrong cert_password",
        ),
        ({"ca_file": "empty.pem"}, "ca_file '.*empty.pem': no CA certificate"),
    ],
)
def test_a_bad_file_is_named(files: Path, options: dict[str, str], message: str) -> None:
    paths = {k: v if k == "cert_password" else files / v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        Context(**paths)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["cert_file", "ca_file", "ca_path"])
def test_a_missing_file_is_named(tmp_path: Path, option: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.here"):
        Context(**{option: tmp_path / "nothing.here"})


def test_a_damaged_certificate_and_a_damaged_key_are_refused(leaf: Leaf) -> None:
    lines = leaf.cert_pem.splitlines()
    damaged = "\n".join([lines[0], lines[1][::-1], *lines[2:]])
    with pytest.raises(ValueError, match=r"^cert: "):
        Context(cert=damaged, key=leaf.key)
    key = leaf.key_pem.splitlines()
    with pytest.raises(ValueError, match=r"^key: "):
        Context(cert=leaf.cert, key="\n".join([key[0], key[2], *key[1:]]))


def test_a_password_of_the_wrong_type_is_refused(files: Path, leaf: Leaf) -> None:
    wrong: Any = lambda: 7  # noqa: E731
    with pytest.raises(TypeError, match="cert_password must give str or bytes, got int"):
        Context(cert=leaf.cert, key_file=files / "secret.pem", cert_password=wrong)


def test_a_key_of_another_certificate_is_refused(ca: CertificateAuthority, leaf: Leaf) -> None:
    other = ca.issue(HOST)
    with pytest.raises(ValueError, match="key: the key does not belong to the certificate"):
        Context(cert=leaf.cert, key=other.key)
    with pytest.raises(ValueError, match="cert needs its key"):
        Context(cert=leaf.cert)


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa", "ed25519"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_every_kind_of_key_serves(
    ca: CertificateAuthority, client: Context, join: Join, kind: Any, version: Any
) -> None:
    leaf = ca.issue(HOST, key_type=kind)
    a, _ = join(client, Context(cert=leaf.chain, key=leaf.key, max_version=version))
    assert a.version == f"TLSv{version}"


def test_intermediate_cas_are_sent(join: Join) -> None:
    root = CertificateAuthority("root")
    middle = root.intermediate("middle")
    leaf = middle.intermediate("low").issue(HOST)
    a, _ = join(Context(ca_cert=root.cert), Context(cert=leaf.cert_pem, key=leaf.key))
    assert [c.subject.rfc4514_string() for c in a.chain] == ["", "CN=low", "CN=middle", "CN=root"]


# Trust --------------------------------------------------------------------------------------


def test_cas_from_file_directory_text_and_objects(
    files: Path, ca: CertificateAuthority, server: Context, join: Join
) -> None:
    hashed = files / "hashed"
    hashed.mkdir()
    from OpenSSL import crypto

    name = crypto.X509.from_cryptography(ca.cert).subject_name_hash()
    (hashed / f"{name:08x}.0").write_text(ca.pem)
    other = CertificateAuthority("other")
    options: list[dict[str, Any]] = [
        {"ca_file": files / "ca.pem"},
        {"ca_path": hashed},
        {"ca_cert": ca.pem},
        {"ca_cert": ca.pem.encode()},
        {"ca_cert": ca.cert},
        {"ca_cert": [other.cert, ca.pem]},
        {"ca_cert": other.cert, "ca_file": files / "ca.pem"},
    ]
    for option in options:
        join(Context(**option), server)


def test_an_intermediate_ca_or_the_certificate_itself_may_be_trusted(join: Join) -> None:
    middle = CertificateAuthority("root").intermediate("middle")
    leaf = middle.issue(HOST)
    server = Context(cert=leaf.chain, key=leaf.key)
    join(Context(ca_cert=middle.cert), server)
    join(Context(ca_cert=leaf.cert), server)


def test_environment_names_the_cas(
    files: Path, server: Context, join: Join, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AE_CA_FILE", "AE_CA_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert refusal(Context(), server).reason == "untrusted"
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "ca.pem"))
    join(Context(), server)
    monkeypatch.setenv("AE_CA_FILE", str(files / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "empty.pem"))
    join(Context(), server)
    monkeypatch.setenv("AE_CA_FILE", str(files / "empty.pem"))
    with pytest.raises(ValueError, match=r"empty\.pem"):
        Context()


def test_an_empty_trust_store_is_an_error_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AE_CA_FILE", "AE_CA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(TlsError, match="no CA certificates found") as caught:
        Context().new_session("connect", HOST)
    assert caught.value.reason == "untrusted"
    Context(verify=False).new_session("connect", HOST)


def test_certifi_stands_in_for_a_missing_system_store(monkeypatch: pytest.MonkeyPatch) -> None:
    import certifi

    from ae_tls import _material

    for name in ("AE_CA_FILE", "AE_CA_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_material, "_CA_DIRECTORIES", ("/nowhere",))
    monkeypatch.setattr(_material, "_CA_BUNDLES", ("/nowhere/either",))
    assert _material.system_ca().files == [certifi.where()]
    Context().new_session("connect", HOST)
    monkeypatch.setitem(__import__("sys").modules, "certifi", None)
    assert not _material.system_ca()


def test_a_bundle_serves_where_there_are_no_hashed_links(
    monkeypatch: pytest.MonkeyPatch, files: Path
) -> None:
    from ae_tls import _material

    monkeypatch.setattr(_material, "_CA_DIRECTORIES", (str(files),))
    monkeypatch.setattr(_material, "_CA_BUNDLES", (str(files / "ca.pem"),))
    source = _material.system_ca({})
    assert (source.files, source.directories) == ([str(files / "ca.pem")], [])


# Verification --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, ""])
def test_a_name_is_needed_where_it_is_checked(client: Context, name: str | None) -> None:
    with pytest.raises(TlsError, match="peer_name") as caught:
        client.new_session("connect", name)
    assert caught.value.reason == "no-name"


@pytest.mark.parametrize("name", ["unix/", "a b", "*.example.org", "x" * 64, "1.2.3", "a..b", "."])
def test_a_name_no_certificate_can_have_is_refused_at_once(client: Context, name: str) -> None:
    with pytest.raises(TlsError, match="not a host name") as caught:
        client.new_session("connect", name)
    assert caught.value.reason == "wrong-name"


def test_verify_off_turns_everything_off(server: Context, join: Join) -> None:
    calls: list[VerifyInfo] = []
    client = Context(verify=False, verify_callback=calls.append)
    for name in (None, "", "other.example", "unix/", HOST):
        a, _ = join(client, server, name)
        assert a.certificate is not None
    assert calls == []


def test_name_check_may_be_left_out(
    ca: CertificateAuthority, server: Context, join: Join, refusal: Refusal
) -> None:
    for none in (None, "none"):
        join(Context(ca_cert=ca.cert, verify_name=none), server, "other.example")
        join(Context(ca_cert=ca.cert, verify_name=none), server, None)
    other = CertificateAuthority("other")
    assert refusal(Context(ca_cert=other.cert, verify_name=None), server).reason == "untrusted"


def test_name_check_by_a_function(
    ca: CertificateAuthority, leaf: Leaf, server: Context, join: Join, refusal: Refusal
) -> None:
    asked = []

    def check(certificate: Any, name: str) -> bool:
        asked.append((certificate, name))
        return name == "friend"

    client = Context(ca_cert=ca.cert, verify_name=check)
    join(client, server, "friend")
    assert refusal(client, server, "stranger").reason == "refused"
    assert asked == [(leaf.cert, "friend"), (leaf.cert, "stranger")]

    def broken(certificate: Any, name: str) -> bool:
        raise LookupError("no table")

    error = refusal(Context(ca_cert=ca.cert, verify_name=broken), server)
    assert error.reason == "refused"
    assert isinstance(error.__cause__, LookupError)


def test_verify_callback_sees_every_certificate_and_has_the_last_word(
    server: Context, ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    seen: list[VerifyInfo] = []

    def approve(info: VerifyInfo) -> bool:
        seen.append(info)
        return True

    join(Context(ca_cert=ca.cert, verify_callback=approve), server)
    assert [(i.depth, i.certificate, i.ok, i.reason) for i in seen] == [
        (1, ca.cert, True, ""),
        (0, leaf.cert, True, ""),
    ]
    assert {(i.role, i.peer_name) for i in seen} == {("connect", HOST)}
    assert repr(seen[1]) == "<VerifyInfo depth=0 'www.example.org' ok>"

    seen.clear()
    join(Context(ca_cert=ca.cert, verify_callback=approve), server, "other.example")
    assert [(i.depth, i.ok, i.reason) for i in seen] == [
        (1, True, ""),
        (0, False, "wrong-name"),
    ]
    assert "other.example" in seen[1].message
    assert "wrong-name" in repr(seen[1])

    stranger = CertificateAuthority("stranger")
    join(Context(ca_cert=stranger.cert, verify_callback=approve), server)

    client = Context(ca_cert=ca.cert, verify_callback=lambda info: info.depth != 0)
    error = refusal(client, server)
    assert (error.reason, "www.example.org" in str(error)) == ("refused", True)

    client = Context(ca_cert=ca.cert, verify_callback=lambda info: info.ok)
    join(client, server)
    assert refusal(client, server, "other.example").reason == "wrong-name"


def test_a_verify_callback_that_raises_says_no(
    server: Context, ca: CertificateAuthority, refusal: Refusal
) -> None:
    def broken(info: VerifyInfo) -> bool:
        raise LookupError("no table")

    error = refusal(Context(ca_cert=ca.cert, verify_callback=broken), server)
    assert error.reason == "refused"
    assert isinstance(error.__cause__, LookupError)


# Client certificates -------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificates(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal, version: Any
) -> None:
    mine = ca.issue(common_name="someone", purposes=["client"])
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        max_version=version,
    )
    _, b = join(Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key), server)
    assert b.certificate == mine.cert
    assert b.chain == [mine.cert, ca.cert]
    assert b.peer_name is None

    error = refusal(Context(ca_cert=ca.cert), server, by="accept")
    assert error.reason == "no-certificate"
    stranger = CertificateAuthority("stranger").issue(common_name="x", purposes=["client"])
    client = Context(ca_cert=ca.cert, cert=stranger.chain, key=stranger.key)
    assert refusal(client, server, by="accept").reason == "untrusted"
    wrong = ca.issue(common_name="x", purposes=["server"])
    client = Context(ca_cert=ca.cert, cert=wrong.chain, key=wrong.key)
    assert refusal(client, server, by="accept").reason == "wrong-purpose"


def test_a_client_certificate_may_be_asked_for_without_being_required(
    ca: CertificateAuthority, leaf: Leaf, client: Context, join: Join, refusal: Refusal
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify=True)
    _, b = join(client, server)
    assert b.certificate is None
    mine = ca.issue(common_name="someone")
    _, b = join(Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key), server)
    assert b.certificate == mine.cert
    stranger = CertificateAuthority("stranger").issue(common_name="x")
    client = Context(ca_cert=ca.cert, cert=stranger.chain, key=stranger.key)
    assert refusal(client, server, by="accept").reason == "untrusted"


def test_a_server_may_check_client_names_by_a_function(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        verify_name=lambda cert, name: "CN=friend" in cert.subject.rfc4514_string(),
    )
    for name in ("friend", "stranger"):
        mine = ca.issue(common_name=name)
        client = Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key)
        if name == "friend":
            join(client, server)
        else:
            assert refusal(client, server, by="accept").reason == "refused"


def test_a_server_needs_a_certificate(client: Context) -> None:
    with pytest.raises(TlsError, match="cert_file or cert") as caught:
        client.new_session("accept", None)
    assert caught.value.reason == "no-certificate"


def test_a_role_is_connect_or_accept(client: Context) -> None:
    wrong: Any = "server"
    with pytest.raises(ValueError, match="expected 'connect' or 'accept', got 'server'"):
        client.new_session(wrong, None)


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
    for name in ("a.example", "A.EXAMPLE", "x.wild.example", "bücher.example", HOST):
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


# Resumption ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_sessions_are_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    resumed = []
    for _ in range(4):
        a, b = join(client, server)
        a.write(b"data")
        pump(a, b)
        assert b.read() == b"data"
        assert a.certificate == leaf.cert
        resumed.append(a.resumed)
        finish(a, b)
    assert resumed == [False, True, True, True]
    a, b = join(client, server, "127.0.0.1")
    assert a.resumed is False  # another name is another peer


def test_two_connections_at_once_are_both_resumed(
    client: Context, server: Context, join: Join
) -> None:
    finish(*join(client, server))
    first = join(client, server)
    second = join(client, server)
    assert first[0].resumed
    assert second[0].resumed


def test_a_session_that_was_cut_off_is_resumed(
    client: Context, server: Context, join: Join
) -> None:
    a, _ = join(client, server)
    with pytest.raises(TlsError):
        a.feed(b"")
    del a
    a, _ = join(client, server)
    assert a.resumed


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("off", ["client", "server"])
def test_resumption_can_be_turned_off(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any, off: str
) -> None:
    client = Context(ca_cert=ca.cert, session_cache=off != "client")
    server = Context(
        cert=leaf.chain, key=leaf.key, max_version=version, session_cache=off != "server"
    )
    for _ in range(2):
        a, b = join(client, server)
        assert a.resumed is False
        finish(a, b)


def test_a_resumed_session_is_checked_again(
    ca: CertificateAuthority, leaf: Leaf, server: Context, join: Join
) -> None:
    """What a function said once it need not say again."""
    answers = [True, True, False]
    client = Context(ca_cert=ca.cert, verify_name=lambda cert, name: answers.pop(0))
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        finish(a, b)
    with pytest.raises(TlsError) as caught:
        join(client, server)
    assert caught.value.reason == "refused"
    assert answers == []


def test_a_server_that_forgot_the_session_gets_a_full_handshake(
    client: Context, leaf: Leaf, server: Context, join: Join
) -> None:
    finish(*join(client, server))
    a, _ = join(client, Context(cert=leaf.chain, key=leaf.key))
    assert a.resumed is False


def test_a_session_with_a_client_certificate_is_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join
) -> None:
    mine = ca.issue(common_name="me")
    client = Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key)
    server = Context(
        cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify_require_client_cert=True
    )
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        assert b.certificate == mine.cert
        finish(a, b)


def test_the_store_of_sessions_is_bounded(client: Context, server: Context, join: Join) -> None:
    from ae_tls._resumption import SessionStore

    a, _ = join(client, server)
    session = a._conn.get_session()
    assert session is not None
    store = SessionStore()
    for number in range(1000):
        for _ in range(10):
            store.put(f"host{number}", session, "TLSv1.3")
    assert store.take("host0") is None
    taken = [store.take("host999") for _ in range(5)]
    assert taken == [session] * 4 + [None]
    store.put("a", session, "TLSv1.2")
    store.put("a", session, "TLSv1.2")
    assert store.take("a") is store.take("a") is session


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
