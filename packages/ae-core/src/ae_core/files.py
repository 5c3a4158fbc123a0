"""Asynchronous file operations, on a pool of threads.

No loop can wait for a regular file: it is always "ready", and a read of a slow disk blocks all the
same. So these calls run the system call in a thread. None of them ever calls back, or is ready,
before it returns.

Every call returns a :class:`~ae_core.CondVar` with the result; errors are :class:`OSError`, raised
by its ``recv()`` and ``await``. Zero and empty results are results: ``b""`` is an empty file, or
the end of one. Bad arguments raise :class:`TypeError` and :class:`ValueError` at the call.

Where *file* is accepted, it is an open descriptor: an ``int`` or an object with ``fileno()``. Where
*target* is accepted, a path will do as well. A path is ``str``, ``bytes`` or ``os.PathLike``.

* Calls on the same descriptor are done one after the other, in the order they were made. Others
  may overtake each other.
* The buffer of a Python file object is not involved: flush it before mixing both.
* A relative path is resolved, and the umask applied, when the call is done, not when it is made:
  do not change either while calls run.
* ``cancel()``, by hand or because the only awaiter is cancelled, drops a call that has not begun.
  A system call that has begun is not interrupted, so a write that was started happens; its result
  is thrown away, and the descriptor of an :func:`open` closed.
* Calls that were started are finished before the program ends, if it ends cleanly.

Example:
    >>> from ae_core import files
    >>> files.load("/dev/null").recv()
    b''

Perl: ``AnyEvent::IO``
"""

from __future__ import annotations

__all__ = (
    "chmod",
    "chown",
    "close",
    "link",
    "load",
    "lstat",
    "mkdir",
    "open",
    "read",
    "readdir",
    "readlink",
    "rename",
    "rmdir",
    "seek",
    "stat",
    "symlink",
    "truncate",
    "unlink",
    "utime",
    "write",
)

import builtins
import errno
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from ._async import thread_pool
from ._base.seconds import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias, TypeVar

    from ._async.condvar import CondVar

    T = TypeVar("T")
    Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    File: TypeAlias = "int | _HasFileno"
    Data: TypeAlias = bytes | bytearray | memoryview

# What the system calls take. Python raises OverflowError for more, in the thread.
_C_INT: Final = 1 << 31
_C_UNSIGNED: Final = 1 << 32
_LATEST: Final = 1 << 63


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


# ---------------------------------------------------------------------- whole files


def load(path: Path) -> CondVar[bytes]:
    """Read a whole file.

    Perl: ``aio_load``
    """
    return thread_pool.submit(_load, _path(path))


def _load(path: str | bytes) -> bytes:
    with builtins.open(path, "rb", buffering=0) as file:
        return file.read() or b""


# ---------------------------------------------------------------------- descriptors


def open(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> CondVar[int]:
    """Open a file and give its descriptor, which is yours to :func:`close`.

    Args:
        flags: ``os.O_RDONLY``, ``os.O_WRONLY | os.O_CREAT`` ... The descriptor is not inherited by
            programs, and is binary on Windows.
        mode: Permissions of a file that is created, before the umask.

    If the call is cancelled while it runs, the descriptor is closed again.

    Perl: ``aio_open``
    """
    flags = _integer("flags", flags, _C_INT) | getattr(os, "O_BINARY", 0)
    return thread_pool.submit_ordered(
        None, os.open, _path(path), flags, _integer("mode", mode, _C_INT), undo=os.close
    )


def close(file: File) -> CondVar[None]:
    """Close a descriptor, or the file object, after the calls on it that were made before.

    Perl: ``aio_close``
    """
    own: Callable[[], object] | None = getattr(file, "close", None)
    if own is None or isinstance(file, int):
        return _on(file, os.close)

    def close_object(fd: int) -> None:
        own()  # after os.close() the object would close the number later, then another file's

    return _on(file, close_object)


def read(file: File, n: int) -> CondVar[bytes]:
    """Read up to *n* bytes at the current position; ``b""`` is the end of the file.

    Perl: ``aio_read``
    """
    if _integer("n", n) < 0:
        raise ValueError(f"expected a number of bytes >= 0, got {n}")
    return _on(file, lambda fd: os.read(fd, n))


def write(file: File, data: Data) -> CondVar[int]:
    """Write *data* at the current position and give the number of bytes written.

    All of them are, unless an error stops it in the middle: then the number is smaller, and the
    next call meets the error. *data* is copied unless it is ``bytes``.

    Perl: ``aio_write``
    """
    copy = bytes(memoryview(data))
    return _on(file, lambda fd: _write(fd, copy))


def _write(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    done = os.write(fd, rest)  # also for no data at all: the descriptor may be bad
    while done < len(data):
        try:
            done += os.write(fd, rest[done:])
        except OSError:
            break
    return done


def seek(file: File, offset: int, whence: int = os.SEEK_SET) -> CondVar[int]:
    """Move the current position and give the new one.

    Perl: ``aio_seek``
    """
    _integer("offset", offset)
    _integer("whence", whence, _C_INT)
    return _on(file, lambda fd: os.lseek(fd, offset, whence))


# ---------------------------------------------------------------------- descriptors or paths


def truncate(target: File | Path, n: int) -> CondVar[None]:
    """Cut a file to *n* bytes, or extend it by zeros.

    Perl: ``aio_truncate``
    """
    _integer("n", n)
    return _at(target, lambda target: os.truncate(target, n))


def stat(target: File | Path) -> CondVar[os.stat_result]:
    """Give a file's status; a symbolic link is followed.

    Perl: ``aio_stat``
    """
    return _at(target, os.stat)


def utime(target: File | Path, atime: float | None, mtime: float | None) -> CondVar[None]:
    """Set a file's times of access and modification, in seconds since the epoch.

    Args:
        atime: None, together with *mtime*: now.

    Perl: ``aio_utime``
    """
    if atime is None and mtime is None:
        return _at(target, lambda target: _utime(target, None))
    if atime is None or mtime is None:
        raise ValueError(f"expected two times, or None twice, got {atime!r} and {mtime!r}")
    times = (_time("atime", atime), _time("mtime", mtime))
    return _at(target, lambda target: _utime(target, times))


def _utime(target: int | str | bytes, times: tuple[float, float] | None) -> None:
    _check_descriptors(os.utime, target)
    os.utime(target, times)


def chown(target: File | Path, uid: int | None, gid: int | None) -> CondVar[None]:
    """Change a file's owner and group; None leaves one as it is.

    Perl: ``aio_chown``
    """
    owner = -1 if uid is None else _integer("uid", uid, _C_UNSIGNED)
    group = -1 if gid is None else _integer("gid", gid, _C_UNSIGNED)
    return _at(target, lambda target: _chown(target, owner, group))


def _chown(target: int | str | bytes, uid: int, gid: int) -> None:
    if not hasattr(os, "chown"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    os.chown(target, uid, gid)


def chmod(target: File | Path, mode: int) -> CondVar[None]:
    """Change a file's permissions.

    Perl: ``aio_chmod``
    """
    _integer("mode", mode, _C_INT)
    return _at(target, lambda target: _chmod(target, mode))


def _chmod(target: int | str | bytes, mode: int) -> None:
    _check_descriptors(os.chmod, target)
    os.chmod(target, mode)


def _check_descriptors(function: Callable[..., None], target: int | str | bytes) -> None:
    """Raise OSError if *target* is a descriptor, and *function* takes paths only on this system."""
    if isinstance(target, int) and function not in os.supports_fd:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


# ---------------------------------------------------------------------- paths


def lstat(path: Path) -> CondVar[os.stat_result]:
    """Give the status of a file or of a symbolic link itself.

    Perl: ``aio_lstat``
    """
    return thread_pool.submit(os.lstat, _path(path))


def link(old: Path, new: Path) -> CondVar[None]:
    """Make *new* another name of the file *old*.

    Perl: ``aio_link``
    """
    return thread_pool.submit(os.link, _path(old), _path(new))


def symlink(target: Path, path: Path) -> CondVar[None]:
    """Make *path* a symbolic link with the text *target*.

    Perl: ``aio_symlink``
    """
    return thread_pool.submit(os.symlink, _path(target), _path(path))


def readlink(path: Path) -> CondVar[str]:
    """Give the text of a symbolic link.

    Perl: ``aio_readlink``
    """
    return thread_pool.submit(os.readlink, os.fsdecode(_path(path)))


def rename(old: Path, new: Path) -> CondVar[None]:
    """Rename a file; an existing *new* is replaced, on every system.

    Perl: ``aio_rename``
    """
    return thread_pool.submit(os.replace, _path(old), _path(new))


def unlink(path: Path) -> CondVar[None]:
    """Remove a file's name.

    Perl: ``aio_unlink``
    """
    return thread_pool.submit(os.unlink, _path(path))


def mkdir(path: Path, mode: int = 0o777) -> CondVar[None]:
    """Make a directory, with the permissions *mode* before the umask.

    Perl: ``aio_mkdir``
    """
    return thread_pool.submit(os.mkdir, _path(path), _integer("mode", mode, _C_INT))


def rmdir(path: Path) -> CondVar[None]:
    """Remove an empty directory.

    Perl: ``aio_rmdir``
    """
    return thread_pool.submit(os.rmdir, _path(path))


def readdir(path: Path) -> CondVar[list[str]]:
    """List the names in a directory, without ``"."`` and ``".."``, in no particular order.

    Perl: ``aio_readdir``
    """
    return thread_pool.submit(os.listdir, os.fsdecode(_path(path)))


# ---------------------------------------------------------------------- arguments


def _integer(what: str, value: int, limit: int = 1 << 63) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what}: expected an int, got {value!r}")
    if not -limit <= value < limit:
        raise ValueError(f"{what}: expected an int below {limit}, got {value!r}")
    return value


def _time(what: str, value: float) -> float:
    seconds = check_seconds(value, what)
    if not -_LATEST <= seconds < _LATEST:
        raise ValueError(f"{what}: expected less than {_LATEST} seconds, got {value!r}")
    return seconds


def _path(path: Path) -> str | bytes:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"expected a path (str, bytes or os.PathLike), got {path!r}")
    plain: str | bytes = os.fspath(path)
    if ("\0" if isinstance(plain, str) else b"\0") in plain:  # type: ignore[operator]
        raise ValueError(f"embedded null character in {plain!r}")
    return plain


def _descriptor(file: File) -> int:
    fd: Any = file
    if not isinstance(file, int):
        fileno = getattr(file, "fileno", None)
        if fileno is None:
            raise TypeError(f"expected a descriptor or an object with fileno(), got {file!r}")
        fd = fileno()
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise TypeError(f"expected a descriptor, got {fd!r}")
    if fd < 0:
        raise ValueError(f"expected a descriptor number >= 0, got {fd}")
    return fd


def _on(file: File, function: Callable[[int], T]) -> CondVar[T]:
    fd = _descriptor(file)
    return thread_pool.submit_ordered(fd, _call, function, fd, file)


def _at(target: File | Path, function: Callable[[int | str | bytes], T]) -> CondVar[T]:
    if isinstance(target, (str, bytes, os.PathLike)):
        return thread_pool.submit(function, _path(target))
    return _on(target, function)


def _call(function: Callable[[int], T], fd: int, owner: object) -> T:
    # the owner comes along so that its finalizer does not close the descriptor meanwhile
    return function(fd)
