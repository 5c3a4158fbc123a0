"""The states of a handle and of its sides, and the bits of the work that is due: numbers only.

Imports nothing of this package.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = (
    "BROKEN",
    "BROKEN_TOLD",
    "CONNECTING",
    "DESTROYED",
    "DISPATCHING",
    "DUE_DRAIN",
    "DUE_DRAINED",
    "DUE_FAIL",
    "DUE_READ",
    "DUE_TLS",
    "DUE_WRITE",
    "ENDED",
    "FAILED",
    "GUARDED",
    "IDLE",
    "NOT_ENDED",
    "OPEN",
    "SHUTDOWN_CLOSING",
    "SHUTDOWN_DONE",
    "SHUTDOWN_NONE",
    "SHUTDOWN_WANTED",
    "TOLD",
)


# The phases of a handle, in order
CONNECTING: Final = 1
OPEN: Final = 2
FAILED: Final = 3  # a fatal error was, or is being, reported; reads and writes are ignored
DESTROYED: Final = 4

# `ReadSide.eof`: how the input ended
NOT_ENDED: Final = 0
ENDED: Final = 1  # by the peer's end of the stream, which was not reported yet
TOLD: Final = 2  # likewise, and that was reported, by on_eof for example
BROKEN: Final = 3  # because of the handle's error, which is reported behind what has arrived
BROKEN_TOLD: Final = 4  # and some operation has raised it

# `ReadSide.dispatching`
IDLE: Final = 0
DISPATCHING: Final = 1  # callbacks are being called; a new request is only queued
GUARDED: Final = 2  # likewise, but a new request has to put lines back or to read again first

# `WriteSide.shutdown`
SHUTDOWN_NONE: Final = 0
SHUTDOWN_WANTED: Final = 1  # when everything is sent
SHUTDOWN_CLOSING: Final = 2  # close_notify is queued
SHUTDOWN_DONE: Final = 3

# Bits of `Connection.work_due`
DUE_READ: Final = 1  # dispatch what is in the buffer
DUE_DRAIN: Final = 2  # call on_drain
DUE_DRAINED: Final = 4  # wake what waits for the queue to empty; shut down
DUE_FAIL: Final = 8  # report the handle's error
DUE_TLS: Final = 16  # look at the TLS session
DUE_WRITE: Final = 32  # send what was corked
