"""One connection, from the attempt to make it until its end: what is sent, and what waits for it.

A link is never made anew: another connection takes another link.
"""

from __future__ import annotations

__all__ = ("Link", "Owner")

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import ae_core as ae
from ae_handle import Handle, HandleError, TlsError

from ._encode import encode
from ._errors import (
    CannotConnect,
    ConnectionLost,
    ProtocolError,
    RedisError,
    ReplyError,
    ReplyTimedOut,
    passes,
)
from ._handshake import handshake
from ._reply import Batch, Reply
from ._resp import Parser, Push

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._url import Settings

# Theory of operation
# -------------------
# The handle gives us all that one read returned (`on_read`), the parser makes replies of it, and
# each goes to the front of `waiting`: no read request per command, one loop per read. What the
# callbacks of these replies send is collected, and leaves with one write when the loop is done.
#
# Nothing of the users' is sent before the greeting is over: a command that was sent may have been
# executed, so one that a server would have refused for lack of a password must not have left.

# What is sent as it is, instead of being copied into one block with its neighbours.
_BIG = 1 << 16


class Owner(Protocol):
    """Who makes a link, and is told what happens to it. Nothing is told inside a call."""

    def link_up(self, link: Link) -> None:
        """The greeting is over: commands may be sent."""

    def link_down(self, link: Link, error: RedisError, waiting: Sequence[Reply]) -> None:
        """It has ended. *waiting* were sent and not answered."""

    def link_pushed(self, link: Link, push: Any) -> None:
        """The server said something unasked."""

    def link_reading(self, link: Link) -> None:
        """Replies have come and are about to be given out."""

    def link_read(self, link: Link) -> None:
        """All replies that have come were given out."""


class Link:
    """A connection to a server.

    Args:
        settings: Where, and as whom.
        owner: Who is told.
        messages: It is for messages: everything goes to the owner as it comes.

    Attributes:
        up: Whether the greeting is over, and the link has not ended.
        ended: Whether it has ended.
        was_up: Whether it has been up.
        protocol: 2 or 3, once it is up.
        waiting: Who waits for a reply, in order.
        hopeless: Whether there is no point in trying again: it was refused, not lost.
        given_up: Whether it was we who ended it.
    """

    def __init__(self, settings: Settings, owner: Owner, *, messages: bool = False) -> None:
        self._messages = messages
        self._settings = settings
        self._owner = owner
        self._parser = Parser(max_reply=settings.max_reply)
        self._greeting = handshake(settings)
        self.up = self.was_up = self.ended = self.hopeless = self.given_up = False
        self.protocol = 0
        self.waiting: deque[Reply] = deque()
        self._deadline: ae.Watcher | None = None
        self._handle: Handle | None = None
        try:
            handle = Handle(
                connect=(settings.host, settings.port),
                on_error=self._failed,
                on_eof=self._eof,
                on_read=self._read,
                no_delay=True,
                keepalive=settings.keepalive,
                linger=5.0,
                tls="connect" if settings.tls else None,
                tls_context=settings.tls_context,
            )
        except (HandleError, TypeError, ValueError) as error:  # no TLS engine, or no such context
            failure = error.with_traceback(None)
            ae.postpone(lambda: self._unusable(failure))
            return
        if settings.connect_timeout is not None:
            self._deadline = ae.timer(settings.connect_timeout, self._too_late)
        self._handle = handle
        handle.push_write(encode(*next(self._greeting)))

    @property
    def where(self) -> str:
        """The server's address, for people."""
        return self._settings.where

    def send(self, commands: Sequence[bytes], waiting: Sequence[Reply], *, big: bool) -> None:
        """Send encoded commands, for whose replies *waiting* wait."""
        assert self._handle is not None
        self.waiting.extend(waiting)
        if not big:
            self._handle.push_write(b"".join(commands))
            return
        small: list[bytes] = []
        for command in commands:
            if len(command) < _BIG:
                small.append(command)
                continue
            if small:
                self._handle.push_write(b"".join(small))
                small.clear()
            self._handle.push_write(command)
        if small:
            self._handle.push_write(b"".join(small))

    def pause(self) -> None:
        """Read nothing more until :meth:`go_on`."""
        if self._handle is not None:
            self._handle.stop_read()

    def go_on(self) -> None:
        """Read again."""
        if self._handle is not None:
            self._handle.start_read()

    # ------------------------------------------------------------------ replies

    def _read(self, handle: Handle) -> None:
        parser = self._parser
        replies = parser.feed(handle.read_buffer.take())
        if replies:
            if self._settings.encoding is not None:
                replies = [_decoded(value, self._settings.encoding) for value in replies]
            if self.up:
                self._owner.link_reading(self)
                self._give_out(replies)
            else:
                self._greet(replies)
        if parser.error is not None:
            self.end(parser.error)
        elif replies and self.up:
            self._owner.link_read(self)

    def _give_out(self, replies: list[Any]) -> None:
        waiting = self.waiting
        pushed = self._parser.pushed
        values = iter(replies)
        if self._messages:
            for value in values:
                if not self.ended:
                    self._owner.link_pushed(self, value)
            return
        for value in values:
            if pushed and value.__class__ is Push:
                self._owner.link_pushed(self, value)
                continue
            try:
                entry = waiting.popleft()
            except IndexError:
                # a callback has closed the link, or this was not asked for
                if not self.ended:
                    self.end(ProtocolError("the server sent a reply that was not asked for"))
                return
            if entry.__class__ is Reply or not isinstance(entry, Batch):
                if value.__class__ is ReplyError:
                    entry.throw(value)
                else:
                    entry.send(value)
            elif not entry.take(value, iter(()) if pushed else values):
                waiting.appendleft(entry)

    def _greet(self, replies: list[Any]) -> None:
        assert self._handle is not None
        for count, reply in enumerate(replies, 1):
            if isinstance(reply, Push):
                continue
            try:
                command = self._greeting.send(reply)
            except StopIteration as done:
                if count != len(replies):
                    self.end(ProtocolError("the server sent a reply that was not asked for"))
                    return
                self.protocol = done.value
                self.up = self.was_up = True
                self._deadline = None
                self._owner.link_up(self)
                return
            except RedisError as error:
                self.hopeless = not passes(error)
                self.end(error)
                return
            self._handle.push_write(encode(*command))

    # ------------------------------------------------------------------ the end

    def end(self, error: RedisError) -> None:
        """End the connection because of *error*; the owner is told, inside this call."""
        if self.ended:
            return
        waiting = list(self.waiting)
        self.close(at_once=True)  # whose command is lost is told
        if isinstance(error, ProtocolError) and not self.was_up:
            self.hopeless = True
        self._owner.link_down(self, error, waiting)

    def give_up(self, error: RedisError) -> None:
        """Close the connection now, and :meth:`end` it in the next turn."""
        if not self.given_up:
            self.given_up = True
            self.up = False
            self._disconnect(at_once=True)
            ae.postpone(lambda: self.end(error))

    def close(self, *, at_once: bool = False) -> None:
        """End the connection without a callback. What is unsent is still sent, unless *at_once*."""
        self.ended = True
        self.up = False
        self._deadline = None
        self.waiting.clear()
        self._disconnect(at_once=at_once or not self.was_up)

    def _disconnect(self, *, at_once: bool) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            if at_once:
                handle.linger = 0
            handle.destroy()

    def _unusable(self, error: Exception) -> None:
        """There is not even a handle."""
        self.hopeless = True
        failure = CannotConnect(f"cannot connect to {self.where}: {error}")
        failure.__cause__ = error
        self.end(failure)

    def _failed(self, handle: Handle, error: HandleError) -> None:
        self.hopeless = isinstance(error, TlsError) and not self.was_up
        number = error.errno or 0
        failure: RedisError
        if self.was_up:
            failure = ConnectionLost(f"the connection to {self.where} broke: {error}", errno=number)
        else:
            failure = CannotConnect(f"cannot connect to {self.where}: {error}", errno=number)
        failure.__cause__ = error
        self.end(failure)

    def _eof(self, handle: Handle) -> None:
        if self.was_up:
            self.end(ConnectionLost(f"{self.where} closed the connection"))
        else:
            self.end(CannotConnect(f"{self.where} closed the connection instead of greeting"))

    def _too_late(self) -> None:
        seconds = self._settings.connect_timeout
        self.end(ReplyTimedOut(f"no connection to {self.where} within {seconds:g} s"))


def _decoded(value: Any, encoding: str) -> Any:
    """Return *value* with text instead of bytes."""
    if isinstance(value, bytes):
        return value.decode(encoding, "surrogateescape")
    if isinstance(value, Push):
        return Push(_decoded(item, encoding) for item in value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_decoded(item, encoding) for item in value)
    if isinstance(value, dict):
        return {_decoded(key, encoding): _decoded(item, encoding) for key, item in value.items()}
    return value
