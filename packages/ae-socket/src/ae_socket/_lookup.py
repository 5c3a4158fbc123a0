"""From a host and a service to socket addresses: SRV records, then the addresses of each target.

What can be answered without a resolver is answered here (addresses, ``unix/``, ``localhost``,
services); a :class:`Resolver` sees nothing but names of hosts.
"""

from __future__ import annotations

__all__ = ("AddressLookup", "lookup", "resolve")

from functools import partial

import ae_core as ae

from ._addresses import format_host_port
from ._arguments import check_resolver, check_target, check_text
from ._environment import protocols
from ._errors import ResolveFailed
from ._eyeballs import ATTEMPT_DELAY, interleave
from ._hosts import HostsFile
from ._resolver import default_resolver
from ._services import parse_service
from ._sockaddr import AddressInfo, checked_info, socket_type
from ._target import FAMILY, Target, allowed_families, known_infos, parse_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Final, TypeVar

    from ._interfaces import Resolver
    from ._sockaddr import SocketType

    T = TypeVar("T")

# Theory of operation
# -------------------
# A lookup asks up to three kinds of questions: SRV records, the addresses of their targets, and,
# without records, the addresses of the host itself. Any of these may remain unanswered: firewalls
# and home routers drop queries of types that they do not know, and one of several targets may be
# in a zone whose servers are down. So no question is waited for to its end while there are
# addresses to connect to:
#
#   0 s          SRV records are asked for.
#   0.25 s       Without an answer so far, the addresses of the host are asked for, too.
#   2 s later    Addresses have been there for 2 seconds: they are the answer, without SRV records.
#
# RFC 2782 says "if there is no SRV record, then the host itself", not "if it is late", so the
# records have long enough to be asked for a second time by a resolver that repeats after two
# seconds, as ae_dns does. The same holds for a target that is to be tried before one whose
# addresses have arrived. A target *behind* it gets ATTEMPT_DELAY: connecting would not begin with
# the second address earlier (RFC 8305, 5).
#
# Without any address the lookup waits for all questions: there is nothing to gain.

SRV_DELAY: Final = ATTEMPT_DELAY
"""Seconds for SRV records before the addresses of the host are asked for as well."""
PATIENCE: Final = 2.0
"""Seconds that what is preferred is waited for when other addresses have arrived."""

_PROTOCOL: Final = {"stream": "tcp", "dgram": "udp"}

_hosts = HostsFile()


def resolve(
    host: str,
    service: str | int,
    *,
    family: int = 0,
    type: SocketType = "stream",
    resolver: Resolver | None = None,
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
        resolver: Looks the host up instead of the default; see :func:`set_resolver`.

    Returns:
        A condvar with the list; ``[]`` if *family* contradicts a numeric host, for a relative
        UNIX path, and if the SRV record says that there is no such service.

        Numeric hosts, ``localhost`` and names below it are answered without a resolver; the
        others in the resolver's order, unless ``AE_PROTOCOLS`` is set: then by its order
        of families first.

        SRV records that do not come are not waited for longer than 2 seconds after the addresses
        of the host itself have arrived (these are asked for after 0.25 seconds), nor is a target
        of SRV records longer than 2 seconds after the addresses of another one.

        **When**: never ready before the call returns. **Lifetime**: the lookup goes on when
        the condvar is forgotten; cancelling it ends it.

    Raises:
        TypeError: Immediately, if an argument has the wrong type.
        ValueError: Through the condvar: an unknown service, a bad port, a name that no host
            can have (:func:`host_to_ascii`).
        ResolveFailed: Through the condvar: there is no such host.

    Perl: ``resolve_sockaddr $host, $service, $proto, $family, $type, $cb``
    """
    check_target(host, service)
    check_resolver(resolver)
    if family not in (0, 4, 6):
        raise ValueError(f"expected family 0, 4 or 6, got {family!r}")
    socket_type(type)
    asked = format_host_port(host, str(service).replace("\0", "@"))
    operation = AddressLookup(asked, family, type, resolver, alternate=False)
    return operation.begun(lambda: parse_target(host, service, type))


def lookup(
    target: Target, resolver: Resolver | None, *, alternate: bool
) -> ae.CondVar[list[AddressInfo]]:
    """Look up a target for :func:`tcp_connect`.

    With *alternate* the families alternate, for each SRV target on its own, because its priority
    counts more than its family.
    """
    operation = AddressLookup(target.host, 0, "stream", resolver, alternate=alternate)
    return operation.begun(lambda: target)


class AddressLookup:
    """One call of :func:`resolve`: asks the resolver, and puts its answers together.

    Args:
        asked: What is looked up, for messages.
        family: 0, 4 or 6.
        kind: ``"stream"`` or ``"dgram"``.
        resolver: The resolver to ask; ``None``: the default.
        alternate: Whether the families alternate in the result.

    Attributes:
        result: Gets the outcome.
    """

    def __init__(
        self,
        asked: str,
        family: int,
        kind: SocketType,
        resolver: Resolver | None,
        *,
        alternate: bool,
    ) -> None:
        self.result: ae.CondVar[list[AddressInfo]] = ae.CondVar(
            cancel=self._end, describe=partial("resolve {}".format, asked)
        )
        self._is_ordered = protocols()[1]
        self._family = family
        self._families = allowed_families(family)
        self._kind: SocketType = kind
        self._resolver = resolver
        self._alternate = alternate
        self._records: ae.CondVar[Any] | None = None  # the SRV query, while it is pending
        # for each target: its lookup while that is pending, and the addresses once it has ended
        self._pending: dict[int, ae.CondVar[Any]] = {}
        self._found: list[list[AddressInfo] | None] = []
        self._errors: dict[int, BaseException] = {}
        self._timer: ae.Watcher | None = None
        self._delay: float | None = None  # which the timer began with

    def begun(self, target: Callable[[], Target]) -> ae.CondVar[list[AddressInfo]]:
        """Begin, and return the condition variable; an error is its outcome in the next turn.

        An interrupt leaves nothing that goes on.
        """
        try:
            self._begin(target())
        except Exception as error:
            error.__traceback__ = None
            ae.postpone(partial(_settle, self.result.throw, self.result, error))
        except BaseException:
            self.result.cancel()
            raise
        return self.result

    def _begin(self, target: Target) -> None:
        """Ask the first question, or answer in the next turn if none is needed."""
        infos = known_infos(target, self._family, self._kind)
        if infos is None and not self._families:
            infos = []
        if infos is not None:
            ae.postpone(partial(_settle, self.result.send, self.result, infos))
            return
        host, name = target.host, target.name
        if self._resolver is None:
            self._resolver = default_resolver()
        srv = getattr(self._resolver, "srv", None) if name else None
        # The hosts file answers for good: a silent name server must not be waited for first. And
        # names below .local are multicast DNS's (RFC 6762), so no name server is asked for them.
        is_local = host.lower().removesuffix(".").endswith(".local")
        if srv is None or is_local or _hosts.addresses(host):
            self._ask([target])
            return
        self._records = self._checked(srv(name, _PROTOCOL[self._kind], host))
        self._start_timer(SRV_DELAY, partial(self._ask, [target]))
        _later(self._records, partial(self._step, partial(self._on_records, target)))

    def _checked(self, value: object) -> ae.CondVar[Any]:
        """Return what the resolver returned, if it is what it has to be."""
        if not isinstance(value, ae.CondVar):
            raise TypeError(f"expected a CondVar from {self._resolver!r}, got {value!r}")
        return value

    def _step(self, step: Callable[..., None], *arguments: object) -> None:
        """Run *step*, unless the lookup has ended; what it raises is the outcome."""
        if self.result.ready:
            return
        try:
            step(*arguments)
        except BaseException as error:
            if self.result.ready:
                raise
            error.__traceback__ = None  # it refers to this frame, and so to ourselves
            self._end()
            self.result.throw(error)

    def _start_timer(self, delay: float, step: Callable[[], None]) -> None:
        self._delay = delay
        self._timer = ae.timer(delay, partial(self._step, step))

    def _stop_timer(self) -> None:
        self._delay = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------ SRV records

    def _on_records(self, target: Target, records: ae.CondVar[Any]) -> None:
        if records is not self._records:
            return  # cancelled by ourselves
        self._records = None
        self._stop_timer()
        try:
            found = list(records.recv())
        except OSError:
            found = []  # no SRV records, or none that can be had: the host itself
        if found:
            self._cancel_pending()
            targets = self._srv_targets(found)
            if targets:
                self._ask(targets)
            else:
                self._end()
                self.result.send([])
        elif self._found:
            self._on_progress()  # the host has been asked for already
        else:
            self._ask([target])

    def _srv_targets(self, records: list[Any]) -> list[Target]:
        """Return where *records* point to, without those that no host can be called.

        RFC 2782: a target of "." says "decidedly not available at this domain".
        """
        targets = []
        impossible: ValueError | None = None
        for record in records:
            check_text("the target of an SRV record", record.target)
            name = record.target.removesuffix(".")
            port = parse_service(record.port, self._kind)[1]
            if not name:
                continue
            try:
                target = parse_target(name, port, self._kind)
            except ValueError as error:
                impossible = impossible or error
                continue
            # The name is absolute (RFC 2782): no search list may make another one of it.
            targets.append(target.absolute() if target.address is None else target)
        if impossible is not None and not targets:
            raise impossible
        return targets

    # ------------------------------------------------------------------ addresses

    def _ask(self, targets: Sequence[Target]) -> None:
        """Look up every target; the answers come in the order of the targets."""
        self._stop_timer()
        self._found = [None] * len(targets)
        family = self._families[0] if len(self._families) == 1 else 0
        resolver = self._resolver
        assert resolver is not None
        for index, target in enumerate(targets):
            infos = known_infos(target, self._family, self._kind)
            if infos is not None:
                self._found[index] = infos
                continue
            part = self._checked(
                resolver.getaddrinfo(target.host, target.port, family=family, type=self._kind)
            )
            self._pending[index] = part
            _later(part, partial(self._step, partial(self._on_part, index)))
        if len(self._pending) < len(targets):
            ae.postpone(partial(self._step, self._on_progress))

    def _on_part(self, index: int, part: ae.CondVar[Any]) -> None:
        if self._pending.get(index) is not part:
            return  # cancelled by ourselves
        del self._pending[index]
        try:
            self._found[index] = self._usable(index, part.recv())
        except BaseException as error:  # it may have been cancelled
            error.__traceback__ = None  # it refers to this frame, and so to ourselves
            self._errors.setdefault(index, error)
        self._on_progress()

    def _on_progress(self) -> None:
        """Finish if nothing is pending, else see how long that is waited for."""
        if not self._pending and self._records is None:
            self._finish()
            return
        first = next((i for i, infos in enumerate(self._found) if infos), None)
        if first is None:
            return
        is_preferred = self._records is not None or min(self._pending) < first
        delay = PATIENCE if is_preferred else ATTEMPT_DELAY
        if self._delay is None or delay < self._delay:
            self._stop_timer()
            self._start_timer(delay, self._finish)

    def _usable(self, index: int, found: Iterable[object]) -> list[AddressInfo]:
        """Return what of a resolver's answer is an address of a family in use.

        What is no address at all is skipped, and is an error if there is nothing else.
        """
        infos = []
        for item in found:
            try:
                info = checked_info(item)
            except (TypeError, ValueError, ResolveFailed) as error:
                ae.log("warn", "%r gave what is no address: %s", self._resolver, error)
                text = f"the resolver gave what is no address: {error}"
                self._errors.setdefault(index, ResolveFailed(text))
                continue
            if FAMILY[info.family] in self._families:
                infos.append(info)
        return infos

    def _finish(self) -> None:
        """Send the addresses that have arrived."""
        infos: list[AddressInfo] = []
        for found in self._found:
            if not found:
                continue
            if self._is_ordered:
                found.sort(key=lambda info: self._families.index(FAMILY[info.family]))
            infos += interleave(found, lambda info: info.family) if self._alternate else found
        errors = self._errors
        self._end()
        if errors and not infos:
            self.result.throw(errors[min(errors)])
        else:
            self.result.send(list(dict.fromkeys(infos)))

    # ------------------------------------------------------------------ the end

    def _end(self) -> None:
        """Cancel what is pending."""
        self._stop_timer()
        records, self._records = self._records, None
        if records is not None:
            records.cancel()
        self._cancel_pending()

    def _cancel_pending(self) -> None:
        pending, self._pending = self._pending, {}
        self._found = []
        self._errors = {}
        for part in pending.values():
            part.cancel()


def _settle(method: Callable[[T], None], result: ae.CondVar[Any], value: T) -> None:
    if not result.ready:
        method(value)


def _later(condvar: ae.CondVar[T], callback: Callable[[ae.CondVar[T]], None]) -> None:
    """Call back when *condvar* is ready, but not now, even if it is ready already."""
    if condvar.ready:
        ae.postpone(partial(callback, condvar))
    else:
        condvar.on_ready(callback)
