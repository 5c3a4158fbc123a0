"""The worker processes of ``fork_call``: started when needed, kept for a while, never trusted.

Carries bytes: a request to a worker, an answer back. What they mean is known to ``call``.
"""

from __future__ import annotations

__all__ = ("AnyWorker", "Call", "Pool", "Surroundings", "Worker", "command", "pool_of")

import os
import signal
import struct
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .._base import environ as _environ
from .._base.closing import close_descriptor, close_socket
from .._base.thread_identity import original

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._loop.state import LoopState

# Theory of operation
# -------------------
# Upstream forks for every call. In Python a fork of a process with threads may deadlock in the
# child, so a worker here is a fresh interpreter, started like any program, that takes pickled
# calls from a socket. Starting one costs about as much as starting Python, so it serves one call
# after the other, and ends when it found none for a moment.
#
# A worker belongs to the loop (the core) whose call started it, ends with it, and is watched by it
# only while it is busy: an idle one counts neither as a watcher nor as an operation. If it dies
# meanwhile, the next call finds out: the worker says "S" when it has taken a call, and a call that
# no worker has taken is given to another one. After the "S" the call may have had effects; if the
# worker then ends without an answer, that is the outcome.
#
# A call finds the directory, the file mode mask and the environment that we had when it was made:
# it carries them, and the worker takes them on before it takes the call. A worker that was started
# under others is not used for it, as some of them count only when an interpreter starts.

#: How long an idle worker stays, in seconds: from one call of a sequence to the next.
IDLE: Final = 1.0

#: How many workers in a row may fail to take a call before it is given up.
ATTEMPTS: Final = 3

_DEFAULT_LIMIT: Final = 10

_BOOTSTRAP: Final = """\
import sys
sys.path[:] = {path!r}
from ae_core._fork_call.process_worker import main
main(duplex={duplex})
"""


class Call(Protocol):
    """What the pool knows of a call."""

    frame: bytes
    surroundings: Surroundings
    attempts: int
    worker: AnyWorker | None

    @property
    def wanted(self) -> bool: ...
    def answer(self, reply: bytes) -> None: ...
    def fail(self, status: int) -> None: ...
    def refuse(self, error: Exception) -> None: ...
    def cancel(self) -> None: ...


class AnyWorker(Protocol):
    """What the pool knows of a worker."""

    def begin(self, pool: Pool, core: LoopState, call: Call) -> None: ...
    def kill(self) -> None: ...
    def abandon(self) -> None: ...


class Pool:
    """The workers and the waiting calls of one loop."""

    #: Idle workers keep no loop; they end with it.
    is_service = True

    def __init__(self, make_worker: Callable[[Surroundings], AnyWorker] | None = None) -> None:
        # makes workers of another kind, which serve one call each
        self.make_worker = make_worker
        self.queue: deque[Call] = deque()
        self.busy: set[AnyWorker] = set()
        self.idle: list[Worker] = []  # the longest idle first
        self.timer: int | None = None  # for retire()

    def submit(self, core: LoopState, call: Call) -> None:
        self.queue.append(call)
        self.schedule(core, call)

    def schedule(self, core: LoopState, new: Call | None = None) -> None:
        """Start what may run now. Raises what *new*, whose caller waits for us, meets."""
        limit = _limit()
        while self.queue and len(self.busy) < limit:
            call = self.queue.popleft()
            if not call.wanted:
                continue  # cancelled while it waited
            try:
                worker = self.take(call.surroundings)
            except OSError as refusal:
                if self.busy:  # wait until one of those is free (UTIL-03)
                    self.queue.appendleft(call)
                    return
                core.postpone(partial(call.refuse, refusal))
                continue
            except BaseException as error:
                self._give_up(core, call, new, error)
                continue
            self.busy.add(worker)
            try:
                worker.begin(self, core, call)
            except BaseException as error:
                self.busy.discard(worker)
                worker.abandon()
                self._give_up(core, call, new, error)

    def _give_up(self, core: LoopState, call: Call, new: Call | None, error: BaseException) -> None:
        """*call* could not be started. Only that of *new* is an error of what runs now."""
        if call is new:
            call.cancel()
            raise error
        if isinstance(error, Exception):
            core.postpone(partial(call.refuse, error))
        else:
            self.queue.appendleft(call)
            core.postpone(partial(self.schedule, core))
            raise error

    def take(self, surroundings: Surroundings) -> AnyWorker:
        """Return an idle worker, or a new one."""
        if self.make_worker is not None:
            return self.make_worker(surroundings)
        while self.idle:
            worker = self.idle.pop()
            # two directories that were removed need not be the same
            same = worker.surroundings == surroundings and surroundings.directory is not None
            if same and not worker.has_ended():
                return worker
            worker.end()
        return Worker(surroundings)

    def release(self, core: LoopState, worker: AnyWorker) -> None:
        """*worker* has answered or ended: use its place for the next call."""
        self.busy.discard(worker)
        if isinstance(worker, Worker) and worker.alive:
            worker.idle_since = core.clock()
            self.idle.append(worker)
            if self.timer is None:
                self.timer = core.timer(IDLE, partial(self.retire, core))
        self.schedule(core)

    def retire(self, core: LoopState) -> None:
        """End the workers that have been idle for long enough."""
        latest = core.clock() - IDLE
        while self.idle and self.idle[0].idle_since <= latest:
            self.idle.pop(0).end()
        self.timer = None
        if self.idle:
            pause = self.idle[0].idle_since - latest
            self.timer = core.timer(pause, partial(self.retire, core))

    def close(self) -> None:
        """End the idle workers. The busy ones are ended by their calls."""
        while self.idle:
            self.idle.pop().end()

    def shutdown(self, core: LoopState) -> None:
        """End the idle workers before their time."""
        if self.timer is not None:
            core.cancel_timer(self.timer)
            self.timer = None
        self.close()


class Worker:
    """One worker process, and the call that it does if it is busy."""

    def __init__(self, surroundings: Surroundings) -> None:
        import socket

        from .._process.spawn import spawn
        from .._process.spawn_helper import SpawnPlan

        self.surroundings = surroundings
        self.owner = os.getpid()  # a forked child has copies of us, and no right to our process
        self.alive = False
        self.idle_since = 0.0
        self.call: Call | None = None
        self.core: LoopState | None = None  # while busy
        self.pool: Pool | None = None  # while busy
        self.records: list[Any] = []  # while busy: child, reader, writer
        ours, theirs = socket.socketpair()
        try:
            self.fd = ours.detach()
            os.set_blocking(self.fd, False)
            environment = {os.fsencode(k): os.fsencode(v) for k, v in surroundings.environ.items()}
            directory = surroundings.directory
            plan = SpawnPlan(
                command(surroundings, duplex=True),
                environment,
                # no other than ours: it need not be named, and perhaps could not be
                None if directory in (None, _directory()) else os.fsencode(directory),
                moves=[(0, theirs.fileno())],
                close_all=True,  # or it would keep open what is to be seen closed
            )
            self.pid = spawn(plan)
        finally:
            close_socket(theirs)
        self.alive = True

    # busy

    def begin(self, pool: Pool, core: LoopState, call: Call) -> None:
        """Send *call*, and have it answered or failed."""
        from .._sources.children import watch_child

        self.pool = pool
        self.core = core
        self.call = call
        call.worker = self
        self.taken = False
        self.reply = bytearray()
        self.rest = memoryview(struct.pack("<Q", len(call.frame)) + call.frame)
        self.records = [
            watch_child(core, self.pid, self.on_end, None),
            core.io.start(self.fd, False, self.on_readable, None, self.on_refused),
            core.io.start(self.fd, True, self.on_writable, None, self.on_refused),
        ]

    def on_refused(self, error: OSError) -> None:
        """The loop cannot watch the socket, so no answer would be noticed."""
        call = self.call
        self.kill()  # on_end() frees the place
        if call is not None and call.wanted:
            call.refuse(error)

    def on_writable(self) -> None:
        try:
            self.rest = self.rest[os.write(self.fd, self.rest) :]
        except BlockingIOError:
            return
        except OSError:  # it has ended, or is about to: on_end() follows
            self.rest = memoryview(b"")
        if not self.rest:
            self.records.pop().cancel()

    def on_readable(self) -> None:
        if self.receive() is not False:
            return
        # Its end of the socket is closed: it is dead, or its function closed what is not its
        # own and nothing can come of it any more.
        self.records[1].cancel()
        self.kill()

    def receive(self) -> bool | None:
        """Take what is there: True; None if nothing is; False at the end of the stream."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return False
        self.reply += data
        if not self.taken:
            self.taken = True
            del self.reply[:1]
        if len(self.reply) >= 8:
            (n,) = struct.unpack_from("<Q", self.reply)
            if len(self.reply) - 8 >= n:
                call, pool, core = self.finish()
                reply = bytes(self.reply[8:])
                self.reply = bytearray()
                try:
                    pool.release(core, self)
                finally:
                    call.answer(reply)
        return True

    def finish(self) -> tuple[Call, Pool, LoopState]:
        """Stop watching and let the call go."""
        call, core, pool = self.call, self.core, self.pool
        assert call is not None
        assert core is not None
        assert pool is not None
        call.worker = self.call = self.core = self.pool = None
        for record in self.records:
            record.cancel()
        self.records = []
        return call, pool, core

    def on_end(self, pid: int, status: int) -> None:
        self.alive = False
        while self.call is not None and self.receive():
            continue  # an answer may lie in the socket
        if self.call is None:
            self.close()
            return
        call, pool, core = self.finish()
        self.close()
        call.attempts += 1
        again = not self.taken and call.wanted and call.attempts < ATTEMPTS
        if again:
            pool.queue.appendleft(call)
        try:
            pool.release(core, self)
        finally:
            if not again:
                call.fail(status)

    def kill(self) -> None:
        if self.alive and self.owner == os.getpid():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def abandon(self) -> None:
        """The loop has ended while we were busy."""
        self.kill()
        if self.call is not None:
            self.finish()
        self.close()
        if self.alive and self.owner == os.getpid():
            from .._process.spawn import abandon

            abandon(self.pid)
        self.alive = False

    # idle

    def has_ended(self) -> bool:
        try:
            self.alive = os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            self.alive = False  # other code waits for every child
        return not self.alive

    def end(self) -> None:
        """End the process and reap it; being idle, it ends without delay."""
        self.kill()
        self.close()
        if self.alive and self.owner == os.getpid():
            with suppress(ChildProcessError):
                original("os", "waitpid")(self.pid, 0)  # gevent's waits in greenlets only
        self.alive = False

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            close_descriptor(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.abandon()


def _limit() -> int:
    value = _environ.get("AE_MAX_FORKS") or "0"
    try:
        limit = int(value)
    except ValueError:
        _warn_once(value)
        limit = 0
    return limit if limit > 0 else _DEFAULT_LIMIT


_warned: set[str] = set()


def _warn_once(value: str) -> None:
    if value not in _warned:
        _warned.add(value)
        from .._base.log import log

        log("warn", "AE_MAX_FORKS: expected a number, got %r", value, context="ae_core")


class Surroundings(NamedTuple):
    """What a call finds as it was here when the call was made."""

    directory: str | None  # None: it was removed
    umask: int
    environ: dict[str, str]
    path: list[str]
    executable: str

    @classmethod
    def now(cls) -> Surroundings:
        """Return ours."""
        path = [entry for entry in sys.path if isinstance(entry, str)]
        return cls(_directory(), _umask(), os.environ.copy(), path, sys.executable)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _umask() -> int:
    # Linux tells; elsewhere the only way to ask is to set it, for all threads, for a moment
    try:
        fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.read(fd, 1024)
        finally:
            close_descriptor(fd)
        return int(status.partition(b"\nUmask:")[2].split(maxsplit=1)[0], 8)
    except (AttributeError, OSError, IndexError):
        mask = os.umask(0o077)
        os.umask(mask)
        return mask


def command(surroundings: Surroundings, duplex: bool) -> list[bytes]:
    if not surroundings.executable:
        raise RuntimeError("fork_call needs a Python interpreter to run; sys.executable is empty")
    code = _BOOTSTRAP.format(path=surroundings.path, duplex=duplex)
    return [os.fsencode(part) for part in (surroundings.executable, *_flags(), "-c", code)]


def _flags() -> list[str]:
    """Give the options that make another interpreter behave like this one."""
    flags = sys.flags
    options = {
        "B": flags.dont_write_bytecode,
        "E": flags.ignore_environment and not flags.isolated,
        "I": flags.isolated,
        "O": flags.optimize,
        "P": flags.safe_path and not flags.isolated,
        "b": flags.bytes_warning,
        "s": flags.no_user_site and not flags.isolated,
        "S": flags.no_site,
    }
    given = [f"-{letter * int(times)}" for letter, times in options.items() if times]
    given += [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():
        given += ["-X", name if value is True else f"{name}={value}"]
    return given


def pool_of(
    core: LoopState, make_worker: Callable[[Surroundings], AnyWorker] | None = None
) -> Pool:
    """Return the pool of a loop, made at the first call with *make_worker*."""
    pool: Pool | None = core.per_loop.get("fork_call")
    if pool is None:
        pool = core.per_loop["fork_call"] = Pool(make_worker)
        core.closers.append(pool.close)
    return pool
