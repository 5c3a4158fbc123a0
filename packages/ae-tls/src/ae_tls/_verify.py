"""The name of the peer: reference identifiers, and whether a certificate presents one of them.

Sans-I/O: certificates and names in, a verdict out; the chain itself is OpenSSL's work. RFC 9525
with service-identity's patterns: subjectAltName only, the common name is never looked at.
"""

from __future__ import annotations

__all__ = (
    "SCHEMES",
    "NameCheck",
    "VerifyInfo",
    "ascii_host",
    "certificate_name",
    "ip_of",
    "mismatch",
    "name_check",
    "subject_of",
    "why_not",
)

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from ae_core.console import printable
from ae_socket import host_to_ascii, parse_address

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from cryptography.x509 import Certificate
    from service_identity.hazmat import ServiceID

    from ae_handle.abc import TlsRole

# Theory of operation
# -------------------
# The peer's name, as the user gave it, becomes one or two *reference identifiers*: an IP
# address only ever matches an iPAddress entry; a host name matches dNSName, and with a
# scheme that has a registered service label also an SRV-ID (`_xmpp-client.example.org`).
# The certificate's entries become *patterns*. One match is enough.
#
# service-identity compares; this file decides what reaches the comparison, because three of
# its choices do not fit a client:
#   * it refuses a whole certificate for one malformed entry. Here a malformed entry matches
#     nothing and the others still count (a CA may well have issued "*.org, www.example.org").
#   * it strips white space from entries. Here that is a malformed entry: what was signed is
#     compared, never something tidied up.
#   * it refuses a wildcard for every A-label (xn--...). RFC 9525 6.3 and browsers do not:
#     what must not happen is a wildcard *inside* an A-label, and "*" is a whole label.

#: Upstream's scheme names, with the service label of their SRV-ID. Upstream's rules about
#: common names and wildcards inside a label are gone with RFC 6125; the rest became one rule.
SCHEMES: Final[dict[str, str | None]] = {
    "dns": None,
    "acap": None,
    "ftp": None,
    "http": None,
    "https": None,
    "imap": "imap",
    "imaps": "imaps",
    "ldap": "ldap",
    "ldaps": "ldaps",
    "nntp": None,
    "nntps": None,
    "pop3": "pop3",
    "pop3s": "pop3s",
    "smtp": None,
    "smtps": None,
    "xmpp": "xmpp-client",
    "xmpp-server": "xmpp-server",
    # Upstream also names the schemes by their documents.
    "rfc2595": None,
    "rfc2818": None,
    "rfc2830": "ldap",
    "rfc3207": None,
    "rfc3920": "xmpp-client",
    "rfc4217": None,
    "rfc4642": None,
}

NameCheck: TypeAlias = "Callable[[Certificate, str], object]"

# A whole-label wildcard over at least two labels, or plain labels: what a CA may sign. Where in
# a label the hyphens are is no matter (RFC 9525 6.3).
_LABEL: Final = r"[A-Za-z0-9_-]{1,63}"
_MAX_NAME: Final = 253


@cache  # compiled at the first name, not at import
def _presented() -> re.Pattern[str]:
    return re.compile(rf"(?:\*\.{_LABEL}\.)?{_LABEL}(?:\.{_LABEL})*\Z")


@cache
def _reference() -> re.Pattern[str]:
    return re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")


class VerifyInfo:
    """What ``verify_callback`` is asked about: one certificate of the peer's chain.

    Attributes:
        certificate: The certificate, as a ``cryptography`` object.
        depth: 0 for the peer's own, 1 for its issuer, and so on.
        ok: What OpenSSL and, at depth 0, the name check think of it.
        reason: The reason word if not ``ok``, else ``""``.
        message: The sentence that goes with ``reason``.
        role: ``"connect"`` or ``"accept"``: our own part in the connection.
        peer_name: The name the peer has to prove; None if it need not.
    """

    __slots__ = ("certificate", "depth", "message", "ok", "peer_name", "reason", "role")

    def __init__(
        self,
        certificate: Certificate,
        depth: int,
        ok: bool,
        reason: str,
        message: str,
        role: TlsRole,
        peer_name: str | None,
    ) -> None:
        self.certificate = certificate
        self.depth = depth
        self.ok = ok
        self.reason = reason
        self.message = message
        self.role: TlsRole = role
        self.peer_name = peer_name

    def __repr__(self) -> str:
        verdict = "ok" if self.ok else self.reason
        return f"<VerifyInfo depth={self.depth} {subject_of(self.certificate)!r} {verdict}>"


def ip_of(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address if *name* is one as certificates and people write them.

    A scope (``%eth0``) is not part of it, nor are brackets. Short forms (``127.1``) are for
    connecting only: here they are neither an address nor a name.

    Example:
        >>> str(ip_of("fe80::1%eth0"))
        'fe80::1'
        >>> ip_of("www.example.org") is None
        True
    """
    from ipaddress import ip_address

    try:
        return ip_address(host_to_ascii(name).partition("%")[0])
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def ascii_host(name: str) -> str | None:
    """Return *name* as the lower-case A-labels that DNS and SNI carry, or None if it is no name.

    :func:`ae_socket.host_to_ascii` decides what is a name. Its final dot is dropped: it makes a
    name absolute and is not part of it (RFC 6066 3).

    Example:
        >>> ascii_host("WWW.Example.Org.")
        'www.example.org'
        >>> ascii_host("unix/") is ascii_host("127.0.0.1") is None
        True
    """
    try:
        host = host_to_ascii(name)
    except ValueError:
        return None
    if parse_address(host.partition("%")[0]) is not None:
        return None
    return host.removesuffix(".").lower()


def why_not(name: str) -> str:
    """Return the reason why *name* is no host, to be appended to a sentence that says so."""
    try:
        host_to_ascii(name)
    except ValueError as error:
        return f" ({error})"
    return ""


def name_check(scheme: str | NameCheck | None) -> str | NameCheck | None:
    """Validate a ``verify_name`` argument: returns None for "no check".

    Raises:
        ValueError: If *scheme* is a word that names no scheme.
        TypeError: If it is neither a word nor callable.
    """
    if scheme is None or callable(scheme):
        return scheme
    if not isinstance(scheme, str):
        raise TypeError(f"verify_name must be a scheme name, a callable or None, got {scheme!r}")
    if scheme == "none":
        return None
    if scheme in SCHEMES or (scheme.startswith("_") and _reference().match(scheme[1:])):
        return scheme
    known = ", ".join(SCHEMES)
    raise ValueError(f"unknown verify_name {scheme!r}: expected none, {known}, or _SERVICE")


def mismatch(certificate: Certificate, peer_name: str, scheme: str) -> str | None:
    """Compare *certificate* with the name the peer has to prove.

    Args:
        certificate: The peer's own certificate.
        peer_name: A host name in any spelling, or an IP literal.
        scheme: A key of :data:`SCHEMES`, or ``_SERVICE`` for that SRV-ID beside the DNS-ID.

    Returns:
        None if it matches, else a sentence that says what was expected and what was found.

    Source: RFC 9525 6; RFC 4985 for SRV-IDs. Perl: ``AnyEvent::TLS::_verify_hostname``
    """
    from ipaddress import IPv4Address, IPv6Address

    from cryptography import x509
    from service_identity.hazmat import (
        DNS_ID,
        SRV_ID,
        DNSPattern,
        IPAddress_ID,
        IPAddressPattern,
        SRVPattern,
    )

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return f"it has no subjectAltName, expected {peer_name!r}"
    except ValueError as error:
        return f"its extensions cannot be read: {error}"

    address = ip_of(peer_name)
    if address is not None:
        wanted = IPAddress_ID(address)
        present = names.get_values_for_type(x509.IPAddress)
        for entry in present:  # a network, as name constraints have, names no host
            if not isinstance(entry, (IPv4Address, IPv6Address)):
                continue
            if wanted.verify(IPAddressPattern(entry)):
                return None
        return _sentence(peer_name, [str(entry) for entry in present])

    host = ascii_host(peer_name)
    if host is None:
        return f"{peer_name!r} is not a host name"
    found = names.get_values_for_type(x509.DNSName)
    reference: ServiceID = DNS_ID(host)
    plain = _plain_first_label(host)
    for name in found:
        if not _presented().match(name) or len(name) > _MAX_NAME:
            continue
        pattern = DNSPattern(name.lower().encode("ascii"))
        if reference.verify(pattern):
            return None
        if plain is not None and name.startswith("*.") and DNS_ID(plain).verify(pattern):
            return None

    service = scheme[1:] if scheme.startswith("_") else SCHEMES[scheme]
    if service is not None:
        reference = SRV_ID(f"_{service}.{host}")
        for text in _srv_names(names):
            head, dot, tail = text.partition(".")
            well_formed = dot and head.startswith("_") and _reference().match(tail)
            if well_formed and reference.verify(SRVPattern.from_bytes(text.encode("ascii"))):
                return None
            found.append(text)
    return _sentence(peer_name, found)


def _plain_first_label(host: str) -> str | None:
    """Return *host* with an A-label at its front replaced, so that a wildcard may match it."""
    if not host.startswith("xn--"):
        return None
    return f"a.{host.partition('.')[2]}" if "." in host else None


def _srv_names(names: object) -> list[str]:
    from cryptography import x509
    from cryptography.hazmat import asn1

    assert isinstance(names, x509.SubjectAlternativeName)
    texts = []
    for other in names.get_values_for_type(x509.OtherName):
        if other.type_id.dotted_string == "1.3.6.1.5.5.7.8.7":  # id-on-dnsSRV, RFC 4985 2
            try:
                texts.append(asn1.decode_der(asn1.IA5String, other.value).as_str())
            except ValueError:
                continue  # malformed, so it matches nothing; the other entries still count
    return texts


def _sentence(wanted: str, found: list[str]) -> str:
    shown = ", ".join(repr(name) for name in found[:8]) or "no such name"
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return f"it is not for {wanted!r} but for {shown}{more}"


def subject_of(certificate: Certificate) -> str:
    """Return the subject on one line, or the first alternative name if the subject is empty.

    Characters that are not printable are escapes.

    Perl: the subject half of ``AnyEvent::TLS::certname``
    """
    from cryptography import x509

    try:
        text = certificate.subject.rfc4514_string()
        if text:
            return printable(text)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return printable(str(next(iter(names)).value))
    except (ValueError, x509.ExtensionNotFound, StopIteration):
        return "no subject"


def certificate_name(certificate: Certificate, /) -> str:
    """Return the subject and the issuer of a certificate, on one line.

    Perl: ``AnyEvent::TLS::certname``
    """
    issuer = certificate.issuer.rfc4514_string() or "an empty name"
    return f"{subject_of(certificate)} (issued by {printable(issuer)})"
