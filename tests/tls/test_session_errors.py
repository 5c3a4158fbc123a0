"""When it goes wrong, and when it is over: errors of a session, and its lifetime."""

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


_CA: dict[str, CertificateAuthority] = {}
_LEAF: dict[str, Leaf] = {}


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
    a, b = join(client, server)
    b.write(b"unread")
    a.feed(b.drain())
    a._sendall = broken
    a.write(b"data")
    assert a.drain()[:1] == b""
    assert a.read() == b"unread"  # what came before the failure is read before it is told
    with pytest.raises(TlsError, match="internal error"):
        a.read()
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
