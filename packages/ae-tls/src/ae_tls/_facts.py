"""What OpenSSL's callbacks know about one connection, and their verdict on its certificates.

Sans-I/O. The only place where the chain's verdict, the name and ``verify_callback`` meet.
"""

from __future__ import annotations

__all__ = ("Facts",)

from typing import TYPE_CHECKING

from ae_handle import TlsError

from ._errors import from_verify_code
from ._verify import VerifyInfo, mismatch, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate

    from ae_handle.abc import TlsRole

    from ._verify import NameCheck


class Facts:
    """What the callbacks of OpenSSL must know and note about one connection.

    It hangs on the OpenSSL connection, so it must not know the session: no cycle is made.
    """

    __slots__ = (
        "check",
        "error",
        "peer_name",
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
        self.server_name: str | None = None
        self.staple: bytes | None = None

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
        if depth == 0:
            self.proved = True
        return True

    def judge_resumed(self, certificate: Certificate | None) -> TlsError | None:
        """Look again at the certificate of a resumed session, which OpenSSL verified long ago.

        Its dates and names are judged anew, and ``verify_callback`` has the last word again.
        """
        import datetime as dt

        if certificate is None:
            if self.role == "accept":
                return None  # a client that had none, and needed none
            return TlsError("the peer showed no certificate", reason="no-certificate")
        expired = certificate.not_valid_after_utc < dt.datetime.now(dt.UTC)
        code = 10 if expired else 0  # X509_V_ERR_CERT_HAS_EXPIRED
        return None if self.judge(certificate, code, 0, not expired) else self.error

    def check_name(self, certificate: Certificate) -> TlsError | None:
        """Compare the peer's certificate with the name it has to prove."""
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
