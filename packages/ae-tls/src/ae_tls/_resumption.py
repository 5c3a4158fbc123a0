"""Resumption: what was proved about a peer, whether it still holds, and where it is kept.

Sans-I/O: no file here makes or feeds a connection. The only place that says whether an earlier
session may take the place of a full handshake.
"""

from __future__ import annotations

__all__ = ("Proof", "ProofStore", "SessionStore")

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate
    from OpenSSL import SSL
    from OpenSSL.crypto import X509Store

# Theory of operation
# -------------------
# An abbreviated handshake shows no certificate: it carries a verdict over from an earlier one.
# That is right only if the same would be decided again, now, for this connection. Most of what
# decides is fixed with a Context, and no session leaves the Context it was made in: a client's
# sessions lie in a store of its own, a server's are sealed with keys that only its own OpenSSL
# context has, and the name the client asks for chooses that context before the session is looked
# at. What can change under one Context is judged again each time: the dates of the whole chain,
# CRLs, the stapled response, the name. If it does not hold any more, a client does not offer the
# session, a server does not take it, and a full handshake says what is true.
#
# A session of TLS 1.2 may be resumed again and again. Each ticket of TLS 1.3 is used once
# (RFC 8446 C.4: used twice it lets an observer link the two connections), and each resumed
# connection brings a new one; a server sends two on a full handshake, so that two
# connections at the same time can both be resumed. Hence: a queue of a few tickets for each
# name, or one session; the names least recently used are forgotten.
#
# OpenSSL spoils the newest session of a connection that fails, and of one that goes away without
# close_notify. The first is a demand (RFC 5246 7.2.2), and the store forgets the name; the
# second is none since TLS 1.1, and a Session that is dropped says that nothing is left to send.

_NAMES: Final = 256
_TICKETS: Final = 4
_CLIENTS: Final = 1024
# However often it is resumed: RFC 5246 F.1.4 proposes a day, RFC 8446 4.6.1 wants some limit.
_LIFETIME: Final = 86_400.0


class Proof:
    """What a full handshake proved about the peer.

    Attributes:
        chain: The chain that was verified, the peer's own certificate first.
        staple: The OCSP response that came with it, or None.
    """

    __slots__ = ("_made", "chain", "staple")

    def __init__(self, chain: tuple[Certificate, ...]) -> None:
        self.chain = chain
        self.staple: bytes | None = None
        self._made = time.time()

    def holds(self, store: X509Store | None) -> bool:
        """Whether the chain would be accepted again now, by *store* or if None by its dates."""
        import datetime as dt

        now = time.time()
        if not 0.0 <= now - self._made <= _LIFETIME:
            return False
        if store is not None:
            return _verifies(store, self.chain)
        date = dt.datetime.fromtimestamp(now, dt.UTC)
        return all(c.not_valid_before_utc <= date <= c.not_valid_after_utc for c in self.chain)


def _verifies(store: X509Store, chain: tuple[Certificate, ...]) -> bool:
    from OpenSSL import crypto

    own, *issuers = map(crypto.X509.from_cryptography, chain)
    try:
        crypto.X509StoreContext(store, own, issuers).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


class SessionStore:
    """The sessions of one context's clients."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, list[tuple[SSL.Session, str, Proof | None]]]
        self._by_name = OrderedDict()

    def put(
        self, name: str, session: SSL.Session, version: str, proof: Proof | None = None
    ) -> None:
        """Remember *session* for the peer called *name*, and what is proved about that."""
        kept = self._by_name.setdefault(name, [])
        self._by_name.move_to_end(name)
        if version != "TLSv1.3" or (kept and kept[-1][1] != version):
            kept.clear()
        kept.append((session, version, proof))
        del kept[:-_TICKETS]
        if len(self._by_name) > _NAMES:
            self._by_name.popitem(last=False)

    def has(self, name: str, holds: Callable[[Proof | None], bool]) -> bool:
        """Whether there is a session for *name* whose proof still *holds*; others go."""
        kept = self._by_name.get(name, [])
        while kept:
            proof = kept[0][2]
            if holds(proof):
                return True
            kept[:] = [entry for entry in kept if entry[2] is not proof]
        self.forget(name)
        return False

    def take(
        self, name: str, holds: Callable[[Proof | None], bool]
    ) -> tuple[SSL.Session, Proof | None] | None:
        """Return a session to resume with the peer called *name* and its proof, or None."""
        if not self.has(name, holds):
            return None
        self._by_name.move_to_end(name)
        kept = self._by_name[name]
        session, version, proof = kept[0]
        if version == "TLSv1.3":
            del kept[0]
        return session, proof

    def forget(self, name: str) -> None:
        """Forget all sessions with *name*: a connection has failed, or none of them holds."""
        self._by_name.pop(name, None)


class ProofStore:
    """What one server knows of its clients' chains: a ticket holds the certificate alone."""

    __slots__ = ("_by_certificate",)

    def __init__(self) -> None:
        self._by_certificate: OrderedDict[Certificate, Proof] = OrderedDict()

    def put(self, proof: Proof) -> None:
        """Remember *proof*."""
        self._by_certificate[proof.chain[0]] = proof
        self._by_certificate.move_to_end(proof.chain[0])
        if len(self._by_certificate) > _CLIENTS:
            self._by_certificate.popitem(last=False)

    def get(self, certificate: Certificate) -> Proof | None:
        """Return what is known of the client with *certificate*."""
        return self._by_certificate.get(certificate)
