"""Sockets that are bound to an address: what servers and datagram endpoints start from.

Everything here happens inside the caller's call; nothing waits. What fails leaves nothing open.
"""

from __future__ import annotations

__all__ = ("Bound", "bind_addresses", "bind_info", "listening_infos")

import errno
import os
import socket
import stat

from . import _windows
from ._closing import close_socket
from ._environment import protocols
from ._services import parse_service
from ._sockaddr import AddressInfo, host_and_port, numeric_info, target_text, unix_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from ._sockaddr import SocketType

# Theory of operation
# -------------------
# A UNIX socket leaves a file behind, and a file may belong to another program. When binding,
# only a *socket* is removed, and only if a connect shows that no process listens on it. When
# closing, the file is removed only if it is still the one we made (device and inode), and only
# in the process that made it: a forked child that drops its copy must not take the parent's
# address away.
#
# "All families, any port" is one port number for all: the kernel picks it for the first
# family, and if the second has it in use, another is picked.

_WILDCARD: Final = {4: "0.0.0.0", 6: "::"}
_PORT_TRIES: Final = 64

# The errors of a system without IPv6 (or without IPv4) for its wildcard address.
_NO_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, 10047, 10049)


class _BoundSocket(socket.socket):
    """A socket that has its family, type and protocol as plain attributes.

    To accept a connection all three are needed, and elsewhere two of them are made into enum
    members each time: 1.6 us of the 6.9 us that an accepted connection takes.
    """

    __slots__ = ("family", "proto", "type")

    def __init__(self, family: int, type: int, proto: int, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        self.family = socket.AddressFamily(family)  # type: ignore[misc]
        self.type = socket.SocketKind(type)  # type: ignore[misc]
        self.proto = proto  # type: ignore[misc]

    def accept(self) -> tuple[socket.socket, Any]:
        # as the base does it, but for sockets that block, which ours never does
        fd, sockaddr = self._accept()  # type: ignore[attr-defined]  # pyright: ignore
        return socket.socket(self.family, self.type, self.proto, fd), sockaddr


class Bound:
    """A bound socket, its address, and the file to be removed with it."""

    __slots__ = ("_file", "_process", "address", "sock")

    def __init__(self, sock: socket.socket, file: tuple[str, int, int] | None = None) -> None:
        self.sock: socket.socket = sock
        self.address: tuple[str, int | str] = host_and_port(sock.family, sock.getsockname())
        self._file = file
        self._process = os.getpid()

    def close(self) -> None:
        """Close the socket, and remove the file if it is still ours. Idempotent."""
        file, self._file = self._file, None
        if file is not None and self._process == os.getpid():
            _unlink_same(*file)
        close_socket(self.sock)


def _unlink_same(path: str, device: int, inode: int) -> None:
    try:
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == (device, inode):
            os.unlink(path)
    except OSError:  # gone already, or its directory is
        return


def listening_infos(
    host: str | None, service: str | int | None, kind: SocketType, dual_stack: bool
) -> list[AddressInfo]:
    """Translate what a server was told to bind to; ``None`` is everything.

    Raises:
        ValueError: If *host* is no address or *service* unknown.
        TypeError: If one of them has the wrong type.
        OSError: Where UNIX sockets do not exist, or the path does not fit.
    """
    if host is not None and not isinstance(host, str):
        raise TypeError(f"expected a host as str or None, got {host!r}")
    if service is not None and not isinstance(service, str | int):
        raise TypeError(f"expected a service as str, int or None, got {service!r}")
    if host == "unix/":
        path = str(service)
        if not path.startswith(("/", "\0")):
            raise ValueError(f"expected an absolute path for a UNIX socket, got {service!r}")
        return [unix_info(path, kind)]
    port = parse_service(service, kind)[1] if service is not None else 0
    if host is not None:
        info = numeric_info(host, port, kind)
        if info is None:
            raise ValueError(f"expected an IP address, None or 'unix/' as host, got {host!r}")
        return [info]
    families: Sequence[int] = protocols()[0]
    if dual_stack and 6 in families and _has_ipv6():
        families = (6,)
    infos = (numeric_info(_WILDCARD[family], port, kind) for family in families)
    return [info for info in infos if info is not None]


def _has_ipv6() -> bool:
    """Return whether this system has IPv6 enabled; ``socket.has_ipv6`` does not tell."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((_WILDCARD[6], 0))
    except OSError:
        return False
    return True


def bind_addresses(
    infos: Sequence[AddressInfo], *, reuse_port: bool = False, dual_stack: bool = False
) -> list[Bound]:
    """Bind a socket for each of *infos*, all to the same port number.

    A family that this system does not have is left out if there is another one.

    Raises:
        OSError: If an address cannot be had; then none is bound.
    """
    tries = _PORT_TRIES
    while True:
        bound: list[Bound] = []
        missing: OSError | None = None
        try:
            for info in infos:
                wanted = _same_port(info, bound)
                try:
                    bound.append(bind_info(wanted, reuse_port=reuse_port, dual_stack=dual_stack))
                except OSError as error:
                    if len(infos) == 1 or error.errno not in _NO_FAMILY:
                        raise
                    missing = error
            if not bound:
                assert missing is not None
                raise missing
            return bound
        except BaseException as error:
            for one in bound:
                one.close()
            tries -= 1
            # The kernel picked a port that is in use in the other family: let it pick another.
            is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not (is_taken and bound and infos[0].sockaddr[1] == 0 and tries):
                raise


def _same_port(info: AddressInfo, bound: list[Bound]) -> AddressInfo:
    if not bound or info.sockaddr[1] != 0:
        return info
    host, scope = info.sockaddr[0], info.sockaddr[2:]
    return info._replace(sockaddr=(host, bound[0].address[1], *scope))


def bind_info(info: AddressInfo, *, reuse_port: bool = False, dual_stack: bool = False) -> Bound:
    """Bind a new non-blocking socket to one address.

    Raises:
        OSError: With the address in its text: EADDRINUSE, EADDRNOTAVAIL, EACCES; EEXIST if
            the path of a UNIX socket is a file of another kind.
    """
    sock = _BoundSocket(info.family, info.type, info.protocol)
    try:
        sock.setblocking(False)
        if info.family == _windows.AF_UNIX:
            return _bind_unix(sock, info)
        if info.type == socket.SOCK_STREAM:
            _windows.set_bind_options(sock)
        if reuse_port:
            _set_reuse_port(sock)
        if info.family == socket.AF_INET6:
            # Never the system's default: it differs, and so would what is reachable.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack))
        try:
            sock.bind(info.sockaddr)
        except OSError as error:
            raise _named(error, info) from None
        return Bound(sock)
    except BaseException:
        close_socket(sock)
        raise


def _set_reuse_port(sock: socket.socket) -> None:
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise ValueError("reuse_port is not supported on this platform")
    sock.setsockopt(socket.SOL_SOCKET, option, 1)


def _named(error: OSError, info: AddressInfo) -> OSError:
    code = error.errno or errno.EINVAL
    return OSError(code, _windows.error_text(code), target_text(info))


def _bind_unix(sock: socket.socket, info: AddressInfo) -> Bound:
    path = str(info.sockaddr)
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or path.startswith("\0"):
            raise _named(error, info) from None
        _remove_stale(info)
        try:
            sock.bind(path)
        except OSError as second:
            raise _named(second, info) from None
    if path.startswith("\0"):
        return Bound(sock)
    status = os.lstat(path)
    return Bound(sock, (path, status.st_dev, status.st_ino))


def _remove_stale(info: AddressInfo) -> None:
    """Remove the socket file of a server that no longer runs."""
    path = str(info.sockaddr)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, "exists and is no socket", target_text(info))
    with socket.socket(info.family, info.type) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    # Connected, or EAGAIN (its backlog is full), or EPROTOTYPE (a socket of another type):
    # a server listens. EACCES and the like: that cannot be known.
    if code == errno.ECONNREFUSED:
        _unlink_same(path, status.st_dev, status.st_ino)
    elif code != errno.ENOENT:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), target_text(info))
