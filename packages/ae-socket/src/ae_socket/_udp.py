"""Datagrams: a bound or connected socket with a callback.

The same address rules as everywhere in this package; the kernel's buffer is the only queue.
"""

from __future__ import annotations

__all__ = ("Endpoint", "udp_endpoint")

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

import ae_core as ae

from . import _windows
from ._arguments import check_callback, split_address
from ._binding import Bound, bind_info
from ._closing import close_socket
from ._environment import protocols
from ._socket_owner import Closeable, SocketReader
from ._services import parse_service
from ._sockaddr import AddressInfo, host_and_port, numeric_info, target_text, unix_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Address: TypeAlias = tuple[str, "int | str"]
    OnDatagram: TypeAlias = Callable[[bytes, Address], object]
    OnError: TypeAlias = Callable[[OSError], object]

# Datagrams taken in one turn of the loop before the others have theirs.
_BATCH: Final = 64
_LARGEST: Final = 65_536

_WILDCARD: Final = {4: "0.0.0.0", 6: "::"}

# The kernel has no room at the moment: a datagram may be lost anywhere, so here as well.
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, 10055})

# The fate of an earlier datagram, reported at the next call (ICMP): not of this one. The bare
# number is WSAECONNRESET, which Windows says even on a socket that is not connected.
_LATE: Final = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, 10054}
)


class _Reader(SocketReader):
    """Receives on one socket."""

    __slots__ = ("_on_datagram", "_on_error", "_peer")

    def __init__(
        self, bound: Bound, peer: Address | None, on_datagram: OnDatagram, on_error: OnError | None
    ) -> None:
        super().__init__(bound)
        self._peer = peer
        self._on_datagram = on_datagram
        self._on_error = on_error

    def _on_readable(self) -> None:
        receive = self._bound.sock.recvfrom
        for _ in range(_BATCH):
            try:
                data, sockaddr = receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                if self._watch is not None:
                    error.__traceback__ = None
                    self.report(error)
                return
            if self._peer is not None:
                self._on_datagram(data, self._peer)
            elif self._family is socket.AF_INET:
                self._on_datagram(data, sockaddr)
            else:
                self._on_datagram(data, host_and_port(self._family, sockaddr or ""))
            if self._watch is None:
                return  # the callback has closed the endpoint

    def _on_refused(self, error: OSError) -> None:
        if self._on_error is None:
            super()._on_refused(error)
        else:
            self.close()
            self._on_error(error)

    def report(self, error: OSError) -> None:
        if self._watch is None:
            return
        if self._on_error is not None:
            self._on_error(error)
        else:
            ae.log("debug", "datagram socket %s: %s", self._bound.address, error)


class Endpoint(Closeable):
    """A datagram socket, as made by :func:`udp_endpoint`.

    Hold it for as long as datagrams shall be received: dropping the last reference closes
    the socket, as do :meth:`cancel` and the end of a ``with`` block.
    """

    __slots__ = ("_family", "_is_connected", "_sock", "address")

    address: Address
    """Where it is bound, as ``(host, port)`` with the real port, or ``("unix/", path)``."""

    def __init__(
        self, bound: Bound, peer: Address | None, on_datagram: OnDatagram, on_error: OnError | None
    ) -> None:
        super().__init__()
        self.address = bound.address
        self._sock = bound.sock
        self._family = bound.sock.family
        self._is_connected = peer is not None
        self._open.append(_Reader(bound, peer, on_datagram, on_error))

    def send(self, data: bytes | bytearray | memoryview, address: Address | None = None) -> bool:
        """Send one datagram, now.

        Args:
            data: The octets.
            address: ``(host, port)`` with a numeric host, or ``("unix/", path)``. To be left
                out, and only then, if the endpoint has a remote address.

        Returns:
            False if the kernel has no room for it: the datagram is lost, as it might be
            anywhere on its way. Nothing is queued here.

        Raises:
            TypeError: If *data* is not octets, or *address* has the wrong type.
            ValueError: If *address* is none or of the other family, or given or missing
                against the rule above.
            OSError: EMSGSIZE for a datagram that is too long, EBADF after :meth:`cancel`,
                ENETUNREACH and its like.
        """
        if not self._open:
            raise OSError(errno.EBADF, "the endpoint is closed")
        if self._is_connected:
            if address is not None:
                raise ValueError(f"expected no address, as this endpoint has one, got {address!r}")
            return self._send(partial(self._sock.send, data))
        if address is None:
            raise ValueError("expected an address, as this endpoint has none")
        info = _info("address", address)
        if info.family != self._family:
            raise ValueError(f"expected an address of {self._family.name}, got {address!r}")
        return self._send(partial(self._sock.sendto, data, info.sockaddr))

    def _send(self, send: Callable[[], int]) -> bool:
        for is_second in (False, True):
            try:
                send()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return False
                if is_second or error.errno not in _LATE:
                    raise
                # That was an earlier datagram's error, and the kernel has forgotten it now.
                (reader,) = self._open
                assert isinstance(reader, _Reader)
                error.__traceback__ = None
                ae.postpone(partial(reader.report, error))
            else:
                break
        return True

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<Endpoint {self.address} {state}>"


def udp_endpoint(
    on_datagram: OnDatagram,
    *,
    local_address: str | tuple[str, int | str] | None = None,
    remote_address: tuple[str, int | str] | None = None,
    on_error: OnError | None = None,
) -> Endpoint:
    """Open a datagram socket.

    Args:
        on_datagram: Called with the octets of each datagram and its sender's address, as
            ``(host, port)``; ``("unix/", path)`` for UNIX sockets.
        local_address: Where to bind, as an address or ``(address, port)``; ``("unix/", path)``
            is a UNIX socket. By default any address of the remote one's family (else of the
            first in ``AE_PROTOCOLS``) and a port chosen by the system.
        remote_address: Send to, and receive from, this ``(address, port)`` only. The kernel
            then also reports when nobody listens there.
        on_error: Called with an ``OSError`` that an earlier datagram met with (ECONNREFUSED);
            logged at debug level otherwise. The endpoint stays open. Also called if the loop
            cannot watch the socket, which is closed then.

    Returns:
        The endpoint. **Lifetime**: hold it. **When**: no callback runs inside this call, nor
        inside :meth:`Endpoint.send`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a host is no address, a service unknown, or the families differ.
        OSError: If the address cannot be had.
    """
    if not callable(on_datagram):
        raise TypeError(f"expected on_datagram to be callable, got {on_datagram!r}")
    check_callback("on_error", on_error)
    remote = _info("remote_address", remote_address) if remote_address is not None else None
    local = _info("local_address", local_address) if local_address is not None else _any(remote)
    if remote is not None and local is not None and remote.family != local.family:
        raise ValueError(f"expected one family, got {local_address!r} and {remote_address!r}")
    bound = bind_info(local) if local is not None else None
    peer = None
    try:
        if remote is not None:
            peer = host_and_port(remote.family, remote.sockaddr)
            bound = _connect(bound, remote)
        assert bound is not None
        return Endpoint(bound, peer, on_datagram, on_error)
    except BaseException:
        if bound is not None:
            bound.close()
        raise


def _info(name: str, address: object) -> AddressInfo:
    host, service = split_address(name, address)
    if host == "unix/":
        return unix_info(str(service), "dgram")
    info = numeric_info(host, parse_service(service, "dgram")[1], "dgram")
    if info is None:
        raise ValueError(f"expected an address or (address, port) as {name}, got {address!r}")
    return info


def _any(remote: AddressInfo | None) -> AddressInfo | None:
    if remote is None:
        return numeric_info(_WILDCARD[protocols()[0][0]], 0, "dgram")
    return None


def _connect(bound: Bound | None, remote: AddressInfo) -> Bound:
    """Connect a socket, by default a new one. A failure closes a new one only."""
    if bound is not None:
        sock = bound.sock
    else:
        sock = socket.socket(remote.family, remote.type, remote.protocol)
    try:
        sock.setblocking(False)
        sock.connect(remote.sockaddr)
        if bound is None:
            # Not before: Windows knows no address of a socket that is neither.
            return Bound(sock)
        # A wildcard address has become a real one now.
        bound.address = host_and_port(sock.family, sock.getsockname())
        return bound
    except BaseException as error:
        if bound is None:
            close_socket(sock)
        if not isinstance(error, OSError):
            raise
        code = error.errno or errno.EINVAL
        raise OSError(code, _windows.error_text(code), target_text(remote)) from None
