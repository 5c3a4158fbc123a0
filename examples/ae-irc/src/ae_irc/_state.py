"""Who is where: the channels we are in, and the users we see there.

Sans-I/O: messages in, events out. The state is that after the event.
"""

from __future__ import annotations

__all__ = ("Channel", "State", "User")

from collections.abc import Callable, Mapping
from sys import intern
from types import MappingProxyType
from typing import Any, Final

from . import _events as events
from ._features import Features, ModeChange, parse_modes
from ._folding import FoldedDict, fold
from ._message import Message, readable, split_source
from ._text import parse_ctcp

# Theory of operation
# -------------------
# A user is known from the first line in which it shares a channel with us until it shares none.
# `members` of a channel is the relation in one direction, `User.channels` in the other, and
# _add and _remove change both. Names are compared as CASEMAPPING says, everywhere.


class User:
    """A user who shares a channel with us. What the server has not said is None.

    Attributes:
        nick: The nick.
        user, host: The other parts of the source.
        account: Where it is logged in; empty: nowhere.
        realname: For people.
        away: The text of who is away; empty: not away.
        channels: The channels that we share.
    """

    __slots__ = ("account", "away", "channels", "host", "nick", "realname", "user")

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.user: str | None = None
        self.host: str | None = None
        self.account: str | None = None
        self.realname: str | None = None
        self.away: str | None = None
        self.channels: list[Channel] = []

    def __repr__(self) -> str:
        return f"<User {self.nick}>"


class Channel:
    """A channel that we are in.

    Attributes:
        name: Its name.
        topic, topic_by: What it is about, and who says so; empty if it has none.
        modes: Its modes, with arguments, but for lists and members.
        is_listed: All members are known.
    """

    __slots__ = ("_members", "_modes", "is_listed", "name", "topic", "topic_by")

    def __init__(self, name: str, mapping: str) -> None:
        self.name = name
        self.topic = self.topic_by = ""
        self.is_listed = False
        self._modes: dict[str, str | None] = {}
        self._members: FoldedDict[str] = FoldedDict(mapping)

    @property
    def members(self) -> Mapping[str, str]:
        """Nicks, in any spelling, with their modes, such as ``o``, strongest first."""
        return self._members

    @property
    def modes(self) -> Mapping[str, str | None]:
        """The modes that are set, with their arguments."""
        return MappingProxyType(self._modes)

    def __repr__(self) -> str:
        return f"<Channel {self.name}, {len(self._members)} members>"


class State:
    """What is known, and what the lines change of it.

    Attributes:
        nick: Ours.
        features: What the server says of itself.
        channels, users: By name.
        umodes: Our own modes.
    """

    __slots__ = ("_mapping", "channels", "features", "nick", "source", "umodes", "users")

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.source: str | None = None  # ours, as others see it
        self.features = Features()
        self._mapping = self.features.casemapping
        self.channels: FoldedDict[Channel] = FoldedDict()
        self.users: FoldedDict[User] = FoldedDict()
        self.umodes: set[str] = set()

    def same(self, one: str, other: str) -> bool:
        """Whether two names are the same."""
        mapping = self.features.casemapping
        return one == other or fold(one, mapping) == fold(other, mapping)

    def handle(self, message: Message) -> events.Event | None:
        """Take a line; return what happened, None if that is nothing for a program."""
        handler = _HANDLERS.get(message.command)
        if handler is not None:
            event: events.Event | None = handler(self, message)
            if event is not _OTHER:
                return event
        command = message.command
        refusal = "400" <= command <= "599" and command.isdigit() and command != "422"
        return events.Other(message=message, is_refusal=refusal, text=readable(message.param(-1)))

    # ------------------------------------------------------------------ relations

    def _add(self, channel: Channel, nick: str, modes: str | None = None) -> User:
        user = self.users.get(nick)
        if user is None:
            nick = intern(nick)  # clients of one process share it
            user = self.users[nick] = User(nick)
        if nick not in channel._members:
            user.channels.append(channel)
            channel._members[nick] = modes or ""
        elif modes is not None:
            channel._members[nick] = modes
        return user

    def _remove(self, channel: Channel, nick: str) -> None:
        if nick in channel._members:
            del channel._members[nick]
            user = self.users[nick]
            user.channels.remove(channel)
            if not user.channels:
                del self.users[nick]

    def _forget(self, channel: Channel) -> None:
        for nick in list(channel._members):
            self._remove(channel, nick)
        self.channels.pop(channel.name, None)

    def _see(self, message: Message, user: User | None) -> None:
        """Note what the source and the tags of a line tell of a user."""
        _, name, host = split_source(message.source)
        if user is not None and name and host:
            user.user, user.host = name, host
            if "account" in message.tags:
                user.account = message.tags["account"]

    # ------------------------------------------------------------------ users join and leave

    def _join(self, message: Message) -> events.Event | None:
        nick, name = message.nick, message.param(0)
        own = self.same(nick, self.nick)
        channel = self.channels.get(name)
        if channel is None:
            if not own or not name:
                return None
            channel = self.channels[name] = Channel(name, self.features.casemapping)
        if own:
            self.source = message.source
        user = self._add(channel, nick)
        if len(message.params) >= 3:  # extended-join
            user.account = "" if message.params[1] == "*" else message.params[1]
            user.realname = message.params[2]
        self._see(message, user)
        return events.Joined(message=message, is_own=own, nick=nick, channel=channel.name)

    def _part(self, message: Message) -> events.Event | None:
        channel = self.channels.get(message.param(0))
        if channel is None:
            return None
        own = self._gone(channel, message.nick)
        reason = readable(message.param(1))
        return events.Left(
            message=message, is_own=own, nick=message.nick, channel=channel.name, reason=reason
        )

    def _kick(self, message: Message) -> events.Event | None:
        channel = self.channels.get(message.param(0))
        if channel is None:
            return None
        nick = message.param(1)
        self._gone(channel, nick)
        return events.Kicked(
            message=message,
            is_own=self.same(message.nick, self.nick),
            nick=nick,
            channel=channel.name,
            by=message.nick,
            reason=readable(message.param(2)),
        )

    def _gone(self, channel: Channel, nick: str) -> bool:
        own = self.same(nick, self.nick)
        if own:
            self._forget(channel)
        else:
            self._remove(channel, nick)
        return own

    def _quit(self, message: Message) -> events.Event:
        nick = message.nick
        user = self.users.get(nick)
        channels = [] if user is None else list(user.channels)
        for channel in channels:
            self._remove(channel, nick)
        return events.Quit(
            message=message,
            is_own=self.same(nick, self.nick),
            nick=nick,
            reason=readable(message.param(0)),
            channels=tuple(channel.name for channel in channels),
        )

    def _nick(self, message: Message) -> events.Event | None:
        old, new = message.nick, message.param(0)
        if not new:
            return None
        own = self.same(old, self.nick)
        if own:
            self.nick = new
            if self.source is not None:
                self.source = new + self.source[len(old) :]
        user = self.users.pop(old, None)
        if user is not None:
            double = self.users.get(new)
            for channel in [] if double is None else list(double.channels):
                self._remove(channel, new)  # the server has not told that it went
            user.nick = new
            self.users[new] = user
            for channel in user.channels:
                channel._members[new] = channel._members.pop(old)
        return events.NickChanged(message=message, is_own=own, old=old, new=new)

    # ------------------------------------------------------------------ names

    def _names(self, message: Message) -> None:
        channel = self.channels.get(message.param(2))
        if channel is None:
            return
        split = self.features.split_name
        for word in message.param(3).split():
            modes, source = split(word)
            nick, name, host = split_source(source)  # userhost-in-names
            if nick:
                user = self._add(channel, nick, modes)
                if name and host:
                    user.user, user.host = name, host

    def _end_of_names(self, message: Message) -> events.Event | None:
        channel = self.channels.get(message.param(1))
        if channel is None or channel.is_listed:
            return None
        channel.is_listed = True
        return events.Listed(message=message, channel=channel.name)

    def _who(self, message: Message) -> Any:
        if len(message.params) >= 8:
            user = self.users.get(message.params[5])
            if user is not None:
                user.user, user.host = message.params[2], message.params[3]
                user.realname = message.params[7].partition(" ")[2]
        return _OTHER

    # ------------------------------------------------------------------ channels

    def _topic(self, message: Message) -> events.Event | None:
        channel = self.channels.get(message.param(0))
        if channel is None:
            return None
        channel.topic = readable(message.param(1))
        channel.topic_by = message.source or ""
        return events.TopicChanged(
            message=message,
            is_own=self.same(message.nick, self.nick),
            channel=channel.name,
            topic=channel.topic,
            by=message.nick,
        )

    def _topic_reply(self, message: Message) -> Any:
        channel = self.channels.get(message.param(1))
        if channel is None:
            return _OTHER
        channel.topic = "" if message.command == "331" else readable(message.param(2))
        channel.topic_by = ""
        return events.TopicChanged(
            message=message, channel=channel.name, topic=channel.topic, by=""
        )

    def _topic_by(self, message: Message) -> Any:
        channel = self.channels.get(message.param(1))
        if channel is None:
            return _OTHER
        channel.topic_by = message.param(2)
        return None

    def _mode(self, message: Message) -> events.Event | None:
        target, *words = message.params or ("",)
        channel = self.channels.get(target)
        changes = parse_modes(words, self.features, channel=self.features.is_channel(target))
        if channel is not None:
            self._change(channel, changes)
        elif self.same(target, self.nick):
            self._change_own(changes)
        return events.ModesChanged(
            message=message,
            is_own=self.same(message.nick, self.nick),
            target=target,
            changes=tuple(changes),
            by=message.nick,
        )

    def _change(self, channel: Channel, changes: list[ModeChange]) -> None:
        lists = self.features.chanmodes[0]
        prefixes = self.features.prefixes
        for added, mode, argument in changes:
            if mode in prefixes:
                if argument is not None and argument in channel._members:
                    has = set(channel._members[argument]) - {mode} | ({mode} if added else set())
                    nick = self.users[argument].nick  # not in the spelling of the argument
                    channel._members[nick] = "".join(each for each in prefixes if each in has)
            elif mode not in lists:
                if added:
                    channel._modes[mode] = argument
                else:
                    channel._modes.pop(mode, None)

    def _change_own(self, changes: list[ModeChange]) -> None:
        for added, mode, _ in changes:
            (self.umodes.add if added else self.umodes.discard)(mode)

    def _mode_reply(self, message: Message) -> Any:
        channel = self.channels.get(message.param(1))
        if channel is not None:
            channel._modes.clear()
            self._change(channel, parse_modes(message.params[2:], self.features, channel=True))
        return _OTHER

    def _umode_reply(self, message: Message) -> Any:
        self.umodes.clear()
        self._change_own(parse_modes(message.params[1:], self.features, channel=False))
        return _OTHER

    # ------------------------------------------------------------------ messages

    def _text(self, message: Message) -> events.Event:
        nick, target, text = message.nick, message.param(0), message.param(1)
        self._see(message, self.users.get(nick))
        own = self.same(nick, self.nick)
        notice = message.command == "NOTICE"
        said = parse_ctcp(text) if text.startswith("\x01") else None
        if said is not None and said[0] != "ACTION":
            return events.Ctcp(
                message=message,
                is_own=own,
                nick=nick,
                target=target,
                command=said[0],
                argument=readable(said[1]),
                is_reply=notice,
            )
        status, name = self.features.split_status(target)
        return events.Text(
            message=message,
            is_own=own,
            nick=nick,
            target=target,
            text=readable(text if said is None else said[1]),
            kind="action" if said is not None else "notice" if notice else "message",
            status=status,
            channel=name if self.features.is_channel(name) else None,
        )

    def _invite(self, message: Message) -> events.Event:
        return events.Invited(
            message=message,
            is_own=self.same(message.nick, self.nick),
            nick=message.param(0),
            channel=message.param(1),
            by=message.nick,
        )

    # ------------------------------------------------------------------ other facts

    def _away(self, message: Message) -> events.Event:
        user, text = self.users.get(message.nick), readable(message.param(0))
        if user is not None:
            user.away = text
        own = self.same(message.nick, self.nick)
        return events.AwayChanged(message=message, is_own=own, nick=message.nick, text=text)

    def _account(self, message: Message) -> events.Event:
        user, name = self.users.get(message.nick), message.param(0)
        account = "" if name == "*" else name
        if user is not None:
            user.account = account
        return events.AccountChanged(
            message=message,
            is_own=self.same(message.nick, self.nick),
            nick=message.nick,
            account=account or None,
        )

    def _host(self, message: Message) -> events.Event:
        nick, (name, host) = message.nick, (message.param(0), message.param(1))
        user = self.users.get(nick)
        if user is not None:
            user.user, user.host = name, host
        own = self.same(nick, self.nick)
        if own:
            self.source = f"{nick}!{name}@{host}"
        return events.HostChanged(message=message, is_own=own, nick=nick, user=name, host=host)

    def _realname(self, message: Message) -> Any:
        user = self.users.get(message.nick)
        if user is not None:
            user.realname = message.param(0)
        return _OTHER

    # ------------------------------------------------------------------ the server

    def _welcome(self, message: Message) -> Any:
        self.nick = message.param(0) or self.nick
        return _OTHER

    def _isupport(self, message: Message) -> Any:
        self.features.update(message.params[1:-1])
        mapping = self.features.casemapping
        if mapping != self._mapping:
            self._mapping = mapping
            self._fold_again(mapping)
        return _OTHER

    def _fold_again(self, mapping: str) -> None:
        """Other names are the same from now on: make the relations anew."""
        self.users.set_mapping(mapping)
        self.channels.set_mapping(mapping)
        for user in self.users.values():
            user.channels = []
        for channel in self.channels.values():
            channel._members.set_mapping(mapping)
            for nick in channel._members:
                self.users[nick].channels.append(channel)
        for nick in [nick for nick, user in self.users.items() if not user.channels]:
            del self.users[nick]


#: What a handler returns to have the line shown as it is.
_OTHER: Final[Any] = object()

_HANDLERS: Final[dict[str, Callable[[State, Message], Any]]] = {
    "001": State._welcome,
    "005": State._isupport,
    "221": State._umode_reply,
    "324": State._mode_reply,
    "331": State._topic_reply,
    "332": State._topic_reply,
    "333": State._topic_by,
    "352": State._who,
    "353": State._names,
    "366": State._end_of_names,
    "ACCOUNT": State._account,
    "AWAY": State._away,
    "CHGHOST": State._host,
    "INVITE": State._invite,
    "JOIN": State._join,
    "KICK": State._kick,
    "MODE": State._mode,
    "NICK": State._nick,
    "NOTICE": State._text,
    "PART": State._part,
    "PRIVMSG": State._text,
    "QUIT": State._quit,
    "SETNAME": State._realname,
    "TOPIC": State._topic,
}
