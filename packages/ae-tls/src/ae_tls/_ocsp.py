"""Stapled OCSP responses: what a server hands out, and a client's verdict.

Sans-I/O: no responder is asked; only what came inside the handshake is looked at.
"""

from __future__ import annotations

__all__ = ("client_callback", "judge", "server_callback")

import datetime as dt
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ae_handle import TlsError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from cryptography.x509.ocsp import OCSPResponse
    from OpenSSL import SSL

    from ._verification import Verification

# Clocks of responders and clients differ.
_SKEW: Final = dt.timedelta(minutes=5)
# A response without nextUpdate says "newer information is always available" (RFC 6960 2.4).
_MAX_AGE: Final = dt.timedelta(days=7)


def judge(
    staple: bytes, chain: Sequence[Certificate], *, required: bool, now: dt.datetime | None = None
) -> TlsError | None:
    """Give the verdict on a stapled response; None means that nothing speaks against it.

    Args:
        staple: The response (DER); empty: none came.
        chain: The verified chain, the peer's certificate first and its issuer behind it.
        required: Whether a missing response is a failure.
        now: The time to judge by; None: the present.

    Source: RFC 6960 3.2 and 4.2, RFC 8446 4.4.2.1
    """
    from cryptography.x509 import ocsp

    if not staple:
        return _unknown("the server stapled no OCSP response") if required else None
    try:
        response = ocsp.load_der_ocsp_response(staple)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            status = response.response_status.name.lower()
            return _unknown(f"the OCSP responder says {status}") if required else None
        if len(chain) < 2:
            return _unknown("the issuer is not known, so the OCSP response cannot be checked")
        return _judge_response(response, chain[0], chain[1], now or dt.datetime.now(dt.UTC))
    except ValueError as error:
        return _unknown(f"the OCSP response cannot be read: {error}")


def _judge_response(
    response: OCSPResponse, certificate: Certificate, issuer: Certificate, now: dt.datetime
) -> TlsError | None:
    from cryptography.x509 import ocsp

    if not _signed(response, issuer, now):
        return _unknown("the OCSP response is not signed by the issuer or for it")
    for single in response.responses:
        if single.serial_number != certificate.serial_number:
            continue
        if single.issuer_key_hash != _key_hash(issuer, single.hash_algorithm):
            continue
        if single.this_update_utc > now + _SKEW:
            return _unknown("the OCSP response is from the future")
        until = single.next_update_utc or single.this_update_utc + _MAX_AGE
        if until < now - _SKEW:
            return _unknown("the OCSP response has expired")
        if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
            return TlsError(
                "certificate verify failed: the OCSP response says that it is revoked",
                reason="revoked",
            )
        if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
            return None
        return _unknown("the OCSP responder does not know the certificate")
    return _unknown("the OCSP response is about another certificate")


def _signed(response: OCSPResponse, issuer: Certificate, now: dt.datetime) -> bool:
    """Check the signature: by the issuer, or by a responder the issuer certified for that."""
    if _verifies(response, issuer):
        return True
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    for candidate in response.certificates:
        try:
            candidate.verify_directly_issued_by(issuer)
            usage = candidate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (ValueError, TypeError, x509.ExtensionNotFound, _invalid_signature()):
            continue
        if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
            continue
        if not candidate.not_valid_before_utc <= now <= candidate.not_valid_after_utc:
            continue
        if _verifies(response, candidate):
            return True
    return False


def _verifies(response: OCSPResponse, signer: Certificate) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    key = signer.public_key()
    signature, signed = response.signature, response.tbs_response_bytes
    algorithm = response.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, signed)
        else:
            return False
    except _invalid_signature():
        return False
    return True


def _invalid_signature() -> type[Exception]:
    from cryptography.exceptions import InvalidSignature

    return InvalidSignature


def _key_hash(issuer: Certificate, algorithm: Any) -> bytes:
    """Hash the issuer's public key as RFC 6960 4.1.1 does: without its algorithm identifier."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    if isinstance(algorithm, hashes.SHA1):
        return x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest
    spki = issuer.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(algorithm)
    digest.update(_bit_string(spki))
    return digest.finalize()


def _bit_string(spki: bytes) -> bytes:
    """Return the contents of the BIT STRING that ends a SubjectPublicKeyInfo (RFC 5280 4.1)."""
    at = _header(spki, 0)[0]  # into the outer SEQUENCE
    start, length = _header(spki, at)  # over the AlgorithmIdentifier
    start, length = _header(spki, start + length)
    return spki[start + 1 : start + length]  # without the count of unused bits


def _header(der: bytes, at: int) -> tuple[int, int]:
    """Return where the contents of the DER element at *at* begin, and their length."""
    length = der[at + 1]
    if length < 0x80:
        return at + 2, length
    size = length & 0x7F
    return at + 2 + size, int.from_bytes(der[at + 2 : at + 2 + size], "big")


def client_callback(*, required: bool) -> Callable[[SSL.Connection, bytes, object], bool]:
    """Make OpenSSL's callback for the side that asked for a response."""

    def check(conn: SSL.Connection, staple: bytes, data: object) -> bool:
        verification: Verification = conn.get_app_data()
        if not verification.proved or verification.proof is None:
            return True  # resumed: the earlier response was judged before the session was offered
        verification.staple = verification.proof.staple = staple or None
        verification.error = judge(staple, verification.proof.chain, required=required)
        return verification.error is None

    return check


def server_callback(
    response: bytes | Callable[[], bytes],
) -> Callable[[SSL.Connection, object], bytes]:
    """Make OpenSSL's callback for the side that hands the response out."""

    def staple(conn: SSL.Connection, data: object) -> bytes:
        if isinstance(response, bytes):
            return response
        try:
            found = response()
        except Exception as cause:
            verification: Verification = conn.get_app_data()
            verification.error = TlsError(f"ocsp failed: {cause!r}")
            verification.error.__cause__ = cause
            return b""
        return found or b""

    return staple


def _unknown(text: str) -> TlsError:
    return TlsError(f"certificate verify failed: {text}", reason="revocation-unknown")
