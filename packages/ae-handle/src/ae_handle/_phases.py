"""The phases of a handle, how its input ended, and the bits of what is due: numbers only.

Leaf: imports nothing of this package, so that every room can take the names as they are.
"""

from __future__ import annotations

__all__ = (
    "BROKEN",
    "BROKEN_TOLD",
    "CONNECTING",
    "DESTROYED",
    "DUE_DRAIN",
    "DUE_DRAINED",
    "DUE_FAIL",
    "DUE_READ",
    "DUE_TLS",
    "DUE_WRITE",
    "FAILED",
    "OPEN",
    "TOLD",
)

from typing import Final

# The phases, in order
CONNECTING: Final = 1
OPEN: Final = 2
FAILED: Final = 3  # a fatal error was, or is being, reported; reads and writes are ignored
DESTROYED: Final = 4

# Values of `_eof` behind 0 (input goes on) and 1 (it has ended well)
TOLD: Final = 2  # and somebody was told, by on_eof for example
BROKEN: Final = 3  # input has ended because of `_error`, which is told behind what has arrived
BROKEN_TOLD: Final = 4  # and some operation has raised it

# Bits of `_due`
DUE_READ: Final = 1  # offer the buffer to the queue
DUE_DRAIN: Final = 2  # call on_drain
DUE_DRAINED: Final = 4  # tell who waits for the queue to empty; shut down
DUE_FAIL: Final = 8  # report `_error`
DUE_TLS: Final = 16  # look at the TLS session
DUE_WRITE: Final = 32  # send what was corked
