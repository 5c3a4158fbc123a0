"""Which capabilities a server has, and which of them are on: IRCv3's CAP, version 302.

Sans-I/O: messages in, lines to send out.
"""

from __future__ import annotations

__all__ = ("DEFAULT_CAPABILITIES", "Capabilities", "parse_capabilities")

from collections.abc import Iterable
from typing import Final

from ._message import Message

#: What a client asks for if the server has it.
DEFAULT_CAPABILITIES: Final = (
    "account-notify",
    "account-tag",
    "away-notify",
    "cap-notify",
    "chghost",
    "echo-message",
    "extended-join",
    "invite-notify",
    "message-tags",
    "multi-prefix",
    "server-time",
    "setname",
    "userhost-in-names",
)
# Bytes of names in one request: with its command it must stay below 512.
_ROOM: Final = 400

Line = tuple[str, ...]


class Capabilities:
    """The negotiation, as long as a connection lasts.

    Args:
        wanted: Names to ask for.

    Attributes:
        offered: What the server has, with values (``sasl``: ``PLAIN,EXTERNAL``).
        enabled: What is on.
        listed: The server has told all it has.
        settled: And has answered all that we asked for.
    """

    __slots__ = ("_asked", "_sent", "enabled", "listed", "offered", "settled", "wanted")

    def __init__(self, wanted: Iterable[str] = DEFAULT_CAPABILITIES) -> None:
        self.wanted = frozenset(wanted) - {"sts"}  # which is told, and never asked for
        self.offered: dict[str, str] = {}
        self.enabled: set[str] = set()
        self.listed = False
        self.settled = False
        self._asked: list[tuple[str, ...]] = []
        self._sent: set[str] = set()

    def start(self) -> Line:
        """Return the first line."""
        return "CAP", "LS", "302"

    def request(self) -> list[Line]:
        """Return what asks for all that is wanted, offered and not asked for yet."""
        names = sorted(self.wanted & self.offered.keys() - self.enabled - self._sent)
        self._sent.update(names)
        lines: list[list[str]] = []
        room = 0
        for name in names:
            if len(name) + 1 > room:
                lines.append([])
                room = _ROOM
            lines[-1].append(name)
            room -= len(name) + 1
        self._asked += [tuple(line) for line in lines]
        self._check()
        return [("CAP", "REQ", " ".join(line)) for line in lines]

    def handle(self, message: Message) -> list[Line]:
        """Take a CAP of the server; return what to send, which is nothing for a first list."""
        verb = message.param(1).upper()
        names = parse_capabilities(message.param(-1))
        if verb == "LS":
            self.offered.update(names)
            self.listed = self.listed or message.param(2) != "*"
        elif verb == "NEW":
            self.offered.update(names)
            waiting = {name for asked in self._asked for name in asked}
            self._sent.difference_update(names.keys() - waiting)
            return self.request()
        elif verb == "DEL":
            for name in names:
                self.offered.pop(name, None)
                self.enabled.discard(name)
                self._sent.discard(name)
        elif verb == "ACK":
            self._answered(names)
            for name in names:
                if name.startswith("-"):
                    self.enabled.discard(name[1:])
                else:
                    self.enabled.add(name)
        elif verb == "NAK":
            refused = self._answered(names)
            if len(refused) > 1:  # none of them is on: see which one it was
                self._asked += [(name,) for name in refused]
                self.settled = False
                return [("CAP", "REQ", name) for name in refused]
        self._check()
        return []

    def _answered(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the request that *names* answer."""
        given = {name.lstrip("-~=") for name in names}
        for asked in self._asked:
            if given & set(asked):
                self._asked.remove(asked)
                return asked
        return self._asked.pop(0) if self._asked else ()

    def _check(self) -> None:
        self.settled = self.listed and not self._asked


def parse_capabilities(text: str) -> dict[str, str]:
    """Return the names in a list of capabilities, with their values."""
    pairs = (word.partition("=") for word in text.split())
    return {name: value for name, _, value in pairs}
