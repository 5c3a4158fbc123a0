r"""Text that people write: into lines that arrive whole, and CTCP within it.

Sans-I/O. CTCP: https://modern.ircdocs.horse/ctcp.
"""

from __future__ import annotations

__all__ = ("ctcp", "parse_ctcp", "split_text")

import re
from typing import Final

_ENDS: Final = re.compile(r"\r\n|\r|\n")
# How much of a piece may be given up to end it between words.
_SEARCHED: Final = 80


def split_text(text: str, room: int) -> list[str]:
    r"""Split *text* into pieces of at most *room* bytes of UTF-8.

    Each line is a piece of its own, empty ones are left out. A line that is too long is divided at
    a space if there is one within the last 80 bytes (the space is left out), else between two
    characters.

    Raises:
        ValueError: There is no room for a character (4 bytes).

    Example:
        >>> split_text("one two three\nfour", 8)
        ['one two', 'three', 'four']
    """
    if room < 4:
        raise ValueError(f"expected room for a character, 4 bytes, got {room!r}")
    pieces: list[str] = []
    for line in _ENDS.split(text):
        rest = line.encode("utf-8", "surrogateescape")
        at = 0
        while len(rest) - at > room:
            end = rest.rfind(b" ", max(at + 1, at + room - _SEARCHED), at + room + 1)
            skip = 1
            if end < 0:
                end, skip = at + room, 0
                # inside a character, of which three bytes at most may stand before
                while end > at + room - 3 and rest[end] & 0xC0 == 0x80:
                    end -= 1
            pieces.append(rest[at:end].decode("utf-8", "surrogateescape"))
            at = end + skip
        if at < len(rest):
            pieces.append(rest[at:].decode("utf-8", "surrogateescape"))
    return pieces


def ctcp(command: str, argument: str = "") -> str:
    r"""Return the text of a CTCP message.

    Raises:
        ValueError: It would not be one.

    Example:
        >>> ctcp("ACTION", "waves")
        '\x01ACTION waves\x01'
    """
    if not command or " " in command or "\x01" in command + argument:
        raise ValueError(f"expected a CTCP command and its argument, got {command!r} {argument!r}")
    return f"\x01{command} {argument}\x01" if argument else f"\x01{command}\x01"


def parse_ctcp(text: str) -> tuple[str, str] | None:
    r"""Return command (in capitals) and argument of a CTCP message; None if it is none.

    Example:
        >>> parse_ctcp("\x01ACTION waves\x01")
        ('ACTION', 'waves')
    """
    if len(text) < 2 or text[0] != "\x01":
        return None
    body = text[1:-1] if text[-1] == "\x01" else text[1:]  # some leave the end out
    command, _, argument = body.partition(" ")
    return (command.upper(), argument) if command else None
