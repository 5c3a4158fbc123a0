"""What one call of the user is about: a request, its redirects and second attempts, its result."""

from __future__ import annotations

__all__ = ("Operation", "Options")

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import ae_core as ae

from ._coding import Decoding, decoder_for
from ._cookies import take_cookies
from ._errors import (
    ConnectionLost,
    HttpError,
    InvalidRequest,
    Phase,
    RedirectRefused,
    RequestTimedOut,
    ResponseTooLarge,
)
from ._proxy import ProxyChoice, choose_proxy, is_tunnel
from ._redirect import follow, is_redirect, public
from ._request import Request, make_request
from ._response import Response, ResponseHead, ResponseStream

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from ae_handle import Handle

    from ._connection import Connection
    from ._headers import Headers
    from ._message import Head
    from ._pool import Host, Pool
    from ._url import Target

# Theory of operation
# -------------------
# An operation lives until it is done, held or not: it is pending, so the loop holds it. It
# ends by `_finish` or `_fail`, once. Its condition variable may be cancelled at any time, also by
# its last awaiter's being cancelled; then its connection is given up, and no callback runs.
#
# A stream is an interest: the operation does not hold it, and ends when it is forgotten. Pieces
# that were not taken wait here, still packed; with more than `_HIGH` bytes the connection is told
# to pause.

_HIGH: Final = 262_144
_LOW: Final = 65_536
_RETRIES: Final = 3
# How much of the body of a redirect is worth reading, to keep the connection
_SKIP: Final = 65_536


class Options:
    """How a request is to be made and answered; see ``Client.request``."""

    __slots__ = (
        "decode",
        "expect_continue",
        "max_body",
        "max_redirects",
        "mode",
        "on_data",
        "on_head",
        "proxy",
        "read_timeout",
        "timeout",
    )

    def __init__(
        self,
        mode: Literal["whole", "stream", "switch"],
        *,
        timeout: float | None,
        read_timeout: float | None,
        max_redirects: int,
        max_body: int | None,
        decode: bool,
        proxy: ProxyChoice,
        expect_continue: float | None = None,
        on_head: Callable[[ResponseHead], object] | None = None,
        on_data: Callable[[bytes], object] | None = None,
    ) -> None:
        self.mode = mode
        self.timeout = timeout
        self.read_timeout = read_timeout
        self.max_redirects = max_redirects
        self.max_body = max_body
        self.decode = decode
        self.proxy = proxy
        self.expect_continue = expect_continue
        self.on_head = on_head
        self.on_data = on_data


class Operation:
    """A request under way.

    Args:
        pool: Where it gets its connection.
        request: What is asked for first.
        proxy: The proxy on the way there.
        options: The rest.

    Attributes:
        condvar: Of the response; ready when the operation has ended, or the stream begun.
        request: What is being asked for now.
        connection: Where, if it was sent.
    """

    __slots__ = (
        "_decoder",
        "_done",
        "_ended",
        "_error",
        "_head",
        "_history",
        "_mark",
        "_options",
        "_origin",
        "_pieces",
        "_pool",
        "_redirect",
        "_retries",
        "_size",
        "_timer",
        "_unpacked",
        "_untaken",
        "_waiting",
        "condvar",
        "connection",
        "host",
        "proxy",
        "read_timeout",
        "request",
        "switching",
        "trailers",
    )

    def __init__(
        self, pool: Pool, request: Request, proxy: Target | None, options: Options
    ) -> None:
        self._pool = pool
        self.request: Request = request
        self._origin = request.target.origin  # the client's credentials are for this one
        self.proxy: Target | None = proxy
        self._options = options
        self.read_timeout: float | None = options.read_timeout
        self.switching: bool = options.mode == "switch"
        self.connection: Connection | None = None
        self.host: Host | None = None
        self.trailers: Headers | None = None
        self._head: Head | None = None
        self._redirect: Head | None = None
        self._history: tuple[ResponseHead, ...] = ()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._decoder: Decoding | None = None
        self._unpacked = 0
        self._retries = 0
        self._done = False  # nothing is wanted from the network any more
        self._ended = False  # the body is complete
        self._error: HttpError | None = None
        self._waiting: ae.CondVar[bytes] | None = None
        self._untaken = b""  # a piece that comes before the others
        self.condvar: ae.CondVar[Any] | None = ae.CondVar(
            cancel=self._cancelled,
            untaken=None if options.mode == "whole" else _close_untaken,
        )
        timeout = options.timeout
        self._timer = None if timeout is None else ae.timer(timeout, self._timed_out)
        self._mark = ae.pending(self)  # the loop keeps us until we have ended

    def start(self) -> None:
        """Begin; not before the caller has the condition variable."""
        self._pool.acquire(self)

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return "wait" if self.connection is None else self.connection.phase

    # ------------------------------------------------------------------ callbacks of the connection

    def got_head(self, head: Head) -> None:
        """The response has begun."""
        options = self._options
        if self._pool.cookies is not None:
            self._take_cookies(self._pool.cookies, head.headers)
        if options.max_redirects and is_redirect(head.status, head.headers):
            self._redirect = head
            self._size = 0
            return
        if head.status == 417 and self.request.may_drop_expectation:
            self._drop_connection()
            self.request = self.request.without_expectation()
            self._pool.acquire(self)
            return
        self._head = head
        if options.decode and self.request.method != "HEAD":
            self._decoder = decoder_for(head.headers)
        if options.mode == "stream":
            stream = ResponseStream(head, self.request.target.url, self._history, self)
            condvar, self.condvar = self.condvar, None  # or the two would hold each other
            if condvar is not None:
                condvar.send(stream)
            return
        if options.on_head is not None:
            self._call(options.on_head, ResponseHead(head, self.request.target.url, self._history))
        length = head.headers.get("content-length")
        if (
            options.max_body is not None
            and options.on_data is None
            and length is not None
            and length.isdecimal()
            and int(length) > options.max_body
            and self.request.method != "HEAD"
            and not self._done
        ):
            self._give_up(
                ResponseTooLarge(
                    f"the body of the response has {length} bytes, max_body is {options.max_body}",
                    phase="body",
                )
            )

    def _take_cookies(self, jar: CookieJar, headers: Headers) -> None:
        """Tell the program's jar; what it raises goes where the exceptions of callbacks go."""
        try:
            take_cookies(jar, self.request.target, headers)
        except BaseException as error:
            ae.report_error(error)

    def got_data(self, data: bytes) -> None:
        """A piece of the body has come."""
        options = self._options
        if self._redirect is not None:
            self._size += len(data)
            if self._size > _SKIP:
                self._drop_connection()
                self._follow()
        elif options.mode == "stream":
            self._pieces.append(data)
            self._size += len(data)
            if self._waiting is not None:
                self._serve()
            if self._size > _HIGH and self.connection is not None:
                self.connection.pause()
        elif self._decoder is not None:
            self._size += len(data)
            self._unpack(data, self._decoder)
        elif options.on_data is not None:
            self._call(options.on_data, data)
        else:
            self._size += len(data)
            if options.max_body is not None and self._size > options.max_body:
                self._give_up(_too_large("has", options.max_body))
                return
            self._pieces.append(data)

    def _unpack(self, data: bytes, decoder: Decoding) -> None:
        """Undo the coding of a piece of the body, now: all of it at the end could take long."""
        options = self._options
        limit = options.max_body
        decoder.feed(data)
        try:
            while not self._done and (piece := decoder.read()):
                if options.on_data is not None:
                    self._call(options.on_data, piece)
                    continue
                self._unpacked += len(piece)
                if limit is not None and self._unpacked > limit:
                    raise _too_large("unpacks to", limit)
                self._pieces.append(piece)
            if limit is not None and options.on_data is None and self._size > limit:
                raise _too_large("has", limit)
        except HttpError as error:
            self._give_up(error)

    def got_end(self, trailers: Headers | None) -> None:
        """The response is complete, and the connection serves another request."""
        self.connection = None
        if self._redirect is not None:
            self._follow()
            return
        head = self._head
        if self._done or head is None:
            return
        self.trailers = trailers
        if self._options.mode == "stream":
            self._ended = True
            self._quit()
            if self._waiting is not None:
                self._serve()
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._decoder is not None:
            try:
                self._decoder.finish()
            except HttpError as error:
                self._fail(error)
                return
        self._finish(
            Response(head, self.request.target.url, self._history, body, trailers)
            if self._options.mode == "whole"
            else (Response(head, self.request.target.url, self._history, body, trailers), None)
        )

    def got_switch(self, handle: Handle) -> None:
        """The server speaks another protocol now, on *handle*, which is the user's."""
        self.connection = None
        head = self._head
        if self._done or head is None:
            handle.destroy()
            return
        response = Response(head, self.request.target.url, self._history, b"", None)
        self._finish((response, handle))

    def failed(self, error: HttpError, *, stale: bool, blamed: bool = True) -> None:
        """The connection has ended, or there is none."""
        self.connection = None
        if self._done:
            return
        if self._redirect is not None and isinstance(error, ConnectionLost):
            self._follow()  # where to go was said; the rest was only a text to read
            return
        if stale and self._may_repeat():
            self._retries += blamed  # else there was progress for others: it will end, too
            self._pool.acquire(self, fresh=True)
            return
        self._fail(error)

    def _may_repeat(self) -> bool:
        """Whether asking again does no harm, and is still wanted."""
        return (
            self.request.may_repeat
            and self._retries < _RETRIES
            and self._head is None
            and self._redirect is None
        )

    # ------------------------------------------------------------------ redirects

    def _follow(self) -> None:
        head, self._redirect = self._redirect, None
        if head is None or self._done:
            return
        request = self.request
        options = self._options
        self._history = (
            *self._history,
            ResponseHead(head, request.target.url, self._history),
        )
        self._size = 0
        self._retries = 0
        try:
            if len(self._history) > options.max_redirects:
                raise RedirectRefused(f"more than {options.max_redirects} redirects", phase="done")
            method, target, fields, with_body = follow(
                head.status,
                _location(head.headers),
                request.method,
                request.target,
                request.fields,
            )
            if target.origin == request.target.origin:  # the user in a URL is for its origin, too
                target = target._replace(credentials=request.target.credentials)
            proxy = self.proxy = choose_proxy(options.proxy, target)
            if proxy is not None and is_tunnel(proxy, target, switching=False):
                proxy = None
            defaults = self._pool.defaults
            self.request = make_request(
                method,
                target,
                fields,
                request.body if with_body else None,
                defaults if target.origin == self._origin else public(defaults),
                proxy=proxy,
                close=not self._pool.keeps,
                expect=options.expect_continue,
                cookies=self._pool.cookies,
            )
        except InvalidRequest as error:
            self._fail(RedirectRefused(f"a redirect that cannot be followed: {error}"))
            return
        except HttpError as error:
            self._fail(error)
            return
        except BaseException as error:  # of the program's: what chooses the proxy, or its cookies
            failure = RedirectRefused(f"a redirect that cannot be followed: {error!r}")
            failure.__cause__ = error
            self._fail(failure)
            if not isinstance(error, Exception):
                raise
            return
        self._pool.acquire(self)

    # ------------------------------------------------------------------ the stream

    def next_piece(self) -> ae.CondVar[bytes]:
        """See ``ResponseStream.read``."""
        if self._waiting is not None and not self._waiting.ready:
            raise RuntimeError("the piece asked for before is not there yet")
        waiting: ae.CondVar[bytes] = ae.CondVar(cancel=self._wait_no_more, untaken=self._put_back)
        self._waiting = waiting
        ae.postpone(self._serve)
        return waiting

    def _wait_no_more(self) -> None:
        self._waiting = None

    def _put_back(self, piece: bytes) -> None:
        self._untaken = piece + self._untaken

    def _serve(self) -> None:
        """Give a piece to who waits for it, if there is one."""
        waiting = self._waiting
        if waiting is None:
            return
        try:
            piece = self._next()
            if not piece and self._ended and self._error is None and self._decoder is not None:
                self._decoder.finish()
        except HttpError as error:
            self._pieces.clear()  # these cannot be decoded
            self._decoder = None
            self._give_up(error)
            return
        if piece or self._ended:
            self._waiting = None
            if not piece and self._error is not None:
                waiting.throw(self._error)
            else:
                waiting.send(piece)

    def _next(self) -> bytes:
        """Return the next piece, unpacked; b"" if there is none."""
        decoder = self._decoder
        if self._untaken:
            piece, self._untaken = self._untaken, b""
        elif decoder is None:
            piece = self._pop() if self._pieces else b""
        else:
            while not (piece := decoder.read()) and self._pieces:
                decoder.feed(self._pop())
        return piece

    def _pop(self) -> bytes:
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._size < _LOW and self.connection is not None:
            self.connection.resume()
        return piece

    def remaining(self) -> ae.CondVar[bytes]:
        """See ``ResponseStream.read_all``."""
        return ae.spawn(self._read_all())

    async def _read_all(self) -> bytes:
        limit = self._options.max_body
        pieces = []
        size = 0
        while piece := await self.next_piece():
            size += len(piece)
            if limit is not None and size > limit:
                error = _too_large("has", limit)
                self._give_up(error)
                raise error
            pieces.append(piece)
        return b"".join(pieces)

    def cancel_stream(self) -> None:
        """See ``ResponseStream.cancel``."""
        waiting, self._waiting = self._waiting, None
        self._pieces.clear()
        self._untaken = b""
        self._decoder = None
        if not self._done:
            self._give_up(HttpError("the stream was cancelled", phase="body"))
        if waiting is not None:
            waiting.cancel()

    # ------------------------------------------------------------------ the end

    def _finish(self, value: Any) -> None:
        condvar = self.condvar
        self._quit()
        if condvar is not None:
            condvar.send(value)

    def _fail(self, error: HttpError) -> None:
        condvar = self.condvar
        self._quit()
        if condvar is not None:
            condvar.throw(error)
        else:
            self._ended = True
            self._error = error
            if self._waiting is not None:
                self._serve()

    def _quit(self) -> None:
        self._done = True
        self._mark.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self.condvar = None

    def _give_up(self, error: HttpError) -> None:
        """Fail, and the connection with it."""
        self._drop_connection()
        self._fail(error)

    def _drop_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon(self)
        elif self.host is not None and self in self.host.waiting:
            self.host.waiting.remove(self)

    def _cancelled(self) -> None:
        self._quit()
        self._drop_connection()

    def _timed_out(self) -> None:
        self._give_up(
            RequestTimedOut(
                f"no response within {self._options.timeout:g} s ({self.phase})", phase=self.phase
            )
        )

    def _call(self, callback: Callable[[Any], object], argument: object) -> None:
        """Call the user; what is raised goes where all exceptions of callbacks go."""
        try:
            callback(argument)
        except BaseException as error:
            ae.report_error(error)


def _close_untaken(value: ResponseStream | tuple[Response, Handle | None]) -> None:
    """Close what was delivered to an awaiter that was cancelled before it had it."""
    if isinstance(value, ResponseStream):
        value.cancel()
    elif value[1] is not None:
        value[1].destroy()


def _too_large(what: str, limit: int) -> ResponseTooLarge:
    return ResponseTooLarge(
        f"the body of the response {what} more than {limit} bytes", phase="body"
    )


def _location(headers: Headers) -> str:
    """Return where a redirect leads; said twice, it must be the same."""
    first, *others = headers.get_all("location")
    if any(other != first for other in others):
        raise RedirectRefused("a redirect to several locations", phase="done")
    return first
