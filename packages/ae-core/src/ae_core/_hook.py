"""Where an exception goes that a user's callback raised: the exception hook.

It never kills a loop and is never lost. ``KeyboardInterrupt`` and ``SystemExit`` do not come
here (see ``_core``).
"""

from __future__ import annotations

__all__ = ("exception_hook", "report")

import sys
from typing import Any

from ._watcher import TimerWatcher, Watcher


def exception_hook(error: BaseException, watcher: Watcher | None) -> None:
    """Log *error* at level ``error`` with its traceback, naming the watcher.

    This is the default; assign another function to ``ae_core.exception_hook`` to replace it. It
    is called once for each exception that a callback raises, right after that callback, with the
    watcher (or None, where there is none: postponed calls and condition variables). It is looked
    up at each call. What the hook itself raises is logged.
    """
    from ._log import log

    where = "a callback" if watcher is None else repr(watcher)
    log("error", "exception in %s", where, context="ae_core", error=error)


def report(error: BaseException, record: object) -> None:
    """Give *error*, raised by the callback of *record*, to the hook in force now."""
    hook = getattr(sys.modules["ae_core"], "exception_hook", exception_hook)
    try:
        hook(error, _view(record))
    except BaseException as second:
        if isinstance(second, (KeyboardInterrupt, SystemExit)):
            raise
        from ._log import log

        log("error", "exception in exception_hook %r", hook, context="ae_core", error=second)
        if hook is not exception_hook:
            log("error", "... while it was given this", context="ae_core", error=error)


class _IoView(Watcher):
    """Describes a watcher to the hook. Dropping it does not cancel."""

    __slots__ = ()

    def __del__(self) -> None:
        return None


class _TimerView(TimerWatcher):
    """The same for a timer; remembers the callback that a one-shot timer has let go."""

    __slots__ = ("_callback",)

    _callback: Any

    @property
    def callback(self) -> Any:
        """The function that was called."""
        return self._callback

    def _describe(self) -> str:
        return f"{super()._describe().rpartition(' ')[0]} {self._callback!r}"

    def __del__(self) -> None:
        return None


def _view(record: object) -> Watcher | None:
    if record is None:
        return None
    view: Any
    if isinstance(record, tuple):
        view = _TimerView()
        view._record, view._callback = record
    elif isinstance(record, Watcher):
        return record
    else:
        view = _IoView()
        view._record = record
    watcher: Watcher = view
    return watcher
