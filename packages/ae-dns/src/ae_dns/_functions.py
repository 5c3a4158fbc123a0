"""The module's own functions: each asks the shared resolver of this thread.

The resolver is made when it is first asked for.
"""

from __future__ import annotations

__all__ = (
    "a",
    "aaaa",
    "any_",
    "install",
    "mx",
    "ns",
    "ptr",
    "resolve",
    "resolver",
    "reverse_lookup",
    "reverse_verify",
    "set_resolver",
    "srv",
    "txt",
)

import _thread
from collections.abc import Iterable
from typing import TYPE_CHECKING

import ae_core as ae
import ae_socket
from ae_core.abc import environment

from ._answers import Answer, Srv
from ._resolver import Resolver

if TYPE_CHECKING:
    import dns.rdataclass
    import dns.rdatatype


# Per thread, like the loop. Not threading.local, which gevent makes one per greenlet.
class _Shared(_thread._local):
    resolver: Resolver | None = None


_shared = _Shared()


def resolver() -> Resolver:
    """Return the resolver that the functions of this module use in this thread.

    It is made on first use: the system's configuration, a cache, and as many queries at once as
    ``AE_MAX_OUTSTANDING_DNS`` says (default 10).

    Perl: ``AnyEvent::DNS::resolver``
    """
    if _shared.resolver is None:
        _shared.resolver = Resolver(max_outstanding=_max_outstanding(), cache=True)
    return _shared.resolver


def set_resolver(resolver: Resolver | None) -> None:
    """Let the functions of this module use *resolver* in this thread; ``None``: make a new one.

    Anything that has the methods of :class:`Resolver` will do. Its cache is emptied.

    Raises:
        TypeError: If *resolver* is no resolver.

    Perl: ``$AnyEvent::DNS::RESOLVER``
    """
    if resolver is not None and not callable(getattr(resolver, "resolve", None)):
        raise TypeError(f"expected a Resolver or None, got {resolver!r}")
    if isinstance(resolver, Resolver):
        resolver.flush()
    _shared.resolver = resolver


def install() -> None:
    """Let ``ae_socket`` resolve all names of this thread by :func:`resolver`.

    Its cache is emptied. ``ae_socket.set_resolver(None)`` takes it back.
    """
    chosen = resolver()
    if isinstance(chosen, Resolver):
        chosen.flush()
    ae_socket.set_resolver(chosen)


def a(name: str) -> ae.CondVar[list[str]]:
    """Look up IPv4 addresses, see :meth:`Resolver.a`."""
    return resolver().a(name)


def aaaa(name: str) -> ae.CondVar[list[str]]:
    """Look up IPv6 addresses, see :meth:`Resolver.aaaa`."""
    return resolver().aaaa(name)


def ns(domain: str) -> ae.CondVar[list[str]]:
    """Look up name servers, see :meth:`Resolver.ns`."""
    return resolver().ns(domain)


def mx(domain: str) -> ae.CondVar[list[str]]:
    """Look up mail hosts, see :meth:`Resolver.mx`."""
    return resolver().mx(domain)


def txt(name: str) -> ae.CondVar[list[str]]:
    """Look up texts, see :meth:`Resolver.txt`."""
    return resolver().txt(name)


def ptr(name: str) -> ae.CondVar[list[str]]:
    """Look up PTR records, see :meth:`Resolver.ptr`."""
    return resolver().ptr(name)


def any_(name: str) -> ae.CondVar[list[str]]:
    """Look up records of any type, see :meth:`Resolver.any_`."""
    return resolver().any_(name)


def srv(service: str, proto: str, domain: str) -> ae.CondVar[list[Srv]]:
    """Look up service records, see :meth:`Resolver.srv`."""
    return resolver().srv(service, proto, domain)


def reverse_lookup(ip: str) -> ae.CondVar[list[str]]:
    """Look up the names of an address, see :meth:`Resolver.reverse_lookup`."""
    return resolver().reverse_lookup(ip)


def reverse_verify(ip: str) -> ae.CondVar[list[str]]:
    """Look up the verified names of an address, see :meth:`Resolver.reverse_verify`."""
    return resolver().reverse_verify(ip)


def resolve(
    name: str,
    rdtype: str | int | dns.rdatatype.RdataType,
    *,
    search: Iterable[str] | None = None,
    accept: Iterable[str | int] | None = None,
    rdclass: str | int | dns.rdataclass.RdataClass = "IN",
) -> ae.CondVar[Answer]:
    """Look up records of any type, see :meth:`Resolver.resolve`."""
    return resolver().resolve(name, rdtype, search=search, accept=accept, rdclass=rdclass)


def _max_outstanding() -> int:
    text = environment("AE_MAX_OUTSTANDING_DNS")
    if not text:
        return 10
    if text.isascii() and text.isdigit() and int(text[:9]) > 0:
        return int(text[:9])
    ae.log("warn", "AE_MAX_OUTSTANDING_DNS (%s): not understood: %r", text, text)
    return 10
