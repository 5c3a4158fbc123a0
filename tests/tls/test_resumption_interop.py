"""Resumption as OpenSSL's and GnuTLS's programs see it, over sockets."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle, TlsError
from ae_socket import tcp_server
from ae_tls import Context
from ae_tls.testing import CertificateAuthority

OPEN, MEMBERS = "open.example.org", "members.example.org"
PATIENCE = 30.0

Run = Callable[..., str]


@pytest.fixture
def run() -> Run:
    def run(*words: object) -> str:
        path = shutil.which(str(words[0]))
        if path is None:
            pytest.skip(f"{words[0]} is not installed")
        done = subprocess.run(
            [path, *map(str, words[1:])],
            input=b"hello\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout.decode(errors="replace")

    return run


@pytest.fixture
def front(ca: CertificateAuthority) -> Context:
    leaf = ca.issue(OPEN, MEMBERS)
    members = Context(
        cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify_require_client_cert=True
    )
    return Context(cert=leaf.chain, key=leaf.key, server_names={MEMBERS: members})


@contextmanager
def serving(context: Context, count: int) -> Iterator[tuple[int, list[Any]]]:
    """Serve *count* connections in a thread, one after the other: read a line, close."""
    story: list[Any] = []

    def serve(sock: socket.socket) -> None:
        session = context.new_session("accept", None)
        with sock:
            sock.settimeout(PATIENCE)
            try:
                while data := sock.recv(65536):
                    session.feed(data)
                    if text := session.read():
                        story.append((session.server_name, session.certificate, text))
                        session.shutdown()
                    sock.sendall(session.drain())
            except TlsError as error:
                if error.reason not in ("truncated", "alert"):
                    story.append((session.server_name, error.reason))
                sock.sendall(session.drain())
            except OSError:
                return  # it goes as it likes once it has its ticket

    def run() -> None:
        for _ in range(count):
            serve(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1], story
        thread.join()


@pytest.mark.parametrize("flags", [["-tls1_2"], ["-tls1_2", "-no_ticket"], ["-tls1_3"]])
def test_a_session_of_openssl_opens_its_own_name_and_no_other(
    front: Context, run: Run, tmp_path: Path, flags: list[str]
) -> None:
    kept = tmp_path / "session.pem"

    def visit(port: int, name: str, *words: object) -> str:
        return run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof",
            "-servername", name, *flags, *words,
        )  # fmt: skip

    with serving(front, 3) as (port, story):
        assert "New, " in visit(port, OPEN, "-sess_out", kept)
        assert "Reused, " in visit(port, OPEN, "-sess_in", kept)
        seen = visit(port, MEMBERS, "-sess_in", kept)
        assert "Reused, " not in seen
    hello = (OPEN, None, b"hello\n")
    assert story == [hello, hello, (MEMBERS, "no-certificate")]


@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_gnutls_resumes_at_the_name_it_came_to(
    front: Context, run: Run, tmp_path: Path, ca: CertificateAuthority, version: str
) -> None:
    card = ca.issue(common_name="member 7", purposes=["client"])
    (tmp_path / "cert.pem").write_text(card.cert_pem)
    (tmp_path / "key.pem").write_text(card.key_pem)
    for name, shown in ((OPEN, None), (MEMBERS, card.cert)):
        with serving(front, 2) as (port, story):
            seen = run(
                "gnutls-cli", "--insecure", "--resume", "--waitresumption", "--sni-hostname", name,
                "--port", port, "127.0.0.1", "--priority", f"NORMAL:-VERS-ALL:+VERS-{version}",
                "--x509certfile", tmp_path / "cert.pem", "--x509keyfile", tmp_path / "key.pem",
            )  # fmt: skip
        assert "This is a resumed session" in seen
        assert story == [(name, shown, b"hello\n")]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("detect", [False, True])
def test_a_handle_refuses_who_enters_with_the_session_of_another_name(
    front: Context, ca: CertificateAuthority, version: ssl.TLSVersion, detect: bool
) -> None:
    from ae_handle.types import TlsAutostart

    seen: list[Any] = []
    errors: list[str] = []
    keep: list[Handle] = []
    over = ae.CondVar[None]()

    def line(handle: Handle, text: bytes) -> None:
        seen.append((handle.tls.server_name, text))
        handle.push_write(b"ok\n")

    def failed(handle: Handle, error: Exception) -> None:
        if isinstance(error, TlsError):  # and not that a client has gone without a word
            errors.append(error.reason)
        handle.destroy()

    def accepted(sock: socket.socket, host: str, port: int) -> None:
        options: dict[str, Any] = {} if detect else {"tls": "accept"}
        handle = Handle(
            sock,
            tls_context=front,
            on_error=failed,
            on_eof=lambda handle: handle.destroy(),
            **options,
        )
        if detect:
            handle.push_read(TlsAutostart("accept"), lambda handle, version: None)
        handle.read_each("line", line)
        keep.append(handle)

    def client() -> None:
        context = ssl.create_default_context(cadata=ca.pem)
        context.minimum_version = context.maximum_version = version
        session = None
        told: list[Any] = []
        for name in (OPEN, OPEN, MEMBERS):
            try:
                with context.wrap_socket(
                    socket.create_connection(server.address, timeout=PATIENCE),
                    server_hostname=name,
                    session=session,
                ) as sock:
                    sock.sendall(b"hello\n")
                    told.append((sock.recv(10), sock.session_reused))
                    session = sock.session
            except OSError as error:
                told.append(type(error).__name__)
        seen.append(told)
        ae.call_threadsafe(over.send)

    server = tcp_server("127.0.0.1", 0, accepted)
    thread = threading.Thread(target=client)
    thread.start()
    over.recv(timeout=PATIENCE)
    thread.join()
    for handle in keep:
        handle.destroy()
    server.cancel()
    assert errors == ["no-certificate"]
    assert seen[:2] == [(OPEN, b"hello")] * 2
    first, second, third = seen[2]
    assert (first, second) == ((b"ok\n", False), (b"ok\n", True))
    assert "Error" in third
