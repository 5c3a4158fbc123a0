"""Idle watchers: called when the loop polled and found nothing to do.

Where the loop has no such thing strictly below I/O, timers take its place (CORE-52): the first
call after 50 ms, then pauses as long as the callback took last time, so that at most half of the
time is used.
"""

from __future__ import annotations

__all__ = ("IdleRecord",)

from .._base.signal_errors import repeatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any, Final

    from .._loop.state import LoopState

FIRST_PAUSE: Final = 0.05
SHORTEST_PAUSE: Final = 0.0001
LONGEST_PAUSE: Final = 5.0


class IdleRecord:
    """The interest of one watcher in idle time."""

    __slots__ = ("active", "callback", "context", "core", "running", "timer", "token")

    kind = "idle"

    def __init__(
        self, core: LoopState, callback: Callable[[], object], context: Context | None
    ) -> None:
        self.core = core
        self.callback = callback
        self.context = context
        self.active = True
        self.running = False
        self.timer: Any = None
        self.token: Any = None
        if core.backend.strict_idle:
            self.token = core.backend.idle_start(self.fire)
        else:
            self.timer = core.timer(FIRST_PAUSE, self.fire_emulated)
        core.operations.add(self)

    def fire(self) -> None:
        if self.active and not self.running:
            # a loop inside the callback has nothing to do either, and would call it for ever
            self.running = True
            try:
                self.core.runner.call(self.callback, self.context, self)
            finally:
                self.running = False

    @repeatable
    def fire_emulated(self) -> None:
        if not self.active:
            return
        core = self.core
        core.cancel_timer(self.timer)  # if this is the second try
        started = core.clock()
        core.runner.call(self.callback, self.context, self)
        if self.active:
            pause = min(max(core.clock() - started, SHORTEST_PAUSE), LONGEST_PAUSE)
            self.timer = core.timer(pause, self.fire_emulated)

    def cancel(self) -> None:
        if self.active:
            self.active = False
            core = self.core
            core.operations.discard(self)
            if self.timer is not None:
                core.cancel_timer(self.timer)
            elif not core.closed:
                core.backend.idle_stop(self.token)

    def describe(self) -> str:
        return ""
