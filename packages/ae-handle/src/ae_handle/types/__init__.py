"""The frame types: small immutable objects, used for reading and for writing.

``handle.push_read(Chunk(4), callback)`` reads one, ``handle.push_write(Json(), value)`` writes
one. Those that need no parameter also go by name: ``handle.push_read("json", callback)``.
"""

from __future__ import annotations

__all__ = (
    "Cbor",
    "Chunk",
    "Json",
    "Line",
    "NetString",
    "PackString",
    "Proxied",
    "ProxyHeader",
    "Regex",
    "TlsAutostart",
    "TlsDetect",
)

from ._cbor import Cbor as Cbor
from ._chunk import Chunk as Chunk
from ._json import Json as Json
from ._line import Line as Line
from ._netstring import NetString as NetString
from ._packstring import PackString as PackString
from ._proxy import Proxied as Proxied
from ._proxy import ProxyHeader as ProxyHeader
from ._regex import Regex as Regex
from ._tls_detect import TlsAutostart as TlsAutostart
from ._tls_detect import TlsDetect as TlsDetect
