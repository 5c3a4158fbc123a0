"""Request bodies: bytes, or what an iterable gives, at the pace of the connection."""

from __future__ import annotations

__all__ = ("Upload", "UploadInput", "make_upload")

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ae_handle import NEED_MORE, Handle

from ._errors import InvalidRequest, UploadFailed

if TYPE_CHECKING:
    from ae_handle import NeedMore, ReadBuffer

Octets: TypeAlias = "bytes | bytearray | memoryview"
UploadInput: TypeAlias = "Octets | Iterable[Octets] | AsyncIterable[Octets] | Handle | None"

_PIECE: Final = 65536


def make_upload(body: Any, length: int | None) -> bytes | Upload | None:
    """Return what is to be sent for *body*: bytes, which can be sent again, or an upload.

    Args:
        length: What the caller has announced as Content-Length.

    Raises:
        TypeError: If *body* is of another kind; text has no bytes before it is encoded.
        InvalidRequest: If it is not as long as announced.
    """
    if body is None or isinstance(body, bytes):
        octets = body
    elif isinstance(body, (bytearray, memoryview)):
        octets = bytes(body)
    elif isinstance(body, str):
        raise TypeError(f"expected the body as bytes, got the text {body[:40]!r}: encode it")
    elif isinstance(body, (AsyncIterable, Iterable, Handle)) or callable(
        getattr(body, "read", None)
    ):
        return Upload(body, length)
    else:
        raise TypeError(f"expected the body as bytes, an iterable of bytes or a file, got {body!r}")
    if length is not None and length != len(octets or b""):
        raise InvalidRequest(
            f"expected a Content-Length of {len(octets or b'')}, as the body has, got {length}"
        )
    return octets


class Upload:
    """A body that is produced while it is sent; only once.

    Args:
        source: An iterable or asynchronous iterable of bytes, a file open for binary reading, or
            a handle, which is read to its end.
        length: How many bytes it will give; None sends it in chunks.
    """

    __slots__ = ("_complete", "_length", "_source", "_started")

    def __init__(self, source: Any, length: int | None) -> None:
        self._source = source
        self._length = length
        self._started = False
        self._complete = False

    @property
    def length(self) -> int | None:
        """How many bytes were announced."""
        return self._length

    @property
    def started(self) -> bool:
        """Whether anything was taken from the source: it cannot be sent again then."""
        return self._started

    @property
    def complete(self) -> bool:
        """Whether all bytes were handed to the connection."""
        return self._complete

    async def send(self, handle: Handle) -> None:
        """Send it all, waiting for the connection after each piece.

        Raises:
            UploadFailed: If the source raises, or gives something else than announced.
            HandleError: If the connection breaks.
        """
        self._started = True
        sent = 0
        pieces = self._pieces()
        try:
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    raise UploadFailed(f"the request body ended with {error!r}") from error
                if not isinstance(piece, (bytes, bytearray, memoryview)):
                    raise UploadFailed(f"expected pieces of the body as bytes, got {piece!r}")
                size = len(piece) if not isinstance(piece, memoryview) else piece.nbytes
                if not size:
                    continue
                sent += size
                if self._length is None:
                    handle.push_write(b"".join((b"%x\r\n" % size, piece, b"\r\n")))
                elif sent > self._length:
                    raise UploadFailed(
                        f"the body has more than {self._length} bytes, which were announced"
                    )
                else:
                    handle.push_write(piece)
                    self._complete = sent == self._length
                await handle.drained()
        finally:
            await pieces.aclose()
        if self._length is None:
            handle.push_write(b"0\r\n\r\n")
            self._complete = True
        elif sent < self._length:
            raise UploadFailed(f"the body has {sent} bytes, announced were {self._length}")

    async def _pieces(self) -> AsyncGenerator[Any, None]:
        source: Any = self._source
        if isinstance(source, Handle):
            source = source.each(_some)
        if isinstance(source, AsyncIterable):
            try:
                async for piece in source:
                    yield piece
            finally:
                # when it is given up half-way, a generator has to be closed now
                close = getattr(source, "aclose", None)
                if close is not None:
                    await close()
        elif hasattr(source, "read"):  # a file is iterable as well, by lines
            while piece := source.read(_PIECE):
                yield piece
        else:
            try:
                for piece in source:
                    yield piece
            finally:
                close = getattr(source, "close", None)
                if close is not None:
                    close()


def _some(buffer: ReadBuffer) -> bytes | NeedMore:
    """Read what has come."""
    return buffer.take(min(_PIECE, len(buffer))) if buffer else NEED_MORE
