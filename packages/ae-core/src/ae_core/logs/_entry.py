"""One log message on its way: formatted when the first target wants it, and then once.

No context and no target in here; ``ae_core.logs`` makes entries, ``_targets`` reads them.
"""

from __future__ import annotations

__all__ = ("Entry", "traceback_text")

from typing import TYPE_CHECKING, Any

from .._base.escape import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    #: A function of the time, the context, the level and the message: default_format or a user's.
    Formatter = Callable[[float, Any, int, str], str]


class Entry:
    """One message on its way: formatted when the first target wants it, and then once."""

    __slots__ = ("_default", "_lines", "error", "frame", "origin", "text", "when")

    def __init__(
        self,
        origin: Any,  # a context
        when: float,
        message: object,
        args: tuple[object, ...],
        error: BaseException | None,
        frame: FrameType,
        default_format: Formatter,
    ) -> None:
        self.origin = origin
        self.error = error
        self.frame = frame
        self.when = when
        self.text = _text(message, args)
        self._default = default_format
        self._lines: dict[tuple[int, bool], str] = {}

    def formatted(
        self,
        level: int,
        callback: Formatter | None,
        *,
        raw: bool = False,
    ) -> str:
        """Return the text of the message for a target that shows lines.

        Unless it is to be *raw*, control characters of the message are escapes in it. Those that
        the program's own format functions add, colours for example, stay.
        """
        if callback is not None:
            return callback(self.when, self.origin, level, self._message(raw))
        lines = self._lines.get((level, raw))
        if lines is None:
            lines = self._default(self.when, self.origin, level, self._message(raw))
            self._lines[level, raw] = lines
        return lines

    def _message(self, raw: bool) -> str:
        text = self.full_text()
        return text if raw else visible(text)

    def full_text(self) -> str:
        """Return the message and the traceback that belongs to it."""
        if self.error is None:
            return self.text
        return f"{self.text}\n{traceback_text(self.error)}"


def _text(message: object, args: tuple[object, ...]) -> str:
    try:
        if not isinstance(message, str):
            message = str(message()) if callable(message) else str(message)
        if args:
            # As stdlib does: a single mapping serves the format's %(names)s.
            message %= args[0] if len(args) == 1 and isinstance(args[0], dict) else args
    except Exception as error:
        # What is logged, often about a first error, must not become a second one.
        values = ", ".join(map(_safe_repr, args))
        message = f"{_safe_repr(message)} ({values}) (not formatted: {_safe_repr(error)})"
    return message.removesuffix("\n")


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def traceback_text(error: BaseException) -> str:
    """Return the traceback of *error*, without a newline at its end."""
    import traceback

    try:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    except Exception as second:  # an exception class can be broken in any way
        return f"{type(error).__name__} (no traceback: {type(second).__name__})"
