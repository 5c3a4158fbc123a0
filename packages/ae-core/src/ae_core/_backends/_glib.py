"""GLib, and so GTK: the default main context. The program's ``GLib.MainLoop`` hosts us."""

from __future__ import annotations

__all__ = ("GlibBackend",)

import signal
from typing import TYPE_CHECKING, Any

from gi.repository import GLib  # pyright: ignore

from .._base.descriptors import check_waitable
from .._base.pace import REST, Pace
from .._base.signal_errors import hearing_printed
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable


def _guard(callback: Callable[..., None], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except KeyboardInterrupt:
        # Raised here it would be printed. The code that runs the loop handles the signal: it leaves
        # the loop and raises the exception. (SystemExit ends the process in GLib's binding.)
        signal.raise_signal(signal.SIGINT)


class _Source:
    """A source that calls again and again, and how it is made."""

    __slots__ = ("id", "make")

    def __init__(self, make: Callable[[], int]) -> None:
        self.make = make
        self.id = make()


class GlibBackend(Backend):
    """The default main context of the process; for its main thread."""

    name = "glib"
    strict_idle = True
    nests = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        self._pace = Pace()
        self._context: Any = GLib.MainContext.default()
        self._timer = 0
        # those that stay until they are removed
        self._sources: set[_Source] = set()
        self._torn = False  # something escaped a callback: GLib has ended that source

    def _repeat(self, callback: Callable[[], None]) -> Callable[..., bool]:
        def dispatch(*_: object) -> bool:
            _guard(callback)
            return True  # keep the source

        return dispatch

    def _watch(self, make: Callable[[], int]) -> _Source:
        source = _Source(make)
        self._sources.add(source)
        return source

    def _unwatch(self, source: _Source) -> None:
        self._sources.discard(source)
        if self._context.find_source_by_id(source.id) is not None:
            GLib.source_remove(source.id)

    def _escaped(self, error: BaseException) -> None:
        self._torn = True
        self.escaped(error)

    def _mend(self) -> None:
        self._torn = False
        for source in self._sources:
            if self._context.find_source_by_id(source.id) is None:
                source.id = source.make()

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> _Source:
        check_waitable(fd)
        condition = GLib.IOCondition.OUT if write else GLib.IOCondition.IN | GLib.IOCondition.PRI
        condition |= GLib.IOCondition.HUP | GLib.IOCondition.ERR
        dispatch = self._repeat(callback)

        def make() -> int:
            source: int = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, fd, condition, dispatch)
            # A loop inside the callback would not watch the descriptor at all, which others may
            # wait for (signals come by one, and several watchers share one).
            self._context.find_source_by_id(source).set_can_recurse(True)
            return source

        return self._watch(make)

    def io_stop(self, token: _Source) -> None:
        self._unwatch(token)

    def arm(self, at: float | None) -> None:
        timer, self._timer = self._timer, 0
        if timer and self._context.find_source_by_id(timer) is not None:
            GLib.source_remove(timer)
        if at is not None:
            delay = self._pace.delay(at)
            self._timer = GLib.timeout_add(delay, self._on_timer, priority=GLib.PRIORITY_DEFAULT)

    def _on_timer(self) -> bool:
        if self._pace.resting():
            priority = GLib.PRIORITY_DEFAULT
            self._timer = GLib.timeout_add(REST, self._on_timer, priority=priority)
            return False
        self._timer = 0
        _guard(self._pace.call_timer, self.on_deadline)
        return False

    def call_soon(self, callback: Callable[[], None]) -> None:
        pace = self._pace

        def once() -> bool:
            if pace.resting():
                GLib.timeout_add(REST, once, priority=GLib.PRIORITY_DEFAULT)
            else:
                _guard(pace.call_soon, callback)
            return False

        if pace.soon():
            GLib.timeout_add(REST, once, priority=GLib.PRIORITY_DEFAULT)
        else:
            GLib.idle_add(once, priority=GLib.PRIORITY_DEFAULT)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        def once() -> bool:
            _guard(callback)
            return False

        GLib.idle_add(once, priority=GLib.PRIORITY_DEFAULT)  # GLib locks its contexts itself

    def idle_start(self, callback: Callable[[], None]) -> _Source:
        dispatch = self._repeat(callback)
        return self._watch(lambda: int(GLib.idle_add(dispatch, priority=GLib.PRIORITY_LOW)))

    def idle_stop(self, token: _Source) -> None:
        self._unwatch(token)

    def run_until(self, done: Callable[[], bool]) -> None:
        if self._torn:
            self._mend()
        with hearing_printed(self._escaped):
            while not done():
                self._context.iteration(True)

    def wake(self) -> None:
        self._context.wakeup()

    def poll(self, block: bool) -> None:
        self._context.iteration(block)

    def running(self) -> bool:
        # inside a callback of a loop that is not ours: the core looks at its own waits first
        return int(GLib.main_depth()) > 0

    def close(self) -> None:
        # the context goes on without us: it must not watch what is not waited for any more
        self.arm(None)
        for source in tuple(self._sources):
            self.io_stop(source)

    def after_fork(self) -> None:
        # the child's context has copies, and no system call tells the parent of their end
        self.arm(None)
        for source in tuple(self._sources):
            self.io_stop(source)
