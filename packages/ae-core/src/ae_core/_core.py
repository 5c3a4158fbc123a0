"""One thread's loop state: what every watcher of the thread is registered with.

All semantics that do not depend on the loop live here, once: running a callback in its context
and catching what it raises, several watchers per descriptor and direction, the timer queue and
its single native deadline, the postponed queue. The backend below only waits.
"""

from __future__ import annotations

__all__ = ("Core", "IoRecord")

import time
from math import inf

from ._backend import Backend
from ._blocking import stuck_for
from ._interrupt import batch
from ._thread_identity import get_ident, wrong_thread
from ._timers import TimerEntry, TimerQueue

TYPE_CHECKING = False  # typing itself costs more to import than all of ae_core
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context, copy_context
    from typing import Any, Final
else:  # the C modules themselves: their wrappers cost 2 ms
    from _collections import deque
    from _contextvars import Context, copy_context

# Theory of operation
# -------------------
# A watcher is two objects. The *record* (IoRecord here, a number for a timer) is owned by the core
# for as long as the interest lasts. The *guard* (`_watcher.Watcher`) is owned by the user, refers
# to the record and cancels it when it is dropped. Nothing in the core refers to a guard.
#
# Every callback runs in the context variables of the place that registered it. Nearly always
# these are empty, and then the callback runs in `blank`, an empty Context that is used again as
# long as it stays empty (38 ns, against 28 for a copy plus its memory). A Context cannot be
# entered twice, and GUI loops do nest, so `blank` is taken out while it is in use.
#
# KeyboardInterrupt and SystemExit leave recv() exactly once: if they come out of a callback while
# recv() blocks, they are kept in `interrupt`, the others are called, and recv() raises them. If
# nobody blocks, they leave through whoever runs the loop, and the others come in a later turn; or
# before, in a `batch`, where there is no later turn for them.

# Waiting longer than this at once buys nothing, and some loops refuse it.
LONGEST_WAIT: Final = 86_400.0

# How many postponed callbacks one turn runs. Callbacks that are postponed meanwhile belong to
# the same turn (upstream's rule), but an endless chain of them must not starve I/O.
POSTPONED_PER_TURN: Final = 10_000


class IoRecord:
    """The interest of one watcher in one direction of one descriptor.

    The backend gets the first record of a descriptor and direction as its callback.
    """

    __slots__ = ("callback", "context", "core", "fd", "peers", "token")

    callback: Callable[[], object] | None  # None: cancelled
    context: Context | None
    core: Core
    fd: int  # ~fd for writing
    peers: list[IoRecord] | None  # on the first record of a descriptor: itself and the others
    token: Any

    kind = "io"

    @property
    def active(self) -> bool:
        return self.callback is not None

    def __call__(self) -> None:
        """Called by the backend: the descriptor is ready."""
        if self.peers is not None:
            with batch(self.core):
                for record in self.peers.copy():
                    if record.callback is not None:
                        self.core.call(record.callback, record.context, record)
            return
        # Core.call(), written out: 60 ns of the 3 us that an event costs
        core = self.core
        callback: Any = self.callback
        if callback is None:
            return  # cancelled, and the backend had found it ready before
        try:
            if self.context is None:
                blank = core.blank
                if blank is None:
                    blank = Context()
                core.blank = None
                blank.run(callback)
                if not blank:
                    core.blank = blank
            else:
                self.context.copy().run(callback)
        except BaseException as error:
            core.failed(error, (self, callback))

    def cancel(self) -> None:
        if self.callback is None:
            return
        core = self.core
        if core.thread != get_ident():
            wrong_thread()
        self.callback = None
        fd = self.fd
        if fd < 0:
            fd = ~fd
            side = core.writers
        else:
            side = core.readers
        first = side[fd]
        if first.peers is not None:
            first.peers.remove(self)
            if first.peers:
                return
        del side[fd]
        token = first.token
        if token.__class__ is _AlwaysReady:
            token.stop()
        else:
            core.backend.io_stop(token)

    def describe(self) -> str:
        return f" {~self.fd} w" if self.fd < 0 else f" {self.fd} r"


class Core(TimerQueue):
    """The loop state of one thread. Made by ``_detect``, found by ``current()`` there."""

    __slots__ = (
        "__weakref__",
        "alone",
        "armed",
        "backend",
        "batches",
        "blank",
        "blocked",
        "clock",
        "closed",
        "closers",
        "interrupt",
        "others",
        "posted",
        "posted_scheduled",
        "raw_threadsafe",
        "readers",
        "remote",
        "rooms",
        "task",
        "thread",
        "writers",
    )

    backend: Backend
    clock: Callable[[], float]
    raw_threadsafe: Callable[[Callable[[], None]], None]

    def __init__(self) -> None:
        super().__init__()
        self.armed = inf  # the time the backend is armed for
        self.readers: dict[int, IoRecord] = {}  # the first record of each descriptor
        self.writers: dict[int, IoRecord] = {}
        self.others: set[Any] = set()  # live signal, child, idle records; pending operations
        self.closers: list[Callable[[], object]] = []  # called by close()
        self.rooms: dict[str, Any] = {}  # what other files keep per loop, by their own key
        self.posted: deque[tuple[Callable[[], object], Context | None]] = deque()
        self.posted_scheduled = False
        self.remote: deque[None] = deque()  # one for each call from a thread that is under way
        self.blank: Context | None = Context()
        self.blocked = 0  # how many recv() of this thread wait
        self.batches = 0  # how many `_interrupt.batch` are under way
        self.interrupt: BaseException | None = None
        self.task: object | None = None  # the coroutine of ours that runs right now
        self.thread = get_ident()
        self.closed = False
        self.alone = False  # on a loop that nobody else runs, and that does not end by itself

    def attach(self, backend: Backend) -> None:
        """Take *backend* into use."""
        self.backend = backend
        if type(backend).clock is Backend.clock:
            # the function itself: 45 ns instead of 90
            backend.clock = time.monotonic  # type: ignore[method-assign]
        self.clock = backend.clock
        self.alone = backend.owns_wait
        backend.on_ready = self.io_ready  # type: ignore[method-assign]
        backend.on_refused = self.io_refused
        backend.on_stuck = lambda: stuck_for(self)
        # Users reach it as detect().call_threadsafe: what they hand over may raise, and backends
        # are not asked to cope with that.
        self.raw_threadsafe = backend.call_threadsafe
        backend.call_threadsafe = self.call_threadsafe  # type: ignore[method-assign]

    # ------------------------------------------------------------------ calling back

    def call(self, callback: Callable[[], object], context: Context | None, record: Any) -> None:
        """Run *callback* of *record*, None for no watcher; errors go to :meth:`failed`."""
        try:
            if context is None:
                blank = self.blank
                if blank is None:
                    blank = Context()
                self.blank = None
                blank.run(callback)
                if not blank:
                    self.blank = blank
            else:
                context.copy().run(callback)
        except BaseException as error:
            self.failed(error, None if record is None else (record, callback))

    def failed(self, error: BaseException, source: tuple[Any, Any] | None) -> None:
        """Deal with what a callback raised: the hook, or out of ``recv()``.

        *source* is the record, a timer's number, with the callback; None if there is none.
        """
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            from ._hook import report

            try:
                report(error, self, source)
                return
            except (KeyboardInterrupt, SystemExit) as leaves:
                error = leaves  # it came out of the hook
        if not self.blocked and not self.batches:
            raise error
        if self.interrupt is None:
            self.interrupt = error
        if self.blocked:
            self.backend.wake()

    # ------------------------------------------------------------------ descriptors

    def io_start(
        self, fd: int, write: bool, callback: Callable[[], object], context: Context | None
    ) -> IoRecord:
        """Register an interest and return its record."""
        record = IoRecord()
        record.core = self
        record.callback = callback
        record.context = context
        record.peers = None
        record.token = None
        if write:
            record.fd = ~fd
            side = self.writers
        else:
            record.fd = fd
            side = self.readers
        if fd not in side:
            try:
                record.token = self.backend.io_start(fd, write, record)
            except PermissionError:
                record.token = _AlwaysReady(self, record)
            side[fd] = record
        else:
            first = side[fd]
            if first.peers is None:
                first.peers = [first]
            first.peers.append(record)
        return record

    def io_own(self, fd: int, callback: Callable[[], object], *, counts: bool = True) -> IoRecord:
        """Have *callback* called when *fd* is readable, for the core itself.

        No watcher stands for it, nothing that looks for watchers sees it, and only one may be on
        a descriptor. End it with :meth:`io_own_end`. If it does not count, a loop that ends when
        it has nothing to wait for does not wait for this.
        """
        record = IoRecord()
        record.core = self
        record.callback = callback
        record.context = None
        record.peers = None
        record.fd = fd
        record.token = self.backend.io_start(fd, False, record)
        if not counts:
            self.backend.io_discount(record.token)
        return record

    def io_own_end(self, record: IoRecord) -> None:
        """End what :meth:`io_own` began."""
        record.callback = None
        if not self.closed:
            self.backend.io_stop(record.token)

    def io_ready(self, callbacks: Iterable[Callable[[], None]]) -> None:
        """Called by the backend, with what it was given: run all callbacks."""
        waiting = iter(callbacks)
        done = False
        while not done:
            blank = self.blank
            if blank is None:
                blank = Context()
            self.blank = None
            done = blank.run(self._run_in_blank, waiting, blank)
            if not blank:
                self.blank = blank

    def _run_in_blank(self, waiting: Iterator[Any], blank: Context) -> bool:
        """Run callbacks until one of them has left something in *blank*; False if so.

        Entering a Context for each would be a tenth of what an event costs here.
        """
        for record in waiting:
            if record.__class__ is not IoRecord or record.context or record.peers is not None:
                record()
                continue
            callback: Any = record.callback
            if callback is None:
                continue  # cancelled by a callback before it
            try:
                callback()
            except BaseException as error:
                self.failed(error, (record, callback))
            if blank:
                return False
        return True

    def io_refused(self, fd: int, write: bool, error: OSError) -> None:
        """The backend found out late that it cannot watch *fd*: end all its watchers."""
        side = self.writers if write else self.readers
        first = side.pop(fd, None)
        if first is None:
            return
        for record in first.peers or [first]:
            callback, record.callback = record.callback, None
            if callback is not None:
                self.failed(error, (record, callback))

    # ------------------------------------------------------------------ timers

    def rearm(self, at: float) -> None:
        """Have the backend call :meth:`on_deadline` at *at*, the new earliest time."""
        self.armed = at
        latest = self.clock() + LONGEST_WAIT
        self.backend.arm(at if at < latest else latest)

    def disarm(self) -> None:
        """Have the backend forget the time, which no timer needs any more."""
        if -inf < self.armed < inf:
            self.armed = inf
            self.backend.arm(None)

    def on_deadline(self) -> None:
        """Called by the backend: run every timer that is due now, then arm for the next."""
        if self.closed:
            return
        live = self.live
        self.armed = -inf  # no arming for timers that are made meanwhile: it happens below
        waiting: Iterator[tuple[float, int]] = iter(())
        try:
            now = self.clock()
            waiting = iter(self.take_due(now))
            for at, number in waiting:
                entry = live.get(number)
                if entry is None:
                    continue  # cancelled by a callback before it
                context = None
                callback: Any
                if isinstance(entry, TimerEntry):
                    callback = entry.callback
                    context = entry.context
                    if entry.interval:
                        # planned before the call, from the planned time, at most one behind
                        self.again(max(at + entry.interval, now), number)
                    else:
                        del live[number]
                else:
                    callback = entry
                    del live[number]
                # call(), written out, as in IoRecord
                try:
                    if context is None:
                        blank = self.blank
                        if blank is None:
                            blank = Context()
                        self.blank = None
                        blank.run(callback)
                        if not blank:
                            self.blank = blank
                    else:
                        context.copy().run(callback)
                except BaseException as error:
                    self.failed(error, (number, callback))
        finally:
            for at, number in waiting:  # an interrupt came between
                self.again(at, number)
            next_at = self.next_at()
            if next_at is not None:
                self.rearm(next_at)
            else:
                self.armed = inf
                self.backend.arm(None)

    def timer(self, after: float, callback: Callable[[], object]) -> int:
        """Make a timer that the core itself owns, in empty context variables.

        End it with :meth:`cancel_timer`.
        """
        at = self.clock() + after
        number = self.add(at, callback)
        if at < self.armed:
            self.rearm(at)
        return number

    def cancel_timer(self, number: int) -> None:
        """End a timer of :meth:`timer`, if it has not run yet."""
        self.live.pop(number, None)

    # ------------------------------------------------------------------ postponed calls

    def postpone(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the next turn, in the caller's context variables."""
        context = copy_context()
        self.posted.append((callback, context if context else None))
        if not self.posted_scheduled:
            self.posted_scheduled = True
            self.backend.call_soon(self.run_posted)

    def run_posted(self) -> None:
        posted = self.posted
        try:
            for _ in range(POSTPONED_PER_TURN):
                if not posted:
                    break
                callback, context = posted.popleft()
                self.call(callback, context, None)
        finally:
            if posted:
                # a timer, not call_soon: other events get their chance in between on every loop
                self.timer(0.0, self.run_posted)
            else:
                self.posted_scheduled = False

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the loop's thread; from any thread.

        Raises:
            TypeError: If *callback* cannot be called.
            RuntimeError: If the loop has ended.
        """
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        if self.closed:
            raise RuntimeError(f"the {self.backend.name} loop has ended")
        context = copy_context()
        remote = self.remote

        def run() -> None:
            remote.popleft()
            self.call(callback, context if context else None, None)

        remote.append(None)  # counts; appending and taking are atomic
        try:
            self.raw_threadsafe(run)
        except BaseException:
            remote.pop()
            raise

    # ------------------------------------------------------------------ the end

    def close(self, forked: bool = False) -> None:
        """End the binding: every watcher of this core is dead from now on."""
        if self.closed:
            return
        self.closed = True
        self.alone = False
        for side in (self.readers, self.writers):
            for first in side.values():
                for record in first.peers or (first,):
                    record.callback = None
            side.clear()
        self.clear()
        self.posted.clear()
        for other in list(self.others):
            other.cancel()
        for closer in self.closers if not forked else ():
            closer()
        self.closers.clear()
        self.rooms.clear()
        if forked:
            self.backend.after_fork()
        else:
            self.backend.close()


class _AlwaysReady:
    """Readiness for what a loop cannot wait for, a regular file: ready once a turn."""

    __slots__ = ("core", "fire", "stopped", "timer")

    def __init__(self, core: Core, fire: Callable[[], object]) -> None:
        self.core = core
        self.fire = fire
        self.stopped = False
        # a timer, not call_soon: other events get their chance in between on every loop
        self.timer = core.timer(0.0, self.turn)

    def turn(self) -> None:
        self.fire()
        if not self.stopped and not self.core.closed:
            self.timer = self.core.timer(0.0, self.turn)

    def stop(self) -> None:
        self.stopped = True
        self.core.cancel_timer(self.timer)
