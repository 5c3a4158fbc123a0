"""Certificates, keys and CA sources: what ``Context`` was given, read, parsed and checked.

No TLS and no OpenSSL here: files and PEM text in, ``cryptography`` objects out. Every
complaint names the option, the file and what was expected.
"""

from __future__ import annotations

__all__ = ("CaSource", "Identity", "ca_objects", "identity", "system_ca")

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate, CertificateRevocationList

Path: TypeAlias = "str | os.PathLike[str]"
Password: TypeAlias = "str | bytes | Callable[[], str | bytes]"

_BEGIN: Final = b"-----BEGIN "
_CERTIFICATE: Final = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")

# Where distributions keep their CA store, the directory of hashed links first: OpenSSL looks
# certificates up there one by one, which saves the 5 ms that the whole bundle takes to parse.
_CA_DIRECTORIES: Final = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/openssl/certs")
_CA_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)


class Identity:
    """Our own certificate, its key, and the intermediate CAs to send with it."""

    __slots__ = ("certificate", "chain", "key")

    def __init__(
        self, certificate: Certificate, key: PrivateKeyTypes, chain: tuple[Certificate, ...]
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.chain = chain


class CaSource:
    """Where trust anchors come from; empty means that no certificate would be trusted."""

    __slots__ = ("certificates", "crls", "directories", "files")

    def __init__(self) -> None:
        self.files: list[str] = []
        self.directories: list[str] = []
        self.certificates: list[Certificate] = []
        self.crls: list[CertificateRevocationList] = []

    def __bool__(self) -> bool:
        return bool(self.files or self.directories or self.certificates)


def identity(
    cert_file: Path | None,
    key_file: Path | None,
    cert: object,
    key: object,
    password: Password | None,
) -> Identity | None:
    """Load the certificate and key a context was given, from whichever of the four options.

    Raises:
        ValueError: If both of a pair are given, if a key comes without a certificate, or if
            what a file or text holds is not what the option wants. The message names it.
        TypeError: If an option has an impossible type.
        OSError: If a file cannot be read.
    """
    if cert_file is not None and cert is not None:
        raise ValueError("specifying both cert_file and cert is not allowed")
    if key_file is not None and key is not None:
        raise ValueError("specifying both key_file and key is not allowed")
    if cert_file is None and cert is None:
        if key_file is not None or key is not None:
            raise ValueError("a key needs its certificate: expected cert_file or cert with it")
        return None

    text: bytes | None = None
    if cert_file is not None:
        origin = f"cert_file {os.fspath(cert_file)!r}"
        text = _read(cert_file)
        certificates = _certificates(text, origin)
    else:
        origin = "cert"
        if isinstance(cert, (str, bytes)):
            text = _encode(cert)
        certificates = _certificates(cert, origin)

    if key_file is not None:
        key_origin = f"key_file {os.fspath(key_file)!r}"
        private = _private_key(_read(key_file), key_origin, password)
    elif key is not None:
        key_origin = "key"
        private = _private_key(key, key_origin, password)
    elif text is not None:
        key_origin = origin  # the key may stand in the file of the certificate
        private = _private_key(text, key_origin, password)
    else:
        raise ValueError("cert needs its key: expected key or key_file with it")

    if _public_bytes(private.public_key()) != _public_bytes(certificates[0].public_key()):
        raise ValueError(f"{key_origin}: the key does not belong to the certificate in {origin}")
    return Identity(certificates[0], private, tuple(certificates[1:]))


def ca_objects(value: object) -> tuple[list[Certificate], list[CertificateRevocationList]]:
    """Parse a ``ca_cert`` option: PEM text, ``cryptography`` objects, or an iterable of either.

    Raises:
        ValueError: If a text holds neither a certificate nor a CRL.
        TypeError: If an item has an impossible type.
    """
    from cryptography import x509

    certificates: list[Certificate] = []
    crls: list[CertificateRevocationList] = []
    items: Iterable[object]
    if isinstance(value, (str, bytes, x509.Certificate, x509.CertificateRevocationList)):
        items = (value,)
    elif isinstance(value, Iterable):
        items = value
    else:
        items = (value,)
    for item in items:
        if isinstance(item, x509.Certificate):
            certificates.append(item)
        elif isinstance(item, x509.CertificateRevocationList):
            crls.append(item)
        elif isinstance(item, (str, bytes)):
            found = _parse_ca(_encode(item))
            if not any(found):
                raise ValueError("ca_cert: expected PEM text with a certificate or a CRL")
            certificates += found[0]
            crls += found[1]
        else:
            raise TypeError(
                f"ca_cert: expected PEM text or cryptography objects, got {type(item).__name__}"
            )
    return certificates, crls


def system_ca(environ: dict[str, str] | os._Environ[str] = os.environ) -> CaSource:
    """Find the trust anchors of this machine.

    Order: ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, which replace everything else; the store of
    the operating system; the ``certifi`` package. Nothing is loaded here but on Windows.

    Returns:
        The source; it is empty if there is none, and then no certificate can be trusted.
    """
    source = CaSource()
    if not sys.flags.ignore_environment:
        named_file = environ.get("SSL_CERT_FILE")
        named_directory = environ.get("SSL_CERT_DIR")
        if named_file or named_directory:
            if named_file and os.path.isfile(named_file) and os.path.getsize(named_file):
                source.files.append(named_file)
            for directory in (named_directory or "").split(os.pathsep):
                if directory and _has_hashed(directory):
                    source.directories.append(directory)
            return source
    if sys.platform == "win32":
        return _windows_ca(source)
    for directory in _CA_DIRECTORIES:
        if _has_hashed(directory):
            source.directories.append(directory)
            return source
    for bundle in _CA_BUNDLES:
        if os.path.isfile(bundle) and os.path.getsize(bundle):
            source.files.append(bundle)
            return source
    return _certifi(source)


def _certifi(source: CaSource) -> CaSource:
    try:
        import certifi
    except ImportError:
        return source
    source.files.append(certifi.where())
    return source


def _windows_ca(source: CaSource) -> CaSource:
    """Copy the ROOT store: pyOpenSSL does not read it (pyca/pyopenssl#1425)."""
    import ssl

    from cryptography import x509

    enumerate_store = cast("Callable[[str], Any]", vars(ssl)["enum_certificates"])
    for der, encoding, trust in enumerate_store("ROOT"):
        if encoding == "x509_asn" and (trust is True or "1.3.6.1.5.5.7.3.1" in trust):
            try:
                source.certificates.append(x509.load_der_x509_certificate(der))
            except ValueError:
                continue  # one certificate the parser refuses is one CA not trusted
    return source if source else _certifi(source)


def _has_hashed(directory: str) -> bool:
    try:
        return any(_is_hashed(name) for name in os.listdir(directory))
    except OSError:
        return False


def _is_hashed(name: str) -> bool:
    """Whether ``openssl rehash`` gave the name: eight hexadecimal digits, and a number."""
    stem, dot, number = name.partition(".")
    return dot == "." and number.isdigit() and len(stem) == 8 and not stem.strip("0123456789abcdef")


def _blocks(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the label and the whole of each PEM block of *text* (RFC 7468 2)."""
    at = text.find(_BEGIN)
    while at >= 0:
        label, dashes, _ = text[at + len(_BEGIN) : at + 100].partition(b"-----")
        end = text.find(b"-----END " + label + b"-----", at)
        if not dashes or end < 0:
            return
        stop = end + len(b"-----END -----") + len(label)
        yield label, text[at:stop]
        at = text.find(_BEGIN, stop)


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _encode(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text


def _parse_ca(
    text: bytes,
) -> tuple[list[Certificate], list[CertificateRevocationList]]:
    from cryptography import x509

    certificates = []
    crls = []
    for label, block in _blocks(text):
        if label in _CERTIFICATE:
            certificates.append(x509.load_pem_x509_certificate(block))
        elif label == b"X509 CRL":
            crls.append(x509.load_pem_x509_crl(block))
    return certificates, crls


def _certificates(value: object, origin: str) -> list[Certificate]:
    from cryptography import x509

    if isinstance(value, x509.Certificate):
        return [value]
    if isinstance(value, (str, bytes)):
        blocks = [block for label, block in _blocks(_encode(value)) if label in _CERTIFICATE]
        if not blocks:
            raise ValueError(f"{origin}: no certificate in it, expected PEM text")
        try:
            return [x509.load_pem_x509_certificate(block) for block in blocks]
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from error
    if isinstance(value, Sequence) and value:
        items = [item for item in value if isinstance(item, x509.Certificate)]
        if len(items) == len(value):
            return items
    raise TypeError(
        f"{origin}: expected PEM text or cryptography certificates, got {type(value).__name__}"
    )


def _private_key(value: object, origin: str, password: Password | None) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if not isinstance(value, (str, bytes)):
        if hasattr(value, "private_bytes") and hasattr(value, "public_key"):
            return cast("PrivateKeyTypes", value)
        raise TypeError(
            f"{origin}: expected PEM text or a cryptography key, got {type(value).__name__}"
        )
    text = _encode(value)
    block = next((b for label, b in _blocks(text) if label.endswith(b"PRIVATE KEY")), None)
    if block is None:
        raise ValueError(f"{origin}: no private key in it, expected PEM text")
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in block or b"Proc-Type: 4,ENCRYPTED" in block
    secret: bytes | None = None
    if encrypted:
        if password is None:
            raise ValueError(f"{origin}: the key is encrypted, expected cert_password")
        answer = password() if callable(password) else password
        if not isinstance(answer, (str, bytes)):
            raise TypeError(f"cert_password must give str or bytes, got {type(answer).__name__}")
        secret = _encode(answer)
    try:
        return serialization.load_pem_private_key(block, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = "wrong cert_password, or damaged: " if encrypted else ""
        raise ValueError(f"{origin}: {hint}{error}") from error


def _public_bytes(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return cast(
        "bytes",
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
