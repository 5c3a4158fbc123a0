"""``Resolver``: settings, and every lookup as a method; ``Lookup`` and ``Engine`` do the work."""

from __future__ import annotations

__all__ = ("Resolver",)

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from weakref import WeakSet

import ae_core as ae
from ae_core.abc import ThreadLocal, environment
from ae_socket import AddressInfo, host_to_ascii

from . import _special_names
from ._answers import Answer, Srv
from ._arguments import (
    check_count,
    check_iterable,
    check_servers,
    check_suffixes,
    check_text,
    check_timeouts,
    class_number,
    make_cache,
    type_number,
)
from ._cache import Cache
from ._config import DEFAULT_TIMEOUTS, Config, SystemConfig
from ._lookup import (
    Deliver,
    Lookup,
    deliver_addresses,
    deliver_answer,
    deliver_srv,
    deliver_texts,
    impossible,
)
from ._resolution import Exchange, QueryPlan, candidate_names, make_plan
from ._wire_fast import AAAA, A

if TYPE_CHECKING:
    import dns.rdataclass
    import dns.rdatatype

    from ._engine import Engine, Trace

T = TypeVar("T")

_NS: Final = 2
_PTR: Final = 12
_MX: Final = 15
_TXT: Final = 16
_SRV: Final = 33
_ANY: Final = 255
_IN: Final = 1


class _Local(ThreadLocal):
    """What a resolver has for each thread: a thread has one loop at a time."""

    engine: Engine | None = None


class Resolver:
    """A stub resolver: asks recursive name servers, follows aliases, tries again.

    Args:
        servers: Numeric addresses of name servers, with port if it is not 53
            (``"192.0.2.1"``, ``"[2001:db8::1]:5353"``). ``None``: the system's, that is
            resolv.conf (or the file that ``AE_RESOLV_CONF`` names), read again when it
            changes, and other servers empty the cache; its search list and options hold as well
            where the arguments below are left alone.
        timeouts: Seconds to wait for a reply. All servers are tried with the first value,
            then all with the second, and so on.
        search: Suffixes for names with fewer than *ndots* dots. ``None``: the system's if the
            servers are, else none.
        ndots: See *search*.
        max_outstanding: So many queries are in flight at most, the rest wait in order.
        cache: ``True``, a number of entries or a :class:`Cache` keeps replies while they are
            valid; ``None`` and ``False`` ask every time.
        case_randomization: Spell each query in random case and insist on it in the reply
            ("0x20"): 10 to 20 more bits for a forger to guess, but servers that do not keep the
            case cost a timeout and a TCP connection.
        edns: Announce that replies of 1232 bytes are welcome (``AE_EDNS0=0`` turns the
            default off).
        tcp: Use TCP only.

    Raises:
        ValueError, TypeError: If an argument makes no sense; the text names it.

    It may be used from several loops and threads; each has its own sockets. No socket is open
    while no query is pending.

    ``localhost`` and names below it are answered without a query, in all types, and names
    below ``invalid`` do not exist (RFC 6761).

    Every lookup returns a condvar. **When**: it is never ready inside the call, cached or
    impossible names included. **Lifetime**: a lookup goes on when the condvar, or the resolver,
    is forgotten; ``cancel()`` ends it.

    The methods that return lists (:meth:`a` ... :meth:`reverse_verify`) give ``[]`` where the
    answer is "there is none": no such name, or no such record. Whatever keeps them from an answer
    (no server, refused, timed out, an impossible name, endless aliases) is thrown, the same errors
    as :meth:`resolve` throws: a program that takes "the resolver is down" for "no such record"
    does the wrong thing.

    Perl: ``AnyEvent::DNS``, whose functions give ``()`` on any failure
    """

    def __init__(
        self,
        *,
        servers: Iterable[str] | None = None,
        timeouts: Sequence[float] = (2, 5, 5),
        search: Iterable[str] | None = None,
        ndots: int = 1,
        max_outstanding: int = 10,
        cache: bool | int | Cache | None = None,
        case_randomization: bool = False,
        edns: bool = True,
        tcp: bool = False,
    ) -> None:
        self._servers = None if servers is None else check_servers(servers)
        self._search = None if search is None else check_suffixes(search)
        self._timeouts = check_timeouts(timeouts)
        self._ndots = check_count("ndots", ndots, 0)
        self._max_outstanding = check_count("max_outstanding", max_outstanding, 1)
        self._cache = make_cache(cache)
        self._case_randomization = case_randomization
        self._edns = edns
        self._tcp = tcp
        self._system = SystemConfig() if servers is None else None
        self._seen: Config | None = None  # what the plans were made from
        self._plans: tuple[QueryPlan, ...] = ()
        self._rotation = 0
        self._effective = Config()
        self._local = _Local()
        self._engines: WeakSet[Engine] = WeakSet()
        self.configure()

    # ------------------------------------------------------------- settings

    @property
    def servers(self) -> tuple[str, ...]:
        """The name servers in use, with their ports."""
        self.configure()
        return tuple(str(server) for server in self._effective.servers)

    @property
    def search(self) -> tuple[str, ...]:
        """The search list in use."""
        self.configure()
        return self._effective.search

    @property
    def ndots(self) -> int:
        """How many dots make a name that is tried as it is first."""
        self.configure()
        return self._effective.ndots

    @property
    def timeouts(self) -> tuple[float, ...]:
        """The timeouts in use; setting them affects later queries."""
        self.configure()
        return self._effective.timeouts

    @timeouts.setter
    def timeouts(self, timeouts: Sequence[float]) -> None:
        self._timeouts = check_timeouts(timeouts)
        self._seen = None
        self.configure()

    @property
    def max_outstanding(self) -> int:
        """How many queries may be in flight; setting it affects later queries."""
        return self._max_outstanding

    @max_outstanding.setter
    def max_outstanding(self, count: int) -> None:
        self._max_outstanding = check_count("max_outstanding", count, 1)
        for engine in list(self._engines):
            engine.max_outstanding = count

    @property
    def cache(self) -> Cache | None:
        """The cache, if there is one."""
        return self._cache

    def statistics(self) -> dict[str, int]:
        """Return figures for debugging: queries sent, in flight and waiting, entries cached."""
        engines = list(self._engines)
        return {
            "sent": sum(engine.sent for engine in engines),
            "outstanding": sum(engine.outstanding for engine in engines),
            "queued": sum(engine.queued for engine in engines),
            "cached": 0 if self._cache is None else len(self._cache),
        }

    def __repr__(self) -> str:
        return f"<Resolver servers={', '.join(map(str, self._effective.servers))}>"

    # ------------------------------------------------------------- lookups

    def a(self, name: str) -> ae.CondVar[list[str]]:
        """Look up the IPv4 addresses of *name*; ``[]`` if it has none.

        Perl: ``AnyEvent::DNS::a``
        """
        return self._convenience(name, A, deliver_addresses)

    def aaaa(self, name: str) -> ae.CondVar[list[str]]:
        """Look up the IPv6 addresses of *name*; ``[]`` if it has none.

        Perl: ``AnyEvent::DNS::aaaa``
        """
        return self._convenience(name, AAAA, deliver_addresses)

    def ns(self, domain: str) -> ae.CondVar[list[str]]:
        """Look up the name servers of *domain*; ``[]`` if it has none.

        Perl: ``AnyEvent::DNS::ns``
        """
        return self._convenience(domain, _NS, _deliver_ns)

    def mx(self, domain: str) -> ae.CondVar[list[str]]:
        """Look up the mail hosts of *domain*, the preferred first; ``[]`` if it has none.

        ``["."]`` says that the domain accepts no mail (RFC 7505).

        Perl: ``AnyEvent::DNS::mx``
        """
        return self._convenience(domain, _MX, _deliver_mx)

    def txt(self, name: str) -> ae.CondVar[list[str]]:
        """Look up the texts of *name*; ``[]`` if it has none.

        The strings of one record are joined. Bytes that are not UTF-8 become surrogates
        (``errors="surrogateescape"``).

        Perl: ``AnyEvent::DNS::txt`` (which gives the first string of each record only)
        """
        return self._convenience(name, _TXT, _deliver_txt)

    def ptr(self, name: str) -> ae.CondVar[list[str]]:
        """Look up the PTR records of *name*; ``[]`` if it has none.

        Perl: ``AnyEvent::DNS::ptr``
        """
        return self._convenience(name, _PTR, _deliver_ptr)

    def any_(self, name: str) -> ae.CondVar[list[str]]:
        """Look up whatever a server chooses to tell of *name*: ``"TYPE data"`` texts.

        Most servers tell little (RFC 8482). ``[]`` if there is none.

        Perl: ``AnyEvent::DNS::any``
        """
        return self._convenience(name, _ANY, _deliver_any, accept=None)

    def srv(self, service: str, proto: str, domain: str) -> ae.CondVar[list[Srv]]:
        """Look up where *service* over *proto* is offered for *domain*; ``[]`` if nothing says so.

        The records come in the order to try them: by priority, then at random by weight
        (RFC 2782). A target of ``"."`` says that the service is decidedly not offered.

        Perl: ``AnyEvent::DNS::srv``
        """
        check_text("service", service)
        check_text("proto", proto)
        check_text("domain", domain)
        return self._convenience(f"_{service}._{proto}.{domain}", _SRV, deliver_srv)

    def reverse_lookup(self, ip: str) -> ae.CondVar[list[str]]:
        """Look up the names of an address.

        IPv6 addresses that stand for an IPv4 address (RFC 4291, 2.5.5) are looked up as that. What
        is no address gives ``[]`` without a query.

        Perl: ``AnyEvent::DNS::reverse_lookup``
        """
        from ._reverse import reverse_lookup

        return reverse_lookup(self, ip)

    def reverse_verify(self, ip: str) -> ae.CondVar[list[str]]:
        """Look up those names of an address that in turn have this address.

        The owner of an address can give it any name; only the owner of a name can point it back. A
        name whose addresses cannot be looked up is left out if another one is verified, and its
        error is thrown if none is.

        Perl: ``AnyEvent::DNS::reverse_verify``
        """
        from ._reverse import reverse_verify

        return reverse_verify(self, ip)

    def resolve(
        self,
        name: str,
        rdtype: str | int | dns.rdatatype.RdataType,
        *,
        search: Iterable[str] | None = None,
        accept: Iterable[str | int] | None = None,
        rdclass: str | int | dns.rdataclass.RdataClass = "IN",
    ) -> ae.CondVar[Answer]:
        """Look up the records of type *rdtype* of *name*.

        Args:
            name: The name; with a final dot it is complete, else the search list applies.
            rdtype: ``"MX"``, a number, or a ``dns.rdatatype``; ``"ANY"`` and ``"*"`` accept all.
            search: Suffixes that replace the search list; the name without suffix is then
                not tried. Empty: only the name without suffix.
            accept: The types that are answers, default: *rdtype*. With ``"CNAME"`` in it,
                aliases are answers and are not followed.
            rdclass: ``"IN"``, ``"CH"`` or ``"HS"``.

        Returns:
            A condvar with an :class:`Answer`, which is never empty.

        Raises:
            ValueError, TypeError: Immediately, if an argument makes no sense.
            NoSuchName, NoData, ServerFailed, QueryTimedOut: Through the condvar.
            ResolveError: Through the condvar: the name is impossible, or has an endless
                chain of aliases.

        Perl: ``$resolver->resolve``
        """
        kind = type_number(rdtype)
        accepted: Collection[int] | None = (kind,)
        if accept is not None:
            check_iterable("record types", accept)
            accepted = tuple(type_number(item) for item in accept)
            if _ANY in accepted:
                accepted = None
        elif kind == _ANY:
            accepted = None
        explicit = None if search is None else check_suffixes(search)
        return self._start(name, kind, deliver_answer, accepted, class_number(rdclass), explicit)

    def getaddrinfo(
        self,
        host: str,
        service: str | int,
        *,
        family: int = 0,
        type: Literal["stream", "dgram"] = "stream",
    ) -> ae.CondVar[list[AddressInfo]]:
        """Look up what to connect to: the method that ``ae_socket`` calls.

        In this order: numeric addresses and ``localhost`` are answered without asking; names in
        the hosts file from there; names below ``.local`` by the system's resolver; all others
        by SRV records, if *service* is a name, and A and AAAA records.

        Args:
            host: A name or a numeric address.
            service: A port, the name of a service, or ``"name=port"``.
            family: 4 or 6 for one family only, 0 for those that ``AE_PROTOCOLS`` allows.
            type: ``"stream"`` or ``"dgram"``.

        Returns:
            A condvar with the addresses in the order to try them (RFC 6724, or as
            ``AE_PROTOCOLS`` says); ``[]`` if the service is decidedly not offered or the
            address is of another family.

        When one family has brought addresses, the other is waited for 50 ms longer (RFC 8305).

        Raises:
            ResolveError: Through the condvar: there is no such host.
            ValueError: Through the condvar: there is no such service.
        """
        from ._getaddrinfo import getaddrinfo

        return getaddrinfo(self, host, service, family, type)

    def wait_for_slot(self) -> ae.CondVar[Resolver]:
        """Return a condvar that is sent when a query would not have to wait for others.

        Its value is the resolver. The condvars are served in order, and only while no query
        waits.

        Perl: ``$resolver->wait_for_slot``
        """
        engine = self._here()
        condvar: ae.CondVar[Resolver]

        def serve() -> None:
            condvar.send(self)

        condvar = ae.CondVar(cancel=partial(engine.leave_slot_queue, serve))
        engine.wait_for_slot(serve)
        return condvar

    # ------------------------------------------------------------- for this package

    def flush(self) -> None:
        """Empty the cache, and neither store nor share replies to questions that are pending."""
        if self._cache is not None:
            self._cache.clear()
        for engine in list(self._engines):
            engine.forget()

    def trace(self, trace: Trace) -> None:
        """Call *trace* for whatever happens to the exchanges of this thread's loop."""
        self._here().trace = trace

    # ------------------------------------------------------------- internals

    def _convenience(
        self,
        name: str,
        rdtype: int,
        deliver: Deliver,
        accept: Collection[int] | None = (),
    ) -> ae.CondVar[Any]:
        return self._start(name, rdtype, deliver, (rdtype,) if accept == () else accept)

    def _start(
        self,
        name: str,
        rdtype: int,
        deliver: Deliver,
        accept: Collection[int] | None,
        rdclass: int = _IN,
        explicit: Sequence[str] | None = None,
    ) -> ae.CondVar[Any]:
        if not isinstance(name, str):
            raise TypeError(f"expected a name as str, got {name!r}")
        engine = self._here()
        config = self.configure()
        try:
            if not name.isascii():
                name = host_to_ascii(name)
            names = candidate_names(name, config.search, config.ndots, explicit)
        except ValueError as error:
            return impossible(error)
        lookup = Lookup(names, rdtype, rdclass, accept, self._ask, engine, deliver)
        self._ask(lookup)
        return lookup.condvar

    def start(self, names: list[bytes], rdtype: int, deliver: Deliver) -> Lookup:
        """Start a lookup for ``getaddrinfo``: the outcome goes to *deliver*, without a condvar."""
        lookup = Lookup(names, rdtype, _IN, (rdtype,), self._ask, self._here(), deliver)
        lookup.wants_addresses = True
        self._ask(lookup)
        return lookup

    def _ask(self, lookup: Lookup) -> None:
        """Get the reply to the question: known, cached, of a running exchange, or by asking."""
        question = lookup.question
        engine = lookup.engine
        known = _special_names.answer(question)
        if known is not None:
            lookup.cached(known, 0)
            return
        if self._cache is not None:
            hit = self._cache.get(question, engine.clock())
            if hit is not None:
                lookup.cached(*hit)
                return
        exchange = engine.equal(question)
        if exchange is None:
            config = self._effective
            plans = self._plans
            plan = plans[0]
            if len(plans) > 1:
                self._rotation = (self._rotation + 1) % len(plans)
                plan = plans[self._rotation]
            random_bits = None
            if self._case_randomization:
                import secrets

                random_bits = secrets.randbits(len(question) * 8)
            exchange = Exchange(
                question,
                plan,
                config.edns is not False,
                config.use_vc,
                config.trust_ad,
                random_bits,
            )
            if self._cache is not None:
                exchange.generation = self._cache.generation
            exchange.waiters.append(lookup)
            lookup.exchange = exchange
            engine.submit(exchange)
        else:
            exchange.waiters.append(lookup)
            lookup.exchange = exchange

    def _here(self) -> Engine:
        """Return the engine of the loop that runs (or will run) in this thread."""
        backend = ae.detect()
        engine = self._local.engine
        if engine is not None:
            if engine.backend is backend:
                return engine
            # The thread's former loop has ended, and with it what waited.
            engine.abandon()
        # Imported late: with `socket` and `secrets` it takes 10 ms.
        from ._engine import Engine

        engine = self._local.engine = Engine(backend, self._max_outstanding, self._cache)
        self._engines.add(engine)
        return engine

    def configure(self) -> Config:
        """Return what holds now, made anew if the system's configuration changed."""
        if self._system is None:
            if self._seen is not None:
                return self._effective
            assert self._servers is not None
            config = Config(servers=self._servers, search=self._search or (), ndots=self._ndots)
            config = config.but(timeouts=self._timeouts)
        else:
            system = self._system.current()
            if system is self._seen:
                return self._effective
            config = system
            if self._search is not None:
                config = config.but(search=self._search)
            if self._ndots != 1:
                config = config.but(ndots=self._ndots)
            if self._timeouts != DEFAULT_TIMEOUTS:
                config = config.but(timeouts=self._timeouts)
            self._seen = system
        if self._tcp:
            config = config.but(use_vc=True)
        edns = self._edns and (config.edns or environment("AE_EDNS0") != "0")
        config = config.but(edns=edns)
        if self._plans and _asking(config) != _asking(self._effective):
            self.flush()
        self._effective = config
        if self._system is None:
            self._seen = config
        servers = config.servers
        turns = range(len(servers) if config.rotate else 1)
        self._plans = tuple(
            make_plan(servers[turn:] + servers[:turn], config.timeouts) for turn in turns
        )
        return config


def _asking(config: Config) -> tuple[object, ...]:
    """Return the part of *config* that decides which servers are asked, and how."""
    return set(config.servers), config.edns, config.trust_ad, config.use_vc


_deliver_ns = deliver_texts("ns")
_deliver_mx = deliver_texts("mx")
_deliver_txt = deliver_texts("txt")
_deliver_ptr = deliver_texts("ptr")
_deliver_any = deliver_texts("any")
