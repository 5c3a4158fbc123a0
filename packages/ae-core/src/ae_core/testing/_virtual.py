"""Virtual time: a loop whose clock stands still while there is work and jumps when there is none.

A test of an hour's timeouts takes a millisecond, and always takes the same course. Descriptors
are real ones, or scripted ones whose readiness the test decides.
"""

from __future__ import annotations

__all__ = ("ScriptedDescriptor", "VirtualBackend", "virtual_time")

import selectors
import socket
from collections import deque
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final

from .._async.condvar import CondVar
from .._base.descriptors import check_open
from .._base.seconds import check_seconds
from .._base.wakeup import Wakeup
from .._detection import current
from .._loop.backend import Backend
from ._binding import binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

# Theory of operation
# -------------------
# A turn first does everything that can be done now: descriptors, due timers, calls. Only when
# there was nothing at all, the clock jumps to the deadline. So nothing is ever late, and two runs
# of a test see the same order.
#
# What comes from outside (other processes, other threads, the network) takes real time, and the
# clock would jump past it. `threshold` is how long to wait for it in real time before each jump.
#
# A program that polls (an unread descriptor, a regular file, a timer of zero seconds that makes
# the next) would keep the clock standing for ever. So after BUSY turns on end with something to do
# it jumps all the same.
#
# poll(2) is used, not epoll: it has no memory of its own of what is watched, and answers for
# regular files.


BUSY: Final = 10_000


class VirtualBackend(Backend):
    """A loop on virtual time, for one thread. See :func:`virtual_time`.

    Args:
        on_deadline: As in :class:`ae_core.abc.Backend`.
        threshold: Real seconds to wait for something real to happen before each jump.
        epoch: What ``ae_core.time()`` is at the start.

    Raises:
        TypeError, ValueError: If a number is none, or not finite, or *threshold* is below zero.
    """

    name = "virtual"  #: What ``detect()`` shows.
    strict_idle = True
    owns_wait = True
    nests = True

    def __init__(
        self,
        on_deadline: Callable[[], None],
        *,
        threshold: float = 0.0,
        epoch: float = 1_000_000_000.0,
    ) -> None:
        super().__init__(on_deadline)
        self._threshold = check_seconds(threshold)
        if self._threshold < 0:
            raise ValueError(f"expected a threshold of 0 s or more, got {threshold!r}")
        self._epoch = check_seconds(epoch)
        self._elapsed = 0.0
        self._at = inf
        self._busy = 0  # turns with something to do since the clock moved
        self._selector: selectors.BaseSelector = getattr(
            selectors, "PollSelector", selectors.SelectSelector
        )()
        self._callbacks: dict[tuple[int, bool], Callable[[], None]] = {}
        self._scripted: dict[int, ScriptedDescriptor] = {}
        self._soon: deque[Callable[[], None]] = deque()
        self._remote: deque[Callable[[], None]] = deque()
        self._idle: dict[object, Callable[[], None]] = {}
        self._batch: list[Callable[[], None]] = []  # what is ready in this turn
        self._closed = False
        self._wakeup = Wakeup()
        self.io_start(self._wakeup.fd, False, self._run_remote)

    # ------------------------------------------------------------------ for the test

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the start."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Run the loop until *seconds* have passed, with all that is due by then.

        Raises:
            TypeError, ValueError: If it is no number of seconds of 0 or more.
            RuntimeError: If the thread is not bound to this backend.
            RecursiveWait: Inside a callback; see :meth:`pass_time`.
        """
        self._check(seconds)
        core = current.current_loop(blocking=True)
        if core.backend is not self:
            raise RuntimeError(f"the thread is bound to the {core.backend.name} loop, not to this")
        done: CondVar[None] = CondVar()
        number = core.timer(seconds, done)
        try:
            done.recv()
        finally:
            core.cancel_timer(number)

    def pass_time(self, seconds: float) -> None:
        """Move the clock on without running anything, as a long computation would.

        Raises:
            TypeError, ValueError: If it is no number of seconds of 0 or more.
        """
        self._check(seconds)
        self._elapsed += seconds

    @staticmethod
    def _check(seconds: object) -> None:
        if check_seconds(seconds) < 0:
            raise ValueError(f"expected 0 s or more, got {seconds!r}")

    def descriptor(self) -> ScriptedDescriptor:
        """Return a descriptor that is ready when the test says so."""
        return ScriptedDescriptor(self)

    # ------------------------------------------------------------------ waiting

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> tuple[int, bool]:
        token = (fd, write)
        if fd not in self._scripted:
            check_open(fd)
            self._select(fd, self._mask(fd) | _bit(write))
        self._callbacks[token] = callback
        return token

    def io_stop(self, token: tuple[int, bool]) -> None:
        del self._callbacks[token]
        fd = token[0]
        if fd not in self._scripted:
            self._select(fd, self._mask(fd))

    def _mask(self, fd: int) -> int:
        return sum(_bit(write) for write in (False, True) if (fd, write) in self._callbacks)

    def _select(self, fd: int, mask: int) -> None:
        known = self._selector.get_map()
        if fd in known:
            self._selector.unregister(fd)
        if mask:
            self._selector.register(fd, mask)

    def arm(self, at: float | None) -> None:
        self._at = inf if at is None else at

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        self._remote.append(callback)
        self._wakeup.notify()

    def _run_remote(self) -> None:
        self._wakeup.drain()
        for _ in range(len(self._remote)):
            if self._remote:  # a turn inside a call may have made the others
                self._remote.popleft()()

    def idle_start(self, callback: Callable[[], None]) -> object:
        token = object()
        self._idle[token] = callback
        return token

    def idle_stop(self, token: object) -> None:
        self._idle.pop(token, None)

    def clock(self) -> float:
        """Return the virtual time: :attr:`elapsed`."""
        return self._elapsed

    def now(self) -> float:
        """Return the virtual time of day."""
        return self._epoch + self._elapsed

    time = now

    # ------------------------------------------------------------------ running

    def run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._turn(True)

    def wake(self) -> None:
        """Do nothing: the question is asked after every turn anyway."""

    def poll(self, block: bool) -> None:
        self._turn(block)

    def _turn(self, block: bool) -> None:
        worked = self._serve(0.0)
        if self._at <= self._elapsed:
            worked = True
            self._at = inf
            self.on_deadline()
        for _ in range(len(self._soon)):
            worked = True
            if self._soon:  # a turn inside a call may have made the others
                self._soon.popleft()()
        if worked:
            self._busy += 1
            if self._busy >= BUSY and self._at < inf:
                self._jump()
        if worked or not block:
            return
        idle = list(self._idle.items())
        for token, callback in idle:
            if token in self._idle:
                callback()
        if self._soon:
            return
        if self._at < inf:
            if not (self._threshold and self._serve(self._threshold)):
                self._jump()
        elif not idle:
            self._serve(None)  # nothing but the real world can end this

    def _jump(self) -> None:
        self._busy = 0
        self._elapsed = max(self._elapsed, self._at)

    def _serve(self, timeout: float | None) -> bool:
        """Call back for what is ready, waiting *timeout* real seconds for it, None: for ever."""
        scripted = [
            token
            for token in self._callbacks
            if token[0] in self._scripted and self._scripted[token[0]].is_ready(token[1])
        ]
        found = self._selector.select(0.0 if scripted else timeout)
        ready = [
            (key.fd, write)
            for write in (True, False)  # writing frees memory
            for key, mask in found
            if mask & _bit(write)
        ]
        # of a turn that this one is inside of: what is still ready has been found again
        self._batch.clear()
        self._batch = [
            self._callbacks[token] for token in (*ready, *scripted) if token in self._callbacks
        ]
        called = bool(self._batch)
        self.on_ready(self._batch)
        return called

    def statistics(self) -> dict[str, object]:
        """Return the virtual seconds that have passed."""
        return {"elapsed": self._elapsed}

    def usable(self) -> bool:
        return not self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._selector.close()
            self._wakeup.close()
            for collection in (self._callbacks, self._idle, self._soon, self._remote):
                collection.clear()


def _bit(write: bool) -> int:
    return selectors.EVENT_WRITE if write else selectors.EVENT_READ


class ScriptedDescriptor:
    """A descriptor whose readiness is what the test sets; it carries no data.

    Give it to ``ae_core.io``. It is an open descriptor, of a socket without a peer, so that
    whatever looks at it finds one. Close it, or use it in a ``with`` block.
    """

    def __init__(self, backend: VirtualBackend) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._scripted = backend._scripted
        self._scripted[self._socket.fileno()] = self
        #: Whether watchers for reading are called, turn by turn, from now on.
        self.readable = False
        #: Whether watchers for writing are.
        self.writable = False

    def fileno(self) -> int:
        """Return the descriptor's number, -1 once it is closed."""
        return self._socket.fileno()

    def is_ready(self, write: bool) -> bool:
        """Return whether it is ready in one direction."""
        return self.writable if write else self.readable

    def close(self) -> None:
        """Close it. Idempotent. Its watchers have to be cancelled before, as with any other."""
        fd = self._socket.fileno()
        if fd != -1:
            del self._scripted[fd]
            self._socket.close()

    def __enter__(self) -> ScriptedDescriptor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def virtual_time(*, threshold: float = 0.0, **options: Any) -> Iterator[VirtualBackend]:
    """Bind this thread to a loop on virtual time for the ``with`` block.

    Args:
        threshold: Real seconds to wait for other processes and threads before each jump.
        options: Further ones of :class:`VirtualBackend`.

    Yields:
        The backend: ``elapsed`` is the time that has passed, ``advance(seconds)`` runs the loop
        for some of it. A blocking ``recv()`` jumps by itself.

    Example:
        >>> import ae_core as ae
        >>> with virtual_time() as clock:
        ...     ae.sleep(3600).recv()
        ...     clock.elapsed
        3600.0
    """
    with binding(VirtualBackend, threshold=threshold, **options) as backend:
        assert isinstance(backend, VirtualBackend)
        yield backend
