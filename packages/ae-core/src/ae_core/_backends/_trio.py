"""trio: our watchers live in a run of trio, as system tasks.

trio cannot be blocked from inside and has no loop without a run: ``recv()`` is never possible,
``await cv`` always is. ``ae_core.run(main())`` is ``trio.run``.
"""

from __future__ import annotations

__all__ = ("TrioBackend", "start_in_nursery", "wait_in_task")

import math
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import TrioToken

from .._base.errors import BackendUnavailable, BlockingNotAllowed, CancelledError
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from .._loop.backend import Waitable

if not hasattr(trio.lowlevel, "in_trio_run"):
    raise BackendUnavailable(
        f"backend 'trio' needs trio 0.29 or later, and {trio.__version__} is installed"
    )

# Theory of operation
# -------------------
# One task per descriptor and direction waits, calls, and waits again. A cancelled task
# ends at its next checkpoint only, so it looks whether it was stopped before each call. The
# deadline is one more task, which sleeps in a cancel scope whose deadline is moved.
#
# An exception that leaves a system task, or a call of run_sync_soon, kills the run with
# TrioInternalError. Callbacks of the core raise nothing but KeyboardInterrupt and SystemExit;
# `_guard` takes these out by way of the main task if the run is ours. If it is the program's, the
# main task is cancelled, and the run then ends as if that had raised them. (Raised in the main
# task itself they would come out of its nurseries as a group.)
#
# run_sync_soon() writes to a socket, which trio reads a turn later. So what is called in the next
# turn is called by one more task of ours. Who makes it ready reschedules it, but only from within a
# step of another task: the host of a guest run calls us in between, and what the garbage collector
# finalizes may do so at any moment, as while trio takes the tasks of a turn off its queue.
#
# When the main task has ended trio cancels all system tasks. Ours are shielded from that:
# the clean-up of the program's tasks still has its timers, descriptors and calls. One of ours waits
# until none of the program's is left, tells the end of the loop, and ends the others.
#
# A task that waits for a condition variable is not rescheduled as soon as that is ready, but in
# the next turn: a task that is rescheduled cannot be cancelled, and until then the value can still
# go to another awaiter.


#: What the names of our own tasks begin with; not of those in which coroutines run.
_OURS: Final = "ae_core loop: "


class _Watch:
    """The task that watches one direction of one descriptor."""

    __slots__ = ("callback", "fd", "scope", "stopped", "write")

    def __init__(self, fd: int, write: bool, callback: Callable[[], None]) -> None:
        self.fd = fd
        self.write = write
        self.callback = callback
        self.scope = trio.CancelScope(shield=True)
        self.stopped = False


class TrioBackend(Backend):
    """The run of trio that is active in this thread, or will be."""

    name = "trio"
    own_run = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        self._token: TrioToken | None = None
        self._soon: deque[Callable[[], None]] = deque()  # to be called in the next turn
        self._caller: list[trio.lowlevel.Task] = []  # the task that calls them, while it waits
        self._caller_ended = False
        self._deadline = math.inf  # on trio's clock
        self._sleep: trio.CancelScope | None = None
        self._main: trio.CancelScope | None = None  # of a run that is ours
        self._leave: BaseException | None = None  # what it has to raise
        self._leaving = False  # the program's run is about to end
        self._watches: set[_Watch] = set()
        self._serving = trio.CancelScope(shield=True)  # of the task that makes the calls
        self._over = False  # the run, and all tasks of the program
        self._finished = False
        if trio.lowlevel.in_trio_run():
            self._enter()

    def _enter(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        trio.lowlevel.spawn_system_task(self._keep_time, name=f"{_OURS}deadline")
        trio.lowlevel.spawn_system_task(self._make_calls, name=f"{_OURS}calls")
        trio.lowlevel.spawn_system_task(self._follow_run, name=f"{_OURS}end")

    def _inside(self) -> TrioToken:
        if self._token is None:
            if not trio.lowlevel.in_trio_run():
                raise RuntimeError(
                    "trio has no loop outside a run: start one by ae_core.run(main()) or trio.run"
                )
            self._enter()
        assert self._token is not None
        return self._token

    def _guard(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except (KeyboardInterrupt, SystemExit) as error:
            if self._main is not None:
                self._leave = error
                self._main.cancel()
            elif not self._leaving:
                self._leaving = True
                if _runner().main_task_outcome is not None:
                    _end_by(error)  # system tasks cannot be started any more
                else:
                    trio.lowlevel.spawn_system_task(self._end_run, error, name="ae_core end")

    async def _end_run(self, error: BaseException) -> None:
        """End the run, which is the program's, by *error* instead of what its main task returns."""
        # the innermost nursery of the root task has the main task in it, and nothing else
        trio.lowlevel.current_root_task().child_nurseries[-1].cancel_scope.cancel()  # type: ignore[union-attr]
        try:
            await trio.sleep_forever()
        finally:  # system tasks are cancelled when the main task has ended
            _end_by(error)

    # ------------------------------------------------------------------ waiting

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> _Watch:
        self._inside()
        watch = _Watch(fd, write, callback)
        self._watches.add(watch)
        trio.lowlevel.spawn_system_task(self._watch, watch, name=f"{_OURS}descriptor {fd}")
        return watch

    async def _watch(self, watch: _Watch) -> None:
        wait = trio.lowlevel.wait_writable if watch.write else trio.lowlevel.wait_readable
        try:
            with watch.scope:
                while not watch.stopped:
                    try:
                        await wait(watch.fd)
                    except trio.ClosedResourceError:
                        return  # notify_closing(): trio's own way to say that it is closed
                    except trio.BusyResourceError:
                        # a stopped task of ours, or one of the program, still waits for it
                        await trio.sleep(0)
                        continue
                    except OSError as error:
                        if not watch.stopped and self.on_refused is not None:
                            self.on_refused(watch.fd, watch.write, error)
                        return
                    if not watch.stopped:
                        self._guard(watch.callback)
        finally:
            self._watches.discard(watch)

    def io_stop(self, token: _Watch) -> None:
        token.stopped = True
        if self.usable():
            token.scope.cancel()

    def arm(self, at: float | None) -> None:
        self._inside()
        if at is None:
            self._deadline = math.inf
        else:
            self._deadline = trio.current_time() + (at - time.monotonic())
        if self._sleep is not None:
            self._sleep.deadline = self._deadline

    async def _keep_time(self) -> None:
        while not self._over:
            with trio.CancelScope(deadline=self._deadline, shield=True) as self._sleep:
                await trio.sleep_forever()
            if not self._over:
                self._deadline = math.inf
                self._guard(self.on_deadline)

    async def _follow_run(self) -> None:
        """Wait for the end of the run, tell it, and end our other tasks."""
        try:
            await trio.sleep_forever()
        finally:  # system tasks are cancelled when the main task has ended
            with trio.CancelScope(shield=True):
                await _others_have_ended()
            self._make_round()  # what the clean-up has postponed
            self._end()
            self._over = True
            if self._sleep is not None:
                self._sleep.cancel()
            self._serving.cancel()
            for watch in self._watches:
                watch.stopped = True
                watch.scope.cancel()

    def _end(self) -> None:
        if not self._finished and self.on_ended is not None:
            self._guard(partial(self.on_ended, True))
        self._finished = True

    def call_soon(self, callback: Callable[[], None]) -> None:
        token = self._inside()
        if self._caller_ended:
            token.run_sync_soon(self._guard, callback)
            return
        self._soon.append(callback)
        if self._caller:
            lowlevel = trio.lowlevel
            if lowlevel.in_trio_task() and lowlevel.current_task() not in self._caller:
                self._wake_caller()
            else:
                token.run_sync_soon(self._wake_caller)

    def serves(self, token: TrioToken) -> bool:
        """Whether this is the run of that token, and makes calls."""
        return self._token is token and not self._caller_ended

    def _wake_caller(self) -> None:
        try:
            caller = self._caller.pop()  # one step, which no signal handler divides
        except IndexError:
            return  # it is awake
        trio.lowlevel.reschedule(caller)

    async def _make_calls(self) -> None:
        """Make the calls of ``call_soon``."""
        soon = self._soon
        task = trio.lowlevel.current_task()
        try:
            with self._serving:
                while True:
                    self._make_round()
                    if not soon:
                        self._caller.append(task)  # first: a signal handler may add a call
                        if not soon:
                            await trio.lowlevel.wait_task_rescheduled(self._stop_calls)
                            continue
                        self._caller.clear()
                    await trio.lowlevel.checkpoint()
        finally:  # trio makes calls until its last moment
            self._caller_ended = True
            while soon:
                self._inside().run_sync_soon(self._guard, soon.popleft())

    def _make_round(self) -> None:
        for _ in range(len(self._soon)):  # what is added meanwhile is for the next turn
            self._guard(self._soon.popleft())

    def _stop_calls(self, _: object) -> trio.lowlevel.Abort:
        self._caller.clear()
        return trio.lowlevel.Abort.SUCCEEDED

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        token = self._token
        if token is None:
            raise RuntimeError("trio has not run yet")
        try:
            token.run_sync_soon(self._guard, callback)
        except trio.RunFinishedError:
            raise RuntimeError("the trio run has ended") from None

    # ------------------------------------------------------------------ running

    def run_until(self, done: Callable[[], bool]) -> None:
        if not done():
            raise BlockingNotAllowed(
                "trio cannot be run by recv(): use 'await cv' in ae_core.run(main()) or trio.run"
            )

    def wake(self) -> None:
        return None  # nothing of ours ever blocks

    def poll(self, block: bool) -> None:
        raise BlockingNotAllowed("trio cannot be run turn by turn")

    def running(self) -> bool:
        return self._token is not None

    def usable(self) -> bool:
        if self._finished:
            return False
        if self._token is None:
            if trio.lowlevel.in_trio_run():
                self._enter()  # bound before the run, whose end is told from now on
            return True
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def ended(self) -> bool:
        return self._finished

    def close(self) -> None:
        self._finished = True

    # ------------------------------------------------------------------ coroutines

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def main() -> Any:
            self._inside()
            with trio.CancelScope() as self._main:
                return await coroutine

        try:
            result = trio.run(main)
        finally:
            self._main = None
            self._finished = True
        if self._leave is not None:
            leave, self._leave = self._leave, None
            raise leave
        return result

    def spawn(self, coroutine: Coroutine[Any, Any, Any], task: Any) -> bool:
        self._inside()
        scope = trio.CancelScope()
        task.be_driven(scope.cancel)

        async def drive() -> None:
            value: Any = None
            error: BaseException | None = CancelledError("the task was cancelled")
            try:
                with scope:
                    if not scope.cancel_called:  # else it never runs
                        value = await coroutine
                        error = None
            except BaseException as problem:
                ends, rest = _split(problem)
                if rest is not None:
                    error = rest
                if ends is not None:
                    raise ends from None  # the run ends, and all its tasks with it
            finally:
                coroutine.close()
                self._guard(lambda: task._finish(value, error))

        trio.lowlevel.spawn_system_task(drive, name="ae_core task", context=task._context)
        return True


async def _others_have_ended() -> None:
    """Wait until no system task but those of the backends is left."""
    task = trio.lowlevel.current_task()
    left = _others(task)
    if left:
        trio.lowlevel.add_instrument(exits := _Exits(task, left))
        try:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        finally:
            trio.lowlevel.remove_instrument(exits)


def _others(task: trio.lowlevel.Task) -> set[trio.lowlevel.Task]:
    nursery = task.parent_nursery
    assert nursery is not None
    return {each for each in nursery.child_tasks if not each.name.startswith(_OURS)}


class _Exits(trio.abc.Instrument):
    """Reschedules *task* when the others have ended, with those that they have started."""

    def __init__(self, task: trio.lowlevel.Task, left: set[trio.lowlevel.Task]) -> None:
        self._task = task
        self._left = left

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if task in self._left:
            self._left.discard(task)
            self._left = self._left or _others(self._task)
            if not self._left:
                trio.lowlevel.reschedule(self._task)


def _runner() -> Any:
    run: Any = trio._core._run
    return run.GLOBAL_RUN_CONTEXT.runner


def _end_by(error: BaseException) -> None:
    """Have the run raise *error* instead of what its main task has come to, which has ended."""
    from outcome import Error  # trio needs it

    _runner().main_task_outcome = Error(error)


def start_in_nursery(nursery: trio.Nursery, task: Any) -> None:
    """Start the coroutine of *task* in a nursery of the program's."""
    scope = trio.CancelScope()
    task.be_driven(scope.cancel)
    coroutine = task._coroutine

    async def drive() -> None:
        value: Any = None
        error: BaseException = CancelledError("the task was cancelled")
        ended = False
        try:
            with scope:
                if not scope.cancel_called and not nursery.cancel_scope.cancel_called:
                    value = await coroutine
                    ended = True
        except CancelledError:
            return  # of something that it awaited: no failure of the group
        except BaseException as problem:
            rest = _split(problem)[1]
            if rest is not None:
                error = rest
            raise
        finally:
            coroutine.close()
            task._finish(value, None if ended else error)

    task._context.run(nursery.start_soon, drive)


def _split(
    error: BaseException,
) -> tuple[BaseException | None, BaseException | None]:
    """Return the part of *error* that is trio's cancellation, and the rest."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)


def wait_in_task(condvar: Waitable, backend: Backend | None) -> Generator[Any, Any, None]:
    """Wait in a task of trio, until *condvar* is ready or its scope is cancelled.

    Args:
        backend: That of the thread's loop, which may be another one than the run of the task.
    """
    if condvar.ready:
        yield from trio.lowlevel.checkpoint().__await__()
        return
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()
    waiting = True

    def resume() -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            trio.lowlevel.reschedule(task)

    def wake(_: Waitable) -> None:
        if isinstance(backend, TrioBackend) and backend.serves(token):
            backend.call_soon(resume)
        else:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(resume)

    def abort(_: Any) -> trio.lowlevel.Abort:
        nonlocal waiting
        waiting = False
        condvar._forget_wake(wake)
        return trio.lowlevel.Abort.SUCCEEDED

    condvar._add_waker(wake)
    yield from trio.lowlevel.wait_task_rescheduled(abort).__await__()
