"""Names of services: ``http``, ``80``, ``https=8443``.

Reads the system's services database, nothing else; imports nothing from ``ae_core``.
"""

from __future__ import annotations

__all__ = ("parse_service",)

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from ._sockaddr import SocketType

# Small systems come without /etc/services (Debian's netbase, any slim container image), and
# a program must not fail there because it says "https". These never change: RFC 6335.
_WELL_KNOWN: Final = {
    "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "gopher": 70, "finger": 79,
    "http": 80, "pop3": 110, "ident": 113, "nntp": 119, "ntp": 123, "imap2": 143, "imap": 143,
    "snmp": 161, "irc": 194, "ldap": 389, "https": 443, "submissions": 465, "syslog": 514,
    "nntps": 563, "submission": 587, "ldaps": 636, "imaps": 993, "pop3s": 995, "socks": 1080,
    "mysql": 3306, "sip": 5060, "sips": 5061, "xmpp-client": 5222, "xmpp-server": 5269,
    "postgresql": 5432, "ircs-u": 6697, "redis": 6379, "git": 9418,
}  # fmt: skip

_PROTOCOL: Final = {"stream": "tcp", "dgram": "udp"}


def parse_service(service: str | int, kind: SocketType) -> tuple[str | None, int]:
    """Split a service into its name, for SRV records, and its port number.

    ``name=number`` gives both without a look into the database; a number has no name.

    Raises:
        ValueError: If the name is unknown or the number no port.
    """
    if isinstance(service, int):
        return None, _check(service, service)
    name, equals, number = service.partition("=")
    if equals:
        if not name:
            raise ValueError(f'expected "name=port", got {service!r}')
        return name, _port(number, service)
    if service.isascii() and service.isdigit():
        return None, _port(service, service)
    if not service or "\0" in service:
        raise ValueError(f"expected a port or the name of a service, got {service!r}")
    try:
        return name, socket.getservbyname(name, _PROTOCOL[kind])
    except (OSError, UnicodeError):
        port = _WELL_KNOWN.get(name)
    if port is None:
        raise ValueError(f"unknown service {name!r} for {_PROTOCOL[kind]}")
    return name, port


def _port(digits: str, service: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"expected a port number, got {service!r}")
    return _check(int(digits[:20]), service)


def _check(port: int, service: str | int) -> int:
    if not 0 <= port <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {service!r}")
    return port
