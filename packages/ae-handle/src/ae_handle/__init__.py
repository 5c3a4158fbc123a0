"""Buffered, framed reads and writes on any event loop."""

from __future__ import annotations

__all__ = (
    "BadMessage",
    "BufferLimitExceeded",
    "HandleDestroyed",
    "HandleError",
    "HandleTimedOut",
    "TlsError",
    "TlsUnavailable",
    "TransportError",
    "UnexpectedEOF",
)

from ._errors import BadMessage as BadMessage
from ._errors import BufferLimitExceeded as BufferLimitExceeded
from ._errors import HandleDestroyed as HandleDestroyed
from ._errors import HandleError as HandleError
from ._errors import HandleTimedOut as HandleTimedOut
from ._errors import TlsError as TlsError
from ._errors import TlsUnavailable as TlsUnavailable
from ._errors import TransportError as TransportError
from ._errors import UnexpectedEOF as UnexpectedEOF
