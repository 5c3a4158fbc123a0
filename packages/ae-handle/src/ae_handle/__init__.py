"""Buffered, framed reads and writes on any event loop."""

from __future__ import annotations

__all__ = (
    "NEED_MORE",
    "BadMessage",
    "BufferLimitExceeded",
    "Cbor",
    "Chunk",
    "Handle",
    "HandleDestroyed",
    "HandleError",
    "HandleStatistics",
    "HandleTimedOut",
    "Json",
    "Line",
    "NeedMore",
    "NetString",
    "PackString",
    "Proxied",
    "ProxyHeader",
    "ReadBuffer",
    "Regex",
    "Served",
    "TlsAutostart",
    "TlsDetect",
    "TlsError",
    "TlsUnavailable",
    "TransportError",
    "UnexpectedEOF",
    "__version__",
    "ask_proxy",
    "register_frame_type",
    "relay",
    "serve",
)

from . import _foundation as _foundation

# isort: split

from ._buffers.read_buffer import NEED_MORE as NEED_MORE
from ._buffers.read_buffer import ReadBuffer as ReadBuffer
from ._errors import BadMessage as BadMessage
from ._errors import BufferLimitExceeded as BufferLimitExceeded
from ._errors import HandleDestroyed as HandleDestroyed
from ._errors import HandleError as HandleError
from ._errors import HandleTimedOut as HandleTimedOut
from ._errors import TlsError as TlsError
from ._errors import TlsUnavailable as TlsUnavailable
from ._errors import TransportError as TransportError
from ._errors import UnexpectedEOF as UnexpectedEOF
from ._handle import Handle as Handle
from ._protocol.registry import register_frame_type as register_frame_type
from ._proxy import ask_proxy as ask_proxy
from ._relay import relay as relay
from ._serving import Served as Served
from ._serving import serve as serve
from ._statistics import HandleStatistics as HandleStatistics
from ._version import __version__ as __version__
from .types import Cbor as Cbor
from .types import Chunk as Chunk
from .types import Json as Json
from .types import Line as Line
from .types import NetString as NetString
from .types import PackString as PackString
from .types import Proxied as Proxied
from .types import ProxyHeader as ProxyHeader
from .types import Regex as Regex
from .types import TlsAutostart as TlsAutostart
from .types import TlsDetect as TlsDetect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._buffers.read_buffer import NeedMore as NeedMore
else:

    def __getattr__(name):
        if name != "NeedMore":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ._buffers.read_buffer import NeedMore

        globals()[name] = NeedMore
        return NeedMore


for _type in (Cbor, Chunk, Json, Line, NetString, PackString, Regex, TlsAutostart, TlsDetect):
    _type.__module__ = "ae_handle.types"
Proxied.__module__ = ProxyHeader.__module__ = "ae_handle.types"
register_frame_type.__module__ = "ae_handle"
