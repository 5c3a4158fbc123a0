"""Threads as the interpreter has them: which one this is, its own storage, locks, new ones.

gevent's monkey patching gives each greenlet an identity and "thread-local" storage of its own, and
makes a greenlet where a thread is asked for. A loop belongs to the real thread, whose greenlets
share it, and what blocks must not block them: so we take the originals. All of ae_core takes them
from here, other packages by ``ae_core.abc``.
"""

from __future__ import annotations

__all__ = (
    "ThreadLocal",
    "ThreadLock",
    "allocate_lock",
    "bystander",
    "bystanders",
    "get_ident",
    "in_main_thread",
    "is_patched",
    "local",
    "make_thread",
    "original",
    "sleep",
    "start_new_thread",
    "this_stack",
    "wrong_thread",
)

import os
import sys
from _thread import RLock  # gevent has its own in threading only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn, Protocol

    class Thread(Protocol):
        """What :func:`make_thread` returns."""

        def start(self) -> None: ...
        def join(self) -> None: ...
        def is_alive(self) -> bool: ...


def is_patched(module: str) -> bool:
    """Return whether gevent has patched a module of the standard library."""
    monkey = sys.modules.get("gevent.monkey")
    # half-imported, it has not patched anything yet
    asked = getattr(monkey, "is_module_patched", None)
    return asked is not None and asked(module)


def original(module: str, name: str) -> Any:
    """Return what a module of the standard library calls *name*, as if gevent had not patched it.

    For what has to block its thread and no greenlet, or belongs to the thread. To be asked for
    when it is used: a program may patch after the import.
    """
    if is_patched(module):
        return sys.modules["gevent.monkey"].get_original(module, name)
    __import__(module)
    return getattr(sys.modules[module], name)


if TYPE_CHECKING:
    from _thread import _local as local
    from _thread import allocate_lock as allocate_lock
    from _thread import get_ident as get_ident
    from _thread import start_new_thread as start_new_thread
    from time import sleep as sleep
else:
    local = original("_thread", "_local")
    allocate_lock = original("_thread", "allocate_lock")
    get_ident = original("_thread", "get_ident")
    start_new_thread = original("_thread", "start_new_thread")
    sleep = original("time", "sleep")


class ThreadLocal(local):
    """What each thread has of its own, as ``threading.local``; greenlets of one thread share it.

    For what belongs to the loop of the thread.
    """


class ThreadLock(RLock):  # type: ignore[misc]
    """A lock between threads, as ``threading.RLock``: who has it may take it again.

    The owner is the thread, so all of its greenlets have it; no callback of the user and nothing
    that waits may run while it is held.
    """

    __slots__ = ()


def _find_main_thread() -> int:
    threading = sys.modules.get("threading")
    if threading is None or is_patched("threading"):
        # no other threads yet, or only gevent's idea of them
        return get_ident()
    main: int = threading.main_thread().ident
    return main


_main_thread = _find_main_thread()


def in_main_thread() -> bool:
    """Return whether this is the main thread, wherever we were imported first."""
    return get_ident() == _main_thread


#: Which stack runs, where one thread has several (gevent's greenlets); set by such a backend.
stack_ident: Callable[[], int] | None = None


def this_stack() -> int:
    """Return which stack runs: the thread's, or that of one of its greenlets."""
    getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    if getcurrent is None:
        return get_ident()
    try:
        return id(getcurrent())
    except RuntimeError:  # the interpreter is going down: no greenlet runs any more
        return get_ident()


#: The threads of ours that never end a wait by themselves: an idle worker, a watchdog. A wait
#: does not count on them.
bystanders: set[int] = set()


class bystander:
    """While active, the thread that runs the block is one of :data:`bystanders`."""

    __slots__ = ()

    def __enter__(self) -> None:
        bystanders.add(get_ident())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        bystanders.discard(get_ident())


def make_thread(function: Callable[..., object], /, *args: Any, name: str) -> Thread:
    """Return a new daemon thread that calls ``function(*args)``, once it is started.

    One of ``threading``, for all to see, unless gevent has that make greenlets.

    Raises:
        RuntimeError: eventlet has ``threading`` make greenlets.
    """
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise RuntimeError(
            "a thread is needed, and eventlet has replaced them by greenlets: "
            "call monkey_patch(thread=False)"
        )
    if is_patched("threading"):
        return _Unseen(function, args)
    import threading

    return threading.Thread(target=function, args=args, name=name, daemon=True)


class _Unseen:
    """A thread that ``threading`` does not know of."""

    __slots__ = ("_args", "_ended", "_function")

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._ended: LockType = allocate_lock()

    def start(self) -> None:
        self._ended.acquire()
        try:
            start_new_thread(self._run, ())
        except BaseException:
            self._ended.release()
            raise

    def _run(self) -> None:  # pragma: no cover (tracers come with `threading`, which is not asked)
        try:
            self._function(*self._args)
        finally:
            self._args = ()
            # what was called may have waited by gevent's functions, which makes a hub
            hub = sys.modules["gevent._hub_local"].get_hub_if_exists()
            if hub is not None:
                hub.destroy(destroy_loop=True)
            self._ended.release()

    def join(self) -> None:
        with self._ended:
            return

    def is_alive(self) -> bool:
        return self._ended.locked()


def _after_fork_in_child() -> None:
    global _main_thread
    _main_thread = get_ident()
    # they stayed with the parent, and the child gives their identities to others
    bystanders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def wrong_thread() -> NoReturn:
    """Refuse to cancel a watcher of another thread."""
    raise RuntimeError(
        "a watcher can only be cancelled in the thread that made it; "
        "use call_threadsafe(watcher.cancel) of that thread's loop"
    )
