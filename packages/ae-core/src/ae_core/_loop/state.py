"""One thread's loop state: what every watcher of the thread is registered with.

All semantics that do not depend on the loop live in its parts, once: the runner of callbacks,
the table of descriptors, the timer queue, the calls still to be made. Here are what holds them
together: the single native deadline, how a broken turn goes on, and the end. The backend below
only waits.
"""

from __future__ import annotations

__all__ = ("LoopState",)

import time

from .._base.seconds import inf
from .._base.thread_identity import get_ident
from .backend import Backend
from .calls import CallQueue
from .deadlock import deadlock_grace
from .io_table import IoTable
from .runner import CallbackRunner
from .timers import TimerEntry, TimerQueue

TYPE_CHECKING = False  # typing itself costs more to import than all of ae_core
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any, Final
else:  # the C module itself: its wrapper costs 2 ms
    from _contextvars import Context

# Theory of operation
# -------------------
# A watcher is two objects. The *record* (an IoRecord, say, or a number for a timer) is owned by
# a part for as long as the interest lasts. The *guard* (`watchers.Watcher`) is owned by the user,
# refers to the record and cancels it when it is dropped. Nothing in here refers to a guard.
#
# What is still to be done is always in one of the parts, never in a local variable: see `calls`
# and `timers`. That the loop comes back for it is the other half:
#
# * Where others may run the loop inside a callback (`nests`), the loop is asked before each call to
#   come back for the rest: by `rearm` for timers, by `CallQueue.expect` for the others. It then
#   finds nothing left to do in the common case; that nothing is called twice follows from the
#   queues, not from the requests.
# * Everything else begins in `resume`, which asks the loop for all that there is: each wait, and
#   each `poll`, which is how a loop of our own is run inside a callback.

# A single wait longer than this has no use, and some loops refuse it.
LONGEST_WAIT: Final = 86_400.0


class LoopState:
    """The loop state of one thread. ``_detection.current`` makes it and finds it."""

    __slots__ = (
        "__weakref__",
        "armed",
        "aside",
        "backend",
        "calls",
        "chosen",
        "clock",
        "closed",
        "closers",
        "ends",
        "hostless",
        "io",
        "is_own_loop",
        "known",
        "live_timers",
        "nests",
        "operations",
        "per_loop",
        "raw_poll",
        "raw_threadsafe",
        "runner",
        "task",
        "thread",
        "timers",
    )

    backend: Backend
    clock: Callable[[], float]
    raw_poll: Callable[[bool], None]
    raw_threadsafe: Callable[[Callable[[], None]], None]

    def __init__(
        self,
        report: Callable[[BaseException, Any, Any], object],
        chosen: bool = True,
        aside: bool = False,
    ) -> None:
        """*report* gives what a callback raised to the exception hook."""
        self.runner = CallbackRunner(self, report)
        self.timers = TimerQueue()
        self.live_timers = self.timers.live  # ending a timer costs 2 % less by this name
        self.io = IoTable(self, self.runner)
        self.calls = CallQueue(self)
        self.armed = inf  # the time the backend is armed for; -inf: it need not be
        self.nests = True  # others may run the loop inside a callback
        self.operations: set[Any] = set()  # live signal, child, idle records; pending operations
        # those of others that wait for the end of the loop, and whether a quit is one for them
        self.ends: dict[Any, bool] = {}
        self.closers: list[Callable[[], object]] = []  # called by close()
        self.per_loop: dict[str, Any] = {}  # what other files keep per loop, by their own key
        self.task: object | None = None  # the coroutine of ours that runs right now
        self.thread = get_ident()
        self.closed = False
        self.is_own_loop = False  # on a loop that only we run, and that does not end by itself
        self.chosen = chosen  # by the program: it is not left for another
        self.aside = aside  # it may run inside another loop, which is not asked for
        # how many modules there were, none of them another loop: see `_detection.current`
        self.known = self.hostless = -1

    def attach(self, backend: Backend) -> None:
        """Take *backend* into use."""
        self.backend = backend
        backend.holders = {}
        backend.thread = self.thread
        if type(backend).clock is Backend.clock:
            # the function itself: 45 ns instead of 90
            backend.clock = time.monotonic  # type: ignore[method-assign]
        self.clock = backend.clock
        self.is_own_loop = backend.owns_wait
        self.nests = not backend.owns_wait
        self.io.attach(backend)
        backend.on_escaped = self.runner.escaped
        backend.on_stuck = self.deadlock_grace
        # Users reach it as detect().call_threadsafe: what they hand over may raise, and backends
        # are not asked to cope with that.
        self.raw_threadsafe = backend.call_threadsafe
        backend.call_threadsafe = self.calls.call_threadsafe  # type: ignore[method-assign]
        self.raw_poll = backend.poll
        backend.poll = self.poll  # type: ignore[method-assign]

    def note_modules(self, known: int, hostless: int) -> None:
        """Note how many modules there are, none of which is another loop; see detection."""
        self.known = known
        self.hostless = hostless

    # ------------------------------------------------------------------ resuming

    def resume(self) -> None:
        """Have the loop call us for all that is still to be done, whatever it knows of it."""
        self.calls.resume()
        self.resume_timers()

    def resume_timers(self) -> None:
        """Have the backend armed for the earliest timer, whatever it is armed for."""
        timers = self.timers
        at = -inf if timers.has_due() else timers.next_at()
        # without a timer it may be armed all the same, to check for a deadlock
        if at is not None and not self.clock() < self.armed <= at:
            self.rearm(at if at > -inf else self.clock())

    def poll(self, block: bool) -> None:
        """Run one turn of the loop, also inside a callback."""
        self.resume()
        self.raw_poll(block)

    def deadlock_grace(self) -> float | None:
        """Return how many seconds to wait although nothing is left to wait for; None: no time."""
        return deadlock_grace(self.operations, self.calls.threadsafe)

    def repeat(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the next turn; for what an exception broke off."""
        self.calls.postponed.append((callback, None))

    def wake(self) -> None:
        """Have the wait of this thread ask whether it is over."""
        self.backend.wake()

    def postpone(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the next turn, in the caller's context variables."""
        self.calls.postpone(callback)

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the loop's thread; from any thread. See ``CallQueue``."""
        self.calls.call_threadsafe(callback)

    # ------------------------------------------------------------------ timers

    def rearm(self, at: float) -> None:
        """Have the backend call :meth:`on_deadline` at *at*, the new earliest time."""
        # until it is done: what is said to be armed always is, wherever an exception comes
        self.armed = inf
        latest = self.clock() + LONGEST_WAIT
        self.backend.arm(at if at < latest else latest)
        self.armed = at

    def disarm(self) -> None:
        """Have the backend forget the time, which no timer needs any more."""
        if -inf < self.armed < inf:
            self.armed = inf
            self.backend.arm(None)

    def on_deadline(self) -> None:
        """Called by the backend: run every timer that is due now."""
        if self.closed:
            return
        timers = self.timers
        runner = self.runner
        live = timers.live
        at, number = inf, 0
        self.armed = inf  # the backend has called, so it is armed no more
        try:
            now = self.clock()
            count = timers.take_due(now)
            single = count == 1
            if not single:
                # no arming for timers that are made meanwhile: it happens below
                if not self.nests:
                    self.armed = -inf
                elif count:
                    self.rearm(now)
            batch: Any = timers.batch
            for at, number in batch:
                entry = live.get(number)
                if entry is None:
                    single = False
                    continue  # cancelled by a callback before it
                context = None
                callback: Any = entry
                repeats = False
                if isinstance(entry, TimerEntry):
                    callback = entry.callback
                    context = entry.context
                    if entry.interval:
                        if entry.at != at:
                            single = False
                            continue  # met for the second time
                        repeats = True
                        # planned before the call, from the planned time, at most one behind
                        again = at + entry.interval
                        if again < now:
                            again = now
                        timers.again(again, number, entry)
                if single and self.nests:
                    # before the call: a loop inside it has its timers, too
                    self.arm_next()
                if not repeats:
                    del live[number]
                # fast path: CallbackRunner.call(), written out, as in IoRecord
                try:
                    if context is None:
                        empty = runner.empty_context
                        if empty is None:
                            empty = Context()
                        runner.empty_context = None
                        empty.run(callback)
                        if not empty:
                            runner.empty_context = empty
                    else:
                        context.copy().run(callback)
                except BaseException as error:
                    runner.failed(error, (number, callback))
        except BaseException as error:
            # it is put back, unless it was called: then it is not alive, or due at another time
            timers.put_back(at, number)
            runner.escaped(error)
            return
        if self._has_closed():
            return
        if timers.end_batch():
            self.resume_timers()  # a turn inside this one was broken off
        elif not single:
            self.arm_next()
        elif not self.nests:
            # those that were made in the call are armed for
            next_at = timers.next_in_heap()
            if next_at is not None and next_at < self.armed:
                self.rearm(next_at)

    def arm_next(self) -> None:
        """Have the backend armed for the next timer that is not due."""
        at = self.timers.next_at()
        if at is not None:
            self.rearm(at)
        elif self.armed != inf:
            self.armed = inf
            self.backend.arm(None)

    def timer(self, after: float, callback: Callable[[], object]) -> int:
        """Make a timer that the core itself owns, in empty context variables.

        End it with :meth:`cancel_timer`.
        """
        at = self.clock() + after
        number = self.timers.add(at, callback)
        if at < self.armed:
            try:
                self.rearm(at)
            except BaseException:
                self.refuse_timer(number)
                raise
        return number

    def refuse_timer(self, number: int) -> None:
        """Forget a new timer for which the backend could not be armed; the others are due still."""
        self.timers.live.pop(number, None)  # a run that begins later must not call it
        if self.timers.live:
            self.repeat(self.resume_timers)
            self.calls.expect()

    def cancel_timer(self, number: int) -> None:
        """End a timer of :meth:`timer`, if it has not run yet."""
        self.timers.live.pop(number, None)

    def has_timer(self, number: int) -> bool:
        """Return whether a timer of :meth:`timer` is still to run."""
        return number in self.timers.live

    # ------------------------------------------------------------------ the end

    def leave_to_parent(self) -> list[Any]:
        """End the binding in a forked child, where nothing of the parent's may happen.

        No callback, no clean-up and nothing that touches what both processes have: not even an
        object may go, because that could run its finalizer.

        Returns:
            What has to be kept for ever.
        """
        calls = self.calls
        kept: list[Any] = [self, self.timers.live.copy(), self.operations.copy()]
        kept += [calls.owed.copy(), calls.postponed.copy(), calls.threadsafe.copy()]
        self.closed = True
        self.is_own_loop = False
        self.known = self.hostless = -1
        kept += self.io.end_all()
        for operation in self.operations:
            if hasattr(operation, "active"):
                operation.active = False
        kept.append(self.ends.copy())
        self.ends.clear()
        self.timers.clear()
        calls.clear()
        self.backend.after_fork()
        return kept

    def wait_for_end(self, end: Any, at_quit: bool) -> None:
        """Have *end* fire when the loop ends, or also when the program quits."""
        self.operations.add(end)
        self.ends[end] = at_quit

    def forget_end(self, end: Any) -> None:
        """Take :meth:`wait_for_end` back."""
        self.operations.discard(end)
        self.ends.pop(end, None)

    def call_ends(self, quits: bool = False) -> None:
        """Make the calls that wait for the end of the loop, the youngest first.

        If the program only *quits*, the loop may run again, and not all of them are made. An
        interrupt out of one leaves when the others have been made.
        """
        interrupt: BaseException | None = None
        ends = self.ends
        while self.thread == get_ident():
            due = (end for end, at_quit in reversed(ends.items()) if at_quit or not quits)
            end = next(due, None)
            if end is None:
                break
            try:
                end.fire()
            except (KeyboardInterrupt, SystemExit) as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _has_closed(self) -> bool:
        """Return whether a callback has closed it, which a type checker does not expect."""
        return self.closed

    def close(self) -> None:
        """End the binding: every watcher of this core has ended from now on."""
        interrupt: BaseException | None = None
        try:
            self.call_ends()
        except (KeyboardInterrupt, SystemExit) as error:
            interrupt = error
        if self._has_closed():
            return
        self.closed = True
        self.is_own_loop = False
        self.known = self.hostless = -1
        self.io.end_all()
        self.io.clear()
        self.timers.clear()
        self.calls.postponed.clear()
        for operation in list(self.operations):
            try:
                operation.cancel()
            except (KeyboardInterrupt, SystemExit) as error:
                interrupt = error  # of a callback of a task: the rest ends all the same
        for closer in self.closers:
            closer()
        self.closers.clear()
        self.per_loop.clear()
        self.backend.close()
        if interrupt is not None:
            raise interrupt
