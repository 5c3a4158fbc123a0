"""WeeChat's hooks as a backend: ``hook_fd`` for descriptors, ``hook_timer`` for the deadline."""

from __future__ import annotations

__all__ = ("WeechatBackend",)

import math
import os
import select
import socket
import sys
import time
from _thread import _count as _count_threads
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from ae_core import BackendUnavailable, BlockingNotAllowed
from ae_core.abc import Backend

# Theory of operation
# -------------------
# WeeChat runs the loop, and a script has no way to run a turn of it: nothing can be waited for but
# by returning to it. A hook names its callback, which is looked up in the script's `__main__`; one
# function for each backend stands there, and finds by its data what to call.
#
# There may be one hook for a descriptor, which does not say what has happened; and WeeChat, which
# asks for all descriptors together, calls it also if the number is another file's by now.
# So poll() is asked once more. A timer waits for a millisecond at least, so what is due in the next
# turn is announced by a socket that is readable immediately.
#
# While WeeChat itself works or waits it keeps the interpreter's lock, so no thread of Python runs:
# none that looks up a name or reads a file for us either. So while there are threads we come back
# every few milliseconds, to let them.

Call = Callable[[], None]
_READY_TO_READ: Final = select.POLLIN | select.POLLERR | select.POLLHUP
_READY_TO_WRITE: Final = select.POLLOUT | select.POLLERR | select.POLLHUP
_LONGEST: Final = 86_400.0  # hook_timer counts milliseconds; the core asks again
_OK: Final = 0
# milliseconds
_BUSY: Final = 10
_IDLE: Final = 1000

#: How many backends there were: the names in `__main__` must differ.
_made = 0


class WeechatBackend(Backend):
    """The loop of the WeeChat that runs the script.

    Args:
        on_deadline: As in :class:`ae_core.abc.Backend`.

    Nothing blocks here: ``recv()`` of what is not ready raises :class:`BlockingNotAllowed`. Use
    callbacks, and ``ae_core.spawn`` for coroutines.

    Raises:
        BackendUnavailable: Outside of WeeChat.
    """

    name = "weechat"

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        global _made
        try:
            self._weechat: Any = import_module("weechat")
        except ImportError:
            raise BackendUnavailable("the backend 'weechat' is for scripts in WeeChat") from None
        _made += 1
        self._function = f"_ae_weechat_{_made}"
        setattr(sys.modules["__main__"], self._function, self._on_hook)
        self._readers: dict[int, Call] = {}
        self._writers: dict[int, Call] = {}
        self._hooks: dict[int, str] = {}
        self._timer = ""
        self._pacer = ""
        self._pace = 0
        self._due = False  # the deadline has come already
        self._soon: deque[Call] = deque()
        self._remote: deque[Call] = deque()  # filled by other threads
        self._rung = False
        self._calls = 0  # of hooks, which are on the stack
        self._closed = False
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self.io_start(self._bell.fileno(), False, self._answer_the_bell)
        self._let_threads_run()

    def _on_hook(self, data: str, value: Any) -> int:
        """Called by WeeChat, with the descriptor or the number of calls that are left."""
        self._calls += 1
        try:
            if not self._closed:
                if data == "timer":
                    self._timer = ""  # it was for one call
                    self.on_deadline()
                elif data == "threads":
                    time.sleep(0)  # gives the interpreter's lock away
                else:
                    self._on_descriptor(int(data))
            if not self._closed:
                self._let_threads_run()
        finally:
            self._calls -= 1
        return _OK

    def _let_threads_run(self) -> None:
        """Come back often while there are other threads, and now and then to see whether."""
        wanted = _BUSY if _count_threads() else _IDLE
        if wanted != self._pace:
            if self._pacer:
                self._weechat.unhook(self._pacer)
            self._pace = wanted
            self._pacer = self._weechat.hook_timer(wanted, 0, 0, self._function, "threads")

    # ------------------------------------------------------------------ descriptors

    def io_start(self, fd: int, write: bool, callback: Call) -> tuple[int, bool]:
        os.fstat(fd)  # OSError if it is not open, which WeeChat would find out later
        (self._writers if write else self._readers)[fd] = callback
        self._hook(fd)
        return (fd, write)

    def io_stop(self, token: tuple[int, bool]) -> None:
        fd, write = token
        (self._writers if write else self._readers).pop(fd, None)
        if not self._closed:
            self._hook(fd)

    def _hook(self, fd: int) -> None:
        """Tell WeeChat which directions of *fd* are watched now."""
        hook = self._hooks.pop(fd, "")
        if hook:
            self._weechat.unhook(hook)
        reads, writes = int(fd in self._readers), int(fd in self._writers)
        if reads or writes:
            self._hooks[fd] = self._weechat.hook_fd(fd, reads, writes, 0, self._function, str(fd))

    def _on_descriptor(self, fd: int) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLOUT)
        events = dict(poll.poll(0)).get(fd, 0)
        for ready, side in ((_READY_TO_WRITE, self._writers), (_READY_TO_READ, self._readers)):
            if events & ready and (callback := side.get(fd)) is not None:
                callback()

    # ------------------------------------------------------------------ time and calls

    def arm(self, at: float | None) -> None:
        timer, self._timer = self._timer, ""
        if timer:
            self._weechat.unhook(timer)
        self._due = False
        if at is None:
            return
        seconds = min(at - self.clock(), _LONGEST)
        if seconds <= 0:
            self._due = True
            self._ring()
        else:
            milliseconds = math.ceil(seconds * 1000)
            self._timer = self._weechat.hook_timer(milliseconds, 0, 1, self._function, "timer")

    def call_soon(self, callback: Call) -> None:
        self._soon.append(callback)
        self._ring()

    def call_threadsafe(self, callback: Call) -> None:
        self._remote.append(callback)
        self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            try:
                self._button.send(b"!")
            except BlockingIOError:
                return  # it has been rung often enough

    def _answer_the_bell(self) -> None:
        try:
            self._bell.recv(4096)
        except BlockingIOError:
            pass
        self._rung = False
        if self._due:
            self._due = False
            self.on_deadline()
        for queue in (self._remote, self._soon):
            for _ in range(len(queue)):  # what is added meanwhile is for the next turn
                if queue:  # else it was closed meanwhile
                    queue.popleft()()

    # ------------------------------------------------------------------ running

    def running(self) -> bool:
        return self._calls > 0  # elsewhere run_until() refuses, and release() is right

    def run_until(self, done: Callable[[], bool]) -> None:
        if not done():
            raise BlockingNotAllowed("WeeChat runs this loop: return to it, or use ae_core.spawn")

    def poll(self, block: bool) -> None:
        raise BlockingNotAllowed("WeeChat runs this loop: a script cannot")

    def wake(self) -> None:
        """Do nothing: there is no wait of ours."""

    def usable(self) -> bool:
        return not self._closed

    def close(self) -> None:
        if not self._closed:
            for hook in (*self._hooks.values(), self._timer, self._pacer):
                if hook:
                    self._weechat.unhook(hook)
            self._let_go()

    def after_fork(self) -> None:
        self._let_go()  # the hooks are the parent's

    def _let_go(self) -> None:
        self._closed = True
        vars(sys.modules["__main__"]).pop(self._function, None)
        for kept in (self._readers, self._writers, self._hooks, self._soon, self._remote):
            kept.clear()
        self._timer = ""
        self._bell.close()
        self._button.close()
