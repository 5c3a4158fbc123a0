"""The built-in loop: no library, any system, the reference for all other backends.

One turn: wait; then descriptors, writable before readable; then due timers; then the calls of
``call_soon``; if nothing at all happened, the idle callbacks.
"""

from __future__ import annotations

__all__ = ("LoopBackend",)

import errno
import os
import time

from .._base.wakeup import Wakeup
from .._loop.backend import Backend
from ._multiplexers import BROKEN, INVALID, MULTIPLEXERS, READ, WRITE, best

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
else:
    from _collections import deque

# Theory of operation
# -------------------
# Telling the kernel costs a system call, so additions and modifications are only noted in
# `_changed`, with what the kernel knows of the descriptor, and done just before the wait: a write
# watcher that comes and goes within one turn costs nothing. Of all others the kernel knows exactly
# what `readers` and `writers` say.
#
# Many watchers wait for a single event: a connection to be made, an answer, room for the rest of
# a message. To add those to epoll's set and to delete them again costs more than all else about
# them. So a descriptor that the kernel does not know is part of one wait only, and is added
# only if it is still watched at the next one. A watcher that is made, called once and
# cancelled takes 2.1 us instead of 3.6 (a bare epoll loop: 2.5, asyncio: 9).
#
# A deletion cannot wait. The caller may close the descriptor right after cancel(); if a duplicate
# of it is alive, the kernel then keeps it in the set under a number that can no longer be used
# to delete it, and reports it for ever.
#
# For the same reason an event may arrive for a descriptor that is not watched. It is deleted; if
# the kernel refuses that, the set is rebuilt from what is watched. It is rebuilt without trying
# if the same number is watched in the other direction: it is another file by now. Cancelling
# a watcher in the turn in which it is ready must not lead there: so a turn first finds out what is
# to be called, before it calls anything.


class LoopBackend(Backend):
    """AnyEvent's own loop.

    Args:
        on_deadline: As in :class:`Backend`.
        multiplexer: ``"epoll"``, ``"kqueue"``, ``"poll"`` or ``"select"``; by default the best
            one that the system has.
    """

    name = "loop"
    strict_idle = True
    owns_wait = True
    nests = True

    def __init__(self, on_deadline: Callable[[], None], *, multiplexer: str | None = None) -> None:
        super().__init__(on_deadline)
        chosen = best() if multiplexer is None else multiplexer
        if chosen not in MULTIPLEXERS:
            raise ValueError(
                f"unknown multiplexer {multiplexer!r}, expected one of {', '.join(MULTIPLEXERS)}"
            )
        self._mux = MULTIPLEXERS[chosen]()
        self._register = self._mux.add
        self._unregister = self._mux.remove
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        # descriptor: what the kernel knows of it; None: nothing, and it was not waited for yet
        self._changed: dict[int, int | None] = {}
        self._always: set[int] = set()  # regular files, which epoll refuses: always ready
        self._at: float | None = None
        self._soon: deque[Callable[[], None]] = deque()
        self._remote: deque[Callable[[], None]] = deque()  # filled by other threads
        self._signalled = False
        self._idle: dict[object, Callable[[], None]] = {}
        self._batch: list[Callable[[], None]] = []  # what is ready in this turn
        self._now: float | None = None  # wall-clock time of this turn, once it was asked for
        self._closed = False
        self._wakeup = Wakeup()
        try:
            self._mux.check(self._wakeup.fd)  # later it would be refused in silence
        except OSError:
            self.close()
            raise
        self.io_start(self._wakeup.fd, False, self._run_remote)

    # ------------------------------------------------------------------ descriptors

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> int:
        changed = self._changed
        if write:
            if fd not in changed:
                changed[fd] = READ if fd in self._readers else None
            self._writers[fd] = callback
            return ~fd
        if fd not in changed:
            changed[fd] = WRITE if fd in self._writers else None
        self._readers[fd] = callback
        return fd

    def io_stop(self, token: int) -> None:
        if token >= 0:
            fd = token
            side, other = self._readers, self._writers
            known: int | None = READ
        else:
            fd = ~token
            side, other = self._writers, self._readers
            known = WRITE
        if fd in side:
            del side[fd]
        if fd in other:
            self._changed.setdefault(fd, READ | WRITE)
            return
        if self._changed:
            known = self._changed.pop(fd, known)
        if self._always and fd in self._always:
            self._always.discard(fd)
        elif known:
            try:
                self._unregister(fd)
            except (OSError, KeyError, ValueError):
                # closed before its watcher was cancelled: the kernel, or poll's own table, has
                # forgotten it already, or reports it later and it is dealt with then
                return

    def _apply_changes(self) -> dict[int, int]:
        """Do what is noted; return what is watched for one wait only, with its interests."""
        readers, writers = self._readers, self._writers
        always = self._always
        can_poll_extra = self._mux.can_poll_extra
        one_shot: dict[int, int] = {}
        refused: list[tuple[int, OSError]] = []
        # What is noted stays so until all is done: if a signal handler raises in between, all is
        # done again, which the kernel does not mind.
        for fd, known in self._changed.items():
            wanted = READ if fd in readers else 0
            if fd in writers:
                wanted |= WRITE
            if wanted == known or not wanted or fd in always:
                continue
            if known is None and can_poll_extra:
                one_shot[fd] = wanted
                continue
            try:
                self._tell(fd, known, wanted)
            except PermissionError:
                always.add(fd)
            except OSError as error:
                if error.errno == errno.EBADF or not can_poll_extra:
                    refused.append((fd, error))
                else:
                    # The kernel's limit (max_user_watches), or a file that a set cannot hold:
                    # it stays one-shot, and is asked about again before each wait.
                    one_shot[fd] = wanted
                    try:
                        if known:
                            self._unregister(fd)
                    except OSError:
                        continue  # nor did it know the file that has the number now
        self._changed = dict.fromkeys(one_shot, 0)
        for fd, refusal in refused:
            self._give_up(fd, refusal)
        return one_shot

    def _tell(self, fd: int, known: int | None, wanted: int) -> None:
        if not known:
            try:
                self._register(fd, wanted)
            except FileExistsError:
                # closed and opened again, while a duplicate kept the number in the kernel's set
                known = wanted
        if known:
            self._mux.change(fd, known, wanted)

    def _give_up(self, fd: int, error: OSError) -> None:
        self._soon.append(_nothing)  # no wait in this turn: what is told may be waited for
        for write, side in ((False, self._readers), (True, self._writers)):
            # first, so that what is told may watch the number anew
            if side.pop(fd, None) is not None and self.on_refused is not None:
                self.on_refused(fd, write, error)

    def _closed_early(self, fd: int) -> None:
        """poll or select found a descriptor closed that is still watched."""
        if self._changed.pop(fd, READ | WRITE):
            self._unregister(fd)
        self._give_up(fd, OSError(errno.EBADF, os.strerror(errno.EBADF)))

    def _unwatched(self, fd: int) -> None:
        """The kernel reported a descriptor, or a direction, that is not watched."""
        if fd not in self._readers and fd not in self._writers:
            try:
                self._unregister(fd)
            except (OSError, KeyError):
                self._rebuild()
        else:
            self._rebuild()

    def _rebuild(self) -> None:
        old, new = self._mux, MULTIPLEXERS[self._mux.name]()
        self._changed = dict.fromkeys({*self._readers, *self._writers} - self._always, 0)
        self._mux = new
        self._register = new.add
        self._unregister = new.remove
        old.close()

    # ------------------------------------------------------------------ time and calls

    def arm(self, at: float | None) -> None:
        self._at = at

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        self._remote.append(callback)
        if not self._signalled:
            self._signalled = True
            self._wakeup.notify()

    def _run_remote(self) -> None:
        remote = self._remote
        try:
            # in this order: the wake-up of a call that comes in between would be lost
            self._wakeup.drain()
            self._signalled = False
            for _ in range(len(remote)):
                if remote:  # a turn inside a call may have made the others
                    remote.popleft()()
        finally:
            self._signalled = False  # also if an interrupt came before
            if remote:
                self._signalled = True
                self._wakeup.notify()

    def idle_start(self, callback: Callable[[], None]) -> object:
        token = object()
        self._idle[token] = callback
        return token

    def idle_stop(self, token: object) -> None:
        self._idle.pop(token, None)

    def now(self) -> float:
        if self._now is None:
            self._now = time.time()
        return self._now

    def now_update(self) -> None:
        self._now = time.time()

    # ------------------------------------------------------------------ running

    def run_until(self, done: Callable[[], bool]) -> None:
        turn = self._turn
        while not done():
            turn(True)

    def wake(self) -> None:
        return None  # `done` is asked after every turn, and wake() is called inside a turn

    def poll(self, block: bool) -> None:
        self._turn(block)

    def _ready(self, events: list[tuple[int, int]]) -> list[Callable[[], None]]:
        """Return what is to be called; a watcher that one of them makes is called a turn later."""
        readers, writers = self._readers, self._writers
        try:
            ready = [readers[fd] for fd, mask in events if mask == READ]
        except KeyError:
            ready = []
        if len(ready) < len(events):
            ready = self._ready_each(events)
        for fd in self._always:
            ready += [side[fd] for side in (writers, readers) if fd in side]
        return ready

    def _ready_each(self, events: list[tuple[int, int]]) -> list[Callable[[], None]]:
        """Do so if they are not all readable, and watched for that."""
        ready: list[Callable[[], None]] = []
        readers, writers = self._readers, self._writers
        for fd, mask in events:
            if mask & INVALID:
                self._closed_early(fd)
                continue
            reading = mask & (READ | BROKEN) and fd in readers
            writing = mask & (WRITE | BROKEN) and fd in writers
            if writing:
                ready.append(writers[fd])
            if reading:
                ready.append(readers[fd])
            if (mask & WRITE and not writing) or not (reading or writing):
                self._unwatched(fd)
        return ready

    def _turn(self, block: bool) -> None:
        one_shot = self._apply_changes() if self._changed else None
        at = self._at
        if self._soon or self._idle or self._always or not block:
            timeout = 0.0
        elif at is None:
            timeout = -1.0
        else:
            timeout = at - time.monotonic()
            if timeout < 0.0:
                timeout = 0.0
        events = self._mux.wait_with(timeout, one_shot) if one_shot else self._mux.wait(timeout)
        self._now = None
        if self._batch:
            # of a turn that this one is inside of: what is still ready has been reported again
            self._batch.clear()
        if events or self._always:
            ready = self._ready(events)
            if len(ready) > 1:
                self._batch = ready
                self.on_ready(ready)
                self._batch = []
            else:
                self.on_ready(ready)
        soon = self._soon
        worked = bool(events or soon) if self._idle else True
        at = self._at
        if at is not None and at <= time.monotonic():
            self._at = None
            worked = True
            self.on_deadline()
        if soon:
            for _ in range(len(soon)):
                if soon:  # a turn inside a call may have made the others
                    soon.popleft()()
        if self._idle and not worked:
            for callback in list(self._idle.values()):
                callback()

    def statistics(self) -> dict[str, object]:
        return {
            "multiplexer": self._mux.name,
            "descriptors": len({*self._readers, *self._writers}) - 1,
        }

    def usable(self) -> bool:
        return not self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._mux.close()
            self._wakeup.close()
            for mapping in (self._readers, self._writers, self._idle):
                mapping.clear()
            self._soon.clear()
            self._remote.clear()


def _nothing() -> None:
    return None
