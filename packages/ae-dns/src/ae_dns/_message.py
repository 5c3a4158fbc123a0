"""The thorough codec: dnspython, for whatever ``_wire`` does not decide.

Sans-I/O. Imported at the first message that needs it, because it imports dnspython.
Any octets give a message or :class:`MalformedReply`, never another exception.
"""

from __future__ import annotations

__all__ = ("MalformedReply", "addresses", "lifetime", "parse", "rcode_of", "read")

from collections.abc import Collection
from socket import AF_INET6, inet_ntop, inet_pton

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.wirebase

from ._wire import MAX_HOPS, MAX_TTL, A, Reading


class MalformedReply(ValueError):
    """The octets are not a DNS message."""


def parse(wire: bytes) -> dns.message.Message:
    """Return *wire* as a dnspython message.

    Octets after the message are ignored, as everybody does.

    Raises:
        MalformedReply: If it is none, is signed, or is not a plain response.
    """
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        # dnspython promises DNSException; ValueError and IndexError have escaped from
        # single record types before, and a reply must never escape as an exception.
        raise MalformedReply(f"malformed reply: {error}") from None
    if not isinstance(message, dns.message.QueryMessage):
        raise MalformedReply("malformed reply: not a response to a query")
    return message


def rcode_of(message: dns.message.Message) -> int:
    """Return the whole response code, with the upper bits of EDNS."""
    return int(message.rcode())


def read(message: dns.message.Message, question: bytes, accept: Collection[int] | None) -> Reading:
    """Follow the aliases of *message* from the name in *question*.

    Args:
        message: The reply.
        question: The question section, name in lower case.
        accept: The record types that are answers; ``None`` accepts all. If it has CNAME,
            aliases are answers and are not followed.

    Returns:
        A reading whose values are :class:`dns.rrset.RRset` objects.
    """
    name = _name(question[:-4])
    rdclass = int.from_bytes(question[-2:], "big")
    ttl = MAX_TTL
    hops = 0
    seen = {name}
    endless = False
    by_owner: dict[dns.name.Name, list[dns.rrset.RRset]] = {}
    for rrset in message.answer:
        if rrset.rdclass == rdclass and len(rrset):
            by_owner.setdefault(rrset.name, []).append(rrset)
    while True:
        sets = by_owner.get(name, [])
        found = [rrset for rrset in sets if accept is None or int(rrset.rdtype) in accept]
        if found:
            ttl = min([ttl, *(rrset.ttl for rrset in found)])
            break
        alias = next((s for s in sets if s.rdtype == dns.rdatatype.CNAME), None)
        if alias is None:
            break
        ttl = min(ttl, alias.ttl)
        hops += 1
        name = next(iter(alias)).target
        if name in seen or hops > MAX_HOPS:
            endless = True
            break
        seen.add(name)
    return Reading(
        rcode_of(message),
        hops,
        name.canonicalize().to_digestable(),
        list[object](found),
        ttl,
        _negative_ttl(message),
        endless,
    )


def addresses(message: dns.message.Message, question: bytes) -> Reading:
    """Do what ``_wire.read_addresses`` does, whatever the shape of the reply."""
    rdtype = question[-4] << 8 | question[-3]
    reading = read(message, question, (rdtype,))
    values: list[object] = []
    for rrset in reading.values:
        assert isinstance(rrset, dns.rrset.RRset)
        # dnspython spells some IPv6 addresses in its own way.
        values += [
            rdata.address
            if rdtype == A
            else inet_ntop(AF_INET6, inet_pton(AF_INET6, rdata.address))
            for rdata in rrset
        ]
    return reading._replace(values=values)


def lifetime(message: dns.message.Message) -> tuple[int, bool]:
    """Return for how many seconds *message* may be kept, and whether it says "there is none"."""
    ttl = min((rrset.ttl for rrset in message.answer), default=MAX_TTL)
    wanted = message.question[0].rdtype if message.question else None
    is_negative = message.rcode() != 0 or not any(
        wanted in (rrset.rdtype, dns.rdatatype.ANY) for rrset in message.answer
    )
    if not is_negative:
        return ttl, False
    negative = _negative_ttl(message)
    if negative is None:
        # Aliases that lead elsewhere are worth keeping; a bare "none" is not.
        return (ttl if message.answer and message.rcode() == 0 else 0), False
    return min(ttl, negative), True


def _name(wire: bytes) -> dns.name.Name:
    name, _end = dns.name.from_wire(wire, 0)
    return name


def _negative_ttl(message: dns.message.Message) -> int | None:
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA and rrset.rdclass == dns.rdataclass.IN and len(rrset):
            return min(int(rrset.ttl), int(next(iter(rrset)).minimum), MAX_TTL)
    return None
