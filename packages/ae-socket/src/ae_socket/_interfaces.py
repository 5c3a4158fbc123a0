"""What others may offer: resolvers and connectors. Loaded when a program asks for one of them."""

from __future__ import annotations

__all__ = ("Connector", "Resolver")

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

    import ae_core as ae

    from ._sockaddr import AddressInfo, SocketType


class Connector(Protocol):
    """Makes a connection to *host* and *service* in its own way; for ``Handle(connector=)``.

    Returns an operation for a connected, non-blocking socket from which nothing has been read
    that the host has sent. Cancelling it closes what it has opened. Failures are ``OSError``.
    :func:`socks5` and :func:`http_connect` make two.
    """

    def __call__(self, host: str, service: str | int, /) -> ae.CondVar[socket.socket]:
        """Begin to connect."""
        ...


class Resolver(Protocol):
    """What can be given to :func:`set_resolver`: something that looks up names of hosts.

    It gets names only, as :func:`host_to_ascii` gives them, never a numeric address, ``unix/``
    or ``localhost``, and the service as a port number. It answers through the condvar, on this
    thread, with the addresses in the order to try them, or throws an ``OSError`` if there is no
    such host.

    A resolver that also has ``srv(service, protocol, domain) -> CondVar[list]``, whose items
    have ``port`` and ``target`` and come in the order to try them, is asked for SRV records
    first whenever the service was given by name; not for names below ``.local``. A target is an
    absolute name, so ``getaddrinfo`` is then asked for it with a final dot.
    """

    def getaddrinfo(
        self, host: str, service: str | int, *, family: int = 0, type: SocketType = "stream"
    ) -> ae.CondVar[list[AddressInfo]]:
        """Look *host* up in *family* (0, 4 or 6)."""
        ...
