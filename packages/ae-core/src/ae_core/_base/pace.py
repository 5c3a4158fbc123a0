"""When a loop that is always busy has to rest, so that what waits for a quiet moment gets one."""

from __future__ import annotations

__all__ = ("REST", "Pace")

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: So long may calls that are due immediately follow each other, in seconds.
BUSY: Final = 0.02
#: So long is the rest, in milliseconds.
REST: Final = 1


class Pace:
    """For loops that do some things only when nothing is due: Tk draws then, and so does GTK.

    A chain of timers that are due immediately, or of postponed calls, would keep them from it for
    ever. So such a chain rests for a millisecond, once in 20 ms. The rest begins when the loop
    comes to the next call of the chain, however long the one before it took: only what is planned
    from then on leaves the loop nothing that is due.
    """

    __slots__ = ("_at_once", "_chained", "_owed", "_since", "_until")

    def __init__(self) -> None:
        self._at_once = False  # whether the timer that is set is due immediately
        self._chained = False  # whether what was due immediately is being called
        self._since = 0.0  # when the chain began, or had its last rest
        self._owed = False  # whether there is to be a rest, which has not begun
        self._until = 0.0  # when the rest ends

    def delay(self, at: float) -> int:
        """Return how many milliseconds a timer has to wait until *at*, rounded up."""
        now = time.monotonic()
        delay = math.ceil((at - now) * 1000)
        self._at_once = delay <= 0
        return delay if delay > 0 else self._rest(now)

    def soon(self) -> int:
        """Return how many milliseconds an immediate call has to wait."""
        return self._rest(time.monotonic())

    def resting(self) -> bool:
        """Return whether a call that the loop comes to has to wait, by ``REST`` from now."""
        now = time.monotonic()
        if self._owed:
            self._owed = False
            self._until = now + REST / 1000
        return now < self._until

    def _rest(self, now: float) -> int:
        if self._owed or now < self._until:
            return REST
        if self._chained and now - self._since <= BUSY:
            return 0
        self._since = now
        if not self._chained:
            return 0
        self._owed = True
        return REST

    def call_timer(self, on_timer: Callable[[], None]) -> None:
        """Make the call of the timer that was set."""
        self._call(on_timer, self._at_once)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Make an immediate call."""
        self._call(callback, True)

    def _call(self, callback: Callable[[], None], chained: bool) -> None:
        before, self._chained = self._chained, chained
        try:
            callback()
        finally:
            self._chained = before
