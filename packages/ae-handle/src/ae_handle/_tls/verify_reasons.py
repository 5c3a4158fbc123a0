"""Why a certificate was refused: OpenSSL's codes as the words of ``TlsError.reason``.

One table for all engines, so that a program does not depend on which of them it uses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ("VERIFY_REASONS",)


# X509_V_ERR_* numbers are part of OpenSSL's ABI and never change.
VERIFY_REASONS: Final[dict[int, str]] = {
    **dict.fromkeys((9, 13), "not-yet-valid"),
    **dict.fromkeys((10, 14), "expired"),
    18: "self-signed",
    **dict.fromkeys(
        (2, 4, 6, 7, 19, 20, 21, 22, 24, 25, 27, 28, 32, 34, 37, 47, 48, 79), "untrusted"
    ),
    23: "revoked",
    **dict.fromkeys((26, 39), "wrong-purpose"),
    **dict.fromkeys((62, 64), "wrong-name"),
    **dict.fromkeys((66, 67, 68), "weak"),
    **dict.fromkeys((3, 5, 8, 11, 12, 15, 16, 33, 35, 36, 44), "revocation-unknown"),
}
"""The reason for each verification code (``X509_V_ERR_*``); any other code means ``untrusted``."""
