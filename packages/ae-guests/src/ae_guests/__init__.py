"""asyncio and trio programs inside any event loop that ``ae_core`` knows."""

from __future__ import annotations

__all__ = ("__version__", "async_slot", "new_event_loop", "start_asyncio", "start_trio")

from . import _foundation as _foundation

# isort: split

import asyncio

from ._loop import GuestLoop
from ._operations import async_slot, start_asyncio
from ._trio import start_trio
from ._version import __version__


def new_event_loop(backend: str | None = None) -> asyncio.AbstractEventLoop:
    """Return a new asyncio loop whose waiting is done by the loop that serves this thread.

    A ``loop_factory`` for ``asyncio.Runner`` and, from Python 3.12 on, ``asyncio.run``.

    Args:
        backend: Which of ``ae_core``'s loops, as :func:`ae_core.use` takes it; ``None`` leaves the
            choice to ``ae_core`` when the loop begins to run.

    ``run_forever`` and ``run_until_complete`` raise RuntimeError where the host is asyncio or trio,
    and what ``recv()`` raises where blocking is not allowed.
    """
    loop: asyncio.AbstractEventLoop = GuestLoop(backend=backend)
    return loop


for _name in ("async_slot", "start_asyncio", "start_trio"):
    globals()[_name].__module__ = __name__
