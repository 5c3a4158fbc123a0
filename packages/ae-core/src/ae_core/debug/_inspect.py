"""What the loop of this thread is doing, as text: the shell's view of everything not wrapped.

Reads the core's own tables and the garbage collector's; changes nothing.
"""

from __future__ import annotations

__all__ = (
    "condvars",
    "descriptors",
    "handles",
    "stacks",
    "statistics",
    "tasks",
    "timers",
)

import gc
import sys
import traceback
from copy import copy
from typing import TYPE_CHECKING, Any

from .. import logs
from .._async.condvar import CondVar
from .._async.tasks import Task
from .._base.describe import callback_text
from .._detection.current import current_loop
from .._loop.blocking import block
from .._loop.timers import TimerEntry
from ._wrap import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._loop.state import LoopState

_BLOCKED = f"{block.__qualname__}."  # the callback of a blocking recv()


def statistics() -> str:
    """Return what loop this is, why, and how much it has to do."""
    core = current_loop()
    rows: dict[str, object] = {
        "backend": f"{core.backend.name} ({core.backend.reason})",
        "time": logs.format_time(core.backend.now()),
        "read watchers": _count(core.io.readers),
        "write watchers": _count(core.io.writers),
        "timers": len(core.timers.live),
        "other watchers and operations": len(core.operations),
        "postponed calls": len(core.calls.postponed),
        **core.backend.statistics(),
    }
    return "".join(f"{name + ':':<31}{value}\n" for name, value in rows.items())


def _count(side: dict[int, Any]) -> int:
    return sum(len(first.peers or (first,)) for first in side.values())


def _name(callback: object) -> str:
    """Return what stands for a callback: a wrapped watcher's text, or its name."""
    return callback.facts.text if isinstance(callback, Probe) else callback_text(callback)


def descriptors() -> str:
    """Return the descriptors that are watched, and by what callbacks."""
    core = current_loop()
    rows: list[tuple[int, str, str]] = []
    for direction, side in (("r", core.io.readers), ("w", core.io.writers)):
        for fd, first in side.items():
            rows += [(fd, direction, _name(record.callback)) for record in first.peers or (first,)]
    return "".join(f"{fd:>4} {direction}  {text}\n" for fd, direction, text in sorted(rows))


def timers() -> str:
    """Return when each timer is due, in seconds from now, and its callback; the next one first."""
    core = current_loop()
    now = core.clock()
    return "".join(
        f"{at - now:>12.3f} s  {_name(callback)}{every}\n"
        for at, callback, every in sorted(_timers(core), key=lambda row: row[0])
    )


def _timers(core: LoopState) -> Iterator[tuple[float, object, str]]:
    for at, number in [
        *copy(core.timers.batch or ()),
        *core.timers.heap,
        *((at, number) for number, at in core.timers.incoming.items()),
    ]:
        entry = core.timers.live.get(number)
        if isinstance(entry, TimerEntry):
            every = f", every {entry.interval:g} s" if entry.interval else ""
            yield at, entry.callback, every
        elif entry is not None:
            yield at, entry, ""


def condvars() -> str:
    """Return the condition variables that are not ready and are waited for."""
    rows = []
    for thing in gc.get_objects():
        # type(), not isinstance(): a proxy may do anything when asked for its class
        if issubclass(type(thing), CondVar) and not thing.ready and thing._callbacks:
            waiting = ", ".join(map(_waiter, thing._callbacks))
            rows.append(f"{type(thing).__name__} at {id(thing):#x}  waited for by {waiting}\n")
    return "".join(sorted(rows))


def _waiter(callback: Callable[..., object]) -> str:
    task = getattr(callback, "__self__", None)
    if type(task) is Task:
        return f"task {_coroutine_name(task)}"
    if getattr(callback, "__qualname__", "").startswith(_BLOCKED):
        return "recv()"
    return callback_text(callback)


def _coroutine_name(task: Task[Any]) -> str:
    return str(getattr(task._coroutine, "__qualname__", task._coroutine))


def tasks() -> str:
    """Return the coroutines that run as tasks of ours, and where each of them waits."""
    rows = []
    for thing in current_loop().operations:
        if isinstance(thing, Task):
            where = ""
            frame = getattr(thing._coroutine, "cr_frame", None)
            if frame is not None:
                where = f"  {frame.f_globals.get('__name__')}:{frame.f_lineno}"
            rows.append(f"{_coroutine_name(thing)}{where}\n")
    return "".join(sorted(rows))


def handles() -> str:
    """Return the handles of ae_handle; it is not imported for that."""
    cls = getattr(sys.modules.get("ae_handle"), "Handle", None)
    if cls is None:
        return ""
    return "".join(
        sorted(f"{thing!r}\n" for thing in gc.get_objects() if issubclass(type(thing), cls))
    )


def stacks() -> str:
    """Return the stack of every thread."""
    threading = sys.modules.get("threading")
    names = {} if threading is None else {t.ident: t.name for t in threading.enumerate()}
    parts = []
    for ident, frame in sorted(sys._current_frames().items()):
        parts.append(f"thread {ident} {names.get(ident, '')}\n")
        parts += traceback.format_stack(frame)
    return "".join(parts)
