"""Exceptions that a signal handler of the program raises inside our own code.

Python runs a handler between any two instructions, so what it raises may break off a function of
ours that the loop has called, before or after the callback that the function was to call. Marked
functions are called again then, and what a loop would print or log is recognized.
"""

from __future__ import annotations

__all__ = ("hearing_printed", "is_ours", "repeatable")

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., object])


def repeatable(function: F) -> F:
    """Mark a callback of ours that may be called again if an exception broke it off."""
    function.repeatable = True  # type: ignore[attr-defined]
    return function


def is_ours(error: BaseException) -> bool:
    """Return whether *error* came out of code of ours, or out of a signal handler on its own.

    A loop says so of what escaped a callback. What users' callbacks raise does not escape: so a
    signal handler has raised it, between two instructions of ours.
    """
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").startswith("ae_core."):
            return True
        traceback = traceback.tb_next
    return False


class hearing_printed:
    """While active, pass on exceptions that escaped a callback of ours and a C loop would print.

    Such a loop (GLib, Qt) gives them to ``sys.excepthook``, and goes on.
    """

    __slots__ = ("_escaped", "_previous")

    def __init__(self, escaped: Callable[[BaseException], None]) -> None:
        self._escaped = escaped
        self._previous = sys.excepthook

    def __enter__(self) -> None:
        sys.excepthook = self._hook

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if sys.excepthook == self._hook:
            sys.excepthook = self._previous

    def _hook(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if is_ours(error.with_traceback(traceback)):
            self._escaped(error)
        else:
            self._previous(kind, error, traceback)
