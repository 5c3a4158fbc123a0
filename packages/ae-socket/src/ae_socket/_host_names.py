"""The one form in which a host's name is looked up, sent and verified.

Sans-I/O: imports nothing from ``ae_core``. ``idna`` is imported when the first name that is not
ASCII is converted.
"""

from __future__ import annotations

__all__ = ("host_to_ascii",)


from ._addresses import parse_ipv4, parse_ipv6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Theory of operation
# -------------------
# A program gives a host once, and several layers use it: the resolver, the Host field of HTTP,
# the server name of TLS, the comparison with a certificate. Where two of them translate a name
# differently, one host is asked and another one is verified: the older mapping of the standard
# library's codec (IDNA 2003) makes "fass" of "faß", which is another host's name. So every
# package of ours asks this function and no other, and what it gives is used as it is.
#
# What no host can be called is refused here and not handed on: a NUL ends a
# name for the system's resolver, a blank or CR ends a line of HTTP, "/", "@" and "%" have a
# meaning in URLs, "*" in certificates. That holds for what a mapping turns out to be as well:
# "℀" is mapped to "a/c", and "①.②.③.④" to an address.

_LABEL_OCTETS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"  # `string` imports `re`
)
_LONGEST_NAME: Final = 253
# Composing (NFC) makes a text up to four times shorter; what is longer still is no name.
_LONGEST_TEXT: Final = 4 * _LONGEST_NAME


def host_to_ascii(host: str, /) -> str:
    """Return *host* as it is to be looked up, sent in ``Host`` and SNI, and verified.

    - An IP address, in any form that :func:`parse_address` reads, comes back as it is, an IPv6
      address with its scope (``fe80::1%eth0``). Brackets around an IPv6 address, as URLs have
      them, are taken off.
    - A name in ASCII comes back as it is, in the case that was given. Labels consist of
      letters, digits, ``-`` and ``_``, in any order.
    - Any other name is mapped by UTS 46, non-transitional (``faß.test`` is ``xn--fa-hia.test``),
      label by label, so that one may have an underscore (``_dmarc.bücher.example``); this takes
      the ``idna`` package, the extra ``ae-socket[idna]``.
    - One final dot is kept: it makes a name complete, so that no search list applies to it. It is
      not part of the name that is sent in SNI and compared with certificates (RFC 6066 3):
      code that does that takes it off.

    Args:
        host: A name or an IP address; not ``"unix/"``.

    Returns:
        The name in ASCII, or the address.

    Raises:
        TypeError: If *host* is not a ``str``.
        ValueError: If it can be neither: an empty label, one of more than 63 bytes, more than
            253 bytes in all, a character that no host name has (NUL, blanks, control characters,
            ``/``, ``@``, ``%``, ``*`` ...), a last label of digits only (RFC 1123 2.1), a text that
            UTS 46 or IDNA 2008 refuses. Or if ``idna`` is needed and not installed: the text
            then names ``ae-socket[idna]``.

    Example:
        >>> host_to_ascii("www.bücher.example."), host_to_ascii("[::1]")
        ('www.xn--bcher-kva.example.', '::1')

    Perl: ``AnyEvent::Util::idn_to_ascii``, for hosts
    """
    if not isinstance(host, str):
        raise TypeError(f"expected a host as str, got {host!r}")
    literal = _literal(host)
    if literal is not None:
        return literal
    name = host if host.isascii() else _mapped(host)
    reason = _why_no_name(name)
    if reason is not None:
        shown = repr(host) if len(host) < 100 else f"{host[:80]!r}..."
        raise ValueError(f"expected the name or address of a host, got {shown}: {reason}")
    return name


def _literal(host: str) -> str | None:
    """Return *host* without brackets if it is an address, else ``None``."""
    if parse_ipv4(host) is not None:
        return host
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    address, percent, scope = host.partition("%")
    if ":" not in address or parse_ipv6(address) is None:
        return None
    if percent and not (scope.isascii() and scope.isprintable()):
        return None
    return None if percent and (not scope or set(scope) & set(" #%/:[]")) else host


def _why_no_name(name: str) -> str | None:
    """Say why the ASCII text *name* cannot be the name of a host; ``None`` if it can."""
    bare = name.removesuffix(".")
    if len(bare) > _LONGEST_NAME:
        return f"more than {_LONGEST_NAME} bytes"
    labels = bare.split(".")
    for label in labels:
        if not label:
            return "an empty label"
        if len(label) > 63:
            return "a label of more than 63 bytes"
        if not _LABEL_OCTETS.issuperset(label):
            strange = next(octet for octet in label if octet not in _LABEL_OCTETS)
            return f"{strange!r} is in no host name"
    # RFC 1123 2.1, WHATWG: what ends in a number is an address or a mistake.
    if labels[-1].isdigit() or parse_ipv4(bare) is not None:
        return "it ends in a number, and is no address"
    return None


def _mapped(host: str) -> str:
    """Return a name that is not ASCII as UTS 46 maps it, non-transitionally."""
    shown = repr(host) if len(host) < 100 else f"{host[:80]!r}..."
    if len(host) > _LONGEST_TEXT:
        raise ValueError(f"expected the name of a host, got {shown}: more than 253 bytes")
    try:
        import idna
    except ImportError:
        raise ValueError(
            f"a name that is not ASCII takes the idna package, which is not installed "
            f"(it is the extra ae-socket[idna]): {shown}"
        ) from None
    try:
        # Not idna.encode(): it refuses underscores, which are in names of services.
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
        return ".".join(
            label if label.isascii() else idna.alabel(label).decode("ascii")
            for label in mapped.split(".")
        )
    except UnicodeError as error:  # idna.IDNAError is one
        raise ValueError(f"expected the name of a host, got {shown}: {error}") from None
