"""Counts attempts to connect, and says how long to wait before the next one.

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("Attempts",)

from ae_socket import Backoff


class Attempts:
    """Attempts that failed in a row, with pauses between them that grow.

    The first attempt after a connection that has lasted is made immediately.

    Args:
        limit: The longest pause, in seconds.

    Attributes:
        failures: How many attempts have failed since the last success.
    """

    __slots__ = ("_backoff", "_pause", "failures")

    def __init__(self, limit: float) -> None:
        self._backoff = Backoff(first=0.05, most=limit)
        self._pause = 0.0
        self.failures = 0

    def failed(self) -> float:
        """An attempt has failed: return how long to wait before the next one."""
        self.failures += 1
        return self._next()

    def ended(self, lasted: float) -> float:
        """A connection that lasted so long has ended: return how long to wait."""
        if lasted < self._pause:
            self.failures = 0
            return self._next()
        self.reset()
        self._next()  # if it happens again soon, then with a pause
        return 0.0

    def reset(self) -> None:
        """Begin anew: the caller decides when the next attempt is made."""
        self.failures = 0
        self._pause = 0.0
        self._backoff.reset()

    def _next(self) -> float:
        self._pause = next(self._backoff)
        return self._pause
