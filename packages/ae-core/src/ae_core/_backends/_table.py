"""Every backend there is, in the order in which detection looks at them.

A row says how to tell, without importing anything, whether the program already uses that loop
in this thread. The adapter's file is imported only once its row is chosen.
"""

from __future__ import annotations

__all__ = ("BACKENDS", "BackendSpec")

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class BackendSpec:
    """One row of the table.

    Args:
        name: What ``use()`` calls it.
        file: The adapter's module, below this package.
        cls: Its class there.
        library: The module whose absence makes it unavailable; None if it is always there.
        package: What to install then, as the package index calls it.
        live: Tells why it would be chosen now, or None.
        exclusive: It owns the process: tests give it a process of its own.
    """

    __slots__ = ("cls", "exclusive", "file", "library", "live", "name", "package")

    def __init__(
        self,
        name: str,
        file: str,
        cls: str,
        library: str | None,
        package: str | None,
        live: Callable[[], str | None],
        *,
        exclusive: bool = False,
    ) -> None:
        self.name = name
        self.file = file
        self.cls = cls
        self.library = library
        self.package = package
        self.live = live
        self.exclusive = exclusive


def _asyncio() -> str | None:
    events = sys.modules.get("asyncio.events")
    # half-imported modules have no such attribute yet; then no loop runs either
    running: Callable[[], Any] | None = getattr(events, "_get_running_loop", None)
    return "running in this thread" if running is not None and running() is not None else None


def _trio() -> str | None:
    run = sys.modules.get("trio._core._run")
    context = getattr(run, "GLOBAL_RUN_CONTEXT", None)
    return "running in this thread" if getattr(context, "runner", None) is not None else None


def _never() -> str | None:
    return None


# Running loops first: where one runs there is no choice. Then what is loaded and live: a module
# that was merely imported says nothing. Last, always, our own.
BACKENDS: tuple[BackendSpec, ...] = (
    BackendSpec("asyncio", "_asyncio", "AsyncioBackend", None, None, _asyncio),
    BackendSpec("loop", "_loop", "LoopBackend", None, None, _never),
)
