"""The timer queue: which timers are due, in what order, and when the next one is.

Pure: no clock, no backend, no callbacks are run here. ``_core`` asks; ``_api.timer`` appends.
"""

from __future__ import annotations

__all__ = ("AT", "CALLBACK", "CONTEXT", "CORE", "INTERVAL", "SEQ", "TimerQueue", "TimerRecord")

from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

# Theory of operation
# -------------------
# A timer is a plain list, because a list display is the cheapest mutable object Python makes
# (35 ns against 65 to 120 ns for a class with slots) and because lists are compared in C.
# Most timers are time-outs that are cancelled long before they are due, so a new timer is only
# appended to `incoming`; it enters the heap when the queue is next asked what is due. What was
# cancelled by then never costs a heap operation, and a timer of zero delay goes from `incoming`
# straight to the due list.
#
# Cancelling is lazy: the record's callback becomes None and `dead` counts it. Once the dead
# outnumber the living, both lists are rebuilt, so memory stays proportional to what is alive.
#
# SEQ is handed out in order of creation when a record leaves `incoming`; (AT, SEQ) is unique, so
# comparing never reaches the callback, and timers due at the same instant run first-in first-out.

AT: Final = 0
SEQ: Final = 1
CALLBACK: Final = 2  # None: cancelled, or a one-shot timer that has run
CONTEXT: Final = 3  # contextvars.Context, or None for an empty one
INTERVAL: Final = 4  # seconds, 0.0 for a one-shot timer
CORE: Final = 5  # the owner; not used here

TimerRecord: TypeAlias = list[Any]


class TimerQueue:
    """Timer records ordered by due time."""

    __slots__ = ("dead", "heap", "incoming", "limit", "seq")

    def __init__(self) -> None:
        self.incoming: list[TimerRecord] = []
        self.heap: list[TimerRecord] = []
        self.seq = 0
        self.dead = 0  # cancelled records that are still in one of the lists
        self.limit = 1024  # how many dead ones are tolerated before a look at the proportion

    def __len__(self) -> int:
        return len(self.incoming) + len(self.heap) - self.dead

    def cancel(self, record: TimerRecord) -> None:
        """Make *record*, which must be waiting in this queue, never due."""
        record[CALLBACK] = None
        self.dead = dead = self.dead + 1
        if dead > self.limit:
            self.tidy()

    def tidy(self) -> None:
        """Rebuild both lists without the dead if these are more than half of all."""
        if self.dead * 2 > len(self.incoming) + len(self.heap):
            before = len(self.incoming) + len(self.heap)
            self.incoming = [record for record in self.incoming if record[CALLBACK] is not None]
            self.heap = [record for record in self.heap if record[CALLBACK] is not None]
            heapify(self.heap)
            self.dead -= before - len(self.incoming) - len(self.heap)
        self.limit = max(1024, (len(self.incoming) + len(self.heap)) // 2)

    def take_due(self, now: float) -> list[TimerRecord]:
        """Remove and return the live records with ``AT <= now``, in order.

        A record may still be cancelled between this call and its turn: look at it again, and
        call :meth:`skip` for each that is dead by then.
        """
        due: list[TimerRecord] = []
        heap = self.heap
        incoming = self.incoming
        if incoming:
            self.incoming = []
            seq = self.seq
            later: list[TimerRecord] = []
            for record in incoming:
                if record[CALLBACK] is None:
                    self.dead -= 1
                    continue
                record[SEQ] = seq
                seq += 1
                if record[AT] <= now:
                    due.append(record)
                else:
                    later.append(record)
            self.seq = seq
            if len(later) > len(heap):
                heap += later  # one heapify is linear, many pushes are not
                heapify(heap)
            else:
                for record in later:
                    heappush(heap, record)
        while heap and heap[0][AT] <= now:
            record = heappop(heap)
            if record[CALLBACK] is None:
                self.dead -= 1
            else:
                due.append(record)
        due.sort()  # two ordered runs at most: linear
        return due

    def skip(self) -> None:
        """Note that a record from :meth:`take_due` was cancelled before its turn came."""
        self.dead -= 1

    def next_at(self) -> float | None:
        """Return when the next live timer is due, or None if there is none."""
        heap = self.heap
        while heap and heap[0][CALLBACK] is None:
            heappop(heap)
            self.dead -= 1
        at: float | None = heap[0][AT] if heap else None
        for record in self.incoming:
            if record[CALLBACK] is not None and (at is None or record[AT] < at):
                at = record[AT]
        return at
