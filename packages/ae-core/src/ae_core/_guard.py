"""Guards: a piece of clean-up tied to the life of an object.

Knows no loop. The one thing it shares with the watchers is where its exceptions go.
"""

from __future__ import annotations

__all__ = ("Guard",)

import atexit
import os
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

# Objects that are still alive when the interpreter ends are not always finalized, and those that
# are find half of their modules gone. So the guards that still have something to do are registered
# here, and run, youngest first, while the modules are complete.
_armed: dict[int, ref[Guard]] = {}


class Guard:
    """Call *callback* once, when the guard ends.

    That is: at the exit of its ``with`` block, or when the last reference to it is dropped, or
    when the interpreter ends, whichever comes first; never after :meth:`cancel`.

    What the callback raises goes to ``exception_hook``; it never reaches the place that happened
    to drop the guard. The callback runs in the thread that drops the guard; under the garbage
    collector that can be any place of any thread, so a guard that takes part in a reference cycle
    is better closed by ``with``. A child made by ``fork`` does not run the guards of its parent.

    Raises:
        TypeError: If *callback* cannot be called.

    **Lifetime**: the caller holds it; ``Guard(f)`` alone on a line calls ``f`` immediately.

    Example:
        >>> with Guard(lambda: print("cleaned up")):
        ...     print("at work")
        at work
        cleaned up

    Perl: ``AnyEvent::Util::guard { ... }``
    """

    __slots__ = ("__weakref__", "_callback")

    _callback: Callable[[], object] | None

    def __init__(self, callback: Callable[[], object]) -> None:
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        self._callback = callback
        _armed[id(self)] = ref(self)

    def cancel(self) -> None:
        """Forget the callback without calling it. Idempotent."""
        self._callback = None
        _armed.pop(id(self), None)

    def _run(self) -> None:
        callback = self._callback
        if callback is None:
            return
        self.cancel()
        try:
            callback()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            from ._loop.exception_hook import report

            report(error, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run()

    def __del__(self) -> None:
        # unset if the constructor refused its argument
        if getattr(self, "_callback", None) is not None:
            self._run()

    def __repr__(self) -> str:
        callback = self._callback
        return f"<Guard {'inactive' if callback is None else repr(callback)}>"


def _run_all() -> None:
    while _armed:
        guard = _armed.popitem()[1]()
        if guard is not None:
            guard._run()


def _disarm_all() -> None:
    for armed in list(_armed.values()):
        guard = armed()
        if guard is not None:
            guard.cancel()
    _armed.clear()


atexit.register(_run_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disarm_all)
