"""Texts of addresses to packed bytes and back, and ``host:port`` texts.

Sans-I/O: imports nothing from ``ae_core``, asks neither a resolver nor the kernel.
"""

from __future__ import annotations

__all__ = (
    "UNIX",
    "address_family",
    "format_address",
    "format_host_port",
    "format_ipv4",
    "format_ipv6",
    "parse_address",
    "parse_host_port",
    "parse_ipv4",
    "parse_ipv6",
    "parse_unix",
)

import socket
from functools import cache

from ._arguments import check_packed, check_service, check_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Final, TypeAlias

    _Patterns: TypeAlias = tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]

# Theory of operation
# -------------------
# `ipaddress` refuses what people type ("10.1", "0x7f.1") and `inet_aton` accepts
# what is never meant ("1.2.3.4 junk"), so the grammar is written out here. It is the
# grammar of inet_aton(3) without its looseness: one to four parts, decimal, octal
# (leading 0) or hexadecimal (leading 0x), the last one filling the bytes that are
# left over.
#
# An address is `bytes`: 4 bytes, 16 bytes, or the 2-byte token `UNIX`. A scope
# ("fe80::1%eth0") is no part of an address - it belongs to one host's interface
# table - so packed forms never carry it and the parsers refuse '%'. It lives in
# texts and in the socket module's 4-tuples.

#: The packed address of a UNIX socket, which has no bytes of its own: Perl's ``unix/`` as bytes.
UNIX: Final = b"\x01\x00"
"""Stands for "a UNIX domain socket" where a packed host is expected; its text is ``unix/``."""

_UNIX_TEXT: Final = "unix/"
_AF_UNIX: Final = 1

_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:a.b.c.d, RFC 4291 2.5.5.2
_TRANSLATED: Final = bytes(8) + b"\xff\xff\x00\x00"  # ::ffff:0:a.b.c.d, RFC 2765
_COMPATIBLE: Final = bytes(12)  # ::a.b.c.d, RFC 4291 2.5.5.1


def parse_ipv4(text: str, /) -> bytes | None:
    """Return the four bytes of an IPv4 address, or ``None`` if *text* is none.

    All shapes of inet_aton(3) are read: ``127.1`` is 127.0.0.1, ``0x7f000001`` and
    ``017700000001`` as well. Blanks and a trailing newline are refused.

    Example:
        >>> parse_ipv4("10.0x020304").hex()
        '0a020304'

    Perl: ``parse_ipv4 $text``
    """
    check_text("an address", text)
    packed = _plain_ipv4(text)
    if packed is not None:
        return packed
    parts = text.split(".")
    if len(parts) > 4:
        return None
    numbers = []
    for part in parts:
        number = _number(part)
        if number is None:
            return None
        numbers.append(number)
    last = numbers.pop()
    room = 4 - len(numbers)
    if last >= 256**room or any(number > 255 for number in numbers):
        return None
    return bytes(numbers) + last.to_bytes(room, "big")


def _plain_ipv4(text: str) -> bytes | None:
    """Pack four decimal numbers, the usual form, in 0.7 us instead of 4; anything else: None."""
    try:
        packed = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    # a system may take leading zeros here, but not as inet_aton(3) does
    return packed if socket.inet_ntop(socket.AF_INET, packed) == text else None


def _number(digits: str) -> int | None:
    """Read a number the way C does, but strictly: no sign, no blanks, no underscores."""
    # isdigit() alone takes every digit of Unicode; int() of a megabyte of them is quadratic.
    if not digits.isascii() or len(digits) > 40:
        return None
    try:
        if digits[:2] == "0x":
            return int(digits[2:], 16) if digits[2:].isalnum() and "x" not in digits[2:] else None
        if not digits.isdigit():
            return None
        return int(digits, 8 if digits[0] == "0" else 10)
    except ValueError:
        return None


def parse_ipv6(text: str, /) -> bytes | None:
    """Return the sixteen bytes of an IPv6 address, or ``None`` if *text* is none.

    The forms of RFC 4291 2.2, with an IPv4 tail in any shape :func:`parse_ipv4` reads; a
    plain IPv4 address gives the v4-mapped one. A scope (``%eth0``) gives ``None``.

    Example:
        >>> parse_ipv6("::1.2").hex()
        '00000000000000000000000001000002'

    Perl: ``parse_ipv6 $text``
    """
    check_text("an address", text)
    if ":" not in text:
        mapped = parse_ipv4(text)
        return None if mapped is None else _MAPPED + mapped

    before, gap, after = text.partition("::")
    if "::" in after or after.startswith(":") or before.endswith(":"):
        return None
    head = _groups(before, tail=not gap)
    rest = _groups(after, tail=True) if gap else b""
    if head is None or rest is None:
        return None
    missing = 16 - len(head) - len(rest)
    if gap:
        # "::" stands for one group at least (RFC 4291 2.2), so nothing with eight others.
        return head + bytes(missing) + rest if missing >= 2 else None
    return head if missing == 0 else None


def _groups(text: str, *, tail: bool) -> bytes | None:
    """Pack colon-separated groups; *tail* allows an IPv4 address as the last."""
    packed = b""
    if not text:
        return packed
    groups = text.split(":")
    if len(groups) > 8:
        return None
    for index, group in enumerate(groups):
        number = _hexadecimal(group)
        if number is not None:
            packed += number.to_bytes(2, "big")
        elif tail and index == len(groups) - 1 and "." in group:
            ipv4 = parse_ipv4(group)
            if ipv4 is None:
                return None
            packed += ipv4
        else:
            return None
    return packed


def _hexadecimal(digits: str) -> int | None:
    if not (1 <= len(digits) <= 4 and digits.isascii() and digits.isalnum()):
        return None
    try:
        return int(digits, 16) if digits[1:2] not in ("x", "X") else None
    except ValueError:
        return None


def parse_unix(text: str, /) -> bytes | None:
    """Return the packed address of UNIX sockets if *text* is ``unix/``, else ``None``.

    Perl: ``parse_unix $text``
    """
    check_text("an address", text)
    return UNIX if text == _UNIX_TEXT else None


def parse_address(text: str, /) -> bytes | None:
    """Return the packed form of an IPv4, IPv6 or UNIX host text, or ``None``.

    A v4-mapped IPv6 address comes back as the four bytes it stands for. Names are not
    looked up: use :func:`resolve` for them.

    Example:
        >>> parse_address("::ffff:10.0.0.1").hex(), parse_address("unix/"), parse_address("x.org")
        ('0a000001', b'\\x01\\x00', None)

    Perl: ``parse_address $text`` (``aton``)
    """
    check_text("an address", text)
    if text == _UNIX_TEXT:
        return UNIX
    packed = parse_ipv6(text)
    if packed is not None and packed.startswith(_MAPPED):
        return packed[12:]
    return packed


def format_ipv4(packed: bytes, /) -> str:
    """Return the dotted quad of four bytes.

    Raises:
        ValueError: If *packed* is not four bytes long.
        TypeError: If it is not ``bytes``.

    Perl: ``format_ipv4 $packed``
    """
    check_packed(packed)
    if len(packed) != 4:
        raise ValueError(f"expected 4 bytes, got {packed!r}")
    return ".".join(map(str, packed))


def format_ipv6(packed: bytes, /) -> str:
    """Return the text of sixteen bytes: lower case, the longest run of zeros as ``::``.

    RFC 5952, with the mixed notation for v4-compatible, v4-mapped and v4-translated
    addresses.

    Raises:
        ValueError: If *packed* is not sixteen bytes long.
        TypeError: If it is not ``bytes``.

    Example:
        >>> format_ipv6(parse_ipv6("2001:db8:0:0:1:0:0:1"))
        '2001:db8::1:0:0:1'

    Perl: ``format_ipv6 $packed``
    """
    check_packed(packed)
    if len(packed) != 16:
        raise ValueError(f"expected 16 bytes, got {packed!r}")
    head = packed[:12]
    if head == _MAPPED:
        return "::ffff:" + format_ipv4(packed[12:])
    if head == _TRANSLATED:
        return "::ffff:0:" + format_ipv4(packed[12:])
    if head == _COMPATIBLE:
        number = int.from_bytes(packed[12:], "big")
        return ("::", "::1")[number] if number < 2 else "::" + format_ipv4(packed[12:])

    groups = [packed[i] << 8 | packed[i + 1] for i in range(0, 16, 2)]
    start, length = _longest_zeros(groups)
    if length < 2:
        return ":".join(f"{group:x}" for group in groups)
    left = ":".join(f"{group:x}" for group in groups[:start])
    right = ":".join(f"{group:x}" for group in groups[start + length :])
    return f"{left}::{right}"


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    """Find the longest run of zero groups, the left-most of equals: (start, length)."""
    best = (0, 0)
    start = 0
    for index, group in enumerate(groups):
        if group:
            start = index + 1
        elif index + 1 - start > best[1]:
            best = (start, index + 1 - start)
    return best


def format_address(packed: bytes, /) -> str | None:
    """Return the text of a packed host, or ``None`` if it has no known length.

    A v4-mapped IPv6 address is printed as the IPv4 address that it is, and that of
    UNIX sockets as ``unix/``.

    Raises:
        TypeError: If *packed* is not ``bytes``.

    Perl: ``format_address $packed`` (``ntoa``)
    """
    check_packed(packed)
    if len(packed) == 4:
        return format_ipv4(packed)
    if len(packed) == 16:
        return format_ipv4(packed[12:]) if packed.startswith(_MAPPED) else format_ipv6(packed)
    return _UNIX_TEXT if packed == UNIX else None


def address_family(packed: bytes, /) -> socket.AddressFamily | None:
    """Return the socket family of a packed host, or ``None`` if it is none.

    Raises:
        TypeError: If *packed* is not ``bytes``.

    Perl: ``address_family $packed``
    """
    check_packed(packed)
    if len(packed) == 4:
        return socket.AF_INET
    if len(packed) == 16:
        return socket.AF_INET6
    if packed == UNIX:
        return socket.AddressFamily(_AF_UNIX) if hasattr(socket, "AF_UNIX") else None
    return None


@cache
def _patterns() -> tuple[_Patterns, _Patterns, _Patterns]:
    """Compile the three ways to write a host, each with what may follow it.

    A way is the patterns of the host, of the port behind it and of the end without one. At first
    use: it takes more time than the import of this module.
    """
    import re

    port = re.compile(r"(?:\s+|:|#)([^:\s]+)\s*\Z")
    blanks = re.compile(r"[ \t]*\Z")
    return (
        # An IPv6 address needs no brackets, because it has two colons at least; a trailing
        # group belongs to it ("::1:80" is an address). The scope ends at a blank, '#', ']' or
        # colon: RFC 4007 leaves its form to the node, ours follows Linux.
        (
            re.compile(r"\s*([0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*(?:%[^\s:#\[\]/%]+)?)"),
            port,
            blanks,
        ),
        (re.compile(r"\[([^\[\]]+)\]"), port, blanks),
        # "host " may be a "host 80" whose end was lost, so no default is put there; and '#'
        # may be part of what is meant as a name.
        (
            re.compile(r"([^\[\]:\s#]+)"),
            re.compile(r"(?:\s+|:)([^:\s#]+)\s*\Z"),
            re.compile(r"\Z"),
        ),
    )


def parse_host_port(text: str, default: str | int | None = None, /) -> tuple[str, str] | None:
    """Split a text as people type it into host and service.

    Read are ``host:port``, ``[host]:port``, ``host port``, a bare IPv6 address (followed by a
    blank or ``#`` and the port, if any), ``unix/:/path`` and ``/path``. The service may be a
    number, a name, or ``name=number``; both parts come back as texts, unchanged.

    Args:
        text: What was typed.
        default: The service to use if *text* names none. An empty service ("host:") is
            an error all the same.

    Returns:
        ``(host, service)``, or ``None`` if *text* cannot be understood.

    Example:
        >>> parse_host_port("[fe80::1%eth0]:80"), parse_host_port("10.1", 443)
        (('fe80::1%eth0', '80'), ('10.1', '443'))

    Perl: ``parse_hostport $text, $default``
    """
    check_text("a text", text)
    if text.startswith("/"):
        return (_UNIX_TEXT, text) if "\0" not in text else None
    if "\n" in text or "\0" in text:
        return None
    ipv6, bracketed, name = _patterns()
    whole, behind, end = ipv6
    match = whole.match(text)
    if match is None or not _is_ipv6(match[1]):
        whole, behind, end = bracketed if text.startswith("[") else name
        match = whole.match(text)
        if match is None:
            return None
    host = match[1]
    if ":" in host and not _is_ipv6(host):
        return None  # a name has no colon
    port = behind.match(text, match.end())
    if port is not None:
        return host, port[1]
    service = "" if default is None else str(default)
    return (host, service) if service and end.match(text, match.end()) else None


def _is_ipv6(host: str) -> bool:
    address, percent, scope = host.partition("%")
    return (not percent or bool(scope)) and ":" in address and parse_ipv6(address) is not None


def format_host_port(host: str, port: str | int | None = "", /) -> str:
    """Join host and service into a text, which :func:`parse_host_port` reads back.

    A host with a colon is put into brackets, unless it has them already; an empty or
    missing port is left out. What is read back needs a service, and none with a blank, ``:`` or
    ``#`` in it, as the path of a UNIX socket may have: ``unix/:/a b`` is for messages only.

    Example:
        >>> format_host_port("::1", 80), format_host_port("unix/", "/run/x"), format_host_port("x")
        ('[::1]:80', 'unix/:/run/x', 'x')

    Perl: ``format_hostport $host, $port``
    """
    check_text("a host", host)
    if port is not None:
        check_service(port)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        host = f"[{host}]"
    return host if port is None or port == "" else f"{host}:{port}"
