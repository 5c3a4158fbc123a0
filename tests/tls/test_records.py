"""Records as a peer may send them: alike or not, padded, cut anywhere.

The peer's records are made here, from the secrets in a key log: OpenSSL pads none by itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
ALERT, HANDSHAKE, DATA = 21, 22, 23
CLOSE_NOTIFY = b"\x01\x00"
KEY_UPDATE = b"\x18\x00\x00\x01\x00"  # of the sender's keys, no answer wanted
LIKE_AN_ALERT = b"\x17\x03\x03\x00\x13" + bytes(19)
FULL = 16_385  # the most a record can carry: data and its type


class Sealer:
    """Makes the server's records of a TLS 1.3 connection, behind its handshake."""

    def __init__(self, log: str, sent: int) -> None:
        (line,) = (it for it in log.splitlines() if it.startswith("SERVER_TRAFFIC_SECRET_0"))
        self._take(bytes.fromhex(line.split()[2]))
        self._count = sent

    def _take(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._derive("key", 16))
        self._iv = self._derive("iv", 12)
        self._count = 0

    def _derive(self, label: str, size: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
        return HKDFExpand(SHA256(), size, info).derive(self._secret)

    def seal(self, kind: int, content: bytes, size: int = 0) -> bytes:
        """Return a record whose content and type are padded to *size* octets."""
        inner = (content + bytes([kind])).ljust(size, b"\0")
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._count).to_bytes(12, "big")
        self._count += 1
        record = header + self._key.encrypt(nonce, inner, header)
        if content == KEY_UPDATE:
            self._take(self._derive("traffic upd", 32))
        return record


@pytest.fixture
def sealed(tmp_path: Path, ca: CertificateAuthority, leaf: Leaf) -> tuple[Session, Sealer]:
    """A client, and one who can speak as its server."""
    log = tmp_path / "keys"
    client = Context(ca_cert=ca.cert, key_log_file=log, ciphersuites="TLS_AES_128_GCM_SHA256")
    a = client.new_session("connect", HOST)
    b = Context(cert=leaf.chain, key=leaf.key).new_session("accept")
    while a.state == "handshake":
        b.feed(a.drain())
        a.feed(b.drain())
    b.feed(a.drain())
    tickets = b.drain()
    a.feed(tickets)
    return a, Sealer(log.read_text(), tickets.count(tickets[:5]))


def test_large_records_that_are_alike_are_read_one_by_one(sealed: tuple[Session, Sealer]) -> None:
    a, server = sealed
    data = [bytes([i]) * 16_384 for i in range(5)]
    a.feed(b"".join(server.seal(DATA, piece) for piece in data))
    assert a.read_pieces() == data


@pytest.mark.parametrize("size", [0, 1000, 5000, FULL])
def test_padded_records_that_carry_no_data_are_passed_over(
    sealed: tuple[Session, Sealer], size: int
) -> None:
    a, server = sealed
    a.feed(
        server.seal(DATA, b"one", size)
        + server.seal(HANDSHAKE, KEY_UPDATE, size)
        + server.seal(DATA, b"", size)
        + server.seal(DATA, b"two", size)
        + server.seal(HANDSHAKE, KEY_UPDATE, size)
        + server.seal(DATA, b"three", size)
    )
    assert a.read() == b"onetwothree"
    assert a.state == "established"
    a.feed(server.seal(DATA, b"four", size))
    assert a.read() == b"four"


@pytest.mark.parametrize("size", [0, 1000, 5000, FULL])
@pytest.mark.parametrize(
    "behind",
    [b"", b"220 clear text\r\n", b"\x17\x03\x03\x40\x11 a record?", LIKE_AN_ALERT],
    ids=["nothing", "text", "half a record", "like an alert"],
)
def test_octets_behind_a_padded_close_notify_stay_ours(
    sealed: tuple[Session, Sealer], size: int, behind: bytes
) -> None:
    a, server = sealed
    a.feed(
        server.seal(DATA, b"last words", size)
        + server.seal(DATA, b"..", size)
        + server.seal(ALERT, CLOSE_NOTIFY, size)
        + behind
    )
    assert a.state == "closing"
    assert a.read() == b"last words.."
    assert a.unused_data == behind
    a.feed(b" more")
    assert a.unused_data == behind + b" more"


@pytest.mark.parametrize("size", [5000, FULL])
def test_what_is_padded_around_a_close_notify_is_never_clear_text(
    sealed: tuple[Session, Sealer], size: int
) -> None:
    """All records look alike, some carry nothing, and one behind the alert is to be ignored."""
    a, server = sealed
    a.feed(
        server.seal(DATA, b"data", size)
        + server.seal(HANDSHAKE, KEY_UPDATE, size)
        + server.seal(DATA, b"", size)
        + server.seal(ALERT, CLOSE_NOTIFY, size)
        + server.seal(DATA, b"ignored", size)
        + b"clear text"
    )
    assert a.state == "closing"
    assert a.read() == b"data"
    assert a.unused_data == b"clear text"


def test_a_forged_record_among_its_likes_ends_it_behind_the_good_ones(
    sealed: tuple[Session, Sealer],
) -> None:
    a, server = sealed
    good = [server.seal(DATA, bytes(16_384)) for _ in range(4)]
    forged = bytearray(good[2])
    forged[1000] ^= 1
    a.feed(good[0] + good[1] + forged + good[3])
    assert a.read_pieces() == [bytes(16_384)] * 2
    with pytest.raises(TlsError) as caught:
        a.read_pieces()
    assert caught.value.reason == "protocol"
    assert a.drain()[:1] == b"\x17"  # the alert
    assert a.read() == b""


_CA: dict[str, tuple[CertificateAuthority, Leaf]] = {}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 4_060, 4_096, 16_383, 16_384]), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 70_000), max_size=12),
    version=st.sampled_from(["1.2", "1.3"]),
)
def test_records_of_any_size_cut_anywhere_give_the_same(
    sizes: list[int], cuts: list[int], version: str
) -> None:
    if not _CA:
        made = CertificateAuthority()
        _CA[""] = made, made.issue(HOST)
    ca, leaf = _CA[""]
    a = Context(ca_cert=ca.cert).new_session("connect", HOST)
    b = Context(cert=leaf.chain, key=leaf.key, max_version=version).new_session(  # type: ignore[arg-type]
        "accept"
    )
    while a.state == "handshake" or b.state == "handshake":
        b.feed(a.drain())
        a.feed(b.drain())
    pieces = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    wire = b""
    for piece in pieces:
        b.write(piece)
        wire += b.drain()
    b.shutdown()
    wire += b.drain() + b"clear text"
    got = b""
    for cut in (*cuts, len(wire)):
        if wire[:cut]:
            a.feed(wire[:cut])
        wire = wire[cut:]
        got += a.read()
    assert got == b"".join(pieces)
    assert a.state == "closing"
    assert a.unused_data == b"clear text"
