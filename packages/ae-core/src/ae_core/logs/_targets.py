"""Where log messages end: stderr, stdlib ``logging``, files, syslog, a callback.

Imported by ``ae_core.logs`` only. A target never raises because of a message, and never imports
stdlib ``logging``: a program that has not imported it has no handlers.
"""

from __future__ import annotations

__all__ = (
    "Callback",
    "Default",
    "File",
    "Stderr",
    "Syslog",
    "Target",
    "default_takes",
    "flush",
    "stdlib_logger",
)

import atexit
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final
from weakref import WeakSet

from .._base.escape import visible
from .._base.log import LEVEL_NAMES, last_words, log
from .._base.thread_identity import ThreadLock, allocate_lock, get_ident, sleep, start_new_thread

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from ._entry import Entry, Formatter

    Format = Formatter | None


class Target(ABC):
    """The end of one branch of the walk."""

    __slots__ = ()

    is_stdlib: ClassVar[bool] = False

    @abstractmethod
    def emit(self, entry: Entry, level: int, formatter: Format) -> tuple[bool, bool]:
        """Show a message. Return whether it was taken, and whether it shall go no further."""


class Callback(Target):
    """A function of the program's."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[str], object]) -> None:
        self._callback = callback

    def emit(self, entry: Entry, level: int, formatter: Format) -> tuple[bool, bool]:
        return True, bool(self._callback(entry.formatted(level, formatter, raw=True)))


class Stderr(Target):
    """Whatever ``sys.stderr`` is when the message comes."""

    __slots__ = ()

    def emit(self, entry: Entry, level: int, formatter: Format) -> tuple[bool, bool]:
        stderr = sys.stderr
        if stderr is None:  # pythonw, or a daemon that closed it
            return False, False
        text = entry.formatted(level, formatter)
        try:
            try:
                stderr.write(text)
            except UnicodeEncodeError as error:  # a stream of the program's own
                stderr.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            stderr.flush()
        except (OSError, ValueError):  # gone, or closed: the message cannot be shown
            return False, False
        return True, False


# stdlib logging

_STDLIB_LEVEL: Final = (0, 60, 55, 50, 40, 30, 25, 20, 10, 5)
_registered = False


class Default(Stderr):
    """stdlib's handlers if the program configured any for that logger, else stderr."""

    __slots__ = ()

    is_stdlib = True

    def emit(self, entry: Entry, level: int, formatter: Format) -> tuple[bool, bool]:
        logger = stdlib_logger(entry.origin.title)
        if logger is None:
            return super().emit(entry, level, formatter)
        number = _STDLIB_LEVEL[level]
        if not _takes(logger, number):
            return False, False
        error = entry.error
        code = entry.frame.f_code
        record = logger.makeRecord(
            entry.origin.title,
            number,
            code.co_filename,
            entry.frame.f_lineno,
            # Formatted already, and no arguments: a "%" in it is just that.
            entry.text,
            (),
            None if error is None else (type(error), error, error.__traceback__),
            code.co_name,
        )
        if record.levelname.startswith("Level "):
            record.levelname = LEVEL_NAMES[level].upper()
        logger.handle(record)
        return True, False


def default_takes(name: str, levels: Iterable[int], as_stderr: bool) -> bool:
    """Return whether `Default` would take a message of context *name* at one of *levels* now.

    *as_stderr* says whether it may without stdlib handlers.
    """
    logger = stdlib_logger(name)
    if logger is None:
        return as_stderr and sys.stderr is not None
    return any(_takes(logger, _STDLIB_LEVEL[level]) for level in levels)


def stdlib_logger(name: str) -> logging.Logger | None:
    """Return stdlib's logger called *name* if a handler stands behind it, else None.

    Makes no logger as long as logging is not configured: asking must not fill stdlib's table.
    """
    module = sys.modules.get("logging")
    root: logging.Logger | None = getattr(module, "root", None)
    if module is None or root is None:
        return None
    if not _handlers(root):
        known = root.manager.loggerDict
        ancestor = name
        while not _handlers(known.get(ancestor)):
            ancestor = ancestor.rpartition(".")[0]
            if not ancestor:
                return None
    _register_level_names()
    logger: logging.Logger = module.getLogger(name)
    return logger


def _handlers(logger: object) -> list[logging.Handler]:
    """Return the handlers that show something; libraries hang a NullHandler on their logger."""
    return [
        handler
        for handler in getattr(logger, "handlers", ())
        if handler.__class__.__name__ != "NullHandler"
    ]


def _takes(logger: logging.Logger, number: int) -> bool:
    if not logger.isEnabledFor(number):
        return False
    here: logging.Logger | None = logger
    while here is not None:
        if any(number >= handler.level for handler in _handlers(here)):
            return True
        here = here.parent if here.propagate else None
    return False


def _register_level_names() -> None:
    """Give stdlib names for our three numbers, unless it has some. 60 gets none: FATAL is 50."""
    global _registered
    if _registered:
        return
    _registered = True
    import logging

    taken = logging.getLevelNamesMapping()
    for number, name in ((55, "ALERT"), (25, "NOTE"), (5, "TRACE")):
        if name not in taken and number not in taken.values():
            logging.addLevelName(number, name)


def _complain(text: str) -> None:
    if not log("error", text, context="ae_core.logs"):
        last_words("ae_core.logs", 4, text)  # messages are being lost, which must be shown


# Files
#
# A message is on its way to the disk when log() returns: the last ones before a crash are those
# that matter. One write() with O_APPEND puts it behind all others as a whole. The lock is for
# what the system takes in several pieces only, and it is one that recurses, because a finalizer or
# a signal handler may log in the middle of anything.

_OPENING: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_APPEND
    # A FIFO without a reader is an error, not a wait; a terminal does not become ours.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
)
_files: WeakSet[File] = WeakSet()


class File(Target):
    """A file, appended to."""

    __slots__ = (
        "__weakref__", "_failed", "_fd", "_id", "_keep_open", "_lock", "_path", "_torn",
    )  # fmt: skip

    def __init__(self, path: str | os.PathLike[str], *, keep_open: bool) -> None:
        name = os.fsdecode(path)
        if not name:
            raise ValueError(f"expected the name of a file, got {path!r}")
        _prepare_process()
        # Absolute: a daemon may change its directory before the file is opened once more.
        self._path = os.path.abspath(name)
        self._keep_open = keep_open
        self._fd: int | None = None
        self._id: tuple[int, int] | None = None
        self._failed = False
        self._torn = False  # the last message is there in part only, without a newline
        self._lock = ThreadLock()
        _files.add(self)
        if keep_open:
            self._try(b"")

    def emit(self, entry: Entry, level: int, formatter: Format) -> tuple[bool, bool]:
        return self._try(entry.formatted(level, formatter).encode(errors="backslashreplace")), False

    def _try(self, data: bytes) -> bool:
        try:
            with self._lock:
                self._append(data)
        except OSError as error:
            # Once per failure, not per message: two broken targets would otherwise feed each
            # other with complaints for ever.
            if not self._failed:
                self._failed = True
                _complain(f"unable to write to log file {self._path!r}: {error}")
            return False
        self._failed = False
        return True

    def _append(self, data: bytes) -> None:
        fd = self._kept() if self._keep_open else self._open()
        try:
            rest = memoryview(b"\n" + data if data and self._torn else data)
            while rest:
                rest = rest[os.write(fd, rest) :]
                self._torn = len(rest) > 0
        finally:
            if not self._keep_open:
                os.close(fd)

    def _open(self) -> int:
        fd = os.open(self._path, _OPENING, 0o666)
        if os.name == "posix":
            os.set_blocking(fd, True)
        return fd

    def _kept(self) -> int:
        """Return the descriptor, anew if it was closed: a daemon closes all that it inherited."""
        if self._fd is None or _identity(self._fd) != self._id:
            self._fd = self._open()
            self._id = _identity(self._fd)
        return self._fd

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None and _identity(fd) == self._id:
            os.close(fd)


def _identity(fd: int) -> tuple[int, int] | None:
    """Tell files apart: the number of a closed descriptor is soon that of another file."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# Syslog
#
# Its daemon can take seconds for one message, and a loop must not wait for it. So the target only
# queues; a thread sends whatever has come together and ends when nothing is left. It is a bare
# `_thread`, because a finalizer may log in the middle of anything, also of `threading`'s own
# critical sections, whose locks do not recurse.

_QUEUE_LIMIT: Final = 10_000
_syslogs: WeakSet[Syslog] = WeakSet()
_unwritten: set[Syslog] = set()


class Syslog(Target):
    """The system's log."""

    __slots__ = (
        "__weakref__", "_facility", "_failed", "_lock", "_lost", "_queue", "_reporter", "_running",
        "_syslog",
    )  # fmt: skip

    def __init__(self, facility: str) -> None:
        if facility not in _FACILITIES:
            raise ValueError(
                f"not a syslog facility: {facility!r}, expected one of {', '.join(_FACILITIES)}"
            )
        try:
            import syslog
        except ImportError:
            raise OSError("this platform has no syslog") from None
        _prepare_process()
        self._facility = getattr(syslog, f"LOG_{facility.upper()}", syslog.LOG_USER)
        self._syslog = syslog
        self._queue: deque[tuple[int, str]] = deque()
        self._failed = False
        self._lost = 0
        self._reporter: int | None = None
        self._reset_thread()
        _syslogs.add(self)

    def _reset_thread(self) -> None:
        self._lock = allocate_lock()
        self._running = False

    def emit(self, entry: Entry, level: int, formatter: Format) -> tuple[bool, bool]:
        if self._reporter == get_ident():  # our own complaint: for the other targets
            return False, False
        if len(self._queue) >= _QUEUE_LIMIT:
            self._lost += 1
            return False, False
        if formatter is not None:
            text = entry.formatted(level, formatter)
        else:
            text = f"({entry.origin.title}) {entry.full_text()}".replace("\n", "\n+ ")
        self._queue.append((level, text))
        self._start()
        return True, False

    def _start(self) -> None:
        if self._running:
            return
        self._running = True
        _unwritten.add(self)
        if _at_end:  # a finalizer logs: a thread would start, but never run
            self._work()
            return
        try:
            start_new_thread(self._work, ())
        except RuntimeError:  # no more threads to be had
            self._work()

    def _work(self) -> None:
        while True:
            try:
                with self._lock:
                    self._send_queue()
            finally:
                self._running = False
            # A message that came just before that line found us running.
            if not self._queue:
                _unwritten.discard(self)
            if not self._queue or self._running:
                return
            self._running = True

    def _send_queue(self) -> None:
        while self._queue:
            try:
                self._send(*self._queue.popleft())
            except Exception as error:
                if not self._failed:  # once, as for files
                    self._failed = True
                    self._report(f"unable to write to syslog: {error}")
            else:
                self._failed = False
                if self._lost:
                    lost, self._lost = self._lost, 0
                    self._report(f"syslog is too slow: {lost} messages lost")

    def _send(self, level: int, text: str) -> None:
        for line in visible(text.replace("\0", "\\0")).rstrip("\n").split("\n"):
            self._syslog.syslog(self._facility | min(level, 8) - 1, line)

    def _report(self, text: str) -> None:
        self._reporter = get_ident()
        try:
            _complain(text)
        finally:
            self._reporter = None


_FACILITIES: Final = (
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "local0", "local1", "local2", "local3",
    "local4", "local5", "local6", "local7", "lpr", "mail", "news", "syslog", "user", "uucp",
)  # fmt: skip


def flush(timeout: float) -> bool:
    """Wait at most *timeout* seconds until every queue is written; True if that was enough."""
    deadline = time.monotonic() + timeout
    for target in list(_unwritten):
        while target in _unwritten:
            if time.monotonic() >= deadline:
                return False
            sleep(0.001)
    return True


def _prepare_process() -> None:
    global _prepared
    if _prepared:
        return
    _prepared = True
    atexit.register(_end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_in_child)


_prepared = False
_at_end = False


def _end() -> None:
    global _at_end
    _at_end = True
    flush(5.0)


def _forget_in_child() -> None:
    """The parent's threads are not here, and what is queued will be written there."""
    for file in list(_files):
        file._lock = ThreadLock()
    _unwritten.clear()
    for target in list(_syslogs):
        target._queue.clear()
        target._reporter = None
        target._reset_thread()
