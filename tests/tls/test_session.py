"""The byte machine, client against server in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf, pump

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]

VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


def references(*things: Any) -> list[weakref.ref[Any]]:
    return [weakref.ref(thing) for thing in things]


def records(data: bytes) -> list[bytes]:
    """Cut *data* into TLS records."""
    found = []
    while data:
        size = int.from_bytes(data[3:5], "big") + 5
        found.append(data[:size])
        data = data[size:]
    return found


@VERSIONS
def test_data_passes_in_both_directions(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    a, b = join(Context(ca_cert=ca.cert), server)
    assert a.version == b.version == f"TLSv{version}"
    a.write(b"ping")
    pump(a, b)
    assert b.read() == b"ping"
    b.write(b"pong")
    pump(a, b)
    assert a.read() == b"pong"
    assert a.read() == b.read() == b""


def test_the_first_drain_of_a_client_is_its_first_flight(client: Context) -> None:
    session = client.new_session("connect", HOST)
    assert session.state == "handshake"
    hello = session.drain()
    assert hello[:2] == b"\x16\x03"
    assert hello[5] == 1
    assert session.drain() == b""


def test_a_server_says_nothing_first(server: Context) -> None:
    session = server.new_session("accept", None)
    assert session.drain() == b""
    assert session.state == "handshake"


def test_what_is_written_before_the_handshake_is_kept(client: Context, server: Context) -> None:
    a = client.new_session("connect", HOST)
    b = server.new_session("accept", None)
    a.write(b"early ")
    a.write(b"bird")
    b.write(b"hello")
    pump(a, b)
    assert b.read() == b"early bird"
    assert a.read() == b"hello"


@VERSIONS
def test_every_cut_of_every_flight_gives_the_same(
    ca: CertificateAuthority, leaf: Leaf, version: Any
) -> None:
    """Each flight is cut in two at every position, and once delivered octet by octet."""
    client = Context(ca_cert=ca.cert, session_cache=False)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)

    def run(flight: int, cut: int) -> tuple[list[int], bytes, bytes]:
        a = client.new_session("connect", HOST)
        b = server.new_session("accept", None)
        a.write(b"from a")
        b.write(b"from b")
        sizes: list[int] = []
        closing = 0
        got = {a: b"", b: b""}
        sender, receiver = a, b
        idle = 0
        while idle < 2:
            data = sender.drain()
            if data:
                idle = 0
                if len(sizes) != flight:
                    parts = [data]
                elif cut < 0:
                    parts = [data[i : i + 1] for i in range(len(data))]
                else:
                    parts = [data[:cut], data[cut:]]
                sizes.append(len(data))
                for part in parts:
                    if part:
                        receiver.feed(part)
                    got[receiver] += receiver.read()
            else:
                idle += 1
            if idle == 2 and closing < 2:
                (a, b)[closing].shutdown()
                closing += 1
                idle = 0
            sender, receiver = receiver, sender
        assert a.state == b.state == "closed"
        return sizes, got[a], got[b]

    sizes, to_a, to_b = run(-1, 0)
    assert (to_a, to_b) == (b"from b", b"from a")
    assert len(sizes) >= 5
    cuts = 0
    for flight in range(len(sizes)):
        assert run(flight, -1)[1:] == (b"from b", b"from a")
        # ECDSA signatures vary by a few octets, so the last positions may not exist.
        step = 1 if sizes[flight] < 120 else 13
        for cut in range(1, sizes[flight], step):
            assert run(flight, cut)[1:] == (b"from b", b"from a")
            cuts += 1
    assert cuts >= 200


@pytest.mark.parametrize("piece", [*range(1, 24), 4095, 16384, 16389])
def test_pieces_of_one_size_that_fit_no_record(
    client: Context, server: Context, join: Join, piece: int
) -> None:
    a, b = join(client, server)
    for size in (1, 2, 3, 50, 5, 1000, 17, 17_000):
        a.write(bytes(size))
        wire = a.drain()
        a.write(bytes(size))
        wire += a.drain()
        for at in range(0, len(wire), piece):
            b.feed(wire[at : at + piece])
        got = b""
        while data := b.read():
            got += data
        assert len(got) == 2 * size


@settings(deadline=None, max_examples=60)
@given(
    data=st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 20_000), min_size=1, max_size=40),
)
def test_any_data_in_any_pieces_arrives(data: list[bytes], cuts: list[int]) -> None:
    ca = _CA.setdefault("ca", CertificateAuthority())
    leaf = _LEAF.setdefault("leaf", ca.issue(HOST))
    a = Context(ca_cert=ca.cert).new_session("connect", HOST)
    b = Context(cert=leaf.chain, key=leaf.key).new_session("accept", None)
    pump(a, b)
    wire = b""
    for number, piece in enumerate(data):
        a.write(piece)
        if number % 2:
            wire += a.drain()
    wire += a.drain()
    got = b""
    at = 0
    while wire[at:]:
        size = cuts[at % len(cuts)]
        b.feed(wire[at : at + size])
        got += b.read()
        at += size
    assert got == b"".join(data)


_CA: dict[str, CertificateAuthority] = {}
_LEAF: dict[str, Leaf] = {}


def test_what_is_written_in_one_turn_is_one_batch_of_records(
    client: Context, server: Context, join: Join
) -> None:
    a, _ = join(client, server)
    for _ in range(100):
        a.write(b"a line of sixty-four octets or so, as protocols like to have it\n")
    assert len(records(a.drain())) == 1
    a.write(bytes(100_000))
    assert len(records(a.drain())) == 7  # ceil(100,000 / 16,384)


@pytest.mark.parametrize("size", [1, 16384, 16385, 65536, 65537, 1_000_000])
def test_data_of_any_size_is_written_at_once(
    client: Context, server: Context, join: Join, size: int
) -> None:
    a, b = join(client, server)
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    a.write(data)
    b.feed(a.drain())
    assert a.drain() == b""
    assert b.read() == data


def test_data_may_be_read_record_by_record(client: Context, server: Context, join: Join) -> None:
    a, b = join(client, server)
    assert b.read_pieces() == []
    a.write(bytes(40_000))
    a.shutdown()
    b.feed(a.drain())
    assert b.read_pieces() == [bytes(16_384), bytes(16_384), bytes(7_232)]
    assert b.read_pieces() == []
    assert b.read() == b""
    b.write(b"last")
    a.feed(b.drain())
    a.feed(b"")
    assert a.read_pieces() == [b"last"]
    with pytest.raises(TlsError):
        a.read_pieces()
    assert a.read_pieces() == []


def test_a_writable_buffer_may_be_changed_after_write(
    client: Context, server: Context, join: Join
) -> None:
    a, b = join(client, server)
    data: Any = bytearray(b"as it was")
    a.write(data)
    data[:] = b"something"
    pump(a, b)
    assert b.read() == b"as it was"


# Closing -----------------------------------------------------------------------------------


@VERSIONS
def test_close_notify_goes_both_ways(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    a: Any
    b: Any
    a, b = join(Context(ca_cert=ca.cert), server)
    a.write(b"last words")
    a.shutdown()
    assert a.state == "closing"
    b.feed(a.drain())
    assert b.read() == b"last words"
    assert b.state == "closing"
    b.write(b"still here")  # one direction is closed, the other is not
    b.shutdown()
    assert b.state == "closed"
    a.feed(b.drain())
    assert a.read() == b"still here"
    assert a.state == "closed"
    a.feed(b"")
    assert a.read() == b""


def test_shutdown_may_be_repeated(client: Context, server: Context, join: Join) -> None:
    a, _ = join(client, server)
    a.shutdown()
    assert len(records(a.drain())) == 1
    a.shutdown()
    assert a.drain() == b""


def test_shutdown_during_the_handshake_waits_for_its_end(client: Context, server: Context) -> None:
    a = client.new_session("connect", HOST)
    b = server.new_session("accept", None)
    a.write(b"all I have to say")
    a.shutdown()
    assert a.state == "handshake"
    with pytest.raises(TlsError, match="shutdown") as caught:
        a.write(b"too late")
    assert caught.value.reason == "closed"
    pump(a, b)
    assert b.read() == b"all I have to say"
    assert (a.state, b.state) == ("closing", "closing")


def test_write_after_shutdown_is_an_error(client: Context, server: Context, join: Join) -> None:
    a, _ = join(client, server)
    a.shutdown()
    with pytest.raises(TlsError, match="protocol is shutdown") as caught:
        a.write(b"more")
    assert caught.value.reason == "closed"


@VERSIONS
def test_octets_behind_close_notify_are_handed_back(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    """The peer stops TLS and goes on in clear, all in one packet, cut anywhere."""
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    client = Context(ca_cert=ca.cert)
    a, b = join(client, server)
    a.write(b"tls")
    a.shutdown()
    wire = a.drain() + b"plain text\r\n"
    for cut in range(len(wire)):
        a, b = join(client, server)
        a.write(b"tls")
        a.shutdown()
        wire = a.drain() + b"plain text\r\n"
        for part in (wire[:cut], wire[cut:]):
            if part:
                b.feed(part)
        assert b.read() == b"tls"
        assert b.unused_data == b"plain text\r\n"
        assert b.state == "closing"


def test_data_close_and_handshake_end_in_one_flight(client: Context, server: Context) -> None:
    a = client.new_session("connect", HOST)
    b = server.new_session("accept", None)
    b.feed(a.drain())
    a.write(b"data")
    a.shutdown()
    a.feed(b.drain())
    b.feed(a.drain() + b"clear")
    assert b.state == "closing"
    assert b.read() == b"data"
    assert b.unused_data == b"clear"


# Errors ------------------------------------------------------------------------------------


@VERSIONS
def test_end_of_stream_without_close_notify_is_truncation(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    a, _ = join(Context(ca_cert=ca.cert), server)
    with pytest.raises(TlsError) as caught:
        a.feed(b"")
    assert caught.value.reason == "truncated"
    assert a.state == "closed"
    assert a.read() == b""


def test_data_before_a_truncation_is_read_first(
    client: Context, server: Context, join: Join
) -> None:
    a, b = join(client, server)
    b.write(b"data")
    a.feed(b.drain())
    a.feed(b"")
    assert a.read() == b"data"
    with pytest.raises(TlsError) as caught:
        a.read()
    assert caught.value.reason == "truncated"
    assert a.read() == b""


@pytest.mark.parametrize("flights", range(4))
def test_end_of_stream_in_the_handshake_is_truncation(
    client: Context, server: Context, flights: int
) -> None:
    a = client.new_session("connect", HOST)
    b = server.new_session("accept", None)
    sender, receiver = a, b
    for _ in range(flights):
        receiver.feed(sender.drain())
        sender, receiver = receiver, sender
    with pytest.raises(TlsError) as caught:
        receiver.feed(b"")
    assert caught.value.reason == "truncated"


def test_truncation_at_every_record_is_reported(
    client: Context, server: Context, join: Join
) -> None:
    a, b = join(client, server)
    b.write(bytes(100_000))
    b.shutdown()
    wire = records(b.drain())
    assert len(wire) == 8
    for count in range(len(wire)):
        a, b = join(client, server)
        b.write(bytes(100_000))
        b.shutdown()
        wire = records(b.drain())
        got = b""
        for record in wire[:count]:
            a.feed(record)
            got += a.read()
        a.feed(wire[count][:-1])
        with pytest.raises(TlsError) as caught:
            a.feed(b"")
        assert caught.value.reason == "truncated"
        assert len(got) == min(count * 16384, 100_000)


@VERSIONS
def test_a_forged_record_ends_the_connection_after_the_good_ones(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    a, b = join(Context(ca_cert=ca.cert), server)
    b.write(b"good")
    wire = b.drain()
    b.write(b"forged")
    forged = bytearray(b.drain())
    forged[-1] ^= 1
    b.write(b"never seen")
    wire += bytes(forged) + b.drain()
    a.feed(wire)
    assert a.state == "closed"
    assert a.read() == b"good"
    with pytest.raises(TlsError) as caught:
        a.read()
    assert caught.value.reason == "protocol"
    alert = a.drain()
    assert alert
    assert a.read() == b""
    with pytest.raises(TlsError) as caught:
        b.feed(alert)
    assert caught.value.reason == "alert"


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(100),
        b"\x16\x99\x99\x00\x05hello",
        b"\x19\x03\x03\x00\x05hello",
        b"220 mail.example.org ESMTP\r\n",
        bytes(64),
        b"\xff" * 64,
    ],
)
@pytest.mark.parametrize("role", ["connect", "accept"])
def test_what_is_no_tls_is_refused(
    client: Context, server: Context, role: Any, garbage: bytes
) -> None:
    session = (client if role == "connect" else server).new_session(role, HOST)
    session.drain()
    with pytest.raises(TlsError) as caught:
        session.feed(garbage)
    assert caught.value.reason == "protocol"
    assert session.state == "closed"
    session.drain()
    assert session.drain() == b""


def test_garbage_after_the_handshake_is_refused(
    client: Context, server: Context, join: Join
) -> None:
    a, _ = join(client, server)
    with pytest.raises(TlsError) as caught:
        a.feed(b"NOT TLS AT ALL")
    assert caught.value.reason == "protocol"


@settings(deadline=None, max_examples=150)
@given(st.binary(min_size=1, max_size=300))
def test_no_input_makes_a_server_raise_anything_but_our_error(data: bytes) -> None:
    ca = _CA.setdefault("ca", CertificateAuthority())
    leaf = _LEAF.setdefault("leaf", ca.issue(HOST))
    session = Context(cert=leaf.chain, key=leaf.key).new_session("accept", None)
    with pytest.raises(TlsError) as caught:
        session.feed(data)
        session.feed(b"")
    assert caught.value.reason in ("protocol", "truncated", "alert")
    session.drain()
    assert session.state == "closed"


def test_nothing_is_common_is_a_protocol_error(
    ca: CertificateAuthority, leaf: Leaf, refusal: Callable[..., TlsError]
) -> None:
    client = Context(ca_cert=ca.cert, min_version="1.3")
    server = Context(cert=leaf.chain, key=leaf.key, max_version="1.2")
    assert refusal(client, server, by="accept").reason == "protocol"


def test_an_error_is_told_once(client: Context) -> None:
    session = client.new_session("connect", HOST)
    session.drain()
    with pytest.raises(TlsError):
        session.feed(b"nonsense nonsense")
    session.feed(b"more")
    session.feed(b"")
    assert session.read() == b""
    with pytest.raises(TlsError):
        session.write(b"data")


# Lifetime ------------------------------------------------------------------------------------


def test_sessions_are_freed_without_the_garbage_collector(
    client: Context, server: Context, join: Join
) -> None:
    gc.collect()
    gc.disable()
    try:
        a, b = join(client, server)
        a.write(b"data")
        pump(a, b)
        gone: list[weakref.ref[Any]] = [
            weakref.ref(a),
            weakref.ref(b),
            weakref.ref(a._conn),
            weakref.ref(b._conn),
        ]
        del a, b
        assert [ref() for ref in gone] == [None] * 4
    finally:
        gc.enable()


@pytest.mark.parametrize("name", [HOST, "other.example"])
def test_failed_sessions_are_freed_without_the_garbage_collector(
    client: Context, server: Context, name: str
) -> None:
    gc.collect()
    gc.disable()
    try:
        a = client.new_session("connect", name)
        b = server.new_session("accept", None)
        gone: list[weakref.ref[Any]] = [
            weakref.ref(a),
            weakref.ref(b),
            weakref.ref(a._conn),
            weakref.ref(b._conn),
        ]
        reasons = []
        for source, target in ((a, b), (b, a), (a, b), (None, a), (a, b)):
            data = b"rubbish" if source is None else source.drain()
            try:
                if data:
                    target.feed(data)
            except TlsError as error:
                reasons.append(error.reason)
        assert reasons == ["wrong-name" if name != HOST else "protocol", "alert"]
        del a, b, source, target
        assert [ref() for ref in gone] == [None] * 4
    finally:
        gc.enable()


def test_contexts_are_freed_without_the_garbage_collector(ca: CertificateAuthority) -> None:
    leaf = ca.issue(HOST)
    gc.collect()
    gc.disable()
    try:
        other = Context(cert=leaf.chain, key=leaf.key)
        context = Context(
            cert=leaf.chain,
            key=leaf.key,
            ca_cert=ca.cert,
            alpn=["a"],
            server_names={"a.example": other},
            verify_callback=lambda info: True,
        )
        context.new_session("connect", HOST)
        context.new_session("accept", None)
        gone = references(context, other)
        del context, other
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


# What OpenSSL could do to us ---------------------------------------------------------------


def test_a_failure_while_encrypting_is_told_at_once(
    client: Context, server: Context, join: Join
) -> None:
    from OpenSSL import SSL

    def broken(buf: object, flags: int = 0) -> int:
        raise SSL.Error([("SSL routines", "", "internal error")])

    a, _ = join(client, server)
    a._sendall = broken
    a.write(b"data")
    with pytest.raises(TlsError, match="internal error"):
        a.drain()
    assert a.state == "closed"
    assert a.drain() == b""
    a, _ = join(client, server)
    a._sendall = broken
    a.write(b"data")
    a.shutdown()
    assert a.state == "closed"
    with pytest.raises(TlsError, match="internal error"):
        a.read()


def test_garbage_that_openssl_would_wait_for_is_refused_by_us(
    client: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = client.new_session("connect", HOST)
    session.drain()
    monkeypatch.setattr(Session, "_shake_hands", lambda self: None)
    with pytest.raises(TlsError, match="not a TLS record"):
        session.feed(b"\x80\x2e\x01\x03\x01")


def test_a_guess_that_fits_exactly_loses_nothing(
    client: Context, server: Context, join: Join
) -> None:
    a, b = join(client, server)
    for size in (1, 22, 23, 122, 50):
        a._sendall(b"x" * 100)
        wire = a._fetch(size)
        assert len(wire) == 122
        b.feed(wire)
        assert b.read() == b"x" * 100


def test_writing_nothing_sends_nothing(client: Context, server: Context, join: Join) -> None:
    a, _ = join(client, server)
    a.write(b"")
    assert a.drain() == b""


def test_a_first_flight_that_cannot_be_made_is_told_at_once(ca: CertificateAuthority) -> None:
    def nothing(native: Any) -> None:
        native.set_cipher_list(b"ECDHE-ECDSA-AES256-GCM-SHA384")
        native.set_min_proto_version(0x0301)
        native.set_max_proto_version(0x0302)

    session = Context(ca_cert=ca.cert, prepare=nothing).new_session("connect", HOST)
    with pytest.raises(TlsError) as caught:
        session.drain()
    assert caught.value.reason == "protocol"
    assert session.state == "closed"
