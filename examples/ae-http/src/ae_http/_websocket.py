"""WebSocket (RFC 6455): a handle that an upgrade has handed over, as a stream of messages."""

from __future__ import annotations

__all__ = ("WebSocket", "open_websocket")

import os
import re
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

import ae_core as ae
from ae_handle import Handle, HandleError

from ._errors import BadResponse, HttpError, InvalidRequest, WebSocketClosed, WebSocketRefused
from ._headers import TOKEN, Headers, HeadersInput, encode_fields
from ._scope import Scope

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ae_core import CondVar

    from ._client import Client
    from ._messages import Event
    from ._response import Response

# Theory of operation
# -------------------
# A WebSocket is an interest: the handle does not hold it, and it ends when it is forgotten. While
# a message, a pong or the end is waited for, the loop holds it.
#
# Messages that are not taken wait here; when they are more than `_HIGH` the handle is told to
# stop reading, so a server is read no faster than its messages are taken. An end, whatever its
# reason, is told to those who wait behind the messages that came before.

_HIGH: Final = 262_144
_LOW: Final = 65_536
_OVERHEAD: Final = 64  # what an empty message counts
_URL: Final = re.compile(r"(ws|wss|http|https)(://.*)", re.IGNORECASE | re.DOTALL)
_SCHEMES: Final = {"ws": "http", "wss": "https"}
_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001
_LOST: Final = 1006
_INTERNAL: Final = 1011
#: The ends that are no errors to ``async for``.
_GOOD: Final = frozenset({_NORMAL, _GOING_AWAY, 1005})
# RFC 6455 7.4: what an endpoint may send
_MAY_SEND: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})


class WebSocket(Scope):
    """A connection on which messages go both ways; made by :meth:`Client.websocket`.

    ``async for message in socket``, or ``for message in socket`` in a blocking program; they end
    when the server closes the connection in good order (1000, 1001, no code). Leave ``with`` or
    ``async with`` to close it; forgetting it closes it without waiting. It belongs to the thread
    that made it, and not to the client: this may be closed before.

    Attributes:
        response: The server's answer to the handshake.
        subprotocol: The one that the server has chosen among those offered, or None.
        close_code: Why it has ended; None while it has not.
    """

    def __init__(
        self,
        handle: Handle,
        response: Response,
        subprotocol: str | None,
        *,
        max_message: int,
        ping_interval: float | None,
        close_timeout: float,
    ) -> None:
        from ._messages import Messages

        self.response: Response = response
        self.subprotocol: str | None = subprotocol
        self.close_code: int | None = None
        self._error: WebSocketClosed | None = None
        self._handle = handle
        self._messages = Messages(max_message)
        self._close_timeout = close_timeout
        self._received: deque[str | bytes] = deque()
        self._size = 0
        self._paused = False
        self._receivers: deque[CondVar[str | bytes]] = deque()
        self._pings: dict[bytes, tuple[float, CondVar[float]]] = {}
        self._closed: list[CondVar[None]] = []
        self._limit: ae.Watcher | None = None  # for the server's goodbye
        self._probed = False
        self._mark: Any = None
        me = ref(self)

        def on_read(handle: Handle) -> None:
            if (socket := me()) is not None:
                socket._read()

        def on_end(handle: Handle, error: HandleError | None = None) -> None:
            if (socket := me()) is not None:
                socket._lost(error)

        def on_read_timeout(handle: Handle) -> None:
            if (socket := me()) is not None:
                socket._silent()

        handle.on_eof = on_end
        handle.on_error = on_end
        handle.on_read_timeout = on_read_timeout
        handle.read_timeout = ping_interval or 0
        handle.on_read = on_read

    def __repr__(self) -> str:
        state = "open" if self._error is None else f"closed ({self.close_code})"
        return f"<WebSocket {self.response.url} {state}>"

    @property
    def is_closed(self) -> bool:
        """Whether it has ended; messages that came before may still be there."""
        return self._error is not None

    # ------------------------------------------------------------------ messages

    def send(self, message: str | bytes | bytearray | memoryview) -> CondVar[None]:
        """Send *message*: text as a ``str``, anything else as bytes.

        Returns:
            A condition variable, ready when the system has taken all that was to be sent: who
            waits for it never has more than one message in memory. It need not be awaited.

        Raises:
            TypeError: If *message* is neither.
            WebSocketClosed: Through the condition variable.
        """
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"expected a message as str or bytes, got {message!r}")
        sent: CondVar[None] = ae.CondVar()
        handle = self._handle
        if self._error is not None or self._limit is not None:
            ae.postpone(lambda: _throw(sent, self._why()))
            return sent
        handle.push_write(self._messages.message(message))

        def drained(condvar: CondVar[None]) -> None:
            if condvar.error is None and not condvar.cancelled:
                sent.send()
            else:
                _throw(sent, self._why())

        handle.drained().on_ready(drained)
        return sent

    def receive(self) -> CondVar[str | bytes]:
        """Ask for the next message: a ``str`` if it is text, else bytes.

        Who is cancelled while waiting loses no message.

        Raises:
            WebSocketClosed: Through the condition variable, when there are no more.
        """
        message: CondVar[str | bytes] = ae.CondVar(
            cancel=lambda: self._forget(message), untaken=self._put_back
        )
        self._receivers.append(message)
        self._hold()
        if self._received or self._error is not None:
            ae.postpone(self._serve)
        return message

    def ping(self) -> CondVar[float]:
        """Ask the server whether it is there; gives the seconds that the answer took.

        Raises:
            WebSocketClosed: Through the condition variable, if it ends before.
        """
        payload = os.urandom(8)
        answered: CondVar[float] = ae.CondVar(cancel=lambda: self._forget_ping(payload))
        if self._error is not None or self._limit is not None:
            ae.postpone(lambda: _throw(answered, self._why()))
            return answered
        self._pings[payload] = (monotonic(), answered)
        self._handle.push_write(self._messages.ping(payload))
        self._hold()
        return answered

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except WebSocketClosed as error:
            if error.code in _GOOD:
                raise StopAsyncIteration from None
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str | bytes:
        try:
            return self.receive().recv()
        except WebSocketClosed as error:
            if error.code in _GOOD:
                raise StopIteration from None
            raise

    # ------------------------------------------------------------------ input

    def _read(self) -> None:
        self._probed = False
        buffer = self._handle.read_buffer
        self._take(self._messages.feed(buffer.take()))

    def _take(self, events: list[Event]) -> None:
        from ._messages import Closing, Pong

        self._answer()
        for event in events:
            if isinstance(event, Pong):
                self._ponged(event.payload)
            elif isinstance(event, Closing):
                text = f"the server broke the protocol: {event.reason}" if event.failed else ""
                self._end(event.code, event.reason, text)
            elif self._limit is None:  # else it is not wanted any more
                self._received.append(event)
                self._size += len(event) + _OVERHEAD
        self._serve()
        if self._size > _HIGH and self._error is None and not self._paused:
            self._paused = True
            self._handle.stop_read()

    def _answer(self) -> None:
        """Send what the server is owed."""
        if answers := self._messages.answers:
            self._messages.answers = b""
            # a server that asks and never reads is not answered for ever
            if self._messages.ended or self._handle.unsent < _HIGH:
                self._handle.push_write(answers)

    def _ponged(self, payload: bytes) -> None:
        """An answer is one to the pings before as well (RFC 6455 5.5.3)."""
        if payload not in self._pings:
            return
        now = monotonic()
        for each in [*self._pings]:
            began, answered = self._pings.pop(each)
            if not answered.ready:
                answered.send(now - began)
            if each == payload:
                break

    def _serve(self) -> None:
        """Bring messages, and behind them the end, to those who wait."""
        while self._receivers and self._received:
            self._receivers.popleft().send(self._pop())
        if self._error is not None and not self._received:
            while self._receivers:
                self._receivers.popleft().throw(self._why())
        self._let_go()

    def _pop(self) -> str | bytes:
        message = self._received.popleft()
        self._size -= len(message) + _OVERHEAD
        if self._paused and self._size < _LOW:
            self._go_on()
        return message

    def _go_on(self) -> None:
        self._paused = False
        self._handle.read_timeout_reset()
        self._handle.start_read()

    def _put_back(self, message: str | bytes) -> None:
        self._received.appendleft(message)
        self._size += len(message) + _OVERHEAD
        self._serve()

    def _forget(self, message: CondVar[str | bytes]) -> None:
        if message in self._receivers:
            self._receivers.remove(message)
        self._let_go()

    def _forget_ping(self, payload: bytes) -> None:
        self._pings.pop(payload, None)
        self._let_go()

    def _silent(self) -> None:
        """Nothing has come for the length of ``ping_interval``."""
        if self._paused or self._limit is not None:
            return
        if self._probed:
            self._end(_LOST, "", "the server did not answer to a ping")
            self._serve()
        else:
            self._probed = True
            self._handle.push_write(self._messages.ping(b""))

    # ------------------------------------------------------------------ the end

    def close(self, code: int = _NORMAL, reason: str = "") -> CondVar[None]:
        """Say goodbye; ready when the server has done so too, or ``close_timeout`` has passed.

        Messages that have come before can still be received; those that come later are dropped.
        Closing it again changes nothing.

        Args:
            code: Why: 1000 to 1014, as far as RFC 6455 lets an endpoint say it, or 3000 to 4999.
            reason: The same for people, of at most 123 bytes in UTF-8.

        Raises:
            ValueError: If one of these cannot be sent.
        """
        if code not in _MAY_SEND:
            raise ValueError(f"expected a code that may be sent, such as 1000, got {code!r}")
        if len(reason.encode()) > 123:
            raise ValueError(f"expected a reason of at most 123 bytes, got {reason!r}")
        closed: CondVar[None] = ae.CondVar()
        if self._error is not None:
            ae.postpone(closed.send)
            return closed
        self._closed.append(closed)
        self._hold()
        if self._limit is None:
            self._limit = ae.timer(self._close_timeout, self._not_answered)
            self._handle.push_write(self._messages.close(code, reason))
            if self._paused:
                self._go_on()
        return closed

    def cancel(self) -> None:
        """Close it without waiting for the server. Idempotent."""
        self._hang_up(_GOING_AWAY)

    def _hang_up(self, code: int) -> None:
        if self._error is None:
            if self._limit is None:
                self._handle.push_write(self._messages.close(code, ""))
            self._end(code, "", "it was closed here")
            self._serve()

    def _not_answered(self) -> None:
        self._end(_LOST, "", "the server did not say goodbye in time")
        self._serve()

    def _lost(self, error: HandleError | None) -> None:
        self._end(_LOST, "", f"the connection was lost: {error or 'it has ended'}", error)
        self._serve()

    def _end(self, code: int, reason: str, text: str, cause: BaseException | None = None) -> None:
        if self._error is not None:
            return
        self.close_code = code
        said = f"{code} {reason}".strip()
        self._error = WebSocketClosed(text or f"the server closed it: {said}", code, reason)
        self._error.__cause__ = cause
        if self._limit is not None:
            self._limit.cancel()
        handle = self._handle
        handle.clear_callbacks()
        handle.read_timeout = 0
        # RFC 6455 7.1.1: it is for the server to close TCP first
        handle.linger = 0 if code == _LOST else self._close_timeout
        handle.destroy()
        for _, answered in self._pings.values():
            _throw(answered, self._why())
        self._pings.clear()
        closed, self._closed = self._closed, []
        for each in closed:
            if not each.ready:
                each.send()

    def _why(self) -> WebSocketClosed:
        """Return the reason, anew for each who is told."""
        error = self._error
        if error is None:
            return WebSocketClosed("it is being closed here", _NORMAL, "")
        copy = WebSocketClosed(str(error), error.code, error.reason)
        copy.__cause__ = error.__cause__
        return copy

    def _hold(self) -> None:
        """Have the loop keep this object while something waits."""
        if self._mark is None:
            self._mark = ae.pending(self)

    def _let_go(self) -> None:
        waiting = self._receivers or self._pings or self._closed
        if self._mark is not None and not waiting:
            self._mark.cancel()
            self._mark = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close().recv()
        else:
            self._hang_up(_INTERNAL)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self.close()
        finally:
            self._hang_up(_INTERNAL)


def _throw(condvar: CondVar[Any], error: Exception) -> None:
    """End what may not be awaited: who receives is told as well."""
    if not condvar.ready:
        condvar.throw(error)
        _ = condvar.error  # it counts as seen


# ---------------------------------------------------------------------- the handshake


def open_websocket(
    client: Client,
    url: str,
    subprotocols: Sequence[str],
    headers: HeadersInput,
    options: dict[str, Any],
    **settings: Any,
) -> CondVar[WebSocket]:
    """See ``Client.websocket``."""
    try:
        from ._messages import accept_value
    except ImportError as error:
        raise ImportError("WebSocket needs wsproto: install ae-http[websocket]") from error
    if isinstance(subprotocols, str):
        raise TypeError(f"expected a sequence of subprotocols, got {subprotocols!r}")
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        raise InvalidRequest("expected a ws or wss URL")
    scheme = match[1].lower()
    given = encode_fields(headers)
    for name, _ in given:
        if name.lower().startswith("sec-websocket-"):
            raise InvalidRequest(f"the field {name!r} is set by the client itself, not by callers")
    key = b64encode(os.urandom(16)).decode()
    fields = [*given, ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
    for each in subprotocols:
        if not isinstance(each, str) or not TOKEN.fullmatch(each):
            raise InvalidRequest(f"expected a subprotocol such as 'chat', got {each!r}")
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    asked = client.upgrade(
        _SCHEMES.get(scheme, scheme) + match[2], "websocket", headers=fields, **options
    )
    opened: CondVar[WebSocket] = ae.CondVar(
        cancel=asked.cancel, untaken=lambda socket: socket.cancel()
    )

    def answered(asked: CondVar[tuple[Response, Handle | None]]) -> None:
        if asked.cancelled or opened.ready:
            opened.cancel()
            return
        handle = None
        try:
            response, handle = asked.recv()
            if handle is None:
                raise WebSocketRefused(
                    f"the server does not speak WebSocket: {response.status}", response
                )
            chosen = _check(response.headers, accept_value(key), subprotocols)
        except HttpError as error:
            if handle is not None:
                handle.linger = 0
                handle.destroy()
            opened.throw(error)
            return
        opened.send(WebSocket(handle, response, chosen, **settings))

    asked.on_ready(answered)
    return opened


def _check(headers: Headers, accepted: str, subprotocols: Sequence[str]) -> str | None:
    """Return the subprotocol that was chosen (RFC 6455 4.1).

    Raises:
        BadResponse: The server has not understood the handshake.
    """
    if (headers.get("upgrade") or "").strip().lower() != "websocket":
        raise BadResponse("the server switches to another protocol than WebSocket")
    options = {each.strip().lower() for each in (headers.get("connection") or "").split(",")}
    if "upgrade" not in options:
        raise BadResponse("the answer to the WebSocket handshake has no Connection: Upgrade")
    if headers.get("sec-websocket-accept") != accepted:
        raise BadResponse("the answer to the WebSocket handshake is one to another request")
    if headers.get("sec-websocket-extensions"):
        raise BadResponse("the server uses WebSocket extensions, and was not asked to")
    chosen = headers.get("sec-websocket-protocol")
    if chosen is not None and chosen not in subprotocols:
        raise BadResponse(f"the server has chosen {chosen!r}, which was not offered")
    return chosen


WebSocket.__module__ = "ae_http"
