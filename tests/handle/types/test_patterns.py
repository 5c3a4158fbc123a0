"""Patterns of users: matches over exactly what was consumed, and other engines than ``re``."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from ae_handle import NEED_MORE, BadMessage, Handle, Line, ReadBuffer, Regex
from ae_handle.testing import check_reader, memory_pair


def test_the_string_of_a_match_is_what_was_consumed_with_what_was_skipped() -> None:
    for accept in (rb"\A(\w+);", rb"^(\w+);", rb"(\w+);"):
        buf = ReadBuffer(b"head,na")
        reader = Regex(accept, None, rb",", groups=True)
        assert reader(buf) is NEED_MORE
        buf.feed(b"me;rest")
        match = reader(buf)
        assert match is not NEED_MORE
        assert match.string == b"head,name;"
        assert (match.group(1), match.span(), match.span(1)) == (b"name", (5, 10), (5, 9))
        assert bytes(buf) == b"rest"


CONTEXT = [
    (rb"GET(?= )", b"GET /the rest", b"GET"),
    (rb"(?P<verb>[A-Z]+)(?= )", b"GET /the rest", b"GET"),
    (rb"(\w+)\b", b"word next", b"word"),
    (rb"(a(b)?)+$", b"abab", b"abab"),
    (rb"(\w+)\Z", b"word", b"word"),
    (rb"^(?P<key>\w+)=(?P<value>\w*?)(?=;)", b"k=value;", b"k=value"),
    (rb"(?<=(x))y(z)(?!z)", b"wxyz", b"wxyz"),
    (rb"(?:(a)|(b))+?(?=c)", b"abc", b"ab"),
    (rb"(a|ab)(c|bcd)?(d*)(?=e)", b"abcde", b"abcd"),
]


@pytest.mark.parametrize(("pattern", "data", "consumed"), CONTEXT)
@pytest.mark.parametrize("before", [b"", b"--,"])
def test_groups_and_spans_are_right_where_the_pattern_leans_on_what_is_around(
    pattern: bytes, data: bytes, consumed: bytes, before: bytes
) -> None:
    expected = re.search(pattern, data)
    assert expected is not None
    buf = ReadBuffer(before)
    reader = Regex(pattern, None, rb"," if before else None, groups=True)
    if before:
        assert reader(buf) is NEED_MORE
    buf.feed(data)
    match = reader(buf)
    assert match is not NEED_MORE
    assert match.string == before + consumed
    assert bytes(buf) == data[len(consumed) :]
    assert match.groups() == expected.groups()
    assert match.groupdict() == expected.groupdict()
    at = len(before)
    for number in range(len(expected.groups()) + 1):
        first, last = expected.span(number)
        assert match.span(number) == ((first + at, last + at) if first >= 0 else (-1, -1))


def test_a_group_behind_the_end_matches_nothing() -> None:
    buf = ReadBuffer(b"size 12\n")
    match = Regex(rb"size(?= (\d+))", groups=True)(buf)
    assert match is not NEED_MORE
    assert (match.string, match.group(1)) == (b"size", None)


def test_a_group_in_what_was_skipped_is_where_it_was() -> None:
    buf = ReadBuffer(b"--,")
    reader = Regex(rb"(?<=(,))(\w+)(?= )", None, rb"-", groups=True)
    assert reader(buf) is NEED_MORE
    buf.feed(b"word next")
    match = reader(buf)
    assert match is not NEED_MORE
    assert match.string == b"--,word"
    assert (match.group(), match.span(1), match.span(2)) == (b"word", (2, 3), (3, 7))


# ---------------------------------------------------------------------- other engines


class Shifting:
    """The least that a pattern can be: one octet, found by ``search(data, pos)``."""

    def __init__(self, octet: bytes) -> None:
        self.octet = octet
        self.asked = 0

    def search(self, data: bytes, pos: int) -> Any:
        assert isinstance(data, bytes)
        self.asked += 1
        return re.compile(re.escape(self.octet)).search(data, pos)


def test_any_object_with_search_is_a_pattern() -> None:
    check_reader(Regex(Shifting(b";")), b"a=1;", b"a=1;")
    check_reader(Line(Shifting(b";")), b"a=1;", b"a=1")
    with pytest.raises(BadMessage, match="reject pattern <"):
        Regex(b"x", Shifting(b"!"))(ReadBuffer(b"no!"))
    match = Regex(Shifting(b";"), groups=True)(ReadBuffer(b"a;b"))
    assert match is not NEED_MORE
    assert match.string == b"a;"


@pytest.mark.parametrize("wrong", [re.compile("text"), Shifting, 5, "text", object()])
def test_what_is_no_pattern_is_refused_at_once(wrong: Any) -> None:
    for reader in (Regex, Line):
        with pytest.raises(TypeError, match="as bytes or a compiled pattern of bytes"):
            reader(wrong)


def test_an_octet_by_octet_search_of_another_engine_finds_the_same() -> None:
    re2 = pytest.importorskip("re2", reason="needs google-re2 (ae-handle[re2])")
    check_reader(Line(re2.compile(rb"\r?\n")), b"PING\r\n", b"PING")
    check_reader(Regex(re2.compile(rb"[a-z]+\n")), b"12ab\n", b"12ab\n")
    reader = Regex(re2.compile(rb"^(\w+);"), None, re2.compile(rb","), groups=True)
    buf = ReadBuffer(b"head,na")
    assert reader(buf) is NEED_MORE
    buf.feed(b"me;rest")
    match = reader(buf)
    assert match is not NEED_MORE
    assert (match.string, match.group(1), match.span(1)) == (b"head,name;", b"name", (5, 9))
    with pytest.raises(BadMessage):
        Regex(re2.compile(rb"\n"), re2.compile(rb"\x00"))(ReadBuffer(b"a\0b"))


def test_a_handle_reads_with_patterns_of_another_engine(turns: Any, trace: Any) -> None:
    re2 = pytest.importorskip("re2", reason="needs google-re2 (ae-handle[re2])")
    ours, peer = memory_pair(piece=1)
    h = Handle(ours)
    h.push_read(Line(re2.compile(rb"[;\n]")), lambda h, line: trace(line))
    h.push_read(Regex(re2.compile(rb"(?i)end")), lambda h, data: trace(data))
    peer.send(b"one;two END")
    turns(30)
    assert trace == [b"one", b"two END"]
    h.destroy()


def test_a_linear_engine_is_linear_where_the_usual_one_is_not() -> None:
    """One read of n octets without the newline that [a-z]+\\n wants: 2 n take twice as long."""
    re2 = pytest.importorskip("re2", reason="needs google-re2 (ae-handle[re2])")

    def cost(pattern: Any, size: int) -> float:
        reader = Regex(pattern)
        best = float("inf")
        for _ in range(3):
            buf = ReadBuffer(b"x" * size)
            started = time.process_time()
            assert reader(buf) is NEED_MORE
            best = min(best, time.process_time() - started)
        return best

    small, large = (cost(re2.compile(rb"[a-z]+\n"), size) for size in (1 << 20, 1 << 22))
    assert large < 16 * small + 0.01  # 4 times the input; the usual engine would take 16
    assert cost(re2.compile(rb"[a-z]+\n"), 32_000) < cost(re.compile(rb"[a-z]+\n"), 32_000)
