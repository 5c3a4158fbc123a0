"""Interests in descriptors: which there are, by descriptor and direction, and their records.

A record is what a backend is given to call. Several watchers may share a descriptor and
direction, of which the backend knows the first only. What it cannot watch is always ready, or
its watchers end with an error.
"""

from __future__ import annotations

__all__ = ("AlwaysReady", "IoRecord", "IoTable", "Loop")

from .._base.signal_errors import repeatable
from .._base.thread_identity import get_ident, wrong_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context
    from functools import partial
    from typing import Any, Protocol

    from .backend import Backend
    from .calls import CallQueue
    from .runner import CallbackRunner

    class Loop(Protocol):
        """What the table and its records ask of the loop state that they belong to."""

        backend: Backend
        calls: CallQueue
        closed: bool
        io: IoTable
        runner: CallbackRunner
        thread: int

        def timer(self, after: float, callback: Callable[[], object]) -> int: ...
        def cancel_timer(self, number: int) -> None: ...

else:  # the C modules themselves
    from _contextvars import Context

    try:
        from _functools import partial
    except ImportError:  # PyPy has it in functools
        from functools import partial

    class Loop: ...


class IoRecord:
    """The interest of one watcher in one direction of one descriptor.

    The backend gets the first record of a descriptor and direction as its callback.
    """

    __slots__ = ("callback", "context", "core", "fd", "peers", "refused", "token")

    callback: Callable[[], object] | None  # None: cancelled
    context: Context | None
    core: Loop
    fd: int  # ~fd for writing
    peers: dict[IoRecord, None] | None  # on the first record of a descriptor: itself and the others
    refused: Callable[[OSError], object] | None  # None: the exception hook
    token: Any

    kind = "io"

    @property
    def active(self) -> bool:
        return self.callback is not None

    def __call__(self) -> None:
        """Called by the backend: the descriptor is ready."""
        if self.peers:
            try:
                calls = self.core.calls
                owed = calls.owed
                # one that is owed a call from an outer turn gets no second one for this event
                owed.extend([record.fire for record in self.peers if record.fire not in owed])
                calls.serve()
            except BaseException as error:
                self.core.runner.escaped(error)
            return
        # fast path: CallbackRunner.call(), written out: 60 ns of the 3 us that an event costs
        table = self.core.io
        callback: Any = self.callback
        if callback is None:
            self.release()  # cancelled, and the backend had found it ready before
            return
        try:
            if self.context is None:
                empty = table.empty
                if empty is None:
                    empty = Context()
                table.empty = None
                empty.run(callback)
                if not empty:
                    table.empty = empty
            else:
                self.context.copy().run(callback)
        except BaseException as error:
            table.runner.failed(error, (self, callback))

    def fire(self) -> None:
        if self.callback is not None:
            self.core.runner.call(self.callback, self.context, self)

    def cancel(self) -> None:
        if self.callback is None:
            return
        core = self.core
        if core.thread != get_ident():
            wrong_thread()
        self.callback = self.refused = None
        token = self.token
        if token is None or self.peers is not None:
            self._leave_peers()
            return
        # fast path: release(), written out: a tenth of what a watcher costs
        table = core.io
        fd = self.fd
        try:
            if fd < 0:
                del table.writers[~fd]
            else:
                del table.readers[fd]
        except KeyError:
            token = self.token  # taken out before, by what an exception has broken off
        if token.__class__ is AlwaysReady:
            token.stop()
        elif token is not None:
            table.backend.io_stop(token)
        self.token = None

    def _leave_peers(self) -> None:
        """End the interest where others share the descriptor; the last one releases it."""
        table = self.core.io
        fd = self.fd
        first = table.writers.get(~fd) if fd < 0 else table.readers.get(fd)
        if first is not None and first.peers is not None:
            if self in first.peers:
                del first.peers[self]
            if not first.peers:
                first.release()

    def release(self) -> None:
        """Have the backend stop watching for a record that is not in use any more.

        The backend may call it still if a signal handler has raised inside :meth:`cancel`.
        """
        core = self.core
        token = self.token
        if token is None or core.closed:
            return
        table = core.io
        side, fd = (table.writers, ~self.fd) if self.fd < 0 else (table.readers, self.fd)
        if side.get(fd) is self:
            del side[fd]
        table.forget(token)
        self.token = None

    def describe(self) -> str:
        return f" {~self.fd} w" if self.fd < 0 else f" {self.fd} r"


class AlwaysReady:
    """Readiness for what a loop cannot wait for, a regular file: ready once a turn."""

    __slots__ = ("core", "fire", "timer")

    def __init__(self, core: Loop, fire: Callable[[], object]) -> None:
        self.core = core
        self.fire = fire
        # a timer, not call_soon: on every loop other events are handled in between
        self.timer = core.timer(0.0, self.turn)

    @repeatable
    def turn(self) -> None:
        self.core.cancel_timer(self.timer)  # if this is the second try
        self.timer = self.core.timer(0.0, self.turn)  # before the call, which may run a loop
        self.fire()

    def stop(self) -> None:
        self.core.cancel_timer(self.timer)


class IoTable:
    """The records of one loop state."""

    __slots__ = ("backend", "empty", "loop", "own", "readers", "runner", "writers")

    def __init__(self, loop: Loop, runner: CallbackRunner) -> None:
        self.loop = loop
        self.runner = runner
        self.empty: Context | None = Context()  # to run callbacks in; None while it is in use
        self.readers: dict[int, IoRecord] = {}  # the first record of each descriptor
        self.writers: dict[int, IoRecord] = {}
        self.own: dict[int, IoRecord] = {}  # descriptors that the core itself watches

    backend: Backend

    def attach(self, backend: Backend) -> None:
        """Take *backend* into use."""
        self.backend = backend
        backend.on_ready = self.ready  # type: ignore[method-assign]
        backend.on_refused = self.refused

    def records(self) -> list[IoRecord]:
        """Return all records that stand for a watcher."""
        sides = (self.readers, self.writers)
        return [r for side in sides for first in side.values() for r in first.peers or (first,)]

    def end_all(self) -> list[Any]:
        """End all records without telling the backend; return what they held."""
        held: list[Any] = []
        for record in self.records():
            held += [record, record.callback, record.refused]
            record.callback = record.refused = None
        return held

    def clear(self) -> None:
        """Forget all records."""
        self.readers.clear()
        self.writers.clear()
        self.own.clear()

    def start(
        self,
        fd: int,
        write: bool,
        callback: Callable[[], object],
        context: Context | None,
        refused: Callable[[OSError], object] | None = None,
    ) -> IoRecord:
        """Register an interest and return its record.

        What the loop, or the kernel, refuses to watch is told to *refused*, in a later turn.

        Raises:
            OSError: It was found out immediately, and there is no *refused*.
        """
        record = IoRecord()
        record.core = self.loop
        record.callback = callback
        record.context = context
        record.peers = None
        record.refused = refused
        record.token = None
        if write:
            record.fd = ~fd
            side = self.writers
        else:
            record.fd = fd
            side = self.readers
        if fd not in side:
            try:
                record.token = self.backend.io_start(fd, write, record)
            except OSError as error:
                record.token = self._refused_at_once(record, error)
            side[fd] = record
        else:
            first = side[fd]
            if first.peers is None:
                first.peers = {first: None}
            first.peers[record] = None
            # The number may be that of another file by now: code that connects again closes the old
            # socket and watches the new one, with the same number, before the old watcher goes.
            # The loop goes by the file it knew, for both directions.
            other = (self.readers if write else self.writers).get(fd)
            self.forget(first.token)
            if other is not None:
                self.forget(other.token)
                self._watch_again(other)
            self._watch_again(first)
        return record

    def _refused_at_once(self, record: IoRecord, error: OSError) -> Any:
        """Return what stands for the backend's token after an error of its ``io_start``."""
        write = record.fd < 0
        fd = ~record.fd if write else record.fd
        other = (self.readers if write else self.writers).get(fd)
        if other is not None and not isinstance(error, PermissionError):
            # watched for the other direction, closed since, and opened again? The loop goes by
            # the file it knew.
            self.forget(other.token)
            try:
                return self.backend.io_start(fd, write, record)
            except OSError as second:
                error = second
            finally:
                self._watch_again(other)
        if isinstance(error, PermissionError):
            return AlwaysReady(self.loop, record)
        if record.refused is None:
            raise error
        return AlwaysReady(self.loop, partial(self.refused, fd, write, error))

    def _watch_again(self, first: IoRecord) -> None:
        """Have the backend begin anew with a descriptor that it has stopped to watch."""
        write = first.fd < 0
        fd = ~first.fd if write else first.fd
        try:
            first.token = self.backend.io_start(fd, write, first)
        except PermissionError:
            first.token = AlwaysReady(self.loop, first)
        except OSError as error:
            first.token = AlwaysReady(self.loop, partial(self.refused, fd, write, error))

    def forget(self, token: Any) -> None:
        """End what the token of a record stands for."""
        if token.__class__ is AlwaysReady:
            token.stop()
        else:
            self.backend.io_stop(token)

    def watch_own(
        self,
        fd: int,
        callback: Callable[[], object],
        refused: Callable[[OSError], object],
        *,
        counts: bool = True,
    ) -> IoRecord:
        """Have *callback* called when *fd* is readable, for the core itself.

        No watcher stands for it, nothing that looks for watchers sees it, and only one may be on
        a descriptor. End it with :meth:`end_own`. If it cannot be watched, *refused* is called
        in a later turn. If it does not count, a loop that ends when it has nothing to wait for
        does not wait for this.
        """
        record = IoRecord()
        record.core = self.loop
        record.callback = callback
        record.context = None
        record.peers = None
        record.refused = refused
        record.fd = fd
        try:
            record.token = self.backend.io_start(fd, False, record)
            if not counts:
                self.backend.io_discount(record.token)
        except OSError as error:
            record.token = self._refused_at_once(record, error)
        self.own[fd] = record
        return record

    def end_own(self, record: IoRecord) -> None:
        """End what :meth:`watch_own` began, if it was not refused."""
        if record.callback is not None:
            record.callback = record.refused = None
            if not self.loop.closed:
                del self.own[record.fd]
                self.forget(record.token)
                record.token = None  # the number may be another's by now

    def close_own(self, record: IoRecord) -> None:
        """Do so while the core is being closed."""
        if record.callback is not None:
            record.callback = record.refused = None
            self.forget(record.token)

    def ready(self, callbacks: Iterable[Callable[[], None]]) -> None:
        """Called by the backend, with what it was given: run all callbacks."""
        waiting = iter(callbacks)
        done = False
        while not done:
            empty = self.empty
            if empty is None:
                empty = Context()
            self.empty = None
            done = empty.run(self._run_in_empty, waiting, empty)
            if not empty:
                self.empty = empty

    def _run_in_empty(self, waiting: Iterator[Any], empty: Context) -> bool:
        """Run callbacks until one of them has left something in *empty*; False if so.

        Entering a Context for each would be a tenth of what an event costs here.
        """
        for record in waiting:
            if record.__class__ is not IoRecord or record.context or record.peers is not None:
                record()
                continue
            callback: Any = record.callback
            if callback is None:
                record.release()  # cancelled by a callback before it
                continue
            try:
                callback()
            except BaseException as error:
                self.runner.failed(error, (record, callback))
            if empty:
                return False
        return True

    def refused(self, fd: int, write: bool, error: OSError) -> None:
        """The backend found out late that it cannot watch *fd*: end all its watchers.

        A PermissionError means, as with ``io_start``, that it is always ready.
        """
        side = self.writers if write else self.readers
        if not write and fd not in side:
            side = self.own
        first = side.pop(fd, None)
        if first is None:
            return
        if first.token.__class__ is AlwaysReady:
            first.token.stop()
        elif isinstance(error, PermissionError):
            first.token = AlwaysReady(self.loop, first)
            side[fd] = first
            return
        runner = self.runner
        ended = []
        for record in first.peers or (first,):
            if record.callback is not None:
                ended.append((record, record.callback, record.refused))
                record.callback = record.refused = None
        for record, callback, refused in ended:
            if refused is None:
                runner.failed(error, (record, callback))
            else:
                runner.call(partial(refused, error), record.context, record)
