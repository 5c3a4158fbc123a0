"""For loops that plan by the wall clock: finding out that it was set.

Such a loop calls what it has planned before as much later as the clock was set back.
"""

from __future__ import annotations

__all__ = ("WallClock",)

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is less, in seconds, is the time between reading two clocks, or a clock that is adjusted.
_LEAST: Final = 0.001


class WallClock:
    """The clock of a loop, compared with the monotonic one.

    Args:
        read: Returns the time by which the loop plans.
    """

    __slots__ = ("_ahead", "_read")

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._ahead = read() - time.monotonic()

    def was_set(self) -> bool:
        """Return whether it was set since the last call, or else is not to be relied upon.

        What is planned by it is to be planned anew then.
        """
        ahead = self._read() - time.monotonic()
        if -_LEAST < ahead - self._ahead < _LEAST:
            return False
        self._ahead = ahead
        return True
