"""A name server for tests and demonstrations, in this process, on a loopback port of its own.

It answers from a few records, and does on request everything a bad server does: keeps
silent, lies, truncates, sends garbage. Nothing here is for use outside of tests.

>>> from ae_dns.testing import NameServer
>>> server = NameServer("www.demo.test. 60 IN A 192.0.2.80")
>>> resolver = ae_dns.Resolver(servers=[server.endpoint])   # doctest: +SKIP
"""

from __future__ import annotations

__all__ = ("DROP", "TRUNCATE", "NameServer", "Query", "Step", "parse_records", "rcode")

import enum
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

import ae_core as ae

from ._config import Server


class _Special(enum.Enum):
    DROP = "no reply at all"
    TRUNCATE = "an empty reply with TC set; over TCP, what the records say"


DROP: Final = _Special.DROP
"""A step: keep silent."""
TRUNCATE: Final = _Special.TRUNCATE
"""A step: set TC over UDP; the query that then comes over TCP is answered from the records."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query as the server saw it.

    Attributes:
        name: The name in lower case without its final dot; the root is ``"."``.
        rdtype: The type as text, ``"AAAA"``.
        transport: ``"udp"`` or ``"tcp"``.
        source: Host and port it came from.
        wire: The bytes.
        message: The parsed query.
    """

    name: str
    rdtype: str
    transport: Literal["udp", "tcp"]
    source: tuple[str, int]
    wire: bytes
    message: dns.message.Message

    def reply(self, *records: str, rcode: int = 0) -> dns.message.Message:
        """Return a reply with *records*, each a line as in a zone file."""
        message = dns.message.make_response(self.message, recursion_available=True)
        message.set_rcode(dns.rcode.Rcode(rcode))
        for rrset in parse_records(records):
            message.answer.append(rrset)
        return message


Step: TypeAlias = (
    _Special
    | bytes
    | dns.message.Message
    | str
    | int
    | Callable[[Query], "Step | Iterable[Step] | None"]
)
"""What to do about one query.

:data:`DROP`, :data:`TRUNCATE`; bytes or a message to send as they are; records as text (lines as
in a zone file) for the answer section; a response code, see :func:`rcode`; or a callable that
gets the :class:`Query` and returns one of these, several, or ``None`` for "as the records say".
"""


def rcode(name: str) -> int:
    """Return the number of a response code: ``rcode("SERVFAIL")`` is 2."""
    return int(dns.rcode.from_text(name))


def parse_records(records: Iterable[str]) -> list[dns.rrset.RRset]:
    """Parse lines as in a zone file, ``name [ttl] [class] type data``, names absolute.

    Raises:
        ValueError: If a line is none.
    """
    rrsets: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
    for text in records:
        for line in text.splitlines():
            if not line.strip() or line.lstrip().startswith(";"):
                continue
            rrset = _parse_record(line)
            known = rrsets.setdefault((rrset.name, int(rrset.rdtype)), rrset)
            if known is not rrset:
                _merge(known, rrset)
    return list(rrsets.values())


def _merge(known: dns.rrset.RRset, more: dns.rrset.RRset) -> None:
    for rdata in more:
        known.add(rdata, more.ttl)


def _parse_record(line: str) -> dns.rrset.RRset:
    owner, *words = line.split()
    ttl, rdclass = 60, "IN"
    if words and words[0].isdigit():
        ttl = int(words.pop(0))
    if words and words[0].upper() in ("IN", "CH", "HS"):
        rdclass = words.pop(0)
    try:
        name = dns.name.from_text(owner)
        return dns.rrset.from_text(name, ttl, rdclass, words[0], " ".join(words[1:]))
    except (dns.exception.DNSException, IndexError, ValueError) as error:
        raise ValueError(f"expected a record as in a zone file, got {line!r}: {error}") from None


class NameServer:
    """A scripted name server on a free port, over UDP and TCP.

    Args:
        records: Lines as in a zone file: what it knows. A name ``*.x`` stands for all below
            x that are not there. Names it does not know are NXDOMAIN, types NODATA, both with an
            SOA.
        host: The loopback address to listen on.
        port: The port; 0 takes a free one.

    Attributes:
        address: Host and port.
        endpoint: The same as one text, for ``Resolver(servers=[...])``.
        queries: Every query so far, in order.

    It runs on the loop of the thread that made it, and ends with :meth:`cancel`, at the end of a
    ``with`` block, or when it is forgotten.
    """

    def __init__(
        self, records: str | Iterable[str] = (), *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._rrsets: dict[dns.name.Name, dict[tuple[int, int], dns.rrset.RRset]] = {}
        self._scripts: dict[tuple[str, str], deque[Step]] = {}
        self._streams: set[_Stream] = set()
        self.queries: list[Query] = []
        self.add(*([records] if isinstance(records, str) else records))
        self._udp, self._tcp = _bind(host, port)
        found = self._udp.getsockname()
        self.address: tuple[str, int] = (found[0], found[1])
        self.endpoint: str = str(Server(self._udp.family, found))
        self._watchers: list[ae.Watcher] = []
        try:
            for sock, method in (
                (self._udp, self._on_datagram),
                (self._tcp, self._on_connection),
            ):
                self._watchers.append(ae.io(sock, "r", ae.weak(method)))
        except BaseException:
            self.cancel()
            raise

    def add(self, *records: str) -> None:
        """Add records, lines as in a zone file."""
        for rrset in parse_records(records):
            sets = self._rrsets.setdefault(rrset.name, {})
            key = (int(rrset.rdclass), int(rrset.rdtype))
            if key in sets:
                _merge(sets[key], rrset)
            else:
                sets[key] = rrset

    def script(self, name: str, rdtype: str, *steps: Step) -> None:
        """Do *steps*, one per query for *name* and *rdtype*; then the records count again.

        ``"*"`` as name or type stands for all.
        """
        key = (name.lower().rstrip(".") or name, rdtype.upper())
        self._scripts.setdefault(key, deque()).extend(steps)

    def asked(self) -> list[str]:
        """Return the queries so far as texts: ``"www.demo.test A udp"``."""
        return [f"{query.name} {query.rdtype} {query.transport}" for query in self.queries]

    def cancel(self) -> None:
        """Stop, and close everything. Idempotent."""
        for watcher in self._watchers:
            watcher.cancel()
        for stream in list(self._streams):
            stream.close()
        self._udp.close()
        self._tcp.close()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_watchers"):  # unless the constructor failed
            self.cancel()

    # ------------------------------------------------------------- internals

    def _on_datagram(self) -> None:
        for _ in range(256):
            try:
                wire, source = self._udp.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error about an earlier reply
            for reply in self.replies(wire, "udp", source[:2]):
                try:
                    self._udp.sendto(reply, source)
                except OSError as error:
                    ae.log("debug", "reply to %s not sent: %s", source, error)
            if self._udp.fileno() < 0:
                return

    def _on_connection(self) -> None:
        try:
            sock, source = self._tcp.accept()
        except OSError as error:
            ae.log("debug", "no connection accepted: %s", error)
            return
        self._streams.add(_Stream(self, sock, source[:2]))

    def replies(
        self, wire: bytes, transport: Literal["udp", "tcp"], source: tuple[str, int]
    ) -> list[bytes]:
        """Return what to send in reply to the bytes *wire*."""
        try:
            message = dns.message.from_wire(wire)
            question = message.question[0]
        except (dns.exception.DNSException, IndexError):
            return []
        name = question.name.to_text(omit_final_dot=True).lower() or "."
        rdtype = dns.rdatatype.to_text(question.rdtype)
        query = Query(name, rdtype, transport, source, wire, message)
        self.queries.append(query)
        for key in ((name, rdtype), (name, "*"), ("*", rdtype), ("*", "*")):
            steps = self._scripts.get(key)
            if steps:
                return self._perform(steps.popleft(), query)
        return [_octets(self._answer(query))]

    def _perform(self, step: Step | Iterable[Step] | None, query: Query) -> list[bytes]:
        if step is None:
            return [_octets(self._answer(query))]
        if isinstance(step, bytes):
            return [step]
        if isinstance(step, dns.message.Message):
            return [_octets(step)]
        if isinstance(step, str):
            return [_octets(query.reply(step))]
        if isinstance(step, int):
            return [_octets(query.reply(rcode=step))]
        if isinstance(step, _Special):
            if step is DROP:
                return []
            reply = query.reply()
            reply.flags |= dns.flags.TC
            return [_octets(reply)]
        if callable(step):
            return self._perform(step(query), query)
        if isinstance(step, Iterable):
            return [wire for each in step for wire in self._perform(each, query)]
        raise TypeError(f"expected a step of a script, got {step!r}")

    def _answer(self, query: Query) -> dns.message.Message:
        """Return what the records say, aliases followed as far as they are known."""
        reply = query.reply()
        question = query.message.question[0]
        name, rdclass, wanted = question.name, int(question.rdclass), int(question.rdtype)
        seen: set[dns.name.Name] = set()
        empty = False
        while name not in seen:
            seen.add(name)
            sets = self._find(name)
            if sets is None:
                if not reply.answer:
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = [
                rrset
                for (each_class, each_type), rrset in sets.items()
                if each_class == rdclass and wanted in (each_type, int(dns.rdatatype.ANY))
            ]
            alias = sets.get((rdclass, int(dns.rdatatype.CNAME)))
            for rrset in found or ([alias] if alias is not None else []):
                copy = dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))
                reply.answer.append(copy)
            if found or alias is None:
                empty = not found
                break
            name = next(iter(alias)).target
        # An alias to a name outside our records has no SOA: nothing is known of that name.
        if empty or not reply.answer:
            zone = question.name.parent() if len(question.name) > 1 else question.name
            soa = "ns.invalid. hostmaster.invalid. 1 3600 900 86400 30"
            reply.authority.append(dns.rrset.from_text(zone, 60, "IN", "SOA", soa))
        return reply

    def _find(self, name: dns.name.Name) -> dict[tuple[int, int], dns.rrset.RRset] | None:
        sets = self._rrsets.get(name)
        if sets is not None:
            return sets
        if any(known.is_subdomain(name) for known in self._rrsets):
            return {}  # an empty non-terminal exists, but has nothing
        while len(name) > 1:
            name = name.parent()
            sets = self._rrsets.get(dns.name.Name((b"*", *name.labels)))
            if sets is not None:
                return sets
        return None


def _octets(message: dns.message.Message) -> bytes:
    # dnspython shuffles records of a set unless told not to; tests want them in order.
    return message.to_wire(max_size=65535, want_shuffle=False)


class _Stream:
    """One TCP connection to the server."""

    def __init__(self, server: NameServer, sock: socket.socket, source: tuple[str, int]) -> None:
        sock.setblocking(False)
        self._server = server
        self._sock = sock
        self._source = source
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._writer: ae.Watcher | None = None
        self._reader = ae.io(sock, "r", self._on_readable)

    def close(self) -> None:
        self._reader.cancel()
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._sock.close()
        self._server._streams.discard(self)

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._incoming += data
        while len(self._incoming) >= 2:
            end = 2 + int.from_bytes(self._incoming[:2], "big")
            if len(self._incoming) < end:
                break
            wire = bytes(self._incoming[2:end])
            del self._incoming[:end]
            for reply in self._server.replies(wire, "tcp", self._source):
                self._outgoing += len(reply).to_bytes(2, "big") + reply
        self._on_writable()

    def _on_writable(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._sock.send(self._outgoing)]
        except (BlockingIOError, InterruptedError):
            if self._writer is None:
                self._writer = ae.io(self._sock, "w", self._on_writable)
            return
        except OSError:
            self.close()
            return
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket on the same port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    attempts = 64
    while True:
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if port and os.name == "posix":
                # Connections of its predecessor may still be in TIME_WAIT.
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, port))
            udp.bind((host, tcp.getsockname()[1]))
            tcp.listen(128)
        except OSError:
            tcp.close()
            udp.close()
            # Another process may hold the UDP port of the number that TCP was given.
            attempts -= 1
            if port or not attempts:
                raise
            continue
        tcp.setblocking(False)
        udp.setblocking(False)
        return udp, tcp
