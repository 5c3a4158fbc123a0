"""Content codings: gzip and deflate undone, a bounded piece at a time (RFC 9110 8.4.1).

Sans-I/O. A kilobyte can unpack to a megabyte, so the unpacked side is what is bounded: nobody gets
more than one piece before asking for the next, and ``decode_all`` stops at its limit.
"""

from __future__ import annotations

__all__ = ("ACCEPTED", "Decoder", "decode_all", "decoder_for")

from typing import TYPE_CHECKING, Any, Final

from ._errors import BadResponse, ResponseTooLarge

if TYPE_CHECKING:
    from ._headers import Headers

ACCEPTED: Final = "gzip, deflate"

_PIECE: Final = 65536
_GZIP_WINDOW: Final = 31  # 16 for the gzip wrapper, 15 for the window
_ZLIB_WINDOW: Final = 15


def decoder_for(headers: Headers) -> Decoder | None:
    """Return what undoes the content coding of a response; None if there is nothing to undo.

    A coding that we have not asked for is left alone.
    """
    coding = headers.get("content-encoding")
    if coding is None:
        return None
    coding = coding.strip().lower()
    if coding in ("gzip", "x-gzip"):
        return Decoder("gzip")
    return Decoder("deflate") if coding == "deflate" else None


class Decoder:
    """Undoes one content coding: fed with what arrives, read in pieces.

    Args:
        coding: ``gzip`` or ``deflate``.

    Example:
        >>> import zlib
        >>> decoder = Decoder("deflate")
        >>> decoder.feed(zlib.compress(b"hello"))
        >>> decoder.read()
        b'hello'
        >>> decoder.finish()
    """

    __slots__ = ("_coding", "_engine", "_left")

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._engine: Any = None
        self._left = b""

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._left = self._left + data if self._left else data

    def read(self) -> bytes:
        """Return the next piece, 64 KiB and a bit at most; ``b""`` if more has to arrive first.

        Raises:
            BadResponse: If the data is damaged.
        """
        import zlib

        while self._left:
            engine = self._engine
            if engine is None:
                engine = self._engine = zlib.decompressobj(self._window())
            try:
                piece: bytes = engine.decompress(self._left, _PIECE)
            except zlib.error as error:
                raise BadResponse(
                    f"the body is no valid {self._coding}: {error}", phase="body"
                ) from None
            if engine.eof:
                # another member may follow (RFC 1952 2.2); behind a zlib stream nothing does
                self._left = engine.unused_data if self._coding == "gzip" else b""
                if self._left:
                    self._engine = None
                    if not self._left.strip(b"\0"):
                        self._left = b""  # padding
                        self._engine = engine
            else:
                self._left = engine.unconsumed_tail
                if not self._left and len(piece) == _PIECE:
                    # what it took may unpack to more than it gave
                    piece += engine.decompress(b"", _PIECE)
            if piece:
                return piece
        return b""

    def finish(self) -> None:
        """Say that nothing more will arrive; call it when :meth:`read` has returned ``b""``.

        Raises:
            BadResponse: If the data ends in the middle.
        """
        if self._engine is not None and not self._engine.eof:
            raise BadResponse(f"the body ends in the middle of {self._coding}", phase="body")

    def _window(self) -> int:
        """Return zlib's parameter for what comes next."""
        if self._coding == "gzip":
            return _GZIP_WINDOW
        # "deflate" is the zlib format; some servers send it without the wrapper. A wrapper begins
        # with the method, 8, and is divisible by 31 (RFC 1950 2.2).
        first = self._left[:2]
        wrapped = first[0] & 15 == 8 and (len(first) < 2 or int.from_bytes(first, "big") % 31 == 0)
        return _ZLIB_WINDOW if wrapped else -_ZLIB_WINDOW


def decode_all(decoder: Decoder, data: bytes, limit: int | None) -> bytes:
    """Return *data*, which is the whole body, without its coding.

    Raises:
        BadResponse: If it is damaged or incomplete.
        ResponseTooLarge: If the result exceeds *limit*.
    """
    decoder.feed(data)
    pieces = []
    size = 0
    while piece := decoder.read():
        pieces.append(piece)
        size += len(piece)
        if limit is not None and size > limit:
            raise ResponseTooLarge(
                f"the body of the response unpacks to more than {limit} octets", phase="body"
            )
    decoder.finish()
    return b"".join(pieces)
