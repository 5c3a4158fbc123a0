"""Binding a thread to a backend for a while, whatever it was bound to before."""

from __future__ import annotations

__all__ = ("binding", "release")

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._detection import current
from .._detection.loop_end import aside
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._loop.state import LoopState


def release() -> None:
    """End this thread's binding and its watchers; the next watcher detects again.

    Also takes back a ``use()`` that nothing has followed yet.
    """
    resting = current.thread_slot().resting
    for core in (_take(), *resting):
        if core is not None:
            core.close()
    resting.clear()


@contextmanager
def binding(backend: str | type[Backend] | None = None, **options: Any) -> Iterator[Backend | None]:
    """Bind this thread anew for the ``with`` block.

    Args:
        backend: The name of a backend, or its class; None leaves it to detection, at the first
            watcher.
        options: For the backend's constructor.

    Yields:
        The new backend; None if it was left to detection.

    What the thread was bound to before is put aside, with its watchers, and is back after the
    block. Watchers made inside have ended then.

    Raises:
        TypeError: If *backend* is none of these.
        ValueError, BackendUnavailable: If there is no such backend.

    Example:
        >>> with binding("loop", multiplexer="select") as backend:
        ...     backend.statistics()["multiplexer"]
        'select'
    """
    with aside():
        if backend is None:
            yield None
        elif isinstance(backend, str):
            current.use(backend, **options)
            yield current.detect()
        elif isinstance(backend, type) and issubclass(backend, Backend):
            yield current.bind(backend, "bound by ae_core.testing", options).backend
        else:
            raise TypeError(f"expected the name or the class of a backend, got {backend!r}")


def _take() -> LoopState | None:
    """Unbind this thread and return its core, if it has one."""
    core = current.existing_loop()
    main = current.main_core()
    current.put_back(None, None if core is not None and main is core else main)
    current.thread_slot().forget_choice()
    return core
