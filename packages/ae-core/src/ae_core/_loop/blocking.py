"""How a thread waits: it runs its loop until a condition variable is ready.

It decides what may wait, how long, and when a wait can never end: for every backend alike.
"""

from __future__ import annotations

__all__ = ("block", "check_may_block")

import sys

from .._base.errors import AEError, BlockingNotAllowed, Deadlock, RecursiveWait, WrongLoop
from .._base.seconds import inf
from .._base.signal_errors import repeatable
from .interrupts import catching_sigint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .backend import Waitable
    from .state import LoopState


def check_may_block(core: LoopState) -> None:
    """Refuse to block inside another wait, or inside a loop that other code runs.

    Raises:
        RecursiveWait, BlockingNotAllowed: In these two cases.
    """
    backend = core.backend
    if core.runner.blocked and not backend.many_waits:
        _forget_broken_off(core)
    if core.runner.blocked and not backend.many_waits:
        raise RecursiveWait(
            "recursive blocking wait attempted: this thread is inside another recv(); "
            "use a callback or 'await cv' here"
        )
    if backend.running():
        raise BlockingNotAllowed(
            f"recv() would block the running {backend.name} loop: use 'await cv' or a callback"
        )


def _forget_broken_off(core: LoopState) -> None:
    """Forget waits that are over: a signal handler raised while one of them ended."""
    frame = sys._getframe(2)  # the caller that waits, which may be block() itself
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is block.__code__:
            return
    core.runner.blocked.clear()


def block(core: LoopState, condvar: Waitable, timeout: float | None) -> None:
    """Run the loop until *condvar* is ready.

    Raises:
        TimeoutError, RecursiveWait, BlockingNotAllowed, Deadlock, or what interrupts us.
    """
    check_may_block(core)
    backend = core.backend
    timed_out = False
    stuck = False
    owns_wait = backend.owns_wait
    runner = core.runner
    io = core.io

    @repeatable
    def on_ready(_: Waitable) -> None:
        wake()

    def expire() -> None:
        nonlocal timed_out
        timed_out = True
        wake()

    def done() -> bool:
        if condvar._state or timed_out or runner.interrupt is not None:
            return True
        return owns_wait and not io.readers and is_stuck()

    def is_stuck() -> bool:
        nonlocal stuck
        if core.timers.live or io.writers or core.calls.postponed or core.calls.owed:
            return False
        pause = core.deadlock_grace()
        if pause is None:
            stuck = True
            return True
        if pause < inf:
            core.rearm(core.clock() + pause)
        return False

    # A signal handler may raise between any two lines: each step can be taken back
    # whether or not it was taken.
    timer = None
    waits = False
    interrupted = False
    wake = backend.waker()
    try:
        runner.blocked.add(on_ready)
        if timeout is not None:
            timer = core.timer(timeout, repeatable(expire))
        condvar._enter()
        waits = True
        condvar._add_waker(on_ready)
        with catching_sigint(core):
            core.resume()  # what a signal handler's exception broke off goes on here
            backend.run_until(done)
        interrupted = runner.interrupt is not None
    except AEError:
        raise
    except BaseException:
        interrupted = True
        raise
    finally:
        runner.blocked.discard(on_ready)
        if waits:
            condvar._forget_wake(on_ready)
            if interrupted or not condvar.ready:
                condvar._leave(interrupted)
        if timer is not None:
            core.cancel_timer(timer)
        if backend.ends_by_itself and not core.timers.live:
            core.disarm()
    interrupt = runner.take_interrupt()
    if interrupt is not None:
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
