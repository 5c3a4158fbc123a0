"""What a client remembers of earlier connections, so that it can resume them.

Sans-I/O: a bounded map from the peer's name to sessions of OpenSSL.
"""

from __future__ import annotations

__all__ = ("SessionStore",)

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from OpenSSL import SSL

# Theory of operation
# -------------------
# A session of TLS 1.2 may be resumed again and again. Each ticket of TLS 1.3 is used once
# (RFC 8446 C.4: used twice it lets an observer link the two connections), and each resumed
# connection brings a new one; a server sends two on a full handshake, so that two
# connections at the same time can both be resumed. Hence: a queue of a few tickets for each
# name, or one session; the names least recently used are forgotten.
#
# OpenSSL spoils the newest session of a connection that goes away without having sent its
# close_notify. Tickets are therefore used oldest first, and a session that failed on the
# peer's account says beforehand that nothing is left to send (`Session._fail`).

_NAMES: Final = 256
_TICKETS: Final = 4


class SessionStore:
    """The sessions of one context's clients."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, list[tuple[SSL.Session, str]]] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return bool(self._by_name.get(name))

    def put(self, name: str, session: SSL.Session, version: str) -> None:
        """Remember *session* for the peer called *name*."""
        kept = self._by_name.setdefault(name, [])
        self._by_name.move_to_end(name)
        if version != "TLSv1.3" or (kept and kept[-1][1] != version):
            kept.clear()
        kept.append((session, version))
        del kept[:-_TICKETS]
        if len(self._by_name) > _NAMES:
            self._by_name.popitem(last=False)

    def take(self, name: str) -> SSL.Session | None:
        """Return a session to resume with the peer called *name*, or None."""
        kept = self._by_name.get(name)
        if not kept:
            return None
        self._by_name.move_to_end(name)
        session, version = kept[0]
        if version == "TLSv1.3":
            del kept[0]
            if not kept:
                del self._by_name[name]
        return session
