"""``run_cmd``: start a program, feed it, collect what it says, wait for its end.

What is to be redirected is decided in ``redirect``, how the program is started in ``spawn``;
its pipes are in ``pipes``; here are the wait and the result.
"""

from __future__ import annotations

__all__ = ("Process", "run_cmd")

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from .._async.condvar import CondVar
from .._base.closing import close_descriptor
from .._base.seconds import check_seconds
from .._detection.current import current_loop
from .pipes import Drain, Feed
from .redirect import Existing, Named, Source, parse_redirects

if TYPE_CHECKING:
    import socket
    from contextvars import Context

    from .._loop.state import LoopState
    from .redirect import Redirect

#: How long a cancelled program may take to end, in seconds.
PATIENCE: Final = 5.0


class Process(CondVar[int]):
    """A program that was started by :func:`run_cmd`; its value is the raw wait status.

    The status is what :func:`os.waitpid` gives: the exit code times 256, or the number of the
    signal that ended the program. :func:`os.waitstatus_to_exitcode` translates it.

    It is ready when the program has ended and every stream that we fill or empty is at its end.

    It is an operation: when the only coroutine that awaits it is cancelled, or a time limit around
    that is up, the program is ended as by :meth:`cancel`. ``await ae.shield(process)`` spares it.
    """

    __slots__ = (
        "_argv",
        "_captured",
        "_checks",
        "_cmd",
        "_core",
        "_has_group",
        "_killer",
        "_limit",
        "_owner",
        "_pid",
        "_sockets",
        "_status",
        "_streams",
    )

    def __init__(self, argv: Sequence[bytes] = ()) -> None:
        super().__init__()
        self._be_operation()
        self._argv = argv
        self._captured: tuple[bytearray, bytearray] | None = None
        self._checks = False
        self._cmd: Any = None
        self._core: LoopState = current_loop()
        self._has_group = False
        self._owner = os.getpid()
        self._pid = 0
        self._sockets: list[socket.socket | None] | None = None  # until they are handed over
        self._status: int | None = None
        self._streams: list[Feed | Drain] = []
        self._killer: int | None = None  # a timer
        self._limit: int | None = None  # a timer

    @property
    def pid(self) -> Any:
        """The process id, an ``int``; None if the program could not be started.

        It may belong to another process once the program has ended.

        Perl: ``'$$' => \\$pid``
        """
        return self._pid or None

    @property
    def exit_code(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None before."""
        if not self.ready or self._status is None:
            return None
        return os.waitstatus_to_exitcode(self._status)

    @property
    def stdout(self) -> bytes | None:
        """What it wrote, with ``capture=True``; None before its end."""
        return self._output(0)

    @property
    def stderr(self) -> bytes | None:
        """The same of its errors."""
        return self._output(1)

    def streams(self) -> tuple[Any, Any, Any]:
        """Hand over the ends of its stdin, stdout and stderr, with ``streams=True``.

        Returns:
            Three non-blocking sockets (:class:`socket.socket`), made to be given to
            ``ae_handle.Handle``; None for a stream that was redirected. They are the caller's to
            close: the program reads the end of its input when the first is closed or shut down.
            Of a program that could not be started they are at their end. What was not handed over
            is closed with the process.

        Raises:
            RuntimeError: They were handed over already, or closed by :meth:`cancel`, or
                ``streams=True`` was not given.
        """
        sockets, self._sockets = self._sockets, None
        if sockets is None:
            raise RuntimeError(
                "the streams were handed over already, or closed; or run_cmd() was called without "
                "streams=True"
            )
        stdin, stdout, stderr = sockets
        return stdin, stdout, stderr

    def _open_sockets(self, redirects: dict[int, Redirect]) -> list[socket.socket]:
        """Make a pair for each stream that is not redirected; return the program's ends.

        Raises:
            OSError: There are none; what was made is closed.
        """
        import socket

        ours: list[socket.socket | None] = [None, None, None]
        theirs: list[socket.socket] = []
        self._sockets = ours
        try:
            for number in range(3):
                if number not in redirects:
                    ours[number], end = pair = socket.socketpair()
                    theirs.append(end)
                    pair[0].setblocking(False)
                    if number:
                        pair[0].shutdown(socket.SHUT_WR)  # so that writing there is an error
                    redirects[number] = Existing(end.fileno(), end)
        except BaseException:
            _close_all(theirs)
            self._close_sockets()
            raise
        return theirs

    def _close_sockets(self) -> None:
        sockets, self._sockets = self._sockets, None
        _close_all(sockets or ())

    def _output(self, index: int) -> bytes | None:
        return bytes(self._captured[index]) if self.ready and self._captured else None

    def _name(self) -> str:
        return f"Process {self._pid or '-'} {[os.fsdecode(argument) for argument in self._argv]}"

    def __repr__(self) -> str:
        state = self._value if self.ready and not self.cancelled else None
        text = "pending" if not self.ready else "cancelled" if state is None else repr(state)
        return f"<{self._name()} {text}>"

    def cancel(self) -> None:
        """End the program: SIGTERM now, SIGKILL if it is still there after 5 seconds.

        The condition variable is ready (and cancelled) immediately, and its streams are closed; the
        program is waited for in the background, for as long as the loop runs. Only the program
        itself gets the signals, not the processes that it started; with ``new_group=True`` these
        do, too.
        """
        super().cancel()

    def _end_operation(self) -> None:
        self._close_streams()
        self._close_sockets()
        self._forget_limit()
        if self._pid and self._status is None:
            self._signal(signal.SIGTERM)
            if not self._core.closed:
                self._killer = self._core.timer(PATIENCE, self._kill)

    def _cannot_watch(self, error: OSError) -> None:
        """One of the streams cannot be watched: the program is ended, and the error is ours."""
        if not self.ready:
            self._end_operation()
            self.throw(error)

    def _limit_by(self, seconds: float) -> None:
        def expire() -> None:
            self._limit = None
            if self.ready:
                return
            self._end_operation()
            kind: Any = _timed_out()
            out, err = self._captured or (None, None)
            self.throw(
                kind(
                    self._cmd,
                    seconds,
                    None if out is None else bytes(out),
                    None if err is None else bytes(err),
                )
            )

        self._limit = self._core.timer(seconds, expire)

    def _forget_limit(self) -> None:
        if self._limit is not None:
            self._core.cancel_timer(self._limit)
            self._limit = None

    def _kill(self) -> None:
        self._killer = None
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        if hasattr(os, "waitid"):
            # reaped, and its end not yet told to us: the number may be another process's by now
            try:
                os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
        with suppress(ProcessLookupError, PermissionError):  # set-uid programs refuse us
            if self._has_group:
                os.killpg(self._pid, number)
            else:
                os.kill(self._pid, number)

    def _close_streams(self) -> None:
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()

    def _ended(self, pid: int, status: int) -> None:
        self._status = status
        if self._killer is not None:
            self._core.cancel_timer(self._killer)
            self._killer = None
        self._finish_if_over()

    def _stream_ended(self, stream: Feed | Drain) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._status is None or self._streams or self.ready:
            return
        self._forget_limit()
        code = os.waitstatus_to_exitcode(self._status)
        if self._checks and code:
            from subprocess import CalledProcessError

            out, err = self._captured or (None, None)
            self.throw(
                CalledProcessError(
                    code,
                    self._cmd,
                    None if out is None else bytes(out),
                    None if err is None else bytes(err),
                )
            )
        else:
            self.send(self._status)

    def __del__(
        self,
        getpid: Callable[[], int] = os.getpid,
        is_finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        if getattr(self, "_sockets", None):
            self._close_sockets()
        # the loop keeps us until the program has ended: so it is the loop that has ended
        if not getattr(self, "_pid", 0) or self._status is not None or os.name == "nt":
            return
        if self._owner == getpid() and not is_finalizing():  # not a copy in a forked child
            from .spawn import abandon

            abandon(self._pid)


def _close_all(sockets: Iterable[socket.socket | None]) -> None:
    for sock in sockets:
        if sock is not None:
            sock.close()


# ---------------------------------------------------------------------- starting


@cache
def _timed_out() -> type[BaseException]:
    """Return the error of a program that took too long; either module's clause catches it."""
    from subprocess import TimeoutExpired

    class ProgramTimedOut(TimeoutExpired, TimeoutError):
        """A program took longer than the ``timeout`` of its :func:`run_cmd`."""

    return ProgramTimedOut


def run_cmd(
    cmd: str | Sequence[str | bytes | os.PathLike[Any]],
    *,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    fds: Mapping[int, Any] | None = None,
    cwd: str | bytes | os.PathLike[Any] | None = None,
    env: Mapping[Any, Any] | None = None,
    on_prepare: Callable[[], object] | None = None,
    close_all: bool = False,
    capture: bool = False,
    check: bool = False,
    timeout: float | None = None,
    new_group: bool = False,
    streams: bool = False,
) -> Process:
    r"""Start a program.

    Args:
        cmd: A ``str`` is a command line for ``/bin/sh -c``; a sequence is a program, looked for in
            the ``PATH`` of its environment, and its arguments.
        stdin: What the program reads. A path, or ``("<", name)``, is a file; a bytes-like
            object is the data itself; a callable is asked for more data until it gives ``b""``;
            an ``int`` or an object with ``fileno()`` is a descriptor of ours, used as it is.
            None: the program shares ours.
        stdout: Where its output goes. A ``str`` or path is the name of a file, which is
            truncated; a ``bytearray`` is appended to; a callable is given each piece, and ``b""``
            once, at the end; a descriptor as above.
        stderr: The same. One ``bytearray`` may serve several numbers; what arrives there keeps the
            order in which the program wrote it.
        fds: More numbers: ``{3: x}``. ``bytes`` are read, a ``bytearray`` is written to, a
            descriptor is used as it is; anything else needs its direction, ``("<", x)`` or
            ``(">", x)``. Numbers may be swapped.
        cwd: The program's directory. File names above are relative to ours.
        env: Its whole environment; None: ours.
        on_prepare: Called without arguments in the child just before the program takes its place.
            That needs a ``fork``: in a process with threads a lock that another thread holds at
            that moment is never released in the child, and an *on_prepare* that needs it hangs.
        close_all: Close every descriptor but 0, 1, 2 and those in *fds*, inheritable or not.
        capture: Collect what it writes to 1 and 2, for :attr:`Process.stdout` and ``stderr``.
        check: A program that fails is the error ``subprocess.CalledProcessError``.
        timeout: After so many seconds it is ended as by ``cancel()``, and the error is both a
            ``subprocess.TimeoutExpired`` and a :class:`TimeoutError`.
        new_group: Make it the leader of a process group; what ends it ends the whole group.
        streams: Join what is not redirected of 0, 1 and 2 to sockets, for
            :meth:`Process.streams`.

    Returns:
        A condition variable with the raw wait status (see :class:`Process`): exit code 3 is 768,
        which :attr:`Process.exit_code` translates. If it cannot be started, ``recv()`` and
        ``await`` raise :class:`FileNotFoundError`, :class:`PermissionError`,
        :class:`NotADirectoryError` or another :class:`OSError`, with the name of the program, of
        the directory or of the file; a name that the child itself has to open, such as a FIFO, is
        exit code 125, and 123 that *on_prepare* raised, with the traceback on the program's
        stderr. If the system or the loop refuses to watch one of its streams, the program is ended
        as by ``cancel()``, and that :class:`OSError` is raised.

    **When**: the program starts inside this call; callbacks run in the loop, never inside this
    call. What they raise goes to ``exception_hook``; an output is emptied all the same, an input
    ends.

    **Lifetime**: forgetting the result changes nothing; :meth:`Process.cancel` ends the program.
    When the loop ends, the streams that we fill or empty are closed, and the program goes on.

    The program runs with SIGPIPE at its default and no signal blocked. It is not ready before
    the last writer of its streams is gone: ``run_cmd("sleep 9 &", stdout=buffer)`` takes 9 s.
    Those of *streams* are not waited for.

    Raises:
        TypeError: An argument of a kind that is not listed above, such as a ``str`` for *stdin*.
        ValueError: An empty *cmd*, a null character, a number redirected twice, *capture* of
            what is redirected or with *streams*, a *timeout* below zero; *streams* on Windows.
        OSError: There are no sockets for *streams*.

    Example:
        >>> out = bytearray()
        >>> run_cmd(["tr", "a-z", "A-Z"], stdin=b"hello", stdout=out).recv()
        0
        >>> out
        bytearray(b'HELLO')

    Perl: ``AnyEvent::Util::run_cmd``
    """
    argv = _arguments(cmd)
    captured = None
    if capture:
        if stdout is not None or stderr is not None:
            raise ValueError("capture: stdout and stderr are redirected already")
        if streams:
            raise ValueError("expected capture=True or streams=True, got both")
        captured = stdout, stderr = bytearray(), bytearray()
    if timeout is not None:
        timeout = check_seconds(timeout, "timeout")
        if timeout < 0.0:
            raise ValueError(f"expected a timeout of 0 s or more, got {timeout!r}")
    redirects = parse_redirects(stdin, stdout, stderr, fds)
    directory = None if cwd is None else _encoded("cwd", cwd)
    environment = _environment(env)
    if on_prepare is not None and not callable(on_prepare):
        raise TypeError(f"on_prepare: expected a callable, got {on_prepare!r}")
    process = Process(argv)
    process._captured = captured
    process._checks = check
    process._cmd = cmd
    process._has_group = new_group
    if timeout is not None:
        process._limit_by(timeout)
    if os.name == "nt":
        if streams:
            raise ValueError("streams=True: this system gives programs no sockets")
        from .windows import start_with_threads

        start_with_threads(process, cmd, redirects, cwd, env, on_prepare)
        return process
    from .spawn_helper import SpawnPlan

    plan = SpawnPlan(
        argv, environment, directory, close_all=bool(close_all), new_group=bool(new_group)
    )
    theirs = process._open_sockets(redirects) if streams else ()
    try:
        _start(process, plan, redirects, on_prepare)
    finally:
        _close_all(theirs)
    return process


def _start(
    process: Process,
    plan: Any,
    redirects: dict[int, Redirect],
    on_prepare: Callable[[], object] | None,
) -> None:
    from .._sources.children import watch_child
    from .spawn import spawn

    context: Context | None = copy_context() or None
    theirs: list[int] = []  # ends of pipes that only the program needs
    shared: dict[int, int] = {}  # id of a buffer -> the end that writes to it
    try:
        for number, redirect in redirects.items():
            if isinstance(redirect, Existing):
                plan.moves.append((number, redirect.fd))
            elif isinstance(redirect, Named):
                plan.opens.append((number, redirect.path, redirect.flags))
            elif isinstance(redirect, Source):
                reader, writer = os.pipe()
                theirs.append(reader)
                plan.moves.append((number, reader))
                _adopt(process, Feed, writer, redirect, context)
            elif redirect.buffer is not None and id(redirect.buffer) in shared:
                plan.moves.append((number, shared[id(redirect.buffer)]))
            else:
                reader, writer = os.pipe()
                theirs.append(writer)
                plan.moves.append((number, writer))
                if redirect.buffer is not None:
                    shared[id(redirect.buffer)] = writer
                _adopt(process, Drain, reader, redirect, context)
        process._pid = spawn(plan, on_prepare)
    except OSError as refusal:
        error = refusal
        process._core.postpone(lambda: _refused(process, error))
        return
    except BaseException:
        process._close_streams()
        raise
    finally:
        for fd in theirs:
            close_descriptor(fd)
    try:
        watch_child(process._core, process._pid, process._ended, None)
    except ChildProcessError:  # SIGCHLD is ignored, or other code waits for every child
        from .._base.log import log

        log("warn", "process %d was waited for by other code", process._pid, context="ae_core")
        process._core.postpone(lambda: process._ended(process._pid, 255 << 8))
    except BaseException:
        process._close_streams()
        process._signal(signal.SIGKILL)  # and __del__ leaves it to the next one to be reaped
        raise


def _adopt(process: Process, kind: Any, fd: int, redirect: Redirect, context: Any) -> None:
    try:
        process._streams.append(kind(process, fd, redirect, context))
    except BaseException:
        close_descriptor(fd)
        raise


def _refused(process: Process, error: OSError) -> None:
    """There is no program: its outputs end, and that is the error."""
    core = process._core
    process._forget_limit()
    for stream in process._streams.copy():
        core.calls.owed.append(partial(core.runner.call, stream.end, stream.record.context, None))
    core.calls.owed.append(lambda: None if process.ready else process.throw(error))
    core.calls.serve()


# ---------------------------------------------------------------------- arguments


def _arguments(cmd: Any) -> list[bytes]:
    if isinstance(cmd, str):
        return [b"/bin/sh", b"-c", _encoded("cmd", cmd)]
    if isinstance(cmd, (bytes, bytearray, memoryview)) or not isinstance(cmd, Sequence):
        raise TypeError(
            f"cmd: expected a str (for the shell) or a sequence of arguments, got {cmd!r}"
        )
    if not cmd:
        raise ValueError("cmd: expected a program and its arguments, got an empty sequence")
    return [_encoded("cmd", argument) for argument in cmd]


def _encoded(what: str, value: Any) -> bytes:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{what}: expected a str, bytes or path, got {value!r}")
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError(f"{what}: embedded null character in {value!r}")
    return encoded


def _environment(env: Any) -> dict[bytes, bytes]:
    if env is None:
        return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    if not isinstance(env, Mapping):
        raise TypeError(f"env: expected a mapping of names to values, got {env!r}")
    environment = {}
    for name, value in env.items():
        key = _encoded("env", name)
        if not key or b"=" in key:
            raise ValueError(f"env: illegal name {name!r}")
        environment[key] = _encoded("env", value)
    return environment


for _public in (Process, run_cmd):
    _public.__module__ = "ae_core"
del _public
