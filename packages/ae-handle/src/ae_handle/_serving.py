"""Servers whose clients are handles: listening, keeping each client, limits, an orderly end.

Stands on ``Handle`` and ``ae_socket.tcp_server``; nothing below knows it.
"""

from __future__ import annotations

__all__ = ("Served", "serve")

import socket
from collections.abc import Coroutine
from functools import partial
from math import isfinite
from os import getpid

import ae_core as ae
from ae_core.abc import Cancellable
from ae_socket import format_host_port, tcp_server

from ._errors import HandleError
from ._handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Final, Self, TypeAlias

    Handler: TypeAlias = Callable[[Handle], object]
    OnPrepare: TypeAlias = Callable[[socket.socket, str, "int | str"], "int | None"]

# Theory of operation
# -------------------
# The user holds a `Served`, the loop holds a `_Server` (by the callback of the listening sockets,
# and by what calls back at the end of handles and coroutines), so dropping the one ends the other.
#
# A client counts until its handle is destroyed *and* its coroutine has returned: both use up
# what max_clients is to bound. Whatever ends the handle - its user, an error, the peer - comes
# through `Handle._notify_end`, and a coroutine through the condition variable of its task.

_MAX_CLIENTS: Final = 1000
_MAX_WRITE_BUFFER: Final = 4 << 20
_HANDSHAKE_TIMEOUT: Final = 60.0
_GRACE: Final = 10.0


class _Client:
    """One connection, and the coroutine that serves it, if there is one."""

    __slots__ = ("handle", "peer", "task")

    def __init__(self, handle: Handle, peer: str) -> None:
        self.handle = handle
        self.peer = peer
        self.task: ae.CondVar[Any] | None = None


class _Server:
    """Accepts clients, and keeps them until they have ended."""

    __slots__ = (
        "_closing",
        "_deadlines",
        "_handler",
        "_is_ended",
        "_is_paused",
        "_max_clients",
        "_options",
        "_pending",
        "clients",
        "is_closed",
        "listening",
    )

    def __init__(
        self,
        handler: Handler,
        max_clients: int | None,
        options: dict[str, Any],
        listen: dict[str, Any],
    ) -> None:
        self._handler = handler
        self._max_clients = max_clients
        self._options = options
        self._closing: list[ae.CondVar[None]] = []
        self._deadlines: list[ae.Watcher] = []
        self._pending: Any = None
        self._is_ended = False
        self._is_paused = False
        self.is_closed = False
        self.clients: dict[Handle, _Client] = {}
        self.listening = tcp_server(on_accept=self._accepted, **listen)

    # ------------------------------------------------------------------ one client

    def _accepted(self, sock: socket.socket, host: str, port: int | str) -> None:
        try:
            handle = Handle(sock, **self._options)
        except BaseException as error:
            sock.close()
            ae.report_error(error)
            return
        client = self.clients[handle] = _Client(handle, format_host_port(host, port))
        handle._notify_end(self._handle_ended)
        if self._max_clients is not None and len(self.clients) >= self._max_clients:
            self._is_paused = True
            self.listening.pause()
        try:
            task = self._handler(handle)
            if isinstance(task, Coroutine):
                task = ae.spawn(task)
        except BaseException as error:
            ae.report_error(error)
            handle.destroy()
            return
        if isinstance(task, ae.CondVar):
            self.clients[handle] = client  # also if it is destroyed already
            client.task = task
            task.on_ready(partial(self._task_ended, client))
        else:
            _set_defaults(handle, client.peer)
        if self._is_ended:
            self.end_clients()  # the handler has done it, before there was a task to cancel

    def _handle_ended(self, handle: Handle) -> None:
        client = self.clients.get(handle)
        if client is not None and client.task is None:
            self._forget(client)

    def _task_ended(self, client: _Client, task: ae.CondVar[Any]) -> None:
        client.task = None
        handle = client.handle
        error = None if task.cancelled else task.error
        if error is not None:
            _report(error, client)
        if handle.is_destroyed:
            self._forget(client)
        else:
            handle.destroy()

    def _forget(self, client: _Client) -> None:
        if self.clients.pop(client.handle, None) is None:
            return  # what the task's error was reported to has destroyed the handle
        if self._is_paused and not self.is_closed:
            self._is_paused = False
            self.listening.resume()
        if self._closing and not self.clients:
            ae.postpone(self._closed)

    # ------------------------------------------------------------------ the end

    def close(self, grace: float | None) -> ae.CondVar[None]:
        """See :meth:`Served.close`."""
        self.is_closed = True
        self.listening.cancel()
        closing: ae.CondVar[None] = ae.CondVar(cancel=self.end_clients)
        self._closing.append(closing)
        if self._pending is None:
            self._pending = ae.pending(self)
        if not self.clients:
            ae.postpone(self._closed)
        elif grace:
            self._deadlines.append(ae.timer(grace, self.end_clients))
        elif grace is not None:
            self.end_clients()
        return closing

    def end(self) -> None:
        """Close everything now."""
        self.is_closed = True
        self.listening.cancel()
        self.end_clients()

    def end_clients(self) -> None:
        """Destroy all handles and cancel all coroutines."""
        self._is_ended = True
        for client in tuple(self.clients.values()):
            if client.task is not None:
                client.task.cancel()
            client.handle.destroy()

    def _closed(self) -> None:
        if self.clients:
            return
        closing, self._closing = self._closing, []
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._deadlines.clear()
        for each in closing:
            if not each.ready:
                each.send()


def _report(error: BaseException, client: _Client) -> None:
    """Report that a handler has ended with *error*, unless its client has ended with that."""
    if isinstance(error, HandleError) and (client.handle.is_destroyed or not error.fatal):
        ae.log("info", "client %s: %s", client.peer, error)
    else:
        ae.report_error(error)


def _set_defaults(handle: Handle, peer: str) -> None:
    """Have *handle*, which is served by callbacks, end with its stream and with any error."""
    if handle.is_destroyed:
        return
    if handle.on_eof is None:
        handle.on_eof = _hang_up
        handle.watch_eof = True
    if handle.on_error is None:
        handle.on_error = partial(_failed, peer)


def _hang_up(handle: Handle) -> None:
    handle.destroy()


def _failed(peer: str, handle: Handle, error: HandleError) -> None:
    ae.log("info", "client %s: %s", peer, error)
    handle.destroy()


class Served(Cancellable):
    """A server that :func:`serve` has made.

    **Lifetime**: hold it for as long as it shall serve. Dropping the last reference closes the
    listening sockets and ends all clients immediately, as do :meth:`cancel` and the end of a
    ``with`` block. The end of ``async with`` waits for the handlers as :meth:`close` does,
    unless an exception passes.
    """

    __slots__ = ("__weakref__", "_loop", "_process", "_server")

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._loop = ae.detect()
        self._process = getpid()

    @property
    def address(self) -> tuple[str, Any]:
        """The first of :attr:`addresses`; may be given to ``Handle(connect=...)`` as it is."""
        return self._server.listening.address

    @property
    def addresses(self) -> list[tuple[str, Any]]:
        """Where it listens, as ``(host, port)`` or ``("unix/", path)``, with real port numbers."""
        return [*self._server.listening.addresses]

    @property
    def clients(self) -> tuple[Handle, ...]:
        """The handles of the clients that have not ended, the oldest first.

        A client ends when its handle is destroyed and its coroutine has returned.
        """
        return tuple(self._server.clients)

    def close(self, grace: float | None = _GRACE) -> ae.CondVar[None]:
        """Stop accepting, and let the handlers finish.

        Args:
            grace: After so many seconds, those that are left are ended: the handle is destroyed
                (what is unsent still lingers), the coroutine cancelled. 0 ends them in this call,
                None waits for ever.

        Returns:
            An operation that is ready when the last client has ended. Cancelling it ends the
            rest immediately. It need not be held. A coroutine that goes on after it was cancelled
            is waited for.

        Connections that are still in the backlog are reset by the kernel, unless other
        processes have the listening socket, too.

        Raises:
            TypeError, ValueError: If *grace* is no number of seconds.
        """
        if grace is not None:
            grace = _check_grace(grace)
        return self._server.close(grace)

    def cancel(self) -> None:
        """Close the listening sockets and end all clients, now. Idempotent."""
        self._server.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait as :meth:`close` does; if an exception passes, end all clients immediately."""
        await self.close(_GRACE if error is None else 0)

    def __del__(self) -> None:
        server = getattr(self, "_server", None)
        if server is None or server.is_closed or self._process != getpid():
            return
        if self._loop.in_thread():
            server.end()
            return
        try:
            self._loop.call_threadsafe(server.end)
        except (RuntimeError, ae.AEError):
            server.listening.cancel()  # the loop has ended, and all watchers with it

    def __repr__(self) -> str:
        server = self._server
        where = ", ".join(format_host_port(*address) for address in server.listening.addresses)
        state = "closed" if server.is_closed else "listening"
        return f"<Served {where} {state}, clients: {len(server.clients)}>"


def _check_grace(grace: object) -> float:
    if isinstance(grace, bool) or not isinstance(grace, int | float):
        raise TypeError(f"expected grace as seconds or None, got {grace!r}")
    if not isfinite(grace) or grace < 0:
        raise ValueError(f"expected grace of 0 or more seconds, got {grace!r}")
    return float(grace)


def serve(
    host: str | None,
    service: str | int | None,
    handler: Handler,
    *,
    tls_context: Any = None,
    max_clients: int | None = _MAX_CLIENTS,
    timeout: float | None = None,
    handshake_timeout: float | None = _HANDSHAKE_TIMEOUT,
    max_write_buffer: int | None = _MAX_WRITE_BUFFER,
    on_prepare: OnPrepare | None = None,
    backlog: int = 128,
    reuse_port: bool = False,
    dual_stack: bool = False,
    sock: socket.socket | None = None,
) -> Served:
    """Listen, and serve each client with *handler*.

    Args:
        host, service: Where to listen, as for ``ae_socket.tcp_server``: None for every address,
            ``"unix/"`` and a path for a UNIX socket; 0 or None for any free port.
        handler: Called with the :class:`Handle` of each new client. Its options may still be
            changed, also those of TLS: the handshake begins afterwards. If the call returns a
            coroutine, as an ``async def`` function does, or a condition variable, the client is
            served until that has ended; then the handle is destroyed, and what is unsent lingers.
            If it returns anything else, the client is served by the callbacks that were set, until
            the handle is destroyed; with no ``on_eof`` and ``on_error`` set, that is when the peer
            hangs up, and at any error.
        tls_context: Speak TLS with every client from the start, with this context.
        max_clients: With so many clients accepting pauses until one has ended: connections wait in
            the backlog. None for no limit.
        timeout: Seconds without any activity after which a client is ended; None for no limit.
        handshake_timeout: Seconds a TLS handshake may take.
        max_write_buffer: How many bytes may be unsent to a client that does not read; with more
            it is ended. None for no limit.
        on_prepare, backlog, reuse_port, dual_stack, sock: As for ``ae_socket.tcp_server``. *sock*
            is a socket that is bound already, by a service manager
            (``ae_socket.inherited_sockets``) or a parent process for example; *host* and *service*
            are None then.

    Returns:
        The server, listening. **Lifetime**: hold it. The handles need not be held: the server
        holds each until it ends.

        **When**: *handler* is never called inside this call.

    An exception of a handler ends its client only, and goes to ``ae_core.exception_hook``.
    A :class:`HandleError` by which the client itself has ended (it hung up, it was too slow,
    it sent nonsense) is no fault of the handler: it is logged at ``info``.

    Raises:
        TypeError, ValueError: If an argument is of the wrong kind.
        OSError: If the address cannot be had.
        TlsError: If no TLS session can be made with *tls_context*.

    Perl: ``tcp_server`` with an ``AnyEvent::Handle`` for each connection
    """
    if not callable(handler):
        raise TypeError(f"expected handler to be callable, got {handler!r}")
    if max_clients is not None:
        if isinstance(max_clients, bool) or not isinstance(max_clients, int):
            raise TypeError(f"expected max_clients as int or None, got {max_clients!r}")
        if max_clients < 1:
            raise ValueError(f"expected max_clients of 1 or more, got {max_clients!r}")
    options: dict[str, Any] = {
        "timeout": timeout,
        "handshake_timeout": handshake_timeout,
        "max_write_buffer": max_write_buffer,
    }
    if tls_context is not None:
        options |= {"tls": "accept", "tls_context": tls_context}
    _check_options(options)
    listen = {
        "host": host,
        "service": service,
        "on_prepare": on_prepare,
        "backlog": backlog,
        "reuse_port": reuse_port,
        "dual_stack": dual_stack,
        "sock": sock,
    }
    return Served(_Server(handler, max_clients, options, listen))


def _check_options(options: dict[str, Any]) -> None:
    """Refuse now, by a handle on a socket of our own, what every client's handle would refuse."""
    ours, theirs = socket.socketpair()
    with theirs, ours:
        Handle(ours, linger=0, **options).destroy()


Served.__module__ = serve.__module__ = "ae_handle"
