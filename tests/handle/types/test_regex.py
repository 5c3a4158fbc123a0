"""The ``regex`` frame type."""

from __future__ import annotations

import re

import pytest

from ae_handle import NEED_MORE, BadMessage, ReadBuffer, Regex
from ae_handle.testing import check_cuts, check_reader


@pytest.mark.parametrize(
    ("accept", "wire"),
    [
        (b"\n", b"line\n"),
        (rb"\r?\n\r?\n", b"a: 1\r\nb: 2\r\n\r\n"),
        (re.compile(rb"end;", re.IGNORECASE), b"the END;"),
        (rb"(?<=x)y", b"aay xy"),
    ],
)
def test_the_value_is_everything_up_to_the_end_of_the_match(
    accept: bytes | re.Pattern[bytes], wire: bytes
) -> None:
    check_reader(Regex(accept), wire, wire)


def test_the_match_is_searched_anywhere() -> None:
    buf = ReadBuffer(b"aab1!rest")
    assert Regex(rb"b\d!")(buf) == b"aab1!"
    assert bytes(buf) == b"rest"


def test_several_items_at_any_cut() -> None:
    check_cuts(Regex(rb"\r\n|;"), b"a;b\r\n;c;", [b"a;", b"b\r\n", b";", b"c;"])


def test_groups_gives_the_match() -> None:
    buf = ReadBuffer(b"key=value; rest")
    match = Regex(rb"(\w+)=(\w+);", groups=True)(buf)
    assert isinstance(match, re.Match)
    assert match.groups() == (b"key", b"value")
    assert match.string == b"key=value;"
    assert bytes(buf) == b" rest"


def test_a_match_that_leans_on_what_follows_keeps_its_groups() -> None:
    buf = ReadBuffer(b"ab")
    match = Regex(rb"(a)(?=b)", groups=True)(buf)
    assert isinstance(match, re.Match)
    assert match.group(1) == b"a"
    assert bytes(buf) == b"b"


def test_reject_refuses_and_consumes_nothing() -> None:
    reader = Regex(rb"^\d+\n", reject=rb"[^\d\n]")
    buf = ReadBuffer(b"12")
    assert reader(buf) is NEED_MORE
    buf.feed(b"x")
    for _ in range(2):
        with pytest.raises(BadMessage, match="reject pattern"):
            reader(buf)
        assert bytes(buf) == b"12x"
    buf.clear()
    buf.feed(b"34\n")
    assert reader(buf) == b"34\n"


def test_accept_comes_before_reject() -> None:
    assert Regex(rb"ok", reject=rb"no")(ReadBuffer(b"no ok")) == b"no ok"


def test_what_was_skipped_is_part_of_the_value_and_never_searched_again() -> None:
    # an accept that would match inside what was skipped, were it looked at together
    reader = Regex(rb"\r\n\r\n", skip=rb"^.*[^\r\n]")
    buf = ReadBuffer()
    seen = []
    for piece in (b"head", b"er\r\n", b"more\r\n", b"\r\nrest"):
        buf.feed(piece)
        seen.append(reader(buf))
    assert seen == [NEED_MORE, NEED_MORE, NEED_MORE, b"header\r\nmore\r\n\r\n"]
    assert bytes(buf) == b"rest"


def test_skip_moves_unconditionally() -> None:
    reader = Regex(rb"ab", skip=rb"a")
    buf = ReadBuffer(b"a")
    assert reader(buf) is NEED_MORE
    buf.feed(b"b")
    assert reader(buf) is NEED_MORE  # the a was skipped, so there is no ab
    buf.feed(b"ab")
    assert reader(buf) == b"abab"


def test_groups_with_skip() -> None:
    reader = Regex(rb"(\d)!", skip=rb"x+", groups=True)
    buf = ReadBuffer(b"xxx")
    assert reader(buf) is NEED_MORE
    buf.feed(b"7!rest")
    match = reader(buf)
    assert isinstance(match, re.Match)
    assert match.group(1) == b"7"
    assert match.string == b"xxx7!"


@pytest.mark.parametrize("name", ["accept", "reject", "skip"])
@pytest.mark.parametrize("pattern", ["text", 5, re.compile("text")])
def test_a_pattern_of_text_is_refused(name: str, pattern: object) -> None:
    arguments = {"accept": b"x", name: pattern}
    with pytest.raises(TypeError, match=f"expected {name} as bytes"):
        Regex(**arguments)  # type: ignore[call-overload]


def test_a_broken_pattern_is_refused_at_once() -> None:
    with pytest.raises(re.error):
        Regex(b"(")


@pytest.mark.parametrize("value", [b"no end", b"a;b;", b"x!", b""])
def test_what_would_not_read_back_is_not_written(value: bytes) -> None:
    frame = Regex(b";", reject=b"!")
    assert frame.encode(bytearray(b"one;")) == b"one;"
    with pytest.raises(ValueError, match="match"):
        frame.encode(value)
    with pytest.raises(TypeError):
        frame.encode("text;")  # type: ignore[arg-type]


def test_it_is_a_value() -> None:
    assert Regex(b"x") == Regex(b"x")
    assert Regex(b"x", b"y") != Regex(b"x")
    assert "accept=b'x'" in repr(Regex(b"x"))
