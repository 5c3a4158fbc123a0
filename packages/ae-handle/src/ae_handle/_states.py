"""The phases of a handle, and the bits of what is due on it: numbers only.

Leaf: imports nothing of this package, so that every room can take the names as they are.
"""

from __future__ import annotations

__all__ = (
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
)

from typing import Final

# The phases, in order
CONNECTING: Final = 1
OPEN: Final = 2
FAILED: Final = 3  # a fatal error was, or is being, reported; reads and writes are ignored
DESTROYED: Final = 4

# Bits of `_due`
DUE_READ: Final = 1  # offer the buffer to the queue
DUE_DRAIN: Final = 2  # call on_drain
DUE_DRAINED: Final = 4  # tell who waits for the queue to empty; shut down
DUE_FAIL: Final = 8  # report `_error`
DUE_TLS: Final = 16  # look at the TLS session
DUE_WRITE: Final = 32  # send what was corked
