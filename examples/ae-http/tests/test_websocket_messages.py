"""WebSocket messages without a network: any octets, cut anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events
from wsproto.connection import SERVER, Connection

from ae_http._messages import Closing, Event, Messages, Pong, accept_value

MOST = 1000


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """Return a frame as a server sends it."""
    size = len(payload)
    length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes(((final << 7) | opcode,)) + length + payload


def feed(wire: bytes, cuts: Any = ()) -> tuple[list[Event], Messages]:
    messages = Messages(MOST)
    found = []
    ends = [*sorted({cut % (len(wire) + 1) for cut in cuts}), len(wire)]
    start = 0
    for end in ends:
        found += messages.feed(wire[start:end])
        start = end
    return found, messages


def test_the_example_of_the_rfc() -> None:
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (frame(1, b"hello"), ["hello"]),
        (frame(2, b""), [b""]),
        (frame(1, b""), [""]),
        (frame(1, "ü".encode()[:1], final=False) + frame(0, "ü".encode()[1:]), ["ü"]),
        (frame(1, b"a", final=False) + frame(9, b"?") + frame(0, b"b"), ["ab"]),
        (frame(10, b"x"), [Pong(b"x")]),
        (frame(8, b""), [Closing(1005, "", False)]),
        (frame(8, b"\x03\xe8bye"), [Closing(1000, "bye", False)]),
        (frame(8, b"\x0f\xa0") + frame(1, b"late"), [Closing(4000, "", False)]),
        (frame(2, b"x" * MOST), [b"x" * MOST]),
    ],
)
def test_what_a_server_may_send(wire: bytes, expected: list[Event]) -> None:
    assert feed(wire)[0] == expected
    assert feed(wire, range(len(wire)))[0] == expected


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x83\x00", 1002),  # an opcode that there is not
        (b"\xc1\x00", 1002),  # a reserved bit
        (b"\x81\x80\0\0\0\0", 1002),  # masked
        (b"\x09\x00", 1002),  # a control frame in fragments
        (b"\x89\x7e\x00\x7e", 1002),  # a long control frame
        (b"\x81\x7e\x00\x05", 1002),  # a length that is longer than need be
        (b"\x81\x7f\xff" + b"\0" * 7, 1002),  # more than there can be
        (frame(0, b"x"), 1002),  # goes on with nothing
        (frame(1, b"x", final=False) + frame(1, b"y"), 1002),  # begins within a message
        (frame(1, b"\xff"), 1007),
        (frame(1, b"\xc3"), 1007),  # ends within a character
        (frame(8, b"\x03"), 1002),
        (frame(8, b"\x03\xed"), 1002),  # 1005 is never sent
        (frame(8, b"\x03\xe8\xff"), 1007),
        (frame(2, b"x" * (MOST + 1)), 1009),
        (frame(2, b"x" * 600, final=False) + frame(0, b"x" * 600), 1009),
        (b"\x82\x7f" + (1 << 40).to_bytes(8, "big") + b"x" * (MOST + 1), 1009),
    ],
)
def test_what_a_server_may_not_send_ends_it_and_the_server_is_told(wire: bytes, code: int) -> None:
    for cuts in ((), range(len(wire))):
        found, messages = feed(wire + frame(1, b"more"), cuts)
        last = found.pop()
        assert isinstance(last, Closing)
        assert (last.code, last.failed, found) == (code, True, [])
        server = Connection(SERVER)
        server.receive_data(messages.answers)
        (told,) = server.events()
        assert isinstance(told, events.CloseConnection)
        assert told.code == code


def test_a_ping_is_answered_with_its_payload_and_many_by_one_answer() -> None:
    messages = feed(frame(9, b"1") + frame(9, b"2"))[1]
    server = Connection(SERVER)
    server.receive_data(messages.answers)
    assert [*server.events()] == [events.Pong(b"2")]


def test_a_goodbye_of_the_server_is_answered_and_one_of_ours_only_awaited() -> None:
    messages = feed(frame(8, b"\x03\xe9"))[1]
    server = Connection(SERVER)
    server.receive_data(messages.answers)
    (told,) = server.events()
    assert isinstance(told, events.CloseConnection)
    assert told.code == 1001
    messages = Messages(MOST)
    messages.close(1000, "")
    assert messages.feed(frame(9, b"") + frame(1, b"x") + frame(8, b"\x03\xe8")) == [
        "x",
        Closing(1000, "", False),
    ]
    assert messages.answers == b""


@given(
    st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=MOST)), max_size=5),
    st.lists(st.integers(0, 5000), max_size=8),
)
def test_any_messages_cut_anywhere(sent: list[str | bytes], cuts: list[int]) -> None:
    server = Connection(SERVER)
    wire = b""
    for message in sent:
        event: Any = events.TextMessage if isinstance(message, str) else events.BytesMessage
        wire += server.send(event(data=message))
    assert feed(wire, cuts)[0] == sent


_BEGINNINGS = st.sampled_from(
    [b"", frame(1, b"abc"), frame(2, b"x", final=False), frame(9, b""), frame(8, b""), b"\x81\x7e"]
)


@given(_BEGINNINGS, st.binary(max_size=400), st.lists(st.integers(0, 500), max_size=6))
def test_any_octets_cut_anywhere_mean_the_same(
    beginning: bytes, junk: bytes, cuts: list[int]
) -> None:
    wire = beginning + junk
    whole, _ = feed(wire)
    pieces, _ = feed(wire, cuts)

    def without_texts(found: list[Event]) -> list[Any]:
        return [each[:1] if isinstance(each, Closing) else each for each in found]

    assert without_texts(whole) == without_texts(pieces)
    assert not any(isinstance(each, Closing) for each in whole[:-1])


@given(st.one_of(st.text(max_size=300), st.binary(max_size=70_000)))
def test_what_we_send_is_what_a_server_reads(message: str | bytes) -> None:
    server = Connection(SERVER)
    server.receive_data(Messages(MOST).message(message))
    received: Any = [*server.events()]
    assert (b"" if isinstance(message, bytes) else "").join(e.data for e in received) == message


def test_a_trickle_takes_linear_time() -> None:
    from time import process_time

    def seconds(size: int) -> float:
        found: list[Event] = []
        messages = Messages(size)
        wire = b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size)
        began = process_time()
        for at in range(0, len(wire), 16):
            found = messages.feed(wire[at : at + 16])
        assert found == [bytes(size)]
        return process_time() - began

    small = min(seconds(1 << 16) for _ in range(3))
    assert seconds(1 << 19) < 8 * 4 * small
