"""What a client does between its user and the connection: the queue, connecting, timeouts.

The record behind :class:`Redis`. The user owns the client, the loop owns this: for as long as a
command waits, even if the client was dropped.
"""

from __future__ import annotations

__all__ = ("Channel",)

from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from ._attempts import Attempts
from ._errors import (
    CannotConnect,
    ClientClosed,
    ConnectionLost,
    RedisError,
    ReplyTimedOut,
    TransactionAborted,
)
from ._link import Link
from ._reply import Batch, Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ae_core.abc import Backend

    from ._reply import Reply
    from ._resp import Push
    from ._url import Settings

# Theory of operation
# -------------------
# A command is in one of two places. `commands` and `replies` are the queue: what has not been
# sent, because this turn is not over, or because there is no connection. The link's `waiting` is
# what was sent and is not answered. That is what decides its fate when a connection ends: the
# queue is sent on the next one, `waiting` fails and says that it may have been executed. Nothing
# ever goes back.
#
# Everything queued within one turn leaves in one write: the first command posts a flush. While
# replies are given out none is needed, the link says when that is over.
#
# One timer serves all timeouts. What is measured is how long there was no progress, that is, no
# complete reply, while one was waited for; so neither a reply that drips in byte by byte nor a
# connection that is never made can exceed it, and a reply costs no more than reading the clock
# once per read. While it is armed the loop owns the channel through it. A timer that comes late
# was kept from coming by this process: replies may be there and just not be read. That is no
# fault of the server's, so it gets its time once more.

#: How often to look when there is no timeout: the timer is still what keeps the channel alive.
_NO_LIMIT: Final = 3600.0
#: Commands from this size on are not copied together with others.
_BIG: Final = 1 << 16


class Channel:
    """A queue of commands, and the connections they are sent on.

    Args:
        settings: Those of the client.

    Attributes:
        loop: The loop it belongs to, from the first command on.
        thread: The thread, likewise.
        look: Some command in the queue was cancelled or is special: look at each before sending.
        link: The connection, or the attempt to make one.
    """

    __slots__ = (
        "_attempts",
        "_big",
        "_closed",
        "_commands",
        "_delay",
        "_dropped",
        "_forgiven_at",
        "_period",
        "_posted",
        "_progress_at",
        "_replies",
        "_tick_at",
        "_timer",
        "_up_at",
        "_watching",
        "link",
        "look",
        "loop",
        "on_connect",
        "on_disconnect",
        "on_push",
        "settings",
        "thread",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.link: Link | None = None
        self.look = False
        self.on_connect: Callable[[], object] | None = None
        self.on_disconnect: Callable[[RedisError], object] | None = None
        self.on_push: Callable[[list[Any]], object] | None = None
        self._commands: list[bytes] = []
        self._replies: list[Reply] = []
        self._posted = False
        self._big = False
        self._closed = False
        self._dropped = False
        self._watching: Watching | None = None
        self._attempts = Attempts(settings.max_delay)
        self._delay: ae.Watcher | None = None
        self._timer: ae.Watcher | None = None
        self._period = settings.timeout or _NO_LIMIT
        self.loop: Backend | None = None
        self.thread: int | None = None
        self._progress_at = self._up_at = self._tick_at = self._forgiven_at = 0.0

    @property
    def pending(self) -> int:
        """How many commands and pipelines wait, sent or not."""
        return len(self._replies) + (0 if self.link is None else len(self.link.waiting))

    # ------------------------------------------------------------------ the queue

    def submit(self, command: bytes, reply: Reply) -> None:
        """Queue a command.

        Raises:
            RuntimeError: In another thread than the first command.
        """
        if self.thread != get_ident():
            self._adopt()
        reply.channel = self
        if self._closed:
            ae.postpone(lambda: reply.throw(ClientClosed()))
            return
        self._commands.append(command)
        self._replies.append(reply)
        if len(command) > _BIG:
            self._big = True
        if not self._posted:
            self._posted = True
            ae.postpone(self._flush)

    def _adopt(self) -> None:
        if self.thread is not None:
            raise RuntimeError(
                "a command in another thread than the client's first one: use "
                "call_threadsafe(), or a client for each thread"
            )
        self.thread = get_ident()

    def submit_special(self, command: bytes, reply: Reply) -> None:
        """Queue a command that has to be looked at before it is sent."""
        self.look = True
        if reply.patience:
            self._period = min(self._period, reply.patience)
            self._timer = None  # to be armed anew
        self.submit(command, reply)

    def watch(self, command: bytes, watching: Watching) -> None:
        """Queue WATCH: the next transaction depends on it."""
        self._watching = watching
        self.submit_special(command, watching)

    def unwatch(self) -> Watching | None:
        """Return, and forget, what the next transaction depends on."""
        watching, self._watching = self._watching, None
        return watching

    def give_up(self, reply: Reply) -> None:
        """Give up the connection if *reply* is to come on it: it was cancelled, and may block.

        The server sees a connection that is closed, and serves no command on it any more. The
        others that wait for replies on it are told in the next turn.
        """
        link = self.link
        if link is not None and reply in link.waiting:
            link.give_up(ConnectionLost("a command that may block was cancelled on the connection"))

    def _flush(self) -> None:
        """Send what is queued, or see to it that there will be a connection to send it on."""
        self._posted = False
        if not self._replies:
            self._end_if_dropped()
            return
        loop = ae.detect()
        if loop is not self.loop:
            self._move(loop)
        link = self.link
        if link is None or not link.up:
            if link is None and self._delay is None:
                self._progress_at = self._now()
                self._connect()
            self._arm()
            return
        aborted = self._look(link) if self.look else ()
        commands, self._commands = self._commands, []
        replies, self._replies = self._replies, []
        big, self._big = self._big, False
        if not link.waiting:
            self._progress_at = self._now()
        if replies:
            link.send(commands, replies, big=big)
        if self._timer is None:
            self._arm()
        for reply in aborted:  # what they call back may queue, and close
            text = "the connection on which the keys were watched is gone"
            reply.throw(TransactionAborted(text))

    def _move(self, loop: Backend) -> None:
        """This thread has another loop than at the last command: start anew on that one."""
        link, self.link = self.link, None
        self._timer = self._delay = None
        self._attempts.reset()
        self.loop = loop
        if link is not None:
            waiting = list(link.waiting)
            link.close(at_once=True)
            text = "the loop of the connection has ended"
            error = ConnectionLost(text)
            ae.postpone(lambda: _throw(waiting, lambda: _again(error, maybe_executed=True)))

    def _look(self, link: Link) -> list[Reply]:
        """Take out of the queue what is not to be sent; return the transactions among that."""
        self.look = False
        aborted: list[Reply] = []
        commands, replies = self._commands, self._replies
        self._commands, self._replies = [], []
        for command, reply in zip(commands, replies, strict=True):
            if reply.ready:
                continue
            if isinstance(reply, Watching):
                reply.link = link
            elif isinstance(reply, Batch) and not reply.may_leave_on(link):
                aborted.append(reply)
                continue
            self._commands.append(command)
            self._replies.append(reply)
        return aborted

    def _fail_queued(self, error: Callable[[], RedisError]) -> None:
        replies, self._replies = self._replies, []
        self._commands = []
        self._big = False
        _throw(replies, error)

    # ------------------------------------------------------------------ the connection

    def _connect(self) -> None:
        self._delay = None
        if not self._closed:
            self.link = Link(self.settings, self)

    def link_up(self, link: Link) -> None:
        """See :class:`Owner`."""
        self._up_at = self._progress_at = self._now()
        self._tell(self.on_connect)
        self._flush()

    def link_reading(self, link: Link) -> None:
        """See :class:`Owner`."""
        self._progress_at = self._now()
        self._posted = True

    def link_read(self, link: Link) -> None:
        """See :class:`Owner`."""
        self._flush()

    def link_pushed(self, link: Link, push: Push) -> None:
        """See :class:`Owner`."""
        self._tell(self.on_push, push)

    def link_down(self, link: Link, error: RedisError, waiting: Sequence[Reply]) -> None:
        """See :class:`Owner`."""
        if self.link is not link:
            return
        self.link = None
        self._posted = False  # it may have ended while it was read
        if link.given_up:
            self._attempts.reset()
            delay = 0.0
        elif link.was_up:
            delay = self._attempts.ended(self._now() - self._up_at)
        else:
            delay = self._attempts.failed()
            if link.hopeless or self._attempts.failures >= self.settings.attempts:
                self._attempts.reset()
                self._fail_queued(lambda: _again(error, maybe_executed=False))
        _throw(waiting, lambda: _again(error, maybe_executed=True))
        if link.was_up:
            self._tell(self.on_disconnect, error)
        if self._replies and self.link is None and not self._closed:
            if link.was_up:
                self._progress_at = self._now()
            self._delay = ae.timer(delay, self._connect)
        self._end_if_dropped()

    def _tell(self, callback: Callable[..., object] | None, *args: Any) -> None:
        if callback is not None:
            try:
                callback(*args)
            except BaseException as error:
                ae.report_error(error)

    # ------------------------------------------------------------------ timeouts

    def _now(self) -> float:
        assert self.loop is not None  # since the first flush
        return self.loop.clock()

    def _arm(self) -> None:
        """Start the timer that checks for progress."""
        if self._timer is None:
            self._arm_for(self._period)

    def _arm_for(self, seconds: float) -> None:
        self._tick_at = self._now() + seconds
        self._timer = ae.timer(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        link = self.link
        front = link.waiting[0] if link is not None and link.waiting else None
        if front is None and not self._replies:
            return
        patience = None if front is None else front.patience
        limit = self.settings.timeout if patience is None else patience
        left = _NO_LIMIT
        if limit:
            left = self._progress_at + limit - self._now()
            if left <= 0:
                late = self._now() - self._tick_at
                if late < limit / 4 or self._progress_at == self._forgiven_at:
                    self._timed_out(limit, sent=front is not None)
                    return
                self._progress_at = self._forgiven_at = self._now()
                left = limit
        self._arm_for(min(left, self._period))

    def _timed_out(self, limit: float, *, sent: bool) -> None:
        link = self.link
        where = self.settings.where
        if sent and link is not None:
            link.end(ReplyTimedOut(f"no reply from {where} within {limit:g} s"))
            return
        self.link = self._delay = None
        if link is not None:
            link.close()
        self._attempts.reset()
        text = f"no connection to {where} within {limit:g} s"
        self._fail_queued(lambda: ReplyTimedOut(text))
        self._end_if_dropped()

    # ------------------------------------------------------------------ the end

    def drop(self) -> None:
        """The client was forgotten: end when nothing waits any more."""
        self._dropped = True
        self.on_push = self.on_connect = self.on_disconnect = None
        self._end_if_dropped()

    def _end_if_dropped(self) -> None:
        if self._dropped and not self._closed and not self.pending:
            self.close()

    def close(self) -> None:
        """End everything; what waits fails, in the next turn."""
        if self._closed:
            return
        self._closed = True
        link, self.link = self.link, None
        self._timer = self._delay = None
        queued, self._replies = self._replies, []
        self._commands = []
        waiting: list[Reply] = []
        if link is not None:
            waiting = list(link.waiting)
            link.close()
        if queued or waiting:

            def throw() -> None:
                _throw(waiting, lambda: ClientClosed(maybe_executed=True))
                _throw(queued, ClientClosed)

            ae.postpone(throw)


def _again(error: RedisError, *, maybe_executed: bool) -> RedisError:
    """Return *error* anew, for one command: the same object is not raised in two places."""
    if isinstance(error, (CannotConnect, ConnectionLost)):
        again: RedisError = type(error)(
            str(error), errno=error.errno or 0, maybe_executed=maybe_executed
        )
    else:
        again = type(error)(str(error))
    again.__cause__ = error.__cause__
    return again


def _throw(replies: Sequence[Reply], error: Callable[[], RedisError]) -> None:
    """End all *replies*. One failure that is never read is logged once, not a hundred times."""
    for reply in replies:
        reply.throw(error())
    for reply in replies[:-1]:
        _ = reply.error
