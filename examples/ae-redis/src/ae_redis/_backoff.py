"""How long to wait before the next attempt to connect.

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("Backoff",)

from random import random
from typing import Final

#: The first pause, in seconds. Each further one is twice as long.
_FIRST: Final = 0.05


class Backoff:
    """Pauses that grow with each failure in a row, up to a limit.

    Half of each is random, so that a thousand clients do not come back at the same moment. The
    first attempt after a connection that has lasted is made at once.

    Args:
        limit: The longest pause, in seconds.

    Attributes:
        failures: How many attempts have failed since the last success.
    """

    __slots__ = ("_limit", "_pause", "failures")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._pause = 0.0
        self.failures = 0

    def failed(self) -> float:
        """An attempt has failed: return how long to wait before the next one."""
        self.failures += 1
        return self._next()

    def ended(self, lasted: float) -> float:
        """A connection that lasted so long has ended: return how long to wait."""
        self.failures = 0
        if lasted >= self._pause:
            self._pause = 0.0
            self._next()  # if it happens again soon, then with a pause
            return 0.0
        return self._next()

    def reset(self) -> None:
        """Somebody else decides when the next attempt is made."""
        self.failures = 0
        self._pause = 0.0

    def _next(self) -> float:
        self._pause = min(self._limit, self._pause * 2 or _FIRST)
        return self._pause * (0.5 + random() / 2)
