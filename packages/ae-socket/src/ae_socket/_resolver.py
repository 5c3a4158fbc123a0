"""From a host and a service to socket addresses: the rules, and the seam for resolvers.

What can be answered without asking anybody is answered here (numbers, ``unix/``,
``localhost``, services); a :class:`Resolver` sees nothing but names of hosts.
"""

from __future__ import annotations

__all__ = (
    "Resolver",
    "default_resolver",
    "known_infos",
    "lookup",
    "resolve",
    "set_resolver",
)

import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import ae_core as ae

from ._arguments import check_resolver, check_target, check_text
from ._environment import protocols, variable
from ._errors import ResolveFailed
from ._eyeballs import interleave
from ._getaddrinfo import ThreadResolver
from ._host_names import host_to_ascii
from ._hosts import HostsFile
from ._services import parse_service
from ._sockaddr import AddressInfo, checked_info, numeric_info, socket_type, unix_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._sockaddr import SocketType

T = TypeVar("T")

_FAMILY: Final[dict[int, int]] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
_PROTOCOL: Final = {"stream": "tcp", "dgram": "udp"}


class Resolver(Protocol):
    """What can be given to :func:`set_resolver`: something that looks up names of hosts.

    It gets names only, as :func:`host_to_ascii` gives them, never a numeric address, ``unix/``
    or ``localhost``, and the service as a port number. It answers through the condvar, on this
    thread, with the addresses in the order to try them, or throws an ``OSError`` if there is no
    such host.

    A resolver that also has ``srv(service, protocol, domain) -> CondVar[list]``, whose items
    have ``port`` and ``target`` and come in the order to try them, is asked for SRV records
    first whenever the service was given by name; not for names below ``.local``.
    """

    def getaddrinfo(
        self, host: str, service: str | int, *, family: int = 0, type: SocketType = "stream"
    ) -> ae.CondVar[list[AddressInfo]]:
        """Look *host* up in *family* (0, 4 or 6)."""
        ...


class _Chosen(threading.local):
    # Per thread, like the loop: a resolver with sockets belongs to the loop it was made on.
    resolver: Resolver | None = None

    def __init__(self) -> None:
        self.made: dict[str, Resolver] = {}


_chosen = _Chosen()
_threads = ThreadResolver()
_hosts = HostsFile()


def set_resolver(resolver: Resolver | None) -> None:
    """Let *resolver* look up all names in this thread; ``None`` restores the default.

    The default is the one ``AE_RESOLVER`` names, else :class:`ThreadResolver`. An argument of
    :func:`tcp_connect` counts more than this.

    Raises:
        TypeError: If *resolver* has no ``getaddrinfo``.
    """
    check_resolver(resolver)
    _chosen.resolver = resolver


def default_resolver() -> Resolver:
    """Return the resolver this thread uses where none is given.

    Raises:
        ValueError: If ``AE_RESOLVER`` names none that is installed.
    """
    if _chosen.resolver is not None:
        return _chosen.resolver
    name = variable("AE_RESOLVER")
    if name in ("", "thread"):
        return _threads
    return _chosen.made.get(name) or _from_entry_point(name)


def _from_entry_point(name: str) -> Resolver:
    from importlib.metadata import entry_points

    found = entry_points(group="ae_socket.resolvers")
    if name not in found.names:
        known = ", ".join(sorted({"thread", *found.names}))
        raise ValueError(f"AE_RESOLVER: expected one of {known}, got {name!r}")
    value: Any = found[name].load()
    # A class or a function makes one; a function may well return one shared object.
    if isinstance(value, type) or not hasattr(value, "getaddrinfo"):
        value = value()
    _chosen.made[name] = value
    return value  # type: ignore[no-any-return]


def resolve(
    host: str, service: str | int, *, family: int = 0, type: SocketType = "stream"
) -> ae.CondVar[list[AddressInfo]]:
    """Turn a host and a service into the socket addresses to try, in order.

    Args:
        host: A name, an address in any form :func:`parse_address` reads (an IPv6 one may
            carry a scope, ``fe80::1%eth0``), or ``"unix/"``. What is asked for, of the hosts
            file as well, is the name that :func:`host_to_ascii` gives.
        service: A port number, the name of a service, or ``name=port``, where the port
            stands in if neither SRV records nor the services database are to be relied on.
            With ``"unix/"`` an absolute path, or a NUL and an abstract name.
        family: 4 or 6 for addresses of that family only, 0 for all in ``AE_PROTOCOLS``.
        type: ``"stream"`` or ``"dgram"``.

    Returns:
        A condvar with the list; ``[]`` if *family* contradicts a numeric host, for a relative
        UNIX path, and if the SRV record says that there is no such service.

        Numeric hosts, ``localhost`` and names below it are answered without a resolver; the
        others in the resolver's order, unless ``AE_PROTOCOLS`` is set: then by its order
        of families first.

        **When**: never ready before the call returns. **Lifetime**: the lookup goes on when
        the condvar is forgotten; cancelling it ends it.

    Raises:
        TypeError: At once, if an argument has the wrong type.
        ValueError: Through the condvar: an unknown service, a bad port, a name that no host
            can have (:func:`host_to_ascii`).
        ResolveFailed: Through the condvar: there is no such host.

    Perl: ``resolve_sockaddr $host, $service, $proto, $family, $type, $cb``
    """
    return lookup(host, service, family, type)


def lookup(
    host: str,
    service: str | int,
    family: int = 0,
    kind: SocketType = "stream",
    *,
    resolver: Resolver | None = None,
    alternate: bool = False,
) -> ae.CondVar[list[AddressInfo]]:
    """Do what :func:`resolve` says, for callers in this package.

    With *alternate* the families alternate - for each SRV target on its own, because its
    priority counts more than its family.
    """
    check_target(host, service)
    if family not in (0, 4, 6):
        raise ValueError(f"expected family 0, 4 or 6, got {family!r}")
    socket_type(kind)
    question = _Question(family, kind, resolver, alternate)
    try:
        question.begin(host, service)
    except Exception as error:
        error.__traceback__ = None
        question.fail(error)
    return question.result


def known_infos(
    host: str, service: str | int, family: int = 0, kind: SocketType = "stream"
) -> list[AddressInfo] | None:
    """Return the answer to :func:`resolve` if it takes nobody's help, else ``None``."""
    if host == "unix/":
        path = str(service)
        if family or not path.startswith(("/", "\0")):
            return []
        return [unix_info(path, kind)]
    port = parse_service(service, kind)[1]
    info = numeric_info(host, port, kind)
    if info is None:
        if "%" in host and not host.startswith("["):
            raise ResolveFailed(f"{host!r} is no IPv6 address, so it has no scope")
        host = host_to_ascii(host)
        info = numeric_info(host, port, kind)  # it had brackets
    if info is not None:
        return [info] if _FAMILY[info.family] in _families(family) else []
    # RFC 6761 6.3: all of "localhost." is this host, and never a question for the DNS.
    if ("." + host.lower().removesuffix(".")).endswith(".localhost"):
        texts = (_LOOPBACK[one] for one in _families(family))
        return [info for text in texts if (info := numeric_info(text, port, kind))]
    return None


def _families(family: int) -> tuple[int, ...]:
    preference = protocols()[0]
    return tuple(one for one in preference if family in (0, one)) if family else preference


class _Question:
    """One call of :func:`resolve` on its way."""

    def __init__(
        self, family: int, kind: SocketType, resolver: Resolver | None, alternate: bool
    ) -> None:
        self.result: ae.CondVar[list[AddressInfo]] = ae.CondVar()
        self.is_ordered = protocols()[1]
        self.family = family
        self.families = _families(family)
        self.kind: SocketType = kind
        self.resolver = resolver
        self.alternate = alternate
        self.parts: list[ae.CondVar[Any]] = []

    def answer(self, infos: list[AddressInfo]) -> None:
        ae.postpone(partial(_settle, self.result.send, self.result, infos))

    def fail(self, error: BaseException) -> None:
        ae.postpone(partial(_settle, self.result.throw, self.result, error))

    def begin(self, host: str, service: str | int) -> None:
        infos = known_infos(host, service, self.family, self.kind)
        if infos is not None:
            self.answer(infos)
            return
        host = host_to_ascii(host)
        name, port = parse_service(service, self.kind)
        if not self.families:
            self.answer([])
            return
        resolver = self.resolver if self.resolver is not None else default_resolver()
        self.resolver = resolver
        self.result.on_ready(self.on_result)
        srv = getattr(resolver, "srv", None) if name else None
        # The hosts file answers for good: a silent name server must not be waited for first. And
        # names below .local are multicast DNS's (RFC 6762), so no name server hears of them.
        is_local = host.lower().removesuffix(".").endswith(".local")
        if srv is None or is_local or _hosts.addresses(host):
            self.ask([(host, port)])
        else:
            records = _condvar(resolver, srv(name, _PROTOCOL[self.kind], host))
            self.parts = [records]
            _later(records, partial(self.on_records, host, port))

    def ask(self, targets: list[tuple[str, int]]) -> None:
        """Look up every target; the answers come in the order of the targets."""
        family = self.families[0] if len(self.families) == 1 else 0
        self.parts = []
        for host, port in targets:
            self.parts.append(self.ask_one(host, port, family))
        left = len(targets)

        def on_part(_part: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                self.go_on(self.on_parts)

        for part in self.parts:
            _later(part, on_part)

    def ask_one(self, host: str, port: int, family: int) -> ae.CondVar[Any]:
        infos = known_infos(host, port, family, self.kind)
        if infos is not None:
            known: ae.CondVar[list[AddressInfo]] = ae.CondVar()
            known.send(infos)
            return known
        resolver = self.resolver
        assert resolver is not None
        return _condvar(resolver, resolver.getaddrinfo(host, port, family=family, type=self.kind))

    def go_on(self, step: Callable[[], None]) -> None:
        """Take a step; whatever a resolver made go wrong is the outcome."""
        if self.result.ready:
            return
        try:
            step()
        except BaseException as error:
            if self.result.ready:
                raise
            error.__traceback__ = None  # it refers to this frame, and so to ourselves
            self.result.throw(error)

    def on_records(self, host: str, port: int, records: ae.CondVar[Any]) -> None:
        self.go_on(partial(self.take_records, host, port, records))

    def take_records(self, host: str, port: int, records: ae.CondVar[Any]) -> None:
        try:
            found = list(records.recv())
        except OSError:
            found = []  # no SRV records, or none that can be had: the host itself
        targets = []
        for record in found:
            target, target_port = record.target, record.port
            check_text("the target of an SRV record", target)
            targets.append((target.removesuffix("."), parse_service(target_port, self.kind)[1]))
        if not targets:
            self.ask([(host, port)])
        elif any(target for target, _port in targets):
            self.ask([target for target in targets if target[0]])
        else:
            # RFC 2782: a target of "." says "decidedly not available at this domain".
            self.result.send([])

    def on_parts(self) -> None:
        infos: list[AddressInfo] = []
        errors: list[BaseException] = []
        for part in self.parts:
            try:
                found = self.usable(part.recv(), errors)
            except BaseException as error:  # somebody may have cancelled it
                error.__traceback__ = None  # it refers to this frame, and so to ourselves
                errors.append(error)
                continue
            if self.is_ordered:
                found.sort(key=lambda info: self.families.index(_FAMILY[info.family]))
            infos += interleave(found, lambda info: info.family) if self.alternate else found
        if errors and not infos:
            self.result.throw(errors[0])
        else:
            self.result.send(list(dict.fromkeys(infos)))

    def usable(self, found: Iterable[object], errors: list[BaseException]) -> list[AddressInfo]:
        """Return what of a resolver's answer is an address of a family in use.

        What is no address at all is skipped, and is an error if there is nothing else.
        """
        infos = []
        for item in found:
            try:
                info = checked_info(item)
            except (TypeError, ValueError, ResolveFailed) as error:
                ae.log("warn", "%r gave what is no address: %s", self.resolver, error)
                errors.append(ResolveFailed(f"the resolver gave what is no address: {error}"))
                continue
            if _FAMILY[info.family] in self.families:
                infos.append(info)
        return infos

    def on_result(self, _result: object) -> None:
        parts, self.parts = self.parts, []
        for part in parts:
            part.cancel()


def _condvar(resolver: object, value: object) -> ae.CondVar[Any]:
    """Return what a resolver returned, if it is what it has to be."""
    if not isinstance(value, ae.CondVar):
        raise TypeError(f"expected a CondVar from {resolver!r}, got {value!r}")
    return value


def _settle(method: Callable[[T], None], result: ae.CondVar[Any], value: T) -> None:
    if not result.ready:
        method(value)


def _later(condvar: ae.CondVar[T], callback: Callable[[ae.CondVar[T]], None]) -> None:
    """Call back when *condvar* is ready, but not now, even if it is ready already."""
    if condvar.ready:
        ae.postpone(partial(callback, condvar))
    else:
        condvar.on_ready(callback)
