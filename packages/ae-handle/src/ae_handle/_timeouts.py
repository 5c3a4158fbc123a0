"""The three inactivity time-outs of a handle.

Sans-I/O: no clock and no timer; the shell says what time it is and asks when to come again.
"""

from __future__ import annotations

__all__ = ("ANY", "READ", "WRITE", "Timeouts", "check_period")

from math import inf
from typing import Final

# Theory of operation
# -------------------
# Activity only stamps a time. One timer per handle is armed for the earliest deadline there was;
# when it fires it looks at the stamps, and usually arms itself again for what is left. Restarting
# a timer for every read would cost more than the read's own bookkeeping.

ANY: Final = 0
READ: Final = 1
WRITE: Final = 2


class Timeouts:
    """Periods and time stamps, each by kind: ``ANY``, ``READ`` or ``WRITE``."""

    __slots__ = ("periods", "stamps")

    def __init__(self, now: float) -> None:
        self.periods = [0.0, 0.0, 0.0]
        self.stamps = [now, now, now]

    def read(self, now: float) -> None:
        """Note that something was read."""
        stamps = self.stamps
        stamps[ANY] = stamps[READ] = now

    def wrote(self, now: float) -> None:
        """Note that something was written."""
        stamps = self.stamps
        stamps[ANY] = stamps[WRITE] = now

    def reset(self, kind: int, now: float) -> None:
        """Start the period of *kind* again; the others go on."""
        self.stamps[kind] = now

    def next_at(self) -> float:
        """Return when the next one is due, infinity if none is set."""
        at = inf
        for period, stamp in zip(self.periods, self.stamps, strict=True):
            if period and stamp + period < at:
                at = stamp + period
        return at

    def due(self, now: float) -> list[int]:
        """Return the kinds that are due, and start their periods again."""
        kinds = []
        for kind, period in enumerate(self.periods):
            if period and self.stamps[kind] + period <= now:
                self.stamps[kind] = now
                kinds.append(kind)
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
    if not 0 <= seconds < inf:
        raise ValueError(f"expected {name} of 0 or more seconds, got {seconds!r}")
    return float(seconds)
