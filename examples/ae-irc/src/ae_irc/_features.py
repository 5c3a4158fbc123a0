"""What a server says of itself in ISUPPORT (numeric 005), and how mode changes read by it.

Sans-I/O. Source: https://modern.ircdocs.horse/#rplisupport-parameters, RFC 2811 section 4.
"""

from __future__ import annotations

__all__ = ("Features", "ModeChange", "parse_modes")

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_HEX: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")
_PREFIX: Final = re.compile(r"\(([A-Za-z]*)\)(\S*)")
_DEFAULT_PREFIX: Final = "(ov)@+"
_DEFAULT_CHANMODES: Final = "beI,k,l,imnpstaqr"
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class ModeChange(NamedTuple):
    """One mode that was set or taken away.

    Attributes:
        added: Whether it was set.
        mode: Its letter.
        argument: A nick, a mask, a number, a key; None if it has none.
    """

    added: bool
    mode: str
    argument: str | None = None


class Features:
    """What the server supports. What it does not say is as in RFC 2811 and 2812.

    Attributes:
        casemapping: Which names are the same, see :func:`ae_irc.fold`.
        prefixes: The modes that members of a channel have, strongest first, and the sign of each.
        chanmodes: The letters of the other modes of channels, in four groups: lists; those that
            always have an argument; those that have one when they are set; those that never have.
    """

    __slots__ = ("_signs", "_tokens", "casemapping", "chanmodes", "prefixes")

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}
        self._read()

    @property
    def tokens(self) -> Mapping[str, str]:
        """Everything that was said, by name; without a value it is empty."""
        return MappingProxyType(self._tokens)

    def update(self, tokens: Iterable[str]) -> None:
        """Take the tokens of one 005: ``NAME``, ``NAME=value``, or ``-NAME``, which ends it."""
        for token in tokens:
            name, _, value = token.partition("=")
            if name.startswith("-"):
                self._tokens.pop(name[1:].upper(), None)
            elif name:
                self._tokens[name.upper()] = _HEX.sub(lambda m: chr(int(m[1], 16)), value)
        self._read()

    def _read(self) -> None:
        get = self._tokens.get
        self.casemapping: str = get("CASEMAPPING", "rfc1459").lower() or "rfc1459"
        self.prefixes: Mapping[str, str] = _prefixes(get("PREFIX", _DEFAULT_PREFIX))
        self._signs = {sign: mode for mode, sign in self.prefixes.items()}
        groups = [*get("CHANMODES", _DEFAULT_CHANMODES).split(","), "", "", "", ""]
        self.chanmodes: tuple[str, str, str, str] = (groups[0], groups[1], groups[2], groups[3])

    @property
    def chantypes(self) -> str:
        """What the names of channels begin with."""
        return self._tokens.get("CHANTYPES", "#&+!")

    @property
    def network(self) -> str | None:
        """What the network is called."""
        return self._tokens.get("NETWORK") or None

    def number(self, name: str, default: int) -> int:
        """Return a number, such as NICKLEN; *default* if it is not said, or is none."""
        value = self._tokens.get(name, "")
        return int(value) if _NUMBER.fullmatch(value) else default

    def is_channel(self, target: str) -> bool:
        """Whether *target* is the name of a channel."""
        return bool(target) and target[0] in self.chantypes

    def split_status(self, target: str) -> tuple[str, str]:
        """Split ``@#channel``, for operators only (STATUSMSG), into the signs and the channel."""
        channel = target.lstrip(self._tokens.get("STATUSMSG") or "\0")
        if self.is_channel(channel):
            return target[: len(target) - len(channel)], channel
        return "", target

    def split_name(self, word: str) -> tuple[str, str]:
        """Split a word of NAMES, ``@+nick``, into the modes ``ov`` and the nick."""
        modes = ""
        signs = self._signs
        for index, letter in enumerate(word):
            if letter not in signs:
                return modes, word[index:]
            modes += signs[letter]
        return modes, ""


def _prefixes(text: str) -> Mapping[str, str]:
    match = _PREFIX.fullmatch(text)
    if match is None:
        return {} if not text else _prefixes(_DEFAULT_PREFIX)
    return dict(zip(match[1], match[2], strict=False))


def parse_modes(words: Iterable[str], features: Features, *, channel: bool) -> list[ModeChange]:
    """Parse the parameters of MODE behind its target.

    Args:
        words: ``+ov-k``, then the arguments.
        features: Which of them have an argument.
        channel: The target is a channel; users' modes never have arguments.

    Example:
        >>> parse_modes(["+m-o", "anna"], Features(), channel=True)[1]
        ModeChange(added=False, mode='o', argument='anna')
    """
    letters, *arguments = [*words] or [""]
    lists, always, when_set, _ = features.chanmodes
    waiting = iter(arguments)
    changes: list[ModeChange] = []
    added = True
    for letter in letters:
        if letter in "+-":
            added = letter == "+"
            continue
        wants = channel and (
            letter in features.prefixes
            or letter in lists
            or letter in always
            or (added and letter in when_set)
        )
        changes.append(ModeChange(added, letter, next(waiting, None) if wants else None))
    return changes
