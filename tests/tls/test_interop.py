"""Other people's TLS, both ways: OpenSSL's and GnuTLS's tools, Python's ``ssl``, Perl's AnyEvent.

Every pair speaks TLS 1.2 and 1.3 with RSA, ECDSA and Ed25519 certificates, verified by the client
with the host name. The session is driven over a blocking socket: what is tested is the
machine, the live handles have tests of their own.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
PATIENCE = 30.0

VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])
KEYS = pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])


class Wire:
    """A session and the socket it speaks through, used blockingly."""

    def __init__(self, session: Session, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.session = session
        self.sock = sock
        self.text = b""

    def flush(self) -> None:
        data = self.session.drain()
        if data:
            self.sock.sendall(data)

    def pull(self) -> bool:
        data = self.sock.recv(65536)
        try:
            self.session.feed(data)
            while piece := self.session.read():
                self.text += piece
        finally:
            self.flush()
        return bool(data)

    def shake_hands(self) -> None:
        self.flush()
        while self.session.state == "handshake":
            self.pull()

    def send(self, data: bytes) -> None:
        self.session.write(data)
        self.flush()

    def line(self) -> bytes:
        while b"\n" not in self.text:
            self.pull()
        line, _, self.text = self.text.partition(b"\n")
        return line

    def close(self) -> None:
        self.session.shutdown()
        self.flush()
        while self.session.state != "closed" and self.pull():
            pass


@pytest.fixture(scope="module")
def leaves(ca: CertificateAuthority) -> dict[str, Leaf]:
    kinds: Any = ("rsa", "ec", "ed25519")
    return {kind: ca.issue(HOST, "127.0.0.1", key_type=kind) for kind in kinds}


@pytest.fixture
def pems(tmp_path: Path, ca: CertificateAuthority, leaves: dict[str, Leaf]) -> Path:
    (tmp_path / "ca.pem").write_text(ca.pem)
    for kind, leaf in leaves.items():
        (tmp_path / f"{kind}.pem").write_text(leaf.cert_pem)
        (tmp_path / f"{kind}.key").write_text(leaf.key_pem)
    return tmp_path


@pytest.fixture
def tool() -> Callable[[str], str]:
    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@contextmanager
def program(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run another program; it is gone afterwards, whatever happened."""
    process = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def until(stream: IO[bytes] | None, wanted: bytes) -> bytes:
    """Read lines until one contains *wanted*; return that line."""
    assert stream is not None
    seen = b""
    for line in stream:
        seen += line
        if wanted in line:
            return line
    pytest.fail(f"{wanted!r} did not come, but {seen.decode(errors='replace')}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def connected(context: Context, port: int) -> Iterator[Wire]:
    """Be the client of what listens on *port*, as soon as it does."""
    clock = threading.Event()
    for _ in range(600):
        try:
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            break
        except ConnectionRefusedError:
            clock.wait(0.05)
    else:
        pytest.fail("the other program does not listen")
    with sock:
        wire = Wire(context.new_session("connect", HOST), sock)
        wire.shake_hands()
        yield wire


@contextmanager
def listening() -> Iterator[tuple[int, Callable[[Context], Any]]]:
    """Listen; gives the port, and a function that accepts one connection as a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        @contextmanager
        def accepted(context: Context) -> Iterator[Wire]:
            sock, _ = listener.accept()
            with sock:
                yield Wire(context.new_session("accept", None), sock)

        yield listener.getsockname()[1], accepted


def client_for(ca: CertificateAuthority, version: Any) -> Context:
    return Context(ca_cert=ca.cert, min_version=version, max_version=version)


def server_with(leaf: Leaf, version: Any, **options: Any) -> Context:
    return Context(
        cert=leaf.chain, key=leaf.key, min_version=version, max_version=version, **options
    )


# OpenSSL -------------------------------------------------------------------------------------


@VERSIONS
@KEYS
def test_openssl_s_server(
    ca: CertificateAuthority,
    pems: Path,
    tool: Callable[[str], str],
    version: str,
    kind: str,
    tally: Counter[str],
) -> None:
    flag = f"-tls{version.replace('.', '_')}"
    with program(
        tool("openssl"), "s_server", "-accept", "127.0.0.1:0", "-rev", flag,
        "-cert", pems / f"{kind}.pem", "-key", pems / f"{kind}.key",
    ) as server:  # fmt: skip
        port = int(until(server.stdout, b"ACCEPT").rpartition(b":")[2])
        with connected(client_for(ca, version), port) as wire:
            assert wire.session.version == f"TLSv{version}"
            wire.send(b"hello\n")
            assert wire.line() == b"olleh"
            wire.send(b"x" * 5_000 + b"\n")
            assert wire.line() == b"x" * 5_000
            wire.close()
    tally["interop, openssl s_server"] += 1


@VERSIONS
@KEYS
def test_openssl_s_client(
    leaves: dict[str, Leaf],
    pems: Path,
    tool: Callable[[str], str],
    version: str,
    kind: str,
    tally: Counter[str],
) -> None:
    with (
        listening() as (port, accepted),
        program(
            tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-quiet",
            "-servername", HOST, "-verify_hostname", HOST, "-verify_return_error",
            "-CAfile", pems / "ca.pem", f"-tls{version.replace('.', '_')}",
        ) as client,
        accepted(server_with(leaves[kind], version)) as wire,
    ):  # fmt: skip
        wire.shake_hands()
        assert wire.session.version == f"TLSv{version}"
        assert wire.session.server_name == HOST
        say(client, b"hello\n")
        assert wire.line() == b"hello"
        wire.send(b"goodbye\n")
        until(client.stdout, b"goodbye")
        wire.close()
        assert client.wait(PATIENCE) == 0
    tally["interop, openssl s_client"] += 1


def test_a_peer_may_update_its_keys(
    leaves: dict[str, Leaf], pems: Path, tool: Callable[[str], str]
) -> None:
    with (
        listening() as (port, accepted),
        program(
            tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3",
            "-CAfile", pems / "ca.pem",
        ) as client,
        accepted(server_with(leaves["ec"], "1.3")) as wire,
    ):  # fmt: skip
        wire.shake_hands()
        for round_number in range(3):
            say(client, b"K\n")  # update, and ask the peer to do the same
            until(client.stdout, b"KEYUPDATE")
            say(client, b"line %d\n" % round_number)
            assert wire.line() == b"line %d" % round_number
            wire.send(b"answer %d\n" % round_number)
            until(client.stdout, b"answer %d" % round_number)
        wire.close()


def test_a_peer_may_pad_its_records(
    ca: CertificateAuthority, pems: Path, tool: Callable[[str], str]
) -> None:
    """Tickets, data and close_notify all look alike from outside."""
    with program(
        tool("openssl"), "s_server", "-accept", "127.0.0.1:0", "-rev", "-tls1_3",
        "-record_padding", "16384", "-cert", pems / "ec.pem", "-key", pems / "ec.key",
    ) as server:  # fmt: skip
        port = int(until(server.stdout, b"ACCEPT").rpartition(b":")[2])
        with connected(client_for(ca, "1.3"), port) as wire:
            wire.send(b"".join(b"line %d\n" % i for i in range(20)))
            for i in range(20):
                assert wire.line()[::-1] == b"line %d" % i
            wire.send(b"CLOSE\n")  # s_server says goodbye
            while wire.session.state == "established" and wire.pull():
                pass
            assert wire.session.state == "closing"
            assert wire.text == wire.session.unused_data == b""
            wire.close()


def test_renegotiation_by_a_client_is_refused(
    leaves: dict[str, Leaf], pems: Path, tool: Callable[[str], str]
) -> None:
    with (
        listening() as (port, accepted),
        program(
            tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2",
            "-CAfile", pems / "ca.pem",
        ) as client,
        accepted(server_with(leaves["ec"], "1.2")) as wire,
    ):  # fmt: skip
        wire.shake_hands()
        say(client, b"hello\n")
        assert wire.line() == b"hello"
        say(client, b"R\n")
        with pytest.raises(TlsError) as caught:
            while wire.pull():
                pass
        assert caught.value.reason in ("alert", "truncated")
        assert client.wait(PATIENCE) != 0
        assert b"no renegotiation" in client.communicate()[0]


def test_renegotiation_by_a_server_is_refused(
    ca: CertificateAuthority, pems: Path, tool: Callable[[str], str]
) -> None:
    with program(
        tool("openssl"), "s_server", "-accept", "127.0.0.1:0", "-tls1_2",
        "-cert", pems / "ec.pem", "-key", pems / "ec.key",
    ) as server:  # fmt: skip
        port = int(until(server.stdout, b"ACCEPT").rpartition(b":")[2])
        with connected(client_for(ca, "1.2"), port) as wire:
            wire.send(b"hello\n")
            until(server.stdout, b"hello")
            say(server, b"r\nafter\n")
            with pytest.raises(TlsError) as caught:
                while wire.pull():
                    pass
            assert caught.value.reason in ("alert", "truncated", "protocol")
            assert b"SSL_renegotiate" not in wire.text


# GnuTLS --------------------------------------------------------------------------------------


@VERSIONS
@KEYS
def test_gnutls_serv(
    ca: CertificateAuthority,
    pems: Path,
    tool: Callable[[str], str],
    version: str,
    kind: str,
    tally: Counter[str],
) -> None:
    port = free_port()
    with (
        program(
            tool("gnutls-serv"), "--echo", "--port", port, "--disable-client-cert",
            "--x509certfile", pems / f"{kind}.pem", "--x509keyfile", pems / f"{kind}.key",
            "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}",
        ),
        connected(client_for(ca, version), port) as wire,
    ):  # fmt: skip
        assert wire.session.version == f"TLSv{version}"
        wire.send(b"hello\n")
        assert wire.line() == b"hello"
        wire.close()
    tally["interop, gnutls-serv"] += 1


@VERSIONS
@KEYS
def test_gnutls_cli(
    leaves: dict[str, Leaf],
    pems: Path,
    tool: Callable[[str], str],
    version: str,
    kind: str,
    tally: Counter[str],
) -> None:
    with (
        listening() as (port, accepted),
        program(
            tool("gnutls-cli"), "--port", port, "127.0.0.1", "--x509cafile", pems / "ca.pem",
            "--sni-hostname", HOST, "--verify-hostname", HOST,
            "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}",
        ) as client,
        accepted(server_with(leaves[kind], version)) as wire,
    ):  # fmt: skip
        wire.shake_hands()
        assert wire.session.version == f"TLSv{version}"
        assert wire.session.server_name == HOST
        say(client, b"hello\n")
        assert wire.line() == b"hello"
        wire.send(b"goodbye\n")
        until(client.stdout, b"goodbye")
        wire.session.shutdown()  # which this program does not answer
        wire.flush()
        assert client.wait(PATIENCE) == 0
    tally["interop, gnutls-cli"] += 1


# Python's ssl --------------------------------------------------------------------------------


def exchange(ours: Session, theirs: ssl.SSLObject, into: ssl.MemoryBIO, out: ssl.MemoryBIO) -> None:
    """Let our session and an SSLObject shake hands in memory."""
    done = False
    while not (done and ours.state != "handshake"):
        moved = ours.drain()
        into.write(moved)
        try:
            theirs.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        answer = out.read()
        if answer:
            ours.feed(answer)
        elif not moved and not (done and ours.state != "handshake"):
            pytest.fail("the handshake does not get on")


@VERSIONS
@KEYS
@pytest.mark.parametrize("role", ["connect", "accept"])
def test_python_ssl(
    ca: CertificateAuthority,
    leaves: dict[str, Leaf],
    pems: Path,
    version: str,
    kind: str,
    role: str,
    tally: Counter[str],
) -> None:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    limit = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    if role == "connect":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pems / f"{kind}.pem", pems / f"{kind}.key")
        context.maximum_version = limit
        theirs = context.wrap_bio(into, out, server_side=True)
        ours = client_for(ca, version).new_session("connect", HOST)
    else:
        context = ssl.create_default_context(cafile=str(pems / "ca.pem"))
        context.maximum_version = limit
        theirs = context.wrap_bio(into, out, server_hostname=HOST)
        ours = server_with(leaves[kind], version).new_session("accept", None)
    exchange(ours, theirs, into, out)
    assert theirs.version() == ours.version == f"TLSv{version}"
    ours.write(b"hello")
    into.write(ours.drain())
    assert theirs.read(100) == b"hello"
    theirs.write(b"x" * 50_000)
    ours.feed(out.read())
    assert ours.read() == b"x" * 50_000
    if version == "1.2":
        assert ours.channel_binding("tls-unique") == theirs.get_channel_binding("tls-unique")
    ours.shutdown()
    into.write(ours.drain())
    assert theirs.read(100) == b""
    theirs.unwrap()
    ours.feed(out.read())
    assert ours.state == "closed"
    tally["interop, Python's ssl"] += 1


def test_python_ssl_refuses_a_wrong_name_and_we_hear_of_it(
    leaves: dict[str, Leaf], pems: Path
) -> None:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(pems / "ca.pem"))
    theirs = context.wrap_bio(into, out, server_hostname="other.example")
    ours = server_with(leaves["ec"], "1.3").new_session("accept", None)
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(ours, theirs, into, out)
    with pytest.raises(TlsError) as caught:
        ours.feed(out.read())
    assert caught.value.reason == "alert"


# Perl's AnyEvent -----------------------------------------------------------------------------

PERL_SERVER = r"""
use AnyEvent; use AnyEvent::Socket; use AnyEvent::Handle; $| = 1;
my ($cert, $key, $version) = @ARGV; my $cv = AE::cv; my $hdl;
tcp_server "127.0.0.1", 0, sub {
   $hdl = AnyEvent::Handle->new (fh => $_[0], tls => "accept",
      tls_ctx => {cert_file => $cert, key_file => $key, method => $version},
      on_error => sub { print "error $_[2]\n"; $cv->send },
      on_eof => sub { print "eof\n"; $cv->send },
      on_starttls => sub { print "starttls $_[1]\n" },
      on_read => sub {
         $_[0]->push_read (line => sub { $_[0]->push_write (reverse ($_[1]) . "\n") })
      });
}, sub { print "PORT $_[2]\n"; 0 };
$cv->recv;
"""

PERL_CLIENT = r"""
use AnyEvent; use AnyEvent::Handle; $| = 1;
my ($port, $ca, $host, $version) = @ARGV; my $cv = AE::cv;
my $hdl; $hdl = AnyEvent::Handle->new (
   connect => ["127.0.0.1", $port], peername => $host, tls => "connect",
   tls_ctx => {ca_file => $ca, verify => 1, verify_peername => "http", method => $version},
   on_error => sub { print "error $_[2]\n"; $cv->send },
   on_starttls => sub { print "starttls $_[1] $_[2]\n"; $cv->send unless $_[1] });
$hdl->push_write ("hello\n");
$hdl->push_read (line => sub {
   print "got $_[1]\n"; $_[0]->push_write ("bye\n"); $_[0]->on_drain (sub { $cv->send });
});
$cv->recv; $hdl->destroy;
"""


@pytest.fixture
def perl(tool: Callable[[str], str]) -> str:
    path = tool("perl")
    check = [path, "-MAnyEvent::Handle", "-MAnyEvent::TLS", "-e", "1"]
    if subprocess.run(check, capture_output=True, check=False).returncode:
        pytest.skip("Perl's AnyEvent or Net::SSLeay is not installed")
    return path


@KEYS
def test_perl_anyevent_as_server(
    ca: CertificateAuthority, pems: Path, perl: str, kind: str, tally: Counter[str]
) -> None:
    for version in ("1.2", "1.3"):
        method = "tlsv1_2" if version == "1.2" else "any"
        with program(
            perl, "-e", PERL_SERVER, pems / f"{kind}.pem", pems / f"{kind}.key", method
        ) as server:
            port = int(until(server.stdout, b"PORT").split()[1])
            with connected(client_for(ca, version), port) as wire:
                wire.send(b"hello\n")
                assert wire.line() == b"olleh"
                wire.session.shutdown()
                wire.flush()
                until(server.stdout, b"eof")
        tally["interop, AnyEvent for Perl"] += 1


@KEYS
def test_perl_anyevent_as_client(
    leaves: dict[str, Leaf], pems: Path, perl: str, kind: str, tally: Counter[str]
) -> None:
    for version in ("1.2", "1.3"):
        method = "tlsv1_2" if version == "1.2" else "any"
        with (
            listening() as (port, accepted),
            program(perl, "-e", PERL_CLIENT, port, pems / "ca.pem", HOST, method) as client,
            accepted(server_with(leaves[kind], version)) as wire,
        ):
            wire.shake_hands()
            assert wire.line() == b"hello"
            wire.send(b"goodbye\n")
            until(client.stdout, b"got goodbye")
            assert wire.line() == b"bye"
            with pytest.raises(TlsError) as caught:
                while wire.pull():
                    pass
            # Perl's destroy sends no close_notify (HANDLE-113).
            assert caught.value.reason == "truncated"
        tally["interop, AnyEvent for Perl"] += 1


def test_perl_anyevent_refuses_a_wrong_name_and_we_hear_of_it(
    leaves: dict[str, Leaf], pems: Path, perl: str
) -> None:
    with (
        listening() as (port, accepted),
        program(perl, "-e", PERL_CLIENT, port, pems / "ca.pem", "other.example", "any") as client,
        accepted(server_with(leaves["ec"], "1.3")) as wire,
    ):
        with pytest.raises(TlsError):
            wire.shake_hands()
            while wire.pull():
                pass
        assert b"certificate verify failed" in until(client.stdout, b"starttls")
