"""Every error a request ends with, in one tree.

Sans-I/O: definitions only::

    AEError (ae_core)
    ├── HttpError                 .phase says how far the request had come
    │   ├── ConnectionFailed      no connection could be made; an OSError
    │   ├── TlsFailed             the handshake failed, .reason says why
    │   ├── ProxyRefused          the proxy does not connect, .status says why
    │   ├── ConnectionLost        it ended before the response was complete; an OSError
    │   ├── BadResponse           what came is no HTTP/1.1, or contradicts itself
    │   │   └── ResponseTooLarge  it exceeds a limit
    │   ├── RequestTimedOut       a TimeoutError
    │   ├── RedirectRefused       more redirects than allowed, or one to nowhere
    │   ├── UploadFailed          the request body could not be produced as announced
    │   ├── StatusError           by raise_for_status(); .response
    │   ├── ClientClosed          the client was closed meanwhile
    │   ├── WebSocketRefused      the server does not speak WebSocket there; .response
    │   └── WebSocketClosed       it has ended; .code and .reason
    └── InvalidRequest            the caller's mistake, raised immediately; a ValueError
"""

from __future__ import annotations

__all__ = (
    "BadResponse",
    "ClientClosed",
    "ConnectionFailed",
    "ConnectionLost",
    "HttpError",
    "InvalidRequest",
    "Phase",
    "ProxyRefused",
    "RedirectRefused",
    "RequestTimedOut",
    "ResponseTooLarge",
    "StatusError",
    "TlsFailed",
    "UploadFailed",
    "WebSocketClosed",
    "WebSocketRefused",
)

import errno as _errno
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from ae_core import AEError

if TYPE_CHECKING:
    from ._response import Response, ResponseHead

Phase: TypeAlias = Literal["wait", "connect", "proxy", "tls", "head", "body", "done"]


class HttpError(AEError):
    """A request that has failed.

    Attributes:
        phase: How far it had come: ``wait`` (for a free connection), ``connect``, ``proxy``,
            ``tls``, ``head`` (sent, no response yet), ``body`` (response begun), ``done``.

    Perl: the pseudo status codes 595 to 599 of AnyEvent::HTTP
    """

    phase: Phase

    def __init__(self, message: str, *, phase: Phase = "head") -> None:
        super().__init__(message)
        self.phase = phase

    def __str__(self) -> str:
        return str(self.args[-1]) if self.args else ""


class ConnectionFailed(HttpError, OSError):
    """No connection to the server, or the proxy, could be made. ``errno`` says why."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        HttpError.__init__(self, message, phase="connect")
        self.errno = _errno.ECONNREFUSED if errno is None else errno


class TlsFailed(HttpError):
    """There is no secure connection to the server.

    Attributes:
        reason: Which check failed, as in :class:`ae_handle.TlsError`.
    """

    reason: str

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, phase="tls")
        self.reason = reason


class ProxyRefused(HttpError):
    """The proxy does not connect to the server.

    Attributes:
        status: What an HTTP proxy has answered, 407, say; None if it was no answer of HTTP.
    """

    status: int | None

    def __init__(self, message: str, *, status: int | None) -> None:
        super().__init__(message, phase="proxy")
        self.status = status


class ConnectionLost(HttpError, OSError):
    """The connection ended before the response was complete."""

    def __init__(
        self, message: str, *, phase: Phase = "head", errno: int = _errno.ECONNRESET
    ) -> None:
        HttpError.__init__(self, message, phase=phase)
        self.errno = errno


class BadResponse(HttpError):
    """The server sent something that is no HTTP/1.1, or that contradicts itself."""


class ResponseTooLarge(BadResponse):
    """The response exceeds a limit of the client."""


class RequestTimedOut(HttpError, TimeoutError):
    """A timeout of the request has passed; ``phase`` says in which."""

    def __init__(self, message: str, *, phase: Phase = "head") -> None:
        HttpError.__init__(self, message, phase=phase)
        self.errno = _errno.ETIMEDOUT


class RedirectRefused(HttpError):
    """There were more redirects than allowed, or one that cannot be followed."""


class UploadFailed(HttpError):
    """The request body could not be produced, or is not as long as its Content-Length says.

    ``__cause__`` is what the iterable raised, if it did.
    """


class StatusError(HttpError):
    """The response has a status of 400 or more; raised by ``raise_for_status``.

    Attributes:
        response: The response.
    """

    response: ResponseHead

    def __init__(self, message: str, response: ResponseHead) -> None:
        super().__init__(message, phase="done")
        self.response = response


class ClientClosed(HttpError):
    """The client was closed while the request was under way.

    Attributes:
        ended_by_program: True: not logged if it is never read.
    """

    ended_by_program: ClassVar[bool] = True


class WebSocketRefused(HttpError):
    """The server has answered with something else than WebSocket.

    Attributes:
        response: What it has answered, with its body.
    """

    response: Response

    def __init__(self, message: str, response: Response) -> None:
        super().__init__(message)
        self.response = response


class WebSocketClosed(HttpError):
    """A WebSocket has ended.

    Attributes:
        code: The status code of RFC 6455 7.4: what the server has said; or what it was told, if
            it broke the protocol or we have closed; 1005 if it said no code, 1006 if the
            connection was lost.
        reason: The text that the server has said.
    """

    code: int
    reason: str

    def __init__(self, message: str, code: int, reason: str) -> None:
        super().__init__(message, phase="done")
        self.code = code
        self.reason = reason


class InvalidRequest(AEError, ValueError):
    """What was asked for cannot be sent: a bad URL, method, header or body."""


# Where users import them from: what tracebacks and pickles say.
for _name in __all__:
    if _name != "Phase":
        globals()[_name].__module__ = "ae_http"
