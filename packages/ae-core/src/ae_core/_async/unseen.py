"""Errors that were never read: they are logged when their condition variable is collected."""

from __future__ import annotations

__all__ = ("Unseen",)

import os

_generation = 0  # how many forks lie between this process and the one that imported us


class Unseen:
    """Logs an error when it is collected, unless the error was read.

    A separate object, so that the common condition variable, which never has an error, needs no
    finalizer. A child made by ``fork`` logs none of its parent's.
    """

    __slots__ = ("_error", "_generation", "_what")

    _error: BaseException | None  # None: it was read

    def __init__(self, error: BaseException, what: str) -> None:
        self._error = error
        self._what = what
        self._generation = _generation

    def looked_at(self) -> None:
        """Log nothing: the error was read."""
        self._error = None

    def __del__(self) -> None:
        if self._error is None or self._generation != _generation:
            return
        try:
            from .._base.log import log
        except ImportError:
            return  # the interpreter is going down

        log(
            "error",
            "error of %s was never looked at",
            self._what,
            context="ae_core",
            error=self._error,
        )


def _after_fork_in_child() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
