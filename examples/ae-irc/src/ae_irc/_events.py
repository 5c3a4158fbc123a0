"""What happens on a connection, one class for each kind of event.

Plain data: ``match event: case Text(nick=nick, text=text): ...``. All listeners are given the same
object, so it must not be changed. (It is not frozen: that takes twice as long to make.)
"""

from __future__ import annotations

__all__ = (
    "AccountChanged",
    "AwayChanged",
    "Connected",
    "Ctcp",
    "Disconnected",
    "Event",
    "HostChanged",
    "Invited",
    "Joined",
    "Kicked",
    "Left",
    "Listed",
    "ModesChanged",
    "NickChanged",
    "Other",
    "Quit",
    "Registered",
    "Text",
    "TopicChanged",
)

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from ._errors import IrcError
from ._features import ModeChange
from ._message import Message


@dataclass
class Event:
    """What all events have in common.

    Attributes:
        message: The line it comes from; None for what is not from the server.
        is_own: We have caused it ourselves.
    """

    message: Message | None = None
    is_own: bool = False

    @cached_property
    def time(self) -> datetime | None:
        """When it happened, if the server says so (server-time); in UTC."""
        text = "" if self.message is None else self.message.tags.get("time", "")
        try:
            return datetime.fromisoformat(text) if text.endswith("Z") else None
        except ValueError:
            return None


@dataclass(kw_only=True)
class Connected(Event):
    """There is a connection; the greeting follows.

    Attributes:
        host, port: To whom.
        is_secure: Within TLS.
    """

    host: str
    port: int | str
    is_secure: bool


@dataclass(kw_only=True)
class Registered(Event):
    """The server has let us in and said what it can.

    Attributes:
        nick: Ours.
        is_again: It is not the first connection.
    """

    nick: str
    is_again: bool


@dataclass(kw_only=True)
class Disconnected(Event):
    """The connection has ended, or was not made.

    Attributes:
        error: Why.
        delay: In how many seconds it is tried again; None: it is not.
    """

    error: IrcError
    delay: float | None


@dataclass(kw_only=True)
class Text(Event):
    """A user has said something.

    Attributes:
        nick: Who.
        target: A channel, or our nick (with echo-message, whom we have written to).
        text: What, without CTCP's marks.
        kind: ``message``, ``notice`` (which is not answered automatically), or ``action`` (/me).
        status: Signs such as ``@`` if it is for some members of the channel only.
        channel: The channel; None if it is for a user.
    """

    nick: str
    target: str
    text: str
    kind: Literal["message", "notice", "action"] = "message"
    status: str = ""
    channel: str | None = None

    @property
    def reply_target(self) -> str:
        """Where an answer belongs: the channel, or who wrote to us."""
        return self.nick if self.channel is None else self.channel


@dataclass(kw_only=True)
class Ctcp(Event):
    """A CTCP request, or the reply to one, other than ACTION.

    Attributes:
        nick: Who.
        target: Whom it is for.
        command: In capitals, such as ``VERSION``.
        argument: What stands behind it.
        is_reply: It came as a notice.
    """

    nick: str
    target: str
    command: str
    argument: str
    is_reply: bool


@dataclass(kw_only=True)
class Joined(Event):
    """A user has come into a channel."""

    nick: str
    channel: str


@dataclass(kw_only=True)
class Listed(Event):
    """All members of a channel are known."""

    channel: str


@dataclass(kw_only=True)
class Left(Event):
    """A user has left a channel."""

    nick: str
    channel: str
    reason: str


@dataclass(kw_only=True)
class Kicked(Event):
    """A user was put out of a channel, *by* another one."""

    nick: str
    channel: str
    by: str
    reason: str


@dataclass(kw_only=True)
class Quit(Event):
    """A user has left the network.

    Attributes:
        channels: Those in which we have seen it.
    """

    nick: str
    reason: str
    channels: tuple[str, ...]


@dataclass(kw_only=True)
class NickChanged(Event):
    """A user has another nick."""

    old: str
    new: str


@dataclass(kw_only=True)
class TopicChanged(Event):
    """A channel has a topic; *by* is empty if it had it when we came."""

    channel: str
    topic: str
    by: str


@dataclass(kw_only=True)
class ModesChanged(Event):
    """The modes of a channel or a user were changed."""

    target: str
    changes: tuple[ModeChange, ...]
    by: str


@dataclass(kw_only=True)
class Invited(Event):
    """A user was invited to a channel: we, or *nick* (invite-notify)."""

    nick: str
    channel: str
    by: str


@dataclass(kw_only=True)
class AwayChanged(Event):
    """A user is away, with a *text*, or back, without (away-notify)."""

    nick: str
    text: str


@dataclass(kw_only=True)
class AccountChanged(Event):
    """A user has logged in to an *account*, or out: None (account-notify)."""

    nick: str
    account: str | None


@dataclass(kw_only=True)
class HostChanged(Event):
    """A user has another user name and host (chghost)."""

    nick: str
    user: str
    host: str


@dataclass(kw_only=True)
class Other(Event):
    """Any other line; :attr:`message` is all there is.

    Attributes:
        is_refusal: It is one of the numerics that say no.
        text: The last parameter, for people.
    """

    is_refusal: bool
    text: str
