"""The client: what users call."""

from __future__ import annotations

__all__ = ("Client", "RequestOptions", "get", "head", "post", "request")

from _thread import get_ident
from collections.abc import Callable, Sequence
from sys import float_info
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from ._coding import ACCEPTED
from ._errors import ClientClosed
from ._headers import HeadersInput
from ._operation import Operation, Options
from ._pool import Pool
from ._proxy import ProxyChoice, choose_proxy, is_tunnel
from ._request import Request, check_fields, make_request
from ._response import Response, ResponseHead, ResponseStream
from ._scope import Scope
from ._upload import UploadInput
from ._url import parse_url
from ._version import __version__
from ._websocket import WebSocket, open_websocket

if TYPE_CHECKING:
    from http.cookiejar import CookieJar
    from typing import Literal

    from ae_core import CondVar
    from ae_handle import Handle

    from ._opening import Connector

_REMEMBERED = 256  # bare requests that are not put together again


class StreamOptions(TypedDict, total=False):
    """What can be said about a request whose body is taken piece by piece; see :class:`Client`."""

    timeout: float | None
    read_timeout: float | None
    max_redirects: int
    max_body: int | None
    decode: bool
    proxy: ProxyChoice
    expect_continue: float | None


class CollectOptions(StreamOptions, total=False):
    """What can be said besides about one whose body is collected, or given to a callback."""

    on_head: Callable[[ResponseHead], object] | None
    on_data: Callable[[bytes], object] | None


class RequestOptions(CollectOptions, total=False):
    """The keyword arguments that :func:`get` and its kind have."""

    headers: HeadersInput


class _Unset:
    """The type of an option that was not given."""

    def __repr__(self) -> str:
        return "<the client's>"


_UNSET: Any = _Unset()


class Client(Scope):
    """An HTTP/1.1 client, which keeps connections for the next request.

    Args:
        headers: Fields for all requests, under the same rules as those of one; those of a request
            replace them, and so does the user of its URL. ``User-Agent``, ``Accept`` and
            ``Accept-Encoding`` have defaults. ``Authorization``, ``Cookie`` and ``Host`` go to the
            origin that was asked, and where that redirects to itself, not to others.
        timeout: Seconds for a whole request, redirects and body included; None for no limit.
        connect_timeout: Seconds for a connection: resolving, proxy and TLS included.
        read_timeout: Seconds in which nothing is sent or received.
        max_redirects: How many redirects are followed; 0 gives them to you.
        max_body: How many bytes a body may have that is collected for you, packed and unpacked.
        max_head: How many bytes a head may have.
        decode: Ask for the content codings gzip and deflate, and undo them. For one request: undo
            them; what is asked for is in its headers.
        max_connections: How many connections to one host there may be.
        max_idle: How many idle connections to all hosts together are kept.
        idle_timeout: For how many seconds one is kept. A server that says less is believed.
        keep_alive: Keep connections at all.
        pipeline: How many requests may be under way on one connection: 1 is none behind
            another. Only GET, HEAD and such are sent behind another request, and only to a
            server that has answered on this connection before.
        proxy: The URL of a proxy, or a callable that gives it for a URL, as
            :func:`environment_proxy` does: ``http:`` or ``https:``, or of SOCKS 5 ``socks5:`` or
            ``socks5h:``, both of which have the proxy resolve names. Its user and password stand
            in it. None: no proxy.
        expect_continue: Send the head of a request with a body first, with ``Expect:
            100-continue``, and the body when the server asks for it, or after so many seconds
            (many servers say nothing). A final response instead of that ends the request: the
            body is not sent, not even begun. None: the body is sent immediately.
        tls_context: Whom to trust for https: an ``ae_tls.Context``, an ``ssl.SSLContext``, or
            None for the default of the installed engine.
        connector: ``(host, port) -> CondVar[stream]``, to make the streams some other way.
        cookies: An ``http.cookiejar.CookieJar``: what responses set goes into it, those of
            redirects too, and each request has what it holds for its URL, unless a ``Cookie`` is
            among the headers. None: no cookies.

    A client belongs to the thread that makes requests with it. :meth:`close` it, or use it in
    ``with`` or ``async with``: what is still under way then fails with :class:`ClientClosed`. If
    it is forgotten instead, what is under way goes on, and idle connections are closed.

    Raises:
        InvalidRequest: If one of *headers* is none that callers may set, or not in a client.
        TypeError, ValueError: If an argument is of the wrong kind, or out of range.

    Perl: ``AnyEvent::HTTP``
    """

    def __init__(
        self,
        *,
        headers: HeadersInput = (),
        timeout: float | None = 300.0,
        connect_timeout: float | None = 20.0,
        read_timeout: float | None = 60.0,
        max_redirects: int = 10,
        max_body: int | None = 64 << 20,
        max_head: int = 65536,
        decode: bool = True,
        max_connections: int = 8,
        max_idle: int = 64,
        idle_timeout: float = 15.0,
        keep_alive: bool = True,
        pipeline: int = 1,
        proxy: ProxyChoice = None,
        expect_continue: float | None = None,
        tls_context: Any = None,
        connector: Connector | None = None,
        cookies: CookieJar | None = None,
    ) -> None:
        given = check_fields(headers, of_client=True)
        names = {name.lower() for name, _ in given}
        agent = f"ae-http/{__version__}"
        defaults = [("User-Agent", agent), ("Accept", "*/*")]
        if decode:
            defaults.append(("Accept-Encoding", ACCEPTED))
        defaults = [pair for pair in defaults if pair[0].lower() not in names] + given
        for pair in given:
            agent = pair[1] if pair[0].lower() == "user-agent" else agent
        self._thread = get_ident()
        self._closed = False
        self._plain: dict[tuple[str, str], Request] = {}
        self._timeout = _seconds("timeout", timeout)
        self._read_timeout = _seconds("read_timeout", read_timeout)
        self._max_redirects = _count("max_redirects", max_redirects, 0)
        self._max_body = None if max_body is None else _count("max_body", max_body, 0)
        self._decode = bool(decode)
        self._proxy = proxy
        self._expect_continue = _seconds("expect_continue", expect_continue)
        self._options = self._make_options("whole")
        idle = _seconds("idle_timeout", idle_timeout)
        self._pool = Pool(
            defaults=defaults,
            user_agent=agent,
            tls_context=tls_context,
            connector=connector,
            connect_timeout=_seconds("connect_timeout", connect_timeout),
            idle_timeout=0.0 if idle is None else idle,
            max_connections=_count("max_connections", max_connections, 1),
            max_idle=_count("max_idle", max_idle, 0),
            max_head=_count("max_head", max_head, 64),
            pipeline=_count("pipeline", pipeline, 1),
            keeps=bool(keep_alive),
            cookies=cookies,
        )

    # ------------------------------------------------------------------ requests

    def request(
        self,
        method: str,
        url: str,
        *,
        body: UploadInput = None,
        headers: HeadersInput = (),
        **options: Unpack[CollectOptions],
    ) -> CondVar[Response]:
        """Send a request; the condition variable gives the whole response.

        Args:
            method: ``GET`` and so on, in upper case.
            url: An absolute http or https URL.
            body: What to send: bytes; or an iterable or asynchronous iterable of bytes, or a
                file open for binary reading; or a handle, which is read to its end. These are
                sent in chunks as they are produced, at the pace of the connection, unless you
                give the Content-Length. An iterable that blocks, blocks the loop.
            headers: Fields for this request.
            timeout, read_timeout, max_redirects, max_body, decode, proxy, expect_continue: See
                :class:`Client`.
            on_head: Called with the head of the response; not that of a redirect.
            on_data: Called with each piece of the body, which is then not collected.

        Returns:
            A condition variable. ``cancel()``, or the last task that awaits it being cancelled,
            closes the connection, and only that one.

        **When**: it becomes ready, and the callbacks are called, from the loop, never inside this
        call. When it is ready, the connection is free for the next request.

        **Lifetime**: the request goes on even if the result is not held.

        A response of any status is a result; see ``raise_for_status``. If a connection that was
        kept turns out to be closed, the request is sent once more on a new one, if the method
        is one that may be repeated (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) and the body is
        bytes.

        Raises:
            InvalidRequest, TypeError, ValueError: Immediately, if this cannot be sent.
            HttpError: Through the condition variable, for everything else.

        Perl: ``http_request``
        """
        how = self._make_options("whole", **options) if options else self._options
        result: CondVar[Response] = self._begin(method, url, headers, body, how)
        return result

    def get(self, url: str, **options: Unpack[RequestOptions]) -> CondVar[Response]:
        """Send a GET request; see :meth:`request`."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Unpack[RequestOptions]) -> CondVar[Response]:
        """Send a HEAD request; see :meth:`request`."""
        return self.request("HEAD", url, **options)

    def post(
        self, url: str, body: UploadInput = b"", **options: Unpack[RequestOptions]
    ) -> CondVar[Response]:
        """Send a POST request; see :meth:`request`."""
        return self.request("POST", url, body=body, **options)

    def stream(
        self,
        method: str,
        url: str,
        *,
        body: UploadInput = None,
        headers: HeadersInput = (),
        **options: Unpack[StreamOptions],
    ) -> CondVar[ResponseStream]:
        """Send a request; the condition variable gives the response when its head is there.

        The arguments are those of :meth:`request`; *timeout* includes the body, *max_body* is
        for ``read_all`` only.
        """
        how = self._make_options("stream", **options)
        result: CondVar[ResponseStream] = self._begin(method, url, headers, body, how)
        return result

    def upgrade(
        self,
        url: str,
        protocol: str,
        *,
        method: str = "GET",
        headers: HeadersInput = (),
        timeout: float | None = _UNSET,
    ) -> CondVar[tuple[Response, Handle | None]]:
        """Ask the server to speak another protocol on this connection, such as ``websocket``.

        Returns:
            A condition variable for the response and, if its status is 101, the handle, which is
            yours: no callbacks are set, and what the server has sent already is in its buffer.
            With any other status the handle is None.
        """
        options = self._make_options("switch", timeout=timeout, max_redirects=0)
        result: CondVar[tuple[Response, Handle | None]] = self._begin(
            method, url, headers, None, options, upgrade=protocol
        )
        return result

    def websocket(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: HeadersInput = (),
        timeout: float | None = _UNSET,
        max_message: int = 1 << 20,
        ping_interval: float | None = 20.0,
        close_timeout: float = 10.0,
    ) -> CondVar[WebSocket]:
        """Ask the server to speak WebSocket (RFC 6455). Needs the extra ``ae-http[websocket]``.

        Args:
            url: A ``ws:`` or ``wss:`` URL; http and https stand for the same.
            subprotocols: What messages may mean, what we like best first.
            headers: Fields of the handshake, an ``Origin``, say.
            timeout: Seconds for the handshake; the client's for a whole request otherwise.
            max_message: How many bytes, or characters, a message may have; a server that sends
                more is told so (1009), and that is the end.
            ping_interval: After so many seconds in which nothing came the server is asked whether
                it is there; after as many more without an answer the connection is lost. None:
                never.
            close_timeout: For how many seconds a goodbye waits for the server's.

        Returns:
            A condition variable for the :class:`WebSocket`. It is not closed with the client.

        Redirects are not followed, as in browsers. No extensions are offered: messages are not
        compressed.

        Raises:
            InvalidRequest, TypeError, ValueError: Immediately, if this cannot be sent.
            ImportError: Immediately, if wsproto is not installed.
            WebSocketRefused: Through the condition variable, with the server's response.
            HttpError: Through the condition variable, for everything else.
        """
        interval = _seconds("ping_interval", ping_interval)
        return open_websocket(
            self,
            url,
            subprotocols,
            headers,
            {} if timeout is _UNSET else {"timeout": timeout},
            max_message=_count("max_message", max_message, 0),
            ping_interval=interval,
            close_timeout=_seconds("close_timeout", close_timeout) or 0.0,
        )

    def _begin(
        self,
        method: str,
        url: str,
        headers: HeadersInput,
        body: UploadInput,
        options: Options,
        *,
        upgrade: str | None = None,
    ) -> CondVar[Any]:
        if self._closed:
            raise ClientClosed("the client is closed", phase="wait")
        if get_ident() != self._thread:
            raise RuntimeError("a client belongs to the thread that made it")
        pool = self._pool
        bare = not headers and body is None and options.proxy is None and upgrade is None
        if bare and pool.cookies is None:
            proxy = None
            key = (method, url)
            request = self._plain.get(key)
            if request is None:
                request = make_request(
                    method, parse_url(url), (), None, pool.defaults, close=not pool.keeps
                )
                if len(self._plain) >= _REMEMBERED:
                    self._plain.clear()
                self._plain[key] = request
        else:
            target = parse_url(url)
            proxy = choose_proxy(options.proxy, target)
            asked = proxy
            if proxy is not None and is_tunnel(proxy, target, switching=upgrade is not None):
                asked = None
            request = make_request(
                method,
                target,
                headers,
                body,
                pool.defaults,
                proxy=asked,
                upgrade=upgrade,
                close=not pool.keeps,
                expect=options.expect_continue,
                cookies=pool.cookies,
            )
        operation = Operation(pool, request, proxy, options)
        condvar = cast("CondVar[Any]", operation.condvar)
        operation.start()
        return condvar

    def _make_options(
        self,
        mode: Literal["whole", "stream", "switch"],
        *,
        timeout: float | None = _UNSET,
        read_timeout: float | None = _UNSET,
        max_redirects: int = _UNSET,
        max_body: int | None = _UNSET,
        decode: bool = _UNSET,
        proxy: ProxyChoice = _UNSET,
        expect_continue: float | None = _UNSET,
        on_head: Callable[[ResponseHead], object] | None = None,
        on_data: Callable[[bytes], object] | None = None,
    ) -> Options:
        if mode != "whole" and (on_head is not None or on_data is not None):
            raise TypeError("expected no on_head and no on_data: these are for request()")
        for callback in (on_head, on_data):
            if callback is not None and not callable(callback):
                raise TypeError(f"expected a callable, got {callback!r}")
        if max_redirects is _UNSET:
            max_redirects = self._max_redirects
        if max_body is _UNSET:
            max_body = self._max_body
        return Options(
            mode,
            timeout=self._timeout if timeout is _UNSET else _seconds("timeout", timeout),
            read_timeout=self._read_timeout
            if read_timeout is _UNSET
            else _seconds("read_timeout", read_timeout),
            max_redirects=_count("max_redirects", max_redirects, 0),
            max_body=None if max_body is None else _count("max_body", max_body, 0),
            decode=self._decode if decode is _UNSET else bool(decode),
            proxy=self._proxy if proxy is _UNSET else proxy,
            expect_continue=self._expect_continue
            if expect_continue is _UNSET
            else _seconds("expect_continue", expect_continue),
            on_head=on_head,
            on_data=on_data,
        )

    # ------------------------------------------------------------------ the end

    @property
    def idle(self) -> int:
        """How many connections are kept for the next request."""
        return self._pool.idle

    def close(self) -> None:
        """Close all connections; what is under way fails. Idempotent."""
        if not self._closed:
            self._closed = True
            self._pool.close()

    def _leave(self) -> None:
        self.close()

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None and not self._closed and get_ident() == self._thread:
            pool.retire()


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} in seconds or None, got {value!r}")
    if not 0 < value <= float_info.max:  # an int may be above it
        raise ValueError(f"expected {name} of more than 0 seconds, or None, got {value!r}")
    return float(value)


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as an int, got {value!r}")
    if value < least:
        raise ValueError(f"expected {name} of {least} or more, got {value!r}")
    return value


# ---------------------------------------------------------------------- one request only


def request(
    method: str, url: str, *, body: UploadInput = None, **options: Unpack[RequestOptions]
) -> CondVar[Response]:
    """Send one request, on a connection of its own; see :meth:`Client.request`."""
    return Client(keep_alive=False).request(method, url, body=body, **options)


def get(url: str, **options: Unpack[RequestOptions]) -> CondVar[Response]:
    """Send one GET request, on a connection of its own; see :meth:`Client.request`."""
    return request("GET", url, **options)


def head(url: str, **options: Unpack[RequestOptions]) -> CondVar[Response]:
    """Send one HEAD request, on a connection of its own; see :meth:`Client.request`."""
    return request("HEAD", url, **options)


def post(url: str, body: UploadInput = b"", **options: Unpack[RequestOptions]) -> CondVar[Response]:
    """Send one POST request, on a connection of its own; see :meth:`Client.request`."""
    return request("POST", url, body=body, **options)


for _thing in (Client, RequestOptions, get, head, post, request):
    _thing.__module__ = "ae_http"
