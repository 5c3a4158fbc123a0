"""The TLS layer alone: a scripted session, a write queue, bytes; no stream, no loop, no engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle._buffers.write_queue import WriteQueue
from ae_handle._tls.layer import ANSWER, STOP_SENT, STOP_WANTED, TlsLayer
from ae_handle.abc import TlsState


class Session:
    """Encrypts by capitals, in records ``XXX<length of two bytes><data>``; "!" is close_notify."""

    peer_certificate = None

    def __init__(self) -> None:
        self.state: TlsState = "handshake"
        self.fed = b""
        self.out = b""
        self.plain: list[bytes] = []
        self.peer_closed = False

    def feed(self, data: bytes, /) -> None:
        self.fed += data
        while len(self.fed) >= 5:
            size = 5 + int.from_bytes(self.fed[3:5], "big")
            if len(self.fed) < size or self.peer_closed:
                return
            record, self.fed = self.fed[5:size], self.fed[size:]
            if record == b"!":
                self.peer_closed = True
                self.state = "closed" if self.state == "closing" else "closing"
            else:
                self.plain.append(record.lower())

    def read(self) -> bytes:
        return self.plain.pop(0) if self.plain else b""

    def write(self, data: bytes, /) -> None:
        self.out += record(data.upper())

    def drain(self) -> bytes:
        out, self.out = self.out, b""
        return out

    def shutdown(self) -> None:
        self.out += record(b"!")
        self.state = "closed" if self.peer_closed else "closing"


def record(data: bytes) -> bytes:
    return b"XXX" + len(data).to_bytes(2, "big") + data


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def layer(session: Session) -> TlsLayer:
    return TlsLayer(session, "connect")


def push(*pieces: bytes) -> WriteQueue:
    out = WriteQueue()
    out.pieces.extend(pieces)
    return out


def test_nothing_of_the_programs_leaves_before_the_peer_is_known(
    session: Session, layer: TlsLayer
) -> None:
    out = push(b"secret")
    session.out = b"hello"
    assert layer.next_block(out) == b"hello"
    assert out.overhead  # losing it loses nothing of the program's
    session.state = "established"
    assert layer.next_block(out) == b""  # it was not reported yet
    layer.report()
    assert layer.next_block(out) == record(b"SECRET")
    assert not out.overhead
    assert layer.next_block(out) == b""


def test_a_session_that_failed_sends_its_alert_and_nothing_else(
    session: Session, layer: TlsLayer
) -> None:
    session.state = "established"
    layer.report()
    layer.fail()
    session.out = b"alert"
    out = push(b"secret")
    assert layer.next_block(out) == b"alert"
    assert not out.pieces
    assert not layer.in_handshake


def test_the_handshake_has_a_limit_until_it_is_reported(layer: TlsLayer) -> None:
    layer.begin(100.0, None)
    layer.limit_handshake(60)
    assert layer.until == 160
    layer.limit_handshake(None)
    assert layer.until is None
    layer.limit_handshake(5)
    layer.report()
    assert layer.until is None


def test_large_reads_are_for_sessions_that_copy(session: Session) -> None:
    def recv_into(buffer: memoryview, size: int) -> int:
        raise AssertionError

    for copies in (False, True):
        session.copies_input = copies  # type: ignore[attr-defined]
        layer = TlsLayer(session, "connect")
        layer.begin(0.0, recv_into)
        layer.read_full(True)
        assert layer.streaming is copies
        layer.read_full(False)
        assert not layer.streaming


def test_stopping_puts_close_notify_behind_what_was_pushed(
    session: Session, layer: TlsLayer
) -> None:
    session.state = "established"
    layer.report()
    out = push(b"one", b"two")
    out.append_block(b"block")
    layer.encrypt_rest(out)
    layer.begin_stop(out, 7.0)
    assert out.take_block() == b"block" + record(b"ONETWO") + record(b"!")
    assert layer.stopping == STOP_SENT
    assert layer.until == 7.0 + ANSWER
    assert layer.sent_close


def test_what_was_read_before_tls_is_kept_for_the_session(layer: TlsLayer) -> None:
    layer.hold(b"early")
    assert layer.take_held() == b"early"
    assert layer.take_held() == b""
    layer.want_stop()
    assert layer.stopping == STOP_WANTED
    layer.end()
    assert layer.over


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=9).filter(lambda data: data != b"!"), max_size=5),
    st.binary(max_size=12),
    st.lists(st.integers(0, 80), max_size=6),
    st.booleans(),
)
def test_what_lies_behind_close_notify_is_plaintext_however_it_is_cut(
    items: list[bytes], behind: bytes, cuts: list[int], keeps: bool
) -> None:
    """Of sessions that keep what is unused, and of those that are fed record by record."""
    session: Any = Session()
    if keeps:
        kind = type("Keeping", (Session,), {"unused_data": property(lambda self: self.fed)})
        session = kind()
    layer = TlsLayer(session, "connect")
    session.state = "established"
    layer.report()
    layer.begin_stop(WriteQueue(), 0.0)
    wire = b"".join(map(record, items)) + record(b"!") + behind
    plain: list[bytes] = []
    rest = b""
    start = 0
    for end in [*sorted(cuts), len(wire)]:
        data, start = wire[start:end], max(start, end)
        if session.state == "closed":
            rest += data  # TLS is over: not given to the layer any more
        elif data:
            rest += layer.feed(data, plain)
    assert b"".join(plain) == b"".join(items).lower()
    assert rest == behind
    assert session.state == "closed"
