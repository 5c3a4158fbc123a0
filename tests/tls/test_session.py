"""The byte machine, client against server in memory."""

from __future__ import annotations

from collections import Counter
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
    ca: CertificateAuthority, leaf: Leaf, version: Any, tally: Counter[str]
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
    for flight in range(len(sizes)):
        assert run(flight, -1)[1:] == (b"from b", b"from a")
        # ECDSA signatures vary by a few octets, so the last positions may not exist.
        for cut in range(1, sizes[flight]):
            assert run(flight, cut)[1:] == (b"from b", b"from a")
            tally["cuts of flights"] += 1


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
