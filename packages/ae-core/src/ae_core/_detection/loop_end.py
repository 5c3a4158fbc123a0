"""The end of a thread's loop, for libraries: a callback at it, and a loop after it."""

from __future__ import annotations

__all__ = ("aside", "at_loop_end")

import atexit

from .._loop.watchers import RecordWatcher
from .._sources.loop_end import EndRecord
from . import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import copy_context
    from types import TracebackType
    from typing import Any

    from .._loop.backend import Backend
    from .._loop.state import LoopState
    from .._loop.watchers import Watcher
else:
    from _contextvars import copy_context

_at_exit_known = False


def at_loop_end(callback: Callable[[], object], *, at_quit: bool = True) -> Watcher:
    """Call *callback* once when the loop that serves this thread ends.

    For libraries that run something of their own in the loop, and have to end it before the loop.

    Args:
        callback: Called without arguments. What it raises goes to ``exception_hook``.
        at_quit: Call it also when the program is about to end, although the loop may still run:
            when Qt's application emits ``aboutToQuit``, and when the interpreter exits, whose
            other handlers may wait for something.

    **When**: as soon as the end is known: Tk's root is destroyed, Qt's application emits
    ``aboutToQuit`` or is deleted, Twisted has shut down, the loop of asyncio is closed, trio's run
    is over, the binding is released, the thread ends, or the interpreter exits (for the main
    thread's loop). A main loop that returns is no end, nor is ``recv()``: it may be called again.
    The youngest is called first. The call may come inside another callback of the loop; the loop
    cannot be waited for any more, see :class:`aside`. Not in a child made by ``fork``.

    **Lifetime**: the caller holds the watcher, as any other. It keeps no loop running.

    Raises:
        TypeError: If *callback* cannot be called.
        WrongLoop: If another loop runs in this thread.
    """
    global _at_exit_known
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    context = copy_context()
    record = EndRecord(current.current_loop(), callback, context if context else None, at_quit)
    watcher = RecordWatcher(record)
    if not _at_exit_known:
        _at_exit_known = True
        atexit.register(_at_exit)
    return watcher


def _at_exit() -> None:
    place = current.thread_slot()
    for core in (place.core, *place.resting):
        if core is not None:
            core.call_ends(quits=True)


class aside:
    """Bind the thread to a loop of its own while the ``with`` block lasts.

    For what is left to do when the thread's loop has ended, or must not run:

        with aside("loop"):
            finish().recv(timeout=10)

    Args:
        backend: The name of the loop; None leaves it to detection, at the first watcher.
        options: For the backend.

    What the thread was bound to is put aside, with its watchers and its ``use()``, and is back
    after the block. Watchers made inside have ended then.

    Yields:
        The new backend, None if it was left to detection.

    Raises:
        ValueError, BackendUnavailable: If there is no such backend.
        WrongLoop: If a loop of asyncio or trio runs in this thread. (A run of trio whose main task
            has ended, as in what :func:`at_loop_end` calls, does not count.)
    """

    __slots__ = ("_before", "_name", "_options")

    _before: tuple[Any, LoopState | None]

    def __init__(self, backend: str | None = None, **options: Any) -> None:
        self._name = backend
        self._options = options

    def __enter__(self) -> Backend | None:
        self._before = (current.thread_slot().set_aside(), current.main_core())
        current.put_back(None, None)
        if self._name is None:
            return None
        try:
            current.use(self._name, **self._options)
            return current.detect()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        place = current.thread_slot()
        mine = (place.core, *place.resting)
        before, main = self._before
        core = place.take_back(before)
        try:
            current.put_back(None, None)
            for each in mine:
                if each is not None:
                    each.close()
        finally:
            current.put_back(None if core is not None and core.closed else core, main)
