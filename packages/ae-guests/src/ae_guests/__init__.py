"""asyncio and trio programs inside any event loop that ``ae_core`` knows."""

from __future__ import annotations

__all__ = ("__version__", "async_slot", "new_event_loop", "start_asyncio", "start_trio")

from ._loop import GuestLoop
from ._operations import async_slot, start_asyncio
from ._trio import start_trio
from ._version import __version__


def new_event_loop(backend: str | None = None) -> GuestLoop:
    """Return a new asyncio loop whose waiting is done by ``ae_core``'s loop."""
    return GuestLoop(backend=backend)


for _name in ("async_slot", "start_asyncio", "start_trio"):
    globals()[_name].__module__ = __name__
