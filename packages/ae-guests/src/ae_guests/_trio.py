"""``start_trio``: a run of trio, in its guest mode, as an operation of any loop."""

from __future__ import annotations

__all__ = ("start_trio",)

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import ae_core as ae
from ae_core.abc import ThreadLock

from ._loop import CLEAN_UP_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class _Run(ae.CondVar[T]):
    """A guest run; ready when it has ended.

    What trio gives the host to call is kept in a queue of its own: when the host ends, ae_core's
    built-in loop goes on with it until the run has been cancelled.
    """

    __slots__ = (
        "_calls",
        "_cancel_main",
        "_depth",
        "_end_watcher",
        "_guard",
        "_hooks",
        "_host",
        "_leaving",
        "_lock",
        "_soon",
    )

    _cancel_main: Callable[[], object]
    _guard: Any
    _end_watcher: Any

    def __init__(self, host: ae.abc.Backend, function: Callable[..., object]) -> None:
        name = getattr(function, "__qualname__", function)
        super().__init__(cancel=_ended, describe=lambda: f"trio run of {name}")
        self._host = host
        self._calls: deque[Callable[[], object]] = deque()
        self._hooks: Any = None  # trio's, for asynchronous generators
        self._depth = 0  # how many calls are on the stack
        self._leaving = False  # the host has ended, and nothing makes the calls
        self._lock = ThreadLock()
        self._soon: Any = None  # the timer that makes the calls for which trio needs no thread

    def cancel(self) -> None:
        """Cancel the main function's scope; ready when the run has ended."""
        if not self.ready:
            self._cancel_main()

    def _begin(self) -> None:
        """Keep the host running for this run, and have it call back at its end."""
        self._guard = ae.pending(self)
        self._end_watcher = ae.abc.at_loop_end(self._host_ends)

    def _end(self, outcome: Any) -> None:
        self._release()
        error = getattr(outcome, "error", None)
        if error is not None:
            self.throw(error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                _ = self.error  # read, so that it is not logged: it leaves by the host's loop
                ae.report_error(error)
        elif outcome.value is _CANCELLED:
            super().cancel()
        else:
            self.send(outcome.value)

    def _release(self) -> None:
        self._guard.cancel()
        self._end_watcher.cancel()

    def _call_soon(self, function: Callable[[], object]) -> None:
        self._calls.append(function)
        if not self._leaving and self._soon is None:
            self._soon = ae.timer(0, self._call_now)

    def _call_now(self) -> None:
        self._soon = None
        try:
            self._call_next()
        finally:
            if self._calls and not self._leaving and self._soon is None:
                self._soon = ae.timer(0, self._call_now)

    def _call_threadsafe(self, function: Callable[[], object]) -> None:
        with self._lock:
            self._calls.append(function)
            if not self._leaving:
                try:
                    self._host.call_threadsafe(self._call_next)
                except RuntimeError:
                    return  # the host has just ended: the loop that replaces it makes the call

    def _call_next(self) -> None:
        if not self._calls:
            return
        self._depth += 1
        try:
            self._turn(self._calls.popleft())
        finally:
            self._depth -= 1
        if self._leaving and not self._depth:
            self._clean_up()

    def _turn(self, function: Callable[[], object]) -> None:
        """Call what is trio's, with its hooks for asynchronous generators.

        trio sets them for the whole run, and gives back at its end those it found: the host's,
        which may have ended before.
        """
        host = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*(self._hooks or host))
        try:
            function()
        finally:
            self._hooks = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(*host)

    def _host_ends(self) -> None:
        """Called when the loop that serves the thread ends: so does the run."""
        self._leaving = True
        if not self._depth:  # else when what is on the stack has returned
            self._clean_up()

    def _clean_up(self) -> None:
        """Cancel the run, with the built-in loop as the host until it has ended."""
        self._release()
        with ae.abc.aside("loop"):
            ended: ae.CondVar[Any] = ae.CondVar()
            self.on_ready(ended.send)
            with self._lock:
                self._host = ae.detect()
                self._leaving = False
            self._begin()
            self._soon = ae.timer(0, self._call_now)
            self._cancel_main()
            try:
                ended.recv(CLEAN_UP_PATIENCE)
            except TimeoutError:
                ae.report_error(
                    TimeoutError(
                        f"a run of trio has not ended within {CLEAN_UP_PATIENCE:g} s after the end "
                        "of its host"
                    )
                )
            finally:
                self._leaving = True
                self._release()


_CANCELLED: Any = object()


def _ended() -> None:
    """Do nothing: the run has ended when its operation becomes cancelled."""


def start_trio(function: Callable[..., Awaitable[T]], *args: Any) -> ae.CondVar[T]:
    """Run ``function(*args)`` as trio's main task, as a guest of the loop that serves this thread.

    trio waits for I/O in a thread of its own and does everything else in turns of the host.

    Returns:
        An operation: its value is the function's, and ``cancel()`` cancels it, as the
        cancellation of its last awaiter does.

    Raises:
        RuntimeError: If trio runs in this thread already.
        ImportError: If trio is not installed.
    """
    import trio

    backend: Any = ae.detect()
    if backend.name == "trio":
        raise RuntimeError("trio runs in this thread: await the function, or use a nursery")
    run: _Run[T] = _Run(backend, function)
    scope = trio.CancelScope()

    async def main() -> Any:
        run._cancel_main = token_cancel(trio.lowlevel.current_trio_token())
        with scope:
            return await function(*args)
        return _CANCELLED

    def token_cancel(token: Any) -> Callable[[], object]:
        return lambda: token.run_sync_soon(scope.cancel)

    run._cancel_main = scope.cancel  # before the main task has begun
    run._begin()
    try:
        run._turn(
            lambda: trio.lowlevel.start_guest_run(
                main,
                run_sync_soon_threadsafe=run._call_threadsafe,
                run_sync_soon_not_threadsafe=run._call_soon,
                done_callback=run._end,
                host_uses_signal_set_wakeup_fd=True,
            )
        )
    except BaseException:
        run._release()
        raise
    return run
