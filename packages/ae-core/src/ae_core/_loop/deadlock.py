"""Whether a blocking wait can still end: what is left that could make it ready."""

from __future__ import annotations

__all__ = ("deadlock_grace",)

import _signal  # type: ignore[import-not-found]
import sys

from .._base.seconds import inf
from .._base.thread_identity import bystanders, get_ident, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, Final

A_MOMENT: Final = 0.02
LOOK_AGAIN: Final = 0.25
# where the handlers of our own are
_OURS: Final = (
    "ae_core._loop.interrupts",
    "ae_core._sources.signals",
    "ae_core.testing._conformance.check",
)


def deadlock_grace(operations: Collection[Any], threadsafe: Collection[Any]) -> float | None:
    """Return how many seconds to wait although no descriptor and no timer is left.

    None if nothing is left that could end the wait. *operations* are live signal, child and idle
    records and pending operations, *threadsafe* the calls that have come from other threads.
    """
    pause = _look(operations, threadsafe)
    if pause is None:
        # a thread that a C library has just started may not have come to Python yet
        sleep(A_MOMENT)
        pause = _look(operations, threadsafe)
    return pause


def _look(operations: Collection[Any], threadsafe: Collection[Any]) -> float | None:
    if not all(getattr(operation, "passive", False) for operation in operations):
        return inf  # a signal, a child, another thread's work
    if _other_threads():
        return LOOK_AGAIN  # one of them may yet call us, or end without: look again
    # asked last: a thread that has ended made its calls before
    return inf if threadsafe or _signal_handlers() else None


def _other_threads() -> bool:
    """Return whether a thread lives that may call us: any, also one of a C library in Python.

    By what the interpreter knows of, and not ``threading``: there, threads that other modules
    have started are missing, and some that have ended are not.
    """
    ours = get_ident()
    return any(ident != ours and ident not in bystanders for ident in sys._current_exceptions())


def _signal_handlers() -> bool:
    """Return whether a handler of the program's, of the ``signal`` module, may yet be called."""
    for number in range(1, _signal.NSIG):
        handler = _signal.getsignal(number)
        if (
            callable(handler)
            and handler is not _signal.default_int_handler
            and getattr(handler, "__module__", None) not in _OURS
        ):
            return True
    return False
