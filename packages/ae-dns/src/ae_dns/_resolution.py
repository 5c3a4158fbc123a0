"""The algorithm of a stub resolver: what to ask next, whom, when, and what a reply means.

Sans-I/O: knows no sockets, no clock and no loop; ``_resolver`` and ``_transport``
feed it and do what it says, tests feed it bytes.
"""

from __future__ import annotations

__all__ = (
    "Exchange",
    "QueryPlan",
    "Reply",
    "Resolution",
    "Verdict",
    "candidate_names",
    "make_plan",
    "weight",
)

import enum
from collections.abc import Collection, Sequence
from typing import Any, Final

from . import _wire_full
from ._errors import NoData, NoSuchName, QueryTimedOut, ResolveError, ServerFailed
from ._wire_fast import (
    AAAA,
    MAX_HOPS,
    A,
    Reading,
    bare_rcode,
    build_query,
    decode_name,
    encode_name,
    is_reply_to,
    is_special,
    make_question,
    randomize_case,
    read_addresses,
)

# Theory of operation
# -------------------
# Two state machines, one inside the other.
#
# An Exchange puts one question to the servers: a plan of (server, timeout) steps,
# timeouts outer, servers inner. Each step is a datagram; the verdict on what comes
# back is one of Verdict's. It ends with a Reply, or with the reason why there is none.
#
# Servers and middleboxes that cannot handle EDNS answer FORMERR: then the same server is asked
# again without EDNS. Or they answer SERVFAIL or NOTIMP, which may have other causes: then the
# next server is asked, and later steps ask this one without EDNS. If the plan has no later step
# for it, one more is added.
#
# A Resolution is one lookup: candidate names from the search list, and aliases that
# lead out of a reply. It asks one question after the other until there is an
# answer or a reason why there is none. Several resolutions may wait for the same
# exchange: two equal questions in flight would double a forger's chance (RFC 5452, 5).
#
# What a forger on another path can send is anything, any number of times. So a packet
# that is not provably the reply - identifier, question, socket (connected, hence
# address and port) - must not change anything at all: it is IGNORED and the
# step goes on waiting. Only a packet with all of these may end a step, move it to
# another server, to TCP, or to plain DNS.

_NOERROR: Final = 0
_FORMERR: Final = 1
_SERVFAIL: Final = 2
_NOTIMP: Final = 4
_NXDOMAIN: Final = 3
_BADVERS: Final = 16
_IN: Final = b"\0\1"
# So many packets that are no reply are taken for an attack.
_SUSPICIOUS: Final = 100

QueryPlan = Sequence[tuple[Any, float]]


class Verdict(enum.Enum):
    """What the caller has to do about a packet."""

    IGNORED = "not the reply; go on waiting"
    ANSWERED = "the exchange is over, see its reply"
    NEXT_STEP = "this server is of no use; go on with the plan"
    SAME_STEP = "ask the same server again immediately: over TCP, or without EDNS"


class Reply:
    """A reply that was accepted; it is parsed when its records are needed.

    Attributes:
        wire: The bytes.
        question: The question section, name in lower case.
        rcode: The whole response code: NOERROR or NXDOMAIN.
    """

    __slots__ = ("_message", "_reading", "question", "rcode", "wire")

    def __init__(
        self,
        wire: bytes,
        question: bytes,
        rcode: int,
        reading: Reading | None,
        message: _wire_full.Message | None,
    ) -> None:
        self.wire: bytes = wire
        self.question: bytes = question
        self.rcode: int = rcode
        self._reading = reading
        self._message = message

    def _parsed(self) -> _wire_full.Message:
        if self._message is None:
            self._message = _wire_full.parse(self.wire, self.question)
        return self._message

    def read_addresses(self) -> Reading:
        """Return the reading whose values are address texts."""
        if self._reading is None:
            self._reading = _wire_full.addresses(self._parsed(), self.question)
        return self._reading

    def read(self, accept: Collection[int] | None) -> Reading:
        """Return the reading whose values are records (rdata) of the types in *accept*."""
        return _wire_full.read(self._parsed(), self.question, accept)

    def lifetime(self) -> tuple[int, bool]:
        """Return for how many seconds it may be kept, and whether it says "there is none"."""
        reading = self._reading
        if reading is None:
            return self._parsed().lifetime(self.question[-4] << 8 | self.question[-3])
        if reading.values:
            return reading.ttl, False
        if reading.negative_ttl is None:
            return (reading.ttl if reading.hops and not self.rcode else 0), False
        return min(reading.ttl, reading.negative_ttl), True


def make_plan(servers: Sequence[Any], timeouts: Sequence[float]) -> QueryPlan:
    """Return the steps of an exchange: timeouts outer, servers inner (DNS-12)."""
    return tuple((server, timeout) for timeout in timeouts for server in servers)


class Exchange:
    """One question put to the servers until one answers.

    Args:
        question: The question section, name in lower case.
        plan: Steps of (server, timeout); servers are opaque here.
        edns: Whether to announce 1232 bytes.
        stream: Whether to use TCP from the start.
        trust_ad: Whether to ask for, and believe, the AD bit.
        random_bits: A random number of many bits turns 0x20 on; ``None`` leaves it off.

    Attributes:
        server: The server of the present step.
        timeout: Seconds that the present step may take.
        stream: Whether the present step goes over TCP.
        reply: The reply, once the verdict was ``ANSWERED``.
        rcode: The response code of the last server that answered with one, ``None`` if none did.
        ident, channel, bucket, waiters, generation: The engine's; an exchange leaves them alone.
    """

    __slots__ = (
        "_declined",
        "_edns",
        "_exact",
        "_failure",
        "_garbage",
        "_ignored",
        "_is_late",
        "_miscased",
        "_plan",
        "_sent",
        "_step",
        "_trust_ad",
        "bucket",
        "channel",
        "generation",
        "ident",
        "question",
        "rcode",
        "reply",
        "server",
        "stream",
        "timeout",
        "waiters",
    )

    def __init__(
        self,
        question: bytes,
        plan: QueryPlan,
        edns: bool,
        stream: bool = False,
        trust_ad: bool = False,
        random_bits: int | None = None,
    ) -> None:
        self.question: bytes = question
        self._plan = plan
        self._step = 0
        self._edns = edns
        # servers that did not like a query with EDNS: the timeout for one more step without
        self._declined: dict[Any, float | None] = {}
        self.stream: bool = stream
        self._trust_ad = trust_ad
        self._exact = random_bits is not None
        self._miscased = False
        self._ignored = 0
        self._garbage: str | None = None  # what was wrong with a reply
        self._failure: str | None = None  # why a server could not be asked
        self._is_late = False  # whether a server had its time and did not answer
        self._sent = question if random_bits is None else randomize_case(question, random_bits)
        self.server: Any = None
        self.timeout: float = 0.0
        self.reply: Reply | None = None
        self.rcode: int | None = None
        self.ident: bytes = b""
        self.channel: Any = None
        self.bucket: Any = None
        self.generation: int | None = None
        self.waiters: list[Any] = []

    def next_step(self) -> bool:
        """Go on to the next step of the plan; ``False`` at its end."""
        step = self._step
        if step >= len(self._plan):
            return self._once_more()
        self.server, self.timeout = self._plan[step]
        self._step = step + 1
        return True

    def _once_more(self) -> bool:
        """Go on to a server that was only asked with EDNS so far; ``False`` if there is none."""
        if not self._edns:
            return False
        for server, timeout in self._declined.items():
            if timeout is not None:
                self.server, self.timeout = server, timeout
                return True
        return False

    @property
    def _has_edns(self) -> bool:
        return self._edns and self.server not in self._declined

    def packet(self) -> bytes:
        """Return the query of the present step, with :attr:`ident`."""
        has_edns = self._has_edns
        if not has_edns and self._edns:
            self._declined[self.server] = None
        return build_query(self.ident, self._sent, has_edns, self._trust_ad)

    def failed(self, reason: str) -> None:
        """Note that the server of the present step could not be asked."""
        self._failure = reason

    def end_reason(self) -> str | None:
        """Return why the exchange ended without a reply.

        ``None`` where response codes, or that time ran out, say all there is to say.
        """
        if self.rcode is not None:
            return None
        if self._garbage is not None:
            return f"the reply cannot be read ({self._garbage})"
        if self._failure is not None and not self._is_late:
            return f"no server could be asked ({self._failure})"
        return None

    def timed_out(self, unexpected: int = 0) -> None:
        """Note that the present step brought nothing in its time, but *unexpected* wrong packets.

        If a reply came that differed in the case of its name only, the server (or
        something on the way) does not keep the case. If many packets came that were no
        reply, an attacker is guessing, and the flood may have displaced the true one. Being less
        strict from now on would help a forger; TCP cannot be forged from elsewhere, so the
        following steps use it.
        """
        self._is_late = True
        if self._miscased or self._ignored + unexpected >= _SUSPICIOUS:
            self.stream = True

    def judge(self, wire: bytes) -> Verdict:
        """Judge a packet whose identifier is ours and that came by the right channel."""
        if not is_reply_to(wire, self._sent, self._exact):
            self._ignored += 1
            if self._exact and is_reply_to(wire, self._sent, False):
                self._miscased = True
            return Verdict.IGNORED
        if not wire[5] and (code := bare_rcode(wire)) is not None:
            return self._refused(code)
        if wire[2] & 2:
            # TC: whatever the rest holds is incomplete, so it is not read.
            if self.stream:
                return self._useless("it is truncated, over TCP")
            self.stream = True
            return Verdict.SAME_STEP
        rcode = wire[3] & 15
        if rcode in (_NOERROR, _NXDOMAIN):
            return self._read(wire)
        return self._refused(rcode)

    def _refused(self, rcode: int) -> Verdict:
        """Act on a response code that is no answer."""
        self.rcode = rcode
        if rcode in (_FORMERR, _BADVERS) and self._has_edns:
            self._edns = False
            return Verdict.SAME_STEP
        if rcode in (_SERVFAIL, _NOTIMP) and self._has_edns:
            self._declined[self.server] = self.timeout
        return Verdict.NEXT_STEP

    def _useless(self, reason: str) -> Verdict:
        """Act on a reply that says nothing, *reason* being what is wrong with it."""
        self._garbage = reason
        return Verdict.NEXT_STEP

    def _read(self, wire: bytes) -> Verdict:
        question = self.question
        rdtype = question[-4] << 8 | question[-3]
        if self._exact:
            # Names in the records point to the question: the random case must not show in them.
            wire = wire[:12] + question + wire[12 + len(question) :]
        reading: Reading | None = None
        message: _wire_full.Message | None = None
        if rdtype in (A, AAAA) and question[-2:] == _IN:
            reading = read_addresses(wire, question, rdtype)
        if reading is not None:
            rcode = reading.rcode
        else:
            try:
                message = _wire_full.parse(wire, question)
            except _wire_full.MalformedReply as error:
                return self._useless(str(error))
            rcode = message.rcode
            if rcode not in (_NOERROR, _NXDOMAIN):
                return self._refused(rcode)
        self.rcode = rcode
        self.reply = Reply(wire, question, rcode, reading, message)
        return Verdict.ANSWERED


class Resolution:
    """One lookup: candidate names, aliases, and in the end an answer or an error.

    Args:
        names: Candidate names in wire form and lower case, in the order to be tried.
        rdtype: The type to ask for.
        rdclass: The class to ask for.

    Attributes:
        question: What to ask now.
        reading: The answer, once :meth:`take` returned ``True``; ``None`` if there is none.
        reply: The reply that the answer, or the last failure, stands in.
    """

    __slots__ = (
        "_error",
        "_hops",
        "_index",
        "_is_final",
        "_names",
        "_rdclass",
        "question",
        "rdtype",
        "reading",
        "reply",
        "ttl",
    )

    def __init__(self, names: Sequence[bytes], rdtype: int, rdclass: int = 1) -> None:
        self._names = names
        self._index = 0
        self.rdtype: int = rdtype
        self._rdclass = rdclass
        self._hops = 0
        self._is_final = False
        self._error: ResolveError | None = None
        self.reading: Reading | None = None
        self.reply: Reply | None = None
        self.ttl: int = 0
        self.question: bytes = make_question(names[0], rdtype, rdclass)

    def take(self, reading: Reading, reply: Reply) -> bool:
        """Take what a server says about :attr:`question`; ``True`` if the lookup is over."""
        self.reply = reply
        if self._hops:
            if reading.ttl < self.ttl:
                self.ttl = reading.ttl
        else:
            self.ttl = reading.ttl
        if reading.values:
            self.reading = reading
            return True
        if reading.rcode == _NXDOMAIN:
            return self._try_next(NoSuchName(self._text("no such name: {}"), reading.rcode))
        if reading.hops or reading.endless:
            self._hops += reading.hops
            if reading.endless or self._hops > MAX_HOPS:
                text = self._text(f"chain of more than {MAX_HOPS} aliases, or a loop, from {{}}")
                return self._try_next(ResolveError(text, reading.rcode))
            # An SOA says that the server followed the chain to its end and there is
            # nothing (RFC 2308, 2.2). Without one the chain led where it does not know.
            if reading.negative_ttl is None:
                self.question = make_question(reading.name, self.rdtype, self._rdclass)
                return False
        return self._try_next(NoData(self._text("no such record: {}"), reading.rcode))

    def fail(self, rcode: int | None) -> bool:
        """Take the failure of an exchange; ``True`` if the lookup is over.

        *rcode* is that of the last server that answered. Silence ends the lookup: a
        name further down the search list must not win because packets were lost.
        """
        if rcode is None:
            return self._end(QueryTimedOut(self._text("no server answered in time: {}")))
        text = self._text(f"servers failed with response code {rcode}: {{}}")
        return self._try_next(ServerFailed(text, rcode))

    def give_up(self, reason: str) -> bool:
        """End the lookup without an answer, because of *reason*; always ``True``."""
        self.reading = None
        return self._end(ServerFailed(f"{reason}: {self._text('{}')}"))

    def _end(self, error: ResolveError) -> bool:
        self._error = error
        self._is_final = True
        return True

    @property
    def ends_search(self) -> bool:
        """Whether the failure is one after which no other candidate name is to be tried.

        Either no server gave a usable answer: a name further down the list must not win because
        packets were lost. Or the name is an alias: it exists, even if it leads nowhere.
        """
        return self._hops > 0 or self._is_final

    def error(self) -> ResolveError:
        """Return why there is no answer."""
        assert self._error is not None
        return self._error

    def _text(self, template: str) -> str:
        return template.format(repr(decode_name(self._names[self._index])))

    def _try_next(self, error: ResolveError) -> bool:
        # As glibc: "exists, but no such record" says most, then a server's failure.
        if self._error is None or weight(error) > weight(self._error):
            self._error = error
        # A name that is an alias exists, even if it leads nowhere: it ends the search, too.
        if self._hops or self._index + 1 >= len(self._names):
            return True
        self._index += 1
        self.question = make_question(self._names[self._index], self.rdtype, self._rdclass)
        return False


def weight(error: ResolveError) -> int:
    """Return how much *error* says, compared with that of other names or types."""
    if isinstance(error, NoData):
        return 3
    if isinstance(error, NoSuchName):
        return 0
    return 2 if isinstance(error, ServerFailed) else 1


def candidate_names(
    name: str,
    search: Sequence[str],
    ndots: int,
    explicit: Sequence[str] | None = None,
) -> list[bytes]:
    """Return the names to try for *name*, in wire form (DNS-20).

    A name with a final dot is tried as it is. An *explicit* list of suffixes replaces
    the search list, and the bare name is tried only if that list is empty. Otherwise the bare name
    comes first if it has at least *ndots* dots, and last if not. A suffix that makes
    the name too long is left out. A special name (``localhost``) is itself and no other.

    Raises:
        ValueError: If the name itself is impossible.
    """
    bare = encode_name(name)
    if name.endswith(".") or is_special(bare):
        return [bare]
    suffixes = search if explicit is None else explicit
    if not suffixes:
        return [bare]
    names = []
    for suffix in suffixes:
        wire = bare[:-1] + encode_name(suffix)
        if len(wire) <= 255:
            names.append(wire)
    if explicit is not None:
        if not names:
            raise ValueError(f"name of more than 255 bytes with any suffix: {name[:40]!r}...")
        return names
    if name.count(".") >= ndots:
        return [bare, *names]
    return [*names, bare]
