"""How long a match can be, which decides where a search goes on."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import ReadBuffer
from ae_handle._buffers.match_length import longest_match


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        pytest.param(rb"\r\n", 2, id="fixed"),
        pytest.param(rb"\r?\n", 2, id="optional"),
        pytest.param(rb"a|bcd", 3, id="the-longest-branch"),
        pytest.param(rb"(?:ab){2,4}", 8, id="counted"),
        pytest.param(rb"[0-9]{1,65535}", 65535, id="the-greatest"),
        pytest.param(rb"(?i:(a)(b))", 2, id="groups"),
        pytest.param(rb"[0-9]{1,65536}", None, id="too-long-to-matter"),
        pytest.param(rb"a+", None, id="plus"),
        pytest.param(rb"a*?b", None, id="star"),
        pytest.param(rb"a$", None, id="end"),
        pytest.param(rb"^a", None, id="begin"),
        pytest.param(rb"a\b", None, id="word-boundary"),
        pytest.param(rb"a(?=b)", None, id="look-ahead"),
        pytest.param(rb"a(?!b)", None, id="negative-look-ahead"),
        pytest.param(rb"(?<=b)a", None, id="look-behind"),
        pytest.param(rb"(a|b)\1", None, id="reference"),
        pytest.param(rb"(a)?(?(1)b|c)", None, id="condition"),
        pytest.param(rb"x(?:y|(?:z(?:$)))", None, id="deep-inside"),
    ],
)
def test_longest(pattern: bytes, longest: int | None) -> None:
    assert longest_match(re.compile(pattern)) == longest


def test_another_engine_has_a_language_of_its_own() -> None:
    class Engine:
        pattern = b"a"

        def search(self, data: bytes, pos: int, /) -> None:
            return None

    assert longest_match(Engine()) is None


def test_without_the_parser_every_pattern_counts_as_unbounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pattern = re.compile(rb"abc(?#once)")
    monkeypatch.setitem(sys.modules, "re._parser", SimpleNamespace())
    longest_match.cache_clear()
    assert longest_match(pattern) is None
    longest_match.cache_clear()


@given(
    pattern=st.sampled_from([rb"\r?\n", rb"a{2,3}b", rb"ab|bcd", rb"a$", rb"b(?!c)", rb"(a)\1b"]),
    pieces=st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"\r", b"\n", b"ab"]), max_size=12),
)
def test_a_search_that_goes_on_finds_what_one_from_the_front_finds(
    pattern: bytes, pieces: list[bytes]
) -> None:
    compiled = re.compile(pattern)
    buf = ReadBuffer()
    data = b""
    for piece in pieces:
        buf.feed(piece)
        data += piece
        match, expected = buf.search(compiled), compiled.search(data)
        assert (match and match.span()) == (expected and expected.span())
        if expected:
            break
