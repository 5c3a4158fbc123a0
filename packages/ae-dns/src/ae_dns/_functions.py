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

from collections.abc import Iterable
from typing import TYPE_CHECKING

import ae_core as ae
import ae_socket
from ae_core.abc import ThreadLocal, environment

from ._answers import Answer, Srv
from ._resolver import Resolver

if TYPE_CHECKING:
    import dns.rdataclass
    import dns.rdatatype


# Per thread, like the loop. Not threading.local, which gevent makes one per greenlet.
class _Shared(ThreadLocal):
    resolver: Resolver | None = None


_shared = _Shared()


def resolver() -> Resolver:
    """Return the resolver that the functions of this module use in this thread.

    It is made on first use: the system's configuration, a cache, and as many parallel queries as
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
    """Look up the IPv4 addresses of *name*; ``[]`` if it has none.

    Asks :func:`resolver`. Tell "none" from "failed" by ``resolve(name, "A")``, which raises.

    Perl: ``AnyEvent::DNS::a``
    """
    return resolver().a(name)


def aaaa(name: str) -> ae.CondVar[list[str]]:
    """Look up the IPv6 addresses of *name*; ``[]`` if it has none.

    Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::aaaa``
    """
    return resolver().aaaa(name)


def ns(domain: str) -> ae.CondVar[list[str]]:
    """Look up the name servers of *domain*; ``[]`` if it has none.

    Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::ns``
    """
    return resolver().ns(domain)


def mx(domain: str) -> ae.CondVar[list[str]]:
    """Look up the mail hosts of *domain*, the preferred first; ``[]`` if it has none.

    ``["."]`` says that the domain accepts no mail (RFC 7505). Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::mx``
    """
    return resolver().mx(domain)


def txt(name: str) -> ae.CondVar[list[str]]:
    """Look up the texts of *name*; ``[]`` if it has none.

    The strings of one record are joined. Bytes that are not UTF-8 become surrogates
    (``errors="surrogateescape"``). Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::txt`` (which gives the first string of each record only)
    """
    return resolver().txt(name)


def ptr(name: str) -> ae.CondVar[list[str]]:
    """Look up the PTR records of *name*; ``[]`` if it has none.

    *name* is one below ``in-addr.arpa`` or ``ip6.arpa``; :func:`reverse_lookup` takes an address.
    Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::ptr``
    """
    return resolver().ptr(name)


def any_(name: str) -> ae.CondVar[list[str]]:
    """Look up whatever a server chooses to tell of *name*: ``"TYPE data"`` texts.

    Most servers tell little (RFC 8482). ``[]`` on any failure. Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::any``
    """
    return resolver().any_(name)


def srv(service: str, proto: str, domain: str) -> ae.CondVar[list[Srv]]:
    """Look up where *service* over *proto* is offered for *domain*; ``[]`` if nothing says so.

    The records come in the order to try them: by priority, then at random by weight (RFC 2782).
    A target of ``"."`` says that the service is decidedly not offered. Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::srv``
    """
    return resolver().srv(service, proto, domain)


def reverse_lookup(ip: str) -> ae.CondVar[list[str]]:
    """Look up the names of an address.

    A v4-mapped IPv6 address is looked up as IPv4. What is no address gives ``[]`` without
    a query. Asks :func:`resolver`.

    Perl: ``AnyEvent::DNS::reverse_lookup``
    """
    return resolver().reverse_lookup(ip)


def reverse_verify(ip: str) -> ae.CondVar[list[str]]:
    """Look up those names of an address that in turn have this address.

    The owner of an address can give it any name; only the owner of a name can point it back. Asks
    :func:`resolver`.

    Perl: ``AnyEvent::DNS::reverse_verify``
    """
    return resolver().reverse_verify(ip)


def resolve(
    name: str,
    rdtype: str | int | dns.rdatatype.RdataType,
    *,
    search: Iterable[str] | None = None,
    accept: Iterable[str | int] | None = None,
    rdclass: str | int | dns.rdataclass.RdataClass = "IN",
) -> ae.CondVar[Answer]:
    """Look up the records of type *rdtype* of *name*.

    Asks :func:`resolver`.

    Args:
        name: The name; with a final dot it is complete, else the search list applies.
        rdtype: ``"MX"``, a number, or a ``dns.rdatatype``; ``"ANY"`` and ``"*"`` accept all.
        search: Suffixes that replace the search list; the name without suffix is then not
            tried. Empty: only the name without suffix.
        accept: The types that are answers, default: *rdtype*. With ``"CNAME"`` in it, aliases are
            answers and are not followed.
        rdclass: ``"IN"``, ``"CH"`` or ``"HS"``.

    Returns:
        A condvar with an :class:`Answer`, which is never empty.

    Raises:
        ValueError, TypeError: Immediately, if an argument makes no sense.
        NoSuchName, NoData, ServerFailed, QueryTimedOut: Through the condvar.
        ResolveError: Through the condvar: the name is impossible, or has an endless chain of
            aliases.

    Perl: ``$resolver->resolve``
    """
    return resolver().resolve(name, rdtype, search=search, accept=accept, rdclass=rdclass)


def _max_outstanding() -> int:
    text = environment("AE_MAX_OUTSTANDING_DNS")
    if not text:
        return 10
    if text.isascii() and text.isdigit() and int(text[:9]) > 0:
        return int(text[:9])
    ae.log("warn", "AE_MAX_OUTSTANDING_DNS (%s): not understood: %r", text, text)
    return 10
