"""Child watchers: which child ended, with which status; other code's children are left alone.

A pidfd where the system has one, else one waiting thread per child, which on Windows waits for the
process's handle. ``waitpid(-1)`` is never used: ``subprocess`` and others keep their children.
"""

from __future__ import annotations

__all__ = ("AnyChildRecord", "ChildRecord", "watch_child")

import os
import sys
from contextlib import suppress
from functools import partial

from .._base.closing import close_descriptor
from .._base.signal_errors import repeatable
from .._base.thread_identity import bystander, make_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

    from .._loop.state import LoopState
    from .children_windows import ProcessHandle

# The system call itself, also where gevent has put its own function in os.
_waitpid: Callable[[int, int], tuple[int, int]] = getattr(
    sys.modules.get("posix"), "waitpid", os.waitpid
)
GEVENT_TURNS = 3


class ChildRecord:
    """The interest of one watcher in the end of one child."""

    __slots__ = ("active", "callback", "context", "core", "exit", "pid")

    kind = "child"

    def __init__(
        self,
        core: LoopState,
        pid: int,
        callback: Callable[[int, int], object],
        context: Context | None,
    ) -> None:
        self.core = core
        self.pid = pid
        self.callback = callback
        self.context = context
        self.active = True
        exits = _exits(core)
        found = exits.get(pid)
        self.exit = found if found is not None else Exit(core, pid)
        self.exit.records[self] = None
        core.operations.add(self)

    def cancel(self) -> None:
        if self.active:
            self.active = False
            self.core.operations.discard(self)
            self.exit.remove(self)

    def deliver(self, pid: int, status: int) -> None:
        if self.active:
            self.active = False
            self.core.operations.discard(self)
            self.core.runner.call(_call_of(self.callback, pid, status), self.context, self)

    def describe(self) -> str:
        return f" {self.pid}"


class AnyChildRecord:
    """The interest of one watcher in the end of every child: ``child(0, ...)``."""

    __slots__ = ("active", "callback", "context", "core", "reaper", "signal")

    kind = "child"

    def __init__(
        self, core: LoopState, callback: Callable[[int, int], object], context: Context | None
    ) -> None:
        from .signals import SignalRecord

        self.core = core
        self.callback = callback
        self.context = context
        self.active = True
        self.reaper = core.backend.child_start(0, self._reaped)  # before others handle the signal
        try:
            self.signal: SignalRecord = SignalRecord(core, _sigchld(), self.look, None)
        except BaseException:  # not the main thread
            if self.reaper is not None:
                core.backend.child_stop(self.reaper)
            raise
        core.operations.add(self)
        core.postpone(self.look)  # for those that have ended already

    def cancel(self) -> None:
        if self.active:
            self.active = False
            self.core.operations.discard(self)
            self.signal.cancel()
            del self.signal  # it refers to us
            reaper, self.reaper = self.reaper, None
            if reaper is not None:
                self.core.backend.child_stop(reaper)

    def _reaped(self, pid: int, status: int) -> None:
        """Called by a loop that reaps all children."""
        if pid not in _exits(self.core):  # else its own watcher is told, and tells
            self.core.calls.owed.append(partial(self.deliver, pid, status))
            self.core.calls.serve()

    def look(self) -> None:
        """Reap every child that has ended, one by one."""
        self._next()
        self.core.calls.serve()

    def _next(self) -> None:
        if not self.active:
            return
        # looked at before it is reaped, so that a watcher of its own gets it too
        pid = _any_ended()
        if pid is None:
            return
        own = _exits(self.core).get(pid)
        status = _reap(pid)
        if status is None:
            return  # another thread was quicker
        if own is not None:
            own.tell(status)
        else:
            _tell_all(self.core, pid, status)
        self.core.calls.owed.append(self._next)

    def deliver(self, pid: int, status: int) -> None:
        if self.active:
            self.core.runner.call(_call_of(self.callback, pid, status), self.context, self)

    def describe(self) -> str:
        return " any"


def _call_of(callback: Callable[[int, int], object], pid: int, status: int) -> Any:
    def call() -> object:
        return callback(pid, status)

    call.__ae_wraps__ = callback  # type: ignore[attr-defined]  # the one to be named
    return call


def _tell_all(core: LoopState, pid: int, status: int) -> None:
    """Have the watchers for any child called; they come after those for this one."""
    core.calls.owed.extend(
        [
            partial(other.deliver, pid, status)
            for other in core.operations
            if isinstance(other, AnyChildRecord)
        ]
    )


def _any_ended() -> int | None:
    """Return a child that has ended and was not waited for, or None."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None  # no children at all
    return None if found is None else found.si_pid


def _sigchld() -> int:
    import signal

    return int(signal.SIGCHLD)  # where there is waitid() there is this signal


class Exit:
    """The coming end of one child, shared by all its watchers in one loop."""

    __slots__ = (
        *("core", "pid", "pidfd", "reaper", "record"),
        *("records", "status", "turns", "waiter"),
    )

    def __init__(self, core: LoopState, pid: int) -> None:
        self.core = core
        self.pid = pid
        self.records: dict[ChildRecord, None] = {}
        self.pidfd = -1
        self.record: Any = None
        self.turns = 0
        self.waiter: Any = None
        self.reaper: Any = None
        self.status: int | None = None  # if the loop has reaped it
        if hasattr(os, "waitid"):
            # refuses immediately what is not our child or was reaped already
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                raise ChildProcessError(
                    f"process {pid} is no child of this process, or was waited for already"
                ) from None
        self._start()
        _exits(core)[pid] = self

    def _start(self) -> None:
        self.reaper = self.core.backend.child_start(self.pid, self._reaped)
        if _use_pidfd():
            try:
                self.pidfd = os.pidfd_open(self.pid)
            except OSError:
                self.pidfd = -1  # an old kernel or a sandbox: the other ways need no pidfd
            else:
                self.record = self.core.io.watch_own(self.pidfd, self.on_end, self._refused)
                return
        self.waiter = _Waiter(self)

    def _refused(self, error: OSError) -> None:
        """The kernel does not let the loop wait for the pidfd: a thread does."""
        pidfd, self.pidfd = self.pidfd, -1
        close_descriptor(pidfd)
        try:
            self.waiter = _Waiter(self)
        except RuntimeError:  # nor has the system a thread for us
            for record in self.records.copy():
                record.cancel()
                self.core.runner.failed(error, (record, record.callback))

    def _reaped(self, pid: int, status: int) -> None:
        """Called by a loop that reaps all children."""
        self.status = status
        if self.pidfd == -1:  # else it is readable, and goes on to be
            self.core.postpone(self.on_end)

    def _loop_reaps(self) -> bool:
        """Return whether the loop is about to reap the child, which tells others too."""
        if self.reaper is None or self.status is not None or self.turns >= GEVENT_TURNS:
            return False
        if not self.core.backend.has_signal(_sigchld()):
            return False
        self.turns += 1
        if self.pidfd == -1:
            self.core.postpone(self.on_end)
        return True

    @repeatable
    def on_end(self) -> None:
        """The child has ended: reap it and call all its watchers."""
        if _exits(self.core).get(self.pid) is not self:
            return  # told twice, or broken off when it was made
        if sys.platform == "win32":  # which has nothing to be reaped
            self.finish(self.waiter.handle.status())
            return
        if self._loop_reaps():
            return
        try:
            reaped, status = os.waitpid(self.pid, os.WNOHANG)
            if not reaped:
                # gevent's waitpid: its loop reaps, and tells a turn later. If it does not, it has
                # missed the signal, and never will
                self.turns += 1
                if self.turns < GEVENT_TURNS:
                    return
                reaped, status = _waitpid(self.pid, os.WNOHANG)
                if not reaped:
                    return  # a spurious wake-up
        except OSError as error:  # the loop would report it again and again
            if self.status is not None:
                self.finish(self.status)
                return
            from .._base.log import log

            why = f"cannot be waited for ({error})"
            if isinstance(error, ChildProcessError):
                why = "was waited for by other code"
            text = "child %d %s; its status is unknown"
            log("warn", text, self.pid, why, context="ae_core")
            status = 255 << 8
        self.finish(status)

    def finish(self, status: int) -> None:
        self.tell(status)
        self.core.calls.serve()

    def tell(self, status: int) -> None:
        """Have the watchers of this child called."""
        self.core.calls.owed.extend(
            [partial(record.deliver, self.pid, status) for record in self.records]
        )
        self.records = {}
        self.stop()
        _tell_all(self.core, self.pid, status)

    def remove(self, record: ChildRecord) -> None:
        if record in self.records:
            del self.records[record]
            if not self.records:
                self.stop()

    def stop(self) -> None:
        _exits(self.core).pop(self.pid, None)
        reaper, self.reaper = self.reaper, None
        if reaper is not None:
            self.core.backend.child_stop(reaper)
        if self.pidfd != -1:
            pidfd, self.pidfd = self.pidfd, -1
            self.core.io.end_own(self.record)
            close_descriptor(pidfd)
        if self.waiter is not None:
            self.waiter.stop()
            self.waiter = None

    def __del__(self) -> None:
        if getattr(self, "pidfd", -1) != -1:
            os.close(self.pidfd)
            self.pidfd = -1


class _Waiter:
    """A thread that waits for one child, where there is no pidfd."""

    __slots__ = ("_exit", "_stopped", "handle")

    def __init__(self, exit: Exit) -> None:
        self._exit = exit
        self._stopped = False
        if sys.platform == "win32":
            from .children_windows import ProcessHandle

            self.handle: ProcessHandle = ProcessHandle(exit.pid)
        make_thread(self._wait, exit.pid, name=f"ae-core-child-{exit.pid}").start()

    def _wait(self, pid: int) -> None:
        if sys.platform == "win32":
            self.handle.wait()
        else:
            # suppressed: other code reaped it; on_end() finds that out and logs it
            with bystander(), suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if not self._stopped:
            try:
                self._exit.core.call_threadsafe(self._tell)
            except RuntimeError:
                return  # the loop has ended meanwhile, and the interest with it

    def _tell(self) -> None:
        if not self._stopped:
            self._exit.on_end()

    def stop(self) -> None:
        self._stopped = True


def _exits(core: LoopState) -> dict[int, Exit]:
    """Return the children that *core* waits for, by process id."""
    exits: dict[int, Exit] = core.per_loop.setdefault("children", {})
    return exits


def _use_pidfd() -> bool:
    return hasattr(os, "pidfd_open")


def _reap(pid: int) -> int | None:
    """Return the raw wait status of a child that has ended, None if it has not or is not ours."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if reaped == pid else None


def watch_child(
    core: LoopState, pid: int, callback: Callable[[int, int], object], context: Context | None
) -> ChildRecord | AnyChildRecord:
    """Make the record of a child watcher."""
    if not hasattr(os, "waitid") and (pid == 0 or sys.platform != "win32"):
        what = "watching any child needs" if pid == 0 else "child watchers need"
        raise RuntimeError(f"{what} waitid(), which this system does not have")
    if pid == 0:
        return AnyChildRecord(core, callback, context)
    return ChildRecord(core, pid, callback, context)
