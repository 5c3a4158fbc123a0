"""How a thread waits: it runs its loop until a condition variable is ready.

Who may wait, how long, and when a wait is in vain, for every backend alike; the backend only runs.
"""

from __future__ import annotations

__all__ = ("block", "check_may_block", "stuck_for")

import _signal  # type: ignore[import-not-found]
import sys
from math import inf

from .._base.errors import AEError, BlockingNotAllowed, Deadlock, RecursiveWait, WrongLoop
from .._base.thread_identity import bystanders, get_ident, sleep
from .interrupts import catching_sigint, repeatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from .._async.condvar import CondVar
    from .state import Core

A_MOMENT: Final = 0.02
LOOK_AGAIN: Final = 0.25
# where the handlers of our own are
_OURS: Final = (
    "ae_core._loop.interrupts",
    "ae_core._sources.signals",
    "ae_core.testing._conformance.check",
)


def check_may_block(core: Core) -> None:
    """Refuse to block inside another wait, or inside a loop that somebody else runs.

    Raises:
        RecursiveWait, BlockingNotAllowed: Just that.
    """
    backend = core.backend
    if core.blocked and not backend.many_waits:
        _forget_broken_off(core)
    if core.blocked and not backend.many_waits:
        raise RecursiveWait(
            "recursive blocking wait attempted: this thread is inside another recv(); "
            "use a callback or 'await cv' here"
        )
    if backend.running():
        raise BlockingNotAllowed(
            f"recv() would block the running {backend.name} loop: use 'await cv' or a callback"
        )


def _forget_broken_off(core: Core) -> None:
    """Forget waits that are over: a signal handler raised while one of them ended."""
    frame = sys._getframe(2)  # who wants to wait, which may be block() itself
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is block.__code__:
            return
    core.blocked.clear()


def block(core: Core, condvar: CondVar[Any], timeout: float | None) -> None:
    """Run the loop until *condvar* is ready.

    Raises:
        TimeoutError, RecursiveWait, BlockingNotAllowed, Deadlock, or what interrupts us.
    """
    check_may_block(core)
    backend = core.backend
    timed_out = False
    stuck = False
    owns_wait = backend.owns_wait

    @repeatable
    def expire() -> None:
        nonlocal timed_out
        timed_out = True
        wake()

    def done() -> bool:
        if condvar._state or timed_out or core.interrupt is not None:
            return True
        return owns_wait and not core.readers and is_stuck()

    def is_stuck() -> bool:
        nonlocal stuck
        if core.writers or core.posted or core.owed or core.live:
            return False
        pause = stuck_for(core)
        if pause is None:
            stuck = True
            return True
        if pause < inf:
            core.rearm(core.clock() + pause)
        return False

    # What a signal handler raises strikes between any two lines: each step can be taken back
    # whether or not it was taken.
    timer = waiter = None
    interrupted = False
    wake = backend.waker()
    try:
        core.blocked.add(expire)
        if timeout is not None:
            timer = core.timer(timeout, expire)
        condvar._enter()
        waiter = condvar._wake_on_ready(wake)
        with catching_sigint(core):
            core.resume()  # whatever was broken off by what a signal handler raised goes on here
            backend.run_until(done)
        interrupted = core.interrupt is not None
    except AEError:
        raise
    except BaseException:
        interrupted = True
        raise
    finally:
        core.blocked.discard(expire)
        if waiter is not None:
            condvar._forget_wake(waiter)
            if interrupted or not condvar.ready:
                condvar._leave(interrupted)
        if timer is not None:
            core.cancel_timer(timer)
        if backend.ends_by_itself and not core.live:
            core.disarm()
    if core.interrupt is not None:
        interrupt, core.interrupt = core.interrupt, None
        raise interrupt
    if condvar.ready:
        return
    if timed_out:
        raise TimeoutError(f"not ready within {timeout:g} s")
    if stuck:
        raise Deadlock(
            "recv() can never end: no watcher, no pending operation, no other thread and no "
            "signal handler is left"
        )
    raise WrongLoop(f"the {backend.name} loop ended before the condition variable was ready")


def stuck_for(core: Core) -> float | None:
    """Return how long to wait although no descriptor and no timer is left; None: in vain."""
    pause = _look(core)
    if pause is None:
        # a thread that a C library has just started may not have come to Python yet
        sleep(A_MOMENT)
        pause = _look(core)
    return pause


def _look(core: Core) -> float | None:
    if not all(getattr(other, "passive", False) for other in core.others):
        return inf  # a signal, a child, another thread's work
    if _other_threads():
        return LOOK_AGAIN  # one of them may yet call us, or end without: look again
    # asked last: a thread that has ended made its calls before
    return inf if core.remote or _signal_handlers() else None


def _other_threads() -> bool:
    """Return whether a thread lives that may call us: any, also one of a C library in Python.

    By what the interpreter knows of, and not ``threading``: there, threads that other modules
    have started are missing, and some that have ended are not.
    """
    ours = get_ident()
    return any(ident != ours and ident not in bystanders for ident in sys._current_exceptions())


def _signal_handlers() -> bool:
    """Return whether a handler of the program's, of the ``signal`` module, may yet be called."""
    for number in range(1, _signal.NSIG):
        handler = _signal.getsignal(number)
        if (
            callable(handler)
            and handler is not _signal.default_int_handler
            and getattr(handler, "__module__", None) not in _OURS
        ):
            return True
    return False
