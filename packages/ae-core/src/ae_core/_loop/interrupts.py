"""Ctrl-C while ``recv()`` or ``run()`` blocks.

Python's own handler raises ``KeyboardInterrupt`` between any two instructions, which may be in
the middle of our bookkeeping. So while we block, the first SIGINT is only noted and ends the
wait in good order; a second one raises immediately, for a callback that never returns. What a
handler of the program raises cannot be put off: see ``_base.signal_errors``.
"""

from __future__ import annotations

__all__ = ("after_fork", "catching_sigint", "handler_in_force", "is_ours", "wakeup_in_force")

import _signal  # type: ignore[import-not-found]

from .._base.signal_errors import repeatable
from .._base.thread_identity import in_main_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from .._base.wakeup import Wakeup
    from .state import LoopState

# Theory of operation
# -------------------
# The handler runs in the main thread, between two instructions. If the main thread is just about
# to enter the system call that waits, or if its loop waits in C (Qt, Tk), that would be too late.
# So Python is told to write a byte into a pipe that the loop watches, at the moment the signal
# arrives; the loop calls us for it, and on the way the handler runs.


class catching_sigint:
    """While active, the first SIGINT makes *core*'s ``recv()`` raise ``KeyboardInterrupt``.

    If the program has a SIGINT handler of its own, that one is called. Any signal ends the wait
    for a moment, so that its handler runs and may end it for good. Does nothing off the main
    thread, and in a sub-interpreter.
    """

    __slots__ = ("_catches", "_core", "fd")

    def __init__(self, core: LoopState) -> None:
        self._core = core
        self._catches = False  # SIGINT comes to us, or to another wait of ours
        self.fd = -1  # the wake-up descriptor of this wait

    def __enter__(self) -> None:
        # the C module: the wrappers of `signal` make enum members, 3 us a call
        handler = _signal.getsignal(_signal.SIGINT)
        if handler is _signal.default_int_handler:
            try:
                _signal.signal(_signal.SIGINT, self.on_sigint)
            except ValueError:
                return  # not the main thread: no handler runs here
            self._catches = True
        elif not in_main_thread():
            return
        else:
            self._catches = is_ours(handler)  # gevent: a wait of another greenlet
        wakeup = self._core.per_loop.get("interrupt")
        if wakeup is None:
            wakeup = self._core.per_loop["interrupt"] = _watched_wakeup(self._core)
        self.fd = wakeup.sender
        if _waits:
            _waits[:] = filter(_goes_on, _waits)  # one may have been broken off at its end
        try:
            previous = _signal.set_wakeup_fd(self.fd, warn_on_full_buffer=False)
        except ValueError:  # pragma: no cover (a sub-interpreter: no signal and no tracer)
            self.fd = -1
            return
        _waits.append(self)
        if previous != -1:
            # a loop is woken already: that of a signal watcher, or of asyncio
            _signal.set_wakeup_fd(previous, warn_on_full_buffer=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self in _waits:
            _waits.remove(self)
        # fast path: no other wait goes on, so none is looked for: a twentieth of what a wait costs
        is_last = not _waits
        if self._catches and _signal.getsignal(_signal.SIGINT) == self.on_sigint:
            handler = _signal.default_int_handler if is_last else handler_in_force()
            _signal.signal(_signal.SIGINT, handler)
        if self.fd != -1:
            if is_last:
                current = _signal.set_wakeup_fd(-1)
            else:
                current = _signal.set_wakeup_fd(wakeup_in_force(), warn_on_full_buffer=False)
            if current not in (-1, self.fd):
                # it is another one: a signal watcher was made meanwhile
                _signal.set_wakeup_fd(current, warn_on_full_buffer=False)

    def on_sigint(self, number: int, frame: FrameType | None) -> None:
        core = self._core
        if core.runner.interrupt is not None:
            raise KeyboardInterrupt
        core.runner.keep(KeyboardInterrupt())
        core.backend.call_threadsafe(core.backend.wake)


#: The waits of the main thread in progress. Each has a greenlet of its own under gevent; elsewhere
#: there is at most one, and another for each loop inside a loop.
_waits: list[catching_sigint] = []


def _goes_on(wait: catching_sigint) -> bool:
    return bool(wait._core.runner.blocked) and not wait._core.closed


def is_ours(handler: object) -> bool:
    """Return whether *handler* is that of a wait, in progress or over."""
    return isinstance(getattr(handler, "__self__", None), catching_sigint)


def handler_in_force() -> Callable[[int, FrameType | None], object]:
    """Return the SIGINT handler that the waits in progress need; Python's own without any."""
    for wait in reversed(_waits):
        if wait._catches and _goes_on(wait):
            return wait.on_sigint
    handler: Callable[[int, FrameType | None], object] = _signal.default_int_handler
    return handler


def wakeup_in_force() -> int:
    """Return the signal wake-up descriptor that the waits in progress need; -1 without any."""
    for wait in reversed(_waits):
        if _goes_on(wait):
            return wait.fd
    return -1


def _watched_wakeup(core: LoopState) -> Wakeup:
    """Return what a signal makes readable, watched by the loop; made at a loop's first wait."""
    from .._base.wakeup import Wakeup

    wakeup = Wakeup(one_byte=True)

    @repeatable
    def on_readable() -> None:
        # What a handler raises where the loop calls us is lost in the loop, and the call with it:
        # so the loop is told of everything anew. The descriptor is read last: if an exception
        # comes before, the loop calls again.
        core.resume()
        wakeup.drain()

    # refused: then a signal ends no wait early, and its handler runs when something else does
    record = core.io.watch_own(wakeup.fd, on_readable, _refused, counts=False)
    # some loops go on after the core, and would watch what is closed
    core.closers.append(lambda: core.io.close_own(record))
    return wakeup


def _refused(error: OSError) -> None:
    from .._base.log import log

    log("warn", "signals cannot end a wait: %s", error, context="ae_core")


def after_fork(core: LoopState) -> None:
    """Give SIGINT back in a child that was forked inside ``recv()``."""
    _waits.clear()
    if is_ours(_signal.getsignal(_signal.SIGINT)):
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    wakeup = core.per_loop.get("interrupt")
    if wakeup is not None:
        current = _signal.set_wakeup_fd(-1)
        if current != wakeup.sender:
            _signal.set_wakeup_fd(current)
