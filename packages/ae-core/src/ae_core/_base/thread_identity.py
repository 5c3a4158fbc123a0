"""Which thread this is, and what belongs to it: by the interpreter's own functions.

gevent's monkey patching gives each greenlet an identity and "thread-local" storage of its own.
A loop belongs to the real thread, whose greenlets share it, so we take the originals.
"""

from __future__ import annotations

__all__ = (
    "bystander",
    "bystanders",
    "get_ident",
    "in_main_thread",
    "local",
    "sleep",
    "wrong_thread",
)

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn

_monkey = sys.modules.get("gevent.monkey")
if _monkey is None or TYPE_CHECKING:
    from _thread import _local as local
    from _thread import get_ident as get_ident
    from time import sleep as sleep
else:
    get_ident = _monkey.get_original("_thread", "get_ident")
    local = _monkey.get_original("_thread", "_local")
    sleep = _monkey.get_original("time", "sleep")

_importer = get_ident()


def in_main_thread() -> bool:
    """Return whether this is the main thread, wherever we were imported first."""
    threading = sys.modules.get("threading")
    if threading is None or (_monkey is not None and _monkey.is_module_patched("threading")):
        # no other threads yet, or only gevent's idea of them
        return get_ident() == _importer
    main: bool = threading.main_thread().ident == get_ident()
    return main


#: Which stack runs, where one thread has several (gevent's greenlets); set by such a backend.
stack_ident: Callable[[], int] | None = None

#: The threads of ours that never end a wait by themselves: an idle worker, a watchdog. A wait
#: does not count on them.
bystanders: set[int] = set()


class bystander:
    """While active, the thread that runs the block is one of :data:`bystanders`."""

    __slots__ = ()

    def __enter__(self) -> None:
        if not in_main_thread():  # where gevent has made a greenlet of the thread
            bystanders.add(get_ident())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        bystanders.discard(get_ident())


if hasattr(os, "register_at_fork"):
    # they stayed with the parent, and the child gives their identities to others
    os.register_at_fork(after_in_child=bystanders.clear)


def wrong_thread() -> NoReturn:
    """Refuse to cancel a watcher of another thread."""
    raise RuntimeError(
        "a watcher can only be cancelled in the thread that made it; "
        "use call_threadsafe(watcher.cancel) of that thread's loop"
    )
