"""``start_trio``: a run of trio, in its guest mode, as an operation of any loop."""

from __future__ import annotations

__all__ = ("start_trio",)

from typing import TYPE_CHECKING, Any, TypeVar

import ae_core as ae

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class _Run(ae.CondVar[T]):
    """A guest run; ready when it has ended."""

    __slots__ = ("_cancel", "_guard")

    _cancel: Callable[[], object]
    _guard: Any

    def cancel(self) -> None:
        """Cancel the main function's scope; ready when the run has ended."""
        if not self.ready:
            self._cancel()

    def _end(self, outcome: Any) -> None:
        self._guard.cancel()
        error = getattr(outcome, "error", None)
        if error is not None:
            self.throw(error)
        elif outcome.value is _CANCELLED:
            super().cancel()
        else:
            self.send(outcome.value)


_CANCELLED: Any = object()


def start_trio(function: Callable[..., Awaitable[T]], *args: Any) -> ae.CondVar[T]:
    """Run ``function(*args)`` as trio's main task, as a guest of the loop that serves this thread.

    trio waits for I/O in a thread of its own and does everything else in turns of the host.

    Returns:
        An operation: its value is the function's, and ``cancel()`` cancels it.

    Raises:
        RuntimeError: If trio runs in this thread already.
        ImportError: If trio is not installed.
    """
    import trio

    backend: Any = ae.detect()
    if backend.name == "trio":
        raise RuntimeError("trio runs in this thread: await the function, or use a nursery")
    run: _Run[T] = _Run()
    scope = trio.CancelScope()

    async def main() -> Any:
        run._cancel = token_cancel(trio.lowlevel.current_trio_token())
        with scope:
            return await function(*args)
        return _CANCELLED

    def token_cancel(token: Any) -> Callable[[], object]:
        return lambda: token.run_sync_soon(scope.cancel)

    run._cancel = scope.cancel  # before the main task has begun
    run._guard = ae.pending(run)
    try:
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=backend.call_threadsafe,
            run_sync_soon_not_threadsafe=ae.postpone,
            done_callback=run._end,
            host_uses_signal_set_wakeup_fd=True,
        )
    except BaseException:
        run._guard.cancel()
        raise
    return run
