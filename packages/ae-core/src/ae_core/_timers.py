"""The timer queue: which timers are due, in what order, and when the next one is.

Pure: no clock, no backend, and no callback is run here. ``_core.Core`` is one of these;
``_api.timer`` adds to it with :meth:`TimerQueue.add` written out.
"""

from __future__ import annotations

__all__ = ("TimerEntry", "TimerQueue")

from heapq import heapify, heappop, heappush
from itertools import chain
from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context
    from typing import TypeAlias

    Entry: TypeAlias = "Callable[[], object] | TimerEntry"

# Theory of operation
# -------------------
# Half of a timer's cost is the garbage collector walking over what a timer is made of, so a timer
# is made of numbers, which it does not walk: timer `n` is `live[n]`, its callback itself in the
# common case. Cancelling is `live.pop(n)`; the due time stays behind and is skipped when met.
#
# Most timers are time-outs that are cancelled long before they are due. So a new due time is only
# appended to `incoming`, where the position tells the number: the last one is `last`, the one
# before it `last - 1`. It enters the heap, as (due time, number), when the queue is next asked
# what is due; what was cancelled by then never costs a heap operation, and a timer of zero delay
# never enters it. Numbers grow, so timers due at the same instant run first-in first-out.
#
# Where nothing is due for long, `incoming` would grow for ever. Now and then what is alive of it
# moves to `kept`, a dict and not the heap: with 4500 connections whose time-outs move at every
# request that costs 0.05 us a request, where a heap of tuples takes 0.65.
#
# Create and cancel: 0.38 of what asyncio takes, where a bare heap of lists takes 0.31.


class TimerEntry:
    """What ``live`` holds for a timer that repeats or has context variables."""

    __slots__ = ("callback", "context", "interval")

    def __init__(
        self, callback: Callable[[], object], context: Context | None, interval: float
    ) -> None:
        self.callback = callback
        self.context = context
        self.interval = interval


class TimerQueue:
    """Due times and callbacks of the timers that are alive."""

    __slots__ = ("heap", "incoming", "kept", "last", "live", "tidy_at")

    def __init__(self) -> None:
        self.live: dict[int, Entry] = {}
        self.incoming: list[float] = []
        self.kept: dict[int, float] = {}
        self.heap: list[tuple[float, int]] = []
        self.last = 0
        self.tidy_at = 1024  # the number at which to see whether tidy() is worth its while

    def add(self, at: float, entry: Entry) -> int:
        """Add a timer due at *at* and return its number."""
        self.last = number = self.last + 1
        self.live[number] = entry
        self.incoming.append(at)
        if number >= self.tidy_at:
            self.tidy()
        return number

    def clear(self) -> None:
        """Forget all timers."""
        self.live.clear()
        self.incoming.clear()
        self.kept.clear()
        self.heap.clear()

    def again(self, at: float, number: int) -> None:
        """Make timer *number*, which was due, due again at *at*."""
        heappush(self.heap, (at, number))

    def unsorted(self) -> Iterator[tuple[int, float]]:
        """Give number and due time of what is not in the heap yet, cancelled or not."""
        first = self.last - len(self.incoming) + 1
        return chain(self.kept.items(), enumerate(self.incoming, first))

    def tidy(self) -> None:
        """Forget the due times of cancelled timers if they take more room than the live ones."""
        self.tidy_at = self.last + 1024
        # one in the heap takes 120 bytes, one in `incoming` 32
        if len(self.incoming) + 3 * len(self.heap) > 8 * len(self.live) + 1024:
            self.compact()

    def compact(self) -> None:
        """Forget the due times of cancelled timers."""
        live = self.live
        kept, incoming = self.kept, self.incoming
        first = self.last - len(incoming) + 1
        self.kept = {
            number: incoming[number - first] if number >= first else kept[number]
            for number in live
            if number >= first or number in kept
        }
        self.incoming = []
        heap = [item for item in self.heap if item[1] in live]
        if len(heap) < len(self.heap):
            heapify(heap)
            self.heap = heap

    def _settle(self, now: float = -inf) -> list[tuple[float, int]]:
        """Move what is alive and not in the heap there, except what is due: return that."""
        due: list[tuple[float, int]] = []
        later: list[tuple[float, int]] = []
        live = self.live
        for number, at in self.unsorted():
            if number in live:
                if at <= now:
                    due.append((at, number))
                else:
                    later.append((at, number))
        self.kept = {}
        self.incoming = []
        if len(later) > len(self.heap):
            self.heap += later  # one heapify is linear, many pushes are not
            heapify(self.heap)
        else:
            for item in later:
                heappush(self.heap, item)
        return due

    def take_due(self, now: float) -> list[tuple[float, int]]:
        """Remove and return the (due time, number) pairs that are due at *now*, in order.

        They stay in ``live``: any of them may be cancelled before its turn comes.
        """
        due = self._settle(now) if self.incoming or self.kept else []
        heap = self.heap
        live = self.live
        while heap and heap[0][0] <= now:
            item = heappop(heap)
            if item[1] in live:
                due.append(item)
        due.sort()  # two ordered runs in the common case: linear
        return due

    def next_at(self) -> float | None:
        """Return when the next live timer is due, or None if there is none."""
        if self.incoming or self.kept:
            self._settle()
        heap = self.heap
        live = self.live
        while heap and heap[0][1] not in live:
            heappop(heap)
        return heap[0][0] if heap else None
