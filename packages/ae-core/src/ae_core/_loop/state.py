"""One thread's loop state: what every watcher of the thread is registered with.

All semantics that do not depend on the loop live here, once: running a callback in its context
and catching what it raises, several watchers per descriptor and direction, the timer queue and
its single native deadline, the postponed queue. The backend below only waits.

Long because how a nested turn, an interrupt and a refusal go on is told by all its queues together.
"""

from __future__ import annotations

__all__ = ("Core",)

import time
from math import inf

from .._base.thread_identity import get_ident
from .backend import Backend
from .blocking import stuck_for
from .interrupts import repeatable
from .io_table import AlwaysReady, IoRecord
from .timers import TimerEntry, TimerQueue

TYPE_CHECKING = False  # typing itself costs more to import than all of ae_core
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context, copy_context
    from functools import partial
    from typing import Any, Final
else:  # the C modules themselves: their wrappers cost 2 ms
    from _collections import deque
    from _contextvars import Context, copy_context
    from _functools import partial

# Theory of operation
# -------------------
# A watcher is two objects. The *record* (an IoRecord, say, or a number for a timer) is owned by
# the core for as long as the interest lasts. The *guard* (`_watcher.Watcher`) is owned by the user,
# refers to the record and cancels it when it is dropped. Nothing in the core refers to a guard.
#
# Every callback runs in the context variables of the place that registered it. Nearly always
# these are empty, and then the callback runs in `blank`, an empty Context that is used again as
# long as it stays empty (38 ns, against 28 for a copy plus its memory). A Context cannot be
# entered twice, and a callback may run a loop, so `blank` is taken out while it is in use.
#
# One event of the loop may owe many calls: due timers, postponed calls, several watchers of a
# descriptor. A callback may run a loop inside itself (a modal dialog, nest_asyncio), and a signal
# handler may raise between any two calls of ours. So what is owed is never in a local variable: it
# is in `due`, `owed`, `remote` and `posted`, each is taken out just before it is called, and
# whoever comes next goes on. Whether anybody comes is the other half:
#
# * Where others may run the loop inside a callback (`eager`), the loop is told of what is still
#   owed before each call: `rearm` for timers, `expect` for the rest. It then finds nothing left
#   to do in the common case; "nothing twice" follows from the queues, not from who is told.
# * Everything else begins in `resume`, which tells the loop of all that there is: each wait, and
#   each `poll`, which is how a loop of our own is run inside a callback.
#
# KeyboardInterrupt and SystemExit leave recv() exactly once: if they come out of a callback while
# recv() blocks, they are kept in `interrupt`, the others are called, and recv() raises them. If
# nobody blocks, they leave through whoever runs the loop, and the others come in a later turn; or
# before, if one event owes them, of which nobody might hear again.

# Waiting longer than this at once buys nothing, and some loops refuse it.
LONGEST_WAIT: Final = 86_400.0

# How many postponed callbacks one turn runs. Callbacks that are postponed meanwhile belong to
# the same turn (upstream's rule), but an endless chain of them must not starve I/O.
POSTPONED_PER_TURN: Final = 10_000


class Core(TimerQueue):
    """The loop state of one thread. ``_detection.current`` makes it and finds it."""

    __slots__ = (
        "__weakref__",
        "alone",
        "armed",
        "backend",
        "blank",
        "blocked",
        "clock",
        "closed",
        "closers",
        "eager",
        "ends",
        "expected",
        "interrupt",
        "others",
        "owed",
        "own",
        "posted",
        "raw_poll",
        "raw_threadsafe",
        "readers",
        "remote",
        "rest",
        "rooms",
        "task",
        "thread",
        "writers",
    )

    backend: Backend
    clock: Callable[[], float]
    raw_poll: Callable[[bool], None]
    raw_threadsafe: Callable[[Callable[[], None]], None]

    def __init__(self) -> None:
        super().__init__()
        self.armed = inf  # the time the backend is armed for; -inf: it need not be
        self.eager = True  # others may run the loop inside a callback
        self.readers: dict[int, IoRecord] = {}  # the first record of each descriptor
        self.writers: dict[int, IoRecord] = {}
        self.own: dict[int, IoRecord] = {}  # descriptors of the core's own
        self.others: set[Any] = set()  # live signal, child, idle records; pending operations
        self.ends: list[Any] = []  # those of others that wait for the end of the loop
        self.closers: list[Callable[[], object]] = []  # called by close()
        self.rooms: dict[str, Any] = {}  # what other files keep per loop, by their own key
        self.owed: deque[Callable[[], object]] = deque()  # the rest of an event's calls
        self.posted: deque[tuple[Callable[[], object], Context | None]] = deque()
        self.remote: deque[tuple[Callable[[], object], Context | None]] = deque()  # from threads
        self.expected = False  # the loop was asked to call run_posted()
        self.rest = 0  # the timer that does what was too much for one turn
        self.blank: Context | None = Context()
        self.blocked: set[object] = set()  # the recv() of this thread that wait
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
        self.eager = not backend.owns_wait
        backend.on_ready = self.io_ready  # type: ignore[method-assign]
        backend.on_refused = self.io_refused
        backend.on_stuck = lambda: stuck_for(self)
        backend.on_escaped = self.escaped
        # Users reach it as detect().call_threadsafe: what they hand over may raise, and backends
        # are not asked to cope with that.
        self.raw_threadsafe = backend.call_threadsafe
        backend.call_threadsafe = self.call_threadsafe  # type: ignore[method-assign]
        self.raw_poll = backend.poll
        backend.poll = self.poll  # type: ignore[method-assign]

    # ------------------------------------------------------------------ going on

    def resume(self) -> None:
        """Have the loop call us for all that is still to be done, whatever it knows of it."""
        if self.owed or self.posted or self.remote:
            self.backend.call_soon(self.run_posted)
            self.expected = True
        self.resume_timers()

    def resume_timers(self) -> None:
        """Have the backend armed for the earliest timer, whatever it is armed for."""
        at = -inf if self.has_due() else self.next_at()
        # without a timer it may be armed all the same, to look whether anybody can answer
        if at is not None and not self.clock() < self.armed <= at:
            self.rearm(at if at > -inf else self.clock())

    def poll(self, block: bool) -> None:
        """Run one turn of the loop, also inside a callback."""
        self.resume()
        self.raw_poll(block)

    def expect(self) -> None:
        """Have the loop call :meth:`run_posted` once."""
        if not self.expected:
            self.backend.call_soon(self.run_posted)
            self.expected = True

    def owe(self, call: Callable[[], object]) -> None:
        """Have *call* made by whoever comes next: a loop inside a callback, or the next turn."""
        self.owed.append(call)
        if self.eager:
            self.expect()

    def owe_no_more(self, call: Callable[[], object]) -> None:
        """Take :meth:`owe` back, if it was not made."""
        if call in self.owed:
            self.owed.remove(call)

    def serve(self) -> None:
        """Make the calls that are owed, also those of an outer turn.

        An interrupt out of one leaves when the others have been made.
        """
        owed = self.owed
        interrupt: BaseException | None = None
        try:
            while owed:
                if self.eager and len(owed) > 1:
                    self.expect()  # a loop inside the call goes on with the others
                fire = owed[0]
                del owed[0]
                try:
                    fire()
                except (KeyboardInterrupt, SystemExit) as error:
                    interrupt = interrupt or error
        finally:
            if owed:
                self.expect()
        if interrupt is not None:
            raise interrupt

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
            self.failed(error, (record, callback))

    def failed(self, error: BaseException, source: tuple[Any, Any] | None) -> None:
        """Deal with what a callback raised: the hook, or out of ``recv()``.

        *source* is the record, a timer's number, with the callback; None if there is none.
        """
        if source is not None:
            if getattr(source[1], "repeatable", False):
                self.posted.append((source[1], None))
                self.escaped(error)
                return
            if source[0] is None:
                source = None
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            from .exception_hook import report

            try:
                report(error, self, source)
                return
            except (KeyboardInterrupt, SystemExit) as leaves:
                error = leaves  # it came out of the hook
        if not self.blocked:
            raise error
        if self.interrupt is None:
            self.interrupt = error
        self.backend.wake()

    def escaped(self, error: BaseException) -> None:
        """Deal with what left a function of ours that the loop called; go on with the rest.

        A signal handler has raised it there, or it is an interrupt that leaves by the loop.
        """
        if self.closed:
            raise error
        self.resume()
        if self.blocked:
            if self.interrupt is None:
                self.interrupt = error
            self.backend.wake()
        else:
            self.failed(error, None)

    # ------------------------------------------------------------------ descriptors

    def io_start(
        self,
        fd: int,
        write: bool,
        callback: Callable[[], object],
        context: Context | None,
        refused: Callable[[OSError], object] | None = None,
    ) -> IoRecord:
        """Register an interest and return its record.

        What the loop, or the kernel, refuses to watch is told to *refused*, in a later turn.

        Raises:
            OSError: It was found out at once, and there is no *refused*.
        """
        record = IoRecord()
        record.core = self
        record.callback = callback
        record.context = context
        record.peers = None
        record.refused = refused
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
            except OSError as error:
                record.token = self._io_refused_at_once(record, error)
            side[fd] = record
        else:
            first = side[fd]
            if first.peers is None:
                first.peers = [first]
            first.peers.append(record)
            # The number may be that of another file by now: who connects again closes the old
            # socket and watches the new one, with the same number, before the old watcher goes.
            # The loop goes by the file it knew, for both directions.
            other = (self.readers if write else self.writers).get(fd)
            self.io_forget(first.token)
            if other is not None:
                self.io_forget(other.token)
                self._io_again(other)
            self._io_again(first)
        return record

    def _io_refused_at_once(self, record: IoRecord, error: OSError) -> Any:
        """Return what stands for the backend's token after an error of its ``io_start``."""
        write = record.fd < 0
        fd = ~record.fd if write else record.fd
        other = (self.readers if write else self.writers).get(fd)
        if other is not None and not isinstance(error, PermissionError):
            # watched for the other direction, closed since, and opened again? The loop goes by
            # the file it knew.
            self.io_forget(other.token)
            try:
                return self.backend.io_start(fd, write, record)
            except OSError as second:
                error = second
            finally:
                self._io_again(other)
        if isinstance(error, PermissionError):
            return AlwaysReady(self, record)
        if record.refused is None:
            raise error
        return AlwaysReady(self, partial(self.io_refused, fd, write, error))

    def _io_again(self, first: IoRecord) -> None:
        """Have the backend begin anew with a descriptor that it has stopped to watch."""
        write = first.fd < 0
        fd = ~first.fd if write else first.fd
        try:
            first.token = self.backend.io_start(fd, write, first)
        except PermissionError:
            first.token = AlwaysReady(self, first)
        except OSError as error:
            first.token = AlwaysReady(self, partial(self.io_refused, fd, write, error))

    def io_forget(self, token: Any) -> None:
        """End what the token of a record stands for."""
        if token.__class__ is AlwaysReady:
            token.stop()
        else:
            self.backend.io_stop(token)

    def io_own(
        self,
        fd: int,
        callback: Callable[[], object],
        refused: Callable[[OSError], object],
        *,
        counts: bool = True,
    ) -> IoRecord:
        """Have *callback* called when *fd* is readable, for the core itself.

        No watcher stands for it, nothing that looks for watchers sees it, and only one may be on
        a descriptor. End it with :meth:`io_own_end`. If it cannot be watched, *refused* is called
        in a later turn. If it does not count, a loop that ends when it has nothing to wait for
        does not wait for this.
        """
        record = IoRecord()
        record.core = self
        record.callback = callback
        record.context = None
        record.peers = None
        record.refused = refused
        record.fd = fd
        try:
            record.token = self.backend.io_start(fd, False, record)
            if not counts:
                self.backend.io_discount(record.token)
        except OSError as error:
            record.token = self._io_refused_at_once(record, error)
        self.own[fd] = record
        return record

    def io_own_end(self, record: IoRecord) -> None:
        """End what :meth:`io_own` began, if it was not refused."""
        if record.callback is not None:
            record.callback = record.refused = None
            if not self.closed:
                del self.own[record.fd]
                self.io_forget(record.token)
                record.token = None  # the number may be another's by now

    def io_own_close(self, record: IoRecord) -> None:
        """Do so while the core is being closed."""
        if record.callback is not None:
            record.callback = record.refused = None
            self.io_forget(record.token)

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
                record.release()  # cancelled by a callback before it
                continue
            try:
                callback()
            except BaseException as error:
                self.failed(error, (record, callback))
            if blank:
                return False
        return True

    def io_refused(self, fd: int, write: bool, error: OSError) -> None:
        """The backend found out late that it cannot watch *fd*: end all its watchers.

        A PermissionError means, as with ``io_start``, that it is always ready.
        """
        side = self.writers if write else self.readers
        first = side.pop(fd, None) or (None if write else self.own.pop(fd, None))
        if first is None:
            return
        if first.token.__class__ is AlwaysReady:
            first.token.stop()
        elif isinstance(error, PermissionError):
            first.token = AlwaysReady(self, first)
            side[fd] = first
            return
        ended = []
        for record in first.peers or (first,):
            if record.callback is not None:
                ended.append((record, record.callback, record.refused))
                record.callback = record.refused = None
        for record, callback, refused in ended:
            if refused is None:
                self.failed(error, (record, callback))
            else:
                self.call(partial(refused, error), record.context, record)

    # ------------------------------------------------------------------ timers

    def rearm(self, at: float) -> None:
        """Have the backend call :meth:`on_deadline` at *at*, the new earliest time."""
        # until it is done: what is said to be armed always is, wherever an exception strikes
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
        live = self.live
        at, number = inf, 0
        self.armed = inf  # the backend has called, so it is armed no more
        try:
            now = self.clock()
            count = self.take_due(now)
            alone = count == 1
            if not alone:
                # no arming for timers that are made meanwhile: it happens below
                if not self.eager:
                    self.armed = -inf
                elif count:
                    self.rearm(now)
            batch: Any = self.batch
            for at, number in batch:
                entry = live.get(number)
                if entry is None:
                    alone = False
                    continue  # cancelled by a callback before it
                context = None
                callback: Any = entry
                repeats = False
                if isinstance(entry, TimerEntry):
                    callback = entry.callback
                    context = entry.context
                    if entry.interval:
                        if entry.at != at:
                            alone = False
                            continue  # met for the second time
                        repeats = True
                        # planned before the call, from the planned time, at most one behind
                        again = at + entry.interval
                        if again < now:
                            again = now
                        self.again(again, number)
                        entry.at = again
                if alone and self.eager:
                    # before the call: a loop inside it has its timers, too
                    self.arm_next()
                if not repeats:
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
        except BaseException as error:
            # it is put back, unless it was called: then it is not alive, or due at another time
            self.due.append((at, number))
            if self.batch is not None:
                self.due.extend(self.batch)
            self.escaped(error)
            return
        if self._has_closed():
            return
        self.batch = None
        if self.due:
            self.resume_timers()  # a turn inside this one was broken off
        elif not alone:
            self.arm_next()
        elif not self.eager:
            # those that were made in the call are armed for
            next_at = self.next_in_heap()
            if next_at is not None and next_at < self.armed:
                self.rearm(next_at)

    def arm_next(self) -> None:
        """Have the backend armed for the next timer that is not due."""
        at = self.next_at()
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
        if not self.expected:  # expect(), written out
            self.backend.call_soon(self.run_posted)
            self.expected = True

    @repeatable
    def run_posted(self) -> None:
        """Called by the backend: make the calls that are owed, and those that were postponed."""
        eager = self.eager
        if eager:
            self.expected = False  # so that the loop is asked again
        posted = self.posted
        item: Any = None
        try:
            if self.owed:
                self.serve()
            if self.remote:
                self.run_remote()
            for _ in range(POSTPONED_PER_TURN):
                if not posted:
                    break
                if eager and len(posted) > 1:
                    self.expect()  # a loop inside the call goes on with the others
                item = posted[0]
                posted.popleft()
                self.call(item[0], item[1], None)
                item = None
        except BaseException as error:
            self._put_back(posted, item, error)
            self.escaped(error)
        finally:
            if not eager:
                self.expected = False
            # for what came from a thread the loop calls anyway
            if (posted or self.owed) and not self.expected:
                # a timer, not call_soon: other events get their chance in between on every loop
                if self.rest not in self.live:
                    self.rest = self.timer(0.0, self.run_posted)
                self.expected = True
            elif self.rest in self.live and not posted and not self.owed:
                self.cancel_timer(self.rest)

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
        item = (callback, context if context else None)
        self.remote.append(item)
        try:
            self.raw_threadsafe(self.run_remote)
        except BaseException:
            if item in self.remote:
                self.remote.remove(item)
            raise

    def run_remote(self) -> None:
        """Called by the backend: make the calls that came from threads so far."""
        remote = self.remote
        item: Any = None
        try:
            for _ in range(len(remote)):
                if not remote:
                    break  # a loop inside a call has made the others
                if self.eager and len(remote) > 1:
                    self.expect()
                item = remote[0]
                remote.popleft()
                self.call(item[0], item[1], None)
                item = None
        except BaseException as error:
            self._put_back(remote, item, error)
            self.escaped(error)

    def _put_back(self, queue: deque[Any], item: Any, error: BaseException) -> None:
        """Put *item* back if *error* came before :meth:`call` had called it."""
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code is Core.failed.__code__:
                return
            traceback = traceback.tb_next
        if item is not None and (not queue or queue[0] is not item):
            queue.appendleft(item)

    # ------------------------------------------------------------------ the end

    def leave_to_parent(self) -> list[Any]:
        """End the binding in a forked child, where nothing of the parent's may happen.

        No callback, no clean-up and nothing that touches what both processes have: not even an
        object may go, because that could run its finalizer.

        Returns:
            What has to be kept for ever.
        """
        kept: list[Any] = [self, self.live.copy(), self.posted.copy(), self.owed.copy()]
        kept += [self.remote.copy(), self.others.copy()]
        self.closed = True
        self.alone = False
        for side in (self.readers, self.writers):
            for first in side.values():
                for record in first.peers or (first,):
                    kept += [record, record.callback, record.refused]
                    record.callback = record.refused = None
        for other in self.others:
            if hasattr(other, "active"):
                other.active = False
        kept.append(self.ends.copy())
        self.ends.clear()
        self.clear()
        for queue in (self.posted, self.owed, self.remote):
            queue.clear()
        self.backend.after_fork()
        return kept

    def call_ends(self) -> None:
        """Make the calls that wait for the end of the loop, the youngest first.

        An interrupt out of one leaves when the others have been made.
        """
        interrupt: BaseException | None = None
        while self.ends and self.thread == get_ident():
            try:
                self.ends[-1].fire()
            except (KeyboardInterrupt, SystemExit) as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _has_closed(self) -> bool:
        """Return whether a callback has closed it, which a type checker does not expect."""
        return self.closed

    def close(self) -> None:
        """End the binding: every watcher of this core is dead from now on."""
        if self.closed:
            return
        interrupt: BaseException | None = None
        try:
            self.call_ends()
        except (KeyboardInterrupt, SystemExit) as error:
            interrupt = error
        if self._has_closed():
            return
        self.closed = True
        self.alone = False
        for side in (self.readers, self.writers):
            for first in side.values():
                for record in first.peers or (first,):
                    record.callback = record.refused = None
            side.clear()
        self.own.clear()
        self.clear()
        self.posted.clear()
        for other in list(self.others):
            try:
                other.cancel()
            except (KeyboardInterrupt, SystemExit) as error:
                interrupt = error  # of a callback of a task: the rest ends all the same
        for closer in self.closers:
            closer()
        self.closers.clear()
        self.rooms.clear()
        self.backend.close()
        if interrupt is not None:
            raise interrupt
