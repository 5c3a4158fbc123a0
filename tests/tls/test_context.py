"""What a context is made of: certificates, keys, trust; and clear complaints about nonsense."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]
Refusal = Callable[..., TlsError]


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
    variants: list[dict[str, Any]] = [
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
    ]
    for options in variants:
        a, _ = join(client, Context(**options))
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
        ({"server_names": {"127.0.0.1": 7}}, ValueError, "'127.0.0.1' is not a host name"),
        ({"server_names": {"*.*.a": 7}}, ValueError, r"'\*\.\*\.a' is not a host name"),
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
    paths: dict[str, Any] = {
        k: v if k == "cert_password" else files / v for k, v in options.items()
    }
    with pytest.raises(ValueError, match=message):
        Context(**paths)


@pytest.mark.parametrize("option", ["cert_file", "ca_file", "ca_path"])
def test_a_missing_file_is_named(tmp_path: Path, option: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.here"):
        path: Any = tmp_path / "nothing.here"
        Context(**{option: path})


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


ECDSA_ONLY = "ECDHE-ECDSA-AES128-GCM-SHA256"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rsa", {"cipher_list": ECDSA_ONLY}, f"cipher_list='{ECDSA_ONLY}' .* TLS 1.2 that the key"),
        ("rsa", {"cipher_list": ECDSA_ONLY, "max_version": "1.2"}, "no cipher suite for TLS 1.2"),
        ("ec", {"cipher_list": "AES128-SHA"}, "no cipher suite for TLS 1.2"),
        ("ec", {"cipher_list": "DHE+AESGCM", "max_version": "1.2"}, "no cipher suite for TLS 1.2"),
        ("ec", {"ciphersuites": ""}, "ciphersuites='' leaves no cipher suite for TLS 1.3"),
        ("ec", {"ciphersuites": "", "min_version": "1.3"}, "no cipher suite for TLS 1.3"),
        ("ec", {"min_version": "1.0", "max_version": "1.1"}, "default cipher_list .* TLS 1.1"),
        (None, {"min_version": "1.1", "max_version": "1.1"}, "default cipher_list .* TLS 1.1"),
        (None, {"cipher_list": "PSK"}, "cipher_list='PSK' leaves no cipher suite for TLS 1.2:"),
        (None, {"ciphersuites": ""}, "ciphersuites='' leaves no cipher suite for TLS 1.3:"),
        (
            None,
            {"min_version": "1.0", "max_version": "1.1", "cipher_list": "AESGCM:@SECLEVEL=0"},
            "no cipher suite for TLS 1.1",
        ),
    ],
)
def test_settings_that_leave_no_cipher_suite_are_refused(
    ca: CertificateAuthority, kind: Any, options: dict[str, Any], message: str
) -> None:
    if kind is not None:
        leaf = ca.issue(HOST, key_type=kind)
        options = {**options, "cert": leaf.chain, "key": leaf.key}
    with pytest.raises(ValueError, match=message):
        Context(**options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rsa", {"cipher_list": "AES128-SHA"}),
        ("rsa", {"cipher_list": ECDSA_ONLY, "min_version": "1.3"}),  # it is for nobody then
        ("rsa", {"cipher_list": f"{ECDSA_ONLY}:ECDHE-RSA-AES128-GCM-SHA256"}),
        ("ec", {"cipher_list": ECDSA_ONLY, "max_version": "1.2"}),
        ("ec", {"ciphersuites": "", "max_version": "1.2"}),
        ("ed25519", {"cipher_list": "ECDHE+AESGCM", "ciphersuites": "TLS_AES_128_GCM_SHA256"}),
        (None, {"cipher_list": ECDSA_ONLY}),
        (None, {"min_version": "1.0", "max_version": "1.1", "cipher_list": "ALL:@SECLEVEL=0"}),
    ],
)
def test_settings_that_leave_one_are_taken(
    ca: CertificateAuthority, kind: Any, options: dict[str, Any]
) -> None:
    if kind is not None:
        leaf = ca.issue(HOST, key_type=kind)
        options = {**options, "cert": leaf.chain, "key": leaf.key}
    Context(**options)


def test_the_certificate_of_a_client_says_nothing_about_the_ciphers_of_the_server(
    ca: CertificateAuthority, leaf: Leaf, join: Join
) -> None:
    card = ca.issue(common_name="me", key_type="rsa", purposes=["client"])
    client = Context(
        ca_cert=ca.cert, cert=card.chain, key=card.key, cipher_list=ECDSA_ONLY, max_version="1.2"
    )
    server = Context(
        cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify_require_client_cert=True
    )
    _, b = join(client, server)
    assert b.certificate == card.cert


def test_a_key_no_default_cipher_can_serve_is_refused(
    ca: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives.asymmetric import dsa

    key = dsa.generate_private_key(2048)
    monkeypatch.setattr("ae_tls.testing._make_key", lambda key_type: key)
    leaf = ca.issue(HOST)
    with pytest.raises(ValueError, match=r"the default cipher_list leaves no .* for TLS 1\.2"):
        Context(cert=leaf.chain, key=leaf.key)


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


def test_a_python_that_ignores_its_environment_takes_no_cas_from_it(
    files: Path, server: Context, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_CA_FILE", str(files / "ca.pem"))
    monkeypatch.setattr("sys.flags", SimpleNamespace(ignore_environment=1))
    context = Context()
    monkeypatch.undo()
    assert refusal(context, server).reason == "untrusted"


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


def test_the_windows_store_is_read_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, ca: CertificateAuthority
) -> None:
    import ssl
    import sys

    from ae_tls import _material

    der = ca.cert.public_bytes(serialization.Encoding.DER)
    store = [
        (der, "x509_asn", True),
        (der, "x509_asn", {"1.3.6.1.5.5.7.3.1"}),
        (der, "x509_asn", {"1.3.6.1.5.5.7.3.4"}),  # not for servers
        (b"rubbish", "x509_asn", True),
        (der, "pkcs_7_asn", True),
    ]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ssl, "enum_certificates", lambda name: store, raising=False)
    assert _material.system_ca({}).certificates == [ca.cert, ca.cert]
    store.clear()
    assert _material.system_ca({}).files  # certifi


def test_a_directory_named_by_the_environment_is_used(
    tmp_path: Path, ca: CertificateAuthority
) -> None:
    from ae_tls import _material

    (tmp_path / "0123abcd.0").write_text(ca.pem)
    (tmp_path / "empty").mkdir()
    path = os.pathsep.join([str(tmp_path / "empty"), str(tmp_path), "/nowhere", ""])
    assert _material.system_ca({"SSL_CERT_DIR": path}).directories == [str(tmp_path)]


def test_a_python_that_ignores_the_environment_ignores_ours() -> None:
    import subprocess
    import sys

    code = (
        "import ae_tls; from ae_tls._material import system_ca;"
        "ae_tls.Context(); print(system_ca().files == ['/nowhere'])"
    )
    environ = {**os.environ, "AE_CA_FILE": "/nowhere", "SSL_CERT_FILE": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-E", "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_weak_certificate_of_our_own_is_refused(ca: CertificateAuthority) -> None:
    leaf = ca.issue(HOST, key_type="rsa1024")
    with pytest.raises(ValueError, match=r"OpenSSL does not accept .*: ee key too small"):
        Context(cert=leaf.chain, key=leaf.key)


@pytest.mark.parametrize("mangle", [lambda key: key[:60], lambda key: key.replace("END", "ENDE")])
def test_an_unfinished_pem_block_is_no_key(leaf: Leaf, mangle: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="key: no private key in it"):
        Context(cert=leaf.cert, key=mangle(leaf.key_pem))
    wrong: Any = object()
    with pytest.raises(TypeError, match="key: expected PEM text or a cryptography key, got obj"):
        Context(cert=leaf.cert, key=wrong)


def test_a_context_shows_whose_it_is(leaf: Leaf, client: Context) -> None:
    server = Context(cert=leaf.chain, key=leaf.key)
    assert repr(server) == "<ae_tls.Context for 'www.example.org' verify=None>"
    assert repr(client) == "<ae_tls.Context verify=None>"


def test_ocsp_may_be_turned_off_by_name(ca: CertificateAuthority) -> None:
    Context(ca_cert=ca.cert, ocsp=False)


def test_a_context_is_what_it_was_made_of(leaf: Leaf, client: Context, join: Join) -> None:
    """No option can be set afterwards, and what was given may change without consequence."""
    chain, protocols = list(leaf.chain), ["h2"]
    named = {HOST: Context(cert=leaf.chain, key=leaf.key, alpn=protocols)}
    server = Context(cert=chain, key=leaf.key, alpn=protocols, server_names=named)
    chain.clear()
    protocols[:] = ["spdy"]
    named.clear()
    asks = Context(verify=False, alpn=["h2"])
    assert join(asks, server)[0].alpn == join(asks, server, None)[0].alpn == "h2"
    for option in ("verify", "alpn", "min_version", "anything"):
        with pytest.raises(AttributeError):
            setattr(server, option, False)
    join(client, server)
