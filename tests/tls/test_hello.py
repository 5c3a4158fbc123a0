"""The ClientHello is read in full, however it comes, and never guessed at."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls._hello import HelloReader
from ae_tls.testing import CertificateAuthority, Leaf, pump

HOST = "www.example.org"
OTHER = "members.example.org"
Join = Callable[..., tuple[Session, Session]]


def hello_of(name: str | None = HOST, **options: Any) -> bytes:
    return Context(verify=False, **options).new_session("connect", name).drain()


HELLO = hello_of()
SHORT = hello_of("a.example", max_version="1.2", alpn=["x"])


def message(records: bytes) -> bytes:
    found = b""
    while records:
        end = 5 + int.from_bytes(records[3:5], "big")
        found += records[5:end]
        records = records[end:]
    return found


def in_records(text: bytes, sizes: Iterator[int]) -> bytes:
    """Cut a handshake message into records of the given sizes."""
    found = b""
    while text:
        size = next(sizes)
        piece, text = text[:size], text[size:]
        found += b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
    return found


def read(*pieces: bytes) -> HelloReader:
    reader = HelloReader()
    done = [reader.feed(piece) for piece in pieces]
    assert not any(done[:-1])
    assert done[-1]
    return reader


def with_extensions(*extensions: tuple[int, bytes]) -> bytes:
    """Make a ClientHello with just these extensions, in one record."""
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    block = b"".join(
        kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for kind, data in extensions
    )
    body += len(block).to_bytes(2, "big") + block
    return in_records(b"\x01" + len(body).to_bytes(3, "big") + body, itertools.repeat(16384))


def sni(name: bytes, kind: int = 0) -> bytes:
    entry = bytes((kind,)) + len(name).to_bytes(2, "big") + name
    return len(entry).to_bytes(2, "big") + entry


# What is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HOST, OTHER, None, "127.0.0.1"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_name_of_a_hello_is_read(name: str | None, version: Any) -> None:
    hello = hello_of(name, max_version=version)
    reader = read(hello)
    assert reader.readable
    assert reader.name == (name.encode() if name in (HOST, OTHER) else None)
    assert (reader.wire, reader.rest) == (hello, b"")


def test_a_hello_may_come_octet_by_octet_and_what_is_behind_it_stays_behind_it() -> None:
    reader = read(*(HELLO[at : at + 1] for at in range(len(HELLO))))
    assert (reader.name, reader.wire, reader.rest) == (HOST.encode(), HELLO, b"")
    reader = read(HELLO[:9], memoryview(HELLO[9:] + b"\x14\x03\x03\x00\x01\x01"))
    assert (reader.wire, reader.rest) == (HELLO, b"\x14\x03\x03\x00\x01\x01")


@given(st.lists(st.integers(1, 400), min_size=1), st.lists(st.integers(1, 400), min_size=1))
@settings(max_examples=200, deadline=None)
def test_a_hello_may_be_cut_into_records_and_packets_anywhere(
    records: list[int], packets: list[int]
) -> None:
    wire = in_records(message(HELLO), itertools.cycle(records))
    sizes = itertools.cycle(packets)
    reader, at, done = HelloReader(), 0, False
    while not done:
        size = next(sizes)
        done = reader.feed(wire[at : at + size])
        at += size
    assert (reader.name, reader.wire + reader.rest) == (HOST.encode(), wire[:at])


def test_an_extension_that_is_longer_than_the_hello_makes_it_unreadable() -> None:
    hello = with_extensions((0, sni(HOST.encode())))
    assert read(hello).name == HOST.encode()
    at = hello.index(b"\x00\x00" + len(sni(HOST.encode())).to_bytes(2, "big"))
    longer = hello[: at + 3] + bytes((hello[at + 3] + 1,)) + hello[at + 4 :]
    assert not read(longer).readable


def test_a_long_hello_is_read_and_one_longer_than_any_can_be_is_not() -> None:
    protocols = [f"{number:0255}" for number in range(250)]
    hello = hello_of(OTHER, alpn=protocols)
    assert len(hello) > 4 * 16384
    assert read(hello).name == OTHER.encode()
    too_long = b"\x16\x03\x01\x00\x04\x01" + (131_393).to_bytes(3, "big")
    assert not read(too_long).readable


def test_a_hello_in_records_of_a_few_octets_is_bounded() -> None:
    body = message(hello_of(alpn=[f"{number:0255}" for number in range(250)]))
    reader, held = HelloReader(), 0
    for at in range(len(body)):
        held += 6
        if reader.feed(b"\x16\x03\x01\x00\x01" + body[at : at + 1]):
            break
    assert not reader.readable
    assert held < 300_000


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.0\r\n",
        b"\x80\x2e\x01\x03\x01",  # SSL 2
        b"\x15\x03\x01\x00\x02\x01\x00",  # an alert
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",  # an empty fragment (RFC 8446 5.1)
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x30",  # another message
        in_records(message(HELLO)[:50], itertools.repeat(50)) + b"\x17\x03\x03",
    ],
)
def test_what_is_no_hello_is_not_waited_for(wire: bytes) -> None:
    reader = read(wire)
    assert not reader.readable
    assert (reader.name, reader.wire) == (None, wire)


@pytest.mark.parametrize(
    "hello",
    [
        with_extensions((0, sni(b"a.example")), (0, sni(b"b.example"))),
        with_extensions((0, sni(b""))),
        with_extensions((0, sni(b"a\0b"))),
        with_extensions((0, sni(b"a" * 256))),
        with_extensions((0, sni(b"a.example", kind=1))),
        with_extensions((0, sni(b"a.example") + b"x")),
        with_extensions((0, b"")),
        with_extensions((0, b"\x00\x18" + sni(b"a.example")[2:] + sni(b"b.example")[2:])),
        with_extensions((0, sni(b"a.example")))[:-1],
        with_extensions((0, sni(b"a.example")), (5, b"x"))[:-1],
    ],
)
def test_a_malformed_hello_has_no_name(hello: bytes, leaf: Leaf) -> None:
    """And OpenSSL refuses it, if it is complete."""
    body = message(hello)
    body = body[:1] + (len(body) - 4).to_bytes(3, "big") + body[4:]
    wire = in_records(body, itertools.repeat(16384))
    reader = read(wire)
    assert (reader.readable, reader.name) == (False, None)
    server = Context(cert=leaf.chain, key=leaf.key).new_session("accept", None)
    with pytest.raises(TlsError) as caught:
        server.feed(wire)
    assert caught.value.reason == "protocol"
    assert server.drain()[:1] == b"\x15"


def test_a_hello_without_extensions_has_no_name() -> None:
    body = message(with_extensions())[4:-2]
    wire = in_records(b"\x01" + len(body).to_bytes(3, "big") + body, itertools.repeat(99))
    reader = read(wire)
    assert (reader.readable, reader.name) == (True, None)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_octets_make_the_reader_fail(rubbish: bytes) -> None:
    body = b"\x01" + len(rubbish).to_bytes(3, "big") + rubbish
    reader = read(in_records(body, itertools.repeat(16384)))
    assert reader.name is None or reader.readable
    HelloReader().feed(rubbish)


# What a session makes of it ------------------------------------------------------------------


@pytest.fixture
def front(ca: CertificateAuthority, leaf: Leaf) -> Context:
    inner = ca.issue(OTHER)
    return Context(
        cert=leaf.chain,
        key=leaf.key,
        server_names={OTHER: Context(cert=inner.chain, key=inner.key, alpn=["inner"])},
    )


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_handshake_succeeds_however_its_octets_come(
    ca: CertificateAuthority, front: Context, version: Any, size: int
) -> None:
    a = Context(ca_cert=ca.cert, max_version=version).new_session("connect", OTHER)
    b = front.new_session("accept", None)
    a.write(b"from the client")
    b.write(b"from the server")
    while a.state != "established" or b.state != "established":
        for sender, receiver in ((a, b), (b, a)):
            data = sender.drain()
            for at in range(0, len(data), size):
                receiver.feed(data[at : at + size])
    pump(a, b)
    assert (a.read(), b.read()) == (b"from the server", b"from the client")
    assert b.server_name == OTHER


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_hello_of_many_records_chooses_its_context(
    ca: CertificateAuthority, front: Context, version: Any
) -> None:
    protocols = [f"{number:0250}" for number in range(250)]
    options: Any = {"alpn": [*protocols, "inner"], "max_version": version}
    a = Context(ca_cert=ca.cert, **options).new_session("connect", OTHER)
    b = front.new_session("accept", None)
    pump(a, b)
    assert (a.state, a.alpn, b.server_name) == ("established", "inner", OTHER)
    fragments = in_records(message(SHORT), itertools.repeat(1))
    b = front.new_session("accept", None)
    b.feed(fragments)
    assert b.drain()[:1] == b"\x16"
    assert b.server_name == "a.example"


def test_the_stream_may_end_within_the_hello(front: Context) -> None:
    for size in (0, 1, 5, 100, len(HELLO) - 1):
        b = front.new_session("accept", None)
        if size:
            b.feed(HELLO[:size])
        assert b.drain() == b""
        with pytest.raises(TlsError) as caught:
            b.feed(b"")
        assert (caught.value.reason, b.state, b.server_name) == ("truncated", "closed", None)
        b.feed(HELLO[size:])
        assert b.drain() == b""


def test_a_shutdown_before_the_hello_waits_for_the_handshake(
    ca: CertificateAuthority, front: Context
) -> None:
    b = front.new_session("accept", None)
    b.write(b"last words")
    b.shutdown()
    assert (b.state, b.drain()) == ("handshake", b"")
    a = Context(ca_cert=ca.cert).new_session("connect", OTHER)
    pump(a, b)
    assert a.read() == b"last words"
    assert (a.state, b.state) == ("closing", "closing")
    assert a.certificate is not None
    assert a.alpn is None


def test_before_the_hello_nothing_is_known(front: Context) -> None:
    b = front.new_session("accept", "somebody")
    b.feed(HELLO[:20])
    known = (b.state, b.peer_name, b.server_name, b.version, b.cipher, b.alpn, b.chain)
    assert known == ("handshake", "somebody", None, None, None, None, [])
    assert b.certificate is b.peer_certificate is b.group is None


def test_what_follows_the_hello_reaches_openssl_behind_it(front: Context) -> None:
    """A warning is passed over, clear text is refused; both came in one packet with the hello."""
    b = front.new_session("accept", None)
    b.feed(SHORT + b"\x15\x03\x03\x00\x02\x01\x5a")  # user_canceled
    assert (b.state, b.drain()[:1]) == ("handshake", b"\x16")
    b = front.new_session("accept", None)
    with pytest.raises(TlsError):
        b.feed(SHORT + b"GET / HTTP/1.0\r\n\r\n")
    assert b.drain()[-7:-4] == b"\x15\x03\x03"


@pytest.mark.parametrize("name", [HOST, OTHER])
def test_an_old_client_gets_the_alert_of_the_context_it_asked_for(
    leaf: Leaf, front: Context, name: str
) -> None:
    old: Any = {"min_version": "1.0", "max_version": "1.0", "cipher_list": "ALL:@SECLEVEL=0"}
    b = front.new_session("accept", None)
    with pytest.raises(TlsError):
        b.feed(hello_of(name, **old))
    assert b.drain() == b"\x15\x03\x01\x00\x02\x02\x46"  # protocol_version
    assert b.server_name == name


@pytest.mark.parametrize("size", [1, 5, 48])
def test_a_hello_in_the_form_of_ssl_2_gets_an_alert(front: Context, size: int) -> None:
    hello = b"\x80\x2e\x01\x03\x03\x00\x15\x00\x00\x00\x10" + bytes(21) + b"challenge, 16 oc"
    b = front.new_session("accept", None)
    with pytest.raises(TlsError) as caught:
        for at in range(0, len(hello), size):
            b.feed(hello[at : at + size])
    assert (caught.value.reason, b.drain()) == ("protocol", b"\x15\x03\x01\x00\x02\x02\x46")
    assert (b.drain(), b.state) == (b"", "closed")


def test_a_second_hello_must_ask_for_the_same_name(leaf: Leaf, ca: CertificateAuthority) -> None:
    """RFC 8446 4.1.2: after a HelloRetryRequest only some extensions may differ."""
    from cryptography.hazmat.primitives.asymmetric import ec

    def picky(native: Any) -> None:
        native.set_tmp_ecdh(ec.SECP384R1())

    server = Context(cert=leaf.chain, key=leaf.key, prepare=picky)
    for other in (HOST, "xxx.example.org"):
        a = Context(ca_cert=ca.cert).new_session("connect", HOST)
        b = server.new_session("accept", None)
        b.feed(a.drain())
        a.feed(b.drain())  # the HelloRetryRequest
        second = a.drain()
        assert HOST.encode() in second
        changed = second.replace(HOST.encode(), other.encode())
        if other == HOST:
            b.feed(changed)
            a.feed(b.drain())
            assert (a.state, a.group) == ("established", "secp384r1")
        else:
            with pytest.raises(TlsError, match="first and for") as caught:
                b.feed(changed)
            assert caught.value.reason == "protocol"
            assert b.drain() == b"\x15\x03\x03\x00\x02\x02\x31"
            assert b.state == "closed"


def test_a_name_that_only_openssl_can_read_is_refused(front: Context) -> None:
    """An empty record, which must not be, and then a good hello."""
    b = front.new_session("accept", None)
    with pytest.raises(TlsError) as caught:
        b.feed(b"\x16\x03\x01\x00\x00" + SHORT)
    assert caught.value.reason == "protocol"
    assert b.drain()[:1] == b"\x15"
    assert b.server_name is None
