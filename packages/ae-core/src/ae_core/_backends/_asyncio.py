"""asyncio, and everything that is asyncio underneath: uvloop, winloop, Tornado, Jupyter.

A loop that already runs hosts us; its own end is our end. Without one we make a loop, and run it
only while ``recv()`` blocks.
"""

from __future__ import annotations

__all__ = ("AsyncioBackend", "start_in_group", "wait_in_task")

import asyncio
import selectors
import sys
import time
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Final

from .._base.descriptors import check_open, check_select
from .._base.errors import BlockingNotAllowed, CancelledError
from .._base.log import log
from .._base.signal_errors import is_ours, repeatable
from .._loop.backend import Backend, Waitable
from ._select_thread import SelectThread
from ._uvloop_polls import UvloopPolls

# What a loop that cannot be run inside a callback has.
_RUN_ONCE: Final = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]
_RUN_FOREVER: Final = asyncio.BaseEventLoop.run_forever
# What run_until_complete() says if stop() was called, of asyncio and of those that take its place.
_STOPPED: Final = "Event loop stopped before"


class AsyncioBackend(Backend):
    """The loop that runs in this thread, or one of our own.

    Args:
        on_deadline: As in :class:`Backend`.
        loop_factory: Makes the loop if none runs, such as ``uvloop.new_event_loop``.
        loop: A loop that the program will run itself.
        select_thread: Watch descriptors from a thread, as is done by itself for loops without
            ``add_reader`` (the proactor loop of Windows).
    """

    name = "asyncio"

    def __init__(
        self,
        on_deadline: Callable[[], None],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        select_thread: bool = False,
    ) -> None:
        super().__init__(on_deadline)
        running = asyncio._get_running_loop()
        self._ours = running is None and loop is None
        if running is not None:
            self._loop = running
        elif loop is not None:
            self._loop = loop
        elif loop_factory is None and (of_twisted := _loop_of_twisted()) is not None:
            self._loop = of_twisted
            self._ours = False
        else:
            self._loop = (loop_factory or asyncio.new_event_loop)()
        self._threaded: SelectThread | UvloopPolls | None = None
        if select_thread or type(self._loop).add_reader is asyncio.AbstractEventLoop.add_reader:
            self._threaded = SelectThread(self._loop.call_soon_threadsafe, self._refuse)
            self.prompt_io = False
        elif type(self._loop).__module__ == "uvloop":
            self._threaded = UvloopPolls(self._loop)
        selector = getattr(self._loop, "_selector", None)
        self._selects = isinstance(selector, selectors.SelectSelector)
        self._timer: asyncio.TimerHandle | None = None
        self._at: float | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._forked = False
        self._close_of_loop: Any = None  # the loop's close() that tells us, if it is ours
        self._follow_the_end()
        self._others: Callable[..., object] | None = None  # the program's exception handler

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop underneath."""
        return self._loop

    # ------------------------------------------------------------------ waiting

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> tuple[int, bool]:
        if self._selects:
            check_open(fd)
            check_select(fd, "the loop")
        # the core multiplexes: one reader and one writer per descriptor is all asyncio allows
        if self._threaded is not None:
            self._threaded.start(fd, write, callback)
            return (fd, write)
        loop = self._loop
        watch = loop.add_writer if write else loop.add_reader
        if not isinstance(loop, asyncio.BaseEventLoop):
            watch(fd, callback)  # as winloop, which cannot be run inside a callback
            return (fd, write)
        kind: Any = type(loop)

        def ready() -> None:
            if kind._run_once is not _RUN_ONCE or kind.run_forever is not _RUN_FOREVER:
                # nest_asyncio, or Qt below: a loop may run inside the callback. A handle enters its
                # context, and cannot be called again meanwhile: that takes another one.
                watch(fd, ready)
            callback()

        watch(fd, ready)
        return (fd, write)

    def io_stop(self, token: tuple[int, bool]) -> None:
        fd, write = token
        if self._threaded is not None:
            self._threaded.stop(fd, write)
        elif not self._loop.is_closed():
            try:
                if write:
                    self._loop.remove_writer(fd)
                else:
                    self._loop.remove_reader(fd)
            except OSError as error:
                # Closed while both directions were watched: asyncio changes what the kernel has
                # forgotten, and forgets the descriptor.
                log("trace", "asyncio, descriptor %d: %s", fd, error)

    def _refuse(self, fd: int, write: bool, error: OSError) -> None:
        if self.on_refused is not None:
            self.on_refused(fd, write, error)

    def arm(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = at
        if at is not None:
            # by distance, not by time: uvloop counts by another clock
            self._timer = self._loop.call_later(max(at - time.monotonic(), 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._at is not None and self._at > time.monotonic():
            self.arm(self._at)  # uvloop's timers run up to 0.33 ms early
        else:
            self.on_deadline()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)

    # ------------------------------------------------------------------ running

    def run_until(self, done: Callable[[], bool]) -> None:
        if self.running():
            raise BlockingNotAllowed(
                "recv() would block the running asyncio loop: use 'await cv' or a callback"
            )
        while not done():
            # resolved by wake(). run_forever() with call_soon(stop) would spin instead.
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            self._others = self._loop.get_exception_handler()
            self._loop.set_exception_handler(self._on_error)
            try:
                self._loop.run_until_complete(waiter)
            except BaseException as error:
                if isinstance(error, RuntimeError) and str(error).startswith(_STOPPED):
                    return  # so the wait is over
                self._leave()
                raise
            finally:
                self._loop.set_exception_handler(self._others)
                self._waiters.remove(waiter)
                if not waiter.done():
                    waiter.cancel()
                if self.on_run_ended is not None:
                    self.on_run_ended()

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Called by the loop: something has escaped a callback."""
        error = context.get("exception")
        if isinstance(error, BaseException) and is_ours(error):
            self.escaped(error)
        elif self._others is None:
            loop.default_exception_handler(context)
        else:
            self._others(loop, context)

    def _leave(self) -> None:
        """Finish what asyncio does at the end of a run, if an exception has broken that off."""
        if getattr(self._loop, "_thread_id", None) is not None:
            self._loop._thread_id = None  # type: ignore[attr-defined]
            asyncio._set_running_loop(None)

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def poll(self, block: bool) -> None:
        if not block:
            self._loop.call_soon(self.wake)
        turns = iter((False, True))
        self.run_until(lambda: next(turns, True))

    def running(self) -> bool:
        return self._loop.is_running()

    def usable(self) -> bool:
        if self._forked or self._loop.is_closed():
            return False
        running = asyncio._get_running_loop()
        return running is None or running is self._loop

    def ended(self) -> bool:
        return self._forked or self._loop.is_closed()

    def _follow_the_end(self) -> None:
        """Have the loop's close() tell us before it closes anything."""
        loop: Any = self._loop
        close = loop.close
        this = weakref.ref(self)

        def tell_and_close() -> None:
            backend = this()
            if backend is not None and backend.on_ended is not None and not loop.is_running():
                backend.on_ended(True)
            close()

        with suppress(AttributeError):  # a class without attributes: found out at the next watcher
            loop.close = self._close_of_loop = tell_and_close

    def close(self) -> None:
        told = self._close_of_loop
        if told is not None and getattr(self._loop, "__dict__", {}).get("close") is told:
            del self._loop.close
        if self._threaded is not None:
            self._threaded.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ours and not self._loop.is_closed() and not self._loop.is_running():
            self._loop.close()

    def after_fork(self) -> None:
        # Not even closed: that would take its self-pipe out of the selector, which both
        # processes have, and the parent's loop could not be woken any more.
        self._forked = True

    # ------------------------------------------------------------------ coroutines

    def spawn(self, coroutine: Coroutine[Any, Any, Any], task: Any) -> bool:
        if self._loop.get_task_factory() is None:
            host = self._loop.create_task(_translate(coroutine), context=task._context)
        else:
            # An eager one would begin inside this call, one of the old form takes no context:
            # the task copies ours, which nothing else has.
            host = task._context.run(self._loop.create_task, _in_a_later_turn(coroutine))
        _follow(task, host)
        return True

    def statistics(self) -> dict[str, object]:
        return {"loop": type(self._loop).__module__}


def _loop_of_twisted() -> asyncio.AbstractEventLoop | None:
    """Return the loop below Twisted's asyncio reactor, if that is installed."""
    reactor = sys.modules.get("twisted.internet.reactor")
    loop: asyncio.AbstractEventLoop | None = getattr(reactor, "_asyncioEventloop", None)
    return loop


class Cancelled(asyncio.CancelledError, CancelledError):
    """A cancellation in asyncio: either class catches it."""


Cancelled.__name__ = Cancelled.__qualname__ = "CancelledError"

# asyncio carries the message of Task.cancel() to where the task waits, so it tells our cancel()
# from that of asyncio.timeout(), of a TaskGroup or of other code. Those compare classes by
# identity before 3.13: what they have raised must come back to them unchanged.
_BY_US = "the task was cancelled"
_BY_IDENTITY = sys.version_info < (3, 13)


async def _translate(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run *coroutine*; our cancellation that escapes it becomes asyncio's."""
    try:
        return await coroutine
    except CancelledError as error:
        if isinstance(error, Cancelled):
            raise
        raise Cancelled(*error.args) from error


async def _in_a_later_turn(coroutine: Coroutine[Any, Any, Any]) -> Any:
    await asyncio.sleep(0)
    return await _translate(coroutine)


def _leaves_a_task_group() -> bool:
    """Return whether the code that waits stands in the block of an ``asyncio.TaskGroup``."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not _translate.__code__:
        if any(map(_is_task_group, frame.f_locals.values())):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_task_group(value: object) -> bool:
    kind = type(value)
    ours = kind.__name__ == "TaskGroup" and kind.__module__ == "ae_core"
    return ours or isinstance(value, asyncio.TaskGroup)


def start_in_group(group: asyncio.TaskGroup, task: Any) -> None:
    """Start the coroutine of *task* in a task group of asyncio."""
    host = task._context.run(group.create_task, _in_a_later_turn(task._coroutine))
    _follow(task, host)


def _follow(task: Any, host: asyncio.Task[Any]) -> None:
    """Have *task* cancel *host*, and end as that does."""
    task.be_driven(partial(host.cancel, _BY_US))
    host.add_done_callback(lambda host: _finish(task, host))


def _finish(task: Any, host: asyncio.Task[Any]) -> None:
    if host.cancelled():
        task._coroutine.close()  # cancelled before its first step, it never began
        task._finish(None, CancelledError("the task was cancelled"))
    elif (error := host.exception()) is not None:
        task._finish(None, error)
    else:
        task._finish(host.result(), None)


def wait_in_task(condvar: Waitable) -> Generator[Any, Any, None]:
    """Wait in a task of asyncio, until *condvar* is ready or the task is cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @repeatable
    def wake(_: Waitable) -> None:
        if not future.done():
            future.set_result(None)

    condvar._add_waker(wake)
    try:
        yield from future
    except asyncio.CancelledError as error:
        if not error.args or error.args[0] is not _BY_US:
            raise
        if _BY_IDENTITY and _leaves_a_task_group():
            raise
        raise Cancelled(_BY_US) from None
    finally:
        condvar._forget_wake(wake)
