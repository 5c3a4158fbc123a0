"""Tk, and Tcl alone: ``mainloop()`` hosts us.

Tk loses exceptions in file handlers, and Ctrl-C while it waits; neither can happen here: the
core catches the former, and watches for the latter by a wake-up descriptor.
"""

from __future__ import annotations

__all__ = ("TkBackend",)

import _tkinter
import sys
import time
import tkinter
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from .._base.descriptors import check_select, check_waitable
from .._base.pace import REST, Pace
from .._base.wakeup import Wakeup
from .._base.wall_clock import WallClock
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


_MANY: Final = 0x7FFFFFFF  # windows: mainloop() waits for as long as there are more


def _in_main_loop() -> bool:
    """Return whether ``mainloop()`` has called us."""
    codes = (tkinter.mainloop.__code__, tkinter.Misc.mainloop.__code__)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None


# later versions wait by epoll or kqueue
_SELECTS = tuple(map(int, _tkinter.TCL_VERSION.split("."))) < (8, 7)


class TkBackend(Backend):
    """A Tk root, or a Tcl interpreter.

    Args:
        on_deadline: As in :class:`Backend`.
        root: A ``tkinter.Tk`` or what ``tkinter.Tcl()`` returns; by default tkinter's default
            root, else a new Tcl interpreter.
    """

    name = "tk"
    nests = True

    def __init__(self, on_deadline: Callable[[], None], *, root: Any = None) -> None:
        super().__init__(on_deadline)
        if root is None:
            root = getattr(tkinter, "_default_root", None) or tkinter.Tcl()
        self._root = root
        self._tk: Any = root.tk
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._timer: Any = None
        self._at: float | None = None  # when it is due
        self._clock = WallClock(time.time)
        self._pace = Pace()
        self._soon: Any = None
        self._queue: deque[Callable[[], None]] = deque()
        self._remote: deque[Callable[[], None]] = deque()
        self._events = 0  # how many events of descriptors there were
        self._depth = 0  # how many of our handlers are on the stack
        self._closed = False
        self._destroyed = False
        if self._tk.eval("info commands bind"):  # not Tcl alone, which is never destroyed
            root.bind("<Destroy>", self._on_destroy, add="+")
        # another thread must not call Tcl: it would wait for a main loop that may not run
        self._wakeup = Wakeup()
        self.io_start(self._wakeup.fd, False, self._run_remote)

    def _on_destroy(self, event: Any) -> None:
        if event.widget is self._root:  # not one of its children
            self._destroyed = True
            if self.on_ended is not None:
                self.on_ended(False)

    # ------------------------------------------------------------------ waiting

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> tuple[int, bool]:
        check_waitable(fd)
        if _SELECTS:
            check_select(fd, "Tk")  # it would abort the process
        (self._writers if write else self._readers)[fd] = callback
        self._tell_tk(fd)
        return (fd, write)

    def io_stop(self, token: tuple[int, bool]) -> None:
        fd, write = token
        (self._writers if write else self._readers).pop(fd, None)
        if self.usable():
            self._tell_tk(fd)

    def _tell_tk(self, fd: int) -> None:
        mask = (_tkinter.READABLE if fd in self._readers else 0) | (
            _tkinter.WRITABLE if fd in self._writers else 0
        )
        if mask:
            self._tk.createfilehandler(fd, mask, self._on_file)
        else:
            self._tk.deletefilehandler(fd)

    def _on_file(self, fd: int, mask: int) -> None:
        self._events += 1
        event = self._events
        for bit, side in ((_tkinter.WRITABLE, self._writers), (_tkinter.READABLE, self._readers)):
            # a loop inside the first call has asked the system anew
            if mask & bit and event == self._events:
                callback = side.get(fd)
                if callback is not None:
                    self._enter(callback)

    def _enter(self, callback: Callable[[], None]) -> None:
        self._depth += 1
        try:
            callback()  # what ends the program ends mainloop(), which raises it
        finally:
            self._depth -= 1
        self._follow_clock()

    def _follow_clock(self) -> None:
        """Plan anew what is planned if the clock was set: Tcl would wait for the old time."""
        if self._clock.was_set() and not (self._closed or self._destroyed):
            if self._timer is not None:
                self.arm(self._at)
            if self._queue:
                self._soon = self._tk.createtimerhandler(0, self._run_soon)

    def arm(self, at: float | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.deletetimerhandler()
        self._at = at
        if at is not None:
            delay = min(self._pace.delay(at), 0x7FFFFFFF)
            self._timer = self._tk.createtimerhandler(delay, self._on_timer)

    def _on_timer(self) -> None:
        if self._pace.resting():
            self._timer = self._tk.createtimerhandler(REST, self._on_timer)
            return
        self._timer = None
        self._enter(self._call_timer)

    def _call_timer(self) -> None:
        self._pace.call_timer(self.on_deadline)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._queue.append(callback)
        # one each: what escapes a handler may have kept another from being called
        self._soon = self._tk.createtimerhandler(self._pace.soon(), self._run_soon)

    def _run_soon(self) -> None:
        if self._pace.resting():
            self._soon = self._tk.createtimerhandler(REST, self._run_soon)
            return
        self._pace.call_soon(self._run_queue)

    def _run_queue(self) -> None:
        for _ in range(len(self._queue)):
            if not self._queue:
                break  # a loop inside a call has made the others
            self._enter(self._queue.popleft())

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        if self._destroyed:
            raise RuntimeError("the Tk application has ended")
        self._remote.append(callback)
        self._wakeup.notify()

    def _run_remote(self) -> None:
        # one an event: a loop inside the call goes on with the others
        self._wakeup.drain()
        if self._remote:
            callback = self._remote.popleft()
            if self._remote:
                self._wakeup.notify()
            self._enter(callback)

    # ------------------------------------------------------------------ running

    def run_until(self, done: Callable[[], bool]) -> None:
        outermost = not _in_main_loop()
        while not done() and not self._destroyed:
            self._tk.dooneevent(0)
            if outermost:
                # This waits for nothing, but it raises what has escaped a handler, which a single
                # event does not. A main loop of the program would forget its quit().
                self._tk.mainloop(_MANY)

    def wake(self) -> None:
        return None  # `done` is asked after every event

    def poll(self, block: bool) -> None:
        self._tk.dooneevent(0 if block else _tkinter.DONT_WAIT)

    def running(self) -> bool:
        # one of our handlers is on the stack, and it was not a wait of ours that called it
        return self._depth > 0

    def usable(self) -> bool:
        return not (self._closed or self._destroyed)

    def close(self) -> None:
        if self.usable():
            self.arm(None)
            if self._soon is not None:
                self._soon.deletetimerhandler()
            for fd in {*self._readers, *self._writers}:
                self._tk.deletefilehandler(fd)
        self._closed = True
        self._readers.clear()
        self._writers.clear()
        self._wakeup.close()
        # An interpreter must end in its own thread: Tcl aborts the process otherwise. So it is
        # dropped here, and not left to the garbage collector, which runs in any thread.
        self._timer = self._soon = self._root = self._tk = None

    def after_fork(self) -> None:
        self._closed = True
        self._wakeup.close()
