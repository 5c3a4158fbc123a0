"""An asyncio loop that is a guest: another loop, found or chosen by ``ae_core``, does its waiting.

Everything but the waiting is Python's own: sockets, transports, TLS, pipes, executors, debug mode.
Here stand a turn of the guest and what asks the host for one; signals and children are those of
``ProcessEvents``.
"""

from __future__ import annotations

__all__ = ("GuestLoop",)

import asyncio
import heapq
import os
import sys
from asyncio import events, tasks
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae
from ae_core.abc import original

from ._process_events import ProcessEvents
from ._selector import watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

# Theory of operation
# -------------------
# The guest keeps its own selector, and the host watches the selector's descriptor: epoll and
# kqueue are readable when something registered in them is. So a descriptor costs the host
# nothing, whatever the host is; a watcher per descriptor costs 1.3 to 5.9 times as much.
#
# The host calls `_serve` when the selector is readable, when the guest's earliest timer is due,
# and when code outside of the guest's turns has given it something to do. `_serve` makes turns as
# long as there is work, 5 ms at most, and then returns to the host.
#
# One turn is what asyncio's `_run_once` does, with two differences. It is divided: what is left of
# a turn, after 5 ms or because a nested loop came between, is counted in `_left` and done before
# the next turn begins. And it may be entered again: where a callback opens a nested loop of the
# host (a modal dialog), the running task is left, the guest goes on inside, and the task is
# entered again before the callback goes on. Most hosts do not say that a nested loop began, so
# each `_serve` leaves a timer with the host, the probe, which only a nested loop can ever run.
#
# When the host ends, the guest's tasks are cancelled, and ae_core's built-in loop is the host until
# they have cleaned up (`_host_ends`), as it is of whatever this loop is to run afterwards. If the
# end comes inside a callback of the guest, that one returns first.

#: asyncio needs no guest of its own kind; trio's host loop does not allow others to wait inside it.
NO_HOSTS: Final = ("asyncio", "trio")
#: How long the guest keeps the host waiting, in seconds.
LONGEST_SERVICE: Final = 0.005
#: The host is not asked for a shorter wait, in seconds: asyncio's own loop rounds up to the same,
#: and serves timers that are closer together in one turn.
SHORTEST_WAIT: Final = 0.001
#: So many callbacks run between two looks at the clock.
CALLS_PER_LOOK: Final = 32
#: How long clean-up may take after the end of the host, in seconds.
CLEAN_UP_PATIENCE: Final = 10.0
#: Cancelled timers are swept out when there are more than so many, and more than half of all.
MANY_TIMERS: Final = 100

_get_ident = original("_thread", "get_ident")  # and not of a greenlet

#: The guests of this process whose callbacks are on the stack, once for each call.
_serving: list[GuestLoop] = []
#: True in a child that was forked inside a guest's callback: the host is on the stack there and
#: is never returned to, so a loop of that child waits by itself, as asyncio's own does.
_forked_inside = False


def _after_fork_in_child() -> None:
    global _forked_inside
    if _serving:
        _forked_inside = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# What asyncio's own loop classes share with each other has no types, and stays as it is for years.
_events: Any = events
_tasks: Any = tasks
_base_events: Any = asyncio.base_events


class GuestLoop(ProcessEvents):
    """asyncio's selector loop, waiting in the loop that ``ae_core`` is bound to in this thread."""

    # asyncio's own
    _thread_id: int | None
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _current_handle: Any

    def __init__(self, selector: Any = None, *, backend: str | None = None) -> None:
        super().__init__(selector)
        self._backend_name = backend
        self._depth = 0  # how many _serve() are on the stack
        self._left = 0  # callbacks of the turn under way that were not run yet
        self._wanted = False  # a turn has been asked for and has not begun
        self._told = False  # another thread's byte has been written and not been read
        self._host_timer: Any = None  # the watcher of the earliest timer ...
        self._host_timer_at = 0.0  # ... and its time
        self._soon: Any = None  # the watcher that begins the turn asked for
        self._watch: Any = None  # ends the watching of the selector
        self._on_stop: Callable[[], None] | None = None
        self._end_watcher: Any = None  # calls back at the host's end
        self._host_ended = False
        self._leaving = False  # ... inside a callback of ours, which has to return first
        self._closing: asyncio.Task[None] | None = None  # cancels what is left and cleans up

    # ------------------------------------------------------------------ running

    def run_forever(self) -> None:
        """Run until :meth:`stop` is called; the host runs meanwhile."""
        self._check_closed()
        self._check_running()
        if _forked_inside:
            super().run_forever()
            return
        if self._host_ended:
            self._run_aside()
            return
        if self._backend_name is not None:
            ae.use(self._backend_name)
        if ae.detect().name in NO_HOSTS:
            raise RuntimeError(
                f"{ae.detect().name} cannot be the host of an asyncio guest "
                f"({ae.detect().reason}); use asyncio's own loop, or another backend"
            )
        self._run_blocking()

    def _run_blocking(self, timeout: float | None = None) -> None:
        """Be a guest of the thread's loop until :meth:`stop` is called."""
        stopped: ae.CondVar[None] = ae.CondVar()
        self._begin(stopped.send)
        try:
            stopped.recv(timeout)
        finally:
            self._end()

    def _run_aside(self, timeout: float | None = None) -> None:
        """Do the same when the host has ended, with the built-in loop in its place."""
        with ae.abc.aside("loop"):
            self._watch_anew()
            self._run_blocking(timeout)

    def _begin(self, on_stop: Callable[[], None]) -> None:
        """Have the host watch the selector, and make the first turn soon."""
        self._thread_id = _get_ident()
        self._on_stop = on_stop
        self._told = False  # in a forked child the parent may have read the byte
        ae.abc.add_guest(self)
        try:
            self._end_watcher = ae.abc.at_loop_end(self._host_ends)
            self._watch = watch(self._selector, self._serve)
        except BaseException:
            self._end()
            raise
        self._ask()

    def _end(self) -> None:
        """Stop being a guest: the host watches nothing of ours any more."""
        self._stopping = False
        self._thread_id = None
        self._on_stop = None
        self._left = 0
        for name in ("_soon", "_host_timer", "_end_watcher"):
            watcher = getattr(self, name)
            if watcher is not None:
                watcher.cancel()
                setattr(self, name, None)
        self._wanted = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def stop(self) -> None:
        """End :meth:`run_forever` after the turn under way, as asyncio does."""
        super().stop()
        if not self._depth:
            self._ask()

    # ------------------------------------------------------------------ the end

    def _host_ends(self) -> None:
        """Called when the loop that serves the thread ends: so do the tasks here."""
        self._host_ended = True
        if self._depth:
            # no callback begins any more; when those on the stack have returned, _serve goes on
            self._leaving = True
            self._left = 0
            self._stopping = True
        else:
            self._clean_up()

    def _clean_up(self) -> None:
        """Cancel what is left, with the built-in loop as the host until that has cleaned up."""
        self._leaving = False
        on_stop = self._on_stop
        self._end()
        running = _events._get_running_loop()
        _events._set_running_loop(None)
        try:
            self._shut_down(at_once=True)
            end = self.time() + CLEAN_UP_PATIENCE
            while self._closing is not None:  # run_until_complete's own stop() may come before
                self._run_aside(max(end - self.time(), 0.0))
        except TimeoutError:
            self.call_exception_handler(
                {
                    "message": f"{len(tasks.all_tasks(self))} tasks have not ended within "
                    f"{CLEAN_UP_PATIENCE:g} s after the end of their loop's host"
                }
            )
        finally:
            _events._set_running_loop(running)
            if on_stop is not None:
                on_stop()

    def _shut_down(self, *, at_once: bool = False) -> None:
        """Cancel the tasks that are left, clean up as ``asyncio.run`` does, and stop.

        If *at_once*, those that have not begun never begin.
        """
        if self._closing is None:
            self._closing = self.create_task(
                self._close_down(self._cancel_all() if at_once else None)
            )

    def _cancel_all(self) -> set[asyncio.Task[Any]]:
        running = tasks.current_task(self)
        left = {task for task in tasks.all_tasks(self) if task is not running}
        for task in left:
            task.cancel()
        return left

    async def _close_down(self, left: set[asyncio.Task[Any]] | None) -> None:
        if left is None:
            left = self._cancel_all()
        await tasks.gather(*left, return_exceptions=True)
        for task in left:
            if not task.cancelled() and task.exception() is not None:
                self.call_exception_handler(
                    {
                        "message": "unhandled exception while the guest loop was shut down",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
        await self.shutdown_asyncgens()
        await self.shutdown_default_executor()
        self._closing = None
        self.stop()

    # ------------------------------------------------------------------ scheduling

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """As in asyncio; wakes the guest if a callback of the host calls it."""
        if self._closed:
            self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        handle: Any = events.Handle(callback, args, self, context)
        if handle._source_traceback:
            del handle._source_traceback[-1]
        self._ready.append(handle)
        if not self._depth:
            self._ask()
        return handle

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        """As in asyncio; wakes the guest if a callback of the host calls it."""
        # not by super(), which takes twice as long
        if when is None:
            raise TypeError("when cannot be None")
        if self._closed:
            self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
        timer: Any = events.TimerHandle(when, callback, args, self, context)
        if timer._source_traceback:
            del timer._source_traceback[-1]
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        if not self._depth and self._scheduled[0] is timer:
            self._ask()
        return timer

    # One byte wakes the loop for all calls that other threads make until it is read: each is in the
    # ready queue before the byte is looked at, and that queue is looked at after the byte was read.
    # 10,000 calls from a thread take a fifth of the time that a byte for each takes.

    def _write_to_self(self) -> None:
        if not self._told:
            self._told = True
            super()._write_to_self()

    def _read_from_self(self) -> None:
        super()._read_from_self()
        self._told = False

    def _ask(self) -> None:
        """Have the host begin a turn: something has come from outside of the guest's turns."""
        if self._wanted or self._on_stop is None:
            return
        if _get_ident() != self._thread_id:
            self._write_to_self()  # called in another thread by mistake: works, as in asyncio
            return
        self._wanted = True
        self._soon = ae.timer(0, self._serve)

    # ------------------------------------------------------------------ turns

    def _serve(self) -> None:
        """Called by the host: make turns while there is work, 5 ms at most."""
        on_stop = self._on_stop
        if on_stop is None:
            return  # it has ended, or been stopped in this turn of the host
        outer = self._enter()
        probe = ae.timer(0, self._serve)
        self._wanted = False
        stopped: bool | None = None
        try:
            stopped = self._make_turns()
        finally:
            self._depth -= 1
            _serving.pop()
            probe.cancel()
            self._leave(outer)
            if stopped is None:  # KeyboardInterrupt or SystemExit: the host may go on all the same
                self._ask()
        if self._leaving:
            if not self._depth:
                self._clean_up()
            return
        if stopped and not self._depth:
            self._on_stop = None
            on_stop()
            return
        self._arm()

    def _make_turns(self) -> bool:
        """Make turns; return whether the loop has been stopped."""
        clock = self.time
        end = clock() + LONGEST_SERVICE
        ready = self._ready
        while True:
            if not self._left:
                self._collect()
                self._left = len(ready)
                if not self._left and not self._stopping:
                    return False
            if self._run(end):
                return False
            if self._stopping:
                return True
            if clock() >= end:
                return False

    def _collect(self) -> None:
        """Begin a turn: move to the ready queue what has happened and what is due."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > MANY_TIMERS // 2 and self._timer_cancelled_count * 2 > len(
            scheduled
        ):
            alive = []
            for timer in scheduled:
                if timer._cancelled:
                    timer._scheduled = False
                else:
                    alive.append(timer)
            heapq.heapify(alive)
            self._scheduled = scheduled = alive
            self._timer_cancelled_count = 0
        happened = self._selector.select(0)
        if happened:
            self._process_events(happened)
        if scheduled:
            due = self.time() + self._clock_resolution
            while scheduled and (scheduled[0]._when < due or scheduled[0]._cancelled):
                timer = heapq.heappop(scheduled)
                timer._scheduled = False
                if timer._cancelled:
                    self._timer_cancelled_count -= 1
                else:
                    self._ready.append(timer)

    def _run(self, end: float) -> bool:
        """Run what is left of the turn; return whether time is up before its end.

        Lets go of each handle: this frame lives on in the traceback of what a task has raised.
        """
        ready = self._ready
        until_look = CALLS_PER_LOOK
        while self._left > 0 and ready:
            self._left -= 1
            handle: Any = ready.popleft()
            if handle._cancelled:
                continue
            if self._depth > 1 or self._debug:
                self._run_carefully(handle)
            else:
                handle._run()
            until_look -= 1
            if not until_look:
                if self._left and self.time() >= end:
                    handle = None
                    return True
                until_look = CALLS_PER_LOOK
        handle = None
        self._left = 0
        return False

    def _run_carefully(self, handle: Any) -> None:
        """Run *handle* inside a nested loop, or in debug mode."""
        if self._depth > 1:
            try:
                handle._context.run(int)
            except RuntimeError:  # it is in use further up the stack
                handle._context = handle._context.copy()
        before = self._current_handle
        started = self.time()
        try:
            self._current_handle = handle
            handle._run()
            took = self.time() - started
            if self._debug and took >= self.slow_callback_duration:
                _base_events.logger.warning(
                    "Executing %s took %.3f seconds",
                    _base_events._format_handle(handle),
                    took,
                )
        finally:
            self._current_handle = before
            handle = None  # as in _run

    def _enter(self) -> tuple[Any, ...]:
        """Make this the running loop; return what :meth:`_leave` puts back."""
        self._depth += 1
        _serving.append(self)
        running = _events._get_running_loop()
        task = tasks.current_task(self) if running is self else None
        if task is not None:
            _tasks._leave_task(self, task)
        _events._set_running_loop(self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        depth = None
        if self._debug:
            depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(_base_events.constants.DEBUG_STACK_DEPTH)
        self._coroutine_origin_tracking_enabled = self._debug
        return running, task, hooks, depth

    def _leave(self, outer: tuple[Any, ...]) -> None:
        running, task, hooks, depth = outer
        if self._coroutine_origin_tracking_enabled:
            sys.set_coroutine_origin_tracking_depth(depth or 0)
        sys.set_asyncgen_hooks(*hooks)
        _events._set_running_loop(running)
        if task is not None:
            _tasks._enter_task(self, task)

    def _arm(self) -> None:
        """Have the host call ``_serve`` when there is, or will be, something to do."""
        if self._ready or self._stopping:
            self._ask()
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            if self._host_timer is not None:
                self._host_timer.cancel()
                self._host_timer = None
            return
        at = scheduled[0]._when
        if self._host_timer is not None:
            if self._host_timer_at == at:
                return
            self._host_timer.cancel()
        self._host_timer_at = at
        wait = at - self.time()
        if 0 < wait < SHORTEST_WAIT:
            wait = SHORTEST_WAIT
        self._host_timer = ae.timer(wait, self._timer_due)

    def _timer_due(self) -> None:
        self._host_timer = None
        self._serve()
