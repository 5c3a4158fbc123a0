"""A context's part as a server: which context serves a name, and may this session be resumed?

Makes connections of OpenSSL and looks at what they made of a ClientHello; moves no bytes.
"""

from __future__ import annotations

__all__ = ("Server",)

from typing import TYPE_CHECKING, Final

from ae_handle import TlsError

from ._resumption import Proof, ProofStore
from ._verification import Verification
from ._verify import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate
    from OpenSSL import SSL

    from ._native import Natives
    from ._verify import NameCheck, VerifyInfo

_TLS_1_3: Final = 0x0304
_BROKEN_OFF: Final = b"\x15\x03\x03\x00\x02\x02\x28"  # the alert handshake_failure


class Server:
    """What the sessions of one context's ``accept`` role need of it.

    Args:
        native: OpenSSL's contexts.
        check: A function that checks names.
        callback: The ``verify_callback``.
        find: Returns the server for the name a client asks for; None: this one.
    """

    __slots__ = ("_callback", "_check", "_clients", "_find", "_native")

    def __init__(
        self,
        native: Natives,
        check: str | NameCheck | None,
        callback: Callable[[VerifyInfo], object] | None,
        find: Callable[[str | None], Server | None] | None,
    ) -> None:
        self._native = native
        self._check = check if callable(check) else None
        self._callback = callback
        self._find = find
        self._clients = ProofStore()

    def begin(self, peer_name: str | None) -> tuple[SSL.Connection, Verification]:
        """Make a connection that waits for a ClientHello.

        Args:
            peer_name: What the client is called; ours to hand on.

        Raises:
            TlsError: There is no certificate to serve with.
        """
        native = self._native
        if native.identity is None and native.borrowed is None:
            raise TlsError(
                "a server needs a certificate: give the context cert_file or cert",
                reason="no-certificate",
            )
        if native.verifies("accept"):
            verification = Verification("accept", peer_name, True, self._check, self._callback)
        else:
            verification = Verification("accept", peer_name, False, None, None)
        return native.begin("accept", verification), verification

    def begin_again(
        self, conn: SSL.Connection, peer_name: str | None
    ) -> tuple[SSL.Connection, Verification]:
        """Make a connection that resumes nothing, instead of *conn*, which must not go on.

        It is of the same context of OpenSSL, to have the same trust store. It does not take
        tickets. A session that OpenSSL found by its identifier is gone as soon as the client
        seems to break off.
        """
        from OpenSSL import SSL

        conn.bio_write(_BROKEN_OFF)
        try:
            conn.do_handshake()
        except SSL.Error as error:
            del error  # the failure is what ends the session
        other, verification = self.begin(peer_name)
        other.set_options(SSL.OP_NO_TICKET)
        return other, verification

    def choose(self, name: str | None) -> Server:
        """Return the server for the name that a client asks for, by default this one.

        Raises:
            TlsError: The program's function failed, or gave a context that cannot serve.
        """
        if self._find is None:
            return self
        # The final dot is no part of a name (RFC 6066 3), and case does not count.
        wanted = None if name is None else name.lower().removesuffix(".")
        try:
            found = self._find(wanted)
        except TlsError:
            raise
        except Exception as cause:
            raise TlsError(f"server_names failed: {cause!r}") from cause
        if found is None:
            return self
        if found._native.identity is None and found._native.borrowed is None:
            raise TlsError("server_names gave a context without a certificate")
        return found

    def objection(self, conn: SSL.Connection, verification: Verification) -> TlsError | None:
        """Return why OpenSSL's answer to a ClientHello must not be sent; None if it may.

        It is called before that answer is sent, and again for a second ClientHello.
        """
        native = self._native
        found = conn.get_servername()
        asked = verification.server_name
        if (None if found is None else _text(found)) != asked:
            # Up to TLS 1.2 OpenSSL tells the name of the session that it is about to resume. A
            # context made by hand may not even note that.
            if conn.get_protocol_version() >= _TLS_1_3:
                return TlsError(
                    f"the client asked for {asked!r} first and for {found!r} then",
                    reason="protocol",
                )
            if native.borrowed is None and (asked or "").lower() != _text(found or b"").lower():
                return TlsError("the session was made with another name", reason="protocol")
        if verification.verifies and not verification.proved:
            certificate = conn.get_peer_certificate(as_cryptography=True)
            if certificate is not None:  # no client was asked yet: it is the session's
                return self._judge_again(certificate, verification)
        return None

    def remember(self, verification: Verification) -> None:
        """Note what a handshake has proved about a client, for when it comes back."""
        if (
            verification.proved
            and verification.proof is not None
            and self._native.resumes("accept")
        ):
            self._clients.put(verification.proof)

    def _judge_again(self, certificate: Certificate, verification: Verification) -> TlsError | None:
        proof = self._clients.get(certificate)
        if proof is not None:
            store = self._native.changing_store("accept")
        else:  # its ticket is older than our memory, or another process gave it
            proof = Proof((certificate,))
            store = self._native.get("accept").get_cert_store()
        if not proof.holds(store):
            return TlsError(
                f"{subject_of(certificate)} resumes a session, and its certificate is not "
                "accepted any more",
                reason="untrusted",
            )
        verification.proof = proof
        return verification.check_name(certificate)


def _text(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
