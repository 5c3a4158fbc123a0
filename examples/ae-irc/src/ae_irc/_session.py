"""What a client does between its user and the connection: connecting, joining, telling.

The record behind :class:`Client`: the loop owns it, through the connection or a timer, until the
client is closed or dropped.
"""

from __future__ import annotations

__all__ = ("Session",)

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae
from ae_socket import Backoff

from ._bucket import TokenBucket
from ._connection import Connection
from ._errors import (
    CannotJoin,
    ClientClosed,
    ConnectionLost,
    IrcError,
    Refused,
)
from ._events import (
    Connected,
    Ctcp,
    Disconnected,
    Event,
    Kicked,
    Left,
    Listed,
    NickChanged,
    Other,
    Quit,
    Registered,
    Text,
)
from ._folding import FoldedDict
from ._message import encode, parse
from ._outbox import Outbox
from ._state import State
from ._text import ctcp

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ref

    from ae_core.abc import Backend

    from ._client import Client, Events
    from ._message import Message
    from ._settings import Settings
    from ._state import Channel

# Theory of operation
# -------------------
# `wanted` are the channels that the program wants to be in, with their keys. They are joined when
# the greeting is over, on every connection. `joining` are those who wait to be in one; the names
# of its members are the last that comes, so that is when they are told.
#
# Lines go through the outbox, which is open from the end of the greeting on; the greeting itself,
# and the answers to PING, do not wait there.
#
# An event goes to the callbacks first and then to the iterators. Where one of these has too much
# unread, the server is not read any further: it is the slowest reader that decides.

#: From how many seconds on a connection has proved good.
_GOOD: Final = 60.0
#: The longest pause after the first failure.
_FIRST_DELAY: Final = 2.0
_NO_JOIN: Final = frozenset(
    [
        "403",
        "405",
        "407",
        "437",
        "470",
        "471",
        "473",
        "474",
        "475",
        "476",
        "477",
        "480",
        "489",
        "500",
        "520",
    ]
)
_SECONDS_TO_QUIT: Final = 5.0
_HEAR_OF_THE_END: Final = (Disconnected, Event)


class Session:
    """A client's connections, one after the other, and what is known by them."""

    def __init__(self, settings: Settings, client: ref[Client]) -> None:
        self.settings = settings
        self._client = client
        self.state = State(settings.identity.nicks[0])
        self.wanted: FoldedDict[str | None] = FoldedDict()
        self.wanted.update(settings.channels)
        self.callbacks: dict[type[Event], list[Callable[[Any, Any], object]]] = defaultdict(list)
        self.readers: list[ref[Events]] = []
        self.connection: Connection | None = None
        self.loop: Backend | None = None
        self.closed = False
        self.error: IrcError | None = None
        self.outbox = Outbox(settings.burst, settings.rate, self._send, self._emptied)
        self._backoff = Backoff(min(_FIRST_DELAY, settings.max_delay), most=settings.max_delay)
        self._replies = TokenBucket(3, 0.5)
        self._failures = 0
        self._was_up = False
        self._up_at = 0.0
        self._strict_port: int | None = None  # what an insecure greeting has told
        self._policy: dict[str, int] = {}  # the last one that was remembered
        self._regaining = False  # our nick is asked for, and that is not sent yet
        self._timer: ae.Watcher | None = None
        self._quitting = False
        self._joining: FoldedDict[list[ae.CondVar[Channel]]] = FoldedDict()
        self._registering: list[ae.CondVar[str]] = []
        self._draining: list[ae.CondVar[None]] = []
        self._ending: list[ae.CondVar[None]] = []
        self._held: Client | None = None

    # ------------------------------------------------------------------ the connection

    def start(self) -> None:
        """Begin to connect, in the next turn."""
        self.loop = ae.detect()
        self._timer = ae.timer(0.0, self._connect)

    def _connect(self) -> None:
        self._timer = None
        settings = self.settings
        port, secure = settings.port, settings.secure
        if not secure:
            strict = self._strict_port or settings.sts.port(settings.host)
            if strict is not None:
                port, secure = strict, True
        self.state = State(settings.identity.nicks[0])
        self.connection = Connection(settings, self, port=port, secure=secure)

    def connection_made(self, connection: Connection) -> None:
        """See :class:`Owner`."""
        self._tell(
            Connected(host=self.settings.host, port=connection.port, is_secure=connection.secure)
        )

    def connection_strict(self, connection: Connection, port: int) -> None:
        """See :class:`Owner`."""
        if self.connection is not connection:
            return
        was_up = self.outbox.is_open
        self._lose_connection()
        if self._quitting:
            self._has_quit()
            return
        self._strict_port = port
        self._timer = ae.timer(0.0, self._connect)
        if was_up:
            error = ConnectionLost(f"{self.settings.where} wants to be spoken to within TLS")
            self._tell(Disconnected(error=error, delay=0.0))

    def connection_up(self, connection: Connection) -> None:
        """See :class:`Owner`."""
        assert self.loop is not None
        self._up_at = self.loop.clock()
        again, self._was_up = self._was_up, True
        self._failures = 0
        mapping = self.state.features.casemapping
        self.wanted.set_mapping(mapping)
        self._joining.set_mapping(mapping)
        for name, key in self.wanted.items():
            connection.send(_join(name, key))
        self.outbox.open()
        waiting, self._registering = self._registering, []
        for condvar in waiting:
            condvar.send(self.state.nick)
        self._hold()
        self._tell(Registered(nick=self.state.nick, is_again=again))

    def connection_down(self, connection: Connection, error: IrcError) -> None:
        """See :class:`Owner`."""
        if self.connection is not connection:
            return
        assert self.loop is not None
        self._lose_connection()
        lasted = self.loop.clock() - self._up_at
        if self._was_up and not self._failures and lasted >= _GOOD:
            self._backoff.reset()
        self._failures += 1
        attempts = self.settings.attempts
        hopeless = isinstance(error, Refused) or (
            not self._was_up and attempts is not None and self._failures >= attempts
        )
        if self._quitting:
            self._has_quit()
            return
        if hopeless:
            self._end(error)
            return
        delay = next(self._backoff)
        self._timer = ae.timer(delay, self._connect)
        self._tell(Disconnected(error=error, delay=delay))

    def _lose_connection(self) -> None:
        connection, self.connection = self.connection, None
        self.outbox.close()
        self._regaining = False
        if connection is not None and connection.registration.sts.get("duration"):
            self.settings.sts.renew(self.settings.host)

    # ------------------------------------------------------------------ lines

    def _send(self, line: bytes) -> None:
        connection = self.connection
        if connection is None:
            return
        connection.send(line)
        command = line.split(b" ", 2)[1 if line[:1] == b"@" else 0]
        if command == b"NICK":
            self._regaining = False
        elif command in (b"PRIVMSG", b"NOTICE") and not self.is_enabled("echo-message"):
            message = parse(line)
            source = self.state.source or self.state.nick
            self._happened(
                self.state.handle(type(message)(message.command, message.params, source))
            )

    def is_enabled(self, capability: str) -> bool:
        """Whether the capability is on."""
        connection = self.connection
        if connection is None:
            return False
        return capability in connection.registration.capabilities.enabled

    def _remember(self, connection: Connection) -> None:
        """Keep to what the server has told within TLS, if that is something else than before."""
        policy = connection.registration.sts
        if policy and policy is not self._policy:
            self._policy = policy
            self.settings.sts.remember(self.settings.host, connection.port, policy["duration"])
            self._strict_port = None

    def connection_read(self, connection: Connection, message: Message) -> None:
        """See :class:`Owner`."""
        if message.command == "CAP" or message.command == "AUTHENTICATE":
            self._remember(connection)
            return
        if not connection.registration.welcome:
            self.state.nick = connection.registration.nick
        self._happened(self.state.handle(message))

    def _happened(self, event: Event | None) -> None:
        if event is None:
            return
        if event.__class__ is Text:  # most events are, and change nothing here
            self._tell(event)
            return
        match event:
            case Listed(channel=name):
                self._joined(name)
            case Left(is_own=True, channel=name):
                self._part(name, "we have left it")
            case Kicked(nick=nick, channel=name) if self.state.same(nick, self.state.nick):
                self._part(name, "we were put out")
            case Ctcp(is_reply=False, is_own=False):
                self._answer(event)
            case Other(is_refusal=True, message=message) if message is not None:
                if message.command in _NO_JOIN:
                    self._not_joined(message, event.text)
            case Quit(nick=nick, is_own=False) | NickChanged(old=nick, is_own=False):
                self._regain(nick)
        self._tell(event)

    def _answer(self, event: Ctcp) -> None:
        known = self.settings.ctcp_replies
        if event.command == "CLIENTINFO" and known:
            text = " ".join(sorted({"CLIENTINFO", "PING", *known}))
        elif event.command == "PING" and known:
            text = event.argument
        elif event.command in known:
            text = known[event.command]
        else:
            return
        assert self.loop is not None
        try:
            line = encode("NOTICE", event.nick, ctcp(event.command, text))
        except ValueError:  # what was asked cannot be answered
            return
        if self._replies.take(self.loop.clock()):
            self.outbox.put(line, lasting=False)

    def _regain(self, free: str) -> None:
        """A nick is free: it may be ours."""
        first = self.settings.identity.nicks[0]
        connection = self.connection
        if connection is None or not connection.up or self._regaining:
            return
        if self.state.same(free, first) and not self.state.same(self.state.nick, first):
            self._regaining = True
            self.outbox.put(encode("NICK", first), lasting=False)

    # ------------------------------------------------------------------ channels

    def join(self, name: str, key: str | None) -> ae.CondVar[Channel]:
        """Want to be in a channel."""
        condvar: ae.CondVar[Channel] = ae.CondVar(cancel=self._forget)
        line = _join(name, key)
        if self._fails(condvar):
            return condvar
        self.wanted[name] = key
        self._joining.setdefault(name, []).append(condvar)
        channel = self.state.channels.get(name)
        if channel is None:
            if self.connection is not None and self.connection.up:
                self.outbox.put(line, lasting=False)
        elif channel.is_listed:
            ae.postpone(lambda: self._joined(name))
        self._hold()
        return condvar

    def _joined(self, name: str) -> None:
        channel = self.state.channels.get(name)
        if channel is not None:
            for condvar in self._joining.pop(name, []):
                condvar.send(channel)
            self._hold()

    def _not_joined(self, message: Message, text: str) -> None:
        name = message.param(1)
        if name in self.wanted and name not in self.state.channels:
            del self.wanted[name]
            for condvar in self._joining.pop(name, []):
                what = f"cannot join {name}: {text}"
                condvar.throw(CannotJoin(what, channel=name, numeric=message.command))
            self._hold()

    def part(self, name: str, reason: str | None) -> None:
        """Do not want to be in a channel any more."""
        line = encode("PART", name) if reason is None else encode("PART", name, reason)
        self.wanted.pop(name, None)
        if self.connection is not None and self.connection.up:
            self.outbox.put(line, lasting=False)

    def _part(self, name: str, why: str) -> None:
        self.wanted.pop(name, None)
        for condvar in self._joining.pop(name, []):
            condvar.throw(CannotJoin(f"cannot join {name}: {why}", channel=name, numeric=""))
        self._hold()

    # ------------------------------------------------------------------ waiters

    def _fails(self, condvar: ae.CondVar[Any]) -> bool:
        """Whether there is no point in waiting; then *condvar* fails in the next turn."""
        if self.closed:
            ae.postpone(lambda: condvar.throw(self._why()))
        return self.closed

    def registered(self) -> ae.CondVar[str]:
        """Return a condition variable for the end of the greeting."""
        condvar: ae.CondVar[str] = ae.CondVar(cancel=self._forget)
        if not self._fails(condvar):
            if self.connection is not None and self.connection.up:
                ae.postpone(lambda: condvar.send(self.state.nick))
            else:
                self._registering.append(condvar)
            self._hold()
        return condvar

    def drained(self) -> ae.CondVar[None]:
        """Return a condition variable for when nothing waits to be sent."""
        condvar: ae.CondVar[None] = ae.CondVar(cancel=self._forget)
        if not self._fails(condvar):
            self._draining.append(condvar)
            if not self.outbox:
                ae.postpone(self._emptied)
            self._hold()
        return condvar

    def _emptied(self) -> None:
        if self._quitting and self.connection is not None and self.connection.up:
            self._timer = self._timer or ae.timer(_SECONDS_TO_QUIT, self._has_quit)
        if not self.outbox:
            waiting, self._draining = self._draining, []
            for condvar in waiting:
                condvar.send(None)
            self._hold()

    def _forget(self) -> None:
        """Drop the waiters that are ready, as a cancelled one is."""
        self._registering = [each for each in self._registering if not each.ready]
        self._draining = [each for each in self._draining if not each.ready]
        self._ending = [each for each in self._ending if not each.ready]
        for name, waiting in list(self._joining.items()):
            waiting[:] = [each for each in waiting if not each.ready]
            if not waiting:
                del self._joining[name]
        self._hold()

    def _hold(self) -> None:
        """Keep the client alive while something waits."""
        waits = self._joining or self._registering or self._draining or self._ending
        self._held = self._client() if waits and not self.closed else None

    def _tell(self, event: Event) -> None:
        client = self._client()
        if client is None or not (self.callbacks or self.readers):
            return
        for kind in type(event).__mro__[:-1]:
            for callback in tuple(self.callbacks.get(kind, ())):
                try:
                    callback(client, event)
                except BaseException as error:
                    ae.report_error(error)
        self.readers = [each for each in self.readers if each() is not None]
        for reference in self.readers:
            reader = reference()
            if reader is not None:
                reader._put(event)
        self.look_at_readers()

    def look_at_readers(self) -> None:
        """Read the server as fast as the slowest iterator takes events."""
        connection = self.connection
        if connection is None or not (self.readers or connection.is_paused):
            return
        most = self.settings.max_unread
        levels = [len(reader._events) for each in self.readers if (reader := each()) is not None]
        if levels and max(levels) >= most:
            connection.pause()
        elif connection.is_paused and max(levels, default=0) <= most // 2:
            connection.go_on()

    # ------------------------------------------------------------------ the end

    def quit(self, reason: str) -> ae.CondVar[None]:
        """Take leave when everything is sent."""
        condvar: ae.CondVar[None] = ae.CondVar(cancel=self._forget)
        line = encode("QUIT", reason)
        if self.closed:
            ae.postpone(condvar.send)
            return condvar
        self._ending.append(condvar)
        self._hold()
        if self._quitting:
            return condvar
        self._quitting = True
        self.wanted.clear()
        if self.connection is not None and self.connection.up:
            self.outbox.put(line)
        else:
            self._timer = ae.timer(0.0, self._has_quit)
        return condvar

    def _has_quit(self) -> None:
        self._end(ClientClosed("the client has quit"))

    def close(self) -> None:
        """End everything immediately; no callback runs any more."""
        if not self.closed:
            self.callbacks.clear()
            self._end(ClientClosed("the client was closed"), silent=True)

    def _why(self) -> IrcError:
        error = self.error or ClientClosed("the client was closed")
        again = type(error)(str(error), errno=error.errno or 0)
        again.__cause__ = error.__cause__
        return again

    def _end(self, error: IrcError, *, silent: bool = False) -> None:
        """There will be no further connection."""
        connection = self.connection
        self._lose_connection()
        if connection is not None and not connection.ended:
            connection.close()
        self.closed = True
        self.error = error
        self._timer = None
        self.outbox.clear()
        waiting: list[ae.CondVar[Any]] = [*self._registering, *self._draining]
        for joining in self._joining.values():
            waiting += joining
        left, self._ending = self._ending, []
        self._registering, self._draining = [], []
        self._joining.clear()
        self._held = None
        listening = any(self.callbacks.get(kind) for kind in _HEAR_OF_THE_END)
        heard = waiting or self.readers or listening
        readers = list(self.readers)

        def tell() -> None:
            for condvar in waiting:
                condvar.throw(self._why())
            for condvar in left:
                condvar.send(None)
            for reference in readers:
                reader = reference()
                if reader is not None:
                    reader._serve()

        if waiting or left or readers:
            ae.postpone(tell)  # first: a callback may end the loop, as when it closes a window
        if not silent:
            self._tell(Disconnected(error=error, delay=None))
            self.callbacks.clear()
            if not heard and not isinstance(error, ClientClosed):
                ae.report_error(error)
        self.readers = []


def _join(name: str, key: str | None) -> bytes:
    return encode("JOIN", name) if key is None else encode("JOIN", name, key)
