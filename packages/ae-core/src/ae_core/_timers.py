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
# appended to `incoming`, where the position tells the number: the first one is `before + 1`, the
# next one `before + 2`. It enters the heap, as (due time, number), when the queue is next asked
# what is due; what was cancelled by then never costs a heap operation, and a timer of zero delay
# never enters it. Numbers grow, so timers due at the same instant run first-in first-out.
#
# What is due leaves all of these for `due`, the batch in progress. It is part of the queue, and not
# of whoever runs it: a loop inside a callback goes on with the rest of it, and so does the next
# turn if an exception ends this one.
#
# A signal handler may raise between any two calls of ours. So a due time is always added to where
# it goes before it is taken from where it was, and may be met twice after that: what runs once is
# no longer in `live` then, and what repeats knows in `TimerEntry.at` which time is the true one.
#
# Where nothing is due for long, `incoming` would grow for ever. Now and then what is alive of it
# moves to `kept`, a dict and not the heap: with 4500 connections whose time-outs move at every
# request that costs 0.05 us a request, where a heap of tuples takes 0.65.
#
# Create and cancel: 0.38 of what asyncio takes, where a bare heap of lists takes 0.31.


class TimerEntry:
    """What ``live`` holds for a timer that repeats or has context variables."""

    __slots__ = ("at", "callback", "context", "interval")

    def __init__(
        self, callback: Callable[[], object], context: Context | None, interval: float, at: float
    ) -> None:
        self.callback = callback
        self.context = context
        self.interval = interval
        self.at = at  # when it is due, if it repeats


class TimerQueue:
    """Due times and callbacks of the timers that are alive."""

    __slots__ = ("before", "due", "heap", "incoming", "kept", "live", "tidy_at")

    def __init__(self) -> None:
        self.live: dict[int, Entry] = {}
        self.incoming: list[float] = []
        self.before = 0  # the number that was given before the first of `incoming`
        self.kept: dict[int, float] = {}
        self.heap: list[tuple[float, int]] = []
        self.due: list[tuple[float, int]] = []  # the next one is the last
        self.tidy_at = 1024  # the number at which to see whether tidy() is worth its while

    def add(self, at: float, entry: Entry) -> int:
        """Add a timer due at *at* and return its number."""
        incoming = self.incoming
        incoming.append(at)
        number = self.before + len(incoming)
        self.live[number] = entry
        if number >= self.tidy_at:
            self.tidy()
        return number

    def clear(self) -> None:
        """Forget all timers."""
        self.live.clear()
        self.kept.clear()
        self.heap.clear()
        self.due.clear()
        self._forget_incoming()

    def _forget_incoming(self) -> None:
        incoming = self.incoming
        count = len(incoming)
        self.before += count
        self.incoming = []

    def again(self, at: float, number: int) -> None:
        """Make timer *number*, which was due, due again at *at*."""
        heappush(self.heap, (at, number))

    def unsorted(self) -> Iterator[tuple[int, float]]:
        """Give number and due time of what is not in the heap yet, cancelled or not."""
        return chain(self.kept.items(), enumerate(self.incoming, self.before + 1))

    def tidy(self) -> None:
        """Forget the due times of cancelled timers if they take more room than the live ones."""
        self.tidy_at = self.before + len(self.incoming) + 1024
        # one in the heap takes 120 bytes, one in `incoming` 32
        if len(self.incoming) + 3 * len(self.heap) > 8 * len(self.live) + 1024:
            self.compact()

    def compact(self) -> None:
        """Forget the due times of cancelled timers."""
        live = self.live
        kept, incoming, before = self.kept, self.incoming, self.before
        self.kept = {
            number: incoming[number - before - 1] if number > before else kept[number]
            for number in live
            if number > before or number in kept
        }
        self._forget_incoming()
        heap = [item for item in self.heap if item[1] in live]
        if len(heap) < len(self.heap):
            heapify(heap)
            self.heap = heap

    def _settle(self, now: float = -inf) -> None:
        """Move what is alive and not in the heap there, and what is due at *now* to ``due``."""
        due = self.due
        later: list[tuple[float, int]] = []
        live = self.live
        for number, at in self.unsorted():
            if number in live:
                if at <= now:
                    due.append((at, number))
                else:
                    later.append((at, number))
        if len(later) > len(self.heap):
            heap = self.heap + later  # one heapify is linear, many pushes are not
            heapify(heap)
            self.heap = heap
        else:
            for item in later:
                heappush(self.heap, item)
        self.kept = {}
        self._forget_incoming()

    def take_due(self, now: float) -> list[tuple[float, int]]:
        """Move what is due at *now* to ``due``, which is returned: the first of all is the last.

        They stay in ``live``: any of them may be cancelled before its turn comes.
        """
        if self.incoming or self.kept:
            self._settle(now)
        heap, due = self.heap, self.due
        live = self.live
        while heap and heap[0][0] <= now:
            if heap[0][1] in live:
                due.append(heap[0])
            heappop(heap)
        if len(due) > 1:
            due.sort(reverse=True)  # two ordered runs in the common case: linear
        return due

    def next_at(self) -> float | None:
        """Return when the next live timer is due that is not in ``due``, or None."""
        if self.incoming or self.kept:
            self._settle()
        heap = self.heap
        live = self.live
        while heap and heap[0][1] not in live:
            heappop(heap)
        return heap[0][0] if heap else None
