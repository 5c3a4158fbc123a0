r"""Text that came from elsewhere, made harmless for a terminal.

A peer chooses what a host name, a reason or an error message contains: CR writes over what stands
in the line, ESC begins commands of the terminal, and the marks of bidirectional text change the
order in which the rest is read. Needs nothing else of ours, also while the interpreter ends.
"""

from __future__ import annotations

__all__ = ("printable", "visible")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Category Cc but LF and TAB, the separators of lines and paragraphs, and the marks, embeddings,
# overrides and isolates of bidirectional text.
_HARMFUL: Final = (
    *range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F,
    *range(0x2028, 0x202F), *range(0x2066, 0x206A),
)  # fmt: skip
_ESCAPES: Final = {code: ascii(chr(code))[1:-1] for code in _HARMFUL}


def visible(text: str) -> str:
    r"""Return lines of *text* with what could forge or hide other lines written as escapes.

    LF and TAB stay. A lone surrogate, which no encoding takes, becomes an escape, too.

    Example:
        >>> visible("one\n\ttwo\rthree \x1b[2J")
        'one\n\ttwo\\rthree \\x1b[2J'
    """
    if text.isprintable():
        return text
    return text.translate(_ESCAPES).encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    r"""Return *text*, as one line, with everything that is not printable written as an escape.

    For what a command line shows of a peer's: nothing in the result can do anything to the
    terminal, nor look like another line.

    Example:
        >>> printable("bell \x07 and \x1b[1m")
        'bell \\x07 and \\x1b[1m'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


printable.__module__ = "ae_core.console"
