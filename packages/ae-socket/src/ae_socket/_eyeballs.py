"""Happy Eyeballs, version 2: which target to try next, and when.

Sans-I/O: imports nothing from ``ae_core``, has no clock and no sockets. The shell tells it
the time and what became of the attempts.
"""

from __future__ import annotations

__all__ = ("ATTEMPT_DELAY", "Schedule", "interleave")

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final, Generic, TypeVar

    T = TypeVar("T")
else:

    class Generic:
        """Stands in for ``typing.Generic``: importing typing costs more than all of ae_socket."""

        __slots__ = ()
        __class_getitem__ = classmethod(lambda cls, _: cls)

    T = "T"

# Theory of operation
# -------------------
# RFC 8305: a host with a dead IPv6 route must not cost the user a TCP timeout. The
# targets are put in one row, families alternating (section 4), and started one after the
# other. The next one starts when the last one started has had ATTEMPT_DELAY without an
# outcome (section 5), or immediately when an attempt fails: then nothing is gained by waiting.
# The first that is connected wins.
#
#            0 ms      250 ms     500 ms
#   v6 #1    |----------------------------- ...  (blackhole)
#   v4 #1              |---------X               (refused at 400 ms)
#   v6 #2                        |----- connected: the winner
#
# "Immediately" counts per failure: two attempts that fail in the same millisecond start
# two others, as they would have, had they failed one after the other.

ATTEMPT_DELAY: Final = 0.25
"""Seconds an attempt gets before the next one joins it: the RFC's recommended value."""


class Schedule(Generic[T]):
    """The order of attempts, for one connection.

    Ask :meth:`next` for what to start now until it returns ``None``, then come back at
    :attr:`wake_at`; report each end with :meth:`failed`.

    Args:
        targets: What to try, in this order.
        delay: Seconds between two starts while nothing fails.
    """

    __slots__ = ("_at_once", "_delay", "_last_start", "_running", "_waiting")

    def __init__(self, targets: Iterable[T], *, delay: float = ATTEMPT_DELAY) -> None:
        self._waiting = deque(targets)
        self._running: list[T] = []
        self._delay = delay
        self._last_start = 0.0
        self._at_once = 0

    def next(self, now: float) -> T | None:
        """Return the target to start at the time *now*, or ``None`` if none is due."""
        if not self._waiting:
            return None
        if self._running:
            if self._at_once:
                self._at_once -= 1
            elif now < self._last_start + self._delay:
                return None
        else:
            self._at_once = 0
        target = self._waiting.popleft()
        self._running.append(target)
        self._last_start = now
        return target

    @property
    def wake_at(self) -> float | None:
        """The time to ask :meth:`next` again if nothing fails before; ``None``: never."""
        if not self._waiting:
            return None
        if not self._running or self._at_once:
            return self._last_start
        return self._last_start + self._delay

    @property
    def is_exhausted(self) -> bool:
        """True when nothing is running and nothing is left to try."""
        return not self._running and not self._waiting

    def failed(self, target: T) -> None:
        """Report that the attempt at *target* came to nothing."""
        self._running.remove(target)
        self._at_once += 1

    def won(self, target: T) -> None:
        """Report that *target* is connected: the other attempts are to be given up.

        They count as not tried: should the winner turn out to be of no use, :meth:`failed`
        for it lets :meth:`next` begin with them again.
        """
        self._running.remove(target)
        self._waiting.extendleft(reversed(self._running))
        self._running = [target]


def interleave(targets: Iterable[T], family: Callable[[T], object]) -> list[T]:
    """Let the address families alternate, beginning with the first target's.

    Inside a family the order stays: it is the resolver's.

    Example:
        >>> interleave(["6a", "6b", "6c", "4a"], lambda text: text[0])
        ['6a', '4a', '6b', '6c']
    """
    queues: dict[object, deque[T]] = {}
    for target in targets:
        queues.setdefault(family(target), deque()).append(target)
    result = []
    while queues:
        for key, queue in list(queues.items()):
            result.append(queue.popleft())
            if not queue:
                del queues[key]
    return result
