r"""One line of IRC: ``@tags :source COMMAND parameters``, to and from bytes.

Sans-I/O. RFC 2812 section 2.3.1, and the message tags of IRCv3.
"""

from __future__ import annotations

__all__ = (
    "MAX_LINE",
    "MAX_TAGS",
    "BadLine",
    "Message",
    "encode",
    "parse",
    "readable",
    "split_source",
)

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

# Theory of operation
# -------------------
# A line is bytes, most of the time UTF-8. What is not is kept with surrogate escapes, so that
# encode(parse(line)) is the same line whatever a peer sends, and a nick in another encoding can be
# answered; `readable` makes text for people of it.
#
# Parsing is lenient where servers differ (several spaces, more than 15 parameters, a length that
# is too much, a missing carriage return) and encoding is strict: a parameter that would become two,
# or another command, is refused. Every step looks at each character a fixed number of times.

#: Bytes of a line without its tags, CR LF included (RFC 2812).
MAX_LINE: Final = 512
#: Bytes of the tags that a client may send, ``@`` and space included (IRCv3: 4094 and those two).
MAX_TAGS: Final = 4096

_COMMAND: Final = re.compile(r"[A-Za-z]+|[0-9]{3}")
_TAG: Final = re.compile(r"\+?(?:[A-Za-z0-9.\-]+/)?[A-Za-z0-9\-]+")
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_UNESCAPED: Final = {":": ";", "s": " ", "\\": "\\", "r": "\r", "n": "\n"}
_TO_ESCAPE: Final = str.maketrans({";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n"})
_FORBIDDEN: Final = re.compile(r"[\0\r\n]")


class BadLine(ValueError):
    """What a server sent is no line of IRC."""


_NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})


class Message(NamedTuple):
    """One line.

    Attributes:
        command: In capitals, or three digits.
        params: The parameters. Bytes that are no UTF-8 are surrogate escapes.
        source: Who sent it: ``nick!user@host`` or the name of a server; None if it does not say.
        tags: Names and values; a tag without a value has an empty one.
    """

    command: str
    params: tuple[str, ...] = ()
    source: str | None = None
    tags: Mapping[str, str] = _NO_TAGS

    @property
    def nick(self) -> str:
        """The nick of the source; all of it if that is a server, empty if there is none."""
        return split_source(self.source)[0]

    def param(self, index: int) -> str:
        """Return one parameter, empty if there are not so many."""
        return self.params[index] if -len(self.params) <= index < len(self.params) else ""

    def __bytes__(self) -> bytes:
        """Return the line as it is sent, with its end."""
        return encode(self.command, *self.params, source=self.source, tags=self.tags)


def split_source(source: str | None) -> tuple[str, str, str]:
    """Split ``nick!user@host``; what is not there is empty.

    Example:
        >>> split_source("anna!a@example.com"), split_source("irc.example.com")
        (('anna', 'a', 'example.com'), ('irc.example.com', '', ''))
    """
    if source is None:
        return "", "", ""
    rest, _, host = source.partition("@")
    nick, _, user = rest.partition("!")
    return nick, user, host


def readable(text: str) -> str:
    """Return *text* with bytes that are no UTF-8 read as Windows-1252, as old clients send.

    Example:
        >>> readable(parse(b"PRIVMSG #a :caf\\xe9").params[1])
        'café'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        octets = text.encode("utf-8", "surrogateescape")
        return octets.decode("cp1252", "replace")
    return text


def parse(line: bytes) -> Message:
    r"""Parse one line, with or without its end.

    Raises:
        BadLine: There is no command in it.

    Example:
        >>> parse(b":anna!a@example.com PRIVMSG #ae :hello there\r\n").params
        ('#ae', 'hello there')
    """
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    tags: Mapping[str, str] = _NO_TAGS
    source: str | None = None
    if text.startswith("@"):
        words, _, text = text[1:].partition(" ")
        tags = _parse_tags(words)
        text = text.lstrip(" ")
    if text.startswith(":"):
        source, _, text = text[1:].partition(" ")
        text = text.lstrip(" ")
    head, colon, trailing = text.partition(" :")
    command, *params = head.split(" ")
    if "" in params:
        params = [word for word in params if word]
    if colon:
        params.append(trailing)
    if not _COMMAND.fullmatch(command):
        raise BadLine(f"expected a command, got {text[:80]!r}")
    return Message(command.upper(), tuple(params), source or None, tags)


def _parse_tags(words: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for word in words.split(";"):
        key, _, value = word.partition("=")
        if key:
            if "\\" in value:
                value = _ESCAPE.sub(_unescape, value)
            tags[key] = value
    return tags


def _unescape(match: re.Match[str]) -> str:
    return _UNESCAPED.get(match[1], match[1])


def encode(
    command: str,
    *params: str,
    source: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> bytes:
    r"""Return a line as it is sent, with its end.

    The length is not looked at: what a server cuts off, and where, is its matter.

    Raises:
        TypeError: A parameter is no text.
        ValueError: It would be another line than meant: a parameter that is not the last is empty,
            contains a space or begins with a colon; any contains NUL, CR or LF; the command or a
            tag has a name that cannot be.

    Example:
        >>> encode("PRIVMSG", "#ae", "hello there")
        b'PRIVMSG #ae :hello there\r\n'
    """
    if not isinstance(command, str) or not _COMMAND.fullmatch(command):
        raise ValueError(f"expected a command, got {command!r}")
    words = [command]
    for param in params:
        if not isinstance(param, str):
            raise TypeError(f"expected parameters to be text, got {param!r}")
        words.append(param)
    for param in params[:-1]:
        if not param or param[0] == ":" or " " in param:
            raise ValueError(f"expected a word as parameter, only the last may be more: {param!r}")
    if params and (not params[-1] or params[-1][0] == ":" or " " in params[-1]):
        words[-1] = ":" + params[-1]
    if source is not None:
        if not source or " " in source:
            raise ValueError(f"expected a source without spaces, got {source!r}")
        words.insert(0, ":" + source)
    if tags:
        words.insert(0, _encode_tags(tags))
    text = " ".join(words)
    if _FORBIDDEN.search(text):
        raise ValueError(f"expected one line without NUL, CR and LF, got {text!r:.200}")
    return text.encode("utf-8", "surrogateescape") + b"\r\n"


def _encode_tags(tags: Mapping[str, str]) -> str:
    words = []
    for key, value in tags.items():
        if not _TAG.fullmatch(key):
            raise ValueError(f"expected the name of a tag, got {key!r}")
        words.append(f"{key}={value.translate(_TO_ESCAPE)}" if value else key)
    return "@" + ";".join(words)
