"""The client: what a program holds. What happens behind it is the channel's business."""

from __future__ import annotations

__all__ = ("Options", "Redis")

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import ae_core as ae

from ._channel import Channel
from ._commands import Commands
from ._encode import Argument, encode, encode_command
from ._pipeline import Pipeline, Transaction, patience
from ._reply import Patient, Reply, Watching
from ._scope import Scope, let_go
from ._url import Settings, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    from ._errors import RedisError
    from ._pubsub import Message, Subscription


class Options(TypedDict, total=False):
    """What may be given to :class:`Redis` besides a URL; see there."""

    host: str
    port: int | str
    tls: bool
    tls_context: Any
    username: str | None
    password: str | None
    db: int
    protocol: Literal[2, 3] | None
    client_name: str | None
    encoding: str | None
    timeout: float | None
    connect_timeout: float | None
    attempts: int
    max_delay: float
    max_reply: int
    keepalive: bool


class Redis(Commands[ae.CondVar[Any]], Scope):
    """A client of one Redis server, on one connection that is made when it is needed.

    Args:
        url: ``redis://[[user]:password@]host[:port][/db]``, ``rediss://...`` for TLS, or
            ``unix://[[user]:password@]/path[?db=1]``.
        on_connect: Called without arguments whenever a connection is there, before anything is
            sent on it.
        on_disconnect: Called with the error whenever a connection was lost.
        on_push: Called with a list for what the server says unasked (RESP3): client tracking.
        host, port: Instead of the URL's. The host ``"unix/"`` makes the port a path.
        tls, tls_context: Speak TLS; an ``ae_tls.Context`` or ``ssl.SSLContext``. Without one the
            default context of ae-tls is used, which verifies the server.
        username, password, db, client_name: Said in the greeting on each connection.
        protocol: 3 or 2; None speaks 3 if the server knows it.
        encoding: Decode all strings of replies (undecodable bytes become surrogates). By
            default they are bytes.
        timeout: For how many seconds a command may wait while no reply at all is completed, be
            it for the connection or for its reply; None for no limit.
        connect_timeout: How long one attempt may take, greeting included.
        attempts: How many attempts to connect may fail in a row until what waits for the
            connection fails; the next command then begins anew.
        max_delay: The longest pause between attempts, in seconds.
        max_reply: The longest reply, in bytes of memory, roughly; more ends the connection.
        keepalive: Have the system look after an idle connection.

    A command returns a condition variable immediately: use ``on_ready``, ``recv()`` or ``await``.
    All commands of one turn of the loop leave in one write, and replies come in order.

    **The fate of a command** whose connection is lost: if it was not sent yet, it is sent on
    the next connection. If it was, it fails with :class:`ConnectionLost` and ``maybe_executed``
    true; it is never repeated by itself.

    **When**: no callback runs inside a call of a method; except ``cancel()`` of a condition
    variable, which is ready when it returns.

    **Lifetime**: dropping the client is closing it when the last command that waits is answered.
    A client belongs to the thread in which it sends its first command. If that thread has another
    loop later (``asyncio.run`` once more), the client begins anew there.

    Raises:
        TypeError, ValueError: If the URL or an option is not what it should be.
    """

    __slots__ = ("__weakref__", "_channel", "_settings")

    def __init__(
        self,
        url: str = "redis://localhost",
        *,
        on_connect: Callable[[], object] | None = None,
        on_disconnect: Callable[[RedisError], object] | None = None,
        on_push: Callable[[list[Any]], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        for callback in (on_connect, on_disconnect, on_push):
            if callback is not None and not callable(callback):
                raise TypeError(f"expected a callable, got {callback!r}")
        self._begin(parse_url(url, **options))
        self._channel.on_connect = on_connect
        self._channel.on_disconnect = on_disconnect
        self._channel.on_push = on_push

    def _begin(self, settings: Settings) -> None:
        self._settings = settings
        self._channel = Channel(settings)

    # ------------------------------------------------------------------ commands

    def command(
        self,
        name: str | bytes,
        *arguments: Argument,
        timeout: float | Literal["default"] | None = "default",
    ) -> ae.CondVar[Any]:
        """Send a command.

        Args:
            name: Its name, one word: ``"CONFIG"``, the second word being the first argument.
            *arguments: Bytes-like, text (sent as UTF-8), or numbers.
            timeout: Instead of the client's, counted from when its turn has come; None for no
                limit. For commands that block, which are better sent on a :meth:`clone`: all
                others have to wait.

        Returns:
            A condition variable for the reply. :class:`ReplyError` if the server refuses it.
            ``cancel()`` takes the command back if it was not sent yet, and ignores its reply if
            it was; the commands behind it are not disturbed. But if it may block (``BLPOP`` and its
            kind, or it has a *timeout*) and was sent, the connection is closed, so that it takes
            nothing off a list afterwards: what was sent besides fails with
            :class:`ConnectionLost`, what was not sent goes on the next connection.

        Raises:
            TypeError: If an argument is neither bytes-like nor text nor a number.
            ValueError: If the command does not work on a shared connection (SUBSCRIBE, MULTI,
                SELECT ...): there is another way, and the error names it.
            RuntimeError: In another thread than the client's first command.
        """
        command = encode_command(name, arguments)
        if timeout == "default" and command.__class__ is bytes:
            reply = Reply()
            self._channel.submit(command, reply)
            return reply
        patient = Patient()
        patient.patience = patience(timeout)
        self._channel.submit_special(command, patient)
        return patient

    def pipeline(self) -> Pipeline:
        """Return an empty pipeline."""
        return Pipeline(self, self._channel)

    def transaction(self) -> Transaction:
        """Return an empty transaction."""
        return Transaction(self, self._channel)

    def watch(self, *keys: Argument) -> ae.CondVar[Any]:
        """Have the next transaction aborted if one of *keys* changes until then.

        The watch is the connection's, and so shared by all users of this client. Where several
        tasks share one, use a :meth:`clone` for it::

            with redis.clone() as own:
                await own.watch("balance")
                balance = int(await own.get("balance"))
                await own.transaction().set("balance", balance - 10).execute()
        """
        if not keys:
            raise ValueError("expected at least one key, got none")
        watching = Watching()
        self._channel.watch(encode("WATCH", *keys), watching)
        return watching

    def unwatch(self) -> ae.CondVar[Any]:
        """Undo every :meth:`watch`."""
        self._channel.unwatch()
        reply = Reply()
        self._channel.submit(encode("UNWATCH"), reply)
        return reply

    # ------------------------------------------------------------------ messages

    def subscribe(
        self,
        *channels: Argument,
        patterns: Sequence[Argument] = (),
        on_message: Callable[[Subscription, Message], object] | None = None,
        on_reconnect: Callable[[Subscription], object] | None = None,
        on_error: Callable[[Subscription, RedisError], object] | None = None,
        max_unread: int = 1000,
    ) -> Subscription:
        """Subscribe to channels, on a connection of its own.

        See :class:`Subscription`.
        """
        from ._pubsub import Subscription

        return Subscription(
            self._settings,
            channels,
            patterns=patterns,
            on_message=on_message,
            on_reconnect=on_reconnect,
            on_error=on_error,
            max_unread=max_unread,
        )

    # ------------------------------------------------------------------ the client

    def clone(self, **changes: Unpack[Options]) -> Redis:
        """Return another client, with a connection of its own, and the same options but *changes*.

        ``on_connect``, ``on_disconnect`` and ``on_push`` are not taken over.

        Raises:
            TypeError, ValueError: If a change is not what it should be.
        """
        clone = Redis.__new__(Redis)
        clone._begin(replace(self._settings, **changes))
        return clone

    @property
    def connected(self) -> bool:
        """Whether there is a connection now; the first command makes one."""
        link = self._channel.link
        return link is not None and link.up

    @property
    def protocol(self) -> int:
        """The protocol of the connection, 2 or 3; 0 if there is none."""
        link = self._channel.link
        return 0 if link is None else link.protocol

    @property
    def pending(self) -> int:
        """How many commands and pipelines wait for a reply, sent or not."""
        return self._channel.pending

    def close(self) -> None:
        """End the client and its connection. Idempotent, allowed everywhere.

        What waits fails with :class:`ClientClosed`, and so do later commands.
        """
        self._channel.close()

    def _end(self) -> None:
        self.close()

    def __repr__(self) -> str:
        link = self._channel.link
        state = "not connected" if link is None else "connected" if link.up else "connecting"
        return f"<Redis {self._settings.where} {state}, {self.pending} pending>"

    def __del__(self) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None:
            let_go(channel.thread, channel.loop, channel.drop)
