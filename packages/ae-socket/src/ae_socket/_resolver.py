"""Resolvers: what a package has to offer to look up names of hosts, and which one is asked."""

from __future__ import annotations

__all__ = ("default_resolver", "set_resolver")

from ae_core.abc import ThreadLocal, environment

from ._arguments import check_resolver
from ._getaddrinfo import ThreadResolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._interfaces import Resolver


class _Chosen(ThreadLocal):
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
