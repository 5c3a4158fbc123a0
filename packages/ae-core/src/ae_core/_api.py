"""The watcher functions: what a program calls.

Each checks its arguments, takes this thread's core, makes the record and returns the guard. No
callback ever runs inside one of these calls.
"""

from __future__ import annotations

__all__ = (
    "child",
    "idle",
    "install_layer",
    "io",
    "now",
    "now_update",
    "pending",
    "postpone",
    "remove_layer",
    "report_error",
    "signal",
    "time",
    "timer",
)

import sys
import time as _time
from math import inf

from ._base import environ
from ._base.seconds import check_seconds
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

    class Layer(Protocol):
        """Something between a watcher function and its watcher: strict mode, wrapping."""

        def wrap(
            self,
            kind: str,
            args: dict[str, Any],
            callback: Callable[..., object],
            create: Callable[[Callable[..., object]], Watcher],
        ) -> Any:
            """Make a watcher by ``create(callback)``, or refuse; return it or a stand-in."""
            ...
else:
    from _contextvars import copy_context


# The layers in force, outermost last; None while there are none, which is all that a watcher
# function looks at.
_layers: list[Layer] | None = None


def install_layer(layer: Layer) -> None:
    """Have every later watcher of the process made through *layer*."""
    global _layers
    _layers = [*(_layers or ()), layer]


def remove_layer(layer: Layer) -> None:
    """Undo :func:`install_layer`; watchers that exist stay as they are."""
    global _layers
    _layers = [other for other in _layers or () if other is not layer] or None


def _through_layers(
    kind: str,
    args: dict[str, Any],
    callback: Callable[..., object],
    create: Callable[[Callable[..., object]], Any],
) -> Any:
    make = create
    for layer in _layers or ():
        make = _inside(layer, kind, args, make)
    return make(callback)


def _inside(
    layer: Layer,
    kind: str,
    args: dict[str, Any],
    create: Callable[[Callable[..., object]], Any],
) -> Callable[[Callable[..., object]], Any]:
    return lambda callback: layer.wrap(kind, args, callback, create)


def _unlayered(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a watcher function as if there were no layers."""
    global _layers
    layers, _layers = _layers, None
    try:
        return make(*args, **options)
    finally:
        _layers = layers


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
    if _layers is not None:
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
        core.rearm(at)
    if number >= timers.tidy_at:
        timers.tidy()
    watcher = TimerWatcher()
    watcher._number = number
    watcher._core = core
    return watcher


# A function of its own, like the next: variables of `timer` that a lambda there refers to would
# cost every timer a tenth more.
def _layered_timer(after: float, callback: Callable[[], object], interval: float) -> Watcher:
    made: Watcher = _through_layers(
        "timer",
        {"after": after, "interval": interval},
        callback,
        lambda callback: _unlayered(timer, after, callback, interval=interval),
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
        OSError: Without *on_refused*, if the loop finds out at once that it cannot watch *fd*:
            EBADF, it is not open; ENOSPC or ENOMEM, the kernel has no room; EMFILE, the number is
            too high for this loop. If it finds out only later, it ends the watcher and gives this
            error to ``exception_hook``.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->io``, ``AE::io``
    """
    if _layers is not None:
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
    made: Watcher = _through_layers(
        "io",
        {"fd": fd, "direction": direction},
        callback,
        lambda callback: _unlayered(io, fd, direction, callback, on_refused=on_refused),
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
    if _layers is not None:
        args = {"number": number}
        made: Watcher = _through_layers(
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
    somebody else waited for the child first, its status is lost: a warning is logged and the
    callback gets status 255 * 256.

    **Lifetime**: dropping the watcher cancels it; the child then becomes a zombie when it ends.

    Windows knows no owners of processes and no signals that end them: there any process that we
    may look at will do, 0 is refused, and the status is the exit code times 256.

    Raises:
        TypeError, ValueError: If *pid* is no process id.
        ChildProcessError: If it is no child of ours, or was waited for already.
        RuntimeError: For pid 0, off the main thread, and where the system cannot tell.
        WrongLoop: If another loop runs in this thread.

    Perl: ``AnyEvent->child``, ``AE::child``
    """
    if _layers is not None:
        args = {"pid": pid}
        made: Watcher = _through_layers(
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
    if _layers is not None:
        made: Watcher = _through_layers("idle", {}, callback, _idle)
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


class Pending:
    """An operation in progress that no watcher stands for; as returned by :func:`pending`."""

    __slots__ = ("__weakref__", "_core", "_owner")

    _core: LoopState | None
    _owner: object

    def cancel(self) -> None:
        """The operation is over. Idempotent; in the thread that began it."""
        core, self._core = self._core, None
        self._owner = None
        if core is not None:
            core.operations.discard(self)


def pending(owner: object = None) -> Pending:
    """Tell this thread's loop that an operation is in progress, until the result's ``cancel()``.

    For libraries whose work is done by another thread, and for those whose own condition
    variables wait for it: while it lasts, a blocking ``recv()`` is no :class:`Deadlock`.

    Args:
        owner: What the operation needs, its own object, say. The loop keeps it alive.

    **Lifetime**: the loop keeps it, not the caller.
    """
    core = current_loop()
    mark = Pending()
    mark._core = core
    mark._owner = owner
    core.operations.add(mark)
    return mark


def report_error(error: BaseException) -> None:
    """Do with *error*, which a user's callback raised, what a watcher does with it.

    For libraries that call functions of their users: the error goes to ``exception_hook``, with
    None for the watcher, and what the hook itself raises is logged. ``KeyboardInterrupt`` and
    ``SystemExit`` leave ``recv()`` or ``run()`` instead, from the next turn. So the library's own
    state is never torn, whatever is raised.

    **When**: the hook runs inside this call.

    Raises:
        TypeError: If *error* is not an exception instance.
    """
    if not isinstance(error, BaseException):
        raise TypeError(f"expected an exception instance, got {error!r}")
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        current_loop().postpone(_Raise(error))
        return
    from ._loop.exception_hook import report

    try:
        report(error, None, None)
    except BaseException as second:
        current_loop().postpone(_Raise(second))  # one of the two, from the hook


class _Raise:
    """Raises an error where the core catches it: in a callback of its own."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> None:
        raise self._error


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


class _FirstWatcher:
    """Detects before the first watcher is made, so that what the environment asks for counts.

    Strict mode and wrapping are layers that detection installs, and the first watcher detects.
    """

    def wrap(
        self,
        kind: str,
        args: dict[str, Any],
        callback: Callable[..., object],
        create: Callable[[Callable[..., object]], Watcher],
    ) -> Any:
        remove_layer(self)
        before = _layers or []
        current_loop()
        make = create
        for layer in _layers or ():
            if layer not in before:
                make = _inside(layer, kind, args, make)
        return make(callback)


if environ.get("AE_STRICT") or environ.get("AE_DEBUG_WRAP"):
    install_layer(_FirstWatcher())
