"""An HTTP/1.1 client on any event loop: callbacks, blocking calls and await."""

from __future__ import annotations

__all__ = (
    "BadResponse",
    "Client",
    "ClientClosed",
    "ConnectionFailed",
    "ConnectionLost",
    "Headers",
    "HttpError",
    "InvalidRequest",
    "ProxyRefused",
    "RedirectRefused",
    "RequestOptions",
    "RequestTimedOut",
    "Response",
    "ResponseHead",
    "ResponseStream",
    "ResponseTooLarge",
    "StatusError",
    "TlsFailed",
    "UploadFailed",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketRefused",
    "__version__",
    "environment_proxy",
    "get",
    "head",
    "post",
    "request",
)

from ._client import Client as Client
from ._client import RequestOptions as RequestOptions
from ._client import get as get
from ._client import head as head
from ._client import post as post
from ._client import request as request
from ._errors import BadResponse as BadResponse
from ._errors import ClientClosed as ClientClosed
from ._errors import ConnectionFailed as ConnectionFailed
from ._errors import ConnectionLost as ConnectionLost
from ._errors import HttpError as HttpError
from ._errors import InvalidRequest as InvalidRequest
from ._errors import ProxyRefused as ProxyRefused
from ._errors import RedirectRefused as RedirectRefused
from ._errors import RequestTimedOut as RequestTimedOut
from ._errors import ResponseTooLarge as ResponseTooLarge
from ._errors import StatusError as StatusError
from ._errors import TlsFailed as TlsFailed
from ._errors import UploadFailed as UploadFailed
from ._errors import WebSocketClosed as WebSocketClosed
from ._errors import WebSocketRefused as WebSocketRefused
from ._headers import Headers as Headers
from ._proxy import environment_proxy as environment_proxy
from ._response import Response as Response
from ._response import ResponseHead as ResponseHead
from ._response import ResponseStream as ResponseStream
from ._version import __version__ as __version__
from ._websocket import WebSocket as WebSocket

environment_proxy.__module__ = __name__
