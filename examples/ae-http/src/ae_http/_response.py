"""What a request gives: the head of the response, and its body whole or piece by piece."""

from __future__ import annotations

__all__ = ("Response", "ResponseHead", "ResponseStream")

from _thread import get_ident
from typing import TYPE_CHECKING, Any

from ae_core.console import printable

from ._errors import StatusError
from ._scope import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ae_core import CondVar

    from ._headers import Headers
    from ._message import Head
    from ._operation import Operation


class ResponseHead:
    """The status and the header fields of a response.

    Attributes:
        status: The status code.
        reason: The text behind it.
        http_version: ``"1.1"`` or ``"1.0"``.
        headers: The header fields.
        url: Where it came from, after all redirects.
        history: The responses that redirected here, the first one first.
    """

    __slots__ = ("headers", "history", "http_version", "reason", "status", "url")

    def __init__(self, head: Head, url: str, history: tuple[ResponseHead, ...]) -> None:
        self.status: int = head.status
        self.reason: str = head.reason
        self.http_version: str = "1.1" if head.minor else "1.0"
        self.headers: Headers = head.headers
        self.url: str = url
        self.history: tuple[ResponseHead, ...] = history

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    def raise_for_status(self) -> Self:
        """Return the response itself if :attr:`ok`.

        Raises:
            StatusError: If it is not.
        """
        if self.status >= 400:
            raise StatusError(f"{self.status} {printable(self.reason)} for {self.url}", self)
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {printable(self.reason)} {self.url}>"


class Response(ResponseHead):
    """A whole response.

    Attributes:
        body: The body, without content coding; empty if it went to ``on_data``.
        trailers: The fields behind a body in chunks, if there were some.
    """

    __slots__ = ("body", "trailers")

    def __init__(
        self,
        head: Head,
        url: str,
        history: tuple[ResponseHead, ...],
        body: bytes,
        trailers: Headers | None,
    ) -> None:
        super().__init__(head, url, history)
        self.body: bytes = body
        self.trailers: Headers | None = trailers

    @property
    def text(self) -> str:
        """The body as text, in the character set that Content-Type names, else UTF-8.

        What cannot be decoded becomes U+FFFD.
        """
        charset = _parameter(self.headers.get("content-type") or "", "charset") or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except (LookupError, ValueError):  # unknown, or no coding of text at all
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body, decoded as JSON.

        Raises:
            ValueError: If it is not JSON.
        """
        import json

        return json.loads(self.body)


class ResponseStream(ResponseHead, Scope):
    """A response whose body is taken piece by piece.

    ``async for piece in stream``; or ``for piece in stream`` in a blocking program; or
    :meth:`read` for one piece at a time. No more is read from the server than is taken, but for
    about 256 KiB. Breaking off closes the connection: leave ``with`` or ``async with``, call
    :meth:`cancel`, or forget the stream.

    Attributes:
        trailers: The fields behind a body in chunks; None before its end.
    """

    __slots__ = ("_operation", "_thread")

    def __init__(
        self, head: Head, url: str, history: tuple[ResponseHead, ...], operation: Operation
    ) -> None:
        super().__init__(head, url, history)
        self._operation = operation
        self._thread = get_ident()

    @property
    def trailers(self) -> Headers | None:
        """The fields behind a body in chunks."""
        return self._operation.trailers

    def read(self) -> CondVar[bytes]:
        """Ask for the next piece, of any size; ``b""`` is the end.

        Raises:
            HttpError: Through the condition variable, if the rest cannot be had.
            RuntimeError: If the piece asked for before is not there yet.
        """
        return self._operation.next_piece()

    def read_all(self) -> CondVar[bytes]:
        """Ask for the rest of the body.

        Raises:
            ResponseTooLarge: Through the condition variable, if it exceeds ``max_body``.
        """
        return self._operation.remaining()

    def cancel(self) -> None:
        """Give up the rest of the body, and with it the connection. Idempotent.

        Who waits for a piece gets a :class:`ae_core.CancelledError`.
        """
        self._operation.cancel_stream()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read().recv():
            yield piece

    def _leave(self) -> None:
        self.cancel()

    def __del__(self) -> None:
        if get_ident() == self._thread:
            self._operation.cancel_stream()


def _parameter(value: str, name: str) -> str | None:
    """Return a parameter of a header value such as Content-Type."""
    for part in value.split(";")[1:]:
        key, _, given = part.partition("=")
        if key.strip().lower() == name:
            return given.strip(" \t\"'")
    return None


for _type in (Response, ResponseHead, ResponseStream):
    _type.__module__ = "ae_http"
