"""The fast codec: the few message shapes that nearly every lookup consists of.

Sans-I/O and free of dnspython. It builds queries, recognises the reply to a
query, and reads replies to A and AAAA questions. Whatever it does not know
*exactly* it hands back as ``None`` ("undecided"), and the thorough codec decides
(``_wire_full``). Tested with dnspython as the oracle: on every generated or mutated
packet both agree or this module is undecided.
"""

from __future__ import annotations

__all__ = (
    "AAAA",
    "MAX_HOPS",
    "MAX_TTL",
    "A",
    "Reading",
    "Undecided",
    "bare_rcode",
    "build_query",
    "decode_name",
    "encode_name",
    "is_reply_to",
    "is_special",
    "make_question",
    "names_in_question",
    "randomize_case",
    "read_addresses",
    "read_name",
    "skip_name",
)

import struct
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import Final, NamedTuple

# Theory of operation
# -------------------
# dnspython needs about 45 us to build a query and 90-150 us to read a reply,
# mostly spent on objects for names and records. A busy client sees one shape of
# packet thousands of times a second: the question it sent, a chain of zero or more
# aliases, addresses, perhaps an SOA, NS or glue records and an OPT. Reading that
# from the bytes takes 3-5 us.
#
# The rule that makes the shortcut safe: this code must be *stricter* than
# dnspython. Order of records other than alias, alias, address, address; an
# unknown type in any section; an odd class, TTL or length; an
# EDNS option - all are legal and rare, and all are answered with "undecided".
# A reply that is truly malformed is undecided too, so that there is one place
# (`_wire_full`) that says what malformed means.
#
# A name costs up to 127 labels and 16 pointers, 25 us, and a hostile packet has room for
# thousands of them. So names are remembered by where they start, and few that are
# not known yet are followed, fewer the longer they are: honest servers point to whole names
# that stand before.

A: Final = 1
AAAA: Final = 28
_NS: Final = 2
_CNAME: Final = 5
_SOA: Final = 6
_OPT: Final = 41
_IN: Final = 1

# RFC 2181, 8: a TTL is a number of 31 bits.
MAX_TTL: Final = 0x7FFFFFFF
# An alias chain may have this many links, in one reply or over several.
MAX_HOPS: Final = 16

_FORMERR: Final = 1
_SERVFAIL: Final = 2
_NOTIMP: Final = 4
_REFUSED: Final = 5
_TROUBLES: Final = frozenset((_FORMERR, _SERVFAIL, _NOTIMP, _REFUSED))

# So many names that have not been read before are followed here; more are undecided.
_MAX_UNKNOWN: Final = 60
# So many records may stand behind the answers; more make the reply malformed.
MAX_EXTRA: Final = 2_000
# The key under which the names of a packet keep what may yet be spent on following them.
LEFT: Final = -1
# A name that is followed costs its bytes, which bound its labels, and this, for its pointers.
NAME_COST: Final = 32
# What may be spent on them here: on 60 names of the usual length; more is undecided.
_MAX_SPENT: Final = 3_600

_counts = struct.Struct(">HHHHH").unpack_from  # flags, qd, an, ns, ar; at offset 2
_record = struct.Struct(">HHIH").unpack_from  # type, class, ttl, rdlength
_record_at_pointer = struct.Struct(">HHHIH").unpack_from  # the same behind a pointer
_u32 = struct.Struct(">I").unpack_from
_LENGTHS: Final = tuple(bytes((n,)) for n in range(64))
_POINTER_TO_QUESTION: Final = 0xC00C
_ONE_QUESTION: Final = b"\0\1"

# Flags and counts of a query: RD (and AD, RFC 6840 5.7), one question.
_HEAD: Final = b"\x01\x00\0\1\0\0\0\0\0\0"
_HEAD_EDNS: Final = b"\x01\x00\0\1\0\0\0\0\0\1"
_HEAD_AD: Final = b"\x01\x20\0\1\0\0\0\0\0\0"
_HEAD_AD_EDNS: Final = b"\x01\x20\0\1\0\0\0\0\0\1"
# RFC 6891: root owner, OPT, 1232 bytes (the DNS Flag Day 2020 value: no fragments).
_EDNS: Final = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


class Reading(NamedTuple):
    """What a reply says about the question, however it was read.

    Attributes:
        rcode: The response code, the extension of EDNS included.
        hops: How many aliases were followed inside the reply.
        name: Where they led: a lower-case name in wire form.
        values: The answers at *name*: address texts, or the sets of records.
        ttl: Seconds that all records which were used remain valid.
        negative_ttl: Seconds that "there is none" remains valid (RFC 2308);
            ``None`` if the reply does not say.
        endless: The aliases of the reply form a loop or too long a chain.
    """

    rcode: int
    hops: int
    name: bytes
    values: list[object]
    ttl: int
    negative_ttl: int | None
    endless: bool = False


def encode_name(name: str) -> bytes:
    r"""Return *name* as an absolute name in wire form, in lower case.

    Escapes of zone files (``\.``, ``\032``) are understood. Anything but ASCII is for idna.

    Raises:
        ValueError: If it has an empty label, a label over 63 bytes, more than 255
            bytes, a broken escape, or is not ASCII.
    """
    try:
        octets = name.lower().encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(f"expected an ASCII name, got {name!r}") from None
    labels = octets.split(b".") if b"\\" not in octets else _split_escaped(octets)
    if labels[-1]:
        labels.append(b"")
    elif len(labels) == 2 and not labels[0]:
        return b"\0"
    try:
        wire = b"".join([_LENGTHS[len(label)] + label for label in labels])
    except IndexError:
        raise ValueError(f"label of more than 63 bytes in name {name!r}") from None
    if not labels[0] or labels.count(b"") > 1:
        raise ValueError(f"empty label in name {name!r}")
    if len(wire) > 255:
        raise ValueError(f"name of more than 255 bytes: {name[:40]!r}...")
    return wire


def _split_escaped(octets: bytes) -> list[bytes]:
    labels = [b""]
    pos = 0
    while pos < len(octets):
        octet = octets[pos : pos + 1]
        pos += 1
        if octet == b".":
            labels.append(b"")
            continue
        if octet == b"\\":
            digits = octets[pos : pos + 3]
            if digits[:1].isdigit():
                if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
                    raise ValueError(f"broken escape in name {octets!r}")
                octet = bytes((int(digits),)).lower()
                pos += 3
            elif digits:
                octet = digits[:1]
                pos += 1
            else:
                raise ValueError(f"broken escape in name {octets!r}")
        labels[-1] += octet
    return labels


# What zone files, and dnspython, escape with a backslash.
_SPECIAL: Final = frozenset(b'"().;\\@$')


def decode_name(wire: bytes) -> str:
    r"""Return a wire-form name (no pointers) as text without the final dot; the root is ``"."``.

    Bytes that would be ambiguous are escaped as in zone files (RFC 1035, 5.1).
    """
    labels = []
    pos = 0
    while length := wire[pos]:
        label = wire[pos + 1 : pos + 1 + length]
        pos += 1 + length
        labels.append(
            "".join(
                f"\\{chr(octet)}"
                if octet in _SPECIAL
                else chr(octet)
                if 0x20 < octet < 0x7F
                else f"\\{octet:03d}"
                for octet in label
            )
        )
    return ".".join(labels) or "."


_SPECIAL_NAMES: Final = (b"\x09localhost\0", b"\x07invalid\0")


def is_special(name: bytes) -> bool:
    """Say whether a lower-case name in wire form is ``localhost``, ``invalid`` or below them.

    No server is asked about these, or believed (RFC 6761).
    """
    if not name.endswith(_SPECIAL_NAMES):
        return False
    pos = 0  # that was by bytes, this is by labels
    while name[pos:] not in _SPECIAL_NAMES:
        if not name[pos]:
            return False
        pos += 1 + name[pos]
    return True


def make_question(name: bytes, rdtype: int, rdclass: int = _IN) -> bytes:
    """Return the question section for a wire-form *name*."""
    return b"%b%c%c%c%c" % (name, rdtype >> 8, rdtype & 255, rdclass >> 8, rdclass & 255)


def randomize_case(question: bytes, random_bits: int) -> bytes:
    """Return *question* with the case of each letter of its name decided by a bit of *random_bits*.

    draft-vixie-dnsext-dns0x20: servers copy the name byte by byte, a forger has to guess.
    """
    mixed = bytearray(question)
    for i in range(len(question) - 4):
        if 97 <= mixed[i] <= 122:
            if random_bits & 1:
                mixed[i] -= 32
            random_bits >>= 1
    return bytes(mixed)


def build_query(ident: bytes, question: bytes, edns: bool, trust_ad: bool = False) -> bytes:
    """Return a query for *question* with the two-byte *ident*, recursion desired."""
    if edns:
        return ident + (_HEAD_AD_EDNS if trust_ad else _HEAD_EDNS) + question + _EDNS
    return ident + (_HEAD_AD if trust_ad else _HEAD) + question


def bare_rcode(wire: bytes) -> int | None:
    """Return the response code of a reply that is nothing but one, ``None`` if it is more.

    Servers that could not, or would not, read the query answer with a header alone, or with
    a header and an OPT record: FORMERR where EDNS is unknown, REFUSED, SERVFAIL and NOTIMP,
    BADVERS and other codes that take an OPT. NOERROR and NXDOMAIN say something about a name,
    so they need the question.
    """
    flags, questions, answers, authorities, additionals = _counts(wire, 2)
    if questions or answers or authorities or additionals > 1:
        return None
    rcode: int = flags & 15
    if additionals:
        if wire[12:15] != b"\0\0\x29" or len(wire) < 23:
            return None
        rcode |= wire[17] << 4
    if len(wire) != (23 + int.from_bytes(wire[21:23], "big") if additionals else 12):
        return None
    return rcode if rcode in _TROUBLES or rcode > 15 else None


def is_reply_to(wire: bytes, question: bytes, exact_case: bool) -> bool:
    """Say whether *wire* is a response to exactly this question.

    The identifier has been looked at already. A bare error (:func:`bare_rcode`) needs no
    question.
    """
    if len(wire) < 12 or wire[2] & 0xF8 != 0x80:
        return False
    if wire[4:6] != _ONE_QUESTION:
        return bare_rcode(wire) is not None
    end = 12 + len(question)
    echoed = wire[12:end]
    if echoed == question:
        return True
    # The type and class must not be compared without case: type 65 is "A", 97 is "a".
    return (
        not exact_case
        and echoed[-4:] == question[-4:]
        and echoed[:-4].lower() == question[:-4].lower()
    )


class Undecided(Exception):
    """Found something that :mod:`._wire_full` has to look at."""


def read_name(wire: bytes, pos: int) -> tuple[bytes, int]:
    """Return the lower-case name at *pos* and where it ends.

    As strict as dnspython: a pointer leads strictly backwards, and what it leads to
    ends before the name (or part of it) that held the pointer.
    """
    labels = []
    start = pos
    end = limit = pointers = 0
    total = 1
    while length := wire[pos]:
        if length < 64:
            total += 1 + length
            labels.append(wire[pos : pos + 1 + length])
            pos += 1 + length
            if limit and pos >= limit:
                raise Undecided
        elif length >= 192:
            target = (length & 63) << 8 | wire[pos + 1]
            if not end:
                end = pos + 2
            pointers += 1
            if target >= start or (limit and pos + 2 > limit) or pointers > 16:
                raise Undecided
            limit = start
            start = pos = target
        else:
            raise Undecided
        if total > 255:
            raise Undecided
    labels.append(b"\0")
    return b"".join(labels).lower(), end or pos + 1


def read_addresses(wire: bytes, question: bytes, rdtype: int) -> Reading | None:
    """Read the reply *wire* to an A or AAAA *question* of class IN, or return ``None``: undecided.

    *wire* has passed :func:`is_reply_to` and is not truncated; *question* is in
    lower case.
    """
    try:
        return _read_addresses(wire, question, rdtype)
    except (IndexError, struct.error, Undecided):
        return None


def _read_addresses(wire: bytes, question: bytes, rdtype: int) -> Reading | None:
    flags, _one, answers, authorities, additionals = _counts(wire, 2)
    if authorities + additionals > MAX_EXTRA:
        return None
    size = len(wire)
    pos = 12 + len(question)
    name = question[:-4]
    names = [name]
    pointer = _POINTER_TO_QUESTION
    ttl = MAX_TTL
    values: list[object] = []
    unknown = _MAX_UNKNOWN
    for _ in range(answers):
        owner, kind, rdclass, lifetime, length = _record_at_pointer(wire, pos)
        if owner == pointer:
            pos += 12
        else:
            if wire.startswith(name, pos):
                pos += len(name)
            else:
                unknown -= 1
                target, pos = read_name(wire, pos)
                if target != name or unknown < 0:
                    return None
            kind, rdclass, lifetime, length = _record(wire, pos)
            pos += 10
        end = pos + length
        if rdclass != _IN or lifetime > MAX_TTL or end > size:
            return None
        if kind == rdtype:
            if kind == A:
                if length != 4:
                    return None
                values.append(inet_ntoa(wire[pos:end]))
            else:
                if length != 16:
                    return None
                values.append(inet_ntop(AF_INET6, wire[pos:end]))
        elif kind == _CNAME and not values and len(names) <= MAX_HOPS:
            name, stop = read_name(wire, pos)
            if stop != end or name in names or is_special(name):
                return None
            names.append(name)
            pointer = 0xC000 | pos if pos < 0x4000 else 0
        else:
            return None
        if lifetime < ttl:
            ttl = lifetime
        pos = end
    # dnspython's set of records drops duplicates.
    if len(values) > 1:
        values = list(dict.fromkeys(values))
    rcode = flags & 15
    negative: int | None = None
    edns = False
    known = {LEFT: _MAX_SPENT}
    if authorities or additionals > 1:
        known |= names_in_question(question)
    if authorities:
        pos, negative = _skip_authority(wire, pos, authorities, known)
    for _ in range(additionals):
        if not wire[pos]:
            kind, rdclass, lifetime, length = _record(wire, pos + 1)
            # Only one empty OPT of EDNS version 0 with no more of a response code.
            if kind != _OPT or length or lifetime >> 16 or edns:
                return None
            edns = True
            pos += 11
        else:
            pos = skip_name(wire, pos, known)
            kind, rdclass, lifetime, length = _record(wire, pos)
            pos += 10 + length
            if rdclass != _IN or not (
                (kind == A and length == 4) or (kind == AAAA and length == 16)
            ):
                return None
    if pos > size:
        return None
    return Reading(rcode, len(names) - 1, name, values, ttl, negative)


def _skip_authority(
    wire: bytes, pos: int, count: int, known: dict[int, int]
) -> tuple[int, int | None]:
    """Check the authority section; return where it ends and the negative TTL of its SOA."""
    negative = None
    for _ in range(count):
        pos = skip_name(wire, pos, known)
        kind, rdclass, lifetime, length = _record(wire, pos)
        pos += 10
        end = pos + length
        if rdclass != _IN or lifetime > MAX_TTL:
            raise Undecided
        if kind == _NS:
            pos = skip_name(wire, pos, known)
        elif kind == _SOA and negative is None:
            pos = skip_name(wire, skip_name(wire, pos, known), known)
            # RFC 2308, 5: the lesser of the record's own TTL and its last field.
            negative = min(lifetime, _u32(wire, pos + 16)[0], MAX_TTL)
            pos += 20
        else:
            raise Undecided
        if pos != end:
            raise Undecided
    return pos, negative


def names_in_question(question: bytes) -> dict[int, int]:
    """Return the names that begin in the question section of a packet, for :func:`skip_name`."""
    known: dict[int, int] = {}
    start, left = 12, len(question) - 4
    while left > 1:
        known[start] = left
        length = 1 + question[start - 12]
        start += length
        left -= length
    known[start] = 1
    return known


def skip_name(wire: bytes, pos: int, known: dict[int, int]) -> int:
    """Return where the name at *pos* ends, once it is certain that it is one.

    *known* has the names that a pointer may lead to: where they start, and how long
    they are (plus 256 for each pointer in them). All of them end before *pos*, so pointers
    to them lead strictly backwards; one to elsewhere is for :func:`read_name` to judge, as
    long as ``known[LEFT]`` pays for it.
    """
    start = pos
    total = 0
    while length := wire[pos]:
        if length < 64:
            length += 1
            total += length
            pos += length
            if total > 254:
                raise Undecided
        elif length >= 192:
            target = (length & 63) << 8 | wire[pos + 1]
            rest = known.get(target)
            if rest is None or rest >> 8 > 14:
                size = len(read_name(wire, start)[0])
                known[LEFT] -= NAME_COST + size
                if known[LEFT] < 0:
                    raise Undecided
                rest = size - total | _pointers(wire, target) << 8
                known[target] = rest
            if total + (rest & 255) > 255:
                raise Undecided
            known[start] = total + rest + 256
            return pos + 2
        else:
            raise Undecided
    known[start] = total + 1
    return pos + 1


def _pointers(wire: bytes, pos: int) -> int:
    """Return how many pointers the name at *pos* has, which has been read already."""
    count = 0
    while length := wire[pos]:
        if length < 64:
            pos += 1 + length
        else:
            pos = (length & 63) << 8 | wire[pos + 1]
            count += 1
    return count
