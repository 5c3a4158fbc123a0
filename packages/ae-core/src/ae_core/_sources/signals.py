"""Signal watchers: any number per signal, called from the loop, never inside a handler.

Process-wide, because signals are. Python runs handlers in the main thread only, so watchers can
be made there only.
"""

from __future__ import annotations

__all__ = ("SignalRecord", "release_wakeup", "signal_number")

import _signal  # type: ignore[import-not-found]  # `signal` makes enum members at each call
import os
import sys

from .._base.errors import WrongLoop
from .._base.signal_errors import repeatable
from .._base.wakeup import Wakeup
from .._loop.interrupts import handler_in_force, is_ours, wakeup_in_force

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import FrameType
    from typing import Any

    from .._loop.state import LoopState

# Theory of operation
# -------------------
# Two things happen when a signal arrives. Immediately, in C, Python writes the signal's number to
# the wake-up descriptor: that ends the wait of any loop, also of one that waits in C and would not
# return to the interpreter. Then, between two instructions of the main thread, our handler notes
# the number in `_pending` and writes a zero byte, in case another library has taken the wake-up
# descriptor over. The loop sees the descriptor readable and calls the watchers of what is pending;
# so any number of arrivals before that merge into one call.
#
# A wake-up descriptor that was set before us keeps working: what C wrote is forwarded to it.


class SignalRecord:
    """The interest of one watcher in one signal."""

    __slots__ = ("active", "callback", "context", "core", "number")

    kind = "signal"

    def __init__(
        self, core: LoopState, number: int, callback: Callable[[], object], context: Context | None
    ) -> None:
        self.core = core
        self.number = number
        self.callback = callback
        self.context = context
        self.active = True
        try:
            _hub.add(self)
            core.operations.add(self)
        except BaseException:  # a signal handler's perhaps, when it was added
            self.active = False
            core.operations.discard(self)
            _hub.discard(self)
            raise

    def cancel(self) -> None:
        if self.active:
            _hub.discard(self)  # first: if that is broken off it can be done again
            self.active = False
            self.core.operations.discard(self)

    def fire(self) -> None:
        if self.active:
            self.core.runner.call(self.callback, self.context, self)

    def describe(self) -> str:
        return f" {_NAMES.get(self.number, self.number)}"


class _Hub:
    """The one place where the process's signals meet our watchers."""

    def __init__(self) -> None:
        self._records: dict[int, dict[SignalRecord, None]] = {}
        self._previous: dict[int, Any] = {}  # handlers to be restored
        self._past: dict[int, Any] = {}  # those that were restored
        self._of_loop: dict[int, Any] = {}  # what the loop, which may handle it, has for us
        self._pending: set[int] = set()
        self._wakeup: Wakeup | None = None
        self._forward = -1  # the wake-up descriptor that was set before ours
        self._core: LoopState | None = None  # the one that watches ours
        self._record: Any = None
        self._is_watched = True

    def add(self, record: SignalRecord) -> None:
        self._attach(record.core)
        number = record.number
        records = self._records.get(number)
        if records is None:
            backend = record.core.backend
            try:
                if backend.has_signal(number):
                    previous = None
                else:
                    previous = _signal.signal(number, self._on_signal)
            except BaseException:
                self._detach_if_unused()
                raise
            if previous == self._on_signal:
                previous = self._past.get(number)  # other code has put ours back later
            self._previous[number] = previous
            self._records[number] = {record: None}
            if number != _signal.SIGINT and hasattr(_signal, "siginterrupt"):
                # system calls of C libraries are restarted: they get no spurious EINTR
                _signal.siginterrupt(number, False)
            of_loop = backend.signal_start(number, lambda: self._on_signal(number, None))
            if of_loop is not None:
                self._of_loop[number] = of_loop
        else:
            records[record] = None

    def discard(self, record: SignalRecord) -> None:
        if record in self._records.get(record.number, ()):
            self.remove(record)

    def remove(self, record: SignalRecord) -> None:
        records = self._records[record.number]
        del records[record]
        if not records:
            del self._records[record.number]
            self._pending.discard(record.number)
            previous = self._past[record.number] = self._previous.pop(record.number)
            if _signal.getsignal(record.number) == self._on_signal:
                _signal.signal(record.number, _to_restore(previous))
            of_loop = self._of_loop.pop(record.number, None)
            if of_loop is not None:
                record.core.backend.signal_stop(of_loop)
        self._detach_if_unused()

    def _attach(self, core: LoopState) -> None:
        if self._core is core and self._record is not None:
            return
        if self._core is not None and self._records:
            raise WrongLoop(
                f"signals are watched on the {self._core.backend.name} loop of this thread, which "
                "has not ended: cancel its signal watchers, or close it, before another loop "
                "watches signals"
            )
        if self._core is not None and self._record is not None:
            self._core.io.end_own(self._record)
        if self._wakeup is None:
            self._wakeup = Wakeup(one_byte=True)
        wakeup = self._wakeup
        try:
            before = _signal.set_wakeup_fd(wakeup.sender, warn_on_full_buffer=False)
        except ValueError:
            self._close()
            raise RuntimeError(
                "signal watchers can only be made in the main thread of the main interpreter"
            ) from None
        if before not in (wakeup.sender, wakeup_in_force()):
            self._forward = before
        self._core = core
        self._is_watched = True
        self._record = None  # if what follows is broken off, the next one does it
        self._record = core.io.watch_own(wakeup.fd, self._on_readable, self._refused)

    def _refused(self, error: OSError) -> None:
        """The loop cannot watch the descriptor: our handler wakes it, as another thread would."""
        self._is_watched = False
        self._on_readable()

    def _detach_if_unused(self) -> None:
        if self._records or self._wakeup is None:
            return
        core, self._core = self._core, None
        if core is not None and self._record is not None:
            core.io.end_own(self._record)
        self.release_wakeup()

    def release_wakeup(self) -> None:
        """Give the wake-up descriptor back if it is not needed any more."""
        if self._records or self._wakeup is None:
            return
        try:
            wanted = wakeup_in_force() if self._forward == -1 else self._forward
            current = _signal.set_wakeup_fd(wanted, warn_on_full_buffer=False)
        except OSError:  # the one that was set before has been closed meanwhile
            current = _signal.set_wakeup_fd(wakeup_in_force(), warn_on_full_buffer=False)
        if current in (-1, self._wakeup.sender):  # -1: uvloop, after a run, leaves it unset
            self._close()
        else:
            # A loop (uvloop) took it over for as long as it runs, and will put ours back then:
            # it has to be open, or the loop ends with an error. Called again after that.
            _signal.set_wakeup_fd(current)

    def _close(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        self._forward = -1
        if wakeup is not None:
            wakeup.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number not in self._records:
            # other code has put our handler back later: do what would happen without it
            past = _to_restore(self._past.get(number))
            _signal.signal(number, past)
            if callable(past):
                past(number, frame)
            elif past == _signal.SIG_DFL:
                _signal.raise_signal(number)
            return
        if number not in self._pending:
            self._pending.add(number)
            if not self._is_watched and self._core is not None:
                self._core.raw_threadsafe(self._on_readable)
            elif self._wakeup is not None:
                self._wakeup.notify()

    @repeatable
    def _on_readable(self) -> None:
        data = b"" if self._wakeup is None else self._wakeup.drain()
        if self._forward != -1:
            numbers = data.replace(b"\0", b"")
            if numbers:
                _forward(self._forward, numbers)
        core = self._core
        while core is not None and self._pending:
            # one that arrives during the calls is served in this turn too
            for number in tuple(self._pending):
                core.calls.owed.extend([record.fire for record in self._records.get(number, ())])
                self._pending.discard(number)
            core.calls.serve()

    def after_fork(self) -> None:
        """Give the signals back in a child: its parent's watchers have ended there."""
        for number, previous in self._previous.items():
            if _signal.getsignal(number) == self._on_signal:
                _signal.signal(number, _to_restore(previous))
        if self._wakeup is not None:
            current = _signal.set_wakeup_fd(-1)
            if current not in (-1, self._wakeup.sender):
                _signal.set_wakeup_fd(current)
        for records in self._records.values():
            for record in records:
                record.active = False
        self._close()
        self.__init__()  # type: ignore[misc]


def _to_restore(previous: Any) -> Any:
    """Return the handler to be put back where *previous* was found."""
    if previous is None:  # one that C code installed, which Python cannot put back
        return _signal.SIG_DFL
    if is_ours(previous):  # of a wait that may be over by now
        return handler_in_force()
    task = (getattr(previous, "keywords", None) or {}).get("main_task")
    if task is not None and task.done():
        # asyncio.Runner's own, for a run that is over. It puts back what it had found, unless it
        # finds another handler, such as ours, when the run ends.
        return _signal.default_int_handler
    return previous


def _forward(fd: int, data: bytes) -> None:
    try:
        if sys.platform == "win32":  # a socket, and no descriptor
            import socket

            sock = socket.socket(fileno=fd)
            try:
                sock.send(data)
            finally:
                sock.detach()
        else:
            os.write(fd, data)
    except OSError:
        # full, so its reader will wake anyway; or closed, and then it has no reader
        return


_hub = _Hub()


def release_wakeup() -> None:
    """Finish, after a loop has run, what could not be finished inside it."""
    _hub.release_wakeup()


_NAMES: dict[int, str] = {
    int(getattr(_signal, name)): name[3:]
    for name in dir(_signal)
    if name.startswith("SIG") and not name.startswith("SIG_")
}
_NUMBERS = {name: number for number, name in _NAMES.items()}
_NUMBERS.update(
    {
        name[3:]: int(getattr(_signal, name))
        for name in dir(_signal)
        if name.startswith("SIG") and not name.startswith("SIG_")
    }
)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hub.after_fork)


def signal_number(which: object) -> int:
    """Return the number of a signal given by name (``"TERM"``), number or enum member.

    Raises:
        TypeError: If it is none of these.
        ValueError: If there is no such signal here.
    """
    if isinstance(which, str):
        number = _NUMBERS.get(which)
        if number is None:
            hint = (
                f", expected {which[3:]!r}" if which[:3] == "SIG" and which[3:] in _NUMBERS else ""
            )
            raise ValueError(f"unknown signal {which!r}{hint or ', expected a name like TERM'}")
        return number
    if isinstance(which, bool) or not isinstance(which, int):
        raise TypeError(f"expected a signal's name or number, got {which!r}")
    if int(which) not in _signal.valid_signals():
        raise ValueError(f"unknown signal {which!r}, expected 1 to {_signal.NSIG - 1}")
    return int(which)
