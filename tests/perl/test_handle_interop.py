"""Our Handle and the original's, both ways round, in clear text and in TLS.

The Perl side reads every item with its own frame type and sends it back with the same type, so
each item proves that what we write it can read, and the other way round.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_handle import Cbor, Chunk, Handle, HandleError, Json, Line, NetString, PackString, Regex
from ae_handle.testing import lingering

PEER = Path(__file__).with_name("handle_peer.pl")
BIG = bytes(range(256)) * 1000

# (what the Perl side calls it, our frame type, values)
TYPES: list[tuple[str, Any, list[Any]]] = [
    ("line", Line(), [b"", b"a line", b"with \r inside", b"x" * 70_000]),
    ("chunk:5", Chunk(5), [b"a\r\nb\0"]),
    (f"chunk:{len(BIG)}", Chunk(len(BIG)), [BIG]),
    ("regex", Regex(rb";\n"), [b"one;two;\n", b";\n"]),
    ("netstring", NetString(), [b"", b"1:2,", BIG]),
    ("json", Json(), [{"a": [1, -2.5, "x"]}, [], {}, ["\u00e9\U0001f600", None, True, False]]),
    # Perl makes octets of a key that would do as such, hence one that would not
    ("cbor", Cbor(), [{"\u20ac": [1, -2, 1.5]}, [], b"octets", "text", 2**40, 0, None, BIG]),
    *[
        (f"packstring:{letter}", PackString(letter), [b"", b"hello", b"x" * 100])
        for letter in ["C", "n", "N", "v", "V", "w", "S", "L", "Q", "J", "n"]
    ],
    ("packstring:N", PackString("N"), [BIG]),
    ("packstring:w", PackString("w"), [BIG]),
    ("packstring:S>", PackString("!H"), [b"big endian"]),
    ("packstring:L<", PackString("<I"), [b"little endian"]),
]


def conversation(h: Handle) -> None:
    """Say everything, and check that it comes back."""
    items = [(name, frame, value) for name, frame, values in TYPES for value in values]
    h.push_write("line", " ".join(name for name, _, _ in items).encode())
    answers = []
    for _, frame, value in items:
        h.push_write(frame, value)
        answers.append((h.push_read(frame), value))
    for condvar, value in answers:
        got = condvar.recv(60)
        assert type(got) is type(value)
        assert got == value
    # nothing is left over but the line end behind the last JSON value, which white space hides
    assert not bytes(h.read_buffer).strip()


def starttls(h: Handle, mode: str, context: ssl.SSLContext, *, server: bool) -> None:
    if mode == "starttls" and server:
        assert h.push_read("line").recv(60) == b"STARTTLS"
        h.push_write("line", b"go ahead")
        h.start_tls("accept", context)
    elif mode == "starttls":
        h.push_write("line", b"STARTTLS")
        assert h.push_read("line").recv(60) == b"go ahead"
        h.start_tls("connect", context)
    elif mode == "tls":
        h.start_tls("accept" if server else "connect", context)


def finish(h: Handle, process: subprocess.Popen[str]) -> None:
    """The peer ends its side; we end ours; it goes without complaint."""
    ended = ae.CondVar[str]()
    h.on_error = lambda h, error: ended.send(repr(error))
    h.on_eof = lambda h: ended.send("eof")
    h.allow_truncated = True  # the original sends no close_notify with push_shutdown
    h.on_read = lambda h: None
    assert ended.recv(60) == "eof"
    h.destroy()
    while lingering():
        ae.sleep(0.001).recv()
    assert process.wait(60) == 0


@pytest.mark.parametrize("mode", ["plain", "tls", "starttls"])
def test_we_connect_to_the_original(perl: str, certificate: tuple[Path, Path], mode: str) -> None:
    cert, key = certificate
    with subprocess.Popen(
        [perl, PEER, "listen", mode, cert, key], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            context = ssl.create_default_context(cafile=cert)
            h = Handle(connect=("127.0.0.1", port), peer_name="peer.test", max_read_buffer=None)
            starttls(h, mode, context, server=False)
            conversation(h)
            finish(h, process)
        finally:
            process.kill()


@pytest.mark.parametrize("mode", ["plain", "tls", "starttls"])
def test_the_original_connects_to_us(perl: str, certificate: tuple[Path, Path], mode: str) -> None:
    cert, key = certificate
    accepted: ae.CondVar[Any] = ae.CondVar()
    server = ae_socket.tcp_server("127.0.0.1", 0, lambda sock, host, port: accepted.send(sock))
    with subprocess.Popen([perl, PEER, "connect", str(server.address[1]), mode, cert]) as process:
        try:
            h = Handle(accepted.recv(60), max_read_buffer=None)
            server.cancel()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            starttls(h, mode, context, server=True)
            conversation(h)
            finish(h, process)
        finally:
            process.kill()


ORACLE = r"""
use AnyEvent; use AnyEvent::Handle; use AnyEvent::Util;
my ($a, $b) = AnyEvent::Util::portable_socketpair;
my $cv = AE::cv;
my $h = new AnyEvent::Handle fh => $a, on_error => sub { print "error\n"; $cv->send },
   on_eof => sub { $cv->send };
$h->push_read (tls_detect => sub { print $_[1] ? "$_[2].$_[3]\n" : "clear\n"; $cv->send });
syswrite $b, pack "H*", $ARGV[0]; close $b; $cv->recv;
"""


@pytest.mark.parametrize(
    "octets",
    ["1603010010", "16030400", "160200", "474554", "802e01030100", "802e02", "16030141", "7f"],
)
def test_tls_detection_decides_as_the_original(perl: str, octets: str) -> None:
    from ae_handle import ReadBuffer, TlsDetect

    answer = subprocess.run(
        [perl, "-e", ORACLE, octets], capture_output=True, text=True, check=True
    )
    version = TlsDetect()(ReadBuffer(bytes.fromhex(octets)))
    ours = "clear" if version is None else "{}.{}".format(*version)  # type: ignore[misc]
    assert answer.stdout.strip() == ours


def test_a_refused_item_is_the_same_error_on_both_sides(perl: str) -> None:
    """EBADMSG, EPIPE and ENOSPC by number: programs sort errors by them."""
    oracle = r"""
        use AnyEvent; use AnyEvent::Handle; use AnyEvent::Util;
        my ($type, $wire, $max) = @ARGV;
        my ($a, $b) = AnyEvent::Util::portable_socketpair;
        my $cv = AE::cv;
        my $h = new AnyEvent::Handle fh => $a, ($max ? (rbuf_max => $max) : ()),
           on_error => sub { print $!+0, " ", $_[1] ? "fatal" : "not fatal"; $cv->send };
        $h->push_read ($type => sub { print "read"; $cv->send });
        syswrite $b, pack "H*", $wire; close $b; $cv->recv;
    """
    for name, wire, limit in (
        ("netstring", b"03:abc,", None),
        ("json", b"[1,}x", None),
        ("line", b"partial", None),
        ("line", b"too long", 4),
    ):
        command = [perl, "-e", oracle, name, wire.hex(), str(limit or 0)]
        theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        from ae_handle.testing import ScriptedPeer

        peer = ScriptedPeer().send(wire).close()
        told: list[HandleError] = []
        first = ae.CondVar[None]()
        h = Handle(
            peer.stream,
            max_read_buffer=limit,
            on_error=lambda h, error, told=told, first=first: (told.append(error), first.send()),
        )
        h.push_read(name, lambda h, value: None)
        first.recv()
        error = told[0]
        assert theirs == f"{error.errno} {'fatal' if error.fatal else 'not fatal'}", name
        h.destroy()


def test_the_original_script_says_what_it_needs() -> None:
    """The Perl side uses nothing the skip in conftest does not look for."""
    used = set(re.findall(r"^use ([\w:]+);", PEER.read_text(), re.MULTILINE))
    assert used <= {"strict", "warnings", "AnyEvent", "AnyEvent::Handle", "AnyEvent::Socket"}
    assert sys.version_info >= (3, 11)
