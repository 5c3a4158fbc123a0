"""``post_detect``: callbacks that wait for the first detection of the process."""

from __future__ import annotations

__all__ = ("PostDetect", "post_detect")

from .current import existing_loop, waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


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


def post_detect(callback: Callable[[], object]) -> PostDetect | None:
    """Call *callback* when a backend has been chosen; immediately if that was done already.

    Returns:
        Before detection a guard: dropping or cancelling it takes the callback back. None after.

    Callbacks run in the order they were given. Only the first detection of a process counts.

    Perl: ``AnyEvent::post_detect``
    """
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    if existing_loop() is not None:
        callback()
        return None
    return PostDetect(callback)
