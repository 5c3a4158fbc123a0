"""The parser: every type, every cut, and every way in which a server can be wrong."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_redis import Parser, Push, ReplyError


def parse(wire: bytes, **options: Any) -> tuple[list[Any], str | None]:
    parser = Parser(**options)
    replies = parser.feed(wire)
    return replies, None if parser.error is None else str(parser.error)


def parse_in_pieces(wire: bytes, size: int, **options: Any) -> tuple[list[Any], str | None]:
    parser = Parser(**options)
    replies = []
    for start in range(0, len(wire), size):
        replies += parser.feed(wire[start : start + size])
    return replies, None if parser.error is None else str(parser.error)


def check(wire: bytes, expected: list[Any]) -> None:
    """Assert that *wire* gives *expected* however the network cuts it up."""
    assert parse(wire) == (expected, None)
    for size in (1, 2, 3, 7):
        assert parse_in_pieces(wire, size) == (expected, None)
    for cut in range(len(wire)):
        parser = Parser()
        assert parser.feed(wire[:cut]) + parser.feed(wire[cut:]) == expected


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        pytest.param(b"+OK\r\n", b"OK", id="simple"),
        pytest.param(b"+\r\n", b"", id="simple-empty"),
        pytest.param(b"+a\nb\rc\r\n", b"a\nb\rc", id="simple-with-lone-cr-and-lf"),
        pytest.param(b"-ERR no\r\n", ReplyError("ERR no"), id="error"),
        pytest.param(b":0\r\n", 0, id="zero"),
        pytest.param(b":+7\r\n", 7, id="plus"),
        pytest.param(b":-9223372036854775808\r\n", -(2**63), id="least"),
        pytest.param(b":9223372036854775807\r\n", 2**63 - 1, id="most"),
        pytest.param(b"$3\r\nfoo\r\n", b"foo", id="string"),
        pytest.param(b"$0\r\n\r\n", b"", id="string-empty"),
        pytest.param(b"$-1\r\n", None, id="null-string"),
        pytest.param(b"$2\r\n\r\n\r\n", b"\r\n", id="string-of-crlf"),
        pytest.param(b"$5\r\na\r\nb\r\r\n", b"a\r\nb\r", id="string-ends-with-cr"),
        pytest.param(b"$7\r\n$1\r\nx\r\n\r\n", b"$1\r\nx\r\n", id="string-like-a-reply"),
        pytest.param(b"$1030\r\n" + b"x\r\n\0\n" * 206 + b"\r\n", b"x\r\n\0\n" * 206, id="long"),
        pytest.param(b"*0\r\n", [], id="array-empty"),
        pytest.param(b"*-1\r\n", None, id="null-array"),
        pytest.param(b"*2\r\n$1\r\na\r\n$2\r\nbc\r\n", [b"a", b"bc"], id="array-of-strings"),
        pytest.param(b"*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n", [b"a", b"\r\n"], id="array-with-crlf"),
        pytest.param(b"*2\r\n$-1\r\n:1\r\n", [None, 1], id="array-with-null"),
        pytest.param(
            b"*3\r\n*2\r\n:1\r\n*0\r\n*1\r\n$1\r\na\r\n-ERR x\r\n",
            [[1, []], [b"a"], ReplyError("ERR x")],
            id="arrays-in-arrays",
        ),
        pytest.param(b"_\r\n", None, id="null"),
        pytest.param(b"#t\r\n", True, id="true"),
        pytest.param(b"#f\r\n", False, id="false"),
        pytest.param(b",1.5e3\r\n", 1500.0, id="double"),
        pytest.param(b",-inf\r\n", -math.inf, id="infinity"),
        pytest.param(b"(" + b"9" * 100 + b"\r\n", int("9" * 100), id="big-number"),
        pytest.param(b"!5\r\nERR x\r\n", ReplyError("ERR x"), id="long-error"),
        pytest.param(b"=8\r\ntxt:a\r\nb\r\n", b"a\r\nb", id="verbatim"),
        pytest.param(b"%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n", {b"a": 1, b"b": []}, id="map"),
        pytest.param(b"%0\r\n", {}, id="map-empty"),
        pytest.param(
            b"%5\r\n:1\r\n_\r\n,1.5\r\n:2\r\n_\r\n:3\r\n#f\r\n:4\r\n(-7\r\n:5\r\n",
            {1: None, 1.5: 2, None: 3, False: 4, -7: 5},
            id="map-with-odd-keys",
        ),
        pytest.param(b"~2\r\n+a\r\n+b\r\n", {b"a", b"b"}, id="set"),
        pytest.param(b"~4\r\n:1\r\n,0.5\r\n#f\r\n_\r\n", {1, 0.5, False, None}, id="odd-set"),
        pytest.param(b">2\r\n+message\r\n$1\r\nx\r\n", [b"message", b"x"], id="push"),
        pytest.param(b"|1\r\n+ttl\r\n:5\r\n+OK\r\n", b"OK", id="attribute"),
        pytest.param(b"|0\r\n+OK\r\n", b"OK", id="attribute-empty"),
        pytest.param(b"*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:2\r\n:3\r\n", [2, 3], id="attribute-within"),
    ],
)
def test_every_type_at_every_cut(wire: bytes, value: Any) -> None:
    check(wire, [value])
    check(wire * 2 + b"+next\r\n", [value, value, b"next"])
    nested = b"*2\r\n" + wire + b":1\r\n"
    if not wire.startswith(b">"):
        check(nested, [[value, 1]])


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (b"*0\r\n", "list"),
        (b"*1\r\n:1\r\n", "list"),
        (b"%0\r\n", "dict"),
        (b"~1\r\n:1\r\n", "set"),
        (b"-ERR x\r\n", "ReplyError"),
        (b"!5\r\nERR x\r\n", "ReplyError"),
        (b"(36893488147419103231\r\n", "more than 64 bits"),
        (b"(-" + b"9" * 100 + b"\r\n", "more than 64 bits"),
    ],
)
def test_nothing_else_is_a_key_or_a_member(key: bytes, what: str) -> None:
    for wire in (b"%1\r\n" + key + b":1\r\n", b"~1\r\n" + key, b"*1\r\n~2\r\n:1\r\n" + key):
        for replies, error in (parse(b"+OK\r\n" + wire), parse_in_pieces(b"+OK\r\n" + wire, 1)):
            assert replies == [b"OK"]
            assert error is not None
            assert what in error
    assert parse(b"%1\r\n:1\r\n" + key)[1] is None


def test_an_attribute_may_say_anything() -> None:
    assert parse(b"|1\r\n*0\r\n*0\r\n+OK\r\n") == ([b"OK"], None)


def test_numbers_that_are_slow_in_a_dict_are_refused(slow_keys: Callable[[int], list[int]]) -> None:
    keys = slow_keys(4000)
    as_map = b"%%%d\r\n" % len(keys) + b"".join(b":%d\r\n:0\r\n" % key for key in keys)
    as_set = b"~%d\r\n" % len(keys) + b"".join(b",%d\r\n" % key for key in keys)
    for wire in (as_map, as_set):
        replies, error = parse(wire)
        assert replies == []
        assert "that collide" in str(error)
    honest = b"~5000\r\n" + b"".join(b":%d\r\n" % (key << 32) for key in range(5000))
    assert len(parse(honest)[0][0]) == 5000


def test_an_error_shows_what_is_not_printable_as_escapes() -> None:
    (error, nested), _ = parse("-ERR x\x1b[2J\ry\x00\u202e\r\n*1\r\n!4\r\nA\n\tB\r\n".encode())
    assert str(error) == r"ERR x\x1b[2J\ry\x00\u202e"
    assert error.code == "ERR"
    assert str(nested[0]) == r"A\n\tB"


def big(count: int) -> bytes:
    return b"".join(b"(%d\r\n:0\r\n" % ((2**61 - 1) * (2**70 + i)) for i in range(count))


def small(count: int) -> bytes:
    return b"".join(b":%07d\r\n" % i for i in range(count))


def array(count: int, item: bytes) -> bytes:
    return b"*%d\r\n" % count + item * count


# what a server sends, of about the given size
COSTS: dict[str, Callable[[int], bytes]] = {
    "map-of-strings": lambda n: b"%%%d\r\n" % (n // 12) + b"$2\r\nab\r\n:1\r\n" * (n // 12),
    "map-of-big-numbers": lambda n: b"%%%d\r\n" % (n // 50) + big(n // 50),
    "set-of-numbers": lambda n: b"~%d\r\n" % (n // 10) + small(n // 10),
    "strings": lambda n: b"$1\r\na\r\n" * (n // 7),
    "string": lambda n: b"$%d\r\n" % n + b"x" * n + b"\r\n",
    "string-of-crlf": lambda n: b"$%d\r\n" % (2 * (n // 2)) + b"\r\n" * (n // 2) + b"\r\n",
    "string-of-cr": lambda n: b"$%d\r\n" % n + b"\r" * n + b"\r\n",
    "strings-of-crlf": lambda n: b"$4\r\n\r\n\r\n\r\n" * (n // 10),
    "line": lambda n: b"+" + b"x" * n,
    "lines": lambda n: b"+\r\n" * (n // 3),
    "errors": lambda n: b"-\x1b\r\n" * (n // 4),
    "big-numbers": lambda n: array(n // 1004, b"(" + b"9" * 1001 + b"\r\n"),
    "doubles": lambda n: array(n // 1004, b",0." + b"9" * 999 + b"\r\n"),
    "array": lambda n: b"*%d\r\n" % (n // 4) + b":1\r\n" * (n // 4),
    "almost-flat": lambda n: b"*%d\r\n" % (n // 7) + b"$1\r\na\r\n" * (n // 7 - 1) + b":1\r\n",
    "nested": lambda n: (b"*1\r\n" * 31 + b"*0\r\n") * (n // 128),
    "nested-flat": lambda n: (b"*2\r\n$1\r\na\r\n" * 31 + b":1\r\n") * (n // 345),
    "too-deep": lambda n: b"*1\r\n" * (n // 4),
    "announced": lambda n: b"*%d\r\n" % (2**22) + b":1\r\n" * (n // 4),
    "attributes": lambda n: b"|1\r\n+a\r\n+b\r\n" * (n // 12) + b"+OK\r\n",
    "pushes": lambda n: b">1\r\n+a\r\n" * (n // 8),
    "empty-arrays": lambda n: b"*%d\r\n" % (n // 4) + b"*0\r\n" * (n // 4),
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 1460, 1 << 30], ids=["trickle", "packets", "whole"])
@pytest.mark.parametrize("name", COSTS)
def test_reading_takes_linear_time(name: str, step: int, doubling: Any) -> None:
    def prepare(size: int) -> Callable[[], object]:
        wire = COSTS[name](size)

        def work() -> None:
            parser = Parser()
            for start in range(0, len(wire), step):
                parser.feed(wire[start : start + step])

        return work

    doubling(
        prepare, {1: 1 << 15, 1460: 1 << 19}.get(step, 1 << 24 if name == LARGEST else 1 << 20)
    )


LARGEST = "map-of-strings"


def test_keys_on_one_path(doubling: Any, slow_keys: Callable[[int], list[int]]) -> None:
    def prepare(size: int) -> Callable[[], object]:
        keys = slow_keys(size // 12)
        wire = b"%%%d\r\n" % len(keys) + b"".join(b":%d\r\n:0\r\n" % key for key in keys)
        return lambda: Parser().feed(wire)

    doubling(prepare, 1 << 18)


def test_not_a_number_is_a_double() -> None:
    (value,), error = parse(b",nan\r\n")
    assert math.isnan(value)
    assert error is None


def test_a_push_is_told_from_an_array() -> None:
    parser = Parser()
    values = parser.feed(b"+a\r\n>1\r\n+x\r\n*1\r\n+x\r\n")
    assert [type(value) for value in values] == [bytes, Push, list]
    assert parser.pushed
    parser.feed(b"+b\r\n")
    assert not parser.pushed


def test_an_error_reply_has_a_code() -> None:
    (error,), _ = parse(b"-WRONGTYPE Operation against a key\r\n")
    assert (error.code, str(error)) == ("WRONGTYPE", "WRONGTYPE Operation against a key")


# ---------------------------------------------------------------------- any value, any cut

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=40),
    st.sampled_from([b"\r\n", b"\r", b"\n", b"$3\r\n", b"x" * 1024, b"\r\n" * 600]),
    st.text("abc ", max_size=5).map(lambda text: ReplyError("ERR " + text)),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.binary(max_size=4), inner, max_size=4),
        st.sets(st.binary(max_size=4), max_size=4),
    ),
    max_leaves=20,
)


def written(value: Any) -> bytes:
    """Return *value* as a server would send it."""
    match value:
        case None:
            return b"_\r\n"
        case bool():
            return b"#t\r\n" if value else b"#f\r\n"
        case int():
            return b":%d\r\n" % value
        case float():
            return b",%b\r\n" % repr(value).encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case ReplyError():
            return b"-%b\r\n" % str(value).encode()
        case dict():
            parts = [written(each) for pair in value.items() for each in pair]
            return b"%%%d\r\n" % len(value) + b"".join(parts)
        case set():
            return b"~%d\r\n" % len(value) + b"".join(map(written, value))
    return b"*%d\r\n" % len(value) + b"".join(map(written, value))


@given(st.lists(values, max_size=4), st.data())
def test_whatever_is_written_is_read_however_it_is_cut(replies: list[Any], data: Any) -> None:
    wire = b"".join(map(written, replies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    parser = Parser()
    got: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += parser.feed(wire[start:end])
    assert got == replies
    assert parser.error is None


@given(st.binary(max_size=60) | st.text("*$+-:_#,(!=%~>|0123\r\n", max_size=60).map(str.encode))
def test_garbage_is_refused_the_same_however_it_is_cut(wire: bytes) -> None:
    whole, error = parse(wire)
    trickled, same = parse_in_pieces(wire, 1)
    assert repr(trickled) == repr(whole)  # nan is not itself
    assert (same is None) == (error is None)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        pytest.param(
            b"HTTP/1.1 400 Bad Request\r\n", "expected a reply, got b'HTTP/1.1", id="http"
        ),
        pytest.param(b"\r\n", "expected a reply, got b''", id="empty-line"),
        pytest.param(b":1_0\r\n", "expected a number", id="number-with-underscore"),
        pytest.param(b":\r\n", "expected a number", id="number-empty"),
        pytest.param(b":99999999999999999999\r\n", "expected a number", id="number-too-long"),
        pytest.param(b":--1\r\n", "expected a number", id="number-with-two-signs"),
        pytest.param(b"(" + b"9" * 5000 + b"\r\n", "expected a number", id="big-number-too-big"),
        pytest.param(b",1_0\r\n", "expected a number", id="double-with-underscore"),
        pytest.param(b",\r\n", "expected a number", id="double-empty"),
        pytest.param(b",e\r\n", "expected a number", id="double-without-digits"),
        pytest.param(b"#x\r\n", "expected a reply", id="boolean"),
        pytest.param(b"_x\r\n", "expected a reply", id="null"),
        pytest.param(b"$x\r\n", "expected a length", id="length"),
        pytest.param(b"$-2\r\n", "expected a length", id="length-negative"),
        pytest.param(b"%-1\r\n", "expected a length", id="map-negative"),
        pytest.param(b"=-1\r\n", "expected a length", id="verbatim-negative"),
        pytest.param(b"$?\r\n", "streamed", id="streamed-string"),
        pytest.param(b"*?\r\n", "streamed", id="streamed-array"),
        pytest.param(b"$3\r\nfooo\r\n", "longer than that", id="string-too-long"),
        pytest.param(b"$3\r\nfo\r\no\r\n", "longer than that", id="string-too-short"),
        pytest.param(b"$2000\r\n" + b"x" * 2000 + b"xx", "longer than that", id="long-string"),
        pytest.param(b"=2\r\nab\r\n", "without a format", id="verbatim-without-format"),
        pytest.param(b">0\r\n", "empty push", id="push-empty"),
        pytest.param(b"*1\r\n>1\r\n+x\r\n", "push inside a reply", id="push-within"),
        pytest.param(b"*1\r\n" * 33, "nested deeper than 32", id="deep"),
        pytest.param(
            b"*1\r\n" * 32 + b"*1\r\n$1\r\nx\r\n", "nested deeper than 32", id="deep-flat"
        ),
    ],
)
def test_nonsense_is_refused_and_what_came_before_is_given_out(wire: bytes, why: str) -> None:
    for replies, error in (parse(b"+OK\r\n" + wire), parse_in_pieces(b"+OK\r\n" + wire, 1)):
        assert replies == [b"OK"]
        assert error is not None
        assert why in error


def test_nothing_is_parsed_after_nonsense() -> None:
    parser = Parser()
    assert parser.feed(b"?\r\n+OK\r\n") == []
    error = parser.error
    assert error is not None
    assert parser.feed(b"+OK\r\n") == []
    assert parser.error is error


def test_32_levels_are_not_too_deep() -> None:
    (value,), error = parse(b"*1\r\n" * 32 + b":1\r\n")
    assert error is None
    for _ in range(32):
        (value,) = value
    assert value == 1


@pytest.mark.parametrize(
    "head", [b"+", b"-", b":", b"$", b"*", b"("], ids=lambda head: head.decode()
)
def test_a_line_has_a_limit(head: bytes) -> None:
    for size in (1000, 100_000):
        _, error = parse_in_pieces(head + b"1" * 200_000, size)
        assert error is not None
    _, error = parse(head + b"1" * 70_000 + b"\r\n")
    assert error is not None


def test_a_string_longer_than_the_limit_is_refused_before_it_comes() -> None:
    assert parse(b"$1000000\r\n", max_reply=999_999)[1] is not None
    assert parse(b"$999999\r\n", max_reply=999_999)[1] is None


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"*999999999999999\r\n", id="announced"),
        pytest.param(b"*1000\r\n" + (b"$1000\r\n" + b"x" * 1000 + b"\r\n") * 1000, id="strings"),
        pytest.param(b"*1000\r\n" + (b"+" + b"x" * 1000 + b"\r\n") * 1000, id="lines"),
        pytest.param(b"*30000\r\n" + b"*0\r\n" * 30_000, id="many-small"),
        pytest.param(b"*1\r\n" + b"|1000\r\n" * 20, id="attributes"),
    ],
)
def test_a_reply_larger_than_the_limit_is_refused(wire: bytes) -> None:
    for size in (len(wire), 1000):
        replies, error = parse_in_pieces(wire, size, max_reply=500_000)
        assert replies == []
        assert error is not None
        assert "max_reply" in error


def test_the_limit_is_for_one_reply_not_for_all() -> None:
    wire = b"*100\r\n" + (b"$1000\r\n" + b"x" * 1000 + b"\r\n") * 100
    replies, error = parse(wire * 10, max_reply=200_000)
    assert len(replies) == 10
    assert error is None


def test_an_endless_stream_of_anything_does_not_grow_the_memory() -> None:
    streams = (
        b"x",
        b"+" + b"x" * 100,
        b"*1\r\n",
        b"*9\r\n:1\r\n",
        b"~0\r\n*1\r\n",
        b"|1\r\n+a\r\n:1\r\n",
    )
    for wire in streams:
        parser = Parser(max_reply=1 << 16)
        piece = wire * (4000 // len(wire))
        tracemalloc.start()
        for _ in range(40):
            parser.feed(piece)
            if parser.error is not None:
                break
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 400_000, wire


def test_a_string_one_byte_at_a_time_is_not_copied_each_time() -> None:
    size = 60_000
    parser = Parser()
    parser.feed(b"$%d\r\n" % size)
    tracemalloc.start()
    for _ in range(size):
        assert parser.feed(b"x") == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parser.feed(b"\r\n") == [b"x" * size]
    assert peak < 3 * size


def test_a_limit_below_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="max_reply"):
        Parser(max_reply=100)
