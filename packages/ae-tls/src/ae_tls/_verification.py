"""What OpenSSL's callbacks know about one connection, and their verdict on its certificates.

Sans-I/O. The only place where the chain's verdict, the name and ``verify_callback`` meet.
"""

from __future__ import annotations

__all__ = ("Verification",)

from typing import TYPE_CHECKING

from ae_handle import TlsError

from ._errors import from_verify_code
from ._resumption import Proof
from ._verify import VerifyInfo, mismatch, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate
    from OpenSSL import SSL

    from ae_handle.abc import TlsRole

    from ._verify import NameCheck


class Verification:
    """What the callbacks of OpenSSL must know and note about one connection.

    The OpenSSL connection refers to it, so it must not refer to the session: that would be a cycle.

    Attributes:
        error: What a callback had against the connection.
        proof: What a full handshake proved about the peer: this one, or the one it resumes.
        proved: Whether it was this one.
        server_name: The name the client asks for (SNI).
    """

    __slots__ = (
        "_seen",
        "check",
        "error",
        "peer_name",
        "proof",
        "proved",
        "role",
        "server_name",
        "staple",
        "verifies",
        "verify_callback",
    )

    role: TlsRole
    check: str | NameCheck | None

    def __init__(
        self,
        role: TlsRole,
        peer_name: str | None,
        verifies: bool,
        check: str | NameCheck | None,
        verify_callback: Callable[[VerifyInfo], object] | None,
    ) -> None:
        self.role = role
        self.peer_name = peer_name
        self.verifies = verifies
        self.check = check
        self.verify_callback = verify_callback
        self.error: TlsError | None = None
        self.proved = False
        self.proof: Proof | None = None
        self.server_name: str | None = None
        self.staple: bytes | None = None
        self._seen: dict[int, Certificate] = {}

    def judge(self, certificate: Certificate, code: int, depth: int, ok: bool) -> bool:
        """Give the verdict on one certificate of the chain; a refusal is kept in ``error``."""
        error: TlsError | None = None
        if not ok:
            error = from_verify_code(code, depth, subject_of(certificate))
        elif depth == 0:
            error = self.check_name(certificate)
        if self.verify_callback is not None:
            error = self._last_word(certificate, depth, error)
        if error is not None:
            self.error = error
            return False
        self._seen[depth] = certificate
        if depth == 0:
            self.proved = True
            self.proof = Proof(tuple(self._seen[at] for at in sorted(self._seen)))
        return True

    def judge_end(self, conn: SSL.Connection) -> TlsError | None:
        """Return why a handshake that OpenSSL takes for done is refused; None if it is good.

        A server may have sent no certificate, because of a cipher without authentication; for
        clients OpenSSL checks that itself.
        """
        if self.role == "accept" or not self.verifies or self.proved:
            return None
        if self.proof is None or conn.get_peer_certificate() is None:
            return TlsError("the peer showed no certificate", reason="no-certificate")
        return None  # resumed, and what the session was made with was judged again

    def check_name(self, certificate: Certificate) -> TlsError | None:
        """Compare the peer's certificate with the name it has to prove, if it has to."""
        if self.check is None:
            return None
        if callable(self.check):
            try:
                if self.check(certificate, self.peer_name or ""):
                    return None
            except Exception as cause:
                return _refused(f"verify_name failed: {cause!r}", cause)
            return _refused(f"verify_name refused {subject_of(certificate)}")
        assert self.peer_name is not None
        found = mismatch(certificate, self.peer_name, self.check)
        if found is None:
            return None
        return TlsError(f"certificate verify failed: {found}", reason="wrong-name")

    def _last_word(
        self, certificate: Certificate, depth: int, error: TlsError | None
    ) -> TlsError | None:
        assert self.verify_callback is not None
        info = VerifyInfo(
            certificate=certificate,
            depth=depth,
            ok=error is None,
            reason="" if error is None else error.reason,
            message="" if error is None else str(error),
            role=self.role,
            peer_name=self.peer_name,
        )
        try:
            if self.verify_callback(info):
                return None
        except Exception as cause:
            return _refused(f"verify_callback failed: {cause!r}", cause)
        return error or _refused(f"verify_callback refused {subject_of(certificate)}")


def _refused(text: str, cause: BaseException | None = None) -> TlsError:
    error = TlsError(text, reason="refused")
    error.__cause__ = cause
    return error
