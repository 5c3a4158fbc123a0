"""Datagrams: a bound or connected socket that calls back, or is asked for one after the other.

The same address rules as everywhere in this package; the kernel's buffer is the only queue.
"""

from __future__ import annotations

__all__ = ("Endpoint", "udp_endpoint")

import errno
import socket
from collections import deque
from functools import partial

import ae_core as ae

from . import _windows
from ._arguments import check_callback, split_address
from ._binding import Bound, bind_info
from ._closing import close_socket
from ._environment import protocols
from ._services import parse_service
from ._sockaddr import AddressInfo, host_and_port, numeric_info, target_text, unix_info
from ._socket_owner import Closeable, SocketReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeAlias

    Address: TypeAlias = tuple[str, "int | str"]
    Datagram: TypeAlias = tuple[bytes, Address]
    OnDatagram: TypeAlias = Callable[[bytes, Address], object]
    OnError: TypeAlias = Callable[[OSError], object]

# The most datagrams taken in one turn of the loop, so that other watchers run, too.
_BATCH: Final = 64
_LARGEST: Final = 65_536

_WILDCARD: Final = {4: "0.0.0.0", 6: "::"}

# The kernel's buffer is full. The datagram is dropped, as it may be anywhere on its way.
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, 10055})

# The error of an earlier datagram (ICMP), reported at the next call. The bare
# number is WSAECONNRESET, which Windows says even on a socket that is not connected.
_LATE: Final = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, 10054}
)


class _Reader(SocketReader):
    """Receives on one socket: for *on_datagram*, else for as long as there are requests."""

    __slots__ = ("_on_datagram", "_on_error", "_peer", "_requests", "_returned")

    def __init__(
        self,
        bound: Bound,
        peer: Address | None,
        on_datagram: OnDatagram | None,
        on_error: OnError | None,
    ) -> None:
        super().__init__(bound)
        self._peer = peer
        self._on_error = on_error
        self._requests: deque[ae.CondVar[Datagram]] = deque()
        self._returned: deque[Datagram] = deque()  # sent to requests, and not taken
        self._on_datagram = on_datagram
        if on_datagram is None:
            self.pause()

    @property
    def is_closed(self) -> bool:
        return self._bound.sock.fileno() == -1

    def receive(self) -> ae.CondVar[Datagram]:
        """Return the request for the next datagram."""
        address = self._bound.address
        request: ae.CondVar[Datagram] = ae.CondVar(
            cancel=self._on_cancel,
            untaken=self._return,
            describe=lambda: f"receive on {address[0]} {address[1]}",
        )
        self._requests.append(request)
        if self._returned:
            ae.postpone(self._serve_returned)
        else:
            self.resume()
        return request

    def _on_cancel(self) -> None:
        self._requests = deque(request for request in self._requests if not request.ready)
        if not self._requests:
            self.pause()

    def _return(self, datagram: Datagram) -> None:
        self._returned.appendleft(datagram)
        if self._requests:
            ae.postpone(self._serve_returned)

    def _serve_returned(self) -> None:
        while self._requests and self._returned:
            self._requests.popleft().send(self._returned.popleft())
        if self._requests:
            self.resume()

    def _hand_over(self, data: bytes, address: Address) -> None:
        request = self._requests.popleft()
        if not self._requests:
            self.pause()
        request.send((data, address))

    def _on_readable(self) -> None:
        receive = self._bound.sock.recvfrom
        deliver = self._on_datagram or self._hand_over
        for _ in range(_BATCH):
            try:
                data, sockaddr = receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                error.__traceback__ = None
                self.report(error)
                return
            if self._peer is not None:
                deliver(data, self._peer)
            elif self._family is socket.AF_INET:
                deliver(data, sockaddr)
            else:
                deliver(data, host_and_port(self._family, sockaddr or ""))
            if self._watch is None:
                return  # the callback has closed the endpoint, or that was the last request

    def _on_refused(self, error: OSError) -> None:
        if self._requests:
            self._end_requests(error)
            self.close()
        elif self._on_error is None:
            super()._on_refused(error)
        else:
            self.close()
            self._on_error(error)

    def close(self) -> None:
        super().close()
        self._returned.clear()
        self._end_requests(OSError(errno.EBADF, "the endpoint is closed"))

    def _end_requests(self, error: OSError) -> None:
        requests, self._requests = self._requests, deque()
        for request in requests:
            request.throw(error)
            # Read, so that it is not reported as unseen: the program closed the endpoint.
            _ = request.error

    def report(self, error: OSError) -> None:
        """Give *error*, of an earlier datagram, to *on_error*, a request or the log."""
        if self.is_closed:
            return
        if self._on_error is not None:
            self._on_error(error)
        elif self._requests:
            request = self._requests.popleft()
            if not self._requests:
                self.pause()
            request.throw(error)
        else:
            ae.log("debug", "datagram socket %s: %s", self._bound.address, error)


class Endpoint(Closeable):
    """A datagram socket, as made by :func:`udp_endpoint`.

    Hold it for as long as datagrams shall be received: dropping the last reference closes
    the socket, as do :meth:`cancel` and the end of a ``with`` block.
    """

    __slots__ = ("_family", "_is_called_back", "_is_connected", "_sock", "address")

    address: Address
    """Where it is bound, as ``(host, port)`` with the real port, or ``("unix/", path)``."""

    def __init__(
        self,
        bound: Bound,
        peer: Address | None,
        on_datagram: OnDatagram | None,
        on_error: OnError | None,
    ) -> None:
        super().__init__()
        self._is_called_back = on_datagram is not None
        self.address = bound.address
        self._sock = bound.sock
        self._family = bound.sock.family
        self._is_connected = peer is not None
        self._open.append(_Reader(bound, peer, on_datagram, on_error))

    def send(self, data: bytes | bytearray | memoryview, address: Address | None = None) -> bool:
        """Send one datagram, now.

        Args:
            data: The bytes.
            address: ``(host, port)`` with a numeric host, or ``("unix/", path)``. To be left
                out, and only then, if the endpoint has a remote address.

        Returns:
            False if the kernel has no room for it: the datagram is lost, as it might be
            anywhere on its way. Nothing is queued here.

        Raises:
            TypeError: If *data* is not bytes, or *address* has the wrong type.
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

    def receive(self) -> ae.CondVar[Datagram]:
        """Return a condvar that is sent the next datagram, as ``(data, address)``.

        Requests are served in order; without one, datagrams wait in the kernel's buffer, which
        drops what it has no room for. Cancelling it takes the request back; a datagram that was
        sent and that no awaiter took goes to the next request.

        **When**: never ready before the call returns. **Lifetime**: hold the endpoint; the request
        goes on when the condvar is forgotten.

        Raises:
            RuntimeError: If the endpoint has an *on_datagram*: the datagrams are its.
            OSError: EBADF after :meth:`cancel`, and through the condvar if it comes meanwhile.
                Through the condvar as well what an earlier datagram met with (ECONNREFUSED),
                unless there is an *on_error*.
        """
        if self._is_called_back:
            raise RuntimeError("the datagrams of this endpoint go to on_datagram")
        for reader in self._open:
            assert isinstance(reader, _Reader)
            if not reader.is_closed:  # as it is when the loop could not watch it
                return reader.receive()
        raise OSError(errno.EBADF, "the endpoint is closed")

    def _send(self, send: Callable[[], int]) -> bool:
        is_second = False
        while True:
            try:
                send()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return False
                if is_second or error.errno not in _LATE:
                    raise
                # That was an earlier datagram's error, and the kernel has forgotten it now.
                is_second = True
                (reader,) = self._open
                assert isinstance(reader, _Reader)
                error.__traceback__ = None
                ae.postpone(partial(reader.report, error))
            else:
                return True

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<Endpoint {self.address} {state}>"


def udp_endpoint(
    on_datagram: OnDatagram | None = None,
    *,
    local_address: str | tuple[str, int | str] | None = None,
    remote_address: tuple[str, int | str] | None = None,
    on_error: OnError | None = None,
) -> Endpoint:
    """Open a datagram socket.

    Args:
        on_datagram: Called with the bytes of each datagram and its sender's address, as
            ``(host, port)``; ``("unix/", path)`` for UNIX sockets. Without it, ask for each
            datagram by :meth:`Endpoint.receive`.
        local_address: Where to bind, as an address or ``(address, port)``; ``("unix/", path)``
            is a UNIX socket. By default any address of the remote one's family (else of the
            first in ``AE_PROTOCOLS``) and a port chosen by the system.
        remote_address: Send to, and receive from, this ``(address, port)`` only. The kernel
            then also reports when nothing listens there.
        on_error: Called with an ``OSError`` that an earlier datagram met with (ECONNREFUSED).
            Without it the error goes to a pending :meth:`Endpoint.receive`, else it is logged at
            debug level. The endpoint stays open. Also called if the loop
            cannot watch the socket, which is closed then.

    Returns:
        The endpoint. **Lifetime**: hold it. **When**: no callback runs inside this call, nor
        inside :meth:`Endpoint.send`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a host is no address, a service unknown, or the families differ.
        OSError: If the address cannot be had.
    """
    check_callback("on_datagram", on_datagram)
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
