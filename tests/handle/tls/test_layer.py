"""The TLS layer alone: a scripted session, a write queue, bytes; no stream, no loop, no engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import TlsError
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


def test_what_a_session_was_given_early_is_counted_until_close_notify_is_behind_it(
    session: Session, layer: TlsLayer
) -> None:
    layer.keep(b"one")
    layer.keep(b"two")
    assert layer.kept == 6
    out = WriteQueue()
    layer.close(out)
    assert layer.kept == 0
    assert layer.sent_close
    assert not out.overhead  # losing it loses what the program has pushed
    assert out.take_block() == record(b"ONE") + record(b"TWO") + record(b"!")


def test_close_notify_alone_is_nothing_of_the_programs(session: Session, layer: TlsLayer) -> None:
    out = WriteQueue()
    layer.close(out)
    assert out.overhead
    assert out.take_block() == record(b"!")


@pytest.mark.parametrize("in_pieces", [False, True])
def test_everything_that_is_decrypted_is_read_before_what_ended_it_is_raised(
    session: Any, in_pieces: bool
) -> None:
    session.feed(record(b"ONE") + record(b"TWO"))
    plain: list[bytes] = []
    kind = TlsError("bad record", reason="protocol")

    def read() -> bytes:
        if not session.plain:
            raise kind
        data: bytes = session.plain.pop(0)
        return data

    if in_pieces:
        session.read_pieces = lambda: [read()]
    else:
        session.read = read
    layer = TlsLayer(session, "connect")
    with pytest.raises(TlsError, match="bad record"):
        layer.read_all(plain)
    assert plain == [b"one", b"two"]


def test_a_timer_is_kept_until_it_is_replaced_or_the_wait_is_over(layer: TlsLayer) -> None:
    timer = object()
    for end in (lambda: layer.set_timer(None), layer.report, layer.end):
        layer.set_timer(timer)
        assert layer.timer is timer
        end()
        assert layer.timer is None
    layer.set_timer(timer)
    layer.limit_handshake(5)  # the caller sets another one
    assert layer.timer is None


def test_a_session_whose_peer_does_not_answer_is_not_used_any_more(
    session: Session, layer: TlsLayer
) -> None:
    assert layer.in_handshake
    layer.abandon()
    assert layer.over
    assert not layer.in_handshake
    out = push(b"secret")
    assert layer.next_block(out) == b""
    assert not out.pieces


@pytest.mark.parametrize("keeps", [False, True])
def test_what_a_session_has_not_used_is_known_where_it_keeps_it(
    session: Any, layer: TlsLayer, keeps: bool
) -> None:
    if keeps:
        session.unused_data = b"behind"
    assert layer.unused == (b"behind" if keeps else b"")


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
