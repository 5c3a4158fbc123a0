"""The order of work: dispatching, what follows a dispatch, and what calls have made due."""

from __future__ import annotations

__all__ = ("EventCallbacks", "Later", "Work")

from abc import abstractmethod

import ae_core as ae

from ._options import Options
from ._phases import (
    CONNECTING,
    DUE_DRAIN,
    DUE_DRAINED,
    DUE_FAIL,
    DUE_READ,
    DUE_TLS,
    DUE_WRITE,
    OPEN,
    SHUTDOWN_CLOSING,
    SHUTDOWN_WANTED,
)
from ._typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from ._errors import HandleError

# Theory of operation
# -------------------
# No callback of the program runs inside a call of the program. What a call finds to be due is
# noted in `_work_due`, and `_run_due_work` is postponed, once.
#
# After a dispatch follow, in this order and in this one place (`_after_dispatch`): what callbacks
# wrote is sent; the end of the input is dealt with; the limit is checked; the read watcher is
# started or stopped; other work that is due is done.

# How much work may become due within one event before other events are handled.
_ROUNDS: Final = 32

# How often on_drain may empty the queue anew within one event.
_DRAIN_ROUNDS: Final = 16


class EventCallbacks(Protocol):
    """What the loop calls; see :class:`ae_handle._events.Events`."""

    def __call__(self) -> Any: ...
    def readable(self) -> None: ...
    def readable_tls(self) -> None: ...
    def writable(self) -> None: ...
    def read_refused(self, error: OSError) -> None: ...
    def write_refused(self, error: OSError) -> None: ...
    def run_due_work(self) -> None: ...
    def resume_work(self) -> None: ...
    def dispatch_again(self) -> None: ...
    def on_inactivity_timer(self) -> None: ...
    def keep_alive(self, handle: Any) -> None: ...


class Work(Options):
    """What is to be done next. How it is done is in the classes that derive from this one."""

    __slots__ = (
        "_error",
        "_events",
        "_keep_alive_count",
        "_resume_timer",
        "_work_due",
        "_work_posted",
        "_working",
    )

    _error: HandleError | None  # what is to end the handle, or has ended it
    _events: EventCallbacks
    _keep_alive_count: int  # how many operations keep the handle alive
    _phase: int
    _resume_timer: Any
    _work_due: int  # bits: DUE_READ and its followers
    _work_posted: bool
    _working: bool

    def _keep_alive(self) -> None:
        """Keep the handle alive, by the loop, until as many calls of ``_release``."""
        self._keep_alive_count += 1
        self._events.keep_alive(self)

    def _release(self) -> None:
        """Undo one ``_keep_alive``."""
        self._keep_alive_count -= 1
        if not self._keep_alive_count:
            self._events.keep_alive(None)

    # ------------------------------------------------------------------ hooks of derived classes

    @abstractmethod
    def _flush(self) -> None:
        """Hook: send as much as the kernel takes."""

    @abstractmethod
    def _flush_deferred(self) -> None:
        """Hook: send what was written during a dispatch, and end the deferring of writes."""

    @abstractmethod
    def _update_interest(self) -> None:
        """Hook: start or stop watching for input."""

    @abstractmethod
    def _update_fast_path(self) -> None:
        """Hook: work out again whether the shortest ways of ``Events.readable`` are right."""

    @abstractmethod
    def _finish_input(self) -> None:
        """Hook: report the end of the input to the readers, who have had what was before it."""

    @abstractmethod
    def _end_writes(self) -> None:
        """Hook: end the write side, if everything is sent."""

    def _process_early_data(self) -> None:
        """Hook: do what ``start_tls`` left to do, in an event."""

    @abstractmethod
    def _fail(self, error: HandleError) -> None:
        """Hook: let *error* end the handle, or report it if it is not fatal. In events only."""

    @abstractmethod
    def _report_noted_failure(self) -> None:
        """Hook: report what ``_note_failure`` was given."""

    # ------------------------------------------------------------------ dispatching

    def _callback_failed(self, error: BaseException) -> None:
        """Report what a callback of the program raised to the exception hook."""
        ae.report_error(error)

    def _dispatch(self) -> None:
        """Answer requests with what is buffered, unless a dispatch is running already."""
        read = self._read
        if not read.dispatching:
            self._write.deferred = (
                self._write.pieces
            )  # fast path: 800 instructions less of 60,000 with TLS
            self._work_due &= ~DUE_READ
            read.dispatch(self)
            self._after_dispatch()

    def _run_dispatch(self) -> None:
        """Dispatch, with writes deferred, and do everything that follows from it."""
        self._work_due &= ~DUE_READ
        self._read.dispatch(self)
        self._after_dispatch()

    def _after_dispatch(self) -> None:
        """Do what a dispatch leaves to do."""
        read = self._read
        write = self._write
        if self._phase != OPEN:
            write.stop_deferring()
            return
        if write.pieces:
            self._flush()
        else:
            self._flush_deferred()
        if read.eof:
            self._finish_input()
        elif read.max_buffer is not None and read.buffer._data and read.is_over_limit():
            self._fail(read.limit_error())
        if self._phase == OPEN:
            self._update_interest()
        if self._work_due:
            self._run_due_work()

    def _after_event(self) -> None:
        self._update_interest()
        if self._work_due:
            self._run_due_work()

    def _call(self, callback: Any, *args: Any) -> None:
        """Call *callback* with the handle and *args*, as a dispatch does."""
        self._write.defer()
        self._read.call(self, callback, *args)

    # ------------------------------------------------------------------ work that is due

    def _note_due(self, bits: int) -> None:
        """Note work; the caller has to make ``_run_due_work`` follow."""
        self._work_due |= bits

    def _make_due(self, bit: int) -> None:
        """Do some work in the next turn."""
        if self._phase == OPEN:
            self._work_due |= bit
            self._schedule_work()

    def _note_failure(self, error: HandleError) -> None:
        """Remember that *error* is to end the handle; ``_run_due_work`` has to follow."""
        if self._error is None:
            self._error = error
        self._work_due |= DUE_FAIL

    def _set_error(self, error: HandleError | None) -> None:
        """Note what ends the handle, now."""
        self._error = error

    def _clear_due(self, bits: int) -> None:
        """Note that this work is being done."""
        self._work_due &= ~bits

    def _drop_work(self) -> None:
        """Forget the work that is due, and the timer for it."""
        self._work_due = 0
        # dropping it cancels it, and nothing else refers to it
        self._resume_timer = None

    def _drop_resume_timer(self) -> None:
        self._resume_timer = None

    def _schedule_work(self) -> None:
        """Have ``_run_due_work`` called in the next turn, unless it is running already."""
        if not self._work_posted and not self._working:
            self._work_posted = True
            ae.postpone(self._events.run_due_work)

    def _reschedule_work(self) -> None:
        """Have ``_run_due_work`` called after the other events of this turn.

        Not by postponing: what is postponed by a postponed call belongs to the same turn.
        """
        if self._resume_timer is None:
            self._resume_timer = ae.timer(0.0, self._events.resume_work)

    def _dispatch_later(self) -> None:
        """Dispatch once more, after the other events of this turn."""
        self._resume_timer = ae.timer(0.0, self._events.dispatch_again)

    def _work_was_posted(self) -> None:
        """The postponed call has come."""
        self._work_posted = False
        self._run_due_work()

    def _work_resumed(self, bit: int = 0) -> None:
        """The timer of ``_reschedule_work`` has fired."""
        self._resume_timer = None
        self._work_due |= bit
        self._run_due_work()

    def _run_due_work(self) -> None:
        """Do what is due. In events only; inside itself it leaves the work to the outer call."""
        if self._working or self._read.dispatching:
            return
        self._working = True
        try:
            for _ in range(_ROUNDS):
                due = self._work_due
                if not due or self._phase != OPEN:
                    break
                if due & DUE_FAIL:
                    self._work_due &= ~DUE_FAIL
                    self._report_noted_failure()
                elif due & DUE_TLS:
                    self._work_due &= ~DUE_TLS
                    self._process_early_data()
                elif due & DUE_WRITE:
                    self._work_due &= ~DUE_WRITE
                    self._flush()
                elif due & (DUE_DRAIN | DUE_DRAINED):
                    if not self._notify_drained():
                        break
                else:
                    self._work_due &= ~DUE_READ
                    self._dispatch()
        finally:
            self._working = False
        if self._phase != OPEN:
            if self._phase != CONNECTING:
                self._work_due = 0
            elif self._work_due & DUE_FAIL:
                self._work_due &= ~DUE_FAIL
                self._report_noted_failure()
        elif self._work_due:
            self._reschedule_work()

    def _notify_drained(self) -> bool:
        """Answer the waiters, and call ``on_drain``: (nearly) everything is sent. In events only.

        Returns False if there is more to do, but other events should be handled first.
        """
        write = self._write
        for _ in range(_DRAIN_ROUNDS):
            due = self._work_due
            self._work_due &= ~(DUE_DRAIN | DUE_DRAINED)
            if write.is_above_mark():  # something was pushed meanwhile
                return True
            if write.waiters:
                waiters = write.take_waiters()
                self._update_fast_path()
                for waiter in waiters:
                    waiter(self, None)
            if write.shutdown in (SHUTDOWN_WANTED, SHUTDOWN_CLOSING) and self._phase == OPEN:
                self._end_writes()
            if due & DUE_DRAIN and self._phase == OPEN:
                write.notify_drained(self)
            if self._phase != OPEN:
                return True
            self._flush_deferred()
            if not self._work_due & (DUE_DRAIN | DUE_DRAINED):
                return True
        return False


class Later:
    """Calls a method of a handle, if it still lives."""

    __slots__ = ("_handle", "_method")

    def __init__(self, handle: Work, method: str) -> None:
        self._handle: Any = handle._events
        self._method = method

    def __call__(self) -> None:
        handle = self._handle()
        if handle is not None:
            getattr(handle, self._method)()
