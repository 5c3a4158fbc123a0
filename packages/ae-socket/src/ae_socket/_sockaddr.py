"""Socket addresses as the ``socket`` module takes them, and as users read them.

No I/O but asking the system for names of interfaces; imports nothing from ``ae_core``.
"""

from __future__ import annotations

__all__ = (
    "AddressInfo",
    "checked_info",
    "numeric_info",
    "socket_type",
    "target_text",
    "unix_info",
)

import errno
import os
import socket
import sys

from ._addresses import UNIX, format_address, format_host_port, parse_address
from ._errors import ResolveFailed

TYPE_CHECKING = False  # typing itself costs more to import than all of ae_socket
if TYPE_CHECKING:
    from typing import Any, Final, Literal, NamedTuple, TypeAlias

    Sockaddr: TypeAlias = tuple[Any, ...] | str
    SocketType: TypeAlias = Literal["stream", "dgram"]

    class _AddressInfo(NamedTuple):
        family: int
        type: int
        protocol: int
        sockaddr: Sockaddr

else:
    from collections import namedtuple

    _AddressInfo = namedtuple("_AddressInfo", ("family", "type", "protocol", "sockaddr"))

_TYPES: Final = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM}
_PROTOCOLS: Final = {"stream": socket.IPPROTO_TCP, "dgram": socket.IPPROTO_UDP}


class AddressInfo(_AddressInfo):
    """One place to connect to: the arguments of ``socket.socket`` and of its ``connect``.

    Attributes:
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX`` of the ``socket`` module.
        type: ``SOCK_STREAM`` or ``SOCK_DGRAM``.
        protocol: The protocol number; 0 leaves it to the kernel.
        sockaddr: ``(host, port)`` for IPv4, ``(host, port, flow, scope id)`` for IPv6 and the path
            for a UNIX socket.
    """

    __slots__ = ()


def socket_type(kind: str) -> int:
    """Translate ``"stream"`` or ``"dgram"``; anything else is a ValueError."""
    try:
        return _TYPES[kind]
    except (KeyError, TypeError):
        raise ValueError(f'expected type "stream" or "dgram", got {kind!r}') from None


def checked_info(item: object) -> AddressInfo:
    """Return an item of a resolver's answer in the form that the ``socket`` module takes.

    A numeric host it must be: for a name ``connect()`` would ask the system, and block.

    Raises:
        TypeError, ValueError: If it is no address of IPv4 or IPv6.
        ResolveFailed: If its scope names no interface.
    """
    if not isinstance(item, tuple) or len(item) != 4:
        raise TypeError(f"expected an AddressInfo, got {item!r}")
    family, kind, protocol, sockaddr = item
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError(f"expected the family AF_INET or AF_INET6, got {item!r}")
    if not (_is_int(kind) and _is_int(protocol)):
        raise TypeError(f"expected numbers as type and protocol, got {item!r}")
    if not isinstance(sockaddr, tuple) or len(sockaddr) < 2:
        raise TypeError(f"expected a socket address, got {sockaddr!r}")
    host, port, *rest = sockaddr
    if not isinstance(host, str) or not _is_int(port) or not all(map(_is_int, rest)):
        raise TypeError(f"expected a socket address, got {sockaddr!r}")
    address, _, scope = host.partition("%")
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise ValueError(f"expected a numeric address of its family, got {item!r}") from None
    if not 0 <= port <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {sockaddr!r}")
    if family == socket.AF_INET:
        if rest:
            raise ValueError(f"expected a socket address of IPv4, got {sockaddr!r}")
        return AddressInfo(family, kind, protocol, (host, port))
    flow, scope_id, *more = (*rest, 0, 0)[: max(2, len(rest))]
    if more or not (0 <= flow < 1 << 20 and 0 <= scope_id < 1 << 32):
        raise ValueError(f"expected a socket address of IPv6, got {sockaddr!r}")
    if scope:
        scope_id = _scope_id(host, scope)
    return AddressInfo(family, kind, protocol, (address, port, flow, scope_id))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def numeric_info(host: str, port: int, kind: SocketType) -> AddressInfo | None:
    """Make the address of a numeric host, or return ``None`` if *host* is a name.

    Raises:
        ResolveFailed: If the scope ("%eth9") names no interface of this machine.
    """
    address, percent, scope = host.partition("%")
    packed = parse_address(address)
    if packed is None or packed == UNIX:
        return None
    if len(packed) == 4:
        if percent:
            return None
        return AddressInfo(
            socket.AF_INET,
            _TYPES[kind],
            _PROTOCOLS[kind],
            (socket.inet_ntop(socket.AF_INET, packed), port),
        )
    scope_id = _scope_id(host, scope) if percent else 0
    text = socket.inet_ntop(socket.AF_INET6, packed)
    return AddressInfo(socket.AF_INET6, _TYPES[kind], _PROTOCOLS[kind], (text, port, 0, scope_id))


def _scope_id(host: str, scope: str) -> int:
    if scope.isascii() and scope.isdigit():
        number = int(scope[:20])
        if number < 2**32:
            return number
    else:
        try:
            return socket.if_nametoindex(scope)
        except (OSError, ValueError):  # no such interface; a NUL in its name
            pass
    raise ResolveFailed(f"no interface {scope!r} for the scope of {host!r}")


def unix_info(path: str, kind: SocketType) -> AddressInfo:
    """Make the address of a UNIX socket at *path* (a leading NUL: an abstract one).

    Raises:
        OSError: EAFNOSUPPORT where the platform has none, ENAMETOOLONG for a path that
            does not fit (108 bytes on Linux).
        ValueError: If *path* contains a NUL behind its start: the kernel would see only what
            stands before it.
    """
    if "\0" in path[1:]:
        raise ValueError(f"expected a path without NUL, got {path!r}")
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "no UNIX sockets on this platform", path)
    # sun_path has 108 bytes on Linux and 104 on the BSDs; a path also needs its final NUL.
    length = len(os.fsencode(path)) + (not path.startswith("\0"))
    if length > (108 if sys.platform == "linux" else 104):
        raise OSError(errno.ENAMETOOLONG, "path too long for a UNIX socket", path)
    return AddressInfo(socket.AF_UNIX, _TYPES[kind], 0, path)


def host_and_port(family: int, sockaddr: Any) -> tuple[str, int | str]:
    """Return an address as users read it: ``(host, port)`` or ``("unix/", path)``.

    A v4-mapped IPv6 address is shown as the IPv4 address it stands for; a scope is kept
    (``fe80::1%eth0``).
    """
    if family == socket.AF_INET:
        return sockaddr[0], sockaddr[1]
    if family == socket.AF_INET6:
        host, port, _flow, scope_id = sockaddr
        # Everything else comes from the kernel's side in the form that we print, too.
        if host.startswith("::") and host != "::1":
            host = format_address(socket.inet_pton(socket.AF_INET6, host)) or host
        if scope_id:
            host = f"{host}%{_scope_name(scope_id)}"
        return host, port
    path = sockaddr if isinstance(sockaddr, str) else os.fsdecode(sockaddr)
    return "unix/", path


def _scope_name(scope_id: int) -> str:
    try:
        return socket.if_indextoname(scope_id)
    except OSError:  # the interface is gone
        return str(scope_id)


def target_text(info: AddressInfo) -> str:
    """Return an address as one text, for messages."""
    host, port = host_and_port(info.family, info.sockaddr)
    return format_host_port(host, str(port).replace("\0", "@"))
