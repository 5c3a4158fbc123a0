"""Making a connection: TCP, a proxy's tunnel, TLS, in that order, as far as each is needed."""

from __future__ import annotations

__all__ = ("Connector", "Opening")

from collections.abc import Callable
from errno import ECONNRESET
from typing import TYPE_CHECKING, Any, TypeAlias

import ae_core as ae
import ae_socket
from ae_handle import Handle, HandleError, TlsError, ask_proxy

from ._errors import (
    ConnectionFailed,
    HttpError,
    Phase,
    ProxyRefused,
    RequestTimedOut,
    TlsFailed,
)
from ._proxy import tunnel_connector

if TYPE_CHECKING:
    from ._url import Target

#: Makes the stream to a host and port: ``connector(host, port) -> CondVar[stream]``.
Connector: TypeAlias = "Callable[[str, int], ae.CondVar[Any]]"

# For how long the close_notify of a connection that is not needed any more may take
_LINGER = 2.0


class Opening:
    """One attempt to reach a server.

    Args:
        target: The server.
        proxy: The proxy on the way, or None.
        tunnel: Whether the proxy is to connect us through, instead of asking in our place.
        tls_context: Whom to trust; None for the default of the installed engine.
        connector: Makes the stream instead of TCP, or None.
        timeout: Seconds for all of it together; None for no limit.
        user_agent: What we call ourselves to a proxy.
        opened: Called with the handle, on which no callbacks are set.
        failed: Called with the error instead.

    **When**: one of the two, once, from the loop. Nothing after :meth:`cancel`.
    """

    __slots__ = (
        "_asking",
        "_connecting",
        "_connector",
        "_failed",
        "_handle",
        "_opened",
        "_proxy",
        "_target",
        "_timer",
        "_tls_context",
        "_tunnel",
        "_user_agent",
        "phase",
    )

    phase: Phase

    def __init__(
        self,
        target: Target,
        *,
        proxy: Target | None,
        tunnel: bool,
        tls_context: Any,
        connector: Connector | None,
        timeout: float | None,
        user_agent: str,
        opened: Callable[[Handle], object],
        failed: Callable[[HttpError], object],
    ) -> None:
        self._target = target
        self._proxy = proxy
        self._tunnel = tunnel
        self._tls_context = tls_context
        self._connector = connector
        self._user_agent = user_agent
        self._opened: Callable[[Handle], object] | None = opened
        self._failed: Callable[[HttpError], object] = failed
        self._asking: ae.CondVar[None] | None = None
        self._handle: Handle | None = None
        self._connecting: ae.CondVar[Any] | None = None
        self.phase = "connect"
        self._timer = None
        if timeout is not None:
            self._timer = ae.timer(timeout, lambda: self._timed_out(timeout))
        server = target if proxy is None else proxy
        try:
            if connector is not None:
                self._connecting = connector(server.host, server.port)
                # never inside this call, even if it is ready
                ae.postpone(self._watch_connector)
                return
            self._handle = Handle(
                connect=(server.host, server.port),
                on_connect=self._connected,
                on_connect_error=self._refused,
                on_error=self._broken,
                no_delay=True,
                linger=_LINGER,
            )
        except Exception as error:  # of a connector, or about a name that cannot be one
            failure = ConnectionFailed(f"{server.authority}: {error}")
            failure.__cause__ = error
            ae.postpone(lambda: self._fail(failure))

    def cancel(self) -> None:
        """Give up; no callback runs."""
        self._opened = None
        if self._timer is not None:
            self._timer.cancel()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            connecting.on_ready(_close_stream)  # it may be there, and we have not looked yet
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        if self._handle is not None:
            self._handle.linger = 0
            self._handle.destroy()
            self._handle = None

    # ------------------------------------------------------------------ steps

    def _watch_connector(self) -> None:
        if self._connecting is not None:
            self._connecting.on_ready(self._connector_done)

    def _connector_done(self, connecting: ae.CondVar[Any]) -> None:
        if self._opened is None:
            return
        self._connecting = None
        server = self._target if self._proxy is None else self._proxy
        try:
            stream = connecting.recv()
            self._handle = Handle(
                stream, on_error=self._broken, peer_name=server.host, linger=_LINGER
            )
        except (Exception, ae.CancelledError) as error:
            failure = ConnectionFailed(
                f"{server.authority}: {error}", errno=getattr(error, "errno", None)
            )
            failure.__cause__ = error
            self._fail(failure)
            return
        self._connected(self._handle)

    def _connected(self, handle: Handle, *_: object) -> None:
        server = self._target if self._proxy is None else self._proxy
        if server.scheme == "https":
            self._secure(handle, self._server_secured)
        else:
            self._reached(handle)

    def _server_secured(self, handle: Handle, error: HandleError | None) -> None:
        if error is None:
            self._reached(handle)
        else:
            self._not_secured(error)

    def _reached(self, handle: Handle) -> None:
        """The first server, which may be a proxy, is there."""
        if self._proxy is None or not self._tunnel:
            self._finish(handle)
            return
        self.phase = "proxy"
        handle.on_error = _ask_tells  # the operation fails with it
        connector = tunnel_connector(self._proxy, self._user_agent)
        host = self._target.host.partition("%")[0]  # a zone has no meaning to the proxy
        self._asking = ask_proxy(handle, connector, host, self._target.port)
        self._asking.on_ready(self._asked)

    def _asked(self, asking: ae.CondVar[None]) -> None:
        """The proxy has opened the tunnel, or not."""
        handle = self._handle
        if asking is not self._asking or handle is None:
            return
        self._asking = None
        error = asking.error
        if error is None and not handle.read_buffer:
            handle.on_error = self._broken
            self._tunnelled(handle)
            return
        failure: HttpError
        if error is None:
            # the server cannot have spoken before we have: it is not the server that speaks
            where = self._target.authority
            failure = ProxyRefused(f"the proxy sent data into the tunnel to {where}", status=None)
        elif isinstance(error, ae_socket.ProxyRefused) and error.errno != ECONNRESET:
            is_http = self._proxy is not None and self._proxy.scheme in ("http", "https")
            failure = ProxyRefused(str(error.strerror), status=error.reply if is_http else None)
        else:
            text = getattr(error, "strerror", None) or str(error)
            failure = ConnectionFailed(text, errno=getattr(error, "errno", None))
            failure.phase = "proxy"
        failure.__cause__ = error
        self._fail(failure)

    def _tunnelled(self, handle: Handle) -> None:
        name = self._target.host
        if self._target.scheme != "https":
            self._finish(handle)
            return
        if handle.tls is None:
            handle.peer_name = name
        else:
            handle.on_error = None
            handle = self._handle = Handle(
                handle, on_error=self._broken, peer_name=name, linger=_LINGER
            )
        self._secure(handle, self._target_secured)

    def _target_secured(self, handle: Handle, error: HandleError | None) -> None:
        if error is None:
            self._finish(handle)
        else:
            self._not_secured(error)

    def _secure(self, handle: Handle, then: Callable[[Handle, HandleError | None], object]) -> None:
        self.phase = "tls"
        handle.on_tls_started = then
        try:
            handle.start_tls("connect", self._tls_context)
        except TlsError as error:
            self._not_secured(error)

    # ------------------------------------------------------------------ the end

    def _finish(self, handle: Handle) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._handle = None
        handle.clear_callbacks()
        opened(handle)

    def _refused(self, handle: Handle, error: HandleError) -> None:
        failure = ConnectionFailed(str(error), errno=error.errno)
        failure.__cause__ = error
        self._fail(failure)

    def _broken(self, handle: Handle, error: HandleError) -> None:
        failure = ConnectionFailed(str(error), errno=error.errno)
        failure.phase = self.phase
        failure.__cause__ = error
        self._fail(failure)

    def _not_secured(self, error: HandleError) -> None:
        failure = TlsFailed(str(error), reason=getattr(error, "reason", "protocol"))
        failure.__cause__ = error
        self._fail(failure)

    def _timed_out(self, seconds: float) -> None:
        self._fail(
            RequestTimedOut(f"no connection within {seconds:g} s ({self.phase})", phase=self.phase)
        )

    def _fail(self, error: HttpError) -> None:
        if self._opened is None:
            return
        failed = self._failed
        self.cancel()
        failed(error)


def _ask_tells(handle: Handle, error: HandleError) -> None:
    """Leave *error* to who awaits the proxy's answer."""


def _close_stream(connecting: ae.CondVar[Any]) -> None:
    """Close the stream that a connector has made and that is not wanted any more."""
    if not connecting.cancelled and connecting.error is None:
        connecting.recv().close()
