"""Threads: a function called in one, and a call from one into a loop, with its outcome."""

from __future__ import annotations

__all__ = ("call_threadsafe", "to_thread")

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from .._base.thread_identity import allocate_lock
from .._detection import current
from .._loop.exception_hook import report
from . import thread_pool
from .bridges import as_condvar
from .condvar import CondVar
from .loop_future import LoopFuture, follow

if TYPE_CHECKING:
    from .._loop.backend import Backend
    from .._loop.state import LoopState

T = TypeVar("T")


def to_thread(function: Callable[..., T], /, *args: Any) -> CondVar[T]:
    """Call ``function(*args)`` in a thread, with the context variables that are set here.

    For functions that block. At most 40 run in parallel, the others wait in order. The function
    must not use watchers or condition variables of this thread: from there
    :func:`call_threadsafe` is the way in.

    Returns:
        An operation with the function's result or exception. Cancelling it drops the call if it
        has not begun; one that has is no longer waited for, and its result is thrown away. It need
        not be held.

    Calls that have begun are finished before the program ends, if it ends cleanly.

    Raises:
        TypeError: *function* cannot be called.
        WrongLoop: Another loop runs in this thread.
    """
    if not callable(function):
        raise TypeError(f"expected a callable, got {function!r}")
    return thread_pool.submit_function(copy_context().run, function, *args)


# Futures whose call was not made yet, or is not over, by their loop: cancelled at its end.
_lock = allocate_lock()
_ROOM = "answers"


class _Answer(LoopFuture[Any]):
    """The future of a call; an error that is never read goes to the exception hook."""

    asked = False

    def result(self, timeout: float | None = None) -> Any:
        self.asked = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.asked = True
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        self.asked = True
        super().add_done_callback(fn)

    def __del__(self) -> None:
        error = None if self.asked or not self.done() or self.cancelled() else self._exception
        if error is not None:
            report(error, None, None)


def call_threadsafe(
    function: Callable[..., Any], /, *args: Any, backend: Backend | None = None
) -> Future[Any]:
    """Call ``function(*args)`` once in a loop. May be called from any thread.

    Args:
        function: Called without others of the loop's callbacks running.
        backend: The loop, as :func:`detect` returned it in its thread; None is the main thread's.

    Returns:
        A future, for any thread, with the function's result or exception. If the function returns
        a condition variable or a coroutine, it gets the outcome of that. ``cancel()`` before the
        call was made has it not made; later it gives up what the function returned, as an awaiter
        that is cancelled does. It is cancelled if the loop ends first. An exception that is
        never read from the future goes to ``exception_hook`` when the future is collected. It need
        not be held.

    Do not wait for the future in the loop's own thread.

    Raises:
        TypeError: *function* cannot be called.
        RuntimeError: The loop has ended, or the main thread has none yet.
    """
    if not callable(function):
        raise TypeError(f"expected a callable, got {function!r}")
    owner: Any = getattr(backend and backend.call_threadsafe, "__self__", None)
    core: LoopState = current.main_loop() if owner is None else owner.loop
    answer = _Answer()
    with _lock:
        answers: WeakSet[_Answer] | None = core.per_loop.get(_ROOM)
        if answers is None:
            answers = core.per_loop[_ROOM] = WeakSet()
            core.closers.append(lambda kept=answers: _cancel_all(kept))  # type: ignore[misc]
        answers.add(answer)

    # The traceback of an error keeps the frame of the call: if that kept the future, it would not
    # be collected, and the error not reported.
    held = [answer]

    def call() -> None:
        answer: Any = held[0] if held else None
        try:
            if answer is not None and answer.claim():
                held.clear()
                _make(answer, function, args, core)
        finally:
            answer = None

    core.call_threadsafe(call)
    return answer


def _make(
    answer: _Answer | None, function: Callable[..., Any], args: tuple[Any, ...], core: LoopState
) -> None:
    """Make the call, and give its outcome to *answer*."""
    assert answer is not None
    try:
        value = function(*args)
        if answer.done():  # the loop has ended in this call
            if isinstance(value, Coroutine):
                value.close()
        elif isinstance(value, (CondVar, Coroutine)):
            condvar = as_condvar(value)
            answer.release()
            follow(answer, condvar, core)
        else:
            answer.set_result(value)
    except BaseException as error:
        if answer.done():
            raise
        answer.set_exception(error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            answer.asked = True  # it leaves by recv() or run()
            raise
    finally:
        answer = None


def _force_cancel(answer: _Answer) -> None:
    """Cancel a future that runs, which ``concurrent.futures`` does not."""
    from concurrent.futures import CancelledError

    answer.asked = True
    answer.set_exception(CancelledError())


def _cancel_all(answers: WeakSet[_Answer]) -> None:
    for answer in list(answers):
        if not answer.done() and not answer.cancel():
            _force_cancel(answer)


for _public in (call_threadsafe, to_thread):
    _public.__module__ = "ae_core"
del _public
