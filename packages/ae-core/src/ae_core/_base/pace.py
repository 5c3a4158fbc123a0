"""When a loop that is always busy has to rest, so that what waits for a quiet moment gets one."""

from __future__ import annotations

__all__ = ("Pace",)

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: So long may calls that are due at once follow each other, in seconds.
BUSY: Final = 0.02


class Pace:
    """For loops that do some things only when nothing is due: Tk draws then, and so does GTK.

    A chain of timers that are due at once would keep them from it for ever. So in such a chain
    one timer in 20 ms is a millisecond late.
    """

    __slots__ = ("_at_once", "_chained", "_since")

    def __init__(self) -> None:
        self._at_once = False  # whether the timer that is set is due at once
        self._chained = False  # whether such a timer is being called
        self._since = 0.0  # when the chain began, or had its last rest

    def delay(self, at: float) -> int:
        """Return how many milliseconds a timer has to wait until *at*, rounded up."""
        now = time.monotonic()
        delay = math.ceil((at - now) * 1000)
        self._at_once = delay <= 0
        if delay > 0:
            return delay
        if self._chained and now - self._since <= BUSY:
            return 0
        rest = int(self._chained)
        self._since = now
        return rest

    def call(self, on_timer: Callable[[], None]) -> None:
        """Make the call of the timer that was set."""
        self._chained = self._at_once
        try:
            on_timer()
        finally:
            self._chained = False
