"""Attacks on the frame types, with more and more octets: the time must grow as they do.

Up to the limit that a handle has by default, 1 MiB; octet by octet to what a test run can bear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from ae_handle import (
    NEED_MORE,
    BadMessage,
    Cbor,
    Chunk,
    Json,
    Line,
    NetString,
    PackString,
    ReadBuffer,
    Regex,
    TlsDetect,
)

LIMIT = 1 << 20
TRICKLE = 1 << 15

Doubling = Callable[..., None]


def big_keys(size: int) -> bytes:
    """Map keys that are long integers with one hash."""
    prime = 2**61 - 1
    keys = ((prime << 70) + i * prime for i in range(size // 20))
    items = [b"\xc2\x51" + key.to_bytes(17, "big") + b"\x00" for key in keys]
    return b"\xba" + pack(">I", len(items)) + b"".join(items)


def int_keys(size: int) -> bytes:
    return b"\xbf" + b"".join(b"\x1a%b\x00" % pack(">I", i) for i in range(size // 6)) + b"\xff"


def array_keys(size: int) -> bytes:
    return b"\xbf" + b"".join(b"\x82\x1a%b\x00\x00" % pack(">I", i) for i in range(size // 8))


def counted(count: int, item: bytes) -> bytes:
    return b"\x9a" + pack(">I", count) + item * count


def ber(size: int) -> bytes:
    """A length that is written with as many octets as it may have."""
    digits = [128 | size >> 7 * place & 127 for place in range(9, 0, -1)]
    return bytes([*digits, size & 127]) + b"x" * size


def many_keys(size: int) -> bytes:
    return b"".join(b'"%x":1,' % i for i in range(size // 10))


REGEX = "[\u0100-\U0010ffff]".encode()
LONG = b"\x59\x03\xf6" + b"\xff" * 1014

# name: what reads, and what it reads, of about the given size
ATTACKS: dict[str, tuple[Any, Callable[[int], bytes]]] = {
    "cbor-ints": (Cbor(), lambda n: counted(n, b"\x01")),
    "cbor-long-ints": (Cbor(), lambda n: counted(n // 1018, b"\xc2" + LONG)),
    "cbor-long-int": (Cbor(), lambda n: b"\xc2\x5a" + pack(">I", n) + b"\xff" * n),
    "cbor-decimal": (Cbor(), lambda n: b"\xc4\x82\x24\xc2\x5a" + pack(">I", n) + b"\xff" * n),
    "cbor-decimals": (Cbor(), lambda n: counted(n // 1020, b"\xc4\x82\x24\xc2" + LONG)),
    "cbor-regex": (Cbor(), lambda n: b"\xd8\x23\x7a" + pack(">I", n // 8 * 8) + REGEX * (n // 8)),
    "cbor-tags": (Cbor(), lambda n: counted(n // 3, b"\xd8\x1e\x00")),
    "cbor-deep": (Cbor(), lambda n: counted(n // 399, b"\x81" * 398 + b"\x80")),
    "cbor-too-deep": (Cbor(), lambda n: b"\x81" * n),
    "cbor-chunks": (Cbor(), lambda n: b"\x5f" + b"\x41x" * (n // 2) + b"\xff"),
    "cbor-empty-chunks": (Cbor(), lambda n: b"\x7f" + b"\x60" * n + b"\xff"),
    "cbor-map": (Cbor(), int_keys),
    "cbor-same-key": (Cbor(), lambda n: b"\xbf" + b"\x1a\0\1\0\0\x00" * (n // 6) + b"\xff"),
    "cbor-big-keys": (Cbor(), big_keys),
    "cbor-array-keys": (Cbor(), array_keys),
    "cbor-shares": (Cbor(), lambda n: counted(n // 6, b"\xd8\x1c\x81\xd8\x1d\x00")),
    "cbor-strings": (Cbor(), lambda n: b"\xd9\x01\x00" + counted(n // 5, b"\x64aaaa")),
    "json-list": (Json(), lambda n: b"[" + b"1," * (n // 2) + b"1]"),
    "json-numbers": (Json(), lambda n: b"[" + (b"9" * 4095 + b",") * (n // 4096) + b"1]"),
    "json-number": (Json(), lambda n: b"[" + b"9" * n + b"]"),
    "json-bare-number": (Json(), lambda n: b"9" * n + b" "),
    "json-fraction": (Json(), lambda n: b"[0." + b"9" * n + b"]"),
    "json-exponent": (Json(), lambda n: b"[1e" + b"9" * n + b"]"),
    "json-small-exponent": (Json(), lambda n: b"[1" + b"0" * n + b"e-%d]" % n),
    "json-deep": (Json(), lambda n: b"[" + (b"[" * 511 + b"]" * 511 + b",") * (n // 1023) + b"1]"),
    "json-too-deep": (Json(), lambda n: b"[" * n),
    "json-escapes": (Json(), lambda n: b'"' + b"\\u0041" * (n // 6) + b'"'),
    "json-backslashes": (Json(), lambda n: b'"' + b"\\\\" * (n // 2) + b'"'),
    "json-half-pairs": (Json(), lambda n: b'"' + b"\\ud800" * (n // 6) + b'"'),
    "json-strings": (Json(), lambda n: b"[" + b'"",' * (n // 3) + b"1]"),
    "json-same-key": (Json(), lambda n: b"{" + b'"a":1,' * (n // 6) + b'"a":1}'),
    "json-keys": (Json(), lambda n: b"{" + many_keys(n) + b'"a":1}'),
    "json-blanks": (Json(), lambda n: b" " * n + b"1 "),
    "json-blanks-inside": (Json(), lambda n: b"[" + b" " * n + b"]"),
    "json-bad-at-the-end": (Json(), lambda n: b"[" + b"1," * (n // 2) + b"]"),
    "line": (Line(), lambda n: b"x" * n + b"\n"),
    "line-crs": (Line(), lambda n: b"\r" * n + b"\n"),
    "line-marker": (Line(b"\r\n.\r\n"), lambda n: b"\r\n.\r" * (n // 4) + b"\r\n.\r\n"),
    "line-long-marker": (Line(b"a" * 1000 + b"b"), lambda n: b"a" * n + b"b"),
    "line-pattern": (Line(re.compile(rb"\r?\n")), lambda n: b"\r" * n + b"\n"),
    "regex": (Regex(rb"\r\n\r\n"), lambda n: b"\r\n\r" * (n // 3) + b"\r\n\r\n"),
    "netstring": (NetString(), lambda n: b"%d:%b," % (n, b"x" * n)),
    "netstring-bad": (NetString(), lambda n: b"%d:%b;" % (n, b"x" * n)),
    "packstring": (PackString("N"), lambda n: pack(">I", n) + b"x" * n),
    "packstring-ber": (PackString("w"), ber),
    "chunk": (Chunk, lambda n: b"x" * n),
}

# What is made is a dict of a hundred thousand keys: beyond the processor's caches each costs more.
# That is the memory's doing, and happens to json.loads alone.
BASES: dict[str, Callable[[bytes], object]] = {"json-keys": json.loads}

# many items behind each other
MANY: dict[str, tuple[Any, bytes]] = {
    "cbor": (Cbor(), b"\x82\x01\x02"),
    "json": (Json(), b"[1] "),
    "json-bare": (Json(), b"1 "),
    "line": (Line(), b"\r\n"),
    "line-marker": (Line(b"ab"), b"xab"),
    "netstring": (NetString(), b"0:,"),
    "packstring": (PackString("C"), b"\x01x"),
    "chunk": (Chunk(1), b"x"),
}


def read(reader: Any, wire: bytes, step: int) -> None:
    """Read one item, or find it bad, as the octets arrive; and again when more have come."""
    if reader is Chunk:
        reader = Chunk(len(wire))
    buf = ReadBuffer()
    done = 0
    for i in range(0, len(wire), step):
        buf.feed(wire[i : i + step])
        try:
            done += reader(buf) is not NEED_MORE
        except BadMessage:
            done += 1
    assert done


@pytest.mark.parametrize("name", ATTACKS)
def test_an_item_that_arrives_whole(name: str, doubling: Doubling) -> None:
    if name.startswith("cbor"):
        pytest.importorskip("cbor2")
    reader, make = ATTACKS[name]

    def prepare(size: int) -> Callable[[], object]:
        wire = make(size)
        return lambda: read(reader, wire, len(wire))

    def prepare_base(size: int) -> Callable[[], object]:
        wire = make(size)
        return lambda: BASES[name](wire)

    doubling(prepare, LIMIT, prepare_base if name in BASES else None)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_item_that_trickles_in(name: str, doubling: Doubling) -> None:
    if name.startswith("cbor"):
        pytest.importorskip("cbor2")
    reader, make = ATTACKS[name]

    def prepare(size: int) -> Callable[[], object]:
        wire = make(size)
        return lambda: read(reader, wire, 1)

    doubling(prepare, TRICKLE)


@pytest.mark.parametrize("as_set", [False, True], ids=["map", "set"])
def test_keys_on_one_path(
    as_set: bool, doubling: Doubling, slow_keys: Callable[[int], list[int]]
) -> None:
    cbor2 = pytest.importorskip("cbor2")

    def prepare(size: int) -> Callable[[], object]:
        keys = slow_keys(size // 7)
        head, value = (b"\xd9\x01\x02\x9f", b"") if as_set else (b"\xbf", b"\x00")
        wire = head + b"".join(cbor2.dumps(key) + value for key in keys) + b"\xff"
        return lambda: read(Cbor(tags=as_set), wire, len(wire))

    doubling(prepare, LIMIT // 4)


@pytest.mark.parametrize("step", [1, LIMIT], ids=["trickle", "whole"])
@pytest.mark.parametrize("name", MANY)
def test_many_items(name: str, step: int, doubling: Doubling) -> None:
    if name.startswith("cbor"):
        pytest.importorskip("cbor2")
    reader, item = MANY[name]

    def prepare(size: int) -> Callable[[], object]:
        wire = item * (size // len(item))

        def work() -> None:
            buf = ReadBuffer()
            count = 0
            for i in range(0, len(wire), step):
                buf.feed(wire[i : i + step])
                while reader(buf) is not NEED_MORE:
                    count += 1
            assert count == size // len(item)

        return work

    doubling(prepare, 1 << 17)


def test_asking_whether_it_is_tls(doubling: Doubling) -> None:
    def prepare(size: int) -> Callable[[], object]:
        def work() -> None:
            buf = ReadBuffer()
            for _ in range(size):
                buf.feed(b"\x16")
                TlsDetect()(buf)

        return work

    doubling(prepare, TRICKLE)
