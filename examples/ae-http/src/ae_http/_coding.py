"""Content codings: gzip and deflate undone, a bounded piece at a time (RFC 9110 8.4).

Sans-I/O. A kilobyte can unpack to a megabyte, so the unpacked side is what is bounded: a caller
gets one piece before it asks for the next, and ``decode_all`` stops at its limit.
"""

from __future__ import annotations

__all__ = ("ACCEPTED", "Chain", "Decoder", "Decoding", "Unknown", "decode_all", "decoder_for")

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from ._errors import BadResponse, ResponseTooLarge

if TYPE_CHECKING:
    from ._headers import Headers

# Theory of operation
# -------------------
# zlib gives back what it has not used as a copy. A member of a gzip body may be 20 bytes, so
# giving it all that is there each time would copy a body of 1 MB 50,000 times; it gets a window
# of a few KiB, which grows as the member does.
#
# Codings can be stacked, and each can blow up what the next one gets. What the last one gives is
# bounded by who reads; what passes between two of them must not be more than that is worth.

ACCEPTED: Final = "gzip, deflate"

_PIECE: Final = 65536
_WINDOW: Final = 8192
_GZIP_WINDOW: Final = 31  # 16 for the gzip wrapper, 15 for the window
_ZLIB_WINDOW: Final = 15
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"

_NAMES: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
# How many codings may lie above each other; one is enough in practice
_MOST: Final = 5
# What may pass between two codings without a result. Packing makes nothing longer than this says.
_IDLE: Final = 1 << 20


class Decoding(Protocol):
    """What the kinds of decoders have in common."""

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        ...

    def read(self) -> bytes:
        """Return the next piece; ``b""`` if more has to arrive first."""
        ...

    def finish(self) -> None:
        """Say that nothing more will arrive; call it when :meth:`read` has returned ``b""``."""
        ...


def decoder_for(headers: Headers) -> Decoding | None:
    """Return what undoes the content codings of a response; None if there is nothing to undo.

    Several stand in the order in which they were applied (RFC 9110 8.4); ``identity`` is none.
    """
    value = headers.get("content-encoding")
    if value is None:
        return None
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if len(codings) > _MOST:
        return Unknown(f"expected {_MOST} content codings or fewer, got {len(codings)}")
    decoding: Decoding | None = None
    for coding in reversed(codings):
        name = _NAMES.get(coding)
        if name is None:
            return Unknown(f"the body has the content coding {coding[:40]!r}, which we do not know")
        decoding = Decoder(name) if decoding is None else Chain(decoding, Decoder(name))
    return decoding


class Decoder:
    """Undoes one content coding: fed with what arrives, read in pieces.

    What follows behind the end of the data is ignored, as all clients do, unless it is another
    member of a gzip file (RFC 1952 2.2).

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

    __slots__ = ("_coding", "_engine", "_inputs", "_over", "_pos", "_window")

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._engine: Any = None
        self._inputs: deque[bytes] = deque()
        self._pos = 0  # how much of the first input was used
        self._window = 0
        self._over = False  # the rest is nothing of ours

    def feed(self, data: bytes) -> None:
        """See :class:`Decoding`."""
        if data and not self._over:
            self._inputs.append(data)

    def read(self) -> bytes:
        """Return the next piece, 64 KiB and a bit at most; ``b""`` if more has to arrive first.

        Raises:
            BadResponse: If the data is damaged.
        """
        import zlib

        inputs = self._inputs
        while inputs:
            engine = self._engine
            if engine is None or engine.eof:
                if not self._begin():
                    break
                engine = self._engine
            with memoryview(inputs[0])[self._pos : self._pos + self._window] as window:
                size = len(window)
                try:
                    piece: bytes = engine.decompress(window, _PIECE)
                except zlib.error as error:
                    raise BadResponse(
                        f"the body is no valid {self._coding}: {error}", phase="body"
                    ) from None
            unused = len(engine.unused_data if engine.eof else engine.unconsumed_tail)
            if not unused and len(piece) == _PIECE:
                # what it took may unpack to more than it gave
                piece += engine.decompress(b"", _PIECE)
                unused = len(engine.unused_data)
            self._pos += size - unused
            if self._pos == len(inputs[0]):
                inputs.popleft()
                self._pos = 0
            self._window = min(2 * self._window, _PIECE)
            if piece:
                return piece
        return b""

    def finish(self) -> None:
        """Say that nothing more will arrive; call it when :meth:`read` has returned ``b""``.

        Raises:
            BadResponse: If the data ends in the middle.
        """
        engine = self._engine
        if self._inputs if engine is None else not engine.eof:
            raise BadResponse(f"the body ends in the middle of {self._coding}", phase="body")

    def _begin(self) -> bool:
        """Make an engine for what comes next, if it is ours; return whether there is one."""
        import zlib

        if self._engine is not None:  # behind the end of a member
            head = self._head(len(_GZIP_MAGIC)) if self._coding == "gzip" else b"no other"
            if head == _GZIP_MAGIC:
                window = _GZIP_WINDOW
            elif _GZIP_MAGIC.startswith(head):
                return False  # too early to tell
            else:
                self._over = True
                self._inputs.clear()
                return False
        elif self._coding == "gzip":
            window = _GZIP_WINDOW
        else:
            # "deflate" is the zlib format; some servers send it without the wrapper. A wrapper
            # begins with the method, 8, and is divisible by 31 (RFC 1950 2.2).
            head = self._head(2)
            if len(head) < 2:
                return False
            wrapped = head[0] & 15 == 8 and int.from_bytes(head, "big") % 31 == 0
            window = _ZLIB_WINDOW if wrapped else -_ZLIB_WINDOW
        self._engine = zlib.decompressobj(window)
        self._window = _WINDOW
        return True

    def _head(self, size: int) -> bytes:
        """Return the next *size* bytes, or fewer if there are fewer."""
        inputs = self._inputs
        while len(inputs) > 1 and len(inputs[0]) - self._pos < size:
            first = inputs.popleft()[self._pos :]
            inputs[0] = first + inputs[0]
            self._pos = 0
        return inputs[0][self._pos : self._pos + size]


class Chain:
    """Undoes a coding, and then the one below it.

    Args:
        outer: Undone first.
        inner: Gets what that gives.
    """

    __slots__ = ("_between", "_given", "_inner", "_outer")

    def __init__(self, outer: Decoding, inner: Decoder) -> None:
        self._outer = outer
        self._inner = inner
        self._between = 0
        self._given = 0

    def feed(self, data: bytes) -> None:
        """See :class:`Decoding`."""
        self._outer.feed(data)

    def read(self) -> bytes:
        """See :class:`Decoding`.

        Raises:
            BadResponse: If the data is damaged, or unpacks to what unpacks to nothing.
        """
        while not (piece := self._inner.read()):
            packed = self._outer.read()
            if not packed:
                return b""
            self._between += len(packed)
            if self._between > 2 * self._given + _IDLE:
                raise BadResponse(
                    f"the body unpacks to {self._between} bytes, and those to {self._given} only",
                    phase="body",
                )
            self._inner.feed(packed)
        self._given += len(piece)
        return piece

    def finish(self) -> None:
        """See :class:`Decoding`.

        Raises:
            BadResponse: If the data ends in the middle.
        """
        self._outer.finish()
        self._inner.finish()


class Unknown:
    """Stands for codings that cannot be undone: refuses a body, unless it is empty.

    Args:
        why: What to say.
    """

    __slots__ = ("_fed", "_why")

    def __init__(self, why: str) -> None:
        self._why = why
        self._fed = False

    def feed(self, data: bytes) -> None:
        """See :class:`Decoding`."""
        self._fed = self._fed or bool(data)

    def read(self) -> bytes:
        """See :class:`Decoding`.

        Raises:
            BadResponse: If there is anything to read.
        """
        if self._fed:
            raise BadResponse(f"{self._why}: decode=False gives it as it is", phase="body")
        return b""

    def finish(self) -> None:
        """See :class:`Decoding`."""


def decode_all(decoder: Decoding, data: bytes, limit: int | None) -> bytes:
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
                f"the body of the response unpacks to more than {limit} bytes", phase="body"
            )
    decoder.finish()
    return b"".join(pieces)
