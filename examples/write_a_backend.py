"""A complete event loop backend, on nothing but the standard library's ``selectors``.

    python examples/write_a_backend.py

checks it against every demand that ``ae_core`` makes, and then runs a few lines on it. A backend
only waits: for descriptors, for one deadline, for a call from another thread. Several watchers on
a descriptor, the order of timers, exceptions, signals, children and coroutines are the core's.

To be found by name it would be registered in the entry-point group ``ae_core.backends``::

    [project.entry-points."ae_core.backends"]
    selectors = "my_package:SelectorsBackend"
"""

from __future__ import annotations

__all__ = ("SelectorsBackend", "main")

import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import ConformanceError, binding, check_backend

Call = Callable[[], None]
Token = tuple[int, bool]  # the descriptor, and whether it is watched for writing


class SelectorsBackend(Backend):
    """A loop that waits by a selector of the standard library."""

    name = "selectors"
    owns_wait = True  # nobody else runs this loop: a wait that nothing can end is a Deadlock

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        # Not epoll: if a descriptor is closed while a duplicate of it lives, epoll reports it for
        # ever under a number that cannot be removed any more. poll() is told all each time.
        self._selector: selectors.BaseSelector = getattr(
            selectors, "PollSelector", selectors.SelectSelector
        )()
        self._callbacks: dict[Token, Call] = {}
        self._deadline: float | None = None
        self._soon: deque[Call] = deque()
        self._remote: deque[Call] = deque()  # filled by other threads
        self._closed = False
        self._bell, self._button = socket.socketpair()  # rung by other threads
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self.io_start(self._bell.fileno(), False, self._answer_the_bell)

    # Descriptors. The core asks at most once for each descriptor and direction.

    def io_start(self, fd: int, write: bool, callback: Call) -> Token:
        if os.name == "posix":
            os.fstat(fd)  # OSError if it is not open; sockets are no descriptors elsewhere
        self._callbacks[fd, write] = callback
        self._update(fd)
        return (fd, write)

    def io_stop(self, token: Token) -> None:
        del self._callbacks[token]
        self._update(token[0])

    def _update(self, fd: int) -> None:
        """Tell the selector which directions of *fd* are watched now."""
        mask = 0
        if (fd, False) in self._callbacks:
            mask |= selectors.EVENT_READ
        if (fd, True) in self._callbacks:
            mask |= selectors.EVENT_WRITE
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        if mask:
            self._selector.register(fd, mask)

    # Time and calls.

    def arm(self, at: float | None) -> None:
        self._deadline = at

    def call_soon(self, callback: Call) -> None:
        self._soon.append(callback)

    def call_threadsafe(self, callback: Call) -> None:
        self._remote.append(callback)
        try:
            self._button.send(b"!")
        except BlockingIOError:
            return  # it has been rung often enough

    def _answer_the_bell(self) -> None:
        self._bell.recv(4096)
        for _ in range(len(self._remote)):
            self._remote.popleft()()

    # Running.

    def run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.poll(True)

    def wake(self) -> None:
        """Do nothing: ``done`` is asked after every turn, and wake() is called inside one."""

    def poll(self, block: bool) -> None:
        timeout: float | None
        if self._soon or not block:
            timeout = 0.0
        elif self._deadline is None:
            timeout = None
        else:
            timeout = max(self._deadline - time.monotonic(), 0.0)
        for key, mask in self._selector.select(timeout):
            for write, bit in ((True, selectors.EVENT_WRITE), (False, selectors.EVENT_READ)):
                # asked again each time: the callback before may have ended this one
                callback = self._callbacks.get((key.fd, write)) if mask & bit else None
                if callback is not None:
                    callback()
        if self._deadline is not None and self._deadline <= time.monotonic():
            self._deadline = None
            self.on_deadline()  # arms for the next one
        for _ in range(len(self._soon)):  # those that are added meanwhile wait for the next turn
            self._soon.popleft()()

    def usable(self) -> bool:
        return not self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._selector.close()
            self._bell.close()
            self._button.close()
            self._callbacks.clear()
            self._soon.clear()
            self._remote.clear()


def main() -> int:
    """Check the backend, then use it; return an exit status."""
    try:
        print(check_backend(SelectorsBackend))
    except ConformanceError as error:
        print(error)
        return 1
    with binding(SelectorsBackend):

        async def greet(name: str, pause: float) -> None:
            await ae.sleep(pause)
            print(f"hello, {name}, from the {ae.backend()} loop")

        slow, fast = ae.spawn(greet("Tortoise", 0.02)), ae.spawn(greet("Achilles", 0.01))
        fast.recv()
        slow.recv()
    return 0


if __name__ == "__main__":
    sys.exit(main())
