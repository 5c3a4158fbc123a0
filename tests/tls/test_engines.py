"""One suite over every engine behind the seam, in memory, as a handle drives them.

Ours and the standard library's at both ends and mixed, with TLS 1.2 and 1.3.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ae_handle import TlsError
from ae_handle.testing import ssl_context
from ae_tls import Context
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
LIMITS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Makers:
    """Contexts of both engines, made alike."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def client(self, engine: str, ca: CertificateAuthority) -> Any:
        if engine == "openssl":
            return Context(ca_cert=ca.cert, session_cache=False)
        return ssl_context(ssl.create_default_context(cadata=ca.pem))

    def server(self, engine: str, leaf: Leaf, version: Any) -> Any:
        if engine == "openssl":
            return Context(cert=leaf.chain, key=leaf.key, max_version=version)
        path = self.directory / f"{leaf.cert.serial_number}.pem"
        path.write_text(leaf.cert_pem + leaf.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.maximum_version = LIMITS[version]
        return ssl_context(context)


@pytest.fixture
def makers(tmp_path: Path) -> Makers:
    return Makers(tmp_path)


@pytest.fixture(params=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["openssl", "ssl"])
def near(request: pytest.FixtureRequest) -> str:
    """The client's engine."""
    return str(request.param)


@pytest.fixture(params=["openssl", "ssl"])
def far(request: pytest.FixtureRequest) -> str:
    """The server's engine."""
    return str(request.param)


class End:
    """A session, driven in the handle's pattern; an error is kept, not raised."""

    def __init__(self, session: Any) -> None:
        self.session: Any = session
        self.got = b""
        self.error: TlsError | None = None

    def feed(self, data: bytes) -> None:
        try:
            self.session.feed(data)
            while piece := self.session.read():
                self.got += piece
        except TlsError as error:
            self.error = self.error or error

    def carry_to(self, other: End, piece: int = 1 << 20) -> bool:
        data = self.session.drain()
        for at in range(0, len(data), piece):
            other.feed(data[at : at + piece])
        return bool(data)


def talk(a: End, b: End, piece: int = 1 << 20) -> None:
    for _ in range(50):
        if not (a.carry_to(b, piece) | b.carry_to(a, piece)):
            return
    pytest.fail("the two do not come to an end")


@pytest.fixture
def ends(
    makers: Makers, ca: CertificateAuthority, leaf: Leaf, near: str, far: str, version: str
) -> Callable[..., tuple[End, End]]:
    client, server = makers.client(near, ca), makers.server(far, leaf, version)

    def make(name: str | None = HOST) -> tuple[End, End]:
        return End(client.new_session("connect", name)), End(server.new_session("accept", None))

    return make


Ends = Callable[..., tuple[End, End]]


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_a_whole_conversation(ends: Ends, leaf: Leaf, piece: int) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    a, b = ends()
    assert a.session.state == "handshake"
    assert not a.session.peer_certificate
    a.session.write(b"early ")  # kept until it may be sent
    b.session.write(b"too")
    talk(a, b, piece)
    assert a.session.state == b.session.state == "established"
    assert a.session.peer_certificate == leaf.cert.public_bytes(Encoding.DER)
    assert b.session.peer_certificate is None
    a.session.write(b"more" * 10_000)
    talk(a, b, piece)
    assert (a.got, b.got) == (b"too", b"early " + b"more" * 10_000)
    a.session.shutdown()
    talk(a, b, piece)
    assert (a.session.state, b.session.state) == ("closing", "closing")
    b.session.shutdown()
    talk(a, b, piece)
    assert (a.session.state, b.session.state) == ("closed", "closed")
    for end in (a, b):
        end.feed(b"")
        assert end.error is None
        end.session.shutdown()
        assert end.session.drain() == b""


def test_write_after_shutdown_is_closed(ends: Ends) -> None:
    a, b = ends()
    talk(a, b)
    a.session.shutdown()
    with pytest.raises(TlsError) as caught:
        a.session.write(b"more")
    assert caught.value.reason == "closed"


def test_octets_behind_close_notify_are_handed_back(ends: Ends) -> None:
    for cut in (None, -3, -9):
        a, b = ends()
        talk(a, b)
        a.session.write(b"secret")
        a.session.shutdown()
        wire = a.session.drain() + b"in clear"
        b.feed(wire[:cut])
        if cut is not None:
            b.feed(wire[cut:])
        assert (b.got, b.session.state) == (b"secret", "closing")
        assert b.session.unused_data == b"in clear"
        assert b.session.unused_data == b"in clear"  # reading leaves it there
        assert b.error is None


def test_a_cut_off_stream_is_truncated(ends: Ends) -> None:
    a, b = ends()
    talk(a, b)
    a.session.write(b"all there is")
    wire = a.session.drain()
    b.feed(wire)
    b.feed(b"")
    assert b.got == b"all there is"
    assert b.error is not None
    assert b.error.reason == "truncated"
    assert b.session.state == "closed"


def test_a_stream_cut_off_in_the_handshake_is_truncated(ends: Ends) -> None:
    for flights in range(3):
        a, b = ends()
        sender, receiver = a, b
        for _ in range(flights):
            sender.carry_to(receiver)
            sender, receiver = receiver, sender
        receiver.feed(b"")
        assert receiver.error is not None
        assert receiver.error.reason == "truncated"


def test_a_stream_that_ends_before_it_began_is_not_begun(ends: Ends) -> None:
    for end in ends():
        with pytest.raises(TlsError) as caught:
            end.session.feed(b"")
        assert caught.value.reason == "truncated"
        assert end.session.drain() == end.session.drain() == b""
        assert end.session.state == "closed"


def test_a_forged_record_is_a_protocol_error_and_the_peer_hears_of_it(ends: Ends) -> None:
    a, b = ends()
    talk(a, b)
    a.session.write(b"good")
    good = a.session.drain()
    a.session.write(b"forged")
    forged = bytearray(a.session.drain())
    forged[-1] ^= 1
    b.feed(good + forged)
    assert b.got == b"good"
    assert b.error is not None
    assert b.error.reason == "protocol"
    b.carry_to(a)
    assert a.error is not None
    assert a.error.reason == "alert"
    assert (a.session.state, b.session.state) == ("closed", "closed")


def test_data_may_be_had_in_pieces_and_an_error_comes_behind_them(ends: Ends) -> None:
    a, b = ends()
    talk(a, b)
    assert b.session.read_pieces() == []
    a.session.write(bytes(40_000))
    good = a.session.drain()
    a.session.write(b"forged")
    forged = bytearray(a.session.drain())
    forged[-1] ^= 1
    b.session.feed(good[:20_000])
    assert b.session.read_pieces() == [bytes(16_384)]
    assert b.session.read_pieces() == []
    b.session.feed(good[20_000:] + forged)
    assert b.session.read_pieces() == [bytes(16_384), bytes(7_232)]
    with pytest.raises(TlsError) as caught:
        b.session.read_pieces()
    assert caught.value.reason == "protocol"
    assert b.session.read_pieces() == []
    assert b.session.read() == b""


@pytest.mark.parametrize("piece", [3, 1000, 65_537, 200_000])
def test_input_may_come_from_a_buffer_that_is_used_again(ends: Ends, piece: int) -> None:
    """Nothing of what is fed is kept, so a view of a buffer will do (``copies_input``)."""
    buffer = bytearray(piece)

    def carry(sender: End, receiver: End, tail: bytes = b"") -> bool:
        assert receiver.session.copies_input
        wire = sender.session.drain() + tail
        for at in range(0, len(wire), piece):
            size = len(wire[at : at + piece])
            buffer[:size] = wire[at : at + piece]
            with memoryview(buffer) as whole, whole[:size] as view:
                receiver.feed(view)  # type: ignore[arg-type]
            buffer[:] = bytes(piece)
        return bool(wire)

    a, b = ends()
    while carry(a, b) | carry(b, a):
        continue
    sent = bytes(range(256)) * 1_500
    a.session.write(sent)
    a.session.shutdown()
    carry(a, b, b"in clear")
    assert b.error is None
    assert b.got == sent
    assert b.session.state == "closing"
    assert b.session.unused_data == b"in clear"


def test_what_is_no_tls_is_a_protocol_error(ends: Ends) -> None:
    for index in (0, 1):
        end = ends()[index]
        end.session.drain()
        end.feed(b"220 mail.example.org ESMTP Postfix\r\n")
        assert end.error is not None
        assert end.error.reason == "protocol"
        assert end.session.state == "closed"


def test_a_wrong_name_is_refused_and_the_server_hears_of_it(ends: Ends) -> None:
    for name in ("other.example", "10.9.8.7"):
        a, b = ends(name)
        b.session.write(b"secret")
        talk(a, b)
        assert a.error is not None
        assert a.error.reason == "wrong-name"
        assert a.got == b""
        assert b.error is not None
        assert b.error.reason == "alert"


def test_an_ip_address_is_verified(ends: Ends) -> None:
    for name in ("127.0.0.1", "::1"):
        a, b = ends(name)
        talk(a, b)
        assert a.session.state == "established"


@pytest.mark.parametrize("name", [None, ""])
def test_no_name_is_refused_before_a_byte_is_sent(
    makers: Makers, ca: CertificateAuthority, near: str, name: str | None
) -> None:
    with pytest.raises(TlsError) as caught:
        makers.client(near, ca).new_session("connect", name)
    assert caught.value.reason == "no-name"


def test_an_unknown_ca_is_untrusted(
    makers: Makers, leaf: Leaf, near: str, far: str, version: str
) -> None:
    client = makers.client(near, CertificateAuthority("unknown"))
    a = End(client.new_session("connect", HOST))
    b = End(makers.server(far, leaf, version).new_session("accept", None))
    talk(a, b)
    assert a.error is not None
    assert b.error is not None
    assert (a.error.reason, b.error.reason) == ("untrusted", "alert")


# One name for every engine -------------------------------------------------------------------

NAMES = [  # as the program gives it, as it is sent, as the certificate has it
    ("www.example.org", "www.example.org", "www.example.org"),
    ("WWW.Example.ORG", "www.example.org", "www.example.org"),
    ("www.example.org.", "www.example.org", "*.example.org"),
    ("a-.example.org", "a-.example.org", "*.example.org"),
    ("-a.example.org", "-a.example.org", "*.example.org"),
    ("a-.example.org", "a-.example.org", "a-.example.org"),
    ("a--b.example.org", "a--b.example.org", "*.example.org"),
    ("bücher.example.org", "xn--bcher-kva.example.org", "xn--bcher-kva.example.org"),
    ("faß.example.", "xn--fa-hia.example", "xn--fa-hia.example"),
    ("σωλις.example", "xn--uxadwb4a.example", "xn--uxadwb4a.example"),
    ("xn--fa-hia.example", "xn--fa-hia.example", "xn--fa-hia.example"),
    ("127.0.0.1", None, "127.0.0.1"),
    ("::1", None, "::1"),
    ("0:0::1", None, "::1"),
    ("[::1]", None, "::1"),
    ("fe80::1%eth0", None, "fe80::1"),
    ("[fe80::1%eth0]", None, "fe80::1"),
]


@pytest.mark.parametrize(("given", "sent", "issued"), NAMES)
def test_a_host_is_sent_and_verified_under_one_name_by_every_engine(
    makers: Makers, ca: CertificateAuthority, near: str, given: str, sent: str | None, issued: str
) -> None:
    pytest.importorskip("idna")
    leaf = ca.issue(issued)
    a = End(makers.client(near, ca).new_session("connect", given))
    b = End(makers.server("openssl", leaf, "1.3").new_session("accept", None))
    talk(a, b)
    assert (a.error, a.session.state) == (None, "established")
    assert b.session.server_name == sent
    other = ca.issue("fass.example", "other.example.org", "127.0.0.2", "fe80::2")
    a = End(makers.client(near, ca).new_session("connect", given))
    b = End(makers.server("openssl", other, "1.3").new_session("accept", None))
    talk(a, b)
    assert a.error is not None
    assert a.error.reason == "wrong-name"


@pytest.mark.parametrize(
    "name",
    ["unix/", "a b", "*.example.org", "x" * 64, "1.2.3", "a..b", ".", ".example.org", "a\0b",
     "[127.0.0.1]", "127.0.0.1.", "www.example.org:443", "ﬀ≠.example", "①.②.③.④"],
)  # fmt: skip
def test_what_is_no_host_is_refused_by_every_engine_before_anything_is_sent(
    makers: Makers, ca: CertificateAuthority, near: str, name: str
) -> None:
    with pytest.raises(TlsError, match="not a host name") as caught:
        makers.client(near, ca).new_session("connect", name)
    assert caught.value.reason == "wrong-name"


def test_without_idna_no_engine_guesses_at_an_international_name(
    makers: Makers, ca: CertificateAuthority, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = makers.client(near, ca)
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(TlsError, match=r"ae-socket\[idna\]") as caught:
        client.new_session("connect", "grün.example")
    assert caught.value.reason == "wrong-name"


# What only the standard library's engine can be asked, or made to do ------------------------


def test_a_context_for_the_other_side_is_a_tls_error(
    makers: Makers, ca: CertificateAuthority
) -> None:
    client = makers.client("ssl", ca)
    with pytest.raises(TlsError, match="server socket"):
        client.new_session("accept", None)


def test_a_missing_client_certificate_has_its_reason(
    makers: Makers, ca: CertificateAuthority, leaf: Leaf, version: str
) -> None:
    server = makers.server("ssl", leaf, version)
    server.context.verify_mode = ssl.CERT_REQUIRED
    a = End(makers.client("ssl", ca).new_session("connect", HOST))
    b = End(server.new_session("accept", None))
    talk(a, b)
    assert b.error is not None
    assert b.error.reason == "no-certificate"


def test_the_native_engine_is_at_hand_and_may_be_shut_down_behind_our_back(
    makers: Makers, ca: CertificateAuthority, leaf: Leaf
) -> None:
    a = End(makers.client("ssl", ca).new_session("connect", HOST))
    b = End(makers.server("ssl", leaf, "1.3").new_session("accept", None))
    talk(a, b)
    assert a.session.engine.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLWantReadError):
        a.session.engine.unwrap()
    with pytest.raises(TlsError, match="protocol is shutdown"):
        a.session.write(b"more")
    assert a.session.state == "closed"
