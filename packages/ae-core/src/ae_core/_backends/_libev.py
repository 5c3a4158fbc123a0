"""libev, by way of the loop object that gevent ships: no hub and no greenlets, run by us."""

from __future__ import annotations

__all__ = ("LibevBackend",)

from typing import TYPE_CHECKING

from gevent.libev.corecext import loop as make_loop

from ._gevent import GeventLoop

if TYPE_CHECKING:
    from collections.abc import Callable


class LibevBackend(GeventLoop):
    """A libev loop of our own."""

    name = "libev"
    owns_wait = True
    nests = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline, make_loop(default=False))
        # without a watcher that counts, a turn would not wait for a call from a thread
        self._keeper = self._loop.async_()
        self._keeper.start(int)
        self._loop.error_handler = self

    def run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            if self._torn:
                self._mend()
            self._loop.run(once=True)

    def wake(self) -> None:
        # calls of run_callback come before the wait of a turn: it must not begin
        self._loop.break_()

    def poll(self, block: bool) -> None:
        self._loop.run(nowait=not block, once=True)

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._keeper.stop()
            self._keeper.close()
            self._loop.destroy()

    def after_fork(self) -> None:
        self._closed = True
