"""Starting a program with any descriptors it wants, from a process that may have threads.

POSIX only. Gives a pid and nothing else: no loop, no pipes, no waiting.
"""

from __future__ import annotations

__all__ = ("IGNORED_SIGNALS", "abandon", "reap_abandoned", "spawn")

import errno
import os
import signal
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

from .._base.closing import close_descriptor
from . import spawn_helper
from .spawn_helper import DUP2_FAILED, DUP_FAILED, EXEC_FAILED, SpawnPlan, become

# Theory of operation
# -------------------
# Code that runs between fork and exec in a process with threads may deadlock: another thread
# held a lock at the moment of the fork, and does not exist in the child. So there is no fork
# here unless the caller has code to run in the child (`on_prepare`, documented as unsafe):
#
#   posix_spawn      all descriptors, but no directory and no sweep of the others
#   subprocess       directory and sweep, but descriptors 0, 1 and 2 only; as fast
#   a helper         everything: a bare interpreter that follows the plan, then executes. It costs
#                    10 ms, and its failures have the exact exit statuses
#
# The first two are short cuts: whatever they cannot do goes to the helper. What they fail to do
# is an exception, and so is what can be seen beforehand to fail in the helper or behind a fork:
# no such program, no such directory. What fails there all the same is an exit status.
#
# File names are opened here if that cannot block. A FIFO blocks until its other end is
# opened, and must do so in the child.

#: Ignored by every Python process, and an ignored signal stays ignored across exec.
IGNORED_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name)
)


def spawn(plan: SpawnPlan, on_prepare: Callable[[], object] | None = None) -> int:
    """Start the program of *plan* and return its pid.

    Raises:
        OSError: It cannot be started; with the name of the program, the directory or the file.
    """
    reap_abandoned()
    can_spawn = hasattr(os, "posix_spawn") and os.path.isfile(spawn_helper.__file__)
    if on_prepare is not None or not can_spawn or not sys.executable:
        _check(plan)
        return _fork(plan, on_prepare)
    refusal: OSError | None = None
    pid: int | None = None
    try:
        pid = _directly(plan)
    except OSError as error:
        refusal = error
    if pid is None:
        _check(plan)  # which knows better which name it was
        if refusal is not None:
            raise refusal
        pid = _through_helper(plan)
    return pid


def _check(plan: SpawnPlan) -> None:
    """Raise the OSError that the program of *plan* meets first, if that can be seen."""
    base = b""
    if plan.cwd is not None:
        base = plan.cwd
        if not stat.S_ISDIR(os.stat(base).st_mode):
            raise _fault(errno.ENOTDIR, base)
        if not os.access(base, os.X_OK):
            raise _fault(errno.EACCES, base)
    name = plan.argv[0]
    if b"/" in name:
        path = os.path.join(base, name)
        try:
            is_file = stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            raise _fault(error.errno or errno.ENOENT, name) from None
        if not is_file or not os.access(path, os.X_OK):
            raise _fault(errno.EACCES, name)
    elif not any(os.path.isfile(path) for path in _executables(plan)):
        raise _fault(errno.ENOENT, name)


def _fault(number: int, name: bytes) -> OSError:
    return OSError(number, os.strerror(number), os.fsdecode(name))


# Programs that still ran when the loop that would have waited for them ended
_abandoned: list[int] = []


def abandon(pid: int) -> None:
    """Note *pid*, which no loop waits for, to be reaped by the next :func:`spawn`."""
    _abandoned.append(pid)


def reap_abandoned() -> list[int]:
    """Reap what has ended of the abandoned; return what has not."""
    for pid in _abandoned.copy():
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True  # other code waits for every child
        if ended:
            _abandoned.remove(pid)
    return _abandoned.copy()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandoned.clear)


def _directly(plan: SpawnPlan) -> int | None:
    moves = list(plan.moves)
    opened: list[int] = []
    try:
        for number, path, flags in plan.opens:
            if not _opens_at_once(path):
                return None
            opened.append(os.open(path, flags, 0o666))
            moves.append((number, opened[-1]))
        if plan.cwd is None and not plan.close_all:
            return _posix_spawn(plan, moves)
        if all(number <= 2 for number, _ in moves):
            return _subprocess(plan, dict(moves))
        return None
    finally:
        for fd in opened:
            close_descriptor(fd)


def _opens_at_once(path: bytes) -> bool:
    try:
        return path == b"/dev/null" or stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True  # fails, or creates a regular file


def _posix_spawn(plan: SpawnPlan, moves: list[tuple[int, int]]) -> int | None:
    numbers = {number for number, _ in moves}
    spare: list[int] = []
    actions: list[tuple[int, int, int]] = []
    group: dict[str, Any] = {"setpgroup": 0} if plan.new_group else {}
    try:
        for number, fd in moves:
            source = fd
            if fd in numbers:
                source = _duplicate(fd, numbers)
                spare.append(source)
            actions.append((os.POSIX_SPAWN_DUP2, source, number))
        for path in _executables(plan):
            try:
                return os.posix_spawn(
                    path,
                    plan.argv,
                    plan.env,
                    file_actions=actions,
                    setsigmask=(),
                    setsigdef=IGNORED_SIGNALS,
                    **group,
                )
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # with the rest of PATH, as execvp does
        return None
    finally:
        for fd in spare:
            close_descriptor(fd)


def _executables(plan: SpawnPlan) -> Iterator[bytes]:
    name = plan.argv[0]
    if b"/" in name:
        yield name
        return
    path_only = {"PATH": os.fsdecode(plan.env[b"PATH"])} if b"PATH" in plan.env else {}
    for directory in os.get_exec_path(path_only):
        path = os.path.join(os.fsencode(directory), name)
        if os.access(path, os.X_OK):
            yield path


def _subprocess(plan: SpawnPlan, moves: dict[int, int]) -> int | None:
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return None  # subprocess would hand our blocked signals down
    import subprocess

    process = subprocess.Popen(
        plan.argv,
        stdin=moves.get(0),
        stdout=moves.get(1),
        stderr=moves.get(2),
        cwd=plan.cwd,
        env=plan.env,
        close_fds=plan.close_all,
        process_group=0 if plan.new_group else None,
    )
    # A Popen that is forgotten while its program runs warns, and subprocess then reaps the pid
    # under our watcher. With a status it takes the case as closed.
    process.returncode = 0
    return process.pid


def _through_helper(plan: SpawnPlan) -> int:
    # The helper needs our descriptors across its own exec, at numbers that are free both here
    # (an inheritable descriptor of the program must not be overwritten) and in the plan. A
    # duplicate reserves such a number; dup2 of the original onto it makes it inheritable in the
    # child only: in this process it stays close-on-exec, whatever other threads start meanwhile.
    numbers = {number for number, _ in plan.moves} | {number for number, *_ in plan.opens}
    actions: list[tuple[int, int, int]] = []
    passing: list[int] = []
    through = SpawnPlan(
        plan.argv, plan.env, plan.cwd, plan.opens, [], plan.close_all, plan.new_group
    )

    def pass_on(fd: int) -> int:
        passing.append(_duplicate(fd, numbers))
        actions.append((os.POSIX_SPAWN_DUP2, fd, passing[-1]))
        return passing[-1]

    file = -1
    try:
        for number, fd in plan.moves:
            try:
                through.moves.append((number, pass_on(fd)))
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                through.fail(DUP_FAILED if fd in numbers else DUP2_FAILED)
        through.passing.extend(passing)
        file = _anonymous_file(through)
        argv = [sys.executable, "-I", "-S", spawn_helper.__file__, str(pass_on(file))]
        return os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsigmask=())
    finally:
        for fd in passing:
            close_descriptor(fd)
        if file >= 0:
            close_descriptor(file)


def _duplicate(fd: int, unwanted: set[int]) -> int:
    """Duplicate *fd*, close-on-exec, to a number that is not *unwanted*."""
    on_the_way: list[int] = []
    try:
        fd = os.dup(fd)
        while fd in unwanted:
            on_the_way.append(fd)
            fd = os.dup(fd)
        return fd
    finally:
        for passed in on_the_way:
            close_descriptor(passed)


def _anonymous_file(plan: SpawnPlan) -> int:
    # Not the arguments (every user can read those, and an environment may hold secrets), and not
    # a pipe (a plan can be larger than one holds, and there is no reader yet).
    import marshal

    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("ae-core", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        data = memoryview(marshal.dumps(plan.dump()))
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        close_descriptor(fd)
        raise
    return fd


def _fork(plan: SpawnPlan, on_prepare: Callable[[], object] | None) -> int:
    # Blocked until the child has its own dispositions: a signal in between would run our
    # handler there, which writes to the wake-up descriptor that both processes share.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # That there are threads is warned of when the child exists: where warnings are
            # errors, CPython 3.15 raises instead of telling which child that is.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            become(plan, on_prepare)
        finally:
            os._exit(EXEC_FAILED)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
