"""GLib, and so GTK: the default main context. The program's ``GLib.MainLoop`` hosts us."""

from __future__ import annotations

__all__ = ("GlibBackend",)

import math
import time
from typing import TYPE_CHECKING, Any

from gi.repository import GLib  # pyright: ignore

from .._backend import Backend
from .._descriptors import check_waitable

if TYPE_CHECKING:
    from collections.abc import Callable


class GlibBackend(Backend):
    """The default main context of the process; for its main thread."""

    name = "glib"
    strict_idle = True
    nests = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        self._context: Any = GLib.MainContext.default()
        self._timer = 0
        self._sources: set[int] = set()  # those that stay until they are removed

    def _repeat(self, callback: Callable[[], None]) -> Callable[..., bool]:
        def dispatch(*_: object) -> bool:
            callback()
            return True  # keep the source

        return dispatch

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> int:
        check_waitable(fd)
        condition = GLib.IOCondition.OUT if write else GLib.IOCondition.IN | GLib.IOCondition.PRI
        condition |= GLib.IOCondition.HUP | GLib.IOCondition.ERR
        source: int = GLib.unix_fd_add_full(
            GLib.PRIORITY_DEFAULT, fd, condition, self._repeat(callback)
        )
        # A loop inside the callback would not watch the descriptor at all, which others may wait
        # for (signals come by one, and several watchers share one).
        self._context.find_source_by_id(source).set_can_recurse(True)
        self._sources.add(source)
        return source

    def io_stop(self, token: int) -> None:
        if token in self._sources:
            self._sources.discard(token)
            GLib.source_remove(token)

    def arm(self, at: float | None) -> None:
        if self._timer:
            GLib.source_remove(self._timer)
            self._timer = 0
        if at is not None:
            # whole milliseconds, rounded up
            delay = max(math.ceil((at - time.monotonic()) * 1000), 0)
            self._timer = GLib.timeout_add(delay, self._on_timer, priority=GLib.PRIORITY_DEFAULT)

    def _on_timer(self) -> bool:
        self._timer = 0
        self.on_deadline()
        return False

    def call_soon(self, callback: Callable[[], None]) -> None:
        def once() -> bool:
            callback()
            return False

        GLib.idle_add(once, priority=GLib.PRIORITY_DEFAULT)

    call_threadsafe = call_soon  # GLib locks its contexts itself

    def idle_start(self, callback: Callable[[], None]) -> int:
        source: int = GLib.idle_add(self._repeat(callback), priority=GLib.PRIORITY_LOW)
        self._sources.add(source)
        return source

    def idle_stop(self, token: int) -> None:
        self.io_stop(token)

    def run_until(self, done: Callable[[], bool]) -> None:
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
        # the context goes on without us: it must not watch what nobody waits for any more
        self.arm(None)
        for source in tuple(self._sources):
            self.io_stop(source)

    def after_fork(self) -> None:
        # the child's context has copies, and no system call tells the parent of their end
        self.arm(None)
        for source in tuple(self._sources):
            self.io_stop(source)
