"""The client: what a program holds. The work is the session's."""

from __future__ import annotations

__all__ = ("Client", "Events")

from _thread import get_ident
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import ref

import ae_core as ae

from ._capabilities import DEFAULT_CAPABILITIES
from ._errors import IrcError
from ._events import Event
from ._features import Features
from ._message import MAX_TAGS, encode
from ._registration import Identity, names
from ._session import Session
from ._settings import check_channel, make_settings
from ._sts import StsStore
from ._text import ctcp, split_text
from ._version import __version__

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ae_core.abc import Backend

    from ._sasl import Sasl
    from ._state import Channel, User

E = TypeVar("E", bound=Event)

CTCP_REPLIES: Final = MappingProxyType(
    {"VERSION": f"ae-irc {__version__}", "SOURCE": "AnyEvent for Python"}
)


class Client:
    """A client of an IRC network.

    Args:
        url: ``ircs://host`` (TLS, port 6697) or ``irc://host`` (port 6667), with ``:port`` and
            ``/channel,channel`` if you like. Within TLS the server's certificate and name are
            checked.
        nick: The nick, or several: the next is taken if one is in use, then such with digits. If
            the first becomes free it is taken back.
        username: What stands behind the ``!`` of our source; by default the nick.
        realname: For people; by default the nick.
        password: Of the server (PASS), not of an account.
        sasl: As whom to log in. If that fails the server is left again (:class:`SaslFailed`).
        channels: Channels to be in, a mapping gives their keys. They are joined again on each
            connection.
        tls_context: An ``ae_tls.Context`` or an ``ssl.SSLContext``; None for the installed engine,
            which needs ae-tls. A certificate in it is what EXTERNAL shows.
        capabilities: What to ask the server for, if it has it.
        burst, rate: How many lines may be sent together, and how many further ones in a second;
            what is more waits. None as *rate*: no limit.
        ping_interval: After so many seconds of silence the server is asked for a sign of life,
            after twice as many the connection is given up.
        connect_timeout: How many seconds it may take to connect and be let in.
        attempts: How often the first connection is tried before it is an error; None: for ever.
            Later ones are tried for ever, until the server says no for good.
        max_delay: The longest pause between two attempts (:class:`ae_socket.Backoff`).
        max_unread: How many events an iterator may have before it; then the server is read no
            further until half of them are taken.
        sts: Where the strict transport policies of servers are kept; by default for this client
            only, in memory.
        ctcp_replies: What is answered to CTCP requests, by command; PING and CLIENTINFO are
            answered besides, unless it is empty.

    **When**: it connects in the next turn of the loop. No callback runs inside a call.

    **Lifetime**: an interest: dropping it ends it, as :meth:`close` does. While one of its
    condition variables, or an iterator over its events, is alive it lives on. It belongs to the
    loop and the thread it was made in.

    Raises:
        TypeError, ValueError: If an argument cannot be.

    Example:
        >>> client = Client("irc://localhost", nick="anna")
        >>> client.close()

    Perl: ``AnyEvent::IRC::Client``
    """

    __slots__ = ("__weakref__", "_session", "_thread")

    def __init__(
        self,
        url: str,
        *,
        nick: str | Iterable[str],
        username: str | None = None,
        realname: str | None = None,
        password: str | None = None,
        sasl: Sasl | None = None,
        channels: Iterable[str] | Mapping[str, str | None] = (),
        tls_context: Any = None,
        capabilities: Iterable[str] = DEFAULT_CAPABILITIES,
        burst: float = 5,
        rate: float | None = 0.5,
        ping_interval: float = 90.0,
        connect_timeout: float = 60.0,
        attempts: int | None = 5,
        max_delay: float = 300.0,
        max_unread: int = 1000,
        sts: StsStore | None = None,
        ctcp_replies: Mapping[str, str] = CTCP_REPLIES,
    ) -> None:
        if isinstance(channels, str):
            raise TypeError(f"expected several channels, got {channels!r}")
        nicks = names(nick)
        identity = Identity(
            nicks,
            nicks[0] if username is None else username,
            nicks[0] if realname is None else realname,
            password,
            sasl,
            tuple(capabilities),
        )
        encode("USER", identity.username, "0", "*", identity.realname)
        encode("PASS", password or "none")
        wanted = channels if isinstance(channels, Mapping) else dict.fromkeys(channels)
        settings = make_settings(
            url,
            identity,
            wanted,
            tls_context=tls_context,
            burst=burst,
            rate=rate,
            ping_interval=ping_interval,
            connect_timeout=connect_timeout,
            attempts=attempts,
            max_delay=max_delay,
            max_unread=max_unread,
            sts=StsStore() if sts is None else sts,
            ctcp_replies=dict(ctcp_replies),
        )
        self._thread = get_ident()
        self._session = Session(settings, ref(self))
        self._session.start()

    # ------------------------------------------------------------------ state

    @property
    def nick(self) -> str:
        """Our nick, as far as is known."""
        return self._session.state.nick

    @property
    def is_registered(self) -> bool:
        """Whether there is a connection on which the server has let us in."""
        connection = self._session.connection
        return connection is not None and connection.up

    @property
    def error(self) -> IrcError | None:
        """Why there will be no further connection; None as long as there may be one."""
        return self._session.error

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The channels we are in, by name in any spelling."""
        return self._session.state.channels

    @property
    def users(self) -> Mapping[str, User]:
        """Who shares a channel with us, by nick in any spelling."""
        return self._session.state.users

    @property
    def modes(self) -> frozenset[str]:
        """Our own modes."""
        return frozenset(self._session.state.umodes)

    @property
    def features(self) -> Features:
        """What the server says of itself (ISUPPORT)."""
        return self._session.state.features

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities that are on."""
        connection = self._session.connection
        if connection is None:
            return frozenset()
        return frozenset(connection.registration.capabilities.enabled)

    @property
    def queued(self) -> int:
        """How many lines wait to be sent."""
        return len(self._session.outbox)

    def same(self, one: str, other: str) -> bool:
        """Whether two nicks, or names of channels, are the same for this server."""
        return self._session.state.same(one, other)

    def __repr__(self) -> str:
        state = "registered" if self.is_registered else "closed" if self.error else "connecting"
        return f"<Client {self.nick} at {self._session.settings.where}, {state}>"

    # ------------------------------------------------------------------ events

    def on(self, kind: type[E], callback: Callable[[Client, E], object]) -> Callable[[], None]:
        """Call *callback* with the client and the event, for each event of this kind.

        Args:
            kind: The class of the events; :class:`Event` for all.
            callback: What it raises goes to ``ae_core.exception_hook``.

        Returns:
            A function that ends it; it may be dropped.
        """
        if not isinstance(kind, type) or not issubclass(kind, Event):
            raise TypeError(f"expected a class of events, got {kind!r}")
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        callbacks = self._session.callbacks[kind]
        callbacks.append(callback)

        def end() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return end

    def events(self) -> Events:
        """Return an iterator over all events from now on."""
        return Events(self)

    def __aiter__(self) -> Events:
        return Events(self)

    def registered(self) -> ae.CondVar[str]:
        """Return a condition variable for when the server has let us in; its value is the nick.

        It fails with :class:`CannotConnect` when that is given up.
        """
        return self._session.registered()

    def drained(self) -> ae.CondVar[None]:
        """Return a condition variable for when no line waits to be sent."""
        return self._session.drained()

    # ------------------------------------------------------------------ channels

    def join(self, channel: str, key: str | None = None) -> ae.CondVar[Channel]:
        """Go into a channel, and again on each further connection.

        Returns:
            A condition variable for when we are in it and know who else is; it fails with
            :class:`CannotJoin`. Cancelling it does not undo the joining.
        """
        check_channel(channel)
        self._check_thread()
        return self._session.join(channel, key)

    def part(self, channel: str, reason: str | None = None) -> None:
        """Leave a channel."""
        check_channel(channel)
        self._check_thread()
        self._session.part(channel, reason)

    # ------------------------------------------------------------------ sending

    def say(self, target: str, text: str, *, tags: Mapping[str, str] | None = None) -> int:
        """Say something to a channel or a user.

        Text that is too long for a line is split (:func:`ae_irc.split_text`), and so are its
        lines.

        Args:
            target: A channel or a nick.
            text: What to say.
            tags: Tags for clients, such as ``+draft/reply``; left out where the server does not
                pass them on. Of several lines each has them.

        Returns:
            How many lines that makes.

        Raises:
            ValueError: There is nothing to say, or no such target.
        """
        return self._say("PRIVMSG", target, text, tags)

    def notice(self, target: str, text: str, *, tags: Mapping[str, str] | None = None) -> int:
        """Say something that is not to be answered automatically; else as :meth:`say`."""
        return self._say("NOTICE", target, text, tags)

    def action(self, target: str, text: str, *, tags: Mapping[str, str] | None = None) -> int:
        """Say what we do (``/me``); else as :meth:`say`."""
        return self._say("PRIVMSG", target, text, tags, "ACTION")

    def ctcp(self, target: str, command: str, argument: str = "") -> None:
        """Ask a client something; the answer comes as :class:`Ctcp`, if one comes."""
        self.send("PRIVMSG", target, ctcp(command, argument))

    def ctcp_reply(self, target: str, command: str, argument: str = "") -> None:
        """Answer a CTCP request that is not answered by itself."""
        self.send("NOTICE", target, ctcp(command, argument))

    def _say(
        self,
        command: str,
        target: str,
        text: str,
        tags: Mapping[str, str] | None,
        mark: str | None = None,
    ) -> int:
        room = self._room(command, target) - (0 if mark is None else len(mark) + 3)
        if "\0" in text or (mark is not None and "\x01" in text):
            raise ValueError(f"expected text without control characters, got {text!r:.80}")
        pieces = split_text(text, max(room, 4))
        if not pieces:
            raise ValueError("expected something to say, got nothing")
        lines = [piece if mark is None else ctcp(mark, piece) for piece in pieces]
        for line in lines:
            self.send(command, target, line, tags=tags)
        return len(lines)

    def _room(self, command: str, target: str) -> int:
        """How many bytes of text arrive, when the server has put our source before it."""
        state = self._session.state
        number = state.features.number
        if state.source is None or not self.is_registered:
            nick = max(number("NICKLEN", 30), len(state.nick.encode("utf-8", "surrogateescape")))
            source = nick + number("USERLEN", 10) + number("HOSTLEN", 64) + 2
        else:
            source = len(state.source.encode("utf-8", "surrogateescape"))
        name = len(target.encode("utf-8", "surrogateescape"))
        return number("LINELEN", 512) - source - name - len(f": {command}  :\r\n")

    def send(self, command: str, *params: str, tags: Mapping[str, str] | None = None) -> None:
        """Send any line, when its turn comes.

        What was not sent when a connection ends is sent on the next one.

        Raises:
            TypeError, ValueError: See :func:`ae_irc.encode`.
            ClientClosed: The client is.
        """
        self._check_thread()
        session = self._session
        line = encode(command, *params, tags=tags)
        if tags:
            plain = encode(command, *params)
            if len(line) - len(plain) > MAX_TAGS:
                raise ValueError(f"expected tags of {MAX_TAGS} bytes at most")
            if self.is_registered and not session.is_enabled("message-tags"):
                line = plain
        if session.closed:
            raise session._why()
        session.outbox.put(line)

    # ------------------------------------------------------------------ the end

    def quit(self, reason: str = "") -> ae.CondVar[None]:
        """Take leave: send what is queued, then QUIT.

        Returns:
            A condition variable for when the connection has ended, by the server or after 5 s.
        """
        self._check_thread()
        return self._session.quit(reason)

    def close(self) -> None:
        """End it immediately. Idempotent. Waiters get :class:`ClientClosed`, iterators end."""
        self._session.close()

    def _check_thread(self) -> None:
        if self._thread != get_ident():
            raise RuntimeError("a call in another thread than the client's: use call_threadsafe()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            _let_go(self._thread, session.loop, session.close)


class Events:
    """An iterator over the events of a client, from when it was made; of no use to others.

    ``async for event in client`` makes one. The last event is a :class:`Disconnected` without
    delay, unless the client was closed.
    """

    __slots__ = ("__weakref__", "_events", "_waiting", "client")

    def __init__(self, client: Client) -> None:
        self.client = client
        self._events: deque[Event] = deque()
        self._waiting: deque[ae.CondVar[Event]] = deque()
        client._session.readers.append(ref(self))

    def next(self) -> ae.CondVar[Event]:
        """Return a condition variable for the next event; it fails when there will be none.

        Who is cancelled while waiting loses no event.
        """
        condvar: ae.CondVar[Event] = ae.CondVar(cancel=self._forget, untaken=self._put_back)
        self._waiting.append(condvar)
        if self._events or self.client._session.closed:
            ae.postpone(self._serve)
        return condvar

    def _forget(self) -> None:
        """Drop the waiters that are ready, as a cancelled one is."""
        self._waiting = deque(each for each in self._waiting if not each.ready)

    def _put_back(self, event: Event) -> None:
        """It was delivered to who was cancelled before they had it."""
        self._events.appendleft(event)
        self._serve()

    def _put(self, event: Event) -> None:
        self._events.append(event)
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        session = self.client._session
        while self._waiting:
            if self._waiting[0].ready:
                self._waiting.popleft()
            elif self._events:
                self._waiting.popleft().send(self._events.popleft())
            elif session.closed:
                self._waiting.popleft().throw(session._why())
            else:
                break
        session.look_at_readers()

    def __del__(self) -> None:
        client = getattr(self, "client", None)
        if client is not None:
            self._events.clear()  # it is not to be waited for any more
            session = client._session
            _let_go(client._thread, session.loop, session.look_at_readers)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        session = self.client._session
        if self._events and not self._waiting:
            event = self._events.popleft()
            session.look_at_readers()
            return event
        if session.closed:
            raise StopAsyncIteration
        try:
            return await self.next()
        except IrcError:
            raise StopAsyncIteration from None


def _let_go(thread: int, loop: Backend | None, end: Callable[[], None]) -> None:
    """Call *end* in its own *thread*: for finalizers, which run in any."""
    if thread == get_ident():
        end()
    elif loop is not None:
        try:
            loop.call_threadsafe(end)
        except RuntimeError:
            return  # the loop has ended, and everything with it
