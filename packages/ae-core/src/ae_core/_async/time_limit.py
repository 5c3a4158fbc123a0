"""``timeout``: a time limit around any awaits, on whatever drives the coroutine.

A cover over what asyncio and trio have, and a timer that cancels the task where it is ours.
"""

from __future__ import annotations

__all__ = ("TimeLimit", "not_in_twisted", "timeout")

import sys

from .._base.errors import CancelledError
from .._base.seconds import check_seconds
from .._base.signal_errors import repeatable
from .awaiting import driver
from .tasks import Task, running_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Protocol

    class _Limit(Protocol):
        def reschedule(self, seconds: float | None) -> None: ...

        async def enter(self) -> None: ...

        async def leave(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> bool:
            """Return whether *error* is the limit's own cancellation."""
            ...


def timeout(seconds: float | None) -> TimeLimit:
    """Limit the time of an ``async with`` block.

    ::

        async with ae.timeout(10) as limit:
            greeting = await handle.push_read("line")
            limit.reschedule(60)
            body = await handle.push_read(Chunk(length))

    Args:
        seconds: From the beginning of the block. 0 is up at the first wait, None is no limit.

    Returns:
        A context manager for one use; its value has ``reschedule(seconds)``, which moves the end.

    **When**: the time is up while the block waits: what it awaits is cancelled there, as by
    ``Task.cancel()`` or a cancelled scope, and once that has left the block it is raised as
    :class:`TimeoutError`. A block that catches the cancellation, or ends before it waits again,
    ends as if nothing had happened. Limits nest; each raises at its own block only.

    On asyncio it is ``asyncio.timeout``, on trio a ``trio.CancelScope``. An operation (see
    :class:`CondVar`) that only the block awaited is cancelled: a program is ended, a request is
    taken back. ``await ae.shield(operation)`` keeps it.

    Raises:
        TypeError, ValueError: *seconds* is negative or no number.
        RuntimeError: At the beginning of the block, in a coroutine that Twisted drives: it cannot
            be cancelled from inside.
    """
    return TimeLimit(_check(seconds))


def _check(seconds: float | None) -> float | None:
    if seconds is None or seconds == float("inf"):
        return None
    number = check_seconds(seconds, "time limit")
    if number < 0.0:
        raise ValueError(f"expected a time limit of 0 s or more, got {seconds!r}")
    return number


class TimeLimit:
    """The context manager of :func:`timeout`."""

    __slots__ = ("_limit", "_seconds", "_state")

    _limit: _Limit | None

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._limit = None
        self._state = "new"

    def reschedule(self, seconds: float | None) -> None:
        """Have the time be up in *seconds* from now; None: never.

        Raises:
            TypeError, ValueError: *seconds* is negative or no number.
            RuntimeError: Outside of the block.
        """
        seconds = _check(seconds)
        if self._limit is None:
            raise RuntimeError("a time limit can be moved only inside of its block")
        self._seconds = seconds
        self._limit.reschedule(seconds)

    async def __aenter__(self) -> TimeLimit:
        if self._state != "new":
            raise RuntimeError("a time limit is for one block: make another by ae.timeout()")
        drives = driver()
        if drives is None or drives == "twisted":
            raise not_in_twisted("ae.timeout()", drives)
        limit: Any
        if drives == "asyncio":
            limit = _AsyncioLimit(self._seconds)
        elif drives == "trio":
            limit = _TrioLimit(self._seconds)
        else:
            limit = _OurLimit(self._seconds, running_task())
        self._state = "used"
        await limit.enter()
        self._limit = limit
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        limit, self._limit = self._limit, None
        assert limit is not None
        if await limit.leave(kind, error, traceback):
            raise TimeoutError(f"not done within {self._seconds:g} s") from error
        return None


def not_in_twisted(what: str, drives: str | None) -> RuntimeError:
    """Return the error for *what* in a coroutine that we cannot cancel."""
    if drives == "twisted":
        return RuntimeError(
            f"{what} cannot cancel a coroutine that Twisted drives: start it by ae.spawn(), and "
            "await Deferreds there by ae.as_condvar(deferred); or use Deferred.addTimeout()"
        )
    return RuntimeError(
        f"{what} works in asyncio tasks, trio tasks and coroutines started by ae_core.spawn() or "
        "ae_core.run()"
    )


class _AsyncioLimit:
    """``asyncio.timeout``."""

    __slots__ = ("_timeout",)

    def __init__(self, seconds: float | None) -> None:
        self._timeout: Any = sys.modules["asyncio"].timeout(seconds)

    def reschedule(self, seconds: float | None) -> None:
        loop = sys.modules["asyncio"].get_running_loop()
        self._timeout.reschedule(None if seconds is None else loop.time() + seconds)

    async def enter(self) -> None:
        await self._timeout.__aenter__()

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            return True
        return False


class _TrioLimit:
    """A cancel scope with a deadline."""

    __slots__ = ("_scope", "_trio")

    def __init__(self, seconds: float | None) -> None:
        self._trio: Any = sys.modules["trio"]
        self._scope: Any = self._trio.CancelScope()
        self.reschedule(seconds)

    def reschedule(self, seconds: float | None) -> None:
        never = float("inf")
        self._scope.deadline = never if seconds is None else self._trio.current_time() + seconds

    async def enter(self) -> None:
        self._scope.__enter__()

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._scope.__exit__(kind, error, traceback)
        return bool(self._scope.cancelled_caught)


class _OurLimit:
    """A timer that cancels the task.

    As in asyncio the task counts how often it was asked to stop: when the block has been left by a
    cancellation, it was ours alone if the count, without ours, is what it was at the beginning.
    """

    __slots__ = ("_before", "_expired", "_task", "_timer")

    def __init__(self, seconds: float | None, task: Task[Any]) -> None:
        self._task = task
        self._before = task.asked
        self._expired = False
        self._timer: int | None = None
        self.reschedule(seconds)

    def reschedule(self, seconds: float | None) -> None:
        self._stop()
        if seconds is not None and not self._expired:
            self._timer = self._task._core.timer(seconds, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._task._core.cancel_timer(self._timer)
            self._timer = None

    @repeatable
    def _expire(self) -> None:
        if not self._expired:
            self._expired = True
            self._task.ask()

    async def enter(self) -> None:
        return None

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._stop()
        if not self._expired:
            return False
        return self._task.unask(self._before) and isinstance(error, CancelledError)
