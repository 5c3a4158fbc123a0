"""gevent: the hub's loop. ``recv()`` lets other greenlets run; each greenlet may wait.

``GeventBackend`` shares the hub with the program, monkey-patched or not. ``LibevBackend`` is the
same loop without hub and greenlets, run by us: the fastest one there is from Python.
"""

from __future__ import annotations

__all__ = ("GeventBackend",)

import _signal  # type: ignore[import-not-found]
import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey
from gevent.exceptions import LoopExit
from gevent.hub import Waiter, get_hub

from .._base import thread_identity
from .._base.descriptors import check_open
from .._base.errors import Deadlock, RecursiveWait
from .._base.signal_errors import is_ours
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable


_SIGCHLD: int = getattr(_signal, "SIGCHLD", 0)  # 0 on Windows
_READ, _WRITE = 1, 2  # EV_READ, EV_WRITE of libev; EV_ERROR is the highest bit of a C int


def _refusal(fd: int) -> OSError:
    """Return why the kernel does not watch *fd*, which libev does not say."""
    try:
        with monkey.get_original("select", "epoll")() as probe:
            probe.register(fd, 0)
    except OSError as error:
        return error
    except AttributeError:  # another system
        return OSError(errno.ENOMEM, f"the kernel does not watch descriptor {fd}")
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # there is room by now


def _is_caught(number: int) -> bool:
    """Return whether this process handles a signal; Python knows of its own handlers only."""
    try:
        with open("/proc/self/status", "rb") as file:
            masks = dict(line.split(b":", 1) for line in file if b":" in line)
        return bool(int(masks[b"SigCgt"], 16) >> (number - 1) & 1)
    except (OSError, KeyError):  # another system
        return "gevent.subprocess" in sys.modules


class GeventLoop(Backend):
    """What both have in common: the watchers of gevent's loop object."""

    strict_idle = True

    def __init__(self, on_deadline: Callable[[], None], loop: Any) -> None:
        super().__init__(on_deadline)
        self._loop = loop
        self._timer: Any = None
        # with their callbacks; the hub goes on after us, and would keep them
        self._watchers: dict[Any, Callable[[int], None]] = {}
        self._torn = False  # something escaped a callback: gevent has stopped that watcher
        self._closed = False
        self._takes_sigchld = False  # libev has, from a handler of Python's

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> Any:
        check_open(fd)  # libev aborts the process for one that is not
        watcher = self._loop.io(fd, _WRITE if write else _READ)

        def fire(events: int) -> None:
            if events > 0:
                callback()
            else:
                # the kernel refuses, and libev has stopped the watcher
                self.io_stop(watcher)
                if self.on_refused is not None:
                    self.on_refused(fd, write, _refusal(fd))

        self._watchers[watcher] = fire
        watcher.start(fire, pass_events=True)
        return watcher

    def io_stop(self, token: Any) -> None:
        self._watchers.pop(token, None)
        token.stop()
        token.close()

    def io_discount(self, token: Any) -> None:
        token.ref = False

    def arm(self, at: float | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()
        if at is not None:
            self._timer = self._loop.timer(max(at - time.monotonic(), 0.0))
            # the loop's own idea of now may be as old as its last turn
            self._timer.start(self._on_timer, update=True)

    def handle_error(self, context: Any, kind: Any, error: Any, traceback: Any) -> None:
        """Called by gevent's loop: something has escaped a callback, or a signal handler."""
        if not isinstance(error, BaseException):
            error = kind() if error is None else kind(error)
        if context is None or is_ours(error.with_traceback(traceback)):
            self._torn = True
            self.escaped(error)
        else:
            self._handle_others(context, kind, error, traceback)

    def _handle_others(self, context: Any, kind: Any, error: Any, traceback: Any) -> None:
        sys.excepthook(kind, error, traceback)

    def _mend(self) -> None:
        self._torn = False
        for watcher, callback in self._watchers.items():
            if not watcher.active:
                watcher.start(callback, pass_events=True)

    def _on_timer(self) -> None:
        self.arm(None)
        self.on_deadline()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.run_callback(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.run_callback_threadsafe(callback)

    def idle_start(self, callback: Callable[[], None]) -> Any:
        watcher = self._loop.idle()
        watcher.start(callback)
        return watcher

    def idle_stop(self, token: Any) -> None:
        token.stop()
        token.close()

    def child_start(self, pid: int, callback: Callable[[int, int], None]) -> Any:
        if not self._loop.default or not _SIGCHLD:
            return None
        reaps = self.has_signal(_SIGCHLD)
        if not reaps and callable(_signal.getsignal(_SIGCHLD)):
            return None  # a handler of Python's is in force
        watcher = self._loop.child(pid)  # now libev handles SIGCHLD, and reaps all children
        watcher.start(lambda: callback(watcher.rpid, watcher.rstatus))
        if not reaps:  # what `subprocess` waits for would be lost: not before gevent asks for it
            _signal.signal(_SIGCHLD, _signal.getsignal(_SIGCHLD) or _signal.SIG_DFL)
            self._loop.reset_sigchld()
        return watcher

    def child_stop(self, token: Any) -> None:
        token.stop()
        token.close()

    def signal_start(self, number: int, callback: Callable[[], None]) -> Any:
        if number != _SIGCHLD or not self._loop.default:
            return None
        watcher = self._loop.signal(number, ref=False)

        def fire() -> None:
            self._takes_sigchld = True  # gevent has asked for it meanwhile
            callback()

        watcher.start(fire)
        return watcher

    def signal_stop(self, token: Any) -> None:
        token.stop()
        token.close()
        if self._takes_sigchld:
            self._takes_sigchld = False
            self._loop.reset_sigchld()
            self._loop.install_sigchld()

    def has_signal(self, number: int) -> bool:
        return (
            number == _SIGCHLD
            and self._loop.default
            and (self._takes_sigchld or not callable(_signal.getsignal(number)))
            and _is_caught(number)
        )

    def now(self) -> float:
        return float(self._loop.now())

    def now_update(self) -> None:
        self._loop.update_now()

    def statistics(self) -> dict[str, object]:
        return {"multiplexer": self._loop.backend}

    def usable(self) -> bool:
        return not self._closed

    def close(self) -> None:
        if not self._closed:
            self.arm(None)
            for watcher in list(self._watchers):
                self.io_stop(watcher)
            self._closed = True

    def after_fork(self) -> None:
        # the child's loop has copies; it tells the kernel when it runs, of a set of its own
        self._loop.reinit()
        self.close()


def _greenlet_ident() -> int:
    return id(gevent.getcurrent())


class GeventBackend(GeventLoop):
    """The hub of this thread."""

    name = "gevent"
    many_waits = True
    ends_by_itself = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        thread_identity.stack_ident = _greenlet_ident
        self._hub = get_hub()
        super().__init__(on_deadline, self._hub.loop)
        self._waiters: dict[Any, Any] = {}  # by greenlet
        self._keeper: Any = None
        self._held = 0
        self._holder = self._loop.async_()  # never sent; while it is started, the hub goes on

    def hold(self, more: int) -> None:
        self._held += more
        if self._closed or self._held > 1:
            return
        if self._held == 0:
            self._holder.stop()
        elif more > 0:
            self._holder.start(int)

    def close(self) -> None:
        if not self._closed:
            self._holder.stop()
            self._holder.close()
        super().close()

    def _check_greenlet(self) -> None:
        if gevent.getcurrent() is self._hub:
            raise RecursiveWait(
                "recursive blocking wait attempted: a callback runs in gevent's hub and must not "
                "block; use gevent.spawn or 'await cv'"
            )

    def run_until(self, done: Callable[[], bool]) -> None:
        self._check_greenlet()
        greenlet = gevent.getcurrent()
        try:
            while not done():
                if self._torn:
                    self._mend()
                waiter: Any = Waiter(self._hub)
                self._waiters[greenlet] = waiter
                self._loop.error_handler = self
                self._loop.run_callback(self._hear)  # if the hub begins now
                try:
                    waiter.get()
                except LoopExit as error:
                    pause = None if self.on_stuck is None else self.on_stuck()
                    if pause is None:
                        raise Deadlock(
                            "recv() can never end: no watcher, no pending operation, no other "
                            "greenlet, thread or signal handler is left"
                        ) from error
                    self._keep_alive(min(pause, 3600.0))
                finally:
                    del self._waiters[greenlet]
                    if not self._waiters:
                        self._loop.error_handler = self._hub
        finally:
            if not self._waiters:
                self._keep_alive(None)

    def _hear(self) -> None:
        # the hub takes its errors for itself when it begins
        if self._waiters:
            self._loop.error_handler = self

    def _handle_others(self, context: Any, kind: Any, error: Any, traceback: Any) -> None:
        self._hub.handle_error(context, kind, error, traceback)

    def _keep_alive(self, pause: float | None) -> None:
        """Keep the hub waiting for another thread for *pause* seconds, None: no longer."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper.close()
            self._keeper = None
        if pause is not None:
            self._keeper = self._loop.timer(pause)
            self._keeper.start(self.wake)

    def wake(self) -> None:
        # by way of the loop: a waiter can only be switched to from the hub
        for waiter in self._waiters.values():
            self._loop.run_callback(waiter.switch, None)

    def waker(self) -> Callable[[], None]:
        greenlet = gevent.getcurrent()

        def wake() -> None:
            waiter = self._waiters.get(greenlet)
            if waiter is not None:
                self._loop.run_callback(waiter.switch, None)

        return wake

    def poll(self, block: bool) -> None:
        self._check_greenlet()
        waiter: Any = Waiter(self._hub)
        # called after the wait of a turn, and has us called after all events of that turn
        check = self._loop.check()
        check.start(self._loop.run_callback, waiter.switch, None)
        idle = None if block else self._loop.idle()
        if idle is not None:
            idle.start(int)  # while there is one, a turn does not wait
        try:
            waiter.get()
        finally:
            for watcher in filter(None, (check, idle)):
                watcher.stop()
                watcher.close()
