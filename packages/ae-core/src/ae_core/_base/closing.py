"""Closing descriptors and sockets of ours; errors are logged and not raised."""

from __future__ import annotations

__all__ = ("close_descriptor", "close_socket")

import os

from .thread_identity import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

# An error of close() matters only for data that was written: some of it did not arrive. Nothing
# was written here that is waited for, and the rest of the clean-up must still run: so it is logged,
# and the descriptor counts as closed. POSIX does not say whether it is; where it is not, a second
# close() closes it, or the program at the other end of a pipe would wait for its end for ever.


def _close(fd: int) -> None:
    original("os", "close")(fd)  # gevent's closes in a later turn of its hub


def close_descriptor(fd: int) -> None:
    """Close a descriptor; an error is logged."""
    file: os.stat_result | None = None
    try:
        file = os.fstat(fd)
        _close(fd)
    except OSError as error:
        _complain(fd, error)
        if file is not None:
            _close_again(fd, file)


def _close_again(fd: int, file: os.stat_result) -> None:
    try:
        now = os.fstat(fd)
        if (now.st_dev, now.st_ino) == (file.st_dev, file.st_ino):  # not another thread's by now
            _close(fd)
    except OSError:
        return  # it was closed the first time, or there is no way to do so


def close_socket(sock: socket.socket) -> None:
    """Close a socket; an error is logged."""
    fd = sock.fileno()
    try:
        sock.close()
    except OSError as error:
        _complain(fd, error)


def _complain(fd: int, error: OSError) -> None:
    from .log import log

    log("warn", "closing descriptor %d: %s", fd, error, context="ae_core")
