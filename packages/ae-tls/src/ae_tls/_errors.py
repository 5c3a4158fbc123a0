"""The reason words: what OpenSSL says, translated at one boundary into ``TlsError``.

Sans-I/O: tables and pure functions. No other file of this package reads an OpenSSL error text
or a verification code.
"""

from __future__ import annotations

__all__ = ("REASONS", "from_alert_text", "from_openssl", "from_verify_code")

from collections.abc import Sequence
from typing import Any, Final

from ae_handle import TlsError
from ae_handle.abc import VERIFY_REASONS

#: Every word a :class:`ae_handle.TlsError` of this package may carry, and what it means.
REASONS: Final = {
    "untrusted": "no chain from the certificate to a trusted CA, or a CA that may not issue it",
    "self-signed": "the certificate signs itself, and it is not in the trust store",
    "expired": "the certificate, or a CA of its chain, is past its notAfter",
    "not-yet-valid": "the certificate, or a CA of its chain, is before its notBefore",
    "wrong-name": "the certificate does not name the peer",
    "wrong-purpose": "the certificate may not be used for this side of TLS",
    "revoked": "a CRL or a stapled OCSP response says that the certificate is revoked",
    "revocation-unknown": "no usable CRL or OCSP response, though one was demanded",
    "weak": "a key, a hash or a parameter below the security level",
    "refused": "verify_callback, or a callable verify_name, said no",
    "no-certificate": "the peer had to send a certificate and sent none; or we have none to send",
    "no-name": "the peer is to be verified, but no name was given to compare with",
    "alert": "the peer broke the connection off with an alert; the text is its complaint",
    "protocol": "the peer does not speak TLS, or nothing both sides accept",
    "truncated": "the TCP stream ended without a close_notify",
    "closed": "data was written after shutdown",
}

# By X509_V_ERR_* number, as `ae_handle.abc.VERIFY_REASONS`: pyOpenSSL names only some of them
# (X509VerificationCodes stops before the security level ones).
_VERIFY_TEXTS: Final[dict[int, str]] = {
    2: "the issuer's certificate is not available",
    3: "there is no CRL of the issuer",
    4: "the certificate's signature cannot be decrypted",
    5: "the CRL's signature cannot be decrypted",
    6: "the issuer's public key cannot be decoded",
    7: "the certificate's signature is wrong",
    8: "the CRL's signature is wrong",
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    11: "the CRL is not valid yet",
    12: "the CRL has expired",
    13: "the certificate's notBefore is malformed",
    14: "the certificate's notAfter is malformed",
    15: "the CRL's lastUpdate is malformed",
    16: "the CRL's nextUpdate is malformed",
    18: "the certificate is self-signed",
    19: "the chain ends in a self-signed CA that is not trusted",
    20: "the issuer is not in the trust store",
    21: "the certificate's issuer was not sent and is not in the trust store",
    22: "the certificate chain is too long",
    23: "the certificate is revoked",
    24: "the issuer is not a CA",
    25: "the CA's path length constraint is exceeded",
    26: "the certificate is not meant for this purpose",
    27: "the trust store does not trust the CA for this purpose",
    28: "the trust store rejects the CA for this purpose",
    32: "the issuer's key may not sign certificates",
    33: "the CRL's issuer is not available",
    34: "the certificate has a critical extension that is not understood",
    35: "the issuer's key may not sign CRLs",
    36: "the CRL has a critical extension that is not understood",
    37: "the issuer is not a CA",
    39: "the key may not make digital signatures",
    44: "the CRL is for another scope",
    47: "a name is outside the CA's permitted name constraints",
    48: "a name is in the CA's excluded name constraints",
    62: "the certificate is for another host name",
    64: "the certificate is for another IP address",
    66: "the certificate's key is too weak",
    67: "a CA's key is too weak",
    68: "a signature in the chain uses a weak hash",
    79: "the issuer is not a CA",
}

_WEAK: Final = ("key too small", "md too weak", "dh key", "key too weak", "bad dh value")


def from_verify_code(code: int, depth: int, subject: str) -> TlsError:
    """Name the reason why the certificate at *depth* of the chain (0 = the peer's) was refused.

    Example:
        >>> error = from_verify_code(10, 0, "CN=www.example.org")
        >>> error.reason, str(error)
        ('expired', 'certificate verify failed: the certificate has expired (CN=www.example.org)')

    Perl: the ``X509_verify_cert_error_string`` part of ``on_starttls``'s message
    """
    reason = VERIFY_REASONS.get(code, "untrusted")
    text = _VERIFY_TEXTS.get(code, f"verification error {code}")
    where = subject if depth == 0 else f"{subject}, {depth} above the peer's"
    return TlsError(f"certificate verify failed: {text} ({where})", reason=reason)


def from_alert_text(text: str) -> str | None:
    """Return the peer's complaint if *text* reports a received alert.

    Example:
        >>> from_alert_text("tlsv1 alert unknown ca")
        'unknown ca'
    """
    _, alert, complaint = text.partition(" alert ")
    return complaint if alert else None


def from_openssl(queue: Sequence[Any]) -> TlsError:
    """Translate the error queue carried by an ``OpenSSL.SSL.Error``.

    Args:
        queue: ``error.args``: one list of (library, function, reason) texts, or (errno, text).
    """
    if queue and isinstance(queue[0], list) and queue[0]:
        # The first entry is the cause; what follows is how far it was passed up.
        text = str(queue[0][0][2]) or str(queue[0][0][0])
    elif len(queue) == 2 and isinstance(queue[1], str):
        text = queue[1]
    else:
        text = "protocol error"
    text = text.lower()
    complaint = from_alert_text(text)
    if complaint is not None:
        return TlsError(f"the peer refused: {complaint}", reason="alert")
    if "did not return a certificate" in text:
        return TlsError(text, reason="no-certificate")
    if text == "certificate verify failed":
        return TlsError(text, reason="untrusted")
    if any(weak in text for weak in _WEAK):
        return TlsError(text, reason="weak")
    if text.startswith("unexpected eof"):
        return TlsError(text, reason="truncated")
    return TlsError(text, reason="protocol")
