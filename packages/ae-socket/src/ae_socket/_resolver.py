"""Resolvers: what a package has to offer to look up names of hosts, and which one is asked."""

from __future__ import annotations

__all__ = ("Resolver", "default_resolver", "set_resolver")

import threading
from typing import TYPE_CHECKING, Any, Protocol

import ae_core as ae
from ae_core.abc import environment

from ._arguments import check_resolver
from ._getaddrinfo import ThreadResolver

if TYPE_CHECKING:
    from ._sockaddr import AddressInfo, SocketType


class Resolver(Protocol):
    """What can be given to :func:`set_resolver`: something that looks up names of hosts.

    It gets names only, as :func:`host_to_ascii` gives them, never a numeric address, ``unix/``
    or ``localhost``, and the service as a port number. It answers through the condvar, on this
    thread, with the addresses in the order to try them, or throws an ``OSError`` if there is no
    such host.

    A resolver that also has ``srv(service, protocol, domain) -> CondVar[list]``, whose items
    have ``port`` and ``target`` and come in the order to try them, is asked for SRV records
    first whenever the service was given by name; not for names below ``.local``. A target is an
    absolute name, so ``getaddrinfo`` is then asked for it with a final dot.
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
    name = environment("AE_RESOLVER")
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
