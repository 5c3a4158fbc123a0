"""``TaskGroup``: tasks that end together, on whatever drives the coroutine.

A cover over ``asyncio.TaskGroup`` and trio's nursery, and its like where the tasks are ours.
"""

from __future__ import annotations

__all__ = ("TaskGroup",)

import sys

from .._base.errors import CancelledError
from .._detection.current import current_loop
from .awaiting import driver
from .condvar import CondVar
from .tasks import Task, running_task
from .time_limit import not_in_twisted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, TypeVar

    T = TypeVar("T")
else:
    from _collections_abc import Coroutine


class TaskGroup:
    """Tasks that an ``async with`` block starts, and that have all ended when it ends.

    ::

        async with ae.TaskGroup() as group:
            group.spawn(pump(a, b))
            group.spawn(pump(b, a))

    When a task fails, or the block does, the others are cancelled, and the block as well if it
    still runs; when all have ended, the errors of both are raised as an :class:`ExceptionGroup`.
    A task that is cancelled is no failure. If the task around the block is cancelled, all are, and
    it is that cancellation which leaves the block. ``KeyboardInterrupt`` and ``SystemExit`` leave
    it bare (on trio in trio's group).

    On asyncio it is an ``asyncio.TaskGroup``, on trio a nursery.

    Raises:
        RuntimeError: At the beginning of the block, in a coroutine that Twisted drives.
    """

    __slots__ = ("_group", "_state")

    _group: Any

    def __init__(self) -> None:
        self._state = "new"
        self._group = None

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> CondVar[T]:
        """Start *coroutine* as a task of the group.

        Like :func:`~ae_core.spawn`: it begins in a later turn, and the result is its outcome, which
        need not be read. In a group that is being cancelled it never runs, and the result is
        cancelled.

        Raises:
            TypeError: If *coroutine* is no coroutine object.
            RuntimeError: Outside of the block, and when its tasks have ended; it is closed then.
        """
        if not isinstance(coroutine, Coroutine):
            raise TypeError(f"expected a coroutine object, got {coroutine!r}")
        if self._state != "open":
            coroutine.close()
            raise RuntimeError(
                "a task group takes tasks inside of its block only"
                if self._state == "new"
                else "the tasks of this group have ended"
            )
        task: Task[T] = Task(current_loop(), coroutine)
        task.join_group()
        if self._group.is_cancelled():
            task._cancel_unstarted()
        else:
            self._group.start(task)
        return task

    async def __aenter__(self) -> TaskGroup:
        if self._state != "new":
            raise RuntimeError("a task group is for one block: make another by ae.TaskGroup()")
        drives = driver()
        if drives is None or drives == "twisted":
            raise not_in_twisted("ae.TaskGroup()", drives)
        if drives == "asyncio":
            self._group = _AsyncioGroup()
        elif drives == "trio":
            self._group = _TrioGroup()
        else:
            self._group = _OurGroup(running_task())
        await self._group.enter()
        self._state = "open"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            suppress: bool | None = await self._group.leave(kind, error, traceback)
            return suppress
        finally:
            self._state = "over"
            self._group = None


class _AsyncioGroup:
    """``asyncio.TaskGroup``."""

    __slots__ = ("_group",)

    def __init__(self) -> None:
        self._group: Any = sys.modules["asyncio"].TaskGroup()

    def is_cancelled(self) -> bool:
        return bool(self._group._aborting)

    def start(self, task: Task[Any]) -> None:
        from .._backends import _asyncio

        _asyncio.start_in_group(self._group, task)

    async def enter(self) -> None:
        await self._group.__aenter__()

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        left: bool | None = await self._group.__aexit__(kind, error, traceback)
        return left


class _TrioGroup:
    """A nursery."""

    __slots__ = ("_manager", "_nursery")

    _nursery: Any

    def __init__(self) -> None:
        self._manager: Any = sys.modules["trio"].open_nursery()

    def is_cancelled(self) -> bool:
        return bool(self._nursery.cancel_scope.cancel_called)

    def start(self, task: Task[Any]) -> None:
        from .._backends import _trio

        _trio.start_in_nursery(self._nursery, task)

    async def enter(self) -> None:
        self._nursery = await self._manager.__aenter__()

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        left: bool | None = await self._manager.__aexit__(kind, error, traceback)
        return left


class _OurGroup:
    """Tasks that are driven from here; *parent* is the one that runs the block."""

    __slots__ = (
        "_asked",
        "_before",
        "_cancelled",
        "_children",
        "_empty",
        "_errors",
        "_leaving",
        "_parent",
    )

    def __init__(self, parent: Task[Any]) -> None:
        self._parent = parent
        self._before = parent.asked
        self._children: dict[Task[Any], None] = {}  # in the order in which they were started
        self._errors: list[BaseException] = []
        self._cancelled = False
        self._asked = False  # the parent, to leave the block
        self._leaving = False
        self._empty: CondVar[None] | None = None  # what the parent waits for at the end

    def is_cancelled(self) -> bool:
        return self._cancelled

    def start(self, task: Task[Any]) -> None:
        self._children[task] = None
        task._add_waker(self._ended)
        task._core.postpone(task._step)

    def _ended(self, task: Any) -> None:
        del self._children[task]
        error = task.error
        if error is not None:
            if not isinstance(error, (KeyboardInterrupt, SystemExit)):  # these leave by themselves
                self._errors.append(error)
            self._cancel()
            if not self._leaving and not self._asked:
                self._asked = True
                self._parent.ask()
        if not self._children and self._empty is not None and not self._empty.ready:
            self._empty.send()

    def _cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            for task in list(self._children):
                task.cancel()

    async def enter(self) -> None:
        return None

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._leaving = True
        outside: BaseException | None = None
        if isinstance(error, CancelledError):
            outside = error
        elif error is not None and isinstance(error, Exception):
            self._errors.append(error)
        if error is not None:
            self._cancel()
        if self._asked and self._parent.unask(self._before):
            outside = None
        while self._children:
            self._empty = CondVar()
            try:
                await self._empty
            except CancelledError as cancellation:
                outside = outside or cancellation
                for task in list(self._children):  # also of those that clean up
                    task.cancel()
                self._cancelled = True
        try:
            if self._errors and (error is None or isinstance(error, (Exception, CancelledError))):
                raise BaseExceptionGroup("unhandled errors in a TaskGroup", self._errors)
            if outside is not None and outside is not error:
                raise outside
            return None
        finally:
            del outside, error  # their tracebacks refer to this frame


TaskGroup.__module__ = "ae_core"
