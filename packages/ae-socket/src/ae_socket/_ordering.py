"""The order in which a host's addresses are tried: RFC 6724, section 6.

The rules are sans-I/O (:func:`destination_key`); :func:`order_addresses` asks the kernel, with
datagram sockets that send nothing, which source address it would use.
"""

from __future__ import annotations

__all__ = ("destination_key", "order_addresses")

import socket

from ._addresses import parse_address, parse_ipv6
from ._sockaddr import AddressInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

# Theory of operation
# -------------------
# The RFC states pair-wise rules, "prefer A to B if ...". Each of those that can be known
# here depends on a destination and on its own source only, so a sort key does the same:
#
#   1 avoid unusable destinations     no source: last
#   2 prefer matching scope           scope(D) == scope(S)
#   5 prefer matching label           label(D) == label(S)
#   6 prefer higher precedence
#   8 prefer smaller scope
#   9 use longest matching prefix     IPv6 only: for IPv4 it defeats round robin, and
#                                     means nothing where prefixes are not hierarchical
#  10 otherwise, leave the order      the sort is stable
#
# Rules 3, 4 and 7 (deprecated, home and tunnelled addresses) need what no portable call
# tells. IPv4 addresses take part as v4-mapped ones.

# RFC 6724 2.1: prefix, its length in bits, precedence, label.
_POLICY: Final = tuple(
    sorted(
        (
            (parse_ipv6(prefix) or b"", bits, precedence, label)
            for prefix, bits, precedence, label in (
                ("::1", 128, 50, 0),
                ("::", 0, 40, 1),
                ("::ffff:0:0", 96, 35, 4),
                ("2002::", 16, 30, 2),
                ("2001::", 32, 5, 5),
                ("fc00::", 7, 3, 13),
                ("::", 96, 1, 3),
                ("fec0::", 10, 1, 11),
                ("3ffe::", 16, 1, 12),
            )
        ),
        key=lambda row: -row[1],
    )
)

_LINK_LOCAL: Final = 0x2
_SITE_LOCAL: Final = 0x5
_GLOBAL: Final = 0xE


def _common_bits(a: bytes, b: bytes) -> int:
    difference = int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
    return 8 * len(a) - difference.bit_length()


def _policy(address: bytes) -> tuple[int, int]:
    # The last row, ::/0, matches every address.
    return next(
        (precedence, label)
        for prefix, bits, precedence, label in _POLICY
        if _common_bits(prefix, address) >= bits
    )


def _scope(address: bytes) -> int:
    if address.startswith(bytes(10) + b"\xff\xff"):
        first, second = address[12], address[13]
        # RFC 6724 3.2: 127/8 and 169.254/16 are link-local, private addresses global.
        return _LINK_LOCAL if first == 127 or (first, second) == (169, 254) else _GLOBAL
    if address[0] == 0xFF:
        return address[1] & 0x0F
    if address == bytes(15) + b"\x01" or (address[0] == 0xFE and address[1] & 0xC0 == 0x80):
        return _LINK_LOCAL
    if address[0] == 0xFE and address[1] & 0xC0 == 0xC0:
        return _SITE_LOCAL
    return _GLOBAL


def destination_key(destination: bytes, source: bytes | None) -> tuple[int, ...]:
    """Return the sort key of a destination; smaller is better.

    Args:
        destination: Sixteen bytes, IPv4 as v4-mapped.
        source: The address the kernel would send from; ``None`` if it cannot send there.
    """
    precedence, label = _policy(destination)
    scope = _scope(destination)
    if source is None:
        return (1, 1, 1, -precedence, scope, 0)
    prefix = 0
    if not destination.startswith(bytes(10) + b"\xff\xff"):
        # The last 64 bits name the interface: they say nothing about distance.
        prefix = min(_common_bits(destination, source), 64)
    return (
        0,
        int(scope != _scope(source)),
        int(label != _policy(source)[1]),
        -precedence,
        scope,
        -prefix,
    )


def order_addresses(infos: Iterable[AddressInfo]) -> list[AddressInfo]:
    """Sort addresses by RFC 6724: the ones most likely to work, and nearest, first.

    Addresses that are equally good keep their order. The kernel is asked which source it
    would use for each, which takes some ten microseconds and sends nothing.
    """
    infos = list(infos)
    for info in infos:
        if not isinstance(info, AddressInfo):
            raise TypeError(f"expected an AddressInfo, got {info!r}")
    if len(infos) < 2:
        return infos
    return sorted(infos, key=_key)


def _key(info: AddressInfo) -> tuple[int, ...]:
    if info.family not in (socket.AF_INET, socket.AF_INET6):
        return (0,)
    return destination_key(_sixteen(str(info.sockaddr[0])), _source(info))


def _source(info: AddressInfo) -> bytes | None:
    host, scope = info.sockaddr[0], info.sockaddr[2:]
    try:
        with socket.socket(info.family, socket.SOCK_DGRAM) as probe:
            # Any port but 0, which BSD refuses: nothing is sent.
            probe.connect((host, 53, *scope))
            return _sixteen(probe.getsockname()[0])
    except OSError:
        return None


def _sixteen(text: str) -> bytes:
    packed = parse_address(text.partition("%")[0]) or bytes(16)
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed
