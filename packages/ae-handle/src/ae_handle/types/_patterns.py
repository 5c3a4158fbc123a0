"""Patterns that users bring: what is taken for one, and what a match of it is worth later.

Sans-I/O: plain bytes and patterns. ``re`` is the usual engine; any object will do whose
``search(data, pos)`` returns None or a match with ``span()``, ``groups()`` and ``end()``.
"""

from __future__ import annotations

__all__ = ("check_pattern", "compiled", "rebuilt", "spans_of")

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Spans: TypeAlias = "tuple[tuple[int, int], ...]"


def check_pattern(name: str, pattern: object) -> None:
    """Raise TypeError unless *pattern* can be searched for in bytes."""
    text = isinstance(getattr(pattern, "pattern", None), str)
    if text or isinstance(pattern, type) or not callable(getattr(pattern, "search", None)):
        raise TypeError(f"expected {name} as bytes or a compiled pattern of bytes, got {pattern!r}")
    hash(pattern)  # the buffer remembers by pattern how far a search has come


def compiled(name: str, pattern: Any) -> Any:
    """Return *pattern*, compiled if it is bytes.

    Raises:
        TypeError: If it is neither bytes nor a pattern.
    """
    if isinstance(pattern, bytes):
        return re.compile(pattern)
    check_pattern(name, pattern)
    return pattern


def spans_of(match: Any) -> Spans:
    """Return where *match* and each of its groups begins and ends; -1 for a group without."""
    regs: Spans | None = getattr(match, "regs", None)
    if regs is not None:
        return regs
    return tuple(match.span(number) for number in range(len(match.groups()) + 1))


def rebuilt(data: bytes, pattern: Any, spans: Spans) -> re.Match[bytes]:
    """Return a match over *data* with exactly these *spans*.

    For a pattern that does not match alike in *data* alone, as it leans on what was around it.
    A group that does not lie in *data* matches nothing.
    """
    start, end = spans[0]
    names = {number: name for name, number in getattr(pattern, "groupindex", {}).items()}
    parts = []
    for number, (first, last) in enumerate(spans[1:], 1):
        name = names.get(number)
        group = "(" if name is None else f"(?P<{name}>"
        if first < 0 or last > len(data):
            parts.append(f"(?:{group}(?!)))?")
        elif first >= start:
            parts.append(f"(?=.{{{first - start}}}{group}.{{{last - first}}}))")
        else:
            parts.append(f"(?<=(?={group}.{{{last - first}}})).{{{start - first}}})")
    source = f"{''.join(parts)}.{{{end - start}}}".encode()
    match = re.compile(source, re.DOTALL).match(data, start)
    assert match is not None
    return match
