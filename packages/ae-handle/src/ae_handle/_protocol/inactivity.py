"""The three inactivity timeouts of a handle: their periods and callbacks.

Has no clock and no timer: it is given the time, and returns the time of the next deadline.
"""

from __future__ import annotations

__all__ = ("ANY", "READ", "TIMEOUTS", "WRITE", "Inactivity", "check_period")

from math import inf
from sys import float_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

# Theory of operation
# -------------------
# The time of each read and write is always noted, so that a timeout set later counts from the
# last activity too; that is 45 ns a read. One timer per handle is set for the earliest deadline
# there was; when it fires it compares these times, and usually sets itself again for what is
# left. Restarting a timer for every read would cost more than the read's own bookkeeping.

ANY: Final = 0
READ: Final = 1
WRITE: Final = 2

#: The names of the options, by kind.
TIMEOUTS: Final = ("timeout", "read_timeout", "write_timeout")


class Inactivity:
    """Periods, callbacks, and when each period was last restarted by hand.

    Each by kind: ``ANY``, ``READ`` or ``WRITE``. *read* and *wrote* are always the times of the
    last read and the last write.
    """

    __slots__ = ("_started", "callbacks", "periods")

    def __init__(self) -> None:
        self.periods = [0.0, 0.0, 0.0]
        self.callbacks: list[Any] = [None, None, None]
        self._started = [-inf, -inf, -inf]

    def set_period(self, kind: int, period: float) -> None:
        """Set the period of *kind*, 0 for none."""
        self.periods[kind] = period

    def set_callback(self, kind: int, callback: Any) -> None:
        """Set the callback of *kind*, or None."""
        self.callbacks[kind] = callback

    def forget_callbacks(self) -> None:
        """Set all callbacks to None."""
        self.callbacks[:] = (None, None, None)

    def reset(self, kind: int, now: float) -> None:
        """Start the period of *kind* again; the others go on."""
        self._started[kind] = now

    def _deadlines(self, read: float, wrote: float) -> list[float]:
        activity = (max(read, wrote), read, wrote)
        return [
            max(started, last) + period if period else inf
            for period, started, last in zip(self.periods, self._started, activity, strict=True)
        ]

    def next_at(self, read: float, wrote: float, *, connected: bool = True) -> float:
        """Return when the next one is due, infinity if none is set.

        Before there is a connection, only ``ANY`` counts.
        """
        return min(self._deadlines(read, wrote)[: None if connected else 1])

    def due(self, now: float, read: float, wrote: float, *, connected: bool = True) -> list[int]:
        """Return the kinds that are due, as for ``next_at``, and start their periods again."""
        deadlines = self._deadlines(read, wrote)[: None if connected else 1]
        kinds = [kind for kind, at in enumerate(deadlines) if at <= now]
        for kind in kinds:
            self._started[kind] = now
        return kinds


def check_period(name: str, seconds: float | None) -> float:
    """Return *seconds* as a period; None and 0 mean none.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative, infinite or not a number at all.
    """
    if seconds is None:
        return 0.0
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"expected {name} in seconds or None, got {seconds!r}")
    if not 0 <= seconds <= float_info.max:  # an int may be above it
        raise ValueError(f"expected {name} of 0 or more seconds, got {seconds!r}")
    return float(seconds)
