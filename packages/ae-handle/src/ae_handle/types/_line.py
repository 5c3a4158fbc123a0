"""The ``line`` frame type: text up to an end-of-line marker.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Line",)


from .._buffers.octets import octets
from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._immutable import Immutable
from ._patterns import check_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Final

    from .._buffers.match_length import Searchable
    from .._buffers.read_buffer import NeedMore

# Theory of operation
# -------------------
# The default accepts \n and \r\n, as the RFC 822 family wants, and searches for \n alone: that is
# several times faster than a regular expression. `ReadBuffer.find` remembers how far it got, so a
# peer that sends a 1 MB line one byte at a time does not make us scan it a million times.
#
# Lines are written with \r\n: what the same protocols want, and the only ending that lets a line
# which itself ends in \r arrive unchanged.

_LF: Final = b"\n"
_CRLF: Final = b"\r\n"


class Line(Immutable):
    r"""One line, without its marker.

    Args:
        eol: The end-of-line marker, exactly as sent, or a compiled pattern of :class:`bytes`,
            of ``re`` or of another engine that has ``search(data, pos)`` (see
            :class:`Regex`). None accepts both ``\n`` and ``\r\n`` when reading, where a lone
            ``\r`` is data, and writes ``\r\n``.

    Reads :class:`bytes`. The unfinished last line of a stream is never delivered. A pattern is
    tried whenever data arrives, so one that can match more when more is there (``\n+``) depends
    on how the stream was cut.

    Raises:
        TypeError: If *eol* is neither bytes nor a pattern of bytes.
        ValueError: If *eol* is empty.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> Line()(ReadBuffer(b"PING\r\nPONG"))
        b'PING'
        >>> Line().encode(b"PING")
        b'PING\r\n'

    Perl: ``$handle->push_read (line => [$eol,] $cb)``
    """

    __slots__ = ("eol",)

    eol: bytes | re.Pattern[bytes] | Searchable | None

    def __init__(self, eol: bytes | re.Pattern[bytes] | Searchable | None = None) -> None:
        if eol is not None and not isinstance(eol, bytes):
            check_pattern("eol", eol)
        elif eol == b"":
            raise ValueError("eol must not be empty")
        self._set(eol=eol)

    def __call__(self, buf: ReadBuffer, /) -> bytes | NeedMore:
        eol = self.eol
        if eol is None:
            end = buf.find(_LF)
            if end < 0:
                return NEED_MORE
            line = buf.take(end + 1)
            return line[:-2] if line.endswith(_CRLF) else line[:-1]
        if isinstance(eol, bytes):
            end = buf.find(eol)
            if end < 0:
                return NEED_MORE
            return buf.take(end + len(eol))[:end]
        match = buf.search(eol)
        if match is None:
            return NEED_MORE
        end, after = match.span()
        del match
        return buf.take(after)[:end]

    def encode(self, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return *value* and the marker.

        Raises:
            TypeError: If *value* is not bytes-like, or the marker is a pattern.
            ValueError: If *value* with its marker would read back as something else.
        """
        eol = self.eol
        if eol is None:
            eol = _CRLF
            inside = _LF
        elif isinstance(eol, bytes):
            inside = eol
        else:
            raise TypeError(f"a pattern cannot be written as a line's end: {eol!r}")
        line = octets(value) + eol
        if line.find(inside) != len(line) - len(inside):
            raise ValueError(f"the line contains its own end {inside!r}: {line!r}")
        return line
