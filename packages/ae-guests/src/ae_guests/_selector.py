"""Has the host watch a selector of the standard library."""

from __future__ import annotations

__all__ = ("watch",)

from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any, Final, Literal

import ae_core as ae

if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTIONS: Final[tuple[tuple[Literal["r", "w"], int], ...]] = (
    ("r", EVENT_READ),
    ("w", EVENT_WRITE),
)


def watch(selector: Any, callback: Callable[[], object]) -> Any:
    """Call *callback* in the host whenever *selector* has something to report.

    Returns:
        An object whose ``cancel()`` ends it.
    """
    if hasattr(selector, "fileno"):
        return ae.io(selector.fileno(), "r", callback)
    return _Mirror(selector, callback)


class _Mirror:
    """Watches each descriptor of a selector that has none of its own (poll, select)."""

    def __init__(self, selector: Any, callback: Callable[[], object]) -> None:
        self._selector = selector
        self._callback = callback
        self._watchers: dict[tuple[int, str], Any] = {}
        for name in ("register", "modify", "unregister"):
            setattr(selector, name, self._followed(getattr(selector, name)))
        for key in selector.get_map().values():
            self._follow(key.fd, key.events)

    def _followed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(fileobj: Any, *args: Any, **options: Any) -> Any:
            key = method(fileobj, *args, **options)
            current = self._selector.get_map()
            self._follow(key.fd, key.events if key.fd in current else 0)
            return key

        return call

    def _follow(self, fd: int, events: int) -> None:
        for direction, bit in _DIRECTIONS:
            watcher = self._watchers.pop((fd, direction), None)
            if watcher is not None:
                watcher.cancel()
            if events & bit:
                self._watchers[fd, direction] = ae.io(fd, direction, self._callback)

    def cancel(self) -> None:
        for name in ("register", "modify", "unregister"):
            delattr(self._selector, name)
        for watcher in self._watchers.values():
            watcher.cancel()
        self._watchers.clear()
