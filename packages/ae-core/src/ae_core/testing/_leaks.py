"""What is left behind: watchers, descriptors, threads, children."""

from __future__ import annotations

__all__ = ("LeakCheck", "LeakError", "leak_check")

import gc
import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from .._detection import current
from .._loop.timers import TimerEntry
from .._loop.watchers import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._loop.state import LoopState

# Our own threads end by themselves, some only after a moment of idleness; how long to wait.
_PATIENCE: Final = 10.0


class LeakError(AssertionError):
    """Something was left behind; the text lists it."""


class LeakCheck:
    """Compares what there is now with what there was when it was made.

    Counted are: active watchers and pending operations of this thread's loop, open descriptors,
    threads, child processes. Not counted are threads, workers and descriptors that the packages
    keep for the next call: they are ended first.
    """

    def __init__(self) -> None:
        core = current.existing_loop()
        self._core = core
        self._watchers = set(_watchers(core))
        self._descriptors = _descriptors()
        self._threads = _threads()
        self._children = _children()

    def watchers(self) -> list[str]:
        """Return descriptions of the watchers and operations that are active now and were not."""
        core = current.existing_loop()
        before = self._watchers if core is self._core else set()
        found = {key: text for key, text in _watchers(core).items() if key not in before}
        if found:
            gc.collect()
            _end_what_is_kept()
            found = {key: text for key, text in _watchers(core).items() if key not in before}
        return sorted(found.values())

    def left(self) -> list[str]:
        """Return descriptions of everything that was left behind, the empty list if nothing."""
        left = self._outside()
        if left:
            gc.collect()
            _end_what_is_kept()
            left = self._outside()
        return [*self.watchers(), *left]

    def _outside(self) -> list[str]:
        own = _own_descriptors(current.existing_loop())
        left = [
            f"descriptor {fd}: {what}"
            for fd, what in sorted(_descriptors().items())
            if self._descriptors.get(fd) != what and fd not in own
        ]
        left += sorted(f"thread {thread.name}" for thread in _threads() - self._threads)
        left += [f"child process {pid}" for pid in sorted(_children() - self._children)]
        return left


@contextmanager
def leak_check() -> Iterator[LeakCheck]:
    """Fail if the ``with`` block leaves a watcher, descriptor, thread or child behind.

    The thread's loop is detected first, so that what it opens for itself does not count. An
    exception of the block goes through unchecked: its traceback keeps things alive.

    Raises:
        LeakError: At the end of the block, listing what is left.

    Example:
        >>> import ae_core as ae
        >>> with leak_check():
        ...     with ae.timer(60, print):
        ...         pass
    """
    current.detect()
    check = LeakCheck()
    yield check
    left = check.left()
    if left:
        raise LeakError("left behind: " + "; ".join(left))


def _watchers(core: LoopState | None) -> dict[Any, str]:
    """Return what is active in *core*: a key for each, and its description."""
    if core is None or core.closed or not core.backend.usable():
        return {}
    found: dict[Any, str] = {}
    for number, entry in core.timers.live.items():
        callback = entry.callback if isinstance(entry, TimerEntry) else entry
        found["timer", number] = f"timer {name_of(callback)}"
    for side in (core.io.readers, core.io.writers):
        for first in side.values():
            for record in first.peers or (first,):
                found["io", id(record)] = f"io{record.describe()} {name_of(record.callback)}"
    for other in core.operations:
        found["other", id(other)] = _describe(other)
    return found


def _describe(other: Any) -> str:
    kind = getattr(other, "kind", None)
    if kind is None:
        return f"operation {other!r}"
    return f"{kind}{other.describe()} {name_of(other.callback)}"


def _own_descriptors(core: LoopState | None) -> tuple[int, ...]:
    """Return what the core opens for itself at its first ``recv()``."""
    wakeup = None if core is None or core.closed else core.per_loop.get("interrupt")
    return () if wakeup is None else (wakeup.fd, wakeup.sender)


def _descriptors() -> dict[int, str]:
    """Return the open descriptors and what they are; nothing where that cannot be told."""
    if sys.platform == "win32":
        return {}  # Wine has a /proc, but with the numbers of the system below it
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        found = {}
        for name in names:
            # the one that listed the directory is closed by now
            with suppress(OSError, ValueError):
                found[int(name)] = _file(directory, name)
        return found
    return {}


def _file(directory: str, name: str) -> str:
    try:
        return os.readlink(f"{directory}/{name}")
    except OSError:
        status = os.fstat(int(name))
        return f"{status.st_dev}:{status.st_ino}"


def _threads() -> set[threading.Thread]:
    # a dummy only says that a thread not made by threading (strict mode's) asked who it is
    return {t for t in threading.enumerate() if not isinstance(t, threading._DummyThread)}


def _children() -> set[int]:
    """Return the ids of the child processes, ended ones included."""
    if not hasattr(os, "waitid"):
        return set()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # the common case, in one call
    found: set[int] = set()
    with suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
                found.update(map(int, file.read().split()))
    return found


def _end_what_is_kept() -> None:
    """End the threads and processes that the packages keep for the next call."""
    modules = sys.modules
    for name in ("_fork_call.call", "_async.thread_pool"):
        module = modules.get(f"ae_core.{name}")
        if module is not None:
            module.shutdown()
    for thread in threading.enumerate():
        if thread.name.startswith(("ae-core", "ae_socket")) and thread.daemon:
            thread.join(_PATIENCE)
