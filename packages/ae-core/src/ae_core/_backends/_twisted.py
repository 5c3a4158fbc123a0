"""Twisted: the reactor that the program has installed, of any kind.

``recv()`` runs it turn by turn while the program does not, and leaves it as if it had not run:
``run()`` and ``stop()`` stay the program's. The asyncio reactor is served by ``_asyncio``.
"""

from __future__ import annotations

__all__ = ("TwistedBackend", "wait_in_coroutine")

import os
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from .._base.descriptors import check_select, check_waitable
from .._base.errors import BlockingNotAllowed
from .._base.signal_errors import is_ours, repeatable
from .._base.wall_clock import WallClock
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .._loop.backend import Waitable
    from .._loop.state import LoopState


# Theory of operation
# -------------------
# The reactor plans by the wall clock. If that is set back, what was planned before would be called
# as much later. So each callback of ours is followed by a look at the clock, and so is each turn
# that we run. (What the clock does while the program runs the reactor, and none of our callbacks
# comes, is found out at the next one.)


class _Descriptor:
    """What a reactor calls a reader or writer: one object for both, it goes by the number."""

    __slots__ = ("__weakref__", "_backend", "_fd", "on_read", "on_write", "turn")

    def __init__(self, backend: TwistedBackend, fd: int) -> None:
        self._backend = backend
        self._fd = fd
        self.on_read: Callable[[], None] | None = None
        self.on_write: Callable[[], None] | None = None
        self.turn = 0  # in which the last call was

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        if self.on_read is not None and self._is_news():
            self._backend.guard(self.on_read)

    def doWrite(self) -> None:
        if self.on_write is not None and self._is_news():
            self._backend.guard(self.on_write)

    def _is_news(self) -> bool:
        """Return False if a turn inside this one has called already: it asked the system anew."""
        stale = self.turn > self._backend.turn
        self.turn = self._backend.turn
        return not stale

    def connectionLost(self, reason: Any) -> None:
        # a hang-up, after which the reactor has dropped us, or a descriptor that was closed
        self._backend._lost(self._fd, is_ours(reason.value))

    def logPrefix(self) -> str:
        return "ae_core"


class _Leaving:
    """An observer of the log that raises *error* again where the reactor catches and logs it.

    It stays installed: the reactor catches and logs twice. Other errors are ignored.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, event: dict[str, Any]) -> None:
        if _error_of(event) is self._error:
            raise self._error


def _error_of(event: dict[str, Any]) -> BaseException | None:
    """Return the exception that is logged."""
    failure = event.get("log_failure") or event.get("failure")  # the older way to log
    if failure is None or not isinstance(failure.value, BaseException):
        return None
    error: BaseException = failure.value
    return error.with_traceback(failure.getTracebackObject())


class TwistedBackend(Backend):
    """The installed reactor."""

    name = "twisted"
    nests = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._ours = False  # a run_until() runs the reactor, or was broken off before its end
        self._stopped = False  # for good: a reactor that was stopped never runs again
        system: Any = self._reactor
        self._trigger: Any = system.addSystemEventTrigger("after", "shutdown", self._on_shutdown)
        self._selects = type(reactor).__name__ == "SelectReactor"
        self._timer: Any = None
        self._at: float | None = None  # when it is due
        self._soon: Any = None  # the last call of call_soon()
        self._clock = WallClock(system.seconds)
        self._descriptors: dict[int, _Descriptor] = {}
        self._turns = 0
        self.turn = 0  # the one that runs

    def guard(self, callback: Callable[[], None]) -> None:
        """Call *callback*; what ends the program leaves the reactor, which would log it only."""
        try:
            callback()
        except (KeyboardInterrupt, SystemExit) as error:
            leaving: Any = _Leaving(error)
            globalLogPublisher.addObserver(leaving)
            raise
        self._follow_clock()

    def _follow_clock(self) -> None:
        """Plan anew what is planned if the reactor's clock was set."""
        if self._clock.was_set():
            if self._timer is not None:
                self.arm(self._at)
            if self._soon is not None and self._soon.active():
                self._soon.reset(0)

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> tuple[int, bool]:
        check_waitable(fd)
        if self._selects:
            check_select(fd, "Twisted's select reactor")
        descriptor = self._descriptors.get(fd)
        if descriptor is None:
            descriptor = self._descriptors[fd] = _Descriptor(self, fd)
        try:
            if write:
                descriptor.on_write = callback
                self._reactor.addWriter(descriptor)
            else:
                descriptor.on_read = callback
                self._reactor.addReader(descriptor)
        except BaseException:
            self.io_stop((fd, write))
            raise
        return (fd, write)

    def io_stop(self, token: tuple[int, bool]) -> None:
        fd, write = token
        descriptor = self._descriptors.get(fd)
        if descriptor is None:
            return  # it was closed, and given up
        try:
            if write:
                descriptor.on_write = None
                self._reactor.removeWriter(descriptor)
            else:
                descriptor.on_read = None
                self._reactor.removeReader(descriptor)
        except OSError:
            self._forget(fd)  # closed before its watcher was cancelled
        if descriptor.on_read is None and descriptor.on_write is None:
            self._descriptors.pop(fd, None)

    def _forget(self, fd: int) -> None:
        """Clear the reactor's notes of a number: it would not watch the next file that gets it."""
        for name in ("_reads", "_writes"):
            noted = getattr(self._reactor, name, None)
            if isinstance(noted, set):
                noted.discard(fd)
        getattr(self._reactor, "_selectables", {}).pop(fd, None)

    def _lost(self, fd: int, struck: bool) -> None:
        """The reactor watches a descriptor no more, in both directions.

        That is so too if something escaped one of our methods: *struck*.
        """
        descriptor = self._descriptors.get(fd)
        if descriptor is None:
            return
        try:
            os.fstat(fd)
        except OSError as error:
            self._refuse(descriptor, True, error)
            self._refuse(descriptor, False, error)
            return
        if not struck:
            # a hang-up means ready, again and again
            descriptor.doWrite()
            descriptor.doRead()
        for write, add in ((True, self._reactor.addWriter), (False, self._reactor.addReader)):
            if (descriptor.on_write if write else descriptor.on_read) is not None:
                try:
                    add(descriptor)
                except OSError as error:
                    self._refuse(descriptor, write, error)

    def _refuse(self, descriptor: _Descriptor, write: bool, error: OSError) -> None:
        callback = descriptor.on_write if write else descriptor.on_read
        if write:
            descriptor.on_write = None
        else:
            descriptor.on_read = None
        fd = descriptor.fileno()
        if descriptor.on_read is None and descriptor.on_write is None:
            self._descriptors.pop(fd, None)
        if callback is not None and self.on_refused is not None:
            self.on_refused(fd, write, error)

    def arm(self, at: float | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._at = at
        if at is not None:
            delay = max(at - time.monotonic(), 0.0)
            self._timer = self._reactor.callLater(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.guard(self.on_deadline)

    def call_soon(self, callback: Callable[[], None]) -> None:
        # if others wait beside the last one, that makes their calls, too
        self._soon = self._reactor.callLater(0, self.guard, callback)

    def _on_shutdown(self) -> None:
        self._stopped = True
        if self.on_ended is not None:
            self.on_ended(False)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        if self._stopped:
            raise RuntimeError("the Twisted reactor has been stopped")
        self._reactor.callFromThread(self.guard, callback)

    def run_until(self, done: Callable[[], bool]) -> None:
        if self.running():
            raise BlockingNotAllowed(
                "recv() would block the running Twisted reactor: use 'await cv' or a callback"
            )
        if self._stopped:
            return
        outermost = not self.turn
        hear: Any = self._hear
        try:
            self._ours = True
            if not self._reactor.running:
                self._reactor.startRunning(installSignalHandlers=False)
            # the reactor logs what escapes a callback, and goes on
            globalLogPublisher.addObserver(hear)
            while not done() and self._reactor.running:
                self._turn(self._reactor.timeout())
                self._follow_clock()
        finally:
            globalLogPublisher.removeObserver(hear)
            if outermost:
                if self._reactor.running:
                    # as if it had not run: the program may yet call run()
                    self._reactor.crash()
                self._ours = False

    def _hear(self, event: dict[str, Any]) -> None:
        error = _error_of(event)
        if error is not None and is_ours(error):
            self.escaped(error)

    def _turn(self, timeout: float | None) -> None:
        # in this order: the other way round, a call from a thread that arrives in
        # runUntilCurrent() would be waited for in doIteration(None)
        outer = self.turn
        self.turn = self._turns = self._turns + 1
        try:
            self._reactor.doIteration(timeout)
            self._reactor.runUntilCurrent()
        finally:
            self.turn = outer

    def wake(self) -> None:
        return None  # `done` is asked after every turn

    def poll(self, block: bool) -> None:
        turns = iter((False, True))
        if not block:
            self._reactor.callLater(0, int)
        self.run_until(lambda: next(turns, True))

    def running(self) -> bool:
        return bool(self._reactor.running) and not self._ours

    def close(self) -> None:
        self.arm(None)
        if not self._stopped and self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def after_fork(self) -> None:
        self._timer = None

    def statistics(self) -> dict[str, object]:
        return {"reactor": type(self._reactor).__name__}


def wait_in_coroutine(condvar: Waitable, core: LoopState) -> Generator[Any, Any, None]:
    """Wait in a coroutine that a Deferred drives, until *condvar* is ready or that is cancelled."""
    deferred: Deferred[None] = Deferred()

    @repeatable
    def wake(_: Waitable) -> None:
        core.postpone(resume)  # not in the call that makes it ready

    @repeatable
    def resume() -> None:
        if not deferred.called:
            deferred.callback(None)

    condvar._add_waker(wake)
    try:
        yield deferred
    finally:
        condvar._forget_wake(wake)
