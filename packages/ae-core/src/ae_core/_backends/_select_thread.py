"""Descriptor readiness for loops that have none: a thread that waits in ``select``.

asyncio's proactor loop, the default on Windows, has no ``add_reader``. The thread exists only
while something is watched, and sleeps in the system call while nothing happens.
"""

from __future__ import annotations

__all__ = ("SelectThread",)

import threading
from collections import deque
from typing import TYPE_CHECKING

from .._wakeup import Wakeup
from ._multiplexers import BROKEN, READ, WRITE, Select

if TYPE_CHECKING:
    from collections.abc import Callable

# Theory of operation
# -------------------
# Only the thread touches the multiplexer; the loop hands it changes by a queue and a wake-up.
# What is ready is taken out of the thread's interest at once and handed to the loop, which calls
# back and then puts it in again: so one event is one call, however late the loop comes to it.


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
        self._calls: dict[tuple[int, bool], Callable[[], None]] = {}  # the loop's thread only
        self._changes: deque[tuple[int, bool, bool] | None] = deque()  # None: end
        self._wakeup: Wakeup | None = None
        self._thread: threading.Thread | None = None

    def start(self, fd: int, write: bool, callback: Callable[[], None]) -> None:
        """Begin to watch; one callback per descriptor and direction."""
        self._calls[fd, write] = callback
        if self._thread is None:
            self._wakeup = Wakeup()
            self._changes.clear()
            self._thread = threading.Thread(
                target=self._run, args=(self._wakeup,), name="ae-core-select", daemon=True
            )
            self._thread.start()
        self._tell((fd, write, True))

    def stop(self, fd: int, write: bool) -> None:
        """End it. The descriptor may be closed right after this call."""
        self._calls.pop((fd, write), None)
        self._tell((fd, write, False))
        if not self._calls:
            self.close()

    def close(self) -> None:
        """End the thread, and wait for that."""
        thread, self._thread = self._thread, None
        self._calls.clear()
        if thread is not None and self._wakeup is not None:
            self._tell(None)
            thread.join()
            self._wakeup.close()
            self._wakeup = None

    def _tell(self, change: tuple[int, bool, bool] | None) -> None:
        if self._wakeup is not None:
            self._changes.append(change)
            self._wakeup.notify()

    # ------------------------------------------------------------------ in the loop's thread

    def _ready(self, fd: int, write: bool) -> None:
        callback = self._calls.get((fd, write))
        if callback is not None:
            callback()
            if (fd, write) in self._calls:
                self._tell((fd, write, True))

    def _give_up(self, fd: int, write: bool, error: OSError) -> None:
        if self._calls.pop((fd, write), None) is not None:
            self._refused(fd, write, error)
            if not self._calls:
                self.close()

    # ------------------------------------------------------------------ in the thread of ours

    def _run(self, wakeup: Wakeup) -> None:
        mux = Select()
        masks: dict[int, int] = {wakeup.fd: READ}
        mux.change(wakeup.fd, 0, READ)

        def set_mask(fd: int, mask: int) -> None:
            before = masks.pop(fd, 0)
            if mask:
                masks[fd] = mask
            if mask != before:
                mux.change(fd, before, mask)

        while True:
            while self._changes:
                change = self._changes.popleft()
                if change is None:
                    return
                fd, write, on = change
                bit = WRITE if write else READ
                mask = masks.get(fd, 0)
                try:
                    set_mask(fd, mask | bit if on else mask & ~bit)
                except (OSError, ValueError) as problem:
                    masks.pop(fd, None)
                    error = problem if isinstance(problem, OSError) else OSError(9, str(problem))
                    self._pass_on(lambda f=fd, w=write, e=error: self._give_up(f, w, e))  # type: ignore[misc]
            try:
                found = mux.wait(-1.0)
            except OSError as error:
                # one of them was closed under its watcher: find out which
                for fd in [fd for fd in masks if fd != wakeup.fd]:
                    try:
                        mux.change(fd, masks[fd], masks[fd])
                    except OSError:
                        mux.change(fd, masks[fd], 0)
                        del masks[fd]
                        for write in (False, True):
                            self._pass_on(lambda f=fd, w=write, e=error: self._give_up(f, w, e))  # type: ignore[misc]
                continue
            for fd, mask in found:
                if fd == wakeup.fd:
                    wakeup.drain()
                    continue
                for write, bit in ((True, WRITE), (False, READ)):
                    if mask & (bit | BROKEN) and masks.get(fd, 0) & bit:
                        set_mask(fd, masks[fd] & ~bit)
                        self._pass_on(lambda f=fd, w=write: self._ready(f, w))  # type: ignore[misc]

    def _pass_on(self, call: Callable[[], None]) -> None:
        try:
            self._call_threadsafe(call)
        except RuntimeError:
            return  # the loop has ended: its watchers are dead
