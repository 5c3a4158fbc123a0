"""Publish and subscribe: what a program holds. The work is the subscriber's."""

from __future__ import annotations

__all__ = ("Message", "Subscription")

from _thread import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import ae_core as ae

from ._errors import ClientClosed, RedisError
from ._scope import Scope, let_go
from ._subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from ._encode import Argument
    from ._url import Settings


class Message(NamedTuple):
    """One message.

    Attributes:
        channel: Where it was published.
        data: What was published.
        pattern: The pattern that matched, None if the channel itself was subscribed to.
    """

    channel: Any
    data: Any
    pattern: Any = None


class Subscription(Scope):
    """Messages from channels, on a connection of its own. Made by :meth:`Redis.subscribe`.

    Args:
        channels: Names of channels.
        patterns: Patterns (``news.*``), as PSUBSCRIBE takes them.
        on_message: ``(subscription, message)``, for each. Without it messages are kept for
            :meth:`next` and ``async for``.
        on_reconnect: ``(subscription)``: the connection was lost and is there again; what was
            published in between is lost.
        on_error: ``(subscription, error)``: it has ended; or, a :class:`ReplyError`, the server
            refuses one of the channels, whose confirmation is not waited for: then that one has
            ended, the others go on. Without it the error goes to the waiters, or else to
            ``ae_core.exception_hook``.
        max_unread: How many messages are kept at most; then the server is read no further until
            half of them are taken. (A server closes connections that fall behind too far.)

    A lost connection is made again, for ever; the first one must succeed within the ``attempts``
    of the client. One on which the server says no for the moment (it loads, is busy, or has too
    many clients) is an attempt that has failed. When nothing was heard for the client's
    ``timeout`` the server is asked for a sign of life, and given up if none comes.

    **When**: ``on_message`` and the others are never called inside a call.

    **Lifetime**: an interest: dropping it ends it, as :meth:`cancel` does. While a condition
    variable of :meth:`next` waits it lives on.

    Attributes:
        reconnects: How often the connection was lost and made again.
    """

    __slots__ = ("__weakref__", "_subscriber", "_thread")

    def __init__(
        self,
        settings: Settings,
        channels: Sequence[Argument],
        *,
        patterns: Sequence[Argument] = (),
        on_message: Callable[[Subscription, Message], object] | None = None,
        on_reconnect: Callable[[Subscription], object] | None = None,
        on_error: Callable[[Subscription, RedisError], object] | None = None,
        max_unread: int = 1000,
    ) -> None:
        for callback in (on_message, on_reconnect, on_error):
            if callback is not None and not callable(callback):
                raise TypeError(f"expected a callable, got {callback!r}")
        if isinstance(patterns, (str, bytes)):
            raise TypeError(f"expected a sequence of patterns, got {patterns!r}")
        if isinstance(max_unread, bool) or not isinstance(max_unread, int) or max_unread < 1:
            raise ValueError(f"expected max_unread to be 1 or more, got {max_unread!r}")
        if not channels and not patterns:
            raise ValueError("expected at least one channel or pattern, got none")
        self._thread = get_ident()
        subscriber = Subscriber(settings, ref(self), Message, max_unread)
        subscriber.on_message = on_message
        subscriber.on_reconnect = on_reconnect
        subscriber.on_error = on_error
        subscriber.add(channels, patterns)
        self._subscriber = subscriber
        subscriber.start()

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again; each time messages may be lost."""
        return self._subscriber.reconnects

    @property
    def unread(self) -> int:
        """How many messages have come and were not taken."""
        return len(self._subscriber.messages)

    def add(self, *channels: Argument, patterns: Sequence[Argument] = ()) -> ae.CondVar[None]:
        """Subscribe to more channels; as :meth:`confirmed`.

        If the server refuses one of them, the result is that :class:`ReplyError`, and the
        channel is not wanted any more; the others go on.
        """
        return self._subscriber.confirmed(self._subscriber.add(channels, patterns))

    def remove(self, *channels: Argument, patterns: Sequence[Argument] = ()) -> None:
        """Unsubscribe from channels: messages from them that come later are dropped."""
        self._subscriber.remove(channels, patterns)

    def confirmed(self) -> ae.CondVar[None]:
        """Return a condition variable for when the server has confirmed all channels.

        What is published after that arrives. If the server refuses one, the result is that
        :class:`ReplyError`.
        """
        return self._subscriber.confirmed()

    def next(self) -> ae.CondVar[Message]:
        """Return a condition variable for the next message.

        ``cancel()``, and cancelling who awaits it, takes the request back; the message goes to
        the next one.

        Raises:
            RuntimeError: If the messages go to *on_message*.
        """
        return self._subscriber.next()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        subscriber = self._subscriber
        if subscriber.messages and not subscriber.readers and subscriber.on_message is None:
            message: Message = subscriber.take()
            return message
        try:
            return await subscriber.next()
        except ClientClosed:
            raise StopAsyncIteration from None

    def cancel(self) -> None:
        """End it. Idempotent; no callback runs afterwards. A loop over it ends."""
        self._subscriber.close()

    def _end(self) -> None:
        self.cancel()

    def __del__(self) -> None:
        subscriber = getattr(self, "_subscriber", None)
        if subscriber is not None:
            let_go(self._thread, subscriber.loop, subscriber.close)
