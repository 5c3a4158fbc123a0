"""The system calls that wait for descriptors: epoll, kqueue, poll, select, behind one face.

A multiplexer keeps which descriptors the *kernel* knows, and waits. Interest is a mask of
``READ`` and ``WRITE``; ``add``, ``change`` and ``remove`` tell the kernel, ``wait`` returns
``(fd, mask)`` pairs in which ``BROKEN`` (error, hang-up) means ready in every direction and
``INVALID`` that the descriptor was closed.
"""

from __future__ import annotations

__all__ = ("BROKEN", "INVALID", "MULTIPLEXERS", "READ", "WRITE", "Multiplexer", "best")

import errno
import select
import sys
import time
from abc import ABC, abstractmethod

from .._base.descriptors import check_open, check_select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final

READ: Final = 1  # the values of EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP on every system that
WRITE: Final = 4  # has them, so that epoll's own list can be handed on unchanged
BROKEN: Final = 8 | 16  # ERR, HUP
INVALID: Final = 32  # poll's NVAL: closed under its watcher


class Multiplexer(ABC):
    """One way to wait for descriptors."""

    name: ClassVar[str]

    def check(self, fd: int) -> None:
        """Raise OSError, EMFILE, if the number is too high for this way to wait."""
        return None

    @abstractmethod
    def change(self, fd: int, old: int, new: int) -> None:
        """Tell the kernel that the interest in *fd* is *new* now, after it was *old*.

        Raises:
            PermissionError: If this kind of file cannot be waited for.
            OSError: EBADF if *fd* is not open; else the kernel refuses.
        """

    def add(self, fd: int, mask: int) -> None:
        """Tell the kernel of a descriptor that it did not know.

        Raises:
            FileExistsError: If it did know it: use :meth:`change`.
            OSError: As :meth:`change`.
        """
        self.change(fd, 0, mask)

    def remove(self, fd: int) -> None:
        """Tell the kernel to forget a descriptor.

        Raises:
            OSError, KeyError: If it had done so already, or *fd* is closed.
        """
        self.change(fd, READ | WRITE, 0)

    @abstractmethod
    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Wait up to *timeout* seconds, below zero for ever, and return what is ready."""

    #: Whether there is a :meth:`wait_with`, and it costs less than :meth:`add` and
    #: :meth:`remove`.
    can_poll_extra: ClassVar[bool] = False

    def wait_with(self, timeout: float, one_shot: dict[int, int]) -> list[tuple[int, int]]:
        """Wait as :meth:`wait` does, this once for *one_shot* too: interests by descriptor.

        The kernel does not know them, before or after. If they are more than it can wait for so,
        nothing is returned, immediately.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release what the multiplexer holds."""
        return None


class Epoll(Multiplexer):
    """Linux. Cost per wait depends on what is ready, not on what is watched.

    Guests are waited for by poll(2), together with the descriptor of the epoll set itself.
    """

    name = "epoll"
    can_poll_extra = True

    def __init__(self) -> None:
        self._epoll = epoll = select.epoll()
        # the C methods themselves: a method around each would be a tenth of a watcher's cost
        self.add = epoll.register  # type: ignore[method-assign,assignment]
        self.remove = epoll.unregister  # type: ignore[method-assign]
        self.wait = epoll.poll  # type: ignore[method-assign]
        self.close = epoll.close  # type: ignore[method-assign]

    def change(self, fd: int, old: int, new: int) -> None:
        try:
            self._epoll.modify(fd, new)
        except FileNotFoundError:
            # closed, so the kernel has dropped it, and opened again on the same number
            self._epoll.register(fd, new)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        return self._epoll.poll(timeout)  # pragma: no cover (the C method stands in its place)

    def wait_with(self, timeout: float, one_shot: dict[int, int]) -> list[tuple[int, int]]:
        own = self._epoll.fileno()
        poll = select.poll()
        register = poll.register
        register(own, READ)  # the first to be asked for is the first to be reported
        for fd, mask in one_shot.items():
            register(fd, mask)
        try:
            found = poll.poll(_milliseconds(timeout))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return []  # more than may be open: some are closed, or the limit was lowered
        if found and found[0][0] == own:
            found[:1] = self._epoll.poll(0.0)
        return found


_kq: Any = select  # typed away: the names exist on those systems only


class Kqueue(Multiplexer):
    """macOS and the BSDs."""

    name = "kqueue"

    def __init__(self) -> None:
        self._kqueue = _kq.kqueue()
        self._count = 0

    def change(self, fd: int, old: int, new: int) -> None:
        for bit, kind in ((READ, _kq.KQ_FILTER_READ), (WRITE, _kq.KQ_FILTER_WRITE)):
            if (old ^ new) & bit:
                what = _kq.KQ_EV_ADD if new & bit else _kq.KQ_EV_DELETE
                self._kqueue.control([_kq.kevent(fd, kind, what)], 0, 0)
                self._count += 1 if new & bit else -1

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        found = self._kqueue.control(None, max(self._count, 1), None if timeout < 0 else timeout)
        return [
            (int(event.ident), WRITE if event.filter == _kq.KQ_FILTER_WRITE else READ)
            for event in found
        ]

    def close(self) -> None:
        self._kqueue.close()


class Poll(Multiplexer):
    """Any POSIX system; cost per wait grows with what is watched."""

    name = "poll"

    def __init__(self) -> None:
        self._poll = select.poll()

    def change(self, fd: int, old: int, new: int) -> None:
        if new:
            check_open(fd)  # poll itself reports a closed descriptor again and again
            self._poll.register(fd, new)
        else:
            self._poll.unregister(fd)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        return self._poll.poll(_milliseconds(timeout))


def _milliseconds(timeout: float) -> int | None:
    """Return *timeout* as poll takes it, rounded up: a wait that ends early goes round again."""
    return None if timeout < 0 else -int(-timeout * 1000 // 1)


class Select(Multiplexer):
    """Everywhere, also on Windows, where it is all there is.

    POSIX refuses descriptors from 1024 (FD_SETSIZE) on. Windows counts sockets instead, 512
    here, so more are asked in chunks; it reports a failed connect only in the exception set
    (LOOP-07), and refuses three empty sets (WSAEINVAL).
    """

    name = "select"
    chunk: ClassVar[int] = 512
    windows: ClassVar[bool] = sys.platform == "win32"

    def __init__(self) -> None:
        self._read: set[int] = set()
        self._write: set[int] = set()

    def check(self, fd: int) -> None:
        if not self.windows:
            check_select(fd, "select")

    def change(self, fd: int, old: int, new: int) -> None:
        if new:
            check_open(fd)
            self.check(fd)
        for bit, watched in ((READ, self._read), (WRITE, self._write)):
            if new & bit:
                watched.add(fd)
            else:
                watched.discard(fd)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        limit = None if timeout < 0 else timeout
        try:
            if self.windows:
                return self._wait_windows(limit)
            read, write, _ = select.select(self._read, self._write, (), limit)
        except OSError as error:
            closed = [(fd, INVALID) for fd in self._read | self._write if not _is_open(fd)]
            if not closed and error.errno != errno.EBADF:
                raise
            return closed  # none: another thread has opened a file of that number meanwhile
        return [(fd, WRITE) for fd in write] + [(fd, READ) for fd in read]

    def _wait_windows(self, timeout: float | None) -> list[tuple[int, int]]:
        if not self._read and not self._write:
            time.sleep(3600.0 if timeout is None else timeout)
            return []
        watched = sorted(self._read | self._write)
        chunks = [watched[i : i + self.chunk] for i in range(0, len(watched), self.chunk)]
        if len(chunks) == 1:
            return self._ask(watched, timeout)
        # one chunk at a time cannot wait for all: look at each in turn, at most 10 ms apart
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            found: list[tuple[int, int]] = []
            for chunk in chunks:
                found += self._ask(chunk, 0.0)
            left = None if until is None else until - time.monotonic()
            if found or (left is not None and left <= 0):
                return found
            self._ask(chunks[0], 0.01 if left is None else min(0.01, left))

    def _ask(self, fds: list[int], timeout: float | None) -> list[tuple[int, int]]:
        wanted_read = [fd for fd in fds if fd in self._read]
        wanted_write = [fd for fd in fds if fd in self._write]
        read, write, failed = select.select(wanted_read, wanted_write, wanted_write, timeout)
        return [(fd, WRITE) for fd in {*write, *failed}] + [(fd, READ) for fd in read]


def _is_open(fd: int) -> bool:
    try:
        check_open(fd)
    except OSError:
        return False
    return True


MULTIPLEXERS: dict[str, type[Multiplexer]] = {
    cls.name: cls
    for cls in (Epoll, Kqueue, Poll, Select)
    if hasattr(select, cls.name)
}  # fmt: skip


def best() -> str:
    """Return the name of the best multiplexer of this system."""
    return next(iter(MULTIPLEXERS))
