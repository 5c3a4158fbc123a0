"""The thorough codec: reads any reply, of any type, in bounded time.

Sans-I/O. Walks the structure itself and leaves the contents of records to dnspython,
which is imported at the first record that needs it - never for addresses. Any bytes give a
message or :class:`MalformedReply`, never another exception.
"""

from __future__ import annotations

__all__ = ("MalformedReply", "Message", "addresses", "make_rdata", "parse", "read")

import struct
from array import array
from collections.abc import Collection
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import TYPE_CHECKING, Final, NamedTuple

from ._wire_fast import (
    AAAA,
    LEFT,
    MAX_EXTRA,
    MAX_HOPS,
    MAX_TTL,
    NAME_COST,
    A,
    Reading,
    Undecided,
    is_special,
    names_in_question,
    read_name,
    skip_name,
)

if TYPE_CHECKING:
    import dns.rdata

# Theory of operation
# -------------------
# dnspython reads a whole message or refuses it, at 20 us and more for each record: 65,535
# bytes of the smallest records cost it a tenth of a second and more, and one TXT record of
# that size, made of empty strings, the same. A stub resolver needs much less. It has to
# know where each record begins and ends, whose it is, and of what type and age; the
# contents matter for the few records that are the answer. So the structure is walked here,
# under bounds that no honest reply comes near, and dnspython makes rdata of what is
# handed out. Addresses are checked and shown without it: there may be as many of them as a
# packet has room for, and they become rdata one by one, when they are read (`Answer`).
#
# A record is kept as the position of its contents, two bytes in an array: what else there is to
# know stands in front of them. An object for each would take more than a MiB for a reply of
# 64 KiB.
#
# If the structure is broken, the reply is garbage and another server is asked. If the
# contents of one record are, that record is left out (DNS-33).

_record = struct.Struct(">HHIH").unpack_from
_counts = struct.Struct(">HHHHH").unpack_from
_u32 = struct.Struct(">I").unpack_from

_CNAME: Final = 5
_SOA: Final = 6
_OPT: Final = 41
_ANY: Final = 255
_ANY_CLASS: Final = 255

_IN: Final = 1
_ADDRESS: Final = {A: 4, AAAA: 16}

# So many answers are read, addresses that were asked for not counted.
MAX_ANSWERS: Final = 600
# What may be spent on names that have not been read before: 460 of the usual length, 80 of the
# longest. That is 3 ms at the very most.
_MAX_SPENT: Final = 24_000
# Types whose contents are a list of items of one byte and more: what may take long to
# read is bounded by the bytes of all such records in a reply.
_LISTS: Final = frozenset((16, 42, 47, 50, 55, 56, 62, 64, 65, 99, 258, 261, 262))
_MAX_LIST_OCTETS: Final = 12_000
_MAX_STRINGS: Final = 2_000
_TXT: Final = 16


class MalformedReply(ValueError):
    """The bytes are no DNS message, or one beyond all bounds."""


class Message(NamedTuple):
    """A reply whose structure is sound.

    Attributes:
        wire: The bytes.
        rcode: The whole response code, with the upper bits of EDNS.
        answers: The records of the answer section by owner: where the contents of each begin.
        types: The types of these records.
        ttl: The least TTL of these records, ``MAX_TTL`` if there are none.
        negative_ttl: How long "there is none" is valid (RFC 2308), if the reply says.
    """

    wire: bytes
    rcode: int
    answers: dict[bytes, array[int]]
    types: set[int]
    ttl: int
    negative_ttl: int | None

    def lifetime(self, rdtype: int) -> tuple[int, bool]:
        """Return how many seconds it may be kept, and whether it says "there is none"."""
        ttl = self.ttl
        if self.rcode == 0 and self.types and (rdtype in self.types or rdtype == _ANY):
            return ttl, False
        if self.negative_ttl is None:
            # Aliases that lead elsewhere are worth keeping; a bare "none" is not.
            return (ttl if self.types and not self.rcode else 0), False
        return min(ttl, self.negative_ttl), True


def parse(wire: bytes, question: bytes) -> Message:
    """Walk the reply *wire*, which has *question* as its question section.

    Bytes behind the last record are ignored, as other resolvers do.

    Raises:
        MalformedReply: If the structure is broken, or beyond all bounds.
    """
    try:
        return _parse(wire, question)
    except (IndexError, struct.error, Undecided):
        raise MalformedReply("the structure is broken") from None


def _parse(wire: bytes, question: bytes) -> Message:
    flags, _one, answers, authorities, additionals = _counts(wire, 2)
    wanted = question[-4] << 8 | question[-3]
    if authorities + additionals > MAX_EXTRA:
        raise MalformedReply(f"more than {MAX_EXTRA} records behind the answers")
    others = 0
    rcode = flags & 15
    owner = question[:-4]
    names: dict[bytes, bytes] = {b"\xc0\x0c": owner}
    known = names_in_question(question)
    known[LEFT] = _MAX_SPENT
    records: dict[bytes, array[int]] = {}
    types: set[int] = set()
    least = MAX_TTL
    negative: int | None = None
    opt = False
    pos = 12 + len(question)
    list_octets = strings = 0
    for i in range(answers + authorities + additionals):
        at = pos
        if i >= answers:
            pos = skip_name(wire, pos, known)
        elif wire[pos] >= 192:
            # Nearly all owners are a pointer; what it leads to does not change.
            pointer = wire[pos : pos + 2]
            found = names.get(pointer)
            if found is None:
                found = names[pointer] = _next_name(wire, pos, known)[0]
            owner = found
            pos += 2
        elif wire.startswith(owner, pos):
            pos += len(owner)
        else:
            owner, pos = _next_name(wire, pos, known)
        rdtype, rdclass, ttl, length = _record(wire, pos)
        start = pos + 10
        pos = start + length
        if pos > len(wire):
            raise MalformedReply("a record goes beyond the end")
        if ttl > MAX_TTL:
            ttl = 0  # RFC 2181, 8
        if i < answers:
            of_owner = records.get(owner)
            if of_owner is None:
                of_owner = records[owner] = array("H")
            of_owner.append(start)
            types.add(rdtype)
            if ttl < least:
                least = ttl
            if rdtype == wanted and rdclass == _IN and _ADDRESS.get(rdtype) == length:
                continue
            others += 1
            if others > MAX_ANSWERS:
                raise MalformedReply(f"more than {MAX_ANSWERS} records")
            if rdtype == _TXT:
                strings += _count_strings(wire, start, pos)
            elif rdtype in _LISTS:
                list_octets += length
        elif i < answers + authorities:
            if rdtype == _SOA and negative is None and length >= 22:
                # RFC 2308, 5: the lesser of the record's own TTL and its last field.
                negative = min(ttl, _u32(wire, pos - 4)[0], MAX_TTL)
        elif rdtype == _OPT:
            if opt or known[at] & 255 != 1:
                raise MalformedReply("an OPT record is misplaced or repeated")
            opt = True
            rcode |= wire[start - 6] << 4
    if list_octets > _MAX_LIST_OCTETS or strings > _MAX_STRINGS:
        raise MalformedReply("its records have more items than make sense")
    return Message(wire, rcode, records, types, least, negative)


def _next_name(wire: bytes, pos: int, known: dict[int, int]) -> tuple[bytes, int]:
    name, end = read_name(wire, pos)
    known[LEFT] -= NAME_COST + len(name)
    if known[LEFT] < 0:
        raise MalformedReply("more names than make sense")
    return name, end


def _count_strings(wire: bytes, pos: int, end: int) -> int:
    count = 0
    while pos < end and count <= _MAX_STRINGS:
        pos += 1 + wire[pos]
        count += 1
    return count


def _follow(
    message: Message, question: bytes, accept: Collection[int] | None
) -> tuple[Reading, list[int]]:
    """Follow the aliases from the name in *question*.

    They are not followed into a special name: who is asked next knows better than the reply.

    Returns:
        A reading that has no values yet, and where the contents of the records begin that are the
        answer.
    """
    name = question[:-4]
    rdclass = question[-2] << 8 | question[-1]
    wire = message.wire
    ttl = MAX_TTL
    seen = [name]
    endless = False
    while True:
        found: list[int] = []
        target: bytes | None = None
        alias_ttl = found_ttl = ttl
        for start in message.answers.get(name, ()):
            kind, its_class, its_ttl, length = _record(wire, start - 10)
            if its_class != rdclass and rdclass != _ANY_CLASS:
                continue
            if its_ttl > MAX_TTL:
                its_ttl = 0  # RFC 2181, 8
            if accept is None or kind in accept:
                found.append(start)
                found_ttl = min(found_ttl, its_ttl)
            elif kind == _CNAME and target is None:
                target = _target(wire, start, start + length)
                alias_ttl = min(alias_ttl, its_ttl)
        if found:
            ttl = found_ttl
            break
        ttl = alias_ttl
        if target is None:
            break
        name = target
        if name in seen or len(seen) > MAX_HOPS:
            endless = True
            seen.append(name)
            break
        seen.append(name)
        if is_special(name):
            return Reading(0, len(seen) - 1, name, [], ttl, None), []
    reading = Reading(message.rcode, len(seen) - 1, name, [], ttl, message.negative_ttl, endless)
    return reading, found


def _target(wire: bytes, start: int, end: int) -> bytes | None:
    try:
        name, stop = read_name(wire, start)
    except (IndexError, Undecided):
        return None
    return name if stop == end else None


def addresses(message: Message, question: bytes) -> Reading:
    """Do what ``_wire_fast.read_addresses`` does, whatever the shape of the reply."""
    rdtype = question[-4] << 8 | question[-3]
    reading, starts = _follow(message, question, (rdtype,))
    wire = message.wire
    values: dict[str, None] = {}
    for start in starts:
        octets = wire[start : start + (wire[start - 2] << 8 | wire[start - 1])]
        if len(octets) == (4 if rdtype == A else 16):
            values[inet_ntoa(octets) if rdtype == A else inet_ntop(AF_INET6, octets)] = None
    return reading._replace(values=list(values))


def read(message: Message, question: bytes, accept: Collection[int] | None) -> Reading:
    """Follow the aliases of *message* from the name in *question*.

    Args:
        message: The reply.
        question: The question section, name in lower case.
        accept: The record types that are answers; ``None`` accepts all. If it has CNAME,
            aliases are answers and are not followed.

    Returns:
        A reading whose values are :class:`dns.rdata.Rdata` objects; an address (4 or 16 bytes of
        class IN) is left as the position of its bytes, an ``int``, for :func:`make_rdata`.
    """
    reading, starts = _follow(message, question, accept)
    wire = message.wire
    values: list[object] = []
    seen: dict[int, set[bytes]] = {}
    for start in starts:
        rdtype, rdclass, _ttl, length = _record(wire, start - 10)
        octets = wire[start : start + length]
        of_type = seen.setdefault(rdtype, set())
        if octets in of_type:
            continue
        if rdclass == _IN and rdtype in _ADDRESS:
            value: object = start if length == _ADDRESS[rdtype] else None
        else:
            value = make_rdata(wire, start)
        if value is not None:
            of_type.add(octets)
            values.append(value)
    return reading._replace(values=values)


def make_rdata(wire: bytes, start: int) -> dns.rdata.Rdata | None:
    """Return dnspython's object for the record whose contents begin at *start* in *wire*.

    ``None`` if they are malformed.
    """
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype

    rdtype, rdclass, _ttl, length = _record(wire, start - 10)
    try:
        return dns.rdata.from_wire(
            dns.rdataclass.RdataClass.make(rdclass),
            dns.rdatatype.RdataType.make(rdtype),
            wire,
            start,
            length,
        )
    except Exception:
        # dnspython promises DNSException; others have escaped from single types before, and
        # whatever it is, the bytes came from the network and the lookup has to go on.
        return None
