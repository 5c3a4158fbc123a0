"""The records of I/O watchers: what a backend is given to call.

Which records there are, and what a callback's errors come to, is the core's business.
"""

from __future__ import annotations

__all__ = ("AlwaysReady", "IoRecord")

from .._base.thread_identity import get_ident, wrong_thread
from .interrupts import repeatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

    from .state import Core
else:  # the C module itself
    from _contextvars import Context


class IoRecord:
    """The interest of one watcher in one direction of one descriptor.

    The backend gets the first record of a descriptor and direction as its callback.
    """

    __slots__ = ("callback", "context", "core", "fd", "peers", "refused", "token")

    callback: Callable[[], object] | None  # None: cancelled
    context: Context | None
    core: Core
    fd: int  # ~fd for writing
    peers: list[IoRecord] | None  # on the first record of a descriptor: itself and the others
    refused: Callable[[OSError], object] | None  # None: the exception hook
    token: Any

    kind = "io"

    @property
    def active(self) -> bool:
        return self.callback is not None

    def __call__(self) -> None:
        """Called by the backend: the descriptor is ready."""
        if self.peers is not None:
            try:
                owed = self.core.owed
                # one that is owed a call from an outer turn gets no second one for this event
                owed.extend([record.fire for record in self.peers if record.fire not in owed])
                self.core.serve()
            except BaseException as error:
                self.core.escaped(error)
            return
        # Core.call(), written out: 60 ns of the 3 us that an event costs
        core = self.core
        callback: Any = self.callback
        if callback is None:
            self.release()  # cancelled, and the backend had found it ready before
            return
        try:
            if self.context is None:
                blank = core.blank
                if blank is None:
                    blank = Context()
                core.blank = None
                blank.run(callback)
                if not blank:
                    core.blank = blank
            else:
                self.context.copy().run(callback)
        except BaseException as error:
            core.failed(error, (self, callback))

    def fire(self) -> None:
        if self.callback is not None:
            self.core.call(self.callback, self.context, self)

    def cancel(self) -> None:
        if self.callback is None:
            return
        if self.core.thread != get_ident():
            wrong_thread()
        self.callback = self.refused = None
        first = self._first()
        if first.peers is not None:
            if self in first.peers:
                first.peers.remove(self)
            if first.peers:
                return
        first.release()

    def _side(self) -> tuple[dict[int, IoRecord], int]:
        core = self.core
        return (core.writers, ~self.fd) if self.fd < 0 else (core.readers, self.fd)

    def _first(self) -> IoRecord:
        side, fd = self._side()
        return side.get(fd, self)

    def release(self) -> None:
        """Have the backend stop watching for a record that is not in use any more.

        The backend may call it still if a signal handler has raised inside :meth:`cancel`.
        """
        core = self.core
        token = self.token
        if token is None or core.closed:
            return
        side, fd = self._side()
        if side.get(fd) is self:
            del side[fd]
        core.io_forget(token)
        self.token = None

    def describe(self) -> str:
        return f" {~self.fd} w" if self.fd < 0 else f" {self.fd} r"


class AlwaysReady:
    """Readiness for what a loop cannot wait for, a regular file: ready once a turn."""

    __slots__ = ("core", "fire", "timer")

    def __init__(self, core: Core, fire: Callable[[], object]) -> None:
        self.core = core
        self.fire = fire
        # a timer, not call_soon: other events get their chance in between on every loop
        self.timer = core.timer(0.0, self.turn)

    @repeatable
    def turn(self) -> None:
        self.core.cancel_timer(self.timer)  # if this is the second try
        self.timer = self.core.timer(0.0, self.turn)  # before the call, which may run a loop
        self.fire()

    def stop(self) -> None:
        self.core.cancel_timer(self.timer)
