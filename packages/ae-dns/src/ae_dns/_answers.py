"""What a lookup gives: ``Answer``, ``Srv``, and the plain lists of the convenience functions.

Sans-I/O. dnspython is imported when an answer is made, not before.
"""

from __future__ import annotations

__all__ = ("Answer", "Srv", "name_text", "order_srv", "texts")

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, overload

from ._resolution import Reply
from ._wire_fast import Reading, decode_name
from ._wire_full import make_rdata

if TYPE_CHECKING:
    import dns.message
    import dns.name
    import dns.rcode
    import dns.rdata
    import dns.rdatatype


class Srv(NamedTuple):
    """One service record (RFC 2782).

    Attributes:
        priority: Lower is tried first.
        weight: Share of the load among equal priorities.
        port: Where the service listens.
        target: The host, without final dot. ``"."`` says that there is no such service.
    """

    priority: int
    weight: int
    port: int
    target: str


class Answer(Sequence["dns.rdata.Rdata"]):
    """The records that answer a lookup, as dnspython rdata objects; it cannot be changed.

    Attributes:
        name: The final name in lower case without its dot, after all aliases.
        rdtype: The type that was asked for, a ``dns.rdatatype.RdataType``.
        ttl: Seconds that the answer remains valid, aliases included.
        rcode: The response code, a ``dns.rcode.Rcode``.
        message: The whole reply as a ``dns.message.Message`` (parsed at first use).
    """

    __slots__ = ("_message", "_name", "_rdatas", "_rdtype", "_reply", "_ttl")

    def __init__(self, reading: Reading, reply: Reply, rdtype: int, ttl: int) -> None:
        # Addresses become rdata when they are read: there may be thousands.
        self._rdatas = cast("list[dns.rdata.Rdata | int]", list(reading.values))
        self._name = decode_name(reading.name)
        self._rdtype = rdtype
        self._reply = reply
        self._ttl = ttl
        self._message: dns.message.Message | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def rdtype(self) -> dns.rdatatype.RdataType:
        import dns.rdatatype

        return dns.rdatatype.RdataType.make(self._rdtype)

    @property
    def ttl(self) -> int:
        return self._ttl

    @property
    def rcode(self) -> dns.rcode.Rcode:
        import dns.rcode

        return dns.rcode.Rcode.make(self._reply.rcode)

    @property
    def message(self) -> dns.message.Message:
        if self._message is None:
            import dns.message

            # What dnspython cannot read of it is left out.
            self._message = dns.message.from_wire(
                self._reply.wire, ignore_trailing=True, continue_on_error=True
            )
        return self._message

    @overload
    def __getitem__(self, index: int) -> dns.rdata.Rdata: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[dns.rdata.Rdata, ...]: ...
    def __getitem__(self, index: int | slice) -> dns.rdata.Rdata | tuple[dns.rdata.Rdata, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self._rdatas))))
        rdata = self._rdatas[index]
        if isinstance(rdata, int):
            rdata = self._rdatas[index] = make_address(self._reply, rdata)
        return rdata

    def __len__(self) -> int:
        return len(self._rdatas)

    def __repr__(self) -> str:
        records = ", ".join(map(str, self))
        return f"<Answer {self._name} {self.rdtype.name} ttl={self._ttl} [{records}]>"


def make_address(reply: Reply, start: int) -> dns.rdata.Rdata:
    """Return dnspython's object for the address whose bytes begin at *start* in *reply*."""
    rdata = make_rdata(reply.wire, start)
    assert rdata is not None, "4 bytes are an IPv4 address, 16 an IPv6 address"
    return rdata


def name_text(name: dns.name.Name) -> str:
    """Return a dnspython name as text without its final dot; the root is ``"."``."""
    return name.to_text(omit_final_dot=True) or "."


class Rng(Protocol):
    """As much of :class:`random.Random` as :func:`order_srv` needs."""

    def randint(self, a: int, b: int, /) -> int: ...


def order_srv(records: Iterable[Srv], rng: Rng | None = None) -> list[Srv]:
    """Return service records in the order in which a client shall try them (RFC 2782).

    By priority; among equals at random, the chance being the weight. A record of weight
    0 among others has a small chance, not none.

    Args:
        records: The records, in any order.
        rng: Source of ``randint(low, high)``, both ends included; default: :mod:`random`.
    """
    if rng is None:
        import random

        rng = random
    roll = rng.randint
    groups: dict[int, list[Srv]] = {}
    for record in records:
        groups.setdefault(record.priority, []).append(record)
    ordered = []
    for priority in sorted(groups):
        # Weight 0 stands first, so that only a roll of exactly 0 selects it.
        group = sorted(groups[priority], key=lambda record: record.weight != 0)
        while len(group) > 1:
            sums = list(accumulate(record.weight for record in group))
            ordered.append(group.pop(bisect_left(sums, roll(0, sums[-1]))))
        ordered += group
    return ordered


def texts(kind: str, rdatas: Iterable[Any]) -> list[str]:
    """Return what the convenience function named *kind* gives for these records."""
    if kind in ("ns", "ptr"):
        return [name_text(rdata.target) for rdata in rdatas]
    if kind == "mx":
        return [
            name_text(rdata.exchange)
            for rdata in sorted(rdatas, key=lambda rdata: int(rdata.preference))
        ]
    if kind == "txt":
        # A record is a list of strings of up to 255 bytes, which together are one text.
        return [b"".join(rdata.strings).decode("utf-8", "surrogateescape") for rdata in rdatas]
    assert kind == "any"
    return [text for rdata in rdatas if (text := _text(rdata)) is not None]


def _text(rdata: Any) -> str | None:
    import dns.rdatatype

    try:
        return f"{dns.rdatatype.to_text(rdata.rdtype)} {rdata.to_text()}"
    except Exception:
        # as in `_wire_full.make_rdata`: the bytes came from the network, the others count
        return None
