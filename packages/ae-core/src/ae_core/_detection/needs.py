"""What needs a thread's loop, and which other loop of the process runs below us.

Only looks: what becomes of a binding is decided in ``current`` and ``leaving``.
"""

from __future__ import annotations

__all__ = ("alive", "operations_of", "running_host", "services_of")

import sys

from .._base.thread_identity import in_main_thread
from .._loop.timers import TimerEntry
from .._loop.watchers import name_of

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
            found.append(repr(owner) if _is_operation(owner) else f"{kind} {name_of(callback)}")
    for other in core.operations:
        what = getattr(other, "kind", None)
        operation = _operation(other)
        if what is None or _is_operation(operation):
            found.append(repr(operation or other))
        elif what != "end":
            found.append(f"{what}{other.describe()} {name_of(other.callback)}")
    holders = [each() for each in list(core.backend.holders)]
    found += [repr(holder) for holder in holders if holder is not None]
    count = len(core.calls.postponed) + len(core.calls.owed) + len(core.calls.threadsafe)
    if count:
        found.append(f"{count} postponed call{'s' if count > 1 else ''}")
    return found


def _operation(other: Any) -> Any:
    """Return the condition variable that stands behind a pending operation, if there is one."""
    if getattr(other, "_awaiters", None) is not None:
        return other
    if getattr(other, "callback", None) is not None:
        return _owner(other.callback)  # a Process watches its child
    owner = getattr(other, "_owner", None)
    return getattr(other, "condvar", None) or getattr(owner, "condvar", None) or owner


def services_of(core: LoopState) -> set[Any]:
    """Return the services of our own on this loop that can move to another one."""
    owners = {_owner(callback) for _, callback in _callbacks(core)}
    return {each for each in owners if getattr(each, "is_service", False) and hasattr(each, "move")}


def operations_of(core: LoopState) -> list[Any]:
    """Return the operations that are pending on this loop, and can be cancelled."""
    found = [_owner(callback) for _, callback in _callbacks(core)]
    found += [_operation(other) for other in core.operations]
    return [each for each in found if _is_operation(each)]


def _is_operation(thing: Any) -> bool:
    """Return whether it is an operation, which can be cancelled."""
    return getattr(thing, "_awaiters", -1) >= 0


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
    depth = getattr(_modules.get("gi.repository.GLib"), "main_depth", None)
    if depth is not None and depth() > 0:
        return "glib"
    tkinter: Any = _modules.get("tkinter")
    if hasattr(tkinter, "Misc") and _is_below(tkinter.Misc.mainloop, tkinter.mainloop):
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
