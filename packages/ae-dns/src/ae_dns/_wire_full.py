"""The thorough codec: reads any reply, of any type, in bounded time.

Sans-I/O. Walks the structure itself and leaves the contents of records to dnspython,
which is imported at the first record that needs it - never for addresses. Any octets give a
message or :class:`MalformedReply`, never another exception.
"""

from __future__ import annotations

__all__ = ("MalformedReply", "Message", "Record", "addresses", "make_rdata", "parse", "read")

import struct
from collections.abc import Collection
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._wire_fast import (
    AAAA,
    LEFT,
    MAX_HOPS,
    MAX_TTL,
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
# octets of the smallest records cost it a tenth of a second and more, and one TXT record of
# that size, made of empty strings, the same. A stub resolver needs much less. It has to
# know where each record begins and ends, whose it is, and of what type and age; the
# contents matter for the few records that are the answer. So the structure is walked here,
# under bounds that no honest reply comes near, and dnspython makes rdata of what is
# handed out. Addresses are checked and shown without it: there may be as many of them as a
# packet has room for, and they become rdata one by one, when somebody looks (`Answer`).
#
# If the structure is broken, the reply is garbage and another server is asked. If the
# contents of one record are, that record is left out (DNS-33).

_record = struct.Struct(">HHIH").unpack_from
_counts = struct.Struct(">HHHHH").unpack_from
_u32 = struct.Struct(">I").unpack_from

_CNAME: Final = 5
_SOA: Final = 6
_OPT: Final = 41
_ANY_CLASS: Final = 255

_IN: Final = 1
_ADDRESS: Final = {A: 4, AAAA: 16}

# So many answers are read, addresses that were asked for not counted.
MAX_ANSWERS: Final = 600
# So many names that have not been read before are followed: 25 us each, at the very most.
_MAX_NAMES: Final = 600
# Types whose contents are a list of items of one octet and more: what may take long to
# read is bounded by the octets of all such records in a reply.
_LISTS: Final = frozenset((16, 42, 47, 50, 55, 56, 62, 64, 65, 99, 258, 261, 262))
_MAX_LIST_OCTETS: Final = 12_000
_MAX_STRINGS: Final = 2_000
_TXT: Final = 16


class MalformedReply(ValueError):
    """The octets are no DNS message, or one beyond all bounds."""


class Record(NamedTuple):
    """Where a record of the answer section stands, and whose it is.

    In the values of a :class:`Reading` it stands for an address: 4 or 16 octets of class IN.
    """

    owner: bytes
    rdtype: int
    rdclass: int
    ttl: int
    start: int
    end: int


class Message(NamedTuple):
    """A reply whose structure is sound.

    Attributes:
        wire: The octets.
        rcode: The whole response code, with the upper bits of EDNS.
        answers: The records of the answer section.
        negative_ttl: How long "there is none" is valid (RFC 2308), if the reply says.
    """

    wire: bytes
    rcode: int
    answers: list[Record]
    negative_ttl: int | None

    def lifetime(self, rdtype: int) -> tuple[int, bool]:
        """Return how many seconds it may be kept, and whether it says "there is none"."""
        ttl = min((record.ttl for record in self.answers), default=MAX_TTL)
        if self.rcode == 0 and any(
            rdtype in (record.rdtype, _ANY_CLASS) for record in self.answers
        ):
            return ttl, False
        if self.negative_ttl is None:
            # Aliases that lead elsewhere are worth keeping; a bare "none" is not.
            return (ttl if self.answers and not self.rcode else 0), False
        return min(ttl, self.negative_ttl), True


def parse(wire: bytes, question: bytes) -> Message:
    """Walk the reply *wire*, which has *question* as its question section.

    Octets behind the last record are ignored, as everybody does.

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
    countable = answers
    rcode = flags & 15
    owner = question[:-4]
    names: dict[bytes, bytes] = {b"\xc0\x0c": owner}
    known = names_in_question(question)
    known[LEFT] = _MAX_NAMES
    records: list[Record] = []
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
            records.append(Record(owner, rdtype, rdclass, ttl, start, pos))
            if rdtype == wanted and rdclass == _IN and _ADDRESS.get(rdtype) == length:
                countable -= 1
            elif rdtype in _LISTS:
                list_octets += length
                if rdtype == _TXT:
                    list_octets -= length
                    strings += _count_strings(wire, start, pos)
        elif i < answers + authorities:
            if rdtype == _SOA and negative is None and length >= 22:
                # RFC 2308, 5: the lesser of the record's own TTL and its last field.
                negative = min(ttl, _u32(wire, pos - 4)[0], MAX_TTL)
        elif rdtype == _OPT:
            if opt or known[at] & 255 != 1:
                raise MalformedReply("an OPT record is misplaced or repeated")
            opt = True
            rcode |= wire[start - 6] << 4
    if countable > MAX_ANSWERS:
        raise MalformedReply(f"more than {MAX_ANSWERS} records")
    if list_octets > _MAX_LIST_OCTETS or strings > _MAX_STRINGS:
        raise MalformedReply("its records have more items than make sense")
    return Message(wire, rcode, records, negative)


def _next_name(wire: bytes, pos: int, known: dict[int, int]) -> tuple[bytes, int]:
    known[LEFT] -= 1
    if known[LEFT] < 0:
        raise MalformedReply("more names than make sense")
    return read_name(wire, pos)


def _count_strings(wire: bytes, pos: int, end: int) -> int:
    count = 0
    while pos < end and count <= _MAX_STRINGS:
        pos += 1 + wire[pos]
        count += 1
    return count


def _follow(message: Message, question: bytes, accept: Collection[int] | None) -> Reading:
    """Follow the aliases from the name in *question*; the values are records.

    They are not followed into a special name: who is asked next knows better than the reply.
    """
    name = question[:-4]
    rdclass = question[-2] << 8 | question[-1]
    by_owner: dict[bytes, list[Record]] = {}
    for record in message.answers:
        if record.rdclass == rdclass or rdclass == _ANY_CLASS:
            by_owner.setdefault(record.owner, []).append(record)
    ttl = MAX_TTL
    seen = [name]
    endless = False
    while True:
        records = by_owner.get(name, [])
        found = [record for record in records if accept is None or record.rdtype in accept]
        if found:
            ttl = min(ttl, *(record.ttl for record in found))
            break
        target: bytes | None = None
        for record in records:
            if record.rdtype == _CNAME and target is None:
                target = _target(message.wire, record)
                ttl = min(ttl, record.ttl)
        if target is None:
            break
        name = target
        if name in seen or len(seen) > MAX_HOPS:
            endless = True
            seen.append(name)
            break
        seen.append(name)
        if is_special(name):
            return Reading(0, len(seen) - 1, name, [], ttl, None)
    return Reading(
        message.rcode, len(seen) - 1, name, list[Any](found), ttl, message.negative_ttl, endless
    )


def _target(wire: bytes, record: Record) -> bytes | None:
    try:
        name, end = read_name(wire, record.start)
    except (IndexError, Undecided):
        return None
    return name if end == record.end else None


def addresses(message: Message, question: bytes) -> Reading:
    """Do what ``_wire_fast.read_addresses`` does, whatever the shape of the reply."""
    rdtype = question[-4] << 8 | question[-3]
    reading = _follow(message, question, (rdtype,))
    values: dict[str, None] = {}
    for record in reading.values:
        assert isinstance(record, Record)
        octets = message.wire[record.start : record.end]
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
        A reading whose values are :class:`dns.rdata.Rdata` objects; addresses are left as
        :class:`Record`, for :func:`make_rdata`.
    """
    reading = _follow(message, question, accept)
    wire = message.wire
    values: list[object] = []
    seen: dict[int, set[bytes]] = {}
    for record in reading.values:
        assert isinstance(record, Record)
        octets = wire[record.start : record.end]
        of_type = seen.setdefault(record.rdtype, set())
        if octets in of_type:
            continue
        if record.rdclass == _IN and record.rdtype in _ADDRESS:
            value: object = record if len(octets) == _ADDRESS[record.rdtype] else None
        else:
            value = make_rdata(wire, record)
        if value is not None:
            of_type.add(octets)
            values.append(value)
    return reading._replace(values=values)


def make_rdata(wire: bytes, record: Record) -> dns.rdata.Rdata | None:
    """Return dnspython's object for *record* of the reply *wire*, ``None`` if it is malformed."""
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype

    try:
        return dns.rdata.from_wire(
            dns.rdataclass.RdataClass.make(record.rdclass),
            dns.rdatatype.RdataType.make(record.rdtype),
            wire,
            record.start,
            record.end - record.start,
        )
    except Exception:
        # dnspython promises DNSException; others have escaped from single types before, and
        # whatever it is, the octets came from the network and the lookup has to go on.
        return None
