"""What is on if nothing is said, seen from outside: probes by OpenSSL's and GnuTLS's clients."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf, pump

HOST = "www.example.org"
PATIENCE = 30.0


@pytest.fixture
def ca_file(tmp_path: Path, ca: CertificateAuthority) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text(ca.pem)
    return path


@contextmanager
def serving(context: Context) -> Iterator[tuple[int, list[Any]]]:
    """Serve one connection in a thread: shake hands, read a line, close. Gives port and story."""
    story: list[Any] = []

    def serve() -> None:
        sock, _ = listener.accept()
        session = context.new_session("accept", None)
        with sock:
            sock.settimeout(PATIENCE)
            try:
                while data := sock.recv(65536):
                    session.feed(data)
                    text = session.read()
                    if text:
                        story.append(text)
                        session.shutdown()
                    out = session.drain()
                    if out:
                        sock.sendall(out)
            except TlsError as error:
                story.append(error.reason)
                sock.sendall(session.drain())
            except OSError as error:
                story.append(type(error).__name__)
            story.append(session.version)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], story
        thread.join()


@pytest.fixture
def probe(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a client; gives its exit status and what it printed."""

    def run(*words: object, say: bytes = b"hello\n") -> tuple[int, str]:
        path = shutil.which(str(words[0]))
        if path is None:
            pytest.skip(f"{words[0]} is not installed")
        done = subprocess.run(
            [path, *map(str, words[1:])],
            input=say,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    return run


Probe = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("version", ["TLS1.0", "TLS1.1"])
def test_old_versions_get_no_answer(server: Context, probe: Probe, version: str) -> None:
    flag = {"TLS1.0": "-tls1", "TLS1.1": "-tls1_1"}[version]
    with serving(server) as (port, story):
        status, _ = probe(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", flag,
            "-cipher", "ALL:@SECLEVEL=0",
        )  # fmt: skip
        assert status != 0
    assert story == ["protocol", None]
    with serving(server) as (port, story):
        status, _ = probe(
            "gnutls-cli", "--insecure", "--port", port, "127.0.0.1",
            "--priority", f"NORMAL:-VERS-ALL:+VERS-{version}:%COMPAT",
        )  # fmt: skip
        assert status != 0
    assert None in story


@pytest.mark.parametrize(("flag", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_what_a_client_of_openssl_sees(
    server: Context, probe: Probe, ca_file: Path, flag: str, version: str
) -> None:
    with serving(server) as (port, story):
        _, seen = probe(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", flag, "-ign_eof",
            "-CAfile", ca_file, "-verify_hostname", HOST, "-comp",
        )  # fmt: skip
    assert story == [b"hello\n", version]
    assert "Verification: OK" in seen
    assert "Compression: NONE" in seen
    if version == "TLSv1.2":
        assert "Secure Renegotiation IS supported" in seen
        assert "Extended master secret: yes" in seen
        assert "GCM" in seen or "CHACHA20" in seen
        assert "ECDHE" in seen  # forward secrecy
    assert seen.count("Post-Handshake New Session Ticket arrived") <= 2


@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_the_server_picks_the_cipher(
    server: Context, probe: Probe, ca_file: Path, version: str
) -> None:
    picked = set()
    for wish in ("+AES-128-GCM:+AES-256-GCM", "+AES-256-GCM:+AES-128-GCM"):
        with serving(server) as (port, _):
            status, seen = probe(
                "gnutls-cli", "--x509cafile", ca_file, "--verify-hostname", HOST,
                "--sni-hostname", HOST, "--port", port, "127.0.0.1", "--priority",
                f"NORMAL:-VERS-ALL:+VERS-{version}:-CIPHER-ALL:{wish}",
            )  # fmt: skip
            assert status == 0, seen
        picked.add(next(line for line in seen.splitlines() if "Description" in line))
    assert len(picked) == 1
    assert "AES-256-GCM" in picked.pop()


# Forward secrecy and AEAD: RFC 9325 4.2.
GOOD = re.compile(r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)")


def every_cipher() -> list[str]:
    """All that our OpenSSL knows up to TLS 1.2."""
    from OpenSSL import SSL

    native = SSL.Context(SSL.TLS_METHOD)
    native.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    names = SSL.Connection(native, None).get_cipher_list()
    return [name for name in names if not name.startswith("TLS_")]


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_default_server_takes_forward_secrecy_and_aead_and_nothing_else(
    ca: CertificateAuthority, join: Callable[..., Any], kind: Any
) -> None:
    leaf = ca.issue(HOST, key_type=kind)
    server = Context(cert=leaf.chain, key=leaf.key)
    taken = []
    for cipher in every_cipher():
        with contextlib.suppress(TlsError, ValueError):  # PSK and SRP are nothing to offer
            client = Context(verify=False, max_version="1.2", cipher_list=f"{cipher}:@SECLEVEL=0")
            taken.append(join(client, server)[0].cipher)
    assert len(taken) == 3
    assert all(GOOD.fullmatch(cipher) for cipher in taken)


def test_a_default_client_offers_forward_secrecy_and_aead_and_nothing_else(
    client: Context,
) -> None:
    from OpenSSL import SSL

    conn = client.new_session("connect", HOST)._conn
    assert isinstance(conn, SSL.Connection)
    names = conn.get_cipher_list()
    assert len(names) == 9
    assert all(GOOD.fullmatch(name) or name.startswith("TLS_") for name in names)


def test_a_cipher_list_that_is_given_wins(
    ca: CertificateAuthority, join: Callable[..., Any]
) -> None:
    leaf = ca.issue(HOST, key_type="rsa")
    client = Context(verify=False, cipher_list="ALL", max_version="1.2")
    server = Context(cert=leaf.chain, key=leaf.key, cipher_list="AES256-SHA")
    assert join(client, server)[0].cipher == "AES256-SHA"


@pytest.mark.parametrize(
    "cipher", ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES256-SHA", "DHE-RSA-AES256-SHA"]
)
def test_openssl_is_refused_with_an_old_cipher(
    ca: CertificateAuthority, probe: Probe, cipher: str
) -> None:
    leaf = ca.issue(HOST, key_type="rsa")
    server = Context(cert=leaf.chain, key=leaf.key)
    for offer, success in ((cipher, False), ("ECDHE-RSA-AES128-GCM-SHA256", True)):
        with serving(server) as (port, story):
            status, _ = probe(
                "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-ign_eof",
                "-cipher", f"{offer}:@SECLEVEL=0",
            )  # fmt: skip
        assert (status == 0) is success
        assert story == ([b"hello\n", "TLSv1.2"] if success else ["protocol", None])


@pytest.mark.parametrize(
    "wish",
    ["-KX-ALL:+RSA", "-KX-ALL:+DHE-RSA", "-CIPHER-ALL:+AES-128-CBC:+AES-256-CBC"],
)
def test_gnutls_is_refused_with_an_old_cipher(
    ca: CertificateAuthority, probe: Probe, wish: str
) -> None:
    leaf = ca.issue(HOST, key_type="rsa")
    server = Context(cert=leaf.chain, key=leaf.key)
    for offer, success in ((wish, False), ("-KX-ALL:+ECDHE-RSA", True)):
        with serving(server) as (port, story):
            status, _ = probe(
                "gnutls-cli", "--insecure", "--port", port, "127.0.0.1",
                "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS1.2:{offer}",
            )  # fmt: skip
        assert (status == 0) is success
        assert (story[0] == b"hello\n") is success


def noted(keep: Callable[[str, Any, str], None], kept: list[str]) -> Callable[..., None]:
    """Wrap the function that stores a session, and note each call."""

    def wrapped(name: str, session: Any, version: str) -> None:
        kept.append(version)
        keep(name, session, version)

    return wrapped


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tickets_are_few(ca: CertificateAuthority, leaf: Leaf, version: Any) -> None:
    """A full handshake brings two tickets at most, a resumed one no more."""
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    for resumed in (False, True):
        kept: list[str] = []
        a = client.new_session("connect", HOST)
        keep = a._keep_session
        assert keep is not None
        a._keep_session = noted(keep, kept)
        b = server.new_session("accept", None)
        pump(a, b)
        assert a.resumed is resumed
        assert 1 <= len(kept) <= 2
        a.shutdown()
        b.shutdown()
        pump(a, b)


def test_a_client_offers_no_old_version_and_no_compression(client: Context) -> None:
    hello = client.new_session("connect", HOST).drain()
    body = hello[9:]
    assert body[:2] == b"\x03\x03"
    at = 34
    at += 1 + body[at]  # session id
    at += 2 + int.from_bytes(body[at : at + 2], "big")  # cipher suites
    assert body[at : at + 2] == b"\x01\x00"  # one compression method: none
    versions = body.index(b"\x00\x2b\x00\x05\x04\x03\x04\x03\x03")  # supported_versions
    assert versions > at


def test_defaults_of_a_client_are_those_of_the_manual() -> None:
    context = Context()
    with pytest.raises(TlsError) as caught:
        context.new_session("connect", None)
    assert caught.value.reason == "no-name"
    session = context.new_session("connect", HOST)
    assert isinstance(session, Session)
