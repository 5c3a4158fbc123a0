"""A small pool of threads for calls that block and that no loop can wait for.

For ``ae_core`` itself: file calls in one pool, functions of the program in another. The threads
touch no loop: a result travels to the loop of the caller and becomes a ``CondVar`` there.
"""

from __future__ import annotations

__all__ = ("shutdown", "submit", "submit_function", "submit_ordered")

import atexit
import os
from _queue import Empty, SimpleQueue  # `queue` may have gevent's
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._base.thread_identity import ThreadLock, bystander, make_thread
from .._detection.current import current_loop
from .._loop.state import LoopState
from .._loop.watchers import name_of
from .._operations import pending
from .condvar import CondVar

if TYPE_CHECKING:
    from .._base.thread_identity import Thread

T = TypeVar("T")

# Theory of operation
# -------------------
# Threads are made when there is work and no idle thread, and end when they found none for a
# moment; a program that does no file operations has no threads. They are daemons, because a
# thread that waits for work must not keep the interpreter alive; an `atexit` hook takes care
# that what was started is finished all the same (IO-10).
#
# Two calls on the same descriptor, say write and then close, must not overtake each other: the
# close could win, and the write hit a file that was opened under the same number meanwhile. Such
# calls share a key, and at most one call of a key is in the queue or at work; the others wait
# in its lane.

#: Disks and kernels are faster with a few parallel requests, and a few may hang on a file server.
MOST_THREADS: Final = 16

#: For functions of the program's, which may block for any reason.
MOST_FUNCTIONS: Final = 40

#: How long an idle thread stays, in seconds: from one call of a sequence to the next.
IDLE: Final = 0.2


class _Job:
    """One call, from the loop into a thread and back."""

    __slots__ = (
        "args",
        "condvar",
        "core",
        "dropped",
        "error",
        "function",
        "key",
        "mark",
        "name",
        "result",
        "undo",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        key: object,
        undo: Callable[[Any], object] | None,
    ) -> None:
        self.function = function
        self.args = args
        self.key = key
        self.undo = undo
        self.core: LoopState = current_loop()
        self.condvar: CondVar[Any] | None = CondVar(
            cancel=self.over, untaken=self.take_back, describe=self.describe
        )
        self.mark = pending(self)
        self.name: str | None = None
        self.dropped = False
        self.result: Any = None
        self.error: BaseException | None = None

    def describe(self) -> str:
        """Return what the call is: its function and, until it is done, the file."""
        if self.name is not None:
            return self.name
        name = getattr(self.function, "__qualname__", "call").partition(".")[0].lstrip("_")
        return f"file call {name}({', '.join(map(repr, self.args[:1]))})"

    def over(self) -> None:
        """In the loop: there is a result, or it is not wanted any more."""
        self.condvar = None  # with what it holds, it must not hang on a traceback of ours
        self.dropped = True
        self.mark.cancel()

    def run(self) -> None:
        """In a thread: do the work, unless it was cancelled before it began."""
        if self.dropped:
            return
        try:
            self.result = self.function(*self.args)
        except BaseException as error:
            self.error = error
        self.args = ()
        try:
            self.core.call_threadsafe(self.deliver)
        except RuntimeError:
            self.discard()  # the loop has ended

    def deliver(self) -> None:
        """In the loop: hand the result over."""
        condvar = self.condvar
        if condvar is None:
            self.discard()
            return
        self.over()
        if self.error is None:
            result, self.result = self.result, None
            condvar.send(result)
        else:
            error, self.error = self.error, None  # its traceback refers to us
            condvar.throw(error)

    def take_back(self, result: Any) -> None:
        """In the loop: the result was delivered, and its awaiter cancelled before it took it."""
        self.result = result
        self.discard()

    def discard(self) -> None:
        if self.error is not None:
            self.error = None
        elif self.undo is not None:
            try:
                self.undo(self.result)
            except Exception as error:  # there is no awaiter for it, and the thread goes on
                from .._base.log import log

                log("warn", "a result that is not taken", context="ae_core", error=error)


class _Pool:
    def __init__(self, most_threads: int) -> None:
        self.most_threads = most_threads
        self.lock = ThreadLock()
        self.queue: SimpleQueue[_Job | None] = SimpleQueue()  # None: look again
        self.lanes: dict[object, deque[_Job]] = {}
        self.threads: set[Thread] = set()
        self.made = 0
        self.free = 0  # threads that have come for a job, minus the jobs that were queued
        self.stopping = False

    def add(self, job: _Job) -> None:
        with self.lock:
            if job.key is not None:
                lane = self.lanes.get(job.key)
                if lane is not None:
                    lane.append(job)
                    return
                self.lanes[job.key] = deque()
            try:
                self.enqueue(job)
            except BaseException:
                self.lanes.pop(job.key, None)
                raise

    def enqueue(self, job: _Job) -> None:
        if self.free <= 0 and len(self.threads) < self.most_threads and not self.stopping:
            self.start_thread()
        self.free -= 1
        self.queue.put(job)

    def start_thread(self) -> None:
        self.made += 1
        me: list[Thread] = []
        thread = make_thread(self.work, me, name=f"ae-core-{self.made}")
        me.append(thread)
        self.threads.add(thread)
        try:
            thread.start()
        except BaseException:  # no more threads: the others do it, or finish() does
            self.threads.discard(thread)
            if not self.threads:
                raise

    def work(self, me: list[Thread]) -> None:
        while True:
            job = self.take(me)
            if job is None:
                return
            job.run()
            self.done(job)
            del job  # not for as long as this thread waits for the next one

    def take(self, me: list[Thread]) -> _Job | None:
        """Wait for a job; None tells the thread to go."""
        with self.lock:
            self.free += 1
        while True:
            try:
                with bystander():
                    job = self.queue.get(timeout=0 if self.stopping else IDLE)
            except Empty:
                with self.lock:
                    if self.queue.empty():  # else one has come that counts on us
                        self.free -= 1
                        self.threads.difference_update(me)
                        if self.stopping and self.threads:
                            self.queue.put(None)  # one of us may have taken that of another
                        return None
            else:
                if job is not None:
                    return job

    def done(self, job: _Job) -> None:
        if job.key is None:
            return
        with self.lock:
            lane = self.lanes[job.key]
            if lane:
                self.enqueue(lane.popleft())
            else:
                del self.lanes[job.key]

    def finish(self) -> None:
        """Do everything that was started, then end all threads."""
        with self.lock:
            self.stopping = True
            threads = list(self.threads)
            for _ in threads:
                self.queue.put(None)
        try:
            for thread in threads:
                thread.join()
            while not self.queue.empty():  # an interpreter that ends gives no new threads
                job = self.queue.get_nowait()
                if job is not None:
                    self.free += 1
                    job.run()
                    self.done(job)
        finally:
            self.stopping = False


_pool = _Pool(MOST_THREADS)
_functions = _Pool(MOST_FUNCTIONS)


def submit(function: Callable[..., T], *args: Any) -> CondVar[T]:
    """Call *function* in a thread of the pool.

    Returns:
        A condition variable of the calling thread's loop, with the result or the exception.
        Cancelling it drops the call if it has not begun, and its result if it has. Until then
        it counts as a pending operation; dropping it changes nothing.
    """
    return submit_ordered(None, function, *args)


def submit_ordered(
    key: object,
    function: Callable[..., T],
    *args: Any,
    undo: Callable[[T], object] | None = None,
) -> CondVar[T]:
    """Do :func:`submit`, but not before the earlier calls with the same *key* have ended.

    Args:
        key: Anything hashable; None for no order.
        undo: Called with a result that is not taken, in whatever thread finds that out.
    """
    return _add(_pool, _Job(function, args, key, undo))


def _add(pool: _Pool, job: _Job) -> CondVar[Any]:
    condvar = job.condvar
    assert condvar is not None
    try:
        pool.add(job)
    except BaseException:
        condvar.cancel()
        raise
    return condvar


def submit_function(run: Callable[..., T], function: Callable[..., T], *args: Any) -> CondVar[T]:
    """Do ``run(function, *args)`` in a thread of the pool for functions of the program."""
    job = _Job(run, (function, *args), None, None)
    job.name = f"to_thread of {name_of(function)}"
    return _add(_functions, job)


def shutdown() -> None:
    """Finish what was started and end the threads. The next call starts them again."""
    _functions.finish()
    _pool.finish()


def _after_fork_in_child() -> None:
    global _functions, _pool
    _pool = _Pool(MOST_THREADS)  # its threads stayed with the parent
    _functions = _Pool(MOST_FUNCTIONS)


atexit.register(shutdown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
