"""The greeting: capabilities, the account, the nick, until the server says welcome.

Sans-I/O: messages in, lines to send out. It fails by raising.
"""

from __future__ import annotations

__all__ = ("Identity", "Registration", "StsUpgrade", "names", "next_nick")

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ._capabilities import DEFAULT_CAPABILITIES, Capabilities, Line, parse_capabilities
from ._errors import CannotConnect, Refused, SaslFailed
from ._message import Message, readable
from ._sasl import Conversation, Sasl, authenticate, is_done, parse_sasl
from ._sts import parse_sts

# Theory of operation
# -------------------
# Everything is sent together: CAP LS, PASS, NICK, USER. A server that knows CAP then waits for
# CAP END, and one that does not says 421, or nothing, and goes on with the welcome; so nothing
# here waits for an answer to CAP as such. But a password would go as plaintext: the list may say
# that the server is to be spoken to within TLS. What comes after CAP LS is then held back until
# the whole list is there, or the server says that it does not know CAP, or, as some say nothing,
# until the connection has waited long enough.
#
# SASL comes when `sasl` is acknowledged. What an account was asked for must not go wrong silently:
# if there is none at the welcome, that is an error. A success counts only when the mechanism has
# said and heard all: with SCRAM the server must have proved that it knows the password, too.
#
# A server may shorten a nick before it refuses it. What it refuses tells how much it takes.
#
# `sts` counts whenever it comes, in a list or by CAP NEW: in plaintext its port means to begin anew
# within TLS, and within TLS its duration is noted.

#: Answers to CAP LS: unknown command, not registered yet, invalid or incomplete.
_NO_CAP: Final = {"421", "451", "410", "461"}
_NICK_TAKEN: Final = {"433", "436", "437"}
_NICK_BAD: Final = "432"
_SASL_DONE: Final = {"903", "907"}
_SASL_FAILED: Final = {"902", "904", "905", "906"}
_FOR_GOOD: Final = {"464": "a password is wrong or missing", "465": "banned", "466": "banned"}
_CHUNK: Final = 400
_MAX_SASL: Final = 1 << 16
#: How many bytes of a nick each server takes (RFC 2812).
_SHORTEST: Final = 9


class StsUpgrade(Exception):
    """The server is to be spoken to within TLS, at ``port``."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom to appear.

    Args:
        nicks: The nick, and others to take in turn if that is in use.
        username: What stands behind the ``!`` of our source.
        realname: For people.
        password: Of the server.
        sasl: Of an account.
        capabilities: What to ask the server for.
    """

    nicks: tuple[str, ...]
    username: str
    realname: str
    password: str | None = field(default=None, repr=False)
    sasl: Sasl | None = None
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES


class Registration:
    """One greeting.

    Args:
        identity: As whom.
        secure: Whether it happens within TLS.

    Attributes:
        nick: The one that was asked for last; once welcome, ours.
        welcome: Whether it is over.
        capabilities: The negotiation, which goes on afterwards.
        sts: The last policy that the server told within TLS, which has a ``duration``.
        account: Whether we are logged in: the server has said so at the end of the mechanism.
    """

    def __init__(self, identity: Identity, *, secure: bool) -> None:
        wanted = set(identity.capabilities)
        if identity.sasl is not None:
            wanted.add("sasl")
        self._identity = identity
        self._secure = secure
        self.capabilities = Capabilities(wanted)
        self.welcome = self.account = False
        self.sts: dict[str, int] = {}
        self.nick = identity.nicks[0]
        self._tried = 0
        self._room: int | None = None  # bytes of a nick, where the server has shown it
        self._ended = False  # CAP END was sent
        self._begun = False  # SASL was
        self._mechanisms: list[str] = []
        self._conversation: Conversation | None = None
        self._spoken = False
        self._chunks: list[str] = []
        self._held: list[Line] = []

    def start(self) -> list[Line]:
        """Return the first lines."""
        self._held = [
            ("NICK", self.nick),
            ("USER", self._identity.username, "0", "*", self._identity.realname),
        ]
        if self._identity.password is not None:
            self._held.insert(0, ("PASS", self._identity.password))
            if not self._secure:
                return [self.capabilities.start()]
        return [self.capabilities.start(), *self.release()]

    @property
    def is_held(self) -> bool:
        """Whether a password waits for the server's list of capabilities."""
        return bool(self._held)

    def release(self) -> list[Line]:
        """Return the lines that were held back: there is no list to wait for."""
        held, self._held = self._held, []
        return held

    def handle(self, message: Message) -> list[Line]:
        """Take a message; return what to send.

        Raises:
            StsUpgrade: It must be said within TLS. Of a list of capabilities, before the welcome:
                no password was sent.
            Refused: Not this time, and not the next.
            CannotConnect: Not this time.
        """
        command = message.command
        if command == "CAP":
            lines = self._capability(message)
            return [*self.release(), *lines] if self.capabilities.listed else lines
        if command in _NO_CAP and self._held:
            return [*self.release(), *self._handle(message)]
        return self._handle(message)

    def _handle(self, message: Message) -> list[Line]:
        command = message.command
        if command == "AUTHENTICATE":
            return self._authenticate(message.param(0))
        if command == "001":
            self.nick = message.param(0) or self.nick
            self._welcomed()
            return []
        if self.welcome:
            return []
        if command in _NICK_TAKEN or command == _NICK_BAD:
            return [("NICK", self._next_nick(message))]
        if command in _SASL_DONE:
            return self._logged_in()
        if command in _SASL_FAILED and not self.account:
            return self._next_mechanism(readable(message.param(-1)))
        if command == "908":  # which mechanisms there are; a failure follows
            known = message.param(1).upper().split(",")
            self._mechanisms = [name for name in self._mechanisms if name in known]
        elif command in _FOR_GOOD:
            text = readable(message.param(-1))
            raise Refused(f"the server refuses us: {_FOR_GOOD[command]}: {text}")
        elif command == "ERROR":
            raise CannotConnect(f"the server closes: {readable(message.param(-1))}")
        return []

    def _welcomed(self) -> None:
        if self._identity.sasl is not None and not self.account:
            raise SaslFailed("the server has no accounts (SASL), or none that it can check so")
        self.welcome = True

    # ------------------------------------------------------------------ capabilities

    def _capability(self, message: Message) -> list[Line]:
        capabilities = self.capabilities
        listed = capabilities.listed
        lines = capabilities.handle(message)
        if message.param(1).upper() in {"LS", "NEW"}:
            policy = parse_capabilities(message.param(-1)).get("sts")
            if policy is not None:
                self._strict(parse_sts(policy))
        if capabilities.listed and not listed:
            lines += capabilities.request()
        if capabilities.settled and not self.welcome and not self._ended:
            if "sasl" in capabilities.enabled and self._identity.sasl is not None:
                if not self._begun:
                    self._begun = True
                    offered = capabilities.offered.get("sasl", "")
                    sasl = self._identity.sasl
                    self._mechanisms = sasl.candidates(offered, secure=self._secure)
                    lines += self._next_mechanism("no mechanism of ours is offered")
            else:
                lines += self._end()
        return lines

    def _strict(self, policy: dict[str, int]) -> None:
        if self._secure:
            if "duration" in policy:
                self.sts = policy
        elif "port" in policy:
            raise StsUpgrade(policy["port"])

    def _end(self) -> list[Line]:
        if self._ended or self.welcome:
            return []
        self._ended = True
        return [("CAP", "END")]

    # ------------------------------------------------------------------ the account

    def _next_mechanism(self, failure: str) -> list[Line]:
        sasl = self._identity.sasl
        if sasl is None:
            return []
        if not self._mechanisms:
            raise SaslFailed(f"cannot log in as {sasl.username!r}: {failure}")
        mechanism = self._mechanisms.pop(0)
        self._conversation = sasl.conversation(mechanism)
        self._spoken = False
        self._chunks.clear()
        return [("AUTHENTICATE", mechanism)]

    def _logged_in(self) -> list[Line]:
        if self._identity.sasl is None or self.account:
            return []
        conversation, self._conversation = self._conversation, None
        if conversation is None or not self._spoken:
            missing = "has asked who we are"
        elif is_done(conversation):
            self.account = True
            return self._end()
        else:
            missing = "has proved that it knows the password"
        raise SaslFailed(f"cannot log in: the server says yes before it {missing}")

    def _authenticate(self, chunk: str) -> list[Line]:
        conversation = self._conversation
        if conversation is None:
            return []
        self._chunks.append(chunk)
        if len(chunk) == _CHUNK:
            if len(self._chunks) * _CHUNK > _MAX_SASL:
                raise SaslFailed("the server's part of SASL does not end")
            return []
        try:
            data = parse_sasl(self._chunks)
            said = conversation.send(data) if self._spoken else next(conversation)
        except StopIteration:
            said = None
        except ValueError as error:  # SaslRefused, or what cannot be a name or password
            raise SaslFailed(f"SASL: {error}") from None
        self._spoken = True  # the server's first word is an empty one
        self._chunks.clear()
        if said is None:
            self._conversation = None
            return [("AUTHENTICATE", "*")]
        return [("AUTHENTICATE", part) for part in authenticate(said)]

    # ------------------------------------------------------------------ the nick

    def _next_nick(self, message: Message) -> str:
        nicks = self._identity.nicks
        refused = message.param(1)
        if refused and self.nick != refused and self.nick.startswith(refused):
            self._room = len(refused.encode("utf-8", "surrogateescape"))
        self._tried += 1
        if self._tried < len(nicks):
            self.nick = nicks[self._tried]
        elif message.command == _NICK_BAD:
            text = readable(message.param(-1))
            raise Refused(f"the server refuses the nick {self.nick!r}: {text}")
        elif self._tried < len(nicks) + 20:
            number = self._tried - len(nicks)
            room = self._room or (None if number < 10 else _SHORTEST)
            self.nick = next_nick(nicks[0], number, room)
        else:
            raise CannotConnect(f"no nick like {nicks[0]!r} is free")
        return self.nick


def next_nick(nick: str, number: int, room: int | None = None) -> str:
    """Return another nick like *nick*.

    Args:
        nick: The one that is taken.
        number: Which other one, from 0 on.
        room: How many bytes it may have. None: as many as *nick*, or 9, which each server takes.

    Example:
        >>> [next_nick("anna", n) for n in range(4)], next_nick("hildegard", 1)
        (['anna_', 'anna1', 'anna2', 'anna3'], 'hildegar1')
        >>> next_nick("hildegardis", 1), next_nick("hildegardis", 1, 9)
        ('hildegardi1', 'hildegar1')
    """
    suffix = "_" if number == 0 else str(number)
    octets = nick.encode()
    left = max((room or max(_SHORTEST, len(octets))) - len(suffix), 1)
    return octets[:left].decode(errors="ignore") + suffix


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return nicks as they are given: one, or several."""
    found = (given,) if isinstance(given, str) else tuple(given)
    if not found:
        raise ValueError("expected at least one nick, got none")
    for nick in found:
        if not isinstance(nick, str):
            raise TypeError(f"expected nicks to be text, got {nick!r}")
        if not nick or set(nick) & set(" \r\n\0:!@,*?"):
            raise ValueError(f"expected a nick, got {nick!r}")
    return found
