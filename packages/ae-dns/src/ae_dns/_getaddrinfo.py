"""From a host and a service to socket addresses: the seam that ``ae_socket`` calls.

Answers from the hosts file, SRV, A and AAAA records. What needs no name server at all
(numeric addresses, ``localhost``, numbers of services) is ``ae_socket.resolve``'s.
"""

from __future__ import annotations

__all__ = ("getaddrinfo",)

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import ae_core as ae
from ae_socket import (
    AddressInfo,
    HostsFile,
    ThreadResolver,
    host_to_ascii,
    order_addresses,
    parse_address,
)
from ae_socket import resolve as resolve_numeric

from ._answers import Srv
from ._config import protocols, variable
from ._errors import ResolveError
from ._lookup import Lookup
from ._resolution import candidate_names, weight
from ._wire import AAAA, A

if TYPE_CHECKING:
    from ._resolver import Resolver

# Theory of operation
# -------------------
# A and AAAA are asked for together, and a name of the search list wins if it has either:
# two independent lookups could return addresses of two different hosts, one from each
# suffix (glibc takes the same care). Where both fail the one error that says most is
# thrown; where one fails, the other's addresses are the answer.
#
# Firewalls and home routers drop questions for AAAA records, which would cost every connection
# the time-outs of a whole plan. So when one family has brought addresses, the other has 50 ms
# more (RFC 8305, 3). Nothing is gained by hurrying while there is nothing to connect to: an
# empty or failed family starts no clock.
#
# `.local` belongs to multicast DNS (RFC 6762), which the system's resolver may know about
# (nss-mdns) and which must not leak to name servers.

_AF: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_RDTYPE: Final = {4: A, 6: AAAA}
_TYPES: Final = {
    "stream": (socket.SOCK_STREAM, socket.IPPROTO_TCP, "tcp"),
    "dgram": (socket.SOCK_DGRAM, socket.IPPROTO_UDP, "udp"),
}
RESOLUTION_DELAY: Final = 0.05
"""Seconds that one family is waited for when the other has brought addresses."""

_hosts = HostsFile()
_system = ThreadResolver()

Type = Literal["stream", "dgram"]
Infos = list[AddressInfo]


def getaddrinfo(
    resolver: Resolver, host: str, service: str | int, family: int, type: Type
) -> ae.CondVar[Infos]:
    """Do ``Resolver.getaddrinfo``."""
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
            return _impossible(ResolveError(str(error)))
    if _needs_nobody(host):
        return resolve_numeric(host, service, family=family, type=type)
    return _Question(resolver, host, family, type).begin(service)


def _needs_nobody(host: str) -> bool:
    if host == "unix/" or parse_address(host.partition("%")[0]) is not None:
        return True
    return ("." + host.lower().removesuffix(".")).endswith(".localhost")


def _impossible(error: ResolveError) -> ae.CondVar[Infos]:
    result: ae.CondVar[Infos] = ae.CondVar()

    def settle() -> None:
        if not result.ready:
            result.throw(error)

    ae.postpone(settle)
    return result


class _Question:
    """One call of ``getaddrinfo`` that needs more than arithmetic."""

    def __init__(self, resolver: Resolver, host: str, family: int, type: Type) -> None:
        self.resolver = resolver
        self.host = host
        self.families = [each for each in protocols() if family in (0, each)]
        self.family = family
        self.type: Type = type
        self.port = 0
        self.service: str | None = None
        self.parts: list[ae.CondVar[Any]] = []
        self.result: ae.CondVar[Infos] = ae.CondVar(self.on_result)

    def begin(self, service: str | int) -> ae.CondVar[Infos]:
        # Only the number is wanted: any numeric address of a family in use will do.
        anything = "::1" if self.families[:1] == [6] else "127.0.0.1"
        self.then(resolve_numeric(anything, service, type=self.type), self.on_service)
        if isinstance(service, str) and not service.isdigit():
            self.service = service.partition("=")[0]
        return self.result

    def then(self, part: ae.CondVar[Any], callback: Callable[[Any], None]) -> None:
        """Go on with the value of *part*; its error is ours."""

        def ready(part: ae.CondVar[Any]) -> None:
            if self.result.ready:
                return
            try:
                callback(part.recv())
            except Exception as error:
                if self.result.ready:
                    raise
                # Its traceback leads here, and from here back to it.
                self.result.throw(error.with_traceback(None))

        self.parts = [part]
        part.on_ready(ready)

    def on_result(self, result: ae.CondVar[Infos]) -> None:
        parts, self.parts = self.parts, []
        if result.cancelled:
            for part in parts:
                part.cancel()

    def on_service(self, infos: Infos) -> None:
        if not self.families or not infos:
            self.result.send([])
            return
        self.port = int(infos[0].sockaddr[1])
        found = [info for text in _hosts.addresses(self.host) if (info := self.info(text))]
        if found:
            self.finish([found])
        elif _is_local(self.host):
            self.then(self.ask_system(self.host, self.port), self.result.send)
        elif self.service is not None:
            protocol = _TYPES[self.type][2]
            self.then(self.resolver.srv(self.service, protocol, self.host), self.on_srv)
        else:
            self.ask_for([(self.host, self.port)])

    def on_srv(self, records: list[Srv]) -> None:
        if not records:
            self.ask_for([(self.host, self.port)])
            return
        # RFC 2782: a target of "." says that the service is decidedly not available.
        targets = [(f"{srv.target}.", srv.port) for srv in records if srv.target != "."]
        if targets:
            self.ask_for(targets)
        else:
            self.result.send([])

    def ask_for(self, targets: Sequence[tuple[str, int]]) -> None:
        """Look up the addresses of every target; they stay in the order of the targets."""
        parts = self.parts = [self.addresses(host, port) for host, port in targets]
        together: ae.CondVar[None] = ae.CondVar()
        with together.group():
            for part in parts:
                together.begin()
                part.on_ready(lambda _: together.end())
        self.then(together, lambda _: self.on_addresses(parts))
        self.parts = parts

    def on_addresses(self, parts: Sequence[ae.CondVar[Infos]]) -> None:
        groups = []
        trouble: Exception | None = None
        for part in parts:
            try:
                groups.append(part.recv())
            except OSError as error:
                trouble = trouble or error.with_traceback(None)
        if trouble is not None and not any(groups):
            raise trouble
        self.finish(groups)

    def addresses(self, host: str, port: int) -> ae.CondVar[Infos]:
        """Look up one target: in the hosts file, by the system, or by A and AAAA records."""
        infos = [info for text in _hosts.addresses(host) if (info := self.info(text, port))]
        if infos:
            known: ae.CondVar[Infos] = ae.CondVar()
            known.send(infos)
            return known
        if _is_local(host):
            return self.ask_system(host, port)

        def infos_of(texts: list[str]) -> Infos:
            return [info for text in texts if (info := self.info(text, port))]

        return _HostLookup(self.resolver, host, self.families, infos_of).result

    def ask_system(self, host: str, port: int) -> ae.CondVar[Infos]:
        family = self.families[0] if len(self.families) == 1 else 0
        return _system.getaddrinfo(host, port, family=family, type=self.type)

    def info(self, text: str, port: int | None = None) -> AddressInfo | None:
        """Return an address with our port and type, unless its family is not wanted."""
        family = 6 if ":" in text else 4
        if family not in self.families:
            return None
        kind, protocol, _name = _TYPES[self.type]
        port = self.port if port is None else port
        sockaddr: tuple[Any, ...] = (text, port)
        if family == 6:
            address, _, scope = text.partition("%")
            sockaddr = (address, port, 0, _scope_id(scope))
        return AddressInfo(_AF[family], kind, protocol, sockaddr)

    def finish(self, groups: list[Infos]) -> None:
        infos: Infos = []
        for group in groups:
            ordered = order_addresses(group)
            if variable("AE_PROTOCOLS"):
                ordered.sort(key=lambda info: self.families.index(_family(info)))
            infos += ordered
        self.result.send(list(dict.fromkeys(infos)))


def _family(info: AddressInfo) -> int:
    return 6 if info.family == socket.AF_INET6 else 4


def _scope_id(scope: str) -> int:
    if not scope:
        return 0
    try:
        return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    except OSError:
        return 0


def _is_local(host: str) -> bool:
    return host.lower().removesuffix(".").endswith(".local")


class _HostLookup:
    """A and AAAA records of one host: candidate by candidate, both types at once."""

    def __init__(
        self,
        resolver: Resolver,
        host: str,
        families: Sequence[int],
        infos_of: Callable[[list[str]], Infos],
    ) -> None:
        self.resolver = resolver
        self.infos_of = infos_of
        self.result: ae.CondVar[Infos] = ae.CondVar(self.on_result)
        self.trouble: ResolveError | None = None
        self.lookups: list[Lookup] = []
        self.delay: ae.Watcher | None = None
        config = resolver.configure()
        rdtypes = [_RDTYPE[family] for family in families]
        if config.no_aaaa and A in rdtypes:
            rdtypes = [A]
        self.one_by_one = config.single_request
        self.rdtypes = rdtypes
        try:
            self.names = candidate_names(host, config.search, config.ndots)
        except ValueError as error:
            self.names = []
            self.trouble = ResolveError(str(error))
        ae.postpone(partial(self.go_on, self.try_next))

    def go_on(self, step: Callable[[], None]) -> None:
        """Take a step; whatever becomes of it, there is an outcome."""
        if self.result.ready:
            return
        try:
            step()
        except Exception as error:
            if self.result.ready:
                raise
            self.result.throw(error.with_traceback(None))

    def try_next(self) -> None:
        if not self.names:
            assert self.trouble is not None
            raise self.trouble
        name = self.names.pop(0)
        self.lookups = []
        for rdtype in self.rdtypes[: 1 if self.one_by_one else None]:
            self.lookups.append(self.resolver.start([name], rdtype, self.on_lookup))
        self.name = name

    def on_lookup(self, lookup: Lookup) -> None:
        lookup.condvar.send(None)
        self.go_on(self.on_one)

    def on_one(self) -> None:
        """Take it that the lookup of one type is over."""
        if len(self.lookups) < len(self.rdtypes):
            rdtype = self.rdtypes[len(self.lookups)]
            self.lookups.append(self.resolver.start([self.name], rdtype, self.on_lookup))
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
        """Finish with the addresses there are; if there are none, see what is left to try."""
        texts = self.texts()
        if texts:
            self.result.send(self.infos_of(texts))
            return
        for lookup in self.lookups:
            trouble = lookup.error()
            if self.trouble is None or weight(trouble) > weight(self.trouble):
                self.trouble = trouble
            if lookup.ends_search:
                self.names.clear()
        self.try_next()

    def on_result(self, _: object) -> None:
        self.delay = None
        lookups, self.lookups = self.lookups, []  # they refer to this object
        for lookup in lookups:
            lookup.condvar.cancel()
