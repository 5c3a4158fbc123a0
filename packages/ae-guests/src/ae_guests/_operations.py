"""``start_asyncio``: coroutines of asyncio as operations of a program that waits otherwise."""

from __future__ import annotations

__all__ = ("async_slot", "start_asyncio")

import asyncio
import functools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import ae_core as ae
from ae_core.abc import ThreadLocal

from ._loop import NO_HOSTS, GuestLoop

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
P = ParamSpec("P")


class _Thread(ThreadLocal):
    """The guest loop that serves this thread's operations, while there are any."""

    guest: _Guest | None = None


_thread = _Thread()


class Operation(ae.CondVar[T]):
    """A task of the guest loop; ready when the task has ended."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[T]) -> None:
        super().__init__(cancel=task.cancel, describe=functools.partial(_describe, task))
        self._task = task

    def cancel(self) -> None:
        """Ask the task to stop; ``ready`` and ``cancelled`` become true when it has cleaned up."""
        if not self.ready:
            self._task.cancel()

    def _give_up(self) -> None:
        super().cancel()

    def _take(self, task: asyncio.Task[T]) -> None:
        """Called by asyncio when *task* has ended."""
        if task.cancelled():
            super().cancel()
            return
        error = task.exception()
        if error is None:
            self.send(task.result())
        else:
            self.throw(error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                _ = self.error  # read, so that it is not logged: it has left by the host's loop


def _describe(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f"asyncio task {getattr(coroutine, '__qualname__', coroutine)}"


class _Guest:
    """One guest loop and the operations that it serves."""

    def __init__(self) -> None:
        self.loop = GuestLoop()
        self.operations: set[Operation[Any]] = set()
        self.loop._begin(self._stopped)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Operation[T]:
        task = self.loop.create_task(coroutine)
        operation = Operation(task)
        self.operations.add(operation)
        task.add_done_callback(functools.partial(self._ended, operation))
        return operation

    def _ended(self, operation: Operation[Any], task: asyncio.Task[Any]) -> None:
        self.operations.discard(operation)
        if not self.operations and _thread.guest is self:
            _thread.guest = None  # what is started from now on gets a loop of its own
            self.loop._shut_down()
        operation._take(task)

    def _stopped(self) -> None:
        if _thread.guest is self:
            _thread.guest = None
        self.loop._end()
        self.loop.close()
        for operation in self.operations:  # tasks that did not end in time with the host
            operation._give_up()


def start_asyncio(coroutine: Coroutine[Any, Any, T], *, debug: bool | None = None) -> ae.CondVar[T]:
    """Run *coroutine* as a task of asyncio inside the loop that serves this thread.

    The host's loop may run already or be run later: the task starts in a later turn of it. Any
    number may be started; those of one thread share one guest loop, which is closed, after what
    they have left behind has been cancelled, when the last one has ended.

    Args:
        coroutine: May await whatever asyncio can.
        debug: asyncio's debug mode for the guest loop; ``None`` leaves it as it is.

    Returns:
        An operation: its value is the coroutine's, its error the coroutine's, and ``cancel()``
        cancels the task, as the cancellation of its last awaiter does. It need not be held.

    Raises:
        TypeError: If *coroutine* is no coroutine object.
        RuntimeError: In a program of trio, which cannot be the host of a guest.
    """
    if not isinstance(coroutine, Coroutine):
        raise TypeError(f"expected a coroutine object, got {coroutine!r}")
    host = ae.detect().name
    if host == "asyncio":
        return ae.spawn(coroutine)
    if host in NO_HOSTS:
        coroutine.close()
        raise RuntimeError(
            "trio cannot be the host of an asyncio guest: use asyncio, or trio alone"
        )
    guest = _thread.guest
    if guest is None or guest.loop._host_ended:
        guest = _thread.guest = _Guest()
    if debug is not None:
        guest.loop.set_debug(debug)
    return guest.start(coroutine)


def async_slot(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, ae.CondVar[T]]:
    """Make a plain callback of a coroutine function: each call starts it.

    For signals of Qt, commands of Tk and the like. What the coroutine raises goes to
    ``ae_core.exception_hook``.

    Example:
        >>> @async_slot
        ... async def clicked() -> None:
        ...     await asyncio.sleep(1)
    """

    @functools.wraps(function)
    def slot(*args: P.args, **options: P.kwargs) -> ae.CondVar[T]:
        operation = start_asyncio(function(*args, **options))
        operation.on_ready(_report)
        return operation

    return slot


def _report(operation: ae.CondVar[Any]) -> None:
    if not operation.cancelled and operation.error is not None:
        ae.report_error(operation.error)
