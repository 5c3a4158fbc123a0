"""The callbacks that wait for the first detection of the process."""

from __future__ import annotations

__all__ = ("PostDetect", "waiting")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Each with a key of its own, in the order they were given.
waiting: list[tuple[object, Callable[[], object]]] = []


class PostDetect:
    """The guard of a :func:`post_detect` callback that has not run yet."""

    __slots__ = ("__weakref__", "_entry")

    _entry: tuple[object, Callable[[], object]] | None

    def __init__(self, callback: Callable[[], object]) -> None:
        self._entry = entry = (object(), callback)
        waiting.append(entry)

    def cancel(self) -> None:
        """Take the callback back. Idempotent."""
        entry, self._entry = self._entry, None
        if entry is not None and entry in waiting:
            waiting.remove(entry)

    def __del__(self) -> None:
        self.cancel()
