"""Descriptor readiness for loops that have none: a thread that waits in ``select``.

asyncio's proactor loop, the default on Windows, has no ``add_reader``. The thread exists only
while something is watched, and sleeps in the system call while nothing happens.
"""

from __future__ import annotations

__all__ = ("SelectThread",)

import errno
import os
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from .._base.thread_identity import bystander
from .._base.wakeup import Wakeup
from ._multiplexers import BROKEN, INVALID, READ, WRITE, Select

if TYPE_CHECKING:
    from collections.abc import Callable

# Theory of operation
# -------------------
# Only the thread touches the multiplexer; the loop hands it changes by a queue and a wake-up.
# The thread stops watching what is ready and hands it to the loop, which calls back and then has
# it watched again: so one event is one call, however late the loop comes to it.


_PATIENCE: Final = 1.0  # seconds for the thread to leave the system call


class SelectThread:
    """Level-triggered readiness, delivered by *call_threadsafe*.

    Args:
        call_threadsafe: Calls a function in the loop's thread.
        refused: Called there with descriptor, direction and error if one cannot be watched.
    """

    def __init__(
        self,
        call_threadsafe: Callable[[Callable[[], None]], object],
        refused: Callable[[int, bool, OSError], None],
    ) -> None:
        self._call_threadsafe = call_threadsafe
        self._refused = refused
        # The loop's thread only. The number tells a watcher from one before it on the same
        # descriptor, of which a report may still be under way.
        self._calls: dict[tuple[int, bool], tuple[int, Callable[[], None]]] = {}
        self._last = 0
        # None: end; an event: set it; a number of 0: no more
        self._changes: deque[tuple[int, bool, int] | threading.Event | None] = deque()
        self._wakeup: Wakeup | None = None
        self._thread: threading.Thread | None = None

    def start(self, fd: int, write: bool, callback: Callable[[], None]) -> None:
        """Begin to watch; one callback per descriptor and direction."""
        self._last += 1
        self._calls[fd, write] = (self._last, callback)
        if self._thread is None:
            self._wakeup = Wakeup()
            self._changes.clear()
            thread = threading.Thread(
                target=self._run, args=(self._wakeup,), name="ae-core-select", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads for us
                del self._calls[fd, write]
                self._wakeup.close()
                raise
            self._thread = thread
        self._tell((fd, write, self._last))

    def stop(self, fd: int, write: bool) -> None:
        """End it. The descriptor may be closed right after this call."""
        self._calls.pop((fd, write), None)
        self._tell((fd, write, 0))
        if not self._calls:
            self.close()
        elif self._thread is not None and self._thread.is_alive():
            # A system call that waits for a file keeps it open: a server that is closed now would
            # go on to accept until that call ends.
            left = threading.Event()
            self._tell(left)
            left.wait(_PATIENCE)

    def close(self) -> None:
        """End the thread, and wait for that."""
        thread, self._thread = self._thread, None
        self._calls.clear()
        if thread is not None and self._wakeup is not None:
            self._tell(None)
            thread.join()
            self._wakeup.close()
            self._wakeup = None

    def _tell(self, change: tuple[int, bool, int] | threading.Event | None) -> None:
        if self._wakeup is not None:
            self._changes.append(change)
            self._wakeup.notify()

    # ------------------------------------------------------------------ in the loop's thread

    def _ready(self, fd: int, write: bool, number: int) -> None:
        entry = self._calls.get((fd, write))
        if entry is not None and entry[0] == number:
            entry[1]()
            if self._calls.get((fd, write)) is entry:
                self._tell((fd, write, number))

    def _give_up(self, fd: int, write: bool, number: int, error: OSError) -> None:
        entry = self._calls.get((fd, write))
        if entry is not None and entry[0] == number:
            del self._calls[fd, write]
            self._refused(fd, write, error)
            if not self._calls:
                self.close()

    # ------------------------------------------------------------------ in the watching thread

    def _run(self, wakeup: Wakeup) -> None:
        with bystander():
            self._wait(wakeup)

    def _wait(self, wakeup: Wakeup) -> None:
        mux = Select()
        mux.change(wakeup.fd, 0, READ)
        numbers: dict[tuple[int, bool], int] = {}  # what is watched, and the number of its watcher

        def mask(fd: int) -> int:
            read = READ if (fd, False) in numbers else 0
            return read | (WRITE if (fd, True) in numbers else 0)

        def refuse(fd: int, error: OSError) -> None:
            for write in (False, True):
                number = numbers.pop((fd, write), 0)
                if number:
                    self._pass_on(partial(self._give_up, fd, write, number, error))
            mux.change(fd, READ | WRITE, 0)

        while True:
            while self._changes:
                change = self._changes.popleft()
                if change is None:
                    return
                if isinstance(change, threading.Event):
                    change.set()
                    continue
                fd, write, number = change
                before = mask(fd)
                if number:
                    numbers[fd, write] = number
                else:
                    numbers.pop((fd, write), None)
                try:
                    mux.change(fd, before, mask(fd))
                except OSError as error:
                    refuse(fd, error)
            for fd, ready in mux.wait(-1.0):
                if fd == wakeup.fd:
                    wakeup.drain()
                    continue
                if ready & INVALID:
                    refuse(fd, OSError(errno.EBADF, os.strerror(errno.EBADF)))
                    continue
                for write, bit in ((True, WRITE), (False, READ)):
                    if ready & (bit | BROKEN) and (fd, write) in numbers:
                        before = mask(fd)
                        number = numbers.pop((fd, write))
                        mux.change(fd, before, mask(fd))
                        self._pass_on(partial(self._ready, fd, write, number))

    def _pass_on(self, call: Callable[[], None]) -> None:
        try:
            self._call_threadsafe(call)
        except RuntimeError:
            return  # the loop has ended, and its watchers with it
