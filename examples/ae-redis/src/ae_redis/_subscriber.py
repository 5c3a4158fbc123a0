"""What a subscription does: keep a connection, have the channels confirmed, hand out messages.

The record behind :class:`Subscription`: the loop owns it, through its timer, until the
subscription is cancelled or dropped.
"""

from __future__ import annotations

__all__ = ("Subscriber",)

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from ._attempts import Attempts
from ._encode import Argument, encode, octets
from ._errors import ClientClosed, RedisError, ReplyError, ReplyTimedOut, passes
from ._link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from weakref import ref

    from ae_core.abc import Backend

    from ._pubsub import Message, Subscription
    from ._reply import Reply
    from ._resp import Push
    from ._url import Settings

# Theory of operation
# -------------------
# `wanted` is what the program wants, as (verb, name) pairs in the order they were added;
# `_confirmed` what the server has confirmed on this connection. A new connection is sent all
# that is wanted. In RESP3 messages are pushes, in RESP2 arrays that look the same; so a link
# that is told to be for messages hands everything over as it comes.
#
# `_asked` is what was sent and is not answered, as (verb, names), in order: so it is known whose an
# error is. One that passes ends the connection, and the attempt to make it has failed. Any other
# one ends the channel it is about: if there were several, each is asked for again by itself, to see
# which it is.
#
# on_reconnect is told when the server has confirmed something: until then it may say no.

_NO_LIMIT: Final = 3600.0

_SUBSCRIBE: Final = b"SUBSCRIBE"
_PSUBSCRIBE: Final = b"PSUBSCRIBE"
_PING: Final = b"PING"
_UNDO: Final = {_SUBSCRIBE: b"UNSUBSCRIBE", _PSUBSCRIBE: b"PUNSUBSCRIBE"}
_CONFIRMATIONS: Final = frozenset(verb.lower() for pair in _UNDO.items() for verb in pair)

Wanted = tuple[bytes, bytes]


class Subscriber:
    """Messages, and the connection they come on.

    Args:
        settings: Those of the client.
        subscription: A weak reference to what the program holds.
        make: Makes a message.
        max_unread: How many messages may wait to be taken.
    """

    __slots__ = (
        "_asked",
        "_attempts",
        "_closed",
        "_confirmed",
        "_confirming",
        "_delay",
        "_encoding",
        "_error",
        "_forgiven",
        "_heard",
        "_held",
        "_link",
        "_make",
        "_max_unread",
        "_paused",
        "_pinged",
        "_settings",
        "_subscription",
        "_tick_at",
        "_timer",
        "_up_at",
        "_wanted",
        "_was_up",
        "_works",
        "loop",
        "messages",
        "on_error",
        "on_message",
        "on_reconnect",
        "readers",
        "reconnects",
    )

    def __init__(
        self,
        settings: Settings,
        subscription: ref[Subscription],
        make: type[Message],
        max_unread: int,
    ) -> None:
        self._encoding = settings.encoding
        self._settings = replace(settings, encoding=None)
        self._subscription = subscription
        self._make = make
        self._max_unread = max_unread
        self.on_message: Callable[[Subscription, Message], object] | None = None
        self.on_reconnect: Callable[[Subscription], object] | None = None
        self.on_error: Callable[[Subscription, RedisError], object] | None = None
        self.messages: deque[Message] = deque()
        self.readers: deque[ae.CondVar[Message]] = deque()
        self.reconnects = 0
        self.loop: Backend | None = None
        self._wanted: dict[Wanted, None] = {}
        self._confirmed: set[Wanted] = set()
        self._confirming: list[tuple[ae.CondVar[None], frozenset[Wanted]]] = []
        self._asked: deque[tuple[bytes, set[bytes]]] = deque()
        self._held: Subscription | None = None
        self._attempts = Attempts(settings.max_delay)
        self._link: Link | None = None
        self._delay: ae.Watcher | None = None
        self._timer: ae.Watcher | None = None
        self._error: RedisError | None = None
        self._closed = self._was_up = self._paused = self._works = False
        self._heard = self._pinged = self._forgiven = False
        self._up_at = self._tick_at = 0.0

    def start(self) -> None:
        """Begin to connect."""
        self.loop = ae.detect()
        self._arm()
        self._connect()

    def _arm(self) -> None:
        assert self.loop is not None
        period = self._settings.timeout or _NO_LIMIT
        self._tick_at = self.loop.clock() + period
        self._timer = ae.timer(period, self._tick)

    # ------------------------------------------------------------------ channels

    def add(self, channels: Iterable[Argument], patterns: Iterable[Argument]) -> frozenset[Wanted]:
        """Want more; return it."""
        pairs = _pairs(channels, patterns)
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._wanted]
        self._wanted.update(dict.fromkeys(new))
        self._send(new)
        return frozenset(pairs)

    def remove(self, channels: Iterable[Argument], patterns: Iterable[Argument]) -> None:
        """Want less."""
        pairs = dict.fromkeys(_pairs(channels, patterns))
        old = [pair for pair in pairs if pair in self._wanted]
        for pair in old:
            del self._wanted[pair]
        self._confirmed.difference_update(old)
        self._send([(_UNDO[verb], name) for verb, name in old])
        self._check_confirmed()

    def _send(self, pairs: Sequence[Wanted]) -> None:
        """Ask for all *pairs*, with one command for each verb."""
        for asked in dict.fromkeys(verb for verb, _ in pairs):
            self._ask(asked, [name for verb, name in pairs if verb == asked])

    def _ask(self, verb: bytes, names: Sequence[bytes]) -> None:
        link = self._link
        if link is not None and link.up:
            self._asked.append((verb, set(names)))
            link.send([encode(verb, *names)], (), big=False)

    def confirmed(self, pairs: frozenset[Wanted] | None = None) -> ae.CondVar[None]:
        """Return a condition variable for when everything that is wanted is confirmed.

        Args:
            pairs: It fails if one of these is refused; None for all that are wanted now.
        """
        condvar: ae.CondVar[None] = ae.CondVar(cancel=self._forget)
        self._confirming.append((condvar, frozenset(self._wanted) if pairs is None else pairs))
        self._hold()
        ae.postpone(self._check_confirmed)
        return condvar

    def _check_confirmed(self) -> None:
        if self._closed:
            self._fail_waiting()
        elif self._confirmed.issuperset(self._wanted):
            confirming, self._confirming = self._confirming, []
            for condvar, _ in confirming:
                condvar.send(None)
            self._hold()

    # ------------------------------------------------------------------ messages

    def next(self) -> ae.CondVar[Message]:
        """Return a condition variable for the next message."""
        if self.on_message is not None:
            raise RuntimeError("the messages of this subscription go to on_message")
        condvar: ae.CondVar[Message] = ae.CondVar(cancel=self._forget, untaken=self._put_back)
        self.readers.append(condvar)
        self._hold()
        if self._closed or self.messages:
            ae.postpone(self._serve)
        return condvar

    def _forget(self) -> None:
        """Drop the waiters that are ready, as a cancelled one is."""
        self.readers = deque(each for each in self.readers if not each.ready)
        self._confirming = [each for each in self._confirming if not each[0].ready]
        self._hold()

    def _put_back(self, message: Message) -> None:
        """It was delivered to who was cancelled before they had it."""
        self.messages.appendleft(message)
        self._serve()

    def take(self) -> Message:
        """Return the first unread message."""
        message = self.messages.popleft()
        if self._paused and len(self.messages) <= self._max_unread // 2:
            self._paused = False
            if self._link is not None:
                self._link.go_on()
        return message

    def _serve(self) -> None:
        """Give messages to those who wait for them."""
        while self.messages and self.readers:
            condvar = self.readers.popleft()
            if not condvar.ready:
                condvar.send(self.take())
        if self._closed:
            self._fail_waiting()
        self._hold()

    def _hold(self) -> None:
        """Keep the subscription alive while something waits."""
        waits = not self._closed and (self.readers or self._confirming)
        self._held = self._subscription() if waits else None

    def _message(self, channel: bytes, data: bytes, pattern: bytes | None) -> None:
        encoding = self._encoding
        if encoding is None:
            message = self._make(channel, data, pattern)
        else:
            message = self._make(
                channel.decode(encoding, "surrogateescape"),
                data.decode(encoding, "surrogateescape"),
                None if pattern is None else pattern.decode(encoding, "surrogateescape"),
            )
        if self.on_message is not None:
            self._tell(self.on_message, message)
            return
        self.messages.append(message)
        if self.readers:
            self._serve()
        elif len(self.messages) >= self._max_unread and not self._paused:
            self._paused = True
            if self._link is not None:
                self._link.pause()

    def _tell(self, callback: Callable[..., object] | None, *args: Any) -> None:
        subscription = self._subscription()
        if callback is not None and subscription is not None:
            try:
                callback(subscription, *args)
            except BaseException as error:
                ae.report_error(error)

    # ------------------------------------------------------------------ the connection

    def _connect(self) -> None:
        self._delay = None
        self._link = Link(self._settings, self, messages=True)

    def link_up(self, link: Link) -> None:
        """See :class:`Owner`."""
        assert self.loop is not None
        self._up_at = self.loop.clock()
        self._heard, self._pinged, self._works = True, False, False
        self._asked.clear()
        self._send(list(self._wanted))
        if self._paused:
            link.pause()
        if not self._wanted:
            self._use()

    def _made(self) -> bool:
        """The connection counts: return whether it is not the first one."""
        again, self._was_up = self._was_up, True
        self.reconnects += again
        return again

    def _use(self) -> None:
        """The connection is good for something."""
        if not self._works:
            self._works = True
            if self._made():
                self._tell(self.on_reconnect)

    def link_reading(self, link: Link) -> None:
        """See :class:`Owner`."""
        self._heard = True

    def link_read(self, link: Link) -> None:
        """See :class:`Owner`."""

    def link_pushed(self, link: Link, push: Any) -> None:
        """See :class:`Owner`."""
        if isinstance(push, ReplyError):
            self._refused(link, push)
        elif not isinstance(push, list) or push[:1] == [b"pong"]:
            self._answered(_PING, b"")
        elif len(push) >= 2:
            self._heed(push)

    def _heed(self, push: Push | list[Any]) -> None:
        kind = push[0]
        if kind == b"message" and len(push) == 3:
            if (_SUBSCRIBE, push[1]) in self._wanted:
                self._message(push[1], push[2], None)
        elif kind == b"pmessage" and len(push) == 4:
            if (_PSUBSCRIBE, push[1]) in self._wanted:
                self._message(push[2], push[3], push[1])
        elif kind in _CONFIRMATIONS and isinstance(push[1], bytes):
            pair = kind.upper(), push[1]
            self._answered(*pair)
            if pair in self._wanted:
                self._confirmed.add(pair)
                self._use()
                self._check_confirmed()

    def _answered(self, verb: bytes, name: bytes) -> None:
        """The server has answered for *name*."""
        if self._asked and self._asked[0][0] == verb:
            names = self._asked[0][1]
            names.discard(name)
            if not names:
                self._asked.popleft()

    def _refused(self, link: Link, error: ReplyError) -> None:
        """The server says no to what was asked first, or to nothing in particular."""
        if passes(error):
            link.end(error)
            return
        if not self._asked:
            link.hopeless = True
            link.end(error)
            return
        verb, names = self._asked.popleft()
        if verb not in _UNDO:
            return  # it was no more than a sign of life, or has nothing to undo
        pairs = [(verb, name) for name in sorted(names) if (verb, name) in self._wanted]
        if len(pairs) > 1:
            for _, name in pairs:
                self._ask(verb, [name])
            return
        for pair in pairs:
            self._lose(link, pair, error)

    def _lose(self, link: Link, pair: Wanted, error: ReplyError) -> None:
        """The server does not let us have *pair*; the others go on."""
        del self._wanted[pair]
        self._confirmed.discard(pair)
        if not self._wanted:
            link.hopeless = True
            link.end(error)
            return
        told = [condvar for condvar, pairs in self._confirming if pair in pairs]
        self._confirming = [each for each in self._confirming if pair not in each[1]]
        for condvar in told:
            condvar.throw(ReplyError(str(error)))
        if not told and self.on_error is not None:
            self._tell(self.on_error, error)
        elif not told:
            ae.report_error(error)
        self._check_confirmed()

    def link_down(self, link: Link, error: RedisError, waiting: Sequence[Reply]) -> None:
        """See :class:`Owner`."""
        if self._link is not link or self.loop is None:
            return
        self._link = None
        self._confirmed.clear()
        if link.was_up and not passes(error):
            if not self._works:
                self._made()
            delay = self._attempts.ended(self.loop.clock() - self._up_at)
        else:
            delay = self._attempts.failed()
        tries = self._attempts.failures
        if link.hopeless or (not self._was_up and tries >= self._settings.attempts):
            self._fail(error)
        else:
            self._delay = ae.timer(delay, self._connect)

    def _tick(self) -> None:
        assert self.loop is not None
        late = self.loop.clock() - self._tick_at
        self._arm()
        link, seconds = self._link, self._settings.timeout
        if seconds is None or link is None or not link.up or self._paused:
            return
        if self._heard:
            self._heard = self._pinged = self._forgiven = False
        elif late > seconds / 4 and not self._forgiven:
            self._forgiven = True  # we were kept from listening, see `_channel`
        elif self._pinged:
            link.end(ReplyTimedOut(f"no sign of life from {link.where} within {seconds:g} s"))
        else:
            self._pinged = True
            self._asked.append((_PING, {b""}))
            link.send([encode("PING")], (), big=False)

    # ------------------------------------------------------------------ the end

    def _fail(self, error: RedisError) -> None:
        """It ends by itself."""
        heard = bool(self.readers or self._confirming)
        subscription, on_error = self._subscription(), self.on_error
        self._error = error
        self._end()
        self._fail_waiting()
        if on_error is not None and subscription is not None:
            try:
                on_error(subscription, error)
            except BaseException as raised:
                ae.report_error(raised)
        elif not heard and subscription is not None and self.on_message is not None:
            ae.report_error(error)

    def close(self) -> None:
        """End it; who waits is told in the next turn."""
        if self._closed:
            return
        self._end()
        self.messages.clear()
        if self.readers or self._confirming:
            ae.postpone(self._fail_waiting)

    def _end(self) -> None:
        self._closed = True
        self._timer = self._delay = self._held = None
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _fail_waiting(self) -> None:
        waiting: list[ae.CondVar[Any]] = [*self.readers, *(each for each, _ in self._confirming)]
        self.readers.clear()
        self._confirming.clear()
        for condvar in waiting:
            condvar.throw(self._error or ClientClosed("the subscription has ended"))


def _pairs(channels: Iterable[Argument], patterns: Iterable[Argument]) -> list[Wanted]:
    return [
        *((_SUBSCRIBE, bytes(octets(name))) for name in channels),
        *((_PSUBSCRIBE, bytes(octets(name))) for name in patterns),
    ]
