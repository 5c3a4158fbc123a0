"""The ``line`` frame type."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import NEED_MORE, Line, ReadBuffer
from ae_handle.testing import check_cuts, check_reader


@pytest.mark.parametrize(
    ("eol", "wire", "expected"),
    [
        pytest.param(None, b"PING\n", b"PING", id="lf"),
        pytest.param(None, b"PING\r\n", b"PING", id="crlf"),
        pytest.param(None, b"\n", b"", id="empty-line"),
        pytest.param(None, b"\r\n", b"", id="empty-crlf-line"),
        pytest.param(None, b"a\rb\rc\r\r\n", b"a\rb\rc\r", id="lone-cr-is-data"),
        pytest.param(b"\0", b"a\nb\0", b"a\nb", id="custom-eol"),
        pytest.param(b"\r\n", b"a\rb\r\n", b"a\rb", id="lone-cr-before-custom-eol"),
        pytest.param(re.compile(rb",;"), b"a,b,;", b"a,b", id="pattern"),
        pytest.param(re.compile(rb"\r?\n\r?\n"), b"a\r\nb\n\n", b"a\r\nb", id="blank-line"),
    ],
)
def test_line(eol: bytes | re.Pattern[bytes] | None, wire: bytes, expected: bytes) -> None:
    check_reader(Line(eol), wire, expected)


def test_line_does_not_rescan() -> None:
    buf = ReadBuffer(b"x" * 1000)
    assert Line()(buf) is NEED_MORE
    assert buf.searched == 1000


def test_several_lines_at_any_cut() -> None:
    check_cuts(Line(), b"a\r\n\nbc\r\nd\n", [b"a", b"", b"bc", b"d"])


def test_an_empty_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="eol must not be empty"):
        Line(b"")


@pytest.mark.parametrize("eol", ["\n", 10, re.compile("x"), [b"\n"]])
def test_a_marker_that_is_not_octets_is_refused(eol: object) -> None:
    with pytest.raises(TypeError, match="as bytes or a compiled pattern"):
        Line(eol)  # type: ignore[arg-type]


@given(st.binary().filter(lambda line: b"\n" not in line))
def test_any_line_reads_back(line: bytes) -> None:
    check_reader(Line(), Line().encode(line), line)


@given(eol=st.binary(min_size=1, max_size=3), line=st.binary(max_size=20))
def test_a_line_reads_back_or_is_refused(eol: bytes, line: bytes) -> None:
    try:
        wire = Line(eol).encode(line)
    except ValueError:
        assert Line(eol)(ReadBuffer(line + eol)) != line
    else:
        check_reader(Line(eol), wire, line)


@pytest.mark.parametrize(
    ("frame", "value", "error"),
    [
        (Line(), "text", TypeError),
        (Line(), 7, TypeError),
        (Line(), b"a\nb", ValueError),
        (Line(b"||"), b"a|", ValueError),
        (Line(re.compile(b"x")), b"a", TypeError),
    ],
)
def test_what_is_no_line_is_not_written(frame: Line, value: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        frame.encode(value)


def test_it_is_a_value() -> None:
    assert Line() == Line()
    assert Line(b";") != Line()
    assert hash(Line(b";")) == hash(Line(b";"))
    assert repr(Line(b";")) == "Line(eol=b';')"
    assert pickle.loads(pickle.dumps(Line(b";"))) == Line(b";")
    with pytest.raises(AttributeError, match="cannot be changed"):
        Line().eol = b"x"
    with pytest.raises(AttributeError, match="cannot be changed"):
        del Line().eol
