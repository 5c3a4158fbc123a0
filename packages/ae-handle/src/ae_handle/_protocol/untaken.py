"""Items that were delivered to coroutines which have not run since, and so may be given back."""

from __future__ import annotations

__all__ = ("Untaken",)

from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .read_queue import PendingRead


class Untaken:
    """Items in the order of their delivery, none of which was taken before another one here.

    An entry is the weak reference of :meth:`PendingRead.consumed`, dead when the item was taken;
    or the request itself when it was given back, and waits for those behind it.
    """

    __slots__ = ("_entries",)

    def __init__(self, item: Any) -> None:
        self._entries: list[Any] = [item]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, item: Any) -> None:
        """Add *item*, which is delivered now."""
        entries = self._entries
        # one that was taken cannot be read again, so nothing before it can
        for at in range(len(entries) - 1, -1, -1):
            entry = entries[at]
            if isinstance(entry, ref) and entry() is None:
                del entries[: at + 1]
                break
        entries.append(item)

    def give_back(self, request: PendingRead) -> list[bytes] | None:
        """Note that the item of *request* was not taken; return what goes back now, last first.

        None if it cannot go back, because one behind it was taken.
        """
        entries = self._entries
        for at in range(len(entries) - 1, -1, -1):
            entry = entries[at]
            if isinstance(entry, ref):
                method = entry()
                if method is None:
                    return None
                if method.__self__ is request:
                    entries[at] = request
                    break
        else:
            return None
        parts = []
        while entries and not isinstance(entries[-1], ref):
            parts.append(entries.pop().data())
        return parts
