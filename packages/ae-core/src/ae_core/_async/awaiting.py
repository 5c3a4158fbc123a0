"""How ``await`` waits, and what drives the coroutine that runs now.

asyncio, trio and Twisted drive coroutines in their own ways; the rest is driven by ``tasks``. What
is waited for is only known as a :class:`~ae_core._loop.backend.Waitable` here.
"""

from __future__ import annotations

__all__ = ("await_for", "cancelled_class", "cancelled_error", "driver", "suspend", "we_drive")

import sys

from .._base.errors import CancelledError
from .._base.signal_errors import repeatable
from .._detection.current import asyncio_runs, current_loop, existing_loop, trio_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType, FrameType
    from typing import Any, Final

    from .._loop.backend import Waitable

_modules = sys.modules

# The flags of the frames of generators and coroutines.
_IN_COROUTINE: Final = 0x20 | 0x80 | 0x200

# Where Twisted steps into a coroutine: with a value, and with an error.
_TWISTEDS: Final = ("twisted.internet.defer", "twisted.python.failure")

# Where our own driver steps into a coroutine.
_our_steps: set[CodeType] = set()


def we_drive(step: CodeType) -> None:
    """Make known that *step* is the code by which our driver steps into a coroutine."""
    _our_steps.add(step)


def _is_ours() -> bool:
    """Return whether our driver drives the coroutine that runs, while one of ours does.

    It may have begun a loop in which another driver's coroutine runs now. The driver is the first
    frame up the stack, above that coroutine, that belongs to no generator or coroutine.
    """
    if (
        "asyncio" not in _modules
        and "trio" not in _modules
        and "twisted.internet.defer" not in _modules
    ):
        return True  # no other driver is loaded
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_flags & _IN_COROUTINE:
        frame = frame.f_back
    while frame is not None and frame.f_code.co_flags & _IN_COROUTINE:
        frame = frame.f_back
    return frame is not None and frame.f_code in _our_steps


def driver() -> str | None:
    """Return what drives the coroutine that runs now.

    Returns:
        ``"asyncio"``, ``"trio"``, ``"twisted"``, ``"ours"``, or None: no coroutine of these runs.
    """
    if "twisted.internet.defer" in _modules and _is_twisteds():
        return "twisted"
    core = existing_loop()
    if core is not None and core.task is not None and _is_ours():
        return "ours"
    trio: Any = getattr(_modules.get("trio._core._run"), "GLOBAL_RUN_CONTEXT", None)
    in_trio = getattr(trio, "task", None) is not None
    if asyncio_runs(guest=True):
        return _inner_of_two() if in_trio else "asyncio"
    return "trio" if in_trio else None


def _is_twisteds() -> bool:
    """Return whether a Deferred drives the coroutine that runs, on whatever loop."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_flags & _IN_COROUTINE:
        frame = frame.f_back
    while frame is not None and frame.f_code.co_flags & _IN_COROUTINE:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") in _TWISTEDS


def _inner_of_two() -> str:
    """Return which of asyncio and trio, which both run in this thread, called the code here."""
    steps = _modules["trio._core._run"].unrolled_run.__code__
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("asyncio."):
        if frame.f_code is steps:
            return "trio"
        frame = frame.f_back
    return "asyncio"


def suspend(condvar: Waitable) -> Generator[Any, Any, None]:
    """Wait, inside ``await``, until *condvar* is ready, on whatever drives the coroutine.

    One that is ready is a checkpoint on trio, as every ``await`` is there, and nothing elsewhere.
    """
    drives = driver()
    if condvar._state and drives != "trio":
        return
    if drives is None:
        raise RuntimeError(
            "'await cv' works in asyncio tasks, trio tasks, coroutines that Twisted drives and "
            "those started by ae_core.spawn() or ae_core.run()"
        )
    condvar._enter()
    try:
        if drives == "ours":
            while not condvar._state:  # fast path: a property costs 40 ns
                yield condvar
        elif drives == "asyncio":
            from .._backends import _asyncio

            yield from _asyncio.wait_in_task(condvar)
        elif drives == "trio":
            from .._backends import _trio

            core = existing_loop()
            yield from _trio.wait_in_task(condvar, None if core is None else core.backend)
        else:
            from .._backends import _twisted

            yield from _twisted.wait_in_coroutine(condvar, current_loop())
    except BaseException:
        condvar._leave()  # the task is cancelled, or the coroutine closed
        raise


def await_for(
    condvar: Any,
    send: Callable[[Any], object],
    throw: Callable[[BaseException], object],
    cancel: Callable[[], object],
) -> Callable[[], None]:
    """Have one of the three called when *condvar* is ready; return how to give that up.

    The caller counts as an awaiter, as a coroutine does: for futures of other libraries.
    """
    over = False

    @repeatable
    def tell(_: object = None) -> None:
        nonlocal over
        if over:
            return
        over = True
        if condvar.cancelled:
            cancel()
        elif (error := condvar.error) is not None:
            throw(error)
        else:
            send(condvar._result())

    def leave() -> None:
        nonlocal over
        if not over:
            over = True
            condvar._forget_wake(tell)
            condvar._leave()

    condvar._enter()
    if condvar.ready:
        current_loop().postpone(tell)
    else:
        condvar._add_waker(tell)
    return leave


def cancelled_error(text: str) -> CancelledError:
    """Return what tells the running code that what it looks at was cancelled.

    In asyncio it is also an ``asyncio.CancelledError``, so that either clause catches it.
    """
    if driver() == "asyncio":
        from .._backends._asyncio import Cancelled

        return Cancelled(text)
    return CancelledError(text)


def cancelled_class() -> type[BaseException]:
    """Return the class of the exception that a cancelled task of the running loop gets.

    The portable clause around an ``await``, in libraries that shall work on every loop::

        except ae.cancelled_class():
            ...  # clean up
            raise

    Returns:
        ``asyncio.CancelledError`` where asyncio runs, ``trio.Cancelled`` in trio, Twisted's
        ``CancelledError`` in a coroutine that Twisted drives, and elsewhere
        :class:`CancelledError`, also where no loop runs.

    Clean-up that waits needs a shielded scope of trio's there: after the cancellation every
    ``await`` raises it again.
    """
    drives = driver()
    if drives == "asyncio":
        return _modules["asyncio"].CancelledError  # type: ignore[no-any-return]
    if drives == "trio" or (drives is None and trio_runs()):
        return _modules["trio"].Cancelled  # type: ignore[no-any-return]
    if drives == "twisted":
        return _modules["twisted.internet.defer"].CancelledError  # type: ignore[no-any-return]
    return CancelledError
