"""What the ``cbor`` frame type makes of keys and tags, which can cost a decoder any time."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from fractions import Fraction
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import NEED_MORE, BadMessage, Cbor, ReadBuffer
from ae_handle.testing import check_reader

cbor2 = pytest.importorskip("cbor2", reason="the extra ae-handle[cbor] is not installed")

Tag = cbor2.CBORTag
Simple = cbor2.CBORSimpleValue


def read(wire: bytes, frame: Cbor | None = None) -> Any:
    value = (frame or Cbor())(ReadBuffer(wire))
    assert value is not NEED_MORE
    return value


def refused(wire: bytes, match: str, frame: Cbor | None = None) -> None:
    """Assert that *wire* is refused at once, whole or octet by octet, again and again."""
    frame = frame or Cbor()
    buf = ReadBuffer(wire)
    for _ in range(3):
        with pytest.raises(BadMessage, match=match):
            frame(buf)
        assert bytes(buf) == wire
    trickle = ReadBuffer()
    with pytest.raises(BadMessage, match=match):
        for i in range(len(wire)):
            trickle.feed(wire[i : i + 1])
            assert frame(trickle) is NEED_MORE


# ---------------------------------------------------------------------- keys

ALLOWED = [
    "text", "", b"octets", 0, 23, 24, 2**64 - 1, -1, -(2**64), 1.5, float("inf"), False, True, None,
    cbor2.undefined, Simple(3), Simple(99),
]  # fmt: skip


@pytest.mark.parametrize("key", ALLOWED, ids=repr)
def test_small_values_may_be_keys_and_members(key: Any) -> None:
    item = cbor2.dumps(key)
    check_reader(Cbor(), b"\xa1" + item + b"\x01", {key: 1})
    check_reader(Cbor(), b"\xbf" + item + b"\x01\xff", {key: 1})
    assert read(b"\xd9\x01\x02\x81" + item, Cbor(tags=True)) == {key}
    assert read(b"\xd9\x01\x02\x81" + item) == Tag(258, [key])


def test_text_in_pieces_may_be_a_key() -> None:
    check_reader(Cbor(), bytes.fromhex("a17f61616162ff01"), {"ab": 1})
    check_reader(Cbor(), bytes.fromhex("a15f41614162ff01"), {b"ab": 1})


@pytest.mark.parametrize("tags", [False, True])
@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("80", "an array"),
        ("820102", "an array"),
        ("9fff", "an array"),
        ("a0", "a map"),
        ("bfff", "a map"),
        ("c24101", "a tagged value"),
        ("c349ffffffffffffffffff", "a tagged value"),
        ("c11a514b67b0", "a tagged value"),
        ("d9d9f76161", "a tagged value"),
    ],
)
def test_nothing_else_may_be_a_key_or_a_member(key: str, what: str, tags: bool) -> None:
    frame = Cbor(tags=tags)
    item = bytes.fromhex(key)
    refused(b"\xa1" + item + b"\x01", f"map key that is {what}", frame)
    refused(b"\xa2\x00\x00" + item + b"\x01", f"map key that is {what}", frame)
    refused(b"\xbf\x00\x00" + item + b"\x01\xff", f"map key that is {what}", frame)
    refused(b"\x81\x81\xa1" + item + b"\x01", f"map key that is {what}", frame)
    refused(b"\xd9\x01\x02\x81" + item, f"set member that is {what}", frame)
    refused(b"\xd9\x01\x02\x9f\x00" + item + b"\xff", f"set member that is {what}", frame)
    refused(b"\xd9\x01\x02\xd9\xd9\xf7\x81" + item, f"set member that is {what}", frame)
    # the same item is a good value
    assert read(b"\xa1\x00" + item, frame) is not None


def test_a_string_reference_may_be_a_key() -> None:
    rows = [{"name": 1}, {"name": 2}]
    assert read(cbor2.dumps(rows, string_referencing=True), Cbor(tags=True)) == rows


def mapping(keys: list[Any]) -> bytes:
    return b"\xba" + pack(">I", len(keys)) + b"".join(cbor2.dumps(key) + b"\x00" for key in keys)


@pytest.mark.parametrize("make", [int, float])
def test_keys_that_share_a_path_are_refused(
    make: type, slow_keys: Callable[[int], list[int]]
) -> None:
    keys = [make(key) for key in slow_keys(4000)]
    assert len({*keys}) == 2020
    wire = mapping(keys)
    with pytest.raises(BadMessage, match="map keys that collide"):
        read(wire)
    # ... as a set, in a map without a length, behind text keys
    for other in (
        b"\xd9\x01\x02\x9f" + b"".join(map(cbor2.dumps, keys)) + b"\xff",
        b"\xbf" + wire[5:] + b"\xff",
        mapping(["a", "b", *keys]),
    ):
        for tags in (False, True):
            with pytest.raises(BadMessage, match="that collide"):
                read(other, Cbor(tags=tags))


@pytest.mark.parametrize(
    "keys",
    [
        range(20_000),
        range(0, -20_000, -1),
        range(0, 20_000 << 39, 1 << 39),
        range(0, 20_000 << 44, 1 << 44),
        [1_700_000_000_000_000_000 + 1_000_000_000 * i for i in range(20_000)],
        [a << 32 | b for a in range(100) for b in range(200)],
        [i / 10 for i in range(20_000)],
        [i * 1e9 for i in range(20_000)],
        [1 / i for i in range(1, 20_000)],
        [float("nan")] * 5000,
        [7] * 5000,
        ["x"] * 5000,
        [b"%d" % i for i in range(5000)],
    ],
    ids=lambda keys: repr(keys)[:24],
)
def test_keys_of_honest_programs_are_taken(keys: Any) -> None:
    value = read(mapping(list(keys)))
    assert len(value) == len({*map(repr, keys)}) or len(value) == len(keys)


def test_the_coder_that_the_program_gives_is_used_as_it_is() -> None:
    frame = Cbor(cbor2)
    assert read(bytes.fromhex("a182010203"), frame) == {(1, 2): 3}
    assert read(bytes.fromhex("a1c2410103"), frame) == {1: 3}
    assert read(bytes.fromhex("d823616a"), frame) == re.compile("j")
    assert read(b"\xc2\x59\x20\x00" + b"\xff" * 8192, frame) == 2 ** (8 * 8192) - 1


# ---------------------------------------------------------------------- tags


@pytest.mark.parametrize(
    "tag",
    [0, 1, 4, 5, 21, 22, 23, 24, 25, 28, 29, 30, 32, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261,
     1004, 43000, 55798, 2**32, 2**64 - 1],
)  # fmt: skip
def test_tags_are_left_to_the_program(tag: int) -> None:
    for inside in (0, "text", ["a long text", "a long text"], {"key": 1.5}, b"", None):
        wire = cbor2.dumps(Tag(tag, 0))[:-1] + cbor2.dumps(inside)
        value = Tag(tag, inside)
        check_reader(Cbor(), wire, value)
        assert Cbor().encode(value) == wire
        assert Cbor().encode([value]) == b"\x81" + wire


def test_the_mark_of_cbor_itself_is_dropped() -> None:
    check_reader(Cbor(), bytes.fromhex("d9d9f7820102"), [1, 2])
    check_reader(Cbor(), bytes.fromhex("82d9d9f700d9d9f7d9d9f701"), [0, 1])


def test_long_integers_are_read_up_to_a_limit() -> None:
    most = b"\x59\x10\x00" + b"\xff" * 4096
    in_pieces = b"\x5f" + (b"\x59\x08\x00" + b"\xff" * 2048) * 2 + b"\x40\xff"
    for content in (most, in_pieces):
        check_reader(Cbor(), b"\xc2" + content, 2 ** (8 * 4096) - 1)
        check_reader(Cbor(), b"\xc3" + content, -(2 ** (8 * 4096)))
    assert read(bytes.fromhex("c240")) == 0
    refused(b"\xc2\x59\x10\x01" + b"\xff" * 4097, "more than 4096 bytes")
    refused(b"\xc3" + in_pieces[:-2] + b"\x41\0\xff", "more than 4096 bytes")
    refused(bytes.fromhex("c25bffffffffffffffff"), "more than 4096 bytes")
    # a limit of one is none of the next
    piece = b"\x5f" + (b"\x59\x0f\xff" + b"\xff" * 4095) + b"\xff"
    assert len(read(b"\x82\xc2" + piece + b"\x5f\x59\x20\x00" + b"x" * 8192 + b"\xff")[1]) == 8192


@pytest.mark.parametrize(
    "wire", ["c200", "c26161", "c2820102", "c2a0", "c2c24101", "c2f6", "c27fff"]
)
def test_an_integer_is_made_of_octets_only(wire: str) -> None:
    refused(bytes.fromhex(wire), "integer made of something else")


def test_tags_mean_what_cbor2_says_if_that_is_wanted() -> None:
    frame = Cbor(tags=True)
    moment = datetime.datetime(2013, 3, 21, 20, 4, tzinfo=datetime.UTC)
    for value in (moment, Fraction(1, 3), {1, 2, 3}, re.compile("a+"), 2 ** (8 * 5000)):
        assert read(frame.encode(value), frame) == value
        assert repr(frame) != repr(Cbor())


def test_who_brings_a_coder_has_nothing_to_say_about_tags() -> None:
    with pytest.raises(TypeError, match="not both"):
        Cbor(cbor2, tags=True)
    with pytest.raises(TypeError, match="as a bool"):
        Cbor(tags=1)  # type: ignore[arg-type]


def test_depth_is_what_the_frame_says() -> None:
    for opener in (b"\x81", b"\xa1\x00", b"\xc1", b"\x9f"):
        closer = b"\xff" if opener == b"\x9f" else b""
        wire = opener * 600 + b"\x00" + closer * 600
        value = read(wire, Cbor(max_depth=600))
        if opener != b"\xc1":  # which cbor2 writes 400 deep only
            assert read(Cbor().encode(value), Cbor(max_depth=600)) == value
        refused(wire, "nested deeper", Cbor(max_depth=599))


@pytest.mark.parametrize("value", [object(), [object()], "\ud800"], ids=repr)
def test_what_cbor_has_not_is_not_written(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Cbor().encode(value)


KEYS = st.text() | st.binary() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.booleans()
SIMPLE = st.sampled_from([None, cbor2.undefined, *map(Simple, (0, 19, 32, 255))])
ITEMS = st.recursive(
    KEYS | SIMPLE | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS | SIMPLE, inner, max_size=4)
        | st.lists(KEYS, max_size=4).map(lambda members: Tag(258, members))
        | st.builds(Tag, st.integers(0, 300).filter(lambda tag: tag not in (2, 3, 258)), inner)
    ),
    max_leaves=12,
)


@given(ITEMS)
def test_what_is_read_can_be_written(value: Any) -> None:
    once = read(Cbor().encode(value))
    assert repr(read(Cbor().encode(once))) == repr(once)
