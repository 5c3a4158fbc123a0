"""Leaving a thread's loop: what still needs it, ``release()``, and what moves on by itself."""

from __future__ import annotations

__all__ = ("alive", "leave_for", "release", "running_host")

import sys

from .._base.errors import BlockingNotAllowed, WrongLoop
from .._base.thread_identity import in_main_thread
from .._loop.timers import TimerEntry
from .._loop.watchers import name_of
from . import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from .._loop.state import LoopState

_modules = sys.modules


def _callbacks(core: LoopState) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield what each watcher and timer is, with its callback."""
    for entry in core.timers.live.values():
        yield "timer", entry.callback if isinstance(entry, TimerEntry) else entry
    for record in core.io.records():
        if record.callback is not None:
            yield f"io{record.describe()}", record.callback


def _owner(callback: Any) -> Any:
    """Return the object whose method is called."""
    return getattr(getattr(callback, "func", callback), "__self__", None)


def alive(core: LoopState) -> list[str]:
    """Return a text for each thing that needs this loop; services of our own do not."""
    found = []
    for kind, callback in _callbacks(core):
        owner = _owner(callback)
        if not getattr(owner, "is_service", False):
            operation = getattr(owner, "_awaiters", -1) >= 0
            found.append(repr(owner) if operation else f"{kind} {name_of(callback)}")
    for other in core.operations:
        what = getattr(other, "kind", None)
        if what is None:
            found.append(repr(_operation(other) or other))
        elif what != "end":
            found.append(f"{what}{other.describe()} {name_of(other.callback)}")
    count = len(core.calls.postponed) + len(core.calls.owed) + len(core.calls.threadsafe)
    if count:
        found.append(f"{count} postponed call{'s' if count > 1 else ''}")
    return found


def _operation(other: Any) -> Any:
    """Return the condition variable that stands behind a pending operation, if there is one."""
    if getattr(other, "_awaiters", None) is not None:
        return other
    owner = getattr(other, "_owner", None)
    return getattr(other, "condvar", None) or getattr(owner, "condvar", None) or owner


def _leave(core: LoopState) -> None:
    """End the binding to a loop that nobody needs; services of our own follow to the next."""
    services = {owner for _, each in _callbacks(core) if _is_moving(owner := _owner(each))}
    if current.existing_loop() is core:
        current.put_back(None, None if current.main_core() is core else current.main_core())
    core.close()
    current.on_next_binding.extend(service.move for service in services)


def leave_for(foreign: str, core: LoopState, blocking: bool) -> None:
    """Leave the loop of *core* for *foreign*, which runs in this thread.

    Raises:
        WrongLoop, BlockingNotAllowed: It is needed, or was chosen.
    """
    ours = core.backend.name
    text = (
        f"the {foreign} loop runs in this thread, but the thread is bound to the {ours} loop "
        f"({core.backend.reason})"
    )
    if core.runner.blocked:
        text += f", inside a recv() of which {foreign} was started: its watchers stand still"
    elif core.is_own_loop and not core.chosen:
        needs = alive(core)
        if not needs:
            _leave(core)
            return
        text += (
            f", where {len(needs)} {'is' if len(needs) == 1 else 'are'} alive: "
            f"{'; '.join(needs[:5])}{' ...' if needs[5:] else ''}: end that first, "
            f"call ae_core.release(), or ae_core.use({foreign!r}) before the first watcher"
        )
    else:
        text += f": call ae_core.release() first, or ae_core.use({foreign!r}) from the beginning"
    if blocking:
        raise BlockingNotAllowed(f"{text}; recv() would stop it: use 'await cv' there")
    raise WrongLoop(text)


def _is_moving(owner: Any) -> bool:
    return getattr(owner, "is_service", False) and hasattr(owner, "move")


def release() -> list[str]:
    """End what is bound to this thread's loop; the next watcher detects the loop anew.

    For programs that have waited, or served, and now run another loop in the same thread. A
    built-in loop that nothing needs any more is left by itself; this is for all others.

    Returns:
        What was still alive: a text for each watcher, timer and pending operation. Each is also
        logged as a warning.

    Watchers are dead then. Operations are cancelled. Coroutines of :func:`~ae_core.spawn` are
    closed: their ``finally`` clauses run, and cannot wait. A ``use()`` is forgotten.

    Raises:
        RuntimeError: In a callback or a coroutine of the loop.
    """
    core = current.existing_loop()
    place = current.thread_slot()
    place.asked = None
    if core is None or core.closed:
        return []
    if core.runner.blocked or core.backend.running():
        raise RuntimeError(
            f"release() inside of a callback or coroutine of the {core.backend.name} loop"
        )
    found = alive(core)
    operations = [_owner(callback) for _, callback in _callbacks(core)]
    operations += [_operation(other) for other in core.operations]
    _leave(core)
    for operation in operations:
        if getattr(operation, "_awaiters", -1) >= 0:
            operation.cancel()
    if found:
        from .._base.log import log

        for text in found:
            log("warn", "released while it was alive: %s", text, context="ae_core")
    return found


def running_host() -> str | None:
    """Return the name of a loop of the process that runs now below us, other than asyncio or trio.

    Only for a thread that is bound to the built-in loop: what that loop itself calls is not asked.
    """
    if not in_main_thread():
        return None
    reactor = _modules.get("twisted.internet.reactor")
    if getattr(reactor, "running", False):
        return "twisted"
    for binding in ("PyQt6", "PySide6"):
        thread: Any = getattr(_modules.get(f"{binding}.QtCore"), "QThread", None)
        if thread is not None and thread.currentThread().loopLevel() > 0:
            return "qt"
    glib: Any = _modules.get("gi.repository.GLib")
    if glib is not None and glib.main_depth() > 0:
        return "glib"
    tkinter: Any = _modules.get("tkinter")
    if tkinter is not None and _is_below(tkinter.Misc.mainloop, tkinter.mainloop):
        return "tk"
    return None


def _is_below(*functions: Any) -> bool:
    """Return whether one of *functions* is on the stack."""
    codes = [function.__code__ for function in functions]
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


release.__module__ = "ae_core"
