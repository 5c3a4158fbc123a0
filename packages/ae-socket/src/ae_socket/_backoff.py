"""How long to wait before the next attempt: pauses that grow with each failure in a row.

Sans-I/O: no clock, no timer; the caller waits.
"""

from __future__ import annotations

__all__ = ("Backoff",)

from math import isfinite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Backoff:
    """The pauses between attempts, in seconds, without an end: ``next(backoff)`` is the next one.

    Args:
        first: The first pause.
        factor: What each pause is multiplied by to give the next one.
        most: The longest pause. No pause is longer, not even the first.
        jitter: Take a random part of up to one half from each pause, so that a thousand clients
            of a server that was restarted do not come back at the same moment.

    Call :meth:`reset` when a connection has proved good - when the server has answered, not as
    soon as it has accepted: a server that accepts and hangs up needs the pauses, too.

    Raises:
        TypeError: If one of the numbers is not a number.
        ValueError: If it is not finite, *first* is not above 0, *factor* is below 1, or *most* is
            below 0.

    Example:
        >>> from itertools import islice
        >>> list(islice(Backoff(first=0.5, most=3, jitter=False), 5))
        [0.5, 1.0, 2.0, 3.0, 3.0]
    """

    __slots__ = ("_factor", "_first", "_jitter", "_most", "_pause")

    def __init__(
        self,
        first: float = 0.5,
        factor: float = 2.0,
        most: float = 60.0,
        *,
        jitter: bool = True,
    ) -> None:
        self._first = _number("first", first)
        if self._first <= 0:
            raise ValueError(f"expected first above 0, got {first!r}")
        self._factor = _number("factor", factor)
        if self._factor < 1:
            raise ValueError(f"expected factor of 1 or more, got {factor!r}")
        self._most = _number("most", most)
        if self._most < 0:
            raise ValueError(f"expected most of 0 or more, got {most!r}")
        self._jitter = jitter
        self._pause = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._pause = min(self._first, self._most)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> float:
        pause = self._pause
        self._pause = min(pause * self._factor, self._most)
        if not self._jitter:
            return pause
        from random import random  # 2 ms, which programs that never lose a connection can save

        return pause * (1.0 - random() / 2)

    def __repr__(self) -> str:
        return f"<Backoff {self._pause:g} s next, {self._most:g} s at most>"


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected {name} as a number, got {value!r}")
    if not isfinite(value):
        raise ValueError(f"expected {name} as a finite number, got {value!r}")
    return float(value)
