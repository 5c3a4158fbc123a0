"""The watcher functions: what a program calls.

Each checks its arguments, takes this thread's core, makes the record and returns the guard. No
callback ever runs inside one of these calls.
"""

from __future__ import annotations

__all__ = (
    "child",
    "idle",
    "io",
    "now",
    "now_update",
    "postpone",
    "signal",
    "time",
    "timer",
)

import sys
import time as _time

from . import _layers
from ._base.seconds import check_seconds, inf
from ._detection.current import current_loop, existing_loop, thread_state
from ._loop.timers import TimerEntry
from ._loop.watchers import IoWatcher, RecordWatcher, TimerWatcher, Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _stdlib_signal
    from collections.abc import Callable
    from contextvars import copy_context
    from typing import Any, Final, Literal, Protocol

    from ._loop.state import LoopState

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

else:
    from _contextvars import copy_context


# a C int, as everywhere; on Windows, where it is a handle, the system knows which there are
HIGHEST_FD: Final = 0x7FFFFFFF if sys.platform != "win32" else inf

_modules = sys.modules
_MINUS_INF = -inf


def timer(after: float, callback: Callable[[], object], *, interval: float = 0.0) -> Watcher:
    """Call *callback* after *after* seconds.

    Args:
        after: Seconds from the moment of this call; below zero counts as zero.
        callback: Called without arguments; its return value is ignored.
        interval: If above zero, call it again every so many seconds. The next time is planned
            before the callback runs, from the planned time, not from the actual one; what was
            missed while the loop was busy is made up for by one call at most.

    Returns:
        The watcher.

    **When**: never before it is due by the monotonic clock, never inside this call. Timers due
    at the same instant run in the order they were made (on the built-in loop).

    **Lifetime**: dropping the watcher cancels it.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a time is infinite, not a number, or *interval* is below zero.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->timer``, ``AE::timer``
    """
    if _layers.active is not None:
        return _layered_timer(after, callback, interval)
    try:
        core = thread_state.core
        if core.known != len(_modules):
            core = current_loop()  # another loop may run here
    except AttributeError:
        core = current_loop()
    try:
        clock = core.clock  # read first: a call of an attribute looks for a method, 20 ns
        at = clock() + after
        if not _MINUS_INF < at < inf:
            raise ValueError(f"expected a finite number of seconds, got {after!r}")
    except (TypeError, OverflowError):
        at = core.clock() + check_seconds(after)
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    # fast path: TimerQueue.add(), written out; its figures stand there
    context = copy_context()
    timers = core.timers
    if interval == 0.0 and not context:
        timers.last = number = timers.last + 1
        timers.incoming[number] = at
        timers.live[number] = callback
    else:
        interval = _check_interval(interval)
        entry = TimerEntry(callback, context if context else None, interval, at)
        number = timers.add(at, entry)
    if at < core.armed:
        try:
            core.rearm(at)
        except BaseException:
            core.refuse_timer(number)
            raise
    if number >= timers.tidy_at:
        timers.tidy()
    watcher = TimerWatcher()
    watcher._number = number
    watcher._core = core
    return watcher


# A function of its own, like the next: variables of `timer` that a lambda there refers to would
# cost every timer a tenth more.
def _layered_timer(after: float, callback: Callable[[], object], interval: float) -> Watcher:
    made: Watcher = _layers.through(
        "timer",
        {"after": after, "interval": interval},
        callback,
        lambda callback: _layers.without(timer, after, callback, interval=interval),
    )
    return made


def io(
    fd: int | HasFileno,
    direction: Literal["r", "w"],
    callback: Callable[[], object],
    *,
    on_refused: Callable[[OSError], object] | None = None,
) -> Watcher:
    """Call *callback* whenever *fd* is ready.

    Args:
        fd: A descriptor, or an object with ``fileno()``: a socket, pipe, FIFO or terminal. A
            regular file is always ready. It must stay open as long as the watcher is active.
        direction: ``"r"``: readable, at its end, or broken. ``"w"``: writable, or broken.
        callback: Called without arguments; its return value is ignored.
        on_refused: Called with the error, once, in a later turn, if the descriptor cannot be
            watched: the kernel or the loop refuses it, or it is not open. The watcher has ended
            then. For libraries, whose operation shall end with that error on every loop alike.

    Returns:
        The watcher. Any number may watch the same descriptor and direction; all are called.

    **When**: level triggered, again and again as long as the condition holds; never inside this
    call. Loops may report readiness falsely: use the descriptor in non-blocking mode.

    **Lifetime**: dropping the watcher cancels it.

    Raises:
        TypeError, ValueError: If an argument is of the wrong kind, *fd* is a closed object, or no
            descriptor has such a number.
        OSError: Without *on_refused*, if the loop finds out immediately that it cannot watch *fd*:
            EBADF, it is not open; ENOSPC or ENOMEM, the kernel's tables are full; EMFILE, the
            number is too high for this loop. If it finds out only later, it ends the watcher and
            gives this error to ``exception_hook``.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->io``, ``AE::io``
    """
    if _layers.active is not None:
        return _layered_io(fd, direction, callback, on_refused)
    try:
        core = thread_state.core
        if core.known != len(_modules):
            core = current_loop()  # another loop may run here
    except AttributeError:
        core = current_loop()
    number: int = fd if fd.__class__ is int else _fileno(fd)  # pyright: ignore[reportAssignmentType]
    if not 0 <= number <= HIGHEST_FD:
        raise ValueError(f"expected an open descriptor, got {fd!r}")
    if direction != "r" and direction != "w":
        raise ValueError(f'expected "r" or "w", got {direction!r}')
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    if on_refused is not None and not callable(on_refused):
        raise TypeError(f"on_refused: expected a callable or None, got {on_refused!r}")
    context = copy_context()
    watcher = IoWatcher()
    watcher._record = core.io.start(
        number, direction == "w", callback, context if context else None, on_refused
    )
    return watcher


def _layered_io(
    fd: int | HasFileno,
    direction: Literal["r", "w"],
    callback: Callable[[], object],
    on_refused: Callable[[OSError], object] | None,
) -> Watcher:
    made: Watcher = _layers.through(
        "io",
        {"fd": fd, "direction": direction},
        callback,
        lambda callback: _layers.without(io, fd, direction, callback, on_refused=on_refused),
    )
    return made


def signal(number: str | int | _stdlib_signal.Signals, callback: Callable[[], object]) -> Watcher:
    """Call *callback* after the process has received a signal.

    Args:
        number: The signal: its name without SIG (``"TERM"``), its number or enum member.
        callback: Called without arguments; its return value is ignored.

    Returns:
        The watcher. Any number may watch the same signal; all are called.

    **When**: from the loop, never inside a signal handler or this call. Several arrivals may be
    merged into one call. While a signal is watched, its handler is ours; the previous one is
    put back when the last watcher has gone.

    **Lifetime**: dropping the watcher cancels it.

    Raises:
        TypeError, ValueError: If there is no such signal.
        OSError: If it cannot be caught.
        RuntimeError: Off the main thread.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->signal``, ``AE::signal``
    """
    if _layers.active is not None:
        args = {"number": number}
        made: Watcher = _layers.through(
            "signal", args, callback, lambda callback: _signal(number, callback)
        )
        return made
    return _signal(number, callback)


def _signal(number: Any, callback: Callable[[], object]) -> Watcher:
    from ._sources.signals import SignalRecord, signal_number

    number = signal_number(number)
    return _watch(lambda core, context: SignalRecord(core, number, callback, context), callback)


def child(pid: int, callback: Callable[[int, int], object]) -> Watcher:
    """Call ``callback(pid, status)`` when a child process has ended.

    Args:
        pid: The process. 0 means every child, one call each: it also takes the status of
            children that belong to others (``subprocess``), so it is only for programs that
            know all their children.
        callback: Called once, with the process id and the raw wait status; see
            ``os.waitstatus_to_exitcode``.

    Returns:
        The watcher. Any number may watch the same process; all are called.

    **When**: from the loop, also if the child ended before this call; never inside it. If
    other code waited for the child first, its status is lost: a warning is logged and the
    callback gets status 255 * 256.

    **Lifetime**: dropping the watcher cancels it; the child then becomes a zombie when it ends.

    Windows has no owners of processes and no signals that end them: there any process that this
    one may open will do, 0 is refused, and the status is the exit code times 256.

    Raises:
        TypeError, ValueError: If *pid* is no process id.
        ChildProcessError: If it is no child of ours, or was waited for already.
        RuntimeError: For pid 0, off the main thread, and where the system cannot tell.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->child``, ``AE::child``
    """
    if _layers.active is not None:
        args = {"pid": pid}
        made: Watcher = _layers.through(
            "child", args, callback, lambda callback: _child(pid, callback)
        )
        return made
    return _child(pid, callback)


def _child(pid: int, callback: Callable[[int, int], object]) -> Watcher:
    from ._sources.children import watch_child

    if isinstance(pid, bool) or not isinstance(pid, int):
        raise TypeError(f"expected a process id, got {pid!r}")
    if not 0 <= pid < 1 << 31:
        raise ValueError(f"expected a process id, or 0 for any child, got {pid!r}")
    return _watch(lambda core, context: watch_child(core, pid, callback, context), callback)


def idle(callback: Callable[[], object]) -> Watcher:
    """Call *callback* again and again while the loop has nothing else to do.

    Returns:
        The watcher.

    **When**: after a turn of the loop in which no event, timer or call was found; never inside
    this call. Loops without idle callbacks emulate them by timers that use at most half of the
    time. An active idle watcher keeps the processor busy.

    **Lifetime**: dropping the watcher cancels it.

    Raises:
        TypeError: If *callback* cannot be called.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->idle``, ``AE::idle``
    """
    if _layers.active is not None:
        made: Watcher = _layers.through("idle", {}, callback, _idle)
        return made
    return _idle(callback)


def _idle(callback: Callable[[], object]) -> Watcher:
    from ._sources.idle import IdleRecord

    return _watch(lambda core, context: IdleRecord(core, callback, context), callback)


def _watch(make: Callable[[LoopState, Any], Any], callback: object) -> Watcher:
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    context = copy_context()
    return RecordWatcher(make(current_loop(), context if context else None))


def postpone(callback: Callable[[], object]) -> None:
    """Call *callback* once, soon, but not inside this call.

    **When**: in the next turn of the loop, first-in first-out. What is postponed meanwhile runs
    in the same turn, up to ten thousand calls. It cannot be taken back. For a turn that begins
    after the loop has done whatever else it has to do, take ``timer(0, callback)``: other events
    come in between on every loop, and what Tk or GTK do when nothing is due, as drawing.

    Raises:
        TypeError: If *callback* cannot be called.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent::postpone``
    """
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    current_loop().calls.postpone(callback)


def now() -> float:
    """Return the wall-clock time of the loop, in seconds since the epoch.

    The built-in loop reads the clock once per turn; others read it at each call.

    Perl: ``AnyEvent->now``, ``AE::now``
    """
    return current_loop().backend.now()


def now_update() -> None:
    """Read the clock that :func:`now` returns again, after a long computation in a callback.

    Timers need no such help: they count from the moment they are made.

    Perl: ``AnyEvent->now_update``, ``AE::now_update``
    """
    current_loop().backend.now_update()


def time() -> float:
    """Return the wall-clock time in seconds since the epoch, always fresh.

    Perl: ``AnyEvent->time``, ``AE::time``
    """
    core = existing_loop()
    return _time.time() if core is None or core.closed else core.backend.time()


def _check_interval(interval: object) -> float:
    number = check_seconds(interval)
    if number < 0.0:
        raise ValueError(f"expected an interval of 0 s or more, got {interval!r}")
    return number


def _fileno(fd: Any) -> int:
    what: Any = fd
    if isinstance(fd, int) and fd is not True and fd is not False:
        return int(fd)
    try:
        number = what.fileno()
    except AttributeError:
        raise TypeError(f"expected a descriptor or an object with fileno(), got {fd!r}") from None
    if not isinstance(number, int):
        raise TypeError(f"expected fileno() of {fd!r} to be a descriptor, got {number!r}")
    return number
