"""How fast may be sent: a token bucket.

Sans-I/O: the time is an argument.
"""

from __future__ import annotations

__all__ = ("TokenBucket",)


class TokenBucket:
    """Tokens that come back with time; each line takes one.

    Args:
        burst: How many there are at most, and at first.
        rate: How many come back in a second.

    Raises:
        ValueError: If *burst* is below 1, or *rate* not above 0.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, burst: float, rate: float) -> None:
        if not 1 <= burst < float("inf"):
            raise ValueError(f"expected a burst of 1 or more, got {burst!r}")
        if not 0 < rate < float("inf"):
            raise ValueError(f"expected a rate above 0, got {rate!r}")
        self.burst = float(burst)
        self.rate = float(rate)
        self._level = self.burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        self._fill(now)
        if self._level < 1.0 - 1e-9:
            return False
        self._level -= 1.0
        return True

    def wait(self, now: float) -> float:
        """Return in how many seconds there is a token."""
        self._fill(now)
        return max(0.0, (1.0 - self._level) / self.rate)

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
