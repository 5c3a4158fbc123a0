"""Watching descriptors with uvloop, level triggered also where a descriptor has an error.

libuv tells of an error (a connection that was reset) once, and stops watching; uvloop calls its
callbacks for it and forgets them. What had arrived before the error, and the error itself, would
stay unread: a watcher is called again until it ends, on every other loop.
"""

from __future__ import annotations

__all__ = ("UvloopPolls",)

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

# A weak reference to each callback tells when uvloop has forgotten it, which costs nothing per
# event. It is given back in the next turn, when uvloop has closed what it watched with.


class UvloopPolls:
    """The readers and writers of a loop of uvloop."""

    __slots__ = ("_given", "_loop")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._given: dict[tuple[int, bool], ref[Callable[[], None]]] = {}

    def start(self, fd: int, write: bool, callback: Callable[[], None]) -> None:
        """Call *callback* whenever *fd* is ready."""
        kept = partial(callback)
        try:
            self._add(fd, write, kept)
        except RuntimeError:  # what watched the other direction is closed, see `_forgotten`
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._add(fd, write, kept)
        self._given[fd, write] = ref(
            kept, lambda given: self._forgotten(fd, write, callback, given)
        )

    def _add(self, fd: int, write: bool, callback: Callable[[], None]) -> None:
        if write:
            self._loop.add_writer(fd, callback)
        else:
            self._loop.add_reader(fd, callback)

    def stop(self, fd: int, write: bool) -> None:
        """End that."""
        self._given.pop((fd, write), None)
        if not self._loop.is_closed():
            if write:
                self._loop.remove_writer(fd)
            else:
                self._loop.remove_reader(fd)

    def close(self) -> None:
        """Forget everything."""
        self._given.clear()

    def _forgotten(self, fd: int, write: bool, callback: Callable[[], None], given: Any) -> None:
        """Uvloop has dropped a callback: because it was stopped, or because of an error."""
        if self._given.get((fd, write)) is given and not self._loop.is_closed():
            self._loop.call_soon(self._give_back, fd, write, callback, given)

    def _give_back(self, fd: int, write: bool, callback: Callable[[], None], given: Any) -> None:
        if self._given.get((fd, write)) is given:
            self.stop(fd, write)
            self.start(fd, write, callback)
