"""Message bodies as they come off the wire: by length, in chunks, or until the end (RFC 9112 6, 7).

Sans-I/O: bytes in, bytes out. A body takes everything that is its own, however it is cut up, and
says where the next message begins; so nothing of it is ever looked at twice.
"""

from __future__ import annotations

__all__ = ("Body", "ChunkedBody", "CloseBody", "LengthBody")

import re
from typing import Final, Protocol

from ._errors import BadResponse, ResponseTooLarge

# Theory of operation
# -------------------
# `feed(data, pos)` returns (payload, next position). Payload is one slice of *data* where that is
# possible, so the bytes of a body are copied once. Only the lines between chunks may have to
# wait for their rest; they are kept here, and are short: more than `_MAX_LINE` is an error. While
# one is incomplete, it is looked at when it is twice as long as at the last time. Chunk extensions
# mean nothing to us and are dropped. A line ends in CRLF and nothing else: a reader that takes a
# bare LF for one sees other chunks than a proxy in between (RFC 9112 11.2).

_MAX_LINE: Final = 4096
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")
_SIZE_SO_FAR: Final = re.compile(rb"[0-9A-Fa-f]{0,16}[ \t]*(?:;[\t -~\x80-\xff]*)?\r?")


class Body(Protocol):
    """What the three kinds have in common.

    Attributes:
        done: Whether the end was seen.
        trailers: The bytes of the trailer section, without the line that ends it.
    """

    done: bool

    @property
    def trailers(self) -> bytes:
        """See above."""
        ...

    def feed(self, data: bytes, pos: int) -> tuple[bytes, int]:
        """Take what belongs to the body from *pos* on; return the payload and where it ended."""
        ...

    def eof(self) -> bool:
        """The connection has ended; return whether the body is complete."""
        ...


class LengthBody:
    """A body of a known length.

    Args:
        length: How many bytes.
    """

    __slots__ = ("done", "left", "trailers")

    def __init__(self, length: int) -> None:
        self.left: int = length
        self.done: bool = not length
        self.trailers: bytes = b""

    def feed(self, data: bytes, pos: int) -> tuple[bytes, int]:
        """See :class:`Body`."""
        left = self.left
        end = pos + left
        size = len(data)
        if end <= size:
            self.left = 0
            self.done = True
            return (data if end == size and not pos else data[pos:end]), end
        self.left = end - size
        return (data[pos:] if pos else data), size

    def eof(self) -> bool:
        """See :class:`Body`."""
        return self.done


class CloseBody:
    """A body that ends with the connection."""

    __slots__ = ("done", "trailers")

    def __init__(self) -> None:
        self.done: bool = False
        self.trailers: bytes = b""

    def feed(self, data: bytes, pos: int) -> tuple[bytes, int]:
        """See :class:`Body`."""
        return (data[pos:] if pos else data), len(data)

    def eof(self) -> bool:
        """See :class:`Body`."""
        self.done = True
        return True


class ChunkedBody:
    """A body in chunks, and the trailer section behind them.

    Args:
        max_trailers: The most bytes in the trailer section.
    """

    __slots__ = ("_left", "_line", "_looked_at", "_max_trailers", "_state", "_trailers", "done")

    _SIZE: Final = 0  # a line with a size comes next
    _DATA: Final = 1  # _left bytes of a chunk
    _END: Final = 2  # the CRLF behind a chunk
    _TRAILERS: Final = 3  # lines, the empty one ends it all

    def __init__(self, max_trailers: int = 65536) -> None:
        self._max_trailers = max_trailers
        self._state: int = self._SIZE
        self._left = 0
        self._line = bytearray()
        self._looked_at = 0  # how much of that
        self._trailers = bytearray()
        self.done: bool = False

    @property
    def trailers(self) -> bytes:
        """See :class:`Body`."""
        return bytes(self._trailers)

    def feed(self, data: bytes, pos: int) -> tuple[bytes, int]:
        """See :class:`Body`.

        Raises:
            BadResponse: If this is no chunked coding.
            ResponseTooLarge: If a line, or the trailer section, is too long.
        """
        if self._line:
            if self._state != self._END and data.find(b"\n", pos) < 0:
                self._line += memoryview(data)[pos:]
                self._check_line()
                return b"", len(data)
            data = bytes(self._line) + data[pos:]
            shift = pos - len(self._line)  # positions in data, seen from the caller's
            self._line = bytearray()
            pos = 0
        else:
            shift = 0
        pieces: list[bytes] = []
        size = len(data)
        while pos < size:
            state = self._state
            if state == self._DATA:
                end = pos + self._left
                if end > size:
                    pieces.append(data[pos:])
                    self._left = end - size
                    pos = size
                    break
                pieces.append(data[pos:end])
                pos = end
                self._state = state = self._END
            if state == self._END:
                if not data.startswith(b"\r\n", pos):
                    if size - pos >= 2 or data[pos : pos + 1] not in (b"\r", b""):
                        raise BadResponse(
                            f"expected CRLF behind a chunk, got {data[pos : pos + 20]!r}",
                            phase="body",
                        )
                    break
                pos += 2
                self._state = state = self._SIZE
            if state == self._SIZE:
                match = _CHUNK_SIZE.match(data, pos)
                if match is None:
                    _check_size(data[pos : pos + _MAX_LINE + 1])
                    break
                if match.end() - pos > _MAX_LINE:
                    raise _long_line()
                pos = match.end()
                self._left = int(match[1], 16)
                self._state = self._DATA if self._left else self._TRAILERS
            elif state == self._TRAILERS:
                end = data.find(b"\n", pos) + 1
                self._check_trailers((end or size) - pos)
                if not end:
                    break
                line = data[pos:end]
                pos = end
                if line in (b"\r\n", b"\n"):
                    self.done = True
                    break
                self._trailers += line
        if pos < size and not self.done:
            self._line += memoryview(data)[pos:]
            self._looked_at = size - pos
            pos = size
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return payload, pos + shift

    def _check_line(self) -> None:
        """Raise unless what is there of a line can still become one."""
        size = len(self._line)
        if self._state == self._TRAILERS:
            self._check_trailers(size)
        elif size > _MAX_LINE:
            raise _long_line()
        elif size < 64 or size >= 2 * self._looked_at:
            self._looked_at = size
            _check_size(bytes(self._line))

    def _check_trailers(self, more: int) -> None:
        if len(self._trailers) + more > self._max_trailers:
            raise ResponseTooLarge(
                f"the trailer section has more than {self._max_trailers} bytes", phase="body"
            )

    def eof(self) -> bool:
        """See :class:`Body`."""
        return self.done


def _check_size(line: bytes) -> None:
    """Raise unless the incomplete *line* can still become one with a size."""
    if not _SIZE_SO_FAR.fullmatch(line):
        raise BadResponse(f"expected the size of a chunk, got {line[:40]!r}", phase="body")
    if len(line) > _MAX_LINE:
        raise _long_line()


def _long_line() -> ResponseTooLarge:
    return ResponseTooLarge(
        f"the line before a chunk has more than {_MAX_LINE} bytes", phase="body"
    )
