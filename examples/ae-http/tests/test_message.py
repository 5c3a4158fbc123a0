"""Heads and framing, from plain bytes: whole, cut at every position, and what must be refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_http import BadResponse, ConnectionLost, HttpError, ResponseTooLarge
from ae_http._headers import Headers
from ae_http._message import END, Head, ResponseReader, parse_fields

Outcome = list[object]


def read(
    wire: bytes, *cuts: int, methods: tuple[str, ...] = ("GET",), eof: bool = False
) -> Outcome:
    """Return what a reader makes of *wire*: (status, fields), joined payload, trailers, "end"."""
    reader = ResponseReader()
    for method in methods:
        reader.expect(method)
    outcome: Outcome = []
    edges = [0, *sorted(cuts), len(wire)]
    events = []
    for start, end in pairwise(edges):
        events += reader.feed(wire[start:end])
    if eof:
        events += reader.eof()
    for event in events:
        if isinstance(event, Head):
            outcome.append((event.status, event.headers.raw))
        elif isinstance(event, bytes):
            if outcome and isinstance(outcome[-1], bytes):
                outcome[-1] += event
            else:
                outcome.append(event)
        elif isinstance(event, Headers):
            outcome.append(event.raw)
        elif event is END:
            outcome.append("end")
        else:
            outcome.append(type(event))
    if reader.rest:
        outcome.append(("rest", reader.rest))
    return outcome


OK = b"HTTP/1.1 200 OK\r\n"
CASES = {
    "length": (
        OK + b"Content-Length: 5\r\n\r\nhello",
        [(200, [("Content-Length", "5")]), b"hello", "end"],
    ),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", [(200, [("Content-Length", "0")]), "end"]),
    "no-reason": (b"HTTP/1.1 204\r\n\r\n", [(204, []), "end"]),
    "empty-reason": (b"HTTP/1.1 204 \r\n\r\n", [(204, []), "end"]),
    "bare-lf": (
        b"HTTP/1.1 200 OK\nContent-Length:2\n\nhi",
        [(200, [("Content-Length", "2")]), b"hi", "end"],
    ),
    "blanks": (
        OK + b"A: \t b c \t\r\nContent-Length: 0\r\n\r\n",
        [(200, [("A", "b c"), ("Content-Length", "0")]), "end"],
    ),
    "fold": (
        OK + b"A: b\r\n  c\r\n\td\r\nContent-Length: 0\r\n\r\n",
        [(200, [("A", "b c d"), ("Content-Length", "0")]), "end"],
    ),
    "obs-text": (
        OK + b"A: \xe9\r\nContent-Length: 0\r\n\r\n",
        [(200, [("A", "é"), ("Content-Length", "0")]), "end"],
    ),
    "same-length-twice": (
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        [(200, [("Content-Length", "2")] * 2), b"hi", "end"],
    ),
    "length-list": (
        OK + b"Content-Length: 2, 2\r\n\r\nhi",
        [(200, [("Content-Length", "2, 2")]), b"hi", "end"],
    ),
    "chunked": (
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        + b'1;x="y"\r\n \r\n0A\r\n0123456789\r\n0\r\n\r\n',
        [(200, [("Transfer-Encoding", "chunked")]), b"hello 0123456789", "end"],
    ),
    "trailers": (
        OK + b"transfer-encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nMD: y\r\nB:\r\n\r\n",
        [(200, [("transfer-encoding", "Chunked")]), b"x", [("MD", "y"), ("B", "")], "end"],
    ),
    "interim": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\nx",
        [(200, [("Content-Length", "1")]), b"x", "end"],
    ),
    "not-modified": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        [(304, [("Content-Length", "99")]), "end"],
    ),
    "no-content": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        [(204, [("Transfer-Encoding", "chunked")]), "end"],
    ),
    "behind": (
        OK + b"Content-Length: 1\r\n\r\nxHTTP",
        [(200, [("Content-Length", "1")]), b"x", "end", ("rest", b"HTTP")],
    ),
    "bad-status": (b"HTTP/1.1 20 OK\r\n\r\n", [BadResponse]),
    "status-0": (b"HTTP/1.1 099 OK\r\n\r\n", [BadResponse]),
    "http-2": (b"HTTP/2.0 200 OK\r\n\r\n", [BadResponse]),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", [BadResponse]),
    "html": (b"<html>\r\n\r\n", [BadResponse]),
    "blank-before-colon": (OK + b"A : b\r\n\r\n", [BadResponse]),
    "no-colon": (OK + b"nonsense\r\n\r\n", [BadResponse]),
    "no-name": (OK + b": x\r\n\r\n", [BadResponse]),
    "nul": (OK + b"A: \0\r\n\r\n", [BadResponse]),
    "bare-cr": (OK + b"A: b\rC: d\r\n\r\n", [BadResponse]),
    "fold-first": (OK + b" A: b\r\n\r\n", [BadResponse]),
    "both": (
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [BadResponse],
    ),
    "two-lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", [BadResponse]),
    "list-of-lengths": (OK + b"Content-Length: 1, 2\r\n\r\nx", [BadResponse]),
    "negative": (OK + b"Content-Length: -1\r\n\r\n", [BadResponse]),
    "plus": (OK + b"Content-Length: +1\r\n\r\n", [BadResponse]),
    "hex": (OK + b"Content-Length: 0x1\r\n\r\n", [BadResponse]),
    "no-digits": (OK + b"Content-Length: \r\n\r\n", [BadResponse]),
    "superscript": (OK + b"Content-Length: \xb2\r\n\r\n", [BadResponse]),
    "huge": (OK + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n", [BadResponse]),
    "gzip-transfer": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", [BadResponse]),
    "unknown-transfer": (OK + b"Transfer-Encoding: xchunked\r\n\r\n", [BadResponse]),
    "chunked-twice": (
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        [BadResponse],
    ),
    "chunked-1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [BadResponse]),
    "switch-unasked": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", [BadResponse]),
}
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "no-size": b"x\r\n",
    "no-size-at-all": b"\r\n",
    "negative": b"-1\r\n",
    "0x": b"0x1\r\n",
    "bare-lf": b"1\nx\r\n",
    "too-long-size": b"1" * 17 + b"\r\n",
    "blank-first": b" 1\r\nx\r\n",
    "no-crlf-behind": b"1\r\nxy\r\n0\r\n\r\n",
    "lf-behind": b"1\r\nx\n0\r\n\r\n",
    "cr-in-extension": b"1;a\rb\r\nx\r\n",
    "bad-trailer": b"0\r\nno field\r\n\r\n",
}


@pytest.mark.parametrize("name", CASES)
def test_response_however_it_is_cut(name: str) -> None:
    wire, expected = CASES[name]
    assert read(wire) == expected
    assert read(wire, *range(1, len(wire))) == expected
    for cut in range(1, len(wire)):
        assert read(wire, cut) == expected, f"cut at {cut}"


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunk_is_refused_however_it_is_cut(name: str) -> None:
    wire = CHUNKED + BAD_CHUNKS[name]
    for cuts in ((), range(1, len(wire)), *((cut,) for cut in range(1, len(wire)))):
        assert read(wire, *cuts)[-1] is BadResponse, cuts


def test_response_to_head_has_no_body() -> None:
    wire = OK + b"Content-Length: 5\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx"
    assert read(wire, methods=("HEAD", "GET"))[1:] == [
        "end",
        (200, [("Content-Length", "1")]),
        b"x",
        "end",
    ]


def test_pipelined_responses_however_they_are_cut() -> None:
    wire = (
        OK
        + b"Content-Length: 1\r\n\r\na"
        + CHUNKED
        + b"1\r\nb\r\n0\r\n\r\n"
        + b"HTTP/1.1 304 x\r\n\r\n"
    )
    whole = read(wire, methods=("GET",) * 3)
    assert [each for each in whole if not isinstance(each, tuple)] == [
        b"a",
        "end",
        b"b",
        "end",
        "end",
    ]
    for cut in range(1, len(wire)):
        assert read(wire, cut, methods=("GET",) * 3) == whole


def test_body_until_the_end_of_the_connection() -> None:
    for start in (OK, b"HTTP/1.0 200 OK\r\n"):
        wire = start + b"A: b\r\n\r\nhello"
        for cut in range(1, len(wire)):
            assert read(wire, cut, eof=True) == [(200, [("A", "b")]), b"hello", "end"]


@pytest.mark.parametrize(
    "wire", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhell", CHUNKED + b"1\r\nx\r\n0\r\n"]
)
def test_early_end_is_an_error(wire: bytes) -> None:
    assert read(wire, eof=True)[-1] is ConnectionLost


def test_end_between_responses_is_none() -> None:
    reader = ResponseReader()
    assert reader.eof() == []


@pytest.mark.parametrize(
    ("wire", "keep_alive"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (OK + b"Content-Length: 0\r\nConnection: x, close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive, x\r\n\r\n", True),
        (OK + b"\r\nbody", False),
        (b"HTTP/1.9 200 OK\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
def test_keep_alive(wire: bytes, keep_alive: bool) -> None:
    reader = ResponseReader()
    reader.expect("GET")
    head = reader.feed(wire)[0]
    assert isinstance(head, Head)
    assert head.keep_alive is keep_alive


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
def test_switching_leaves_the_rest_alone(method: str) -> None:
    reader = ResponseReader()
    reader.expect(method, may_switch=method == "GET")
    status = b"200 ok" if method == "CONNECT" else b"101 ok"
    events = reader.feed(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n\x16\x03")
    assert events[1:] == [END]
    assert reader.switched
    assert reader.rest == b"\x16\x03"


def test_refused_tunnel_has_a_body() -> None:
    assert read(b"HTTP/1.1 407 no\r\nContent-Length: 2\r\n\r\nno", methods=("CONNECT",))[1:] == [
        b"no",
        "end",
    ]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_endless_head_is_refused_at_the_limit(step: int) -> None:
    reader = ResponseReader(1000)
    reader.expect("GET")
    wire = OK + b"A: " + b"x" * 2000
    for start in range(0, len(wire), step):
        events = reader.feed(wire[start : start + step])
        if events:
            assert isinstance(events[0], ResponseTooLarge)
            assert start <= 1000 + step
            return
    pytest.fail("it was not refused")


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"A: " + b"x" * 2000 + b"\r\n\r\n",
        CHUNKED + b"0\r\n" + b"A: b\r\n" * 400 + b"\r\n",
        CHUNKED + b"1;" + b"x" * 5000 + b"\r\nx",
    ],
    ids=["head", "trailers", "extension"],
)
def test_long_lines_are_refused(wire: bytes) -> None:
    for step in (1, 100, 100_000):
        reader = ResponseReader(1000)
        reader.expect("GET")
        events = [e for i in range(0, len(wire), step) for e in reader.feed(wire[i : i + step])]
        assert isinstance(events[-1], ResponseTooLarge)


def test_endless_interim_responses_are_refused() -> None:
    assert read(b"HTTP/1.1 103 x\r\n\r\n" * 33) == [BadResponse]


def test_nothing_follows_an_error() -> None:
    reader = ResponseReader()
    reader.expect("GET")
    assert len(reader.feed(b"nonsense\r\n\r\n" + OK)) == 1
    assert reader.feed(OK + b"Content-Length: 0\r\n\r\n") == []
    assert reader.eof() == []


def test_bad_trailer_field_is_refused() -> None:
    with pytest.raises(BadResponse, match="header field"):
        parse_fields(b"A: b\r\nno field\r\n")


TOKEN = st.text("abcXYZ09!#$%&'*+.^_`|~-", min_size=1, max_size=12)
LATIN = st.characters(codec="latin-1", exclude_characters=[*map(chr, range(32)), "\x7f"])
VALUE = st.text(LATIN, max_size=20).map(str.strip)
FIELDS = st.lists(
    st.tuples(TOKEN, VALUE.filter(lambda value: value == value.strip(" \t\r\n\xa0\x85"))),
    max_size=5,
).filter(
    lambda fields: (
        not {name.lower() for name, _ in fields}
        & {"content-length", "transfer-encoding", "connection"}
    )
)


@given(
    fields=FIELDS,
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    chunked=st.booleans(),
    trailers=FIELDS,
    data=st.data(),
)
def test_what_was_written_is_read_however_it_is_cut(
    fields: list[tuple[str, str]],
    pieces: list[bytes],
    chunked: bool,
    trailers: list[tuple[str, str]],
    data: st.DataObject,
) -> None:
    body = b"".join(pieces)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    lines = [f"{name}: {value}\r\n" for name, value in [*fields, framing]]
    wire = OK + "".join(lines).encode("latin-1") + b"\r\n"
    if chunked:
        wire += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n"
        wire += (
            "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1") + b"\r\n"
        )
    else:
        wire += body
    expected: Outcome = [(200, [*fields, framing])]
    if body:
        expected.append(body)
    if chunked and trailers:
        expected.append(trailers)
    expected.append("end")
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    assert read(wire, *cuts) == expected


@given(wire=st.binary(max_size=300), cut=st.integers(0, 300))
def test_garbage_gives_an_outcome_and_no_exception(wire: bytes, cut: int) -> None:
    for start in (b"", b"HTTP/1.1 ", OK, CHUNKED):
        outcome = read(start + wire, min(cut, len(wire)), eof=True)
        assert outcome
        assert outcome[-1] == "end" or isinstance(outcome[-1], (type, tuple))
        if isinstance(outcome[-1], type):
            assert issubclass(outcome[-1], HttpError)
