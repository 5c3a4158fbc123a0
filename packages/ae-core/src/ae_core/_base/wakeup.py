"""A descriptor that another thread, or a signal handler, makes readable to end a wait.

An eventfd where the system has one (one descriptor, one system call), else a socket pair,
which also works on Windows.
"""

from __future__ import annotations

__all__ = ("Wakeup",)

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Wakeup:
    """One wake-up descriptor; :attr:`fd` is what a loop watches for reading."""

    __slots__ = ("_ends", "fd")

    _ends: _Ends | None  # None: closed

    def __init__(self) -> None:
        self._ends = _Ends()
        self.fd = self._ends.fds[0]

    def notify(self) -> None:
        """Make the descriptor readable. Callable from any thread and from signal handlers."""
        # held by a variable, it stays open until we are done, whatever another thread closes
        ends = self._ends
        if ends is None:
            return  # closed: the number may be somebody else's by now
        try:
            if len(ends.fds) == 1:
                os.eventfd_write(ends.fds[0], 1)
            else:
                _send(ends.fds[1])
        except BlockingIOError:
            return  # full: it is readable already

    def drain(self) -> None:
        """Make the descriptor unreadable again. In the loop's own thread."""
        ends = self._ends
        if ends is None:
            return
        try:
            if len(ends.fds) == 1:
                os.eventfd_read(self.fd)
            else:
                _receive(self.fd)
        except BlockingIOError:
            return  # nothing was there

    def close(self) -> None:
        """Close it. Idempotent."""
        self._ends = None


class _Ends:
    """The descriptors: reading end, then writing end if that is another."""

    __slots__ = ("fds",)

    fds: tuple[int, ...]

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fds = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)
        else:
            # os.pipe would do on POSIX; select() on Windows takes sockets only
            import socket

            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            self.fds = (ours.detach(), theirs.detach())

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():  # then the system closes it, and our functions may be gone
            for fd in self.fds:
                _close(fd)


if sys.platform == "win32":  # descriptors of sockets are handles there, which os.read does not take
    import socket as _socket

    def _send(fd: int) -> None:
        sock = _socket.socket(fileno=fd)
        try:
            sock.send(b"\0")
        finally:
            sock.detach()

    def _receive(fd: int) -> None:
        sock = _socket.socket(fileno=fd)
        try:
            while len(sock.recv(4096)) == 4096:
                continue
        finally:
            sock.detach()

    def _close(fd: int) -> None:
        _socket.socket(fileno=fd).close()

else:

    def _send(fd: int) -> None:
        os.write(fd, b"\0")

    def _receive(fd: int) -> None:
        while len(os.read(fd, 4096)) == 4096:
            continue

    _close = os.close
