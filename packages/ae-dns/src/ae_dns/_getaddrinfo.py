"""The addresses of one host, as ``ae_socket`` asks for them.

They come from the hosts file, from the system's resolver (names below ``.local``), or from A and
AAAA records. ``ae_socket.resolve`` does all the rest: services and SRV records, numeric addresses,
``localhost``, the order of families.
"""

from __future__ import annotations

__all__ = ("HostResolver", "getaddrinfo")

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, Protocol

import ae_core as ae
from ae_socket import AddressInfo, HostsFile, ThreadResolver, host_to_ascii, order_addresses
from ae_socket import resolve as resolve_service

from ._answers import Srv
from ._config import Config
from ._errors import ResolveError
from ._lookup import Lookup, impossible
from ._resolution import candidate_names, weight
from ._wire_fast import AAAA, A

# Theory of operation
# -------------------
# A and AAAA are asked for together, and a name of the search list wins if it has either:
# two independent lookups could return addresses of two different hosts, one from each
# suffix (glibc takes the same care). Where both fail the one error that says most is
# thrown; where one fails, the other's addresses are the answer.
#
# Firewalls and home routers drop questions for AAAA records, which would cost every connection
# the timeouts of a whole plan. So when one family has brought addresses, the other has 50 ms
# more (RFC 8305, 3). A family that is empty or failed does not start these 50 ms: there is
# nothing to connect to yet.
#
# `.local` belongs to multicast DNS (RFC 6762), which the system's resolver may know about
# (nss-mdns) and which must not leak to name servers.

_AF: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_RDTYPE: Final = {4: A, 6: AAAA}
_TYPES: Final = {
    "stream": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "dgram": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
}
RESOLUTION_DELAY: Final = 0.05
"""Seconds that one family is waited for when the other has brought addresses."""

_hosts = HostsFile()
_system = ThreadResolver()

Type = Literal["stream", "dgram"]
Infos = list[AddressInfo]


class Queries(Protocol):
    """What the lookup of a host uses of a resolver."""

    def configure(self) -> Config:
        """Return the configuration that holds now."""
        ...

    def start(self, names: list[bytes], rdtype: int, deliver: Callable[[Lookup], None]) -> Lookup:
        """Start a lookup of addresses, whose outcome goes to *deliver*."""
        ...

    def srv(self, service: str, proto: str, domain: str) -> ae.CondVar[list[Srv]]:
        """Look up service records."""
        ...


def getaddrinfo(
    queries: Queries, host: str, service: str | int, family: int, type: Type
) -> ae.CondVar[Infos]:
    """Implement ``Resolver.getaddrinfo``."""
    if not isinstance(host, str):
        raise TypeError(f"expected a host as str, got {host!r}")
    if family not in (0, 4, 6):
        raise ValueError(f"expected family 0, 4 or 6, got {family!r}")
    if not isinstance(type, str) or type not in _TYPES:
        raise ValueError(f'expected type "stream" or "dgram", got {type!r}')
    if host != "unix/":
        try:
            host = host_to_ascii(host)
        except ValueError as error:
            return impossible(error)
    return resolve_service(host, service, family=family, type=type, resolver=HostResolver(queries))


class HostResolver:
    """Answers ``ae_socket.resolve``: only names of hosts and numbers of ports get here."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.srv: Callable[[str, str, str], ae.CondVar[list[Srv]]] = queries.srv

    def getaddrinfo(
        self, host: str, service: str | int, *, family: int = 0, type: Type = "stream"
    ) -> ae.CondVar[Infos]:
        """Look up the addresses of *host*, ordered by RFC 6724."""
        port = int(service)
        kind = _TYPES[type]
        families = [each for each in _AF if family in (0, each)]
        infos_of = partial(_infos, port, kind, families)
        listed = infos_of(_hosts.addresses(host))
        if listed:
            known: ae.CondVar[Infos] = ae.CondVar()
            known.send(listed)
            return known
        if host.lower().removesuffix(".").endswith(".local"):
            return _system.getaddrinfo(host, port, family=family, type=type)
        return _HostLookup(self._queries, host, families, infos_of).result


def _infos(port: int, kind: tuple[int, int], families: Sequence[int], texts: list[str]) -> Infos:
    """Return the addresses in *texts* that are of one of *families*, ordered by RFC 6724."""
    infos: Infos = []
    for text in texts:
        family = 6 if ":" in text else 4
        if family not in families:
            continue
        sockaddr: tuple[Any, ...] = (text, port)
        if family == 6:
            address, _, scope = text.partition("%")
            sockaddr = (address, port, 0, _scope_id(scope))
        infos.append(AddressInfo(_AF[family], *kind, sockaddr))
    return order_addresses(infos)


def _scope_id(scope: str) -> int:
    if not scope:
        return 0
    try:
        return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    except OSError:
        return 0


class _HostLookup:
    """A and AAAA records of one host: candidate by candidate, both types in parallel."""

    def __init__(
        self,
        queries: Queries,
        host: str,
        families: Sequence[int],
        infos_of: Callable[[list[str]], Infos],
    ) -> None:
        self.queries = queries
        self.infos_of = infos_of
        self.result: ae.CondVar[Infos] = ae.CondVar(cancel=self.end)
        self.error: ResolveError | None = None
        self.lookups: list[Lookup] = []
        self.delay: ae.Watcher | None = None
        config = queries.configure()
        rdtypes = [_RDTYPE[family] for family in families]
        if config.no_aaaa and A in rdtypes:
            rdtypes = [A]
        self.one_by_one = config.single_request
        self.rdtypes = rdtypes
        self.names = candidate_names(host, config.search, config.ndots)
        ae.postpone(partial(self.go_on, self.try_next))

    def go_on(self, step: Callable[[], None]) -> None:
        """Run *step*; what it raises is the outcome."""
        if self.result.ready:
            return
        try:
            step()
        except Exception as error:
            if self.result.ready:
                raise
            self.end()
            self.result.throw(error.with_traceback(None))

    def try_next(self) -> None:
        if not self.names:
            assert self.error is not None
            raise self.error
        name = self.names.pop(0)
        self.lookups = []
        for rdtype in self.rdtypes[: 1 if self.one_by_one else None]:
            self.lookups.append(self.queries.start([name], rdtype, self.on_lookup))
        self.name = name

    def on_lookup(self, lookup: Lookup) -> None:
        lookup.condvar.send(None)
        self.go_on(self.on_one)

    def on_one(self) -> None:
        """Act on the end of the lookup of one type."""
        if len(self.lookups) < len(self.rdtypes):
            rdtype = self.rdtypes[len(self.lookups)]
            self.lookups.append(self.queries.start([self.name], rdtype, self.on_lookup))
        if all(each.condvar.ready for each in self.lookups):
            self.on_all()
        elif self.delay is None and self.texts():
            self.delay = ae.timer(RESOLUTION_DELAY, partial(self.go_on, self.on_all))

    def texts(self) -> list[str]:
        """Return the addresses so far, in the order of the families."""
        return [
            str(value)
            for lookup in self.lookups
            if lookup.reading is not None
            for value in lookup.reading.values
        ]

    def on_all(self) -> None:
        """Finish with the addresses there are; if there are none, try the next candidate."""
        texts = self.texts()
        if texts:
            infos = self.infos_of(texts)
            self.end()
            self.result.send(infos)
            return
        for lookup in self.lookups:
            error = lookup.error()
            if self.error is None or weight(error) > weight(self.error):
                self.error = error
            if lookup.ends_search:
                self.names.clear()
        self.try_next()

    def end(self) -> None:
        """Cancel the lookups."""
        self.delay = None
        lookups, self.lookups = self.lookups, []  # they refer to this object
        for lookup in lookups:
            lookup.condvar.cancel()
