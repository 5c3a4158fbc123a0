"""``release()``: a thread leaves its loop because the program says so."""

from __future__ import annotations

__all__ = ("release",)

from . import current
from .needs import alive, operations_of


def release() -> list[str]:
    """End what is bound to this thread's loop; the next watcher detects the loop anew.

    For programs that have waited, or served, and now run another loop in the same thread. A
    built-in loop that nothing needs any more is left by itself; this is for all others.

    Returns:
        What was still alive: a text for each watcher, timer and pending operation. Each is also
        logged as a warning.

    Watchers have ended then. Operations are cancelled. Coroutines of :func:`~ae_core.spawn` are
    closed: their ``finally`` clauses run, and cannot wait. A ``use()`` is forgotten.

    Raises:
        RuntimeError: In a callback or a coroutine of the loop, or while a greenlet waits.
    """
    core = current.existing_loop()
    place = current.thread_slot()
    place.forget_choice()
    if core is None or core.closed:
        return []
    if core.runner.blocked or core.backend.running():
        raise RuntimeError(
            "release() during a recv(), or inside of a callback or coroutine of the "
            f"{core.backend.name} loop"
        )
    found = alive(core)
    operations = operations_of(core)
    current.leave(core)
    for operation in operations:
        operation.cancel()
    if found:
        from .._base.log import log

        for text in found:
            log("warn", "released while it was alive: %s", text, context="ae_core")
    return found


release.__module__ = "ae_core"
