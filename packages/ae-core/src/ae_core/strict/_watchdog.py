"""Strict mode's watchdog: a thread that checks while the loop cannot.

It finds callbacks that block, and descriptors that were closed while they are watched. It runs
only while strict mode is on and something was watched, and never touches a loop.
"""

from __future__ import annotations

__all__ = ("check_fd", "forget", "guarded", "register_fd", "start", "stop", "timed_call")

import errno
import os
import sys
import traceback
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

from .._base.describe import callback_text
from .._base.log import log
from .._base.thread_identity import allocate_lock, bystander, get_ident, start_new_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import FrameType

    from .._loop.state import LoopState
    from .._loop.watchers import Watcher

# Theory of operation
# -------------------
# A callback that runs notes itself in `_running`, under its thread. The thread here looks there
# every now and then, and writes down the stack of one that takes too long: at that moment it
# still shows where. A callback inside a callback means a nested loop (a modal dialog): then the
# loop is alive, and the outer one's clock starts again.
#
# When a watcher of a descriptor is made we note, beside a weak reference to it, which file the
# number means (device and inode); if the number means nothing later, or another file, while that
# watcher is active, the file was closed under it. The packages' own watchers are not noted, so a
# number may be watched again by code that is not known here.

FD_PERIOD: Final = 4.0
FDS_AT_ONCE: Final = 1000

_slow = 0.5
_wake = allocate_lock()
_alive = False
_enabled = False


class _Run:
    """A callback that is running right now."""

    __slots__ = ("callback", "reported", "site", "started")

    def __init__(self, callback: object, site: str) -> None:
        self.callback = callback
        self.site = site
        self.started = monotonic()
        self.reported = False


_running: dict[int, _Run] = {}


class _Registration:
    """Which file a descriptor meant when watchers for it were made."""

    __slots__ = ("identity", "site", "watchers")

    def __init__(self, identity: tuple[int, int], site: str, watchers: list[ref[Watcher]]) -> None:
        self.identity = identity
        self.site = site  # of the latest
        self.watchers = watchers

    def active(self) -> list[ref[Watcher]]:
        """Return those of the watchers that have not ended."""
        return [each for each in self.watchers if (it := each()) is not None and it.active]


_cores: WeakSet[LoopState] = WeakSet()
_known: dict[int, _Registration] = {}
_next_fd = 0


def start(slow: float) -> None:
    """Begin to look; callbacks may take *slow* seconds, 0 for any time."""
    global _enabled, _slow
    _slow = slow
    _enabled = True


def stop() -> None:
    """Stop looking; the thread ends."""
    global _enabled
    _enabled = False
    _known.clear()
    if _alive and _wake.locked():
        _wake.release()


# Callbacks


def guarded(callback: Callable[..., object], site: str) -> Callable[..., object]:
    """Return a function that calls *callback* and is noted while it runs."""

    def watched(*args: object) -> object:
        return _timed(callback, site, callback, args)

    watched.__ae_wraps__ = callback  # type: ignore[attr-defined]
    return watched


def timed_call(
    core: LoopState, callback: Callable[[], object], context: Context | None, record: Any
) -> None:
    """Stand in for ``CallbackRunner.call`` while strict mode is on: the same, but noted."""
    _timed(callback, "", _plain_call, (core, callback, context, record))


_plain_call: Any = None  # CallbackRunner.call, set by _checks


def _timed(
    callback: object, site: str, function: Callable[..., object], args: tuple[object, ...]
) -> object:
    me = get_ident()
    outer = _running.get(me)
    run = _running[me] = _Run(callback, site)
    if not _alive and _enabled:
        _start_thread()
    try:
        return function(*args)
    finally:
        now = monotonic()
        if outer is None:
            _running.pop(me, None)
        else:
            outer.started = now
            _running[me] = outer
        if _slow and now - run.started > _slow:
            log(
                "error",
                "%s blocked the loop for %.3f s",
                _describe(run),
                now - run.started,
                context="ae_core.strict",
            )


def _describe(run: _Run) -> str:
    made = f" (watcher made at {run.site})" if run.site else ""
    return f"callback {callback_text(run.callback)}{made}"


def _look_at_callbacks() -> None:
    now = monotonic()
    for thread, run in _running.copy().items():
        if run.reported or now - run.started <= _slow:
            continue
        frame = sys._current_frames().get(thread)
        if frame is None or _running.get(thread) is not run:
            continue
        run.reported = True
        stack = _stack(frame)
        del frame
        log(
            "error",
            "%s has been blocking the loop for %.3f s, and is here now:\n%s",
            _describe(run),
            now - run.started,
            stack,
            context="ae_core.strict",
        )


def _stack(frame: FrameType) -> str:
    """Return the stack from the callback inwards: what is outside is the loop, and known."""
    frames = []
    here: FrameType | None = frame
    while here is not None and here.f_code is not _timed.__code__:
        frames.append((here, here.f_lineno))
        here = here.f_back
    if frames and _plain_call is not None and frames[-1][0].f_code is _plain_call.__code__:
        del frames[-1]
    return "".join(traceback.StackSummary.extract(reversed(frames)).format()).rstrip()


# Descriptors


def check_fd(fd: int, identity: tuple[int, int], site: str) -> None:
    """Complain if *fd*, for which a watcher is about to be made, is watched as another file."""
    earlier = _known.get(fd)
    if earlier is not None and earlier.identity != identity and earlier.active():
        _complain(fd, earlier, f" and used again, by {site}")


def register_fd(
    core: LoopState, fd: int, identity: tuple[int, int], site: str, watcher: Watcher
) -> None:
    """Note that *watcher* was made for *fd*, which means the file *identity* now."""
    if core not in _cores:
        _cores.add(core)
        _hear_refusals(core)
    earlier = _known.get(fd)
    others = earlier.active() if earlier is not None and earlier.identity == identity else []
    _known[fd] = _Registration(identity, site, [*others, ref(watcher)])
    if not _alive and _enabled:
        _start_thread()


def _hear_refusals(core: LoopState) -> None:
    """Report also a closed descriptor that the loop (poll, select) finds first and gives up."""
    backend = core.backend
    refuse = backend.on_refused

    def refused(fd: int, write: bool, error: OSError) -> None:
        registration = _known.pop(fd, None)
        if _enabled and error.errno == errno.EBADF and registration and registration.active():
            _complain(fd, registration, "")
        if refuse is not None:
            refuse(fd, write, error)

    backend.on_refused = refused


def _complain(fd: int, registration: _Registration, how: str) -> None:
    log(
        "critical",
        "fd %d registered by %s but prematurely closed%s; the event loop might malfunction",
        fd,
        registration.site,
        how,
        context="ae_core.strict",
    )


def _look_at_fds() -> None:
    global _next_fd
    fds = sorted(fd for fd in _known.copy() if fd >= _next_fd)[:FDS_AT_ONCE]
    _next_fd = fds[-1] + 1 if len(fds) == FDS_AT_ONCE else 0
    for fd in fds:
        registration = _known.get(fd)
        if registration is None:
            continue
        if not registration.active():
            _known.pop(fd, None)
            continue
        how = ""
        try:
            status = os.fstat(fd)
        except OSError:
            pass
        else:
            if (status.st_dev, status.st_ino) == registration.identity:
                continue
            how = " and used again"
        # Cancelled and closed, both in order, while we were looking? Then it is watched no more.
        if registration.active() and _known.get(fd) is registration:
            _known.pop(fd, None)
            _complain(fd, registration, how)


# The thread


def _start_thread() -> None:
    global _alive
    _alive = True
    _wake.acquire(blocking=False)
    try:
        start_new_thread(_look, ())
    except RuntimeError:  # no more threads, or the end of the program: then without
        _alive = False


def _look() -> None:
    with bystander():
        _look_again_and_again()


def _look_again_and_again() -> None:
    global _alive
    looked = monotonic()
    while _enabled:
        pause = max(0.01, min(FD_PERIOD, _slow / 4)) if _slow else FD_PERIOD
        if _wake.acquire(timeout=pause):
            continue  # stop() or a new start(): look at the settings
        if _slow:
            _look_at_callbacks()
        if monotonic() - looked >= FD_PERIOD:
            _look_at_fds()
            looked = monotonic()
    _alive = False


def forget() -> None:
    """Forget, in a forked child, what the parent's thread and its loops were doing."""
    global _alive, _wake
    _alive = False
    _wake = allocate_lock()
    _running.clear()
    _known.clear()
    _cores.clear()
