"""One connection: requests go out, responses come in, in the same order.

``_message`` knows what the bytes mean; ``_pool`` decides which request a connection serves next.
"""

from __future__ import annotations

__all__ = ("Connection", "Discard", "Exchange")

from collections import deque
from typing import TYPE_CHECKING, Protocol

import ae_core as ae
from ae_handle import Handle, HandleError

from ._errors import (
    ConnectionLost,
    HttpError,
    Phase,
    RequestTimedOut,
    UploadFailed,
)
from ._headers import Headers
from ._look import Look
from ._message import END, Event, Head, ResponseReader
from ._opening import Opening

if TYPE_CHECKING:
    from ._pool import Host
    from ._request import Request

# Theory of operation
# -------------------
# `_exchanges` are the requests that were sent and not answered completely; the first one gets what
# arrives. Usually there is one; with pipelining several. Between requests there is none, and then
# anything that happens - bytes, the end, an error - ends the connection: that is how a server
# says that it does not want to keep it.
#
# A connection that has served before may have been closed by the server, which may have said that
# it waited too long (408): it is looked at before it serves again. And it may be closed at the
# moment in which we send the next request. If it ends before a byte of the response has come, the
# request is called *stale*, and its owner may ask again elsewhere, if asking twice does no harm.
#
# The connection is given back before the owner of the response is told of its end: what the owner
# asks for next, in its callback, can use it.


class Exchange(Protocol):
    """A request and the operation that waits for its response."""

    request: Request
    read_timeout: float | None
    switching: bool

    def got_head(self, head: Head) -> None:
        """The response has begun."""
        ...

    def got_data(self, data: bytes) -> None:
        """A piece of its body."""
        ...

    def got_end(self, trailers: Headers | None) -> None:
        """The response is complete; the connection is no longer ours."""
        ...

    def got_switch(self, handle: Handle) -> None:
        """The connection speaks another protocol, and is yours."""
        ...

    def failed(self, error: HttpError, *, stale: bool, blamed: bool = True) -> None:
        """The connection is gone, and no response will come.

        Args:
            stale: Nothing has come, on a connection that has served before.
            blamed: And this request may be the reason; else it stood behind another one.
        """
        ...


class Discard:
    """Takes the place of an owner that is not interested any more.

    Args:
        exchange: Whose place it takes.
        connection: Where.
        limit: How many bytes of body are worth waiting for, to keep the connection.
    """

    switching = False

    def __init__(self, exchange: Exchange, connection: Connection, limit: int = 65536) -> None:
        self.request = exchange.request
        self.read_timeout = exchange.read_timeout
        self._connection = connection
        self._left = limit

    def got_head(self, head: Head) -> None:
        """See :class:`Exchange`."""

    def got_data(self, data: bytes) -> None:
        """See :class:`Exchange`."""
        self._left -= len(data)
        if self._left < 0:
            self._connection.abort()

    def got_end(self, trailers: Headers | None) -> None:
        """See :class:`Exchange`."""

    def got_switch(self, handle: Handle) -> None:
        """See :class:`Exchange`."""
        handle.destroy()

    def failed(self, error: HttpError, *, stale: bool, blamed: bool = True) -> None:
        """See :class:`Exchange`."""


class Connection:
    """A connection to one host; made for the exchange that comes first.

    Attributes:
        served: How many responses were complete.
        idle_since: When it ran out of work, by the loop's clock.
        keep_for: For how many seconds the server keeps it, as far as it has said so.
    """

    __slots__ = (
        "_exchanges",
        "_first",
        "_handle",
        "_head",
        "_held",
        "_host",
        "_look",
        "_opening",
        "_paused",
        "_period",
        "_reader",
        "_trailers",
        "_uploading",
        "idle_since",
        "keep_for",
        "served",
    )

    def __init__(self, host: Host, first: Exchange) -> None:
        self._host = host
        self._first: Exchange | None = first
        self._exchanges: deque[Exchange] = deque()
        self._handle: Handle | None = None
        self._look: Look | None = None
        self._head: Head | None = None
        self._trailers: Headers | None = None
        self._paused = False
        self._held: ae.Watcher | None = None  # a body waits for the server's consent
        self._uploading: ae.CondVar[None] | None = None
        self._period: float | None = None
        self._reader = ResponseReader(host.pool.max_head)
        self.served: int = 0
        self.idle_since: float = 0.0
        self.keep_for: float | None = None
        pool = host.pool
        self._opening: Opening | None = Opening(
            host.target,
            proxy=host.proxy,
            tunnel=host.tunnel,
            tls_context=pool.tls_context,
            connector=pool.connector,
            timeout=pool.connect_timeout,
            user_agent=pool.user_agent,
            opened=self._opened,
            failed=self._not_opened,
        )

    def __repr__(self) -> str:
        return f"<Connection to {self._host.target.authority}, {len(self._exchanges)} under way>"

    @property
    def phase(self) -> Phase:
        """How far the first request has come."""
        if self._opening is not None:
            return self._opening.phase
        return "body" if self._head is not None else "head"

    @property
    def depth(self) -> int:
        """How many requests are under way."""
        return len(self._exchanges) + (self._first is not None)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has arrived since the last response, not even the end.

        A look at the descriptor: the loop may not have run since, in a program that blocks.
        """
        look = self._look
        if look is None:
            look = self._look = Look(self._handle)
        return look.is_quiet()

    @property
    def can_pipeline(self) -> bool:
        """Whether another request may be sent behind those under way."""
        if not self.served or self._handle is None or self._uploading is not None:
            return False
        return all(exchange.request.body is None for exchange in self._exchanges)

    # ------------------------------------------------------------------ opening

    def _opened(self, handle: Handle) -> None:
        self._opening = None
        self._handle = handle
        handle.on_read = self._on_read
        handle.on_eof = self._on_eof
        handle.on_error = self._on_error
        handle.on_timeout = self._on_timeout
        first, self._first = self._first, None
        if first is not None:
            self.perform(first)

    def _not_opened(self, error: HttpError) -> None:
        self._opening = None
        first, self._first = self._first, None
        self._host.gone(self)
        if first is not None:
            first.failed(error, stale=False)

    # ------------------------------------------------------------------ requests

    def perform(self, exchange: Exchange) -> None:
        """Send the request of *exchange*, behind those under way."""
        handle = self._handle
        if handle is None:
            raise RuntimeError("the connection is not open")
        request = exchange.request
        self._exchanges.append(exchange)
        self._reader.expect(request.method, may_switch=exchange.switching)
        if exchange.read_timeout != self._period:
            handle.timeout = self._period = exchange.read_timeout
        handle.push_write(request.wire)  # which is activity: the timeout starts again
        if request.body is not None:
            if request.expect is None:
                self._send_body()
            else:
                self._held = ae.timer(request.expect, self._send_body)

    def _send_body(self) -> None:
        """Send what follows the head of the last request."""
        handle = self._handle
        assert handle is not None
        self._let_go()
        request = self._exchanges[-1].request
        if request.upload is not None:
            self._uploading = ae.spawn(request.upload.send(handle))
            self._uploading.on_ready(self._uploaded)
        elif request.large_body:
            handle.push_write(request.large_body)

    def _let_go(self) -> bool:
        """Return whether a body waited; it does not any more."""
        held, self._held = self._held, None
        if held is not None:
            held.cancel()
        return held is not None

    def _uploaded(self, uploading: ae.CondVar[None]) -> None:
        if uploading is not self._uploading:
            # given up; an error of it does not matter any more
            _ = uploading.error
            return
        self._uploading = None
        error = uploading.error
        if uploading.cancelled:
            error = UploadFailed("the request body was cancelled")
        if error is None or isinstance(error, HandleError):
            return  # the connection's own error says it
        if not isinstance(error, HttpError):
            cause = error
            error = UploadFailed(f"the request body could not be sent: {error!r}")
            error.__cause__ = cause
        self._fail(error)

    # ------------------------------------------------------------------ responses

    def _on_read(self, handle: Handle) -> None:
        reader = self._reader
        self._deliver(reader.feed(handle.read_buffer.take()))
        if reader.rest and self._handle is handle:
            self._close()  # no request of ours is the reason for these

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, bytes):
                self._exchanges[0].got_data(event)
            elif event is END:
                self._ended()
            elif isinstance(event, Head):
                if event.status != 100:
                    if self._held is not None:
                        self._held.cancel()  # the answer is there: the body is never sent
                    self._head = event
                    self._exchanges[0].got_head(event)
                elif self._held is not None:
                    self._send_body()
            elif isinstance(event, Headers):
                self._trailers = event
            elif isinstance(event, HttpError):
                self._fail(event)
            if self._handle is None:
                return

    def _ended(self) -> None:
        """The first response is complete."""
        exchange = self._exchanges.popleft()
        head, self._head = self._head, None
        trailers, self._trailers = self._trailers, None
        handle = self._handle
        assert head is not None
        assert handle is not None
        self.served += 1
        self._paused = False
        if self._reader.switched:
            self._handle = None
            self._host.gone(self)
            handle.clear_callbacks()
            handle.timeout = 0
            if self._reader.rest:
                handle.read_buffer.feed(self._reader.rest)
            exchange.got_switch(handle)
            return
        keep = head.headers.get("keep-alive")
        self.keep_for = None if keep is None else _keep_for(keep)
        uploading, self._uploading = self._uploading, None
        sent = not self._let_go()
        if uploading is not None:
            upload = exchange.request.upload
            sent = upload is not None and upload.complete
            uploading.cancel()
        if not sent or not head.keep_alive or not self._host.pool.keeps or self.keep_for == 0:
            # the server has answered without reading everything, or closes
            if exchange.request.body is not None:
                handle.linger = 0  # the rest of it is useless
            self._close()
        elif self._exchanges:
            handle.timeout_reset()
        elif self._reader.rest:
            self._close()
        else:
            self._host.release(self)
        exchange.got_end(trailers)

    def _on_eof(self, handle: Handle) -> None:
        handle.linger = 0  # what is unsent would not be read
        self._deliver(self._reader.eof())
        if self._handle is handle:
            self._close()

    def _on_error(self, handle: Handle, error: HandleError) -> None:
        failure = ConnectionLost(
            f"the connection broke: {error}", phase=self.phase, errno=error.errno or 0
        )
        failure.__cause__ = error
        self._fail(failure)

    def _on_timeout(self, handle: Handle) -> None:
        if self._exchanges and not self._paused:
            self._fail(
                RequestTimedOut(
                    f"nothing was sent or received for {self._period:g} s", phase=self.phase
                )
            )

    def pause(self) -> None:
        """Read nothing more for now: the owner of the response is behind."""
        if self._handle is not None and not self._paused:
            self._paused = True
            self._handle.stop_read()

    def resume(self) -> None:
        """Read again."""
        if self._handle is not None and self._paused:
            self._paused = False
            self._handle.timeout_reset()
            self._handle.start_read()

    # ------------------------------------------------------------------ the end

    def abandon(self, exchange: Exchange) -> None:
        """The owner of *exchange* is not interested any more, and must not be told anything."""
        if exchange is self._first:
            self._first = None
            self.abort()
        elif exchange in self._exchanges:
            if len(self._exchanges) == 1:
                self._exchanges.clear()
                self.abort()
            else:
                self._exchanges[self._exchanges.index(exchange)] = Discard(exchange, self)
                self.resume()

    def abort(self) -> None:
        """End it now; requests under way behind the first one are asked again elsewhere."""
        if self._handle is not None:
            self._handle.linger = 0
        self._fail(ConnectionLost("the connection was given up"))

    def close(self) -> None:
        """End it, between two requests."""
        self._close()

    def end(self, error: HttpError) -> None:
        """End it for good: all that are under way fail with *error*."""
        self._fail(error, stale=False, to_all=True)

    def _close(self) -> None:
        """End it; what is under way, behind a response that was the last one, is stale."""
        error = ConnectionLost("the server closed the connection before the response")
        self._fail(error, stale=True, blamed=False)

    def _fail(
        self,
        error: HttpError,
        *,
        stale: bool | None = None,
        blamed: bool = True,
        to_all: bool = False,
    ) -> None:
        """End it because of *error*, of which all that are under way are told.

        Args:
            stale: Whether the first one may be asked again; None: if nothing of its response
                has come on a connection that has served before.
            blamed: Whether that may be its fault.
            to_all: Tell all of them the same; else only the first one.
        """
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        handle, self._handle = self._handle, None
        uploading, self._uploading = self._uploading, None
        self._let_go()
        if handle is not None:
            if self._exchanges or uploading is not None:
                handle.linger = 0  # the caller is told; the rest of the request is useless
            handle.destroy()
        if uploading is not None:
            uploading.cancel()
        if stale is None:
            stale = self.served > 0 and isinstance(error, ConnectionLost)
            stale = stale and not self._reader.started and self._head is None
        left = [*self._exchanges]
        self._exchanges.clear()
        first, self._first = self._first, None
        if first is not None:
            left.append(first)
        self._host.gone(self)
        for exchange in left:
            exchange.failed(error, stale=stale, blamed=blamed)
            if not to_all:  # nothing can have come for those behind the first one
                stale = True
                blamed = False
                error = ConnectionLost("the connection was lost before the response")


def _keep_for(value: str) -> float | None:
    """Return the timeout in a Keep-Alive field."""
    for part in value.split(","):
        name, _, seconds = part.partition("=")
        seconds = seconds.strip(' \t"')
        if name.strip().lower() == "timeout" and seconds.isdecimal() and len(seconds) < 7:
            return float(seconds)
    return None
