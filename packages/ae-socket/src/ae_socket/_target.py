"""What a caller wants to reach: a host and a service, checked and read once.

No I/O but the services database and the names of interfaces; imports nothing from ``ae_core`` but
the environment.
"""

from __future__ import annotations

__all__ = ("Target", "allowed_families", "known_infos", "parse_target")

import socket

from ._environment import protocols
from ._errors import ResolveFailed
from ._host_names import host_to_ascii
from ._services import parse_service
from ._sockaddr import AddressInfo, numeric_info, unix_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from ._sockaddr import SocketType

FAMILY: Final[dict[int, int]] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}


class Target:
    """A host and a service.

    Attributes:
        host: What :func:`host_to_ascii` gives, or ``"unix/"``.
        name: The name of the service, for SRV records; ``None`` if it was given as a number.
        port: The port; 0 for ``"unix/"``.
        address: The address, if *host* is one or is ``"unix/"`` with an absolute path.
    """

    __slots__ = ("address", "host", "name", "port")

    def __init__(self, host: str, name: str | None, port: int, address: AddressInfo | None) -> None:
        self.host = host
        self.name = name
        self.port = port
        self.address = address

    def absolute(self) -> Target:
        """Return the same target with the name of the host ended by a dot."""
        return Target(f"{self.host}.", self.name, self.port, self.address)


def parse_target(host: str, service: str | int, kind: SocketType = "stream") -> Target:
    """Read a host and a service.

    Raises:
        ValueError: If the service is unknown, the port impossible, or no host can have that name.
        ResolveFailed: If a scope names no interface, or stands behind what is no IPv6 address.
        OSError: For the path of a UNIX socket that is too long, or where there are none.
    """
    if host == "unix/":
        path = str(service)
        is_absolute = path.startswith(("/", "\0"))
        return Target(host, None, 0, unix_info(path, kind) if is_absolute else None)
    name, port = parse_service(service, kind)
    address = numeric_info(host, port, kind)
    if address is None:
        if "%" in host and not host.startswith("["):
            raise ResolveFailed(f"{host!r} is no IPv6 address, so it has no scope")
        host = host_to_ascii(host)
        address = numeric_info(host, port, kind)  # it had brackets
    return Target(host, name, port, address)


def known_infos(
    target: Target, family: int = 0, kind: SocketType = "stream"
) -> list[AddressInfo] | None:
    """Return the addresses of *target* if no resolver is needed for them, else ``None``."""
    address = target.address
    if address is not None:
        if address.family not in FAMILY:  # a UNIX socket
            return [] if family else [address]
        return [address] if FAMILY[address.family] in allowed_families(family) else []
    if target.host == "unix/":
        return []
    # RFC 6761 6.3: all names below "localhost." are this host, and never asked for in the DNS.
    if ("." + target.host.lower().removesuffix(".")).endswith(".localhost"):
        texts = (_LOOPBACK[one] for one in allowed_families(family))
        return [info for text in texts if (info := numeric_info(text, target.port, kind))]
    return None


def allowed_families(family: int) -> tuple[int, ...]:
    """Return the families that ``AE_PROTOCOLS`` and *family* both allow, the preferred first."""
    preference = protocols()[0]
    return tuple(one for one in preference if family in (0, one)) if family else preference
