"""Every way to write a CBOR item (RFC 8949), an octet at a time.

The items are made here, from the table of major types and additional information in section 3:
each head in each of its lengths, at its smallest and largest values, every kind of item that
appendix A gives an example of, and every kind that appendix F says is not well-formed.
"""

from __future__ import annotations

import math
import struct
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ae_handle import NEED_MORE, BadMessage, Cbor, ReadBuffer

cbor2 = pytest.importorskip("cbor2", reason="the extra ae-handle[cbor] is not installed")

#: How many octets the argument of a head takes, and the additional information that says so.
LENGTHS = {0: None, 1: 24, 2: 25, 4: 26, 8: 27}
BREAK = b"\xff"


def head(major: int, argument: int, octets: int | None = None) -> bytes:
    """Return the head of an item, as short as it can be unless *octets* says otherwise."""
    if octets is None:
        octets = next(n for n in LENGTHS if argument < (24 if n == 0 else 1 << 8 * n))
    info = LENGTHS[octets]
    if info is None:
        return bytes((major << 5 | argument,))
    return bytes((major << 5 | info,)) + argument.to_bytes(octets, "big")


def text(value: str) -> bytes:
    return head(3, len(value.encode())) + value.encode()


def octets(value: bytes) -> bytes:
    return head(2, len(value)) + value


def integers() -> dict[bytes, Any]:
    """Each length of an argument, with its least and greatest value, needlessly long ones too."""
    items: dict[bytes, Any] = {}
    bounds = [0, 1, 10, 23, 24, 25, 100, 255, 256, 1000, 65535, 65536, 10**6, 2**32 - 1, 2**32,
              10**12, 2**53, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
    for n in LENGTHS:
        for value in bounds:
            if value < (24 if n == 0 else 1 << 8 * n):
                items[head(0, value, n)] = value
                items[head(1, value, n)] = -1 - value
    for value in (2**64, 2**64 + 5, 2**100, 10**40):
        wide = value.to_bytes((value.bit_length() + 7) // 8, "big")
        items[head(6, 2) + octets(wide)] = value
        items[head(6, 3) + octets(wide)] = -1 - value
    return items


def floats() -> dict[bytes, Any]:
    items: dict[bytes, Any] = {}
    values = [0.0, -0.0, 1.0, 1.5, 65504.0, 5.960464477539063e-08, 6.103515625e-05, -4.0,
              math.inf, -math.inf, math.nan]  # fmt: skip
    for value in values:
        items[b"\xf9" + struct.pack(">e", value)] = value
    for value in [*values, 100000.0, 3.4028234663852886e38, 1.401298464324817e-45]:
        items[b"\xfa" + struct.pack(">f", value)] = value
    for value in [*values, 1.1, -4.1, 1.0e300, 5e-324, 1.7976931348623157e308]:
        items[b"\xfb" + struct.pack(">d", value)] = value
    return items


def simple() -> dict[bytes, Any]:
    items: dict[bytes, Any] = {b"\xf4": False, b"\xf5": True, b"\xf6": None}
    items[b"\xf7"] = cbor2.undefined
    for number in [*range(20), *range(32, 256)]:
        items[head(7, number, 0 if number < 20 else 1)] = cbor2.CBORSimpleValue(number)
    return items


STRINGS = ["", "a", "IETF", '"\\', "\u00fc", "\u6c34", "\U00010151", "x" * 23, "x" * 24, "x" * 256]


def strings() -> dict[bytes, Any]:
    items: dict[bytes, Any] = {}
    for value in STRINGS:
        raw = value.encode()
        for n in LENGTHS:
            if len(raw) < (24 if n == 0 else 1 << 8 * n):
                items[head(3, len(raw), n) + raw] = value
                items[head(2, len(raw), n) + raw] = raw
    items[b"\x5f" + BREAK] = b""
    items[b"\x7f" + BREAK] = ""
    items[b"\x5f" + octets(b"\1\2") + octets(b"") + octets(b"\3\4\5") + BREAK] = b"\1\2\3\4\5"
    items[b"\x7f" + text("strea") + text("") + text("ming\u00e9") + BREAK] = "streaming\u00e9"
    return items


def structures() -> dict[bytes, Any]:
    items: dict[bytes, Any] = {}
    for count in (0, 1, 3, 23, 24, 25, 255, 256):
        numbers = b"".join(head(0, value) for value in range(count))
        pairs = b"".join(head(0, value) + text("v") for value in range(count))
        for n in LENGTHS:
            if count < (24 if n == 0 else 1 << 8 * n):
                items[head(4, count, n) + numbers] = list(range(count))
                items[head(5, count, n) + pairs] = dict.fromkeys(range(count), "v")
        items[b"\x9f" + numbers + BREAK] = list(range(count))
        items[b"\xbf" + pairs + BREAK] = dict.fromkeys(range(count), "v")
    inner = [[], [1], [2, 3], [4, [5, {}]]]
    for outer in (b"\x84", b"\x9f"):
        for deep in (b"\x82\4\x82\5\xa0", b"\x9f\4\x9f\5\xbf\xff\xff\xff", b"\x82\4\x9f\5\xa0\xff"):
            end = BREAK if outer == b"\x9f" else b""
            items[outer + b"\x80\x81\1\x9f\2\3\xff" + deep + end] = inner
    items[b"\xa2" + text("a") + b"\1" + text("b") + b"\x82\2\3"] = {"a": 1, "b": [2, 3]}
    items[b"\xbf" + text("a") + b"\1" + text("b") + b"\x9f\2\3\xff\xff"] = {"a": 1, "b": [2, 3]}
    items[b"\x82" + text("a") + b"\xa1" + text("b") + text("c")] = ["a", {"b": "c"}]
    items[b"\xbf" + text("Fun") + b"\xf5" + text("Amt") + b"\x21\xff"] = {"Fun": True, "Amt": -2}
    items[b"\xa5" + b"".join(text(c) + text(c.upper()) for c in "abcde")] = {
        c: c.upper() for c in "abcde"
    }
    items[b"\xa4\1\2\x20\3" + octets(b"k") + b"\4\xf5\5"] = {1: 5, -1: 3, b"k": 4}
    return items


def tags() -> dict[bytes, Any]:
    """Tags are data, but for those of large integers and of CBOR itself."""
    items: dict[bytes, Any] = {}
    inner = {text("2013-03-21T20:04:00Z"): "2013-03-21T20:04:00Z", b"\1": 1, b"\x80": [],
             octets(b"IETF"): b"IETF", b"\xfb" + struct.pack(">d", 1.5): 1.5}  # fmt: skip
    for number in (0, 1, 4, 5, 23, 24, 30, 32, 36, 255, 256, 65535, 2**32, 2**64 - 1):
        for wire, value in inner.items():
            items[head(6, number) + wire] = cbor2.CBORTag(number, value)
    items[head(6, 55799) + b"\x82\1\2"] = [1, 2]
    return items


KINDS = {
    "integers": integers(), "floats": floats(), "simple": simple(), "strings": strings(),
    "structures": structures(), "tags": tags(),
}  # fmt: skip

CHUNKS = {2: b"\x41a", 3: b"\x61a"}
#: By appendix F of the RFC: reserved heads, breaks where none may be, chunks of another kind.
NOT_WELL_FORMED = [
    *[bytes((major << 5 | info,)) for major in range(8) for info in (28, 29, 30)],
    *[bytes((major << 5 | 31,)) for major in (0, 1, 6)],
    *[bytes((0xF8, number)) for number in range(32)],
    BREAK,
    b"\x81\xff", b"\x82\0\xff", b"\xa1\xff", b"\xa1\0\xff", b"\xa1\xff\0", b"\xa2\0\0\xff",
    b"\xc0\xff", b"\xc1\xc1\xff", b"\xbf\0\xff", b"\xbf\0\0\0\xff", b"\x9f\x81\xff",
    b"\x81\x9f\x1c",
    *[
        bytes((major << 5 | 31,)) + wrong
        for major in (2, 3)
        for wrong in (b"\0", b"\x20", CHUNKS[5 - major], b"\x80", b"\xa0", b"\xc0\0", b"\xe0",
                      b"\xf5", b"\xf9\0\0", bytes((major << 5 | 31,)))
    ],
]  # fmt: skip


def read(wire: bytes) -> Any:
    """Return the item *wire*, which arrives an octet at a time and must not end before its end."""
    buf = ReadBuffer()
    for octet in wire:
        assert Cbor()(buf) is NEED_MORE
        buf.feed(bytes((octet,)))
    value = Cbor()(buf)
    assert value is not NEED_MORE
    assert not buf
    return value


def test_there_are_more_items_than_in_the_appendix() -> None:
    assert sum(map(len, KINDS.values())) >= 500


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_read_octet_by_octet(kind: str) -> None:
    for wire, expected in KINDS[kind].items():
        assert repr(read(wire)) == repr(expected), wire.hex()


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_read_when_others_follow(kind: str) -> None:
    for wire, expected in KINDS[kind].items():
        buf = ReadBuffer(wire + b"\x83next")
        assert repr(Cbor()(buf)) == repr(expected), wire.hex()
        assert bytes(buf) == b"\x83next"


@pytest.mark.parametrize("wire", dict.fromkeys(NOT_WELL_FORMED), ids=bytes.hex)
def test_what_is_not_well_formed_is_refused_at_any_cut(wire: bytes) -> None:
    with pytest.raises(BadMessage):
        Cbor()(ReadBuffer(wire))
    with pytest.raises(BadMessage):
        read(wire)


@pytest.mark.parametrize("key", [b"\x80", b"\xa0", b"\xc1\0", b"\x9f\xff", b"\xd8\x20\x61a"])
def test_a_key_that_is_a_container_or_a_tag_is_refused(key: bytes) -> None:
    with pytest.raises(BadMessage):
        Cbor()(ReadBuffer(b"\xa1" + key + b"\0"))


def test_text_that_is_no_utf_8_is_refused() -> None:
    for raw in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82", b"\xf4\x90\x80\x80"):
        with pytest.raises(BadMessage):
            Cbor()(ReadBuffer(head(3, len(raw)) + raw))
        with pytest.raises(BadMessage):
            Cbor()(ReadBuffer(b"\x7f" + head(3, len(raw)) + raw + BREAK))


def test_tags_mean_something_where_they_may() -> None:
    frame = Cbor(tags=True)
    moment = datetime(2013, 3, 21, 20, 4, tzinfo=timezone(timedelta(0)))
    assert frame(ReadBuffer(head(6, 0) + text("2013-03-21T20:04:00Z"))) == moment
    assert frame(ReadBuffer(head(6, 1) + head(0, 1363896240))) == moment
