"""The contract between the core and an event loop.

A backend only waits: for descriptors, for one deadline, for a call from another thread. All
meaning (several watchers on a descriptor, timers, order, exceptions, signals, children) is
built on it once, in the core. Nothing here imports a loop's library.
"""

from __future__ import annotations

__all__ = ("Backend", "Waitable")

import time
from abc import ABC, abstractmethod

from .._base.thread_identity import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, ClassVar, Protocol

    class Waitable(Protocol):
        """What may be waited for: a condition variable, as a backend sees it."""

        _state: int  # 0 while it is pending

        @property
        def ready(self) -> bool: ...
        def on_ready(self, callback: Callable[[Any], object]) -> object: ...
        def _add_waker(self, callback: Callable[[Any], object]) -> None: ...
        def _forget_wake(self, waiter: Callable[[Any], object]) -> None: ...
        def _enter(self) -> None: ...
        def _leave(self, cancelled: bool = True) -> None: ...

else:

    class Waitable: ...


class Backend(ABC):
    """An event loop as the core sees it. One instance serves one thread.

    Args:
        on_deadline: Called without arguments, in the loop, when the time given to :meth:`arm`
            has come. Calling it early is harmless, calling it never is a hang.

    Callbacks that the core hands over never raise, with two exceptions that a backend must let
    through: ``KeyboardInterrupt`` and ``SystemExit``, when the program rather than
    :meth:`run_until` runs the loop. All methods except :meth:`call_threadsafe` are called in
    the backend's own thread only.

    A callback may run the loop inside itself, by :meth:`poll` or, if the loop is not ours alone, in
    whatever ways the loop has. What a turn has not called yet when that happens, the inner
    turn calls: so a backend keeps it in an attribute, and takes out one at a time.
    """

    __slots__ = ("__dict__", "__weakref__", "on_deadline")

    name: ClassVar[str]
    #: True if :meth:`idle_start` really runs below I/O; False: the core emulates with timers.
    strict_idle: ClassVar[bool] = False
    #: True if only this package runs the loop, so that a wait without watchers can never end.
    owns_wait: ClassVar[bool] = False
    #: True if the loop, which the program runs too, ends by itself when it waits for nothing any
    #: more: what is not needed may not stay armed in it.
    ends_by_itself: ClassVar[bool] = False
    #: True if several :meth:`run_until` may be active in parallel, each on a stack of its own.
    many_waits: ClassVar[bool] = False
    #: True if :meth:`poll` may be called inside a callback, which then runs a loop in the loop.
    nests: ClassVar[bool] = False
    #: False if descriptors are watched by another thread: events may come some turns later.
    prompt_io: bool = True
    #: True if :meth:`run` is how a main coroutine has to be started on this loop.
    own_run: ClassVar[bool] = False
    #: Set by the core, for a backend that notices that it has nothing left to wait for: how many
    #: seconds to wait all the same before asking again (infinite: for a call from a thread), or
    #: None: :class:`Deadlock`.
    on_stuck: Callable[[], float | None] | None = None
    #: Set by the core. A backend that finds out after :meth:`io_start` that it cannot watch a
    #: descriptor calls it with the descriptor, the direction and the error, and forgets both.
    on_refused: Callable[[int, bool, OSError], None] | None = None
    #: Set by detection. A backend calls it, in its own thread, when its loop ends, or when
    #: that is announced (a window is closed, an application deleted): the next watcher detects
    #: again, and what is process-wide (signal handlers, the wake-up descriptor) is given back there
    #: and then. Called with True if none of our callbacks is on the stack. The backend may not be
    #: usable any more.
    on_ended: Callable[[bool], None] | None = None
    #: Set by detection. A backend calls it, in its own thread, when the program has told the loop
    #: to end although it may run again, as Qt's ``aboutToQuit`` does: what waits for the end of the
    #: loop is called there and then, and all watchers stay.
    on_quit: Callable[[], None] | None = None
    #: Set by the core. A backend whose loop may take the signal wake-up descriptor while
    #: :meth:`run_until` runs it calls this when the run has ended.
    on_run_ended: Callable[[], None] | None = None
    #: Set by the core. A backend whose loop swallows what callbacks raise, or reports it by
    #: itself, calls it with an exception that has escaped one of ours while :meth:`run_until`
    #: runs: a signal handler has raised it.
    on_escaped: Callable[[BaseException], None] | None = None
    #: Why this backend was chosen; set by detection.
    reason: str = ""
    #: Made by the core: weak references to what needs this loop although it may have no watcher,
    #: such as an idle connection. Code that adds one takes it out at its end. The built-in loop is
    #: not left for another one while there are any, and the error names them. The keys of a
    #: dictionary, because a set takes up to 105 bytes for each, and this 30 to 54.
    holders: dict[Callable[[], Any], None]
    #: Made by the core: the thread it serves; see :meth:`in_thread`.
    thread: int

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        self.on_deadline = on_deadline

    def escaped(self, error: BaseException) -> None:
        """Give *error* to ``on_escaped``."""
        if self.on_escaped is not None:
            self.on_escaped(error)

    @abstractmethod
    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> Any:
        """Call *callback* whenever *fd* is readable (writable), level triggered.

        At most one call per descriptor and direction is active at a time. Errors and hang-ups
        count as ready.

        Returns:
            A token for :meth:`io_stop`.

        Raises:
            PermissionError: If the loop cannot wait for this kind of file. The core then
                treats it as always ready.
            OSError: If it cannot wait for this descriptor: it is not open, the kernel refuses,
                or the number is too high (EMFILE). What it finds out later goes to
                ``on_refused``.
        """

    def on_ready(self, callbacks: list[Callable[[], None]]) -> None:
        """Call what :meth:`io_start` was given, in this order; replaced by the core.

        For a backend that learns of many at a time: the core's own way costs less than calling
        one by one, and passes over what was stopped meanwhile.
        """
        for callback in callbacks:
            callback()

    @abstractmethod
    def io_stop(self, token: Any) -> None:
        """End what :meth:`io_start` began. The descriptor may have been closed already."""

    def io_discount(self, token: Any) -> None:
        """Have what :meth:`io_start` began be no reason for the loop to go on.

        Only of interest where ``ends_by_itself``.
        """
        return None

    def hold(self, more: int) -> None:
        """Note that *more* (1 or -1) operations are in progress that other threads do.

        Only called where ``ends_by_itself``: while there are any, the loop goes on.
        """
        return None

    @abstractmethod
    def arm(self, at: float | None) -> None:
        """Call ``on_deadline`` at *at* on :meth:`clock`. Replaces the last time; None: never."""

    @abstractmethod
    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, in the next turn of the loop, not inside this call."""

    @abstractmethod
    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call *callback* once in the loop's thread. May be called from any thread."""

    def in_thread(self) -> bool:
        """Return whether this is the loop's thread. May be called from any thread.

        All greenlets of a thread are in it, however gevent has patched the program.
        """
        return self.thread == get_ident()

    @abstractmethod
    def run_until(self, done: Callable[[], bool]) -> None:
        """Run the loop until *done* returns true.

        *done* is cheap and has no side effects that matter; it has to be asked at the start and
        after each turn in which something was called, or at the latest after :meth:`wake`.

        Raises:
            BlockingNotAllowed: If other code runs the loop already.
        """

    @abstractmethod
    def wake(self) -> None:
        """Make a running :meth:`run_until` ask *done* again. From the loop's own thread."""

    def waker(self) -> Callable[[], None]:
        """Return what makes the :meth:`run_until` that the caller is about to begin ask again.

        Where there are ``many_waits`` :meth:`wake` would make all of them ask.
        """
        return self.wake

    @abstractmethod
    def poll(self, block: bool) -> None:
        """Run one turn of the loop, waiting for an event if *block* is true."""

    def idle_start(self, callback: Callable[[], None]) -> Any:
        """Call *callback* whenever a turn found nothing to do. Only if ``strict_idle``."""
        raise RuntimeError(f"{self.name} has no native idle callbacks")

    def idle_stop(self, token: Any) -> None:
        """End what :meth:`idle_start` began."""
        raise RuntimeError(f"{self.name} has no native idle callbacks")

    def child_start(self, pid: int, callback: Callable[[int, int], None]) -> Any:
        """Call *callback* with pid and raw wait status of a child, should the loop reap it.

        For a loop that may reap all children of the process. A *pid* of 0 means each of them. None:
        the loop does not do that.
        """
        return None

    def child_stop(self, token: Any) -> None:
        """End what :meth:`child_start` began, if it returned something."""
        return None

    def signal_start(self, number: int, callback: Callable[[], None]) -> Any:
        """Call *callback* when the loop gets a signal that it may handle by itself.

        None: it has no need of this one, and Python's handler is enough.
        """
        return None

    def signal_stop(self, token: Any) -> None:
        """End what :meth:`signal_start` began, after Python's handler was put back."""
        return None

    def has_signal(self, number: int) -> bool:
        """Return whether the loop handles a signal now, which Python's handler must leave to it."""
        return False

    def clock(self) -> float:
        """Return the monotonic time, in seconds, that :meth:`arm` counts by."""
        return time.monotonic()

    def now(self) -> float:
        """Return the wall-clock time in seconds, cached per turn if the loop does so."""
        return time.time()

    def now_update(self) -> None:
        """Refresh the time that :meth:`now` returns, if it is cached."""
        return None

    def time(self) -> float:
        """Return the wall-clock time in seconds, always fresh."""
        return time.time()

    def usable(self) -> bool:
        """Return whether a watcher may be made now in this thread.

        False if the loop has ended. Whether *another* loop runs in the thread is looked at by
        the core.
        """
        return True

    def ended(self) -> bool:
        """Return whether the loop will never run again; asked while it is not :meth:`usable`.

        False if another loop of its kind runs right now, and this one may run again.
        """
        return True

    def running(self) -> bool:
        """Return whether the loop runs right now other than by :meth:`run_until`."""
        return False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine as the loop's own main task. Only if ``own_run``."""
        raise RuntimeError(f"{self.name} has no main task of its own")

    def spawn(self, coroutine: Coroutine[Any, Any, Any], task: Any) -> bool:
        """Start a coroutine as a task of the loop itself that reports to *task*.

        Returns:
            False if the loop has no tasks: the core then drives the coroutine.
        """
        return False

    def statistics(self) -> dict[str, object]:
        """Return figures for debugging; keys are the backend's."""
        return {}

    def after_fork(self) -> None:
        """Drop, in a forked child, what must not be shared with the parent."""
        self.close()

    def close(self) -> None:
        """Release what the backend itself opened. Idempotent."""
        return None
