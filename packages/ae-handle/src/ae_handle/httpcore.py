"""A network backend for httpcore, and so for httpx: connections are handles.

Needs httpcore and anyio. Names are resolved, and connections made, by ``ae_socket``, so a resolver
that is installed there counts; TLS is a handle's. Works where httpcore does: in asyncio and trio,
those that run as guests of another loop included.
"""

from __future__ import annotations

__all__ = ("NetworkBackend", "httpx_transport")

import select
import socket
import ssl
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpcore

import ae_core as ae
from ae_socket import tcp_connect

from ._errors import HandleError
from ._handle import Handle
from .anyio import HandleStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ae_socket import Resolver

_Option = tuple[Any, ...]


class NetworkBackend(httpcore.AsyncNetworkBackend):
    """Connections for httpcore's pools: ``httpcore.AsyncConnectionPool(network_backend=...)``.

    Args:
        tls_context: An ``ae_tls.Context`` or what else a handle takes, instead of the
            ``ssl.SSLContext`` of the pool.
        resolver: Resolves the names, as in :func:`ae_socket.tcp_connect`.
    """

    def __init__(self, *, tls_context: Any = None, resolver: Resolver | None = None) -> None:
        self._tls_context = tls_context
        self._resolver = resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See ``httpcore.AsyncNetworkBackend``."""
        return await self._connect(host, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See ``httpcore.AsyncNetworkBackend``."""
        return await self._connect("unix/", path, timeout, None, socket_options)

    async def _connect(
        self,
        host: str,
        service: str | int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[_Option] | None,
    ) -> httpcore.AsyncNetworkStream:
        options = tuple(socket_options or ())

        def prepare(sock: socket.socket) -> None:
            for option in options:
                sock.setsockopt(*option)

        async with _translated(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            sock = await tcp_connect(
                host,
                service,
                on_prepare=prepare if options else None,
                local_address=local_address,
                resolver=self._resolver,
            )
        handle = Handle(sock, no_delay=True, allow_truncated=True, linger=0)
        return _Stream(handle, self._tls_context)

    async def sleep(self, seconds: float) -> None:
        """See ``httpcore.AsyncNetworkBackend``."""
        await ae.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A handle as httpcore's stream."""

    def __init__(self, handle: Handle, tls_context: Any) -> None:
        self._handle = handle
        self._stream = HandleStream(handle)
        self._tls_context = tls_context

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        async with _translated(timeout, httpcore.ReadTimeout, httpcore.ReadError):
            try:
                return await self._stream.receive(max_bytes)
            except anyio.EndOfStream:
                return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            async with _translated(timeout, httpcore.WriteTimeout, httpcore.WriteError):
                await self._stream.send(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        started: ae.CondVar[None] = ae.CondVar()

        def on_tls_started(handle: Handle, error: HandleError | None) -> None:
            if error is None:
                started.send()
            else:
                started.throw(error)

        context = ssl_context if self._tls_context is None else self._tls_context
        try:
            async with _translated(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                if self._handle.tls is None:
                    handle = self._handle
                    handle.peer_name = server_hostname
                    handle.on_tls_started = on_tls_started
                    handle.start_tls("connect", context)
                else:  # through a proxy that is spoken to within TLS itself
                    handle = Handle(
                        self._handle,
                        tls="connect",
                        tls_context=context,
                        peer_name=server_hostname,
                        on_tls_started=on_tls_started,
                        allow_truncated=True,
                        linger=0,
                    )
                await started
        except BaseException:
            self._handle.destroy()
            raise
        return _Stream(handle, self._tls_context)

    def get_extra_info(self, info: str) -> Any:
        sock = self._handle.socket
        while isinstance(sock, Handle):
            sock = sock.socket
        if info == "ssl_object":
            session: Any = self._handle.tls
            return session if session is None else getattr(session, "engine", _SslObject(session))
        if info == "is_readable":
            return sock is None or bool(self._handle.read_buffer) or _is_readable(sock)
        if not isinstance(sock, socket.socket):
            return None
        if info == "client_addr":
            return sock.getsockname()
        if info == "server_addr":
            return sock.getpeername()
        return sock if info == "socket" else None


class _SslObject:
    """What httpcore and programs ask an ``ssl.SSLObject``, of a session of another make."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def selected_alpn_protocol(self) -> str | None:
        chosen: str | None = getattr(self._session, "alpn", None)
        return chosen

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        certificate: bytes | None = self._session.peer_certificate
        return certificate

    def version(self) -> str | None:
        version: str | None = getattr(self._session, "version", None)
        return version


def _is_readable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # for any number of descriptor
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@asynccontextmanager
async def _translated(
    seconds: float | None,
    timed_out: type[Exception],
    failed: type[Exception],
) -> AsyncIterator[None]:
    """Limit the time, and raise httpcore's exceptions."""
    try:
        async with ae.timeout(seconds):
            yield
    except (HandleError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise failed(str(error)) from error
    except TimeoutError as error:
        raise timed_out(str(error) or "timed out") from error
    except (OSError, ValueError) as error:
        raise failed(str(error)) from error


def httpx_transport(**options: Any) -> Any:
    """Return a transport for ``httpx.AsyncClient(transport=...)``.

    Args:
        options: ``tls_context`` and ``resolver`` as in :class:`NetworkBackend`, the others are
            those of ``httpx.AsyncHTTPTransport``.
    """
    import httpx

    ours = {name: options.pop(name) for name in ("tls_context", "resolver") if name in options}
    transport = httpx.AsyncHTTPTransport(**options)
    pool: Any = transport._pool
    pool._network_backend = NetworkBackend(**ours)
    return transport
