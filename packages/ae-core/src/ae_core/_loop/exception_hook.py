"""Where an exception goes that a user's callback raised: the exception hook.

It never kills a loop and is never lost. ``KeyboardInterrupt`` and ``SystemExit`` do not come
here (see ``state``).
"""

from __future__ import annotations

__all__ = ("exception_hook", "report")

from .watchers import RecordWatcher, TimerWatcher, Watcher, unwrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The public package, whose names a program may assign to; set by ``_wiring``.
package: Any = None


def exception_hook(error: BaseException, watcher: Watcher | None) -> None:
    """Log *error* at level ``error`` with its traceback, naming the watcher.

    This is the default; assign another function to ``ae_core.exception_hook`` to replace it. It
    is called once for each exception that a callback raises, right after that callback, with the
    watcher (or None, where there is none: postponed calls and condition variables). It is looked
    up at each call. What the hook itself raises is logged.
    """
    from .._base.log import log

    where = "a callback" if watcher is None else repr(watcher)
    log("error", "exception in %s", where, context="ae_core", error=error)


def report(error: BaseException, core: Any, source: Any) -> None:
    """Give *error* to the hook in force now.

    *source* is None or ``(record, callback)``, where the record of a timer is its number.
    """
    hook = getattr(package, "exception_hook", exception_hook)
    try:
        hook(error, None if source is None else _view(core, *source))
    except BaseException as second:
        if isinstance(second, (KeyboardInterrupt, SystemExit)):
            raise
        from .._base.log import log

        log("error", "exception in exception_hook %r", hook, context="ae_core", error=second)
        if hook is not exception_hook:
            log("error", "... while it was given this", context="ae_core", error=error)


class _View(RecordWatcher):
    """Describes a watcher to the hook; equal to it, but dropping it does not cancel."""

    __slots__ = ("_callback",)

    def __init__(self, record: Any, callback: Any) -> None:
        super().__init__(record)
        self._callback = callback

    @property
    def callback(self) -> Any:
        """The function that was called."""
        return unwrapped(self._callback)

    def __del__(self) -> None:
        return None


class _TimerView(TimerWatcher):
    """The same for a timer, which may have been its last call."""

    __slots__ = ("_callback",)

    def __init__(self, core: Any, number: int, callback: Any) -> None:
        self._core = core
        self._number = number
        self._callback = callback

    def cancel(self) -> None:
        """End the interest; the hook runs in the loop's own thread."""
        self._core.cancel_timer(self._number)

    @property
    def callback(self) -> Any:
        """The function that was called."""
        return unwrapped(self._callback)

    def __del__(self) -> None:
        return None


def _view(core: Any, record: Any, callback: Any) -> Watcher:
    if isinstance(record, int):
        return _TimerView(core, record, callback)
    return _View(record, callback)
