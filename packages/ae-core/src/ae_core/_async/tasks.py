"""Coroutines on any loop: ``spawn``, ``run`` and ``sleep``.

Where the loop has tasks of its own (asyncio, trio) these are used. Everywhere else a coroutine
is driven from here; a condition variable is then the only thing it can await.
"""

from __future__ import annotations

__all__ = (
    "Task",
    "run",
    "running_task",
    "sleep",
    "spawn",
)

import sys

from .._base.errors import CancelledError
from .._base.signal_errors import repeatable
from .._detection.current import current_loop, existing_loop
from .._loop.blocking import block, check_may_block
from .._operations import pending
from .awaiting import we_drive
from .condvar import CondVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context, copy_context
    from typing import Any, TypeVar, overload

    from .._loop.state import LoopState

    T = TypeVar("T")
else:  # the modules behind: their wrappers cost 2 ms
    from _collections_abc import Coroutine
    from _contextvars import copy_context

    T = "T"

_modules = sys.modules

# Theory of operation
# -------------------
# `await cv` on a pending condition variable yields the condition variable itself to our driver,
# which registers the task with it and resumes the coroutine from the postponed queue: a chain of
# completions becomes a chain of turns, never of nested calls. In a task of asyncio or trio it
# yields what that library's own future yields.


class Task(CondVar[T]):
    """A coroutine in progress; ready when it has returned or raised.

    Runs whether or not it is held.
    """

    __slots__ = (
        "_cancel_requested",
        "_context",
        "_core",
        "_coroutine",
        "_host",
        "_waiting_for",
        "asked",
        "has_group",
    )

    #: How often it was asked to stop, without the requests that were dealt with; if it is ours.
    asked: int

    #: It ends no wait by itself: what it waits for must come from somewhere else.
    passive = True

    _host: Callable[[], object] | None  # cancels the loop's own task, if it has tasks
    _waiting_for: CondVar[Any] | None

    def __init__(self, core: LoopState, coroutine: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        self._be_operation()
        self._core = core
        self._coroutine = coroutine
        self._context: Context = copy_context()
        self._cancel_requested = False
        self.asked = 0
        self.has_group = False  # which looks at its error
        self._host = None
        self._waiting_for = None
        core.operations.add(self)

    def cancel(self) -> None:
        """Ask the coroutine to stop: :func:`cancelled_class` is raised where it waits.

        A request: ``ready`` and ``cancelled`` become true when its clean-up has run. A coroutine
        that has not begun never does; one that catches the exception and returns is not
        cancelled. Each request that comes after the last was raised is raised too. (trio's
        cancelling is a state: from the first request on every wait raises.)
        """
        if self.ready or self._core.closed:
            self._core.operations.discard(self)
            self._close()
            super().cancel()
            return
        if self._host is not None:
            self._host()
            return
        self.ask()

    def ask(self) -> None:
        """Raise a cancellation where the coroutine, which is driven from here, waits."""
        self.asked += 1
        if self._cancel_requested:
            return
        self._cancel_requested = True
        if self._waiting_for is not None:
            self._core.calls.postpone(self._step)
        # else it is about to take its next step anyway

    def unask(self, before: int) -> bool:
        """Take one request back, after its exception has come out; or before it was raised.

        Returns:
            Whether there is no other request since there were *before*.
        """
        self.asked -= 1
        is_last = self.asked <= before
        if is_last:
            self._cancel_requested = False
        return is_last

    def be_driven(self, cancel: Callable[[], object]) -> None:
        """A task of the loop's own runs the coroutine, and *cancel* asks that one to stop."""
        self._host = cancel

    def join_group(self) -> None:
        """Be the task of a group, which looks at its error."""
        self.has_group = True

    def _name(self) -> str:
        return f"task {getattr(self._coroutine, '__qualname__', self._coroutine)}"

    # ------------------------------------------------------------------ the driver

    # A signal handler may raise between any two calls here, and a task that is never resumed would
    # wait for ever. So there may be a step too many, which does nothing, but never one too few.

    def _cancel_unstarted(self) -> None:
        """Be cancelled before anything drives it."""
        self._core.operations.discard(self)
        self._coroutine.close()
        super().cancel()

    def _close(self) -> None:
        """Close the coroutine, which is not driven any more."""
        if self._host is None:
            if self._waiting_for is not None:
                self._waiting_for._forget_wake(self._resume)
            try:
                self._coroutine.close()
            except BaseException as error:  # it waits in a `finally`, or raises there
                self._core.runner.failed(error, None)

    @repeatable
    def _resume(self, condvar: CondVar[Any]) -> None:
        if self._waiting_for is condvar:
            self._core.calls.postpone(self._step)

    @repeatable
    def _step(self) -> None:
        """Run the coroutine up to its next wait, in its own context variables."""
        if self._state:  # fast path: a property costs 40 ns
            return
        core = self._core
        waiting = self._waiting_for
        if waiting is not None:
            if not waiting._state:
                if not self._cancel_requested:
                    return  # a step too many
                waiting._forget_wake(self._resume)
            self._waiting_for = None
        before, core.task = core.task, self
        try:
            if self._cancel_requested:
                error = CancelledError("the task was cancelled")
                self._cancel_requested = False
                awaited = self._context.run(self._coroutine.throw, error)
            else:
                awaited = self._context.run(self._coroutine.send, None)
        except StopIteration as stop:
            self._end(stop.value, None)
            return
        except BaseException as error:
            if getattr(self._coroutine, "cr_frame", None) is not None:
                raise  # not out of the coroutine, which waits
            _explain(error)
            self._end(None, error)
            return
        finally:
            core.task = before
        if isinstance(awaited, CondVar):
            try:
                self._waiting_for = awaited
                if awaited._state:
                    self._resume(awaited)
                else:
                    awaited._add_waker(self._resume)
                if self._cancel_requested:
                    core.calls.postpone(self._step)
            except BaseException:
                self._waiting_for = None  # what is awaited is said again in the next step
                raise
        else:
            problem = TypeError(
                f"a coroutine on the {core.backend.name} loop can only await condition variables "
                f"and what is made of them, got {awaited!r}"
            )
            _explain(problem, awaited)
            self._coroutine.close()
            self._finish(None, problem)

    def _end(self, value: T | None, error: BaseException | None) -> None:
        """Make the task ready; once more if a signal handler's exception comes between."""
        try:
            self._finish(value, error)
        except BaseException:
            if not self._state:
                self._core.calls.postponed.append((lambda: self._finish(value, error), None))
                self._core.resume()
            raise

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        """Make the task ready; called once, by the driver or by the host's task."""
        self._core.operations.discard(self)
        if self._state:
            return
        if error is None:
            self.send(value)
        elif isinstance(error, CancelledError):
            super().cancel()
        else:
            self.throw(error)
            if self.has_group:
                self._seen()
                if self._host is not None:
                    return  # asyncio's or trio's group raises it
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._seen()  # it leaves by recv() or run(), not by the log
                self._core.runner.failed(error, None)


# What asyncio, trio and those who ask for both (sniffio) say where they do not run.
_HOMESICK = {
    "no running event loop": "asyncio",
    "must be called from async context": "trio",
    "unknown async library, or not in async context": "asyncio",
}


def _explain(error: BaseException, awaited: object = None) -> None:
    """Add to *error* what to write, if the coroutine needs another loop than ours."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    home = _HOMESICK.get(text)
    library = type(awaited).__module__.partition(".")[0]
    if library == "twisted":
        error.add_note("a Deferred is awaited by: await ae_core.as_condvar(deferred)")
        return
    if library in ("asyncio", "_asyncio", "trio"):
        home = library.lstrip("_")
    if home is not None:
        error.add_note(
            f"the coroutine awaits what only {home} can wait for: call "
            f"ae_core.use({home!r}) before the first watcher, or start the program by {home}"
        )


def spawn(coroutine: Coroutine[Any, Any, T]) -> CondVar[T]:
    """Run *coroutine* as a task of this thread's loop.

    It starts in the next turn, not inside this call, in a copy of the caller's context
    variables. The returned condition variable gives its result or its error; it need not be
    held. Its ``cancel()`` raises :func:`cancelled_class` in the coroutine where it waits; before
    the coroutine has begun, it never runs.

    In the coroutine, ``await`` takes condition variables on every loop; on asyncio and trio also
    whatever that library awaits.

    Raises:
        TypeError: If *coroutine* is no coroutine object.
        WrongLoop: If another loop runs in this thread.
    """
    if not isinstance(coroutine, Coroutine):
        raise TypeError(f"expected a coroutine object, got {coroutine!r}")
    return _start(current_loop(), coroutine)


def _start(core: LoopState, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
    task = Task(core, coroutine)
    if not core.backend.spawn(coroutine, task):
        core.calls.postpone(task._step)
    return task


class _Sleep(CondVar[None]):
    """What ``sleep`` returns: ends its timer when it is cancelled."""

    __slots__ = ("_core", "_number", "_seconds")

    _core: LoopState
    _number: int
    _seconds: float

    def _end_operation(self) -> None:
        self._core.cancel_timer(self._number)

    def _name(self) -> str:
        return f"sleep of {self._seconds:g} s"

    @repeatable
    def _wake(self) -> None:
        if not self._state:
            self.send()


def sleep(seconds: float) -> CondVar[None]:
    """Return a condition variable that is ready after *seconds*, never early.

    Raises:
        TypeError, ValueError: If *seconds* is not a finite number.
    """
    from .._base.seconds import check_seconds

    seconds = check_seconds(seconds)
    core = current_loop()
    condvar = _Sleep()
    condvar._be_operation()
    condvar._seconds = seconds
    condvar._core = core
    condvar._number = core.timer(seconds, condvar._wake)
    return condvar


if TYPE_CHECKING:

    @overload
    def run(coroutine: Coroutine[Any, Any, T]) -> T: ...
    @overload
    def run(coroutine: None = None) -> None: ...


def run(coroutine: Coroutine[Any, Any, T] | None = None) -> T | None:
    """Run the loop: for a coroutine until it is done, without one until interrupted.

    Returns:
        What the coroutine returned.

    Raises:
        KeyboardInterrupt: By Ctrl-C, after the coroutine was cancelled and has cleaned up.
        BlockingNotAllowed: A loop runs in this thread already: use ``await``.
        BaseException: What the coroutine raised.

    Without a coroutine it sleeps, also with no watcher at all, and never is a ``Deadlock``.

    Perl: ``AnyEvent->condvar->recv``
    """
    if coroutine is None:
        core = current_loop(blocking=True)
        operation = pending()  # so that it is no Deadlock
        try:
            return block(core, CondVar(), None)  # type: ignore[func-returns-value]
        finally:
            operation.cancel()
    if not isinstance(coroutine, Coroutine):
        raise TypeError(f"expected a coroutine object or nothing, got {coroutine!r}")
    try:
        core = current_loop(blocking=True)
        check_may_block(core)  # before there is a task that would run all the same
        if core.backend.own_run:
            result: T = core.backend.run(coroutine)
            return result
        task = _start(core, coroutine)
    except BaseException:
        coroutine.close()
        raise
    task._be_meeting_point()  # cancelled below, once
    try:
        return task.recv()
    except (KeyboardInterrupt, SystemExit):
        if not task.ready:
            task.cancel()
            _drain(task)
        raise
    except BaseException as error:
        if not task.ready:  # a wait that was refused, or could never end
            coroutine.close()
            task._finish(None, CancelledError(f"not run: {error}"))
        raise


def _drain(task: CondVar[Any]) -> None:
    """Let an interrupted main coroutine clean up."""
    try:
        task.recv()
    except (CancelledError, Exception):
        return  # the caller gets the interrupt instead


def running_task() -> Task[Any]:
    """Return the task that runs now, which is driven from here."""
    core = existing_loop()
    assert core is not None
    task: Any = core.task
    return task  # type: ignore[no-any-return]


we_drive(Task._step.__code__)
