"""Text: into lines, and CTCP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ae_irc import parse_ctcp, split_text
from ae_irc._text import ctcp


@pytest.mark.parametrize(
    ("text", "room", "pieces"),
    [
        pytest.param("hi", 10, ["hi"], id="short"),
        pytest.param("a\n\r\nb\rc\n", 10, ["a", "b", "c"], id="lines"),
        pytest.param("0123456789", 10, ["0123456789"], id="just-fits"),
        pytest.param("0123456789a", 10, ["0123456789", "a"], id="just-not"),
        pytest.param("one two three", 10, ["one two", "three"], id="between-words"),
        pytest.param("0123456789 a", 10, ["0123456789", "a"], id="space-behind"),
        pytest.param("\u00e4" * 6, 5, ["\u00e4\u00e4"] * 3, id="two-octets"),
        pytest.param("\U0001f600" * 3, 7, ["\U0001f600"] * 3, id="four-octets"),
        pytest.param("x\U0001f600y", 4, ["x", "\U0001f600", "y"], id="least-room"),
        pytest.param("a" * 171 + " " + "b" * 99, 250, ["a" * 171, "b" * 99], id="space-in-reach"),
        pytest.param("a" * 169 + " " + "b" * 99, 250, ["a" * 169 + " " + "b" * 80, "b" * 19]),
        pytest.param("", 10, [], id="nothing"),
    ],
)
def test_text_is_split(text: str, room: int, pieces: list[str]) -> None:
    assert split_text(text, room) == pieces


def test_room_for_no_character_is_refused() -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        split_text("a", 3)


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")), st.integers(4, 30)
)
def test_no_piece_is_too_long_and_nothing_is_lost_but_spaces(text: str, room: int) -> None:
    pieces = split_text(text, room)
    assert all(0 < len(piece.encode()) <= room for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


@given(st.binary(max_size=100), st.integers(4, 30))
@example(b"\x80" * 9, 4)
def test_octets_that_are_no_utf_8_are_split_too(octets: bytes, room: int) -> None:
    text = octets.decode("utf-8", "surrogateescape")
    pieces = [piece.encode("utf-8", "surrogateescape") for piece in split_text(text, room)]
    assert all(0 < len(piece) <= room for piece in pieces)


@pytest.mark.parametrize("piece", ["a", " ", "\u00e4", "a ", "\n", "\udc80"])
def test_splitting_takes_linear_time(doubling: Callable[..., None], piece: str) -> None:
    doubling(lambda size: lambda: split_text(piece * size, 400), 400_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x01ACTION waves\x01", ("ACTION", "waves")),
        ("\x01version\x01", ("VERSION", "")),
        ("\x01PING 1 2", ("PING", "1 2")),
        ("\x01\x01", None),
        ("\x01", None),
        ("hi", None),
        ("", None),
    ],
)
def test_ctcp_is_found(text: str, expected: tuple[str, str] | None) -> None:
    assert parse_ctcp(text) == expected


def test_what_cannot_be_ctcp_is_refused() -> None:
    for command, argument in (("", ""), ("a b", ""), ("A", "\x01"), ("\x01", "")):
        with pytest.raises(ValueError, match="expected a CTCP command"):
            ctcp(command, argument)
