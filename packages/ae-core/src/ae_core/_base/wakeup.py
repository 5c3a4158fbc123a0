"""A descriptor that a thread, a signal handler or the interpreter makes readable to end a wait.

An eventfd where the system has one (one descriptor, one system call), else a pipe; on Windows,
where ``select`` takes sockets only, a socket pair.
"""

from __future__ import annotations

__all__ = ("Wakeup",)

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Wakeup:
    """One wake-up descriptor.

    Args:
        one_byte: Whether single bytes may be written to :attr:`sender`, as the interpreter does
            for each signal (``signal.set_wakeup_fd``). An eventfd takes no single bytes.

    Attributes:
        fd: What a loop watches for reading.
        sender: What is written to.
    """

    __slots__ = ("_ends", "fd", "sender")

    _ends: _Ends | None  # None: closed

    def __init__(self, *, one_byte: bool = False) -> None:
        self._ends = ends = _Ends(one_byte)
        self.fd = ends.fds[0]
        self.sender = ends.fds[-1]

    def notify(self) -> None:
        """Make the descriptor readable. Callable from any thread and from signal handlers."""
        # held by a variable, it stays open until we are done, whatever another thread closes
        ends = self._ends
        if ends is None:
            return  # closed: the number may be another file's by now
        try:
            if len(ends.fds) == 1:
                os.eventfd_write(ends.fds[0], 1)
            else:
                _send(ends.fds[1])
        except BlockingIOError:
            return  # full: it is readable already

    def drain(self) -> bytes:
        """Make the descriptor unreadable again. In the loop's own thread.

        Returns:
            The bytes that were written; none if it is an eventfd.
        """
        ends = self._ends
        data = b""
        if ends is not None:
            try:
                if len(ends.fds) == 1:
                    os.eventfd_read(self.fd)
                else:
                    while len(more := _receive(self.fd)) == _CHUNK:
                        data += more
                    data += more
            except BlockingIOError:
                return data  # nothing is there, or no more
        return data

    def close(self) -> None:
        """Close it. Idempotent."""
        self._ends = None


_CHUNK = 4096


class _Ends:
    """The descriptors: reading end, then writing end if that is another."""

    __slots__ = ("fds",)

    fds: tuple[int, ...]

    def __init__(self, one_byte: bool) -> None:
        self.fds = ()  # to be closed if nothing more can be opened
        if hasattr(os, "eventfd") and not one_byte:
            self.fds = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)
        else:
            self.fds = _make_pair()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():  # then the system closes it, and our functions may be gone
            for fd in self.fds:
                _close(fd)


if sys.platform == "win32":  # descriptors of sockets are handles there, which os.read does not take
    import socket as _socket

    def _make_pair() -> tuple[int, int]:
        ours, theirs = _socket.socketpair()
        try:
            ours.setblocking(False)
            theirs.setblocking(False)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return ours.detach(), theirs.detach()

    def _send(fd: int) -> None:
        sock = _socket.socket(fileno=fd)
        try:
            sock.send(b"\0")
        finally:
            sock.detach()

    def _receive(fd: int) -> bytes:
        sock = _socket.socket(fileno=fd)
        try:
            return sock.recv(_CHUNK)
        finally:
            sock.detach()

    def _close(fd: int) -> None:
        _socket.socket(fileno=fd).close()

else:

    def _make_pair() -> tuple[int, int]:
        ours, theirs = os.pipe()
        try:
            os.set_blocking(ours, False)
            os.set_blocking(theirs, False)
        except BaseException:
            os.close(ours)
            os.close(theirs)
            raise
        return ours, theirs

    def _send(fd: int) -> None:
        os.write(fd, b"\0")

    def _receive(fd: int) -> bytes:
        return os.read(fd, _CHUNK)

    _close = os.close
