"""A throw-away certification authority, for tests and demonstrations.

Certificates with any names, dates, purposes and faults, made in memory in a millisecond. Keys
are made here and never leave the process unless you write them. Never use it for anything real:
nothing protects the CA's key.
"""

from __future__ import annotations

__all__ = ("CertificateAuthority", "KeyType", "Leaf", "OcspStatus", "Purpose", "pump")

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ._verify import ip_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes as Key,
    )
    from cryptography.x509 import (
        Certificate,
        CertificateRevocationList,
        GeneralName,
        Name,
    )

    from ae_handle.abc import TlsSession

#: Kinds of key: curves P-256 and P-384, RSA of 2048 and (too weak) 1024 bits, Ed25519.
KeyType: TypeAlias = Literal["ec", "ec384", "rsa", "rsa1024", "ed25519"]
#: What a certificate is for: its extended key usage.
Purpose: TypeAlias = Literal["server", "client", "ocsp", "email", "any"]
#: What an OCSP response says of a certificate.
OcspStatus: TypeAlias = Literal["good", "revoked", "unknown"]

_DAY: Final = dt.timedelta(days=1)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with its key.

    Attributes:
        cert: The certificate, a ``cryptography`` object.
        key: Its private key.
        issuers: The CAs above it, without the root: what a server must send.
    """

    cert: Certificate
    key: Key
    issuers: tuple[Certificate, ...] = ()

    @property
    def chain(self) -> list[Certificate]:
        """The certificate and the CAs above it: what ``Context(cert=)`` takes."""
        return [self.cert, *self.issuers]

    @property
    def cert_pem(self) -> str:
        """The certificate and the CAs above it as PEM text."""
        return "".join(_cert_pem(certificate) for certificate in self.chain)

    @property
    def key_pem(self) -> str:
        """The key as PEM text, not encrypted."""
        return _key_pem(self.key)


class CertificateAuthority:
    """A CA that lives as long as the object.

    Args:
        name: Its common name.
        key_type: ``"ec"`` (P-256), ``"ec384"``, ``"rsa"``, ``"rsa1024"`` (weak) or ``"ed25519"``.
        not_before: Start of validity; None: yesterday.
        not_after: End of validity; None: in 30 days.
        path_length: How many CAs may stand between it and a leaf; None: any number.
        is_ca: ``False`` for a "CA" whose certificate says that it is none.
        parent: The CA that issues this one; None makes a root.
        constraints: Host names its leaves must lie below (name constraints).
        weak_hash: Sign this CA's certificate with SHA-1 (RSA parents only).

    Attributes:
        cert: Its certificate, a ``cryptography`` object.
        key: Its private key.

    Example:
        >>> ca = CertificateAuthority()
        >>> leaf = ca.issue("www.example.org", "127.0.0.1")
        >>> import ae_tls
        >>> server = ae_tls.Context(cert=leaf.chain, key=leaf.key)
        >>> client = ae_tls.Context(ca_cert=ca.cert)
        >>> a = client.new_session("connect", "www.example.org")
        >>> b = server.new_session("accept", None)
        >>> pump(a, b)
        >>> a.state, b.state
        ('established', 'established')
    """

    def __init__(
        self,
        name: str = "throw-away CA",
        *,
        key_type: KeyType = "ec",
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        path_length: int | None = None,
        is_ca: bool = True,
        parent: CertificateAuthority | None = None,
        constraints: Iterable[str] = (),
        weak_hash: bool = False,
    ) -> None:
        from cryptography import x509

        self.key = _make_key(key_type)
        self._parent = parent
        self._subject = _common_name(name)
        extensions: list[tuple[Any, bool]] = [
            (x509.BasicConstraints(is_ca, path_length if is_ca else None), True),
            (_key_usage(certificates=is_ca), True),
        ]
        below = [x509.DNSName(host) for host in constraints]
        if below:
            extensions.append((x509.NameConstraints(below, None), True))
        if parent is not None:
            extensions.append(parent._authority_key())
        self.cert = _certificate(
            self._subject,
            self.key,
            self._subject if parent is None else parent._subject,
            self.key if parent is None else parent.key,
            not_before,
            not_after,
            extensions,
            weak_hash,
        )

    @property
    def pem(self) -> str:
        """The CA's certificate as PEM text: what ``Context(ca_cert=)`` takes."""
        return _cert_pem(self.cert)

    @property
    def issuers(self) -> tuple[Certificate, ...]:
        """This CA and those above it, without the root."""
        return () if self._parent is None else (self.cert, *self._parent.issuers)

    def intermediate(self, name: str = "intermediate CA", **options: Any) -> CertificateAuthority:
        """Make a CA below this one; *options* are those of the class."""
        return CertificateAuthority(name, parent=self, **options)

    def issue(
        self,
        *names: str | GeneralName,
        common_name: str | None = None,
        key_type: KeyType = "ec",
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        purposes: Iterable[Purpose] = ("server", "client"),
        weak_hash: bool = False,
        critical_unknown: bool = False,
    ) -> Leaf:
        """Issue a certificate.

        Args:
            names: Host names, wildcards or IP addresses for the subjectAltName, as texts; or
                ``cryptography`` general names. None at all: no such extension.
            common_name: The subject's common name; None leaves the subject empty if there
                are *names*.
            purposes: What it may be used for (extended key usage); empty: no such extension.
            weak_hash: Sign it with SHA-1, which only an RSA CA can.
            critical_unknown: Add a critical extension that no program understands.
        """
        from cryptography import x509

        key = _make_key(key_type)
        extensions: list[tuple[Any, bool]] = [(x509.BasicConstraints(False, None), True)]
        present = [_general_name(name) for name in names]
        if present:
            extensions.append((x509.SubjectAlternativeName(present), common_name is None))
        usages = [_purpose(purpose) for purpose in purposes]
        if usages:
            extensions.append((x509.ExtendedKeyUsage(usages), False))
        if critical_unknown:
            oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
            extensions.append((x509.UnrecognizedExtension(oid, b"\x05\x00"), True))
        certificate = _certificate(
            _common_name(common_name),
            key,
            self._subject,
            self.key,
            not_before,
            not_after,
            [*extensions, self._authority_key()],
            weak_hash,
        )
        return Leaf(certificate, key, self.issuers)

    def crl(
        self,
        *revoked: Leaf | CertificateAuthority,
        last_update: dt.datetime | None = None,
        next_update: dt.datetime | None = None,
    ) -> CertificateRevocationList:
        """Sign a list of revoked certificates; None: valid from yesterday until in 30 days."""
        from cryptography import x509

        start = last_update or _now() - _DAY
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(start)
            .next_update(next_update or _now() + 30 * _DAY)
            .add_extension(self._authority_key()[0], critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for entry in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(entry.cert.serial_number)
                .revocation_date(start)
                .build()
            )
        return builder.sign(self.key, _hash_for(self.key))

    def ocsp_response(
        self,
        leaf: Leaf,
        status: OcspStatus = "good",
        *,
        this_update: dt.datetime | None = None,
        next_update: dt.datetime | None = None,
        responder: Leaf | None = None,
    ) -> bytes:
        """Sign what an OCSP responder would answer about *leaf* (DER), for stapling.

        Args:
            status: The answer.
            this_update: None: an hour ago.
            next_update: None: in a day.
            responder: Sign with this certificate instead of the CA's own.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509 import ocsp

        signer = responder or Leaf(self.cert, self.key)
        revoked = status == "revoked"
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=leaf.cert,
            issuer=self.cert,
            algorithm=hashes.SHA256(),
            cert_status=getattr(ocsp.OCSPCertStatus, status.upper()),
            this_update=this_update or _now() - _DAY / 24,
            next_update=next_update or _now() + _DAY,
            revocation_time=_now() - _DAY if revoked else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.cert)
        if responder is not None:
            builder = builder.certificates([responder.cert])
        from cryptography.hazmat.primitives.serialization import Encoding

        return builder.sign(signer.key, _hash_for(signer.key)).public_bytes(Encoding.DER)

    def _authority_key(self) -> tuple[Any, bool]:
        from cryptography import x509

        public = cast("Any", self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False


def pump(a: TlsSession, b: TlsSession, *, limit: int = 100) -> None:
    """Carry ciphertext between two sessions until neither has anything to send.

    No plaintext is read. What ``feed`` raises is raised here, after everything that both
    sides had to send was carried.

    Args:
        limit: How many rounds at most; more mean that the two talk for ever.
    """
    first: BaseException | None = None
    for _ in range(limit):
        moved = False
        for source, target in ((a, b), (b, a)):
            data = source.drain()
            if data:
                moved = True
                try:
                    target.feed(data)
                except Exception as error:
                    first = first or error
        if not moved:
            if first is None:
                return
            try:
                raise first
            finally:
                del first  # its traceback knows this frame: a cycle that would keep both sessions
    raise RuntimeError(f"two sessions still talk after {limit} rounds")


def _make_key(key_type: KeyType) -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if key_type == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ec384":
        return ec.generate_private_key(ec.SECP384R1())
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if key_type == "rsa1024":
        return rsa.generate_private_key(public_exponent=65537, key_size=1024)
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    raise ValueError(f"expected ec, ec384, rsa, rsa1024 or ed25519, got {key_type!r}")


def _hash_for(key: Key) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _common_name(name: str | None) -> Name:
    from cryptography import x509

    if name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _general_name(name: str | GeneralName) -> GeneralName:
    from cryptography import x509

    if not isinstance(name, str):
        return name
    address = ip_of(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _purpose(purpose: Purpose) -> Any:
    from cryptography.x509.oid import ExtendedKeyUsageOID as Oid

    known = {
        "server": Oid.SERVER_AUTH,
        "client": Oid.CLIENT_AUTH,
        "ocsp": Oid.OCSP_SIGNING,
        "email": Oid.EMAIL_PROTECTION,
        "any": Oid.ANY_EXTENDED_KEY_USAGE,
    }
    if purpose not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {purpose!r}")
    return known[purpose]


def _key_usage(*, certificates: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate(
    subject: Name,
    key: Key,
    issuer: Name,
    issuer_key: Key,
    not_before: dt.datetime | None,
    not_after: dt.datetime | None,
    extensions: Sequence[tuple[Any, bool]],
    weak_hash: bool,
) -> Certificate:
    from cryptography import x509

    public = cast("Any", key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or _now() - _DAY)
        .not_valid_after(not_after or _now() + 30 * _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(issuer_key, _hash_for(issuer_key))
    return _resigned_with_sha1(certificate, issuer_key) if weak_hash else certificate


def _resigned_with_sha1(certificate: Certificate, issuer_key: Key) -> Certificate:
    """Replace the SHA-256 signature: ``cryptography`` does not make SHA-1 ones any more.

    The two algorithm identifiers differ in one byte, and the signatures have one length.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import Encoding

    if not isinstance(issuer_key, rsa.RSAPrivateKey):
        raise ValueError("weak_hash needs an issuer with an RSA key")
    with_sha256 = bytes.fromhex("06092a864886f70d01010b")
    with_sha1 = bytes.fromhex("06092a864886f70d010105")
    old = certificate.tbs_certificate_bytes
    new = old.replace(with_sha256, with_sha1, 1)
    der = certificate.public_bytes(Encoding.DER).replace(old, new, 1)
    head, identifier, _ = der.rpartition(with_sha256)
    tail = der[len(head) + len(identifier) : len(der) - len(certificate.signature)]
    signature = issuer_key.sign(new, padding.PKCS1v15(), hashes.SHA1())
    assert identifier
    return x509.load_der_x509_certificate(head + with_sha1 + tail + signature)


def _cert_pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def _key_pem(key: Key) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


for _public in (CertificateAuthority, Leaf, pump):
    _public.__module__ = "ae_tls.testing"
