"""Packets made to hurt: each gives a verdict, soon, and never an exception."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest

from ae_dns import _wire_fast, _wire_full
from ae_dns._resolution import Exchange, Verdict

A, CNAME, MX, TXT, AAAA, SRV, APL, OPT, SVCB = 1, 5, 15, 16, 28, 33, 42, 41, 64
FULL = 65535
ME = b"\xc0\x0c"


def question(rdtype: int) -> bytes:
    return _wire_fast.make_question(b"\1x\4test\0", rdtype)


def message(
    rdtype: int, *answers: bytes, counts: tuple[int, int, int] | None = None, rest: bytes = b""
) -> bytes:
    numbers = counts or (len(answers), 0, 0)
    head = b"id\x81\x80\0\1" + struct.pack(">HHH", *numbers)
    return head + question(rdtype) + b"".join(answers) + rest


def record(owner: bytes, rdtype: int, rdata: bytes, length: int | None = None) -> bytes:
    size = len(rdata) if length is None else length
    return owner + struct.pack(">HHIH", rdtype, 1, 60, size) + rdata


def many(rdtype: int, make: object, size: int) -> bytes:
    number = (FULL - 30) // size
    return message(rdtype, *[make(i) for i in range(number)])  # type: ignore[operator]


def number(i: int) -> bytes:
    return struct.pack(">I", i)


AT = 12 + len(question(A))  # where the first answer begins
DEEP = b"".join(struct.pack(">H", 0xC000 | (AT + 2 * i - 2)) for i in range(1, 2000))

# name: (type, packet, verdict; None: any)
PACKETS: dict[str, tuple[int, bytes, Verdict | None]] = {
    # names
    "pointer-to-itself": (A, message(A, record(b"\xc0" + bytes((AT,)), A, bytes(4))), None),
    "pointer-forward": (A, message(A, record(b"\xc0\xff", A, bytes(4))), None),
    "pointer-beyond-the-end": (A, message(A, record(b"\xff\xff", A, bytes(4))), None),
    "pointer-half": (A, message(A, b"\xc0"), Verdict.NEXT_STEP),
    "pointer-loop-of-two": (A, message(A, record(b"\xc0\x1d\xc0\x1b", A, bytes(4))), None),
    "pointer-chain": (A, message(A, record(DEEP[-2:], A, bytes(4)), rest=DEEP), None),
    "pointers-in-rdata": (MX, message(MX, record(ME, MX, b"\0\1" + DEEP)), None),
    "label-type-01": (A, message(A, record(b"\x41x\0", A, bytes(4))), Verdict.NEXT_STEP),
    "label-type-10": (A, message(A, record(b"\x81x\0", A, bytes(4))), Verdict.NEXT_STEP),
    "label-past-the-end": (A, message(A, b"\x3fabc"), Verdict.NEXT_STEP),
    "name-of-256": (A, message(A, record(b"\x01a" * 128 + b"\0", A, bytes(4))), Verdict.NEXT_STEP),
    "name-of-256-by-pointer": (A, message(A, record(b"\x01a" * 125 + ME, A, bytes(4))), None),
    "name-without-end": (A, message(A, b"\x01a" * 30), Verdict.NEXT_STEP),
    "cname-beyond-its-rdata": (A, message(A, record(ME, CNAME, b"\3abc\0", 3)), None),
    "cname-short-of-its-rdata": (A, message(A, record(ME, CNAME, b"\1a\0zz")), None),
    "cname-empty": (A, message(A, record(ME, CNAME, b"")), None),
    "cname-of-itself": (A, message(A, record(ME, CNAME, ME)), None),
    "authority-name-too-long": (
        A,
        message(A, counts=(0, 1, 0), rest=record(b"\1a" * 128 + b"\0", 2, b"\0")),
        Verdict.NEXT_STEP,
    ),
    "authority-name-too-long-by-pointer": (
        A,
        message(A, counts=(0, 1, 0), rest=record(b"\1a" * 125 + ME, 2, b"\0")),
        Verdict.NEXT_STEP,
    ),
    "authority-label-type": (
        A,
        message(A, counts=(0, 1, 0), rest=record(b"\x80", 2, b"\0")),
        Verdict.NEXT_STEP,
    ),
    # counts
    "no-records-though-promised": (A, message(A, counts=(1, 0, 0)), Verdict.NEXT_STEP),
    "authority-though-none": (A, message(A, counts=(0, 9, 0)), Verdict.NEXT_STEP),
    "additional-though-none": (A, message(A, counts=(0, 0, 9)), Verdict.NEXT_STEP),
    "all-counts-full": (A, message(A, counts=(FULL, FULL, FULL)), Verdict.NEXT_STEP),
    "answers-full-mx": (MX, message(MX, counts=(FULL, 0, 0)), Verdict.NEXT_STEP),
    "more-than-promised": (A, message(A, record(ME, A, bytes(4)), counts=(0, 0, 0)), None),
    # lengths
    "a-of-0": (A, message(A, record(ME, A, b"")), None),
    "a-of-3": (A, message(A, record(ME, A, bytes(3))), None),
    "a-of-5": (A, message(A, record(ME, A, bytes(5))), None),
    "aaaa-of-4": (AAAA, message(AAAA, record(ME, AAAA, bytes(4))), None),
    "rdata-past-the-end": (A, message(A, record(ME, A, bytes(4), 5)), Verdict.NEXT_STEP),
    "rdata-far-past-the-end": (MX, message(MX, record(ME, MX, b"", FULL)), Verdict.NEXT_STEP),
    "mx-of-1": (MX, message(MX, record(ME, MX, b"\0")), None),
    "mx-without-name": (MX, message(MX, record(ME, MX, b"\0\1")), None),
    "srv-short": (SRV, message(SRV, record(ME, SRV, bytes(6))), None),
    "txt-string-too-long": (TXT, message(TXT, record(ME, TXT, b"\5ab")), None),
    "txt-empty": (TXT, message(TXT, record(ME, TXT, b"")), None),
    "soa-short": (A, message(A, counts=(0, 1, 0), rest=record(ME, 6, bytes(5))), None),
    "soa-without-names": (A, message(A, counts=(0, 1, 0), rest=record(ME, 6, b"\xff" * 22)), None),
    # EDNS
    "opt-in-answer": (A, message(A, record(b"\0", OPT, b"")), None),
    "opt-twice": (
        A,
        message(A, counts=(0, 0, 2), rest=record(b"\0", OPT, b"") * 2),
        Verdict.NEXT_STEP,
    ),
    "opt-with-owner": (A, message(A, counts=(0, 0, 1), rest=record(ME, OPT, b"")), None),
    "opt-options-broken": (
        A,
        message(A, counts=(0, 0, 1), rest=record(b"\0", OPT, b"\0\1\0\xff")),
        None,
    ),
    "tsig": (A, message(A, counts=(0, 0, 1), rest=record(b"\0", 250, b"\0")), None),
    # other
    "ttl-negative": (A, message(A, ME + struct.pack(">HHIH", A, 1, 1 << 31, 4) + bytes(4)), None),
    "class-any": (A, message(A, ME + struct.pack(">HHIH", A, 255, 60, 4) + bytes(4)), None),
    "type-0": (A, message(A, record(ME, 0, b"")), None),
    "type-any": (255, message(255, record(ME, 255, b"")), None),
    "unknown-type": (65280, message(65280, record(ME, 65280, bytes(FULL - 40))), None),
    "trailing-junk": (A, message(A, record(ME, A, bytes(4)), rest=b"\xff" * 999), Verdict.ANSWERED),
    "sigs": (46, message(46, record(ME, 46, b"\xff" * 18)), None),
    "nsec-bitmap": (47, message(47, record(ME, 47, b"\0" + b"\0\x20" + b"\xff" * 32)), None),
    # size
    "full-of-zeroes": (A, message(A, counts=(FULL, 0, 0), rest=bytes(FULL - 40)), None),
    "full-of-ff": (A, message(A, counts=(FULL, 0, 0), rest=b"\xff" * (FULL - 40)), None),
    "full-of-pointers": (MX, message(MX, counts=(FULL, 0, 0), rest=ME * 32000), None),
    "full-of-a": (A, many(A, lambda i: record(ME, A, number(i)), 16), Verdict.ANSWERED),
    "full-of-one-a": (A, many(A, lambda _: record(ME, A, bytes(4)), 16), None),
    "full-of-aaaa": (AAAA, many(AAAA, lambda i: record(ME, AAAA, number(i) * 4), 28), None),
    "full-of-mx": (MX, many(MX, lambda i: record(ME, MX, number(i)[2:] + ME), 16), None),
    "full-of-txt": (TXT, many(TXT, lambda i: record(ME, TXT, b"\4" + number(i)), 17), None),
    "full-of-owners": (A, many(A, lambda i: record(b"\4" + number(i) + ME, A, bytes(4)), 21), None),
    "full-of-cnames": (A, many(A, lambda _: record(ME, CNAME, ME), 14), None),
    "full-of-long-names": (
        A,
        many(A, lambda _: record(b"\1a" * 120 + ME, A, bytes(4)), 256),
        None,
    ),
    "full-of-label-and-pointer": (
        A,
        message(
            A,
            record(b"\1a" * 120 + ME, A, bytes(4)),
            *[record(b"\1b" + struct.pack(">H", 0xC000 | AT), A, number(i)) for i in range(3500)],
        ),
        None,
    ),
    "full-of-authority-names": (
        A,
        message(
            A,
            record(b"\1a" * 120 + ME, A, bytes(4)),
            counts=(1, 3800, 0),
            rest=b"".join(
                record(struct.pack(">H", 0xC000 | (AT + 2 * (i % 120))), 2, ME) for i in range(3800)
            ),
        ),
        None,
    ),
    "full-of-additional-names": (
        A,
        message(
            A,
            record(ME, A, bytes(4)),
            counts=(1, 0, 2500),
            rest=b"".join(record(b"\1a" * 5 + ME, A, number(i)) for i in range(2500)),
        ),
        None,
    ),
    "one-txt-of-empty-strings": (TXT, message(TXT, record(ME, TXT, bytes(FULL - 40))), None),
    "one-txt-of-short-strings": (TXT, message(TXT, record(ME, TXT, b"\1a" * 32000)), None),
    "one-apl": (APL, message(APL, record(ME, APL, b"\0\1\x08\1\1" * 13000)), None),
    "one-svcb": (SVCB, message(SVCB, record(ME, SVCB, b"\0\1\0" + b"\0\1\0\0" * 16000)), None),
    "most-that-is-read": (
        MX,
        message(MX, *[record(b"\1a" * 3 + ME, MX, number(i)[2:] + ME) for i in range(500)]),
        Verdict.ANSWERED,
    ),
    "more-names-than-are-read": (
        MX,
        message(MX, *[record(b"\1a" * 50 + ME, MX, number(i)[2:] + ME) for i in range(500)]),
        Verdict.NEXT_STEP,
    ),
}


def digest(rdtype: int, wire: bytes) -> Verdict:
    """Do everything with *wire* that a lookup may do."""
    exchange = Exchange(question(rdtype), [("s", 1)], True, stream=True)
    exchange.ident = b"id"
    exchange.next_step()
    verdict = exchange.judge(wire)
    if exchange.reply is not None:
        exchange.reply.lifetime()
        if rdtype in (A, AAAA):
            exchange.reply.read_addresses()
            exchange.reply.read((rdtype,))
        else:
            exchange.reply.read(None)
    return verdict


def test_there_are_at_least_sixty() -> None:
    assert len(PACKETS) >= 60


@pytest.mark.parametrize("name", PACKETS)
def test_hostile_packets_get_a_verdict_soon(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    rdtype, wire, expected = PACKETS[name]
    assert len(wire) <= FULL
    verdict = digest(rdtype, wire)
    assert verdict in (Verdict.ANSWERED, Verdict.NEXT_STEP)
    assert expected in (None, verdict)
    # The promise is 5 ms, which the scorecard looks at; here only a hang is red. The best of
    # ten in processor time keeps a busy machine out of it.
    took = min(timed(rdtype, wire) for _ in range(10))
    record_property("ms", round(1000 * took, 3))
    assert took < 0.1


def peak(rdtype: int, wire: bytes) -> int:
    """Return how many octets of memory reading *wire* takes at most."""
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        digest(rdtype, wire)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


LARGE = {
    "addresses": (A, many(A, lambda i: record(ME, A, number(i)), 16)),
    "twice": (A, many(A, lambda i: record(ME, A, number(i % 3000)), 16)),
    "ipv6": (AAAA, many(AAAA, lambda i: record(ME, AAAA, number(i) * 4), 28)),
    "of-others": (A, many(A, lambda i: record(b"\0", A, number(i)), 15)),
}


@pytest.mark.parametrize("name", [*LARGE, *PACKETS])
def test_no_packet_takes_more_than_a_mebibyte_to_read(name: str) -> None:
    rdtype, wire = LARGE[name] if name in LARGE else PACKETS[name][:2]
    digest(rdtype, wire)  # what is imported for the first record counts once
    assert peak(rdtype, wire) <= 1 << 20


def timed(rdtype: int, wire: bytes) -> float:
    """Return the processor's seconds of a lookup that gets *wire*: the verdict, and one reading."""
    began = time.process_time()
    exchange = Exchange(question(rdtype), [("s", 1)], True, stream=True)
    exchange.ident = b"id"
    exchange.next_step()
    exchange.judge(wire)
    if exchange.reply is not None:
        exchange.reply.lifetime()
        if rdtype in (A, AAAA):
            exchange.reply.read_addresses()
        else:
            exchange.reply.read(None)
    return time.process_time() - began


@pytest.mark.parametrize("rdtype", [A, MX, TXT, SRV, 6, 35, 43, 46, 47, 50, SVCB, 99, 257, 65280])
def test_any_contents_of_any_type_are_rdata_or_left_out(rdtype: int) -> None:
    roll = random.Random(rdtype)
    for _ in range(300):
        rdata = roll.randbytes(roll.choice([0, 1, 4, 20, 60]))
        wire = message(rdtype, record(ME, rdtype, rdata))
        parsed = _wire_full.parse(wire, question(rdtype))
        assert len(_wire_full.read(parsed, question(rdtype), None).values) <= 1


def test_a_malformed_record_is_left_out_and_the_others_count() -> None:
    """DNS-33."""
    wire = message(MX, record(ME, MX, b"\0"), record(ME, MX, b"\0\7\1m\0"))
    reading = _wire_full.read(_wire_full.parse(wire, question(MX)), question(MX), (MX,))
    assert [str(rdata) for rdata in reading.values] == ["7 m."]
