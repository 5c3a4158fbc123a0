"""The light half of logging: ``ae.log`` and ``ae.logger``, and the table of levels.

``import ae_core`` loads this file and nothing behind it: contexts, targets and the ``AE_LOG``
grammar (``ae_core.logs``) are imported by the first message, stdlib ``logging`` by none of us.
"""

from __future__ import annotations

__all__ = (
    "LEVELS",
    "LEVEL_NAMES",
    "Logger",
    "last_words",
    "level_number",
    "log",
    "logger",
    "module_of",
)

import sys

from .escape import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any, Final, TypeAlias

    Context: TypeAlias = Any  # ``ae_core.logs.Context``, which stands above this file
    Dispatch = Callable[
        [str | Context, int, object, tuple[object, ...], BaseException | None, FrameType], bool
    ]

# Perl's names, syslog's aliases, and the numbers as integers and as text. Lower is more important.
LEVELS: Final[dict[object, int]] = {
    "fatal": 1, "emerg": 1, "exit": 1,
    "alert": 2,
    "critical": 3, "crit": 3,
    "error": 4, "err": 4, "die": 4,
    "warn": 5, "warning": 5,
    "note": 6, "notice": 6,
    "info": 7,
    "debug": 8,
    "trace": 9,
    **{number: number for number in range(1, 10)},
    **{str(number): number for number in range(1, 10)},
}  # fmt: skip

LEVEL_NAMES: Final = (
    "0", "fatal", "alert", "crit", "error", "warn", "note", "info", "debug", "trace",
)  # fmt: skip


def level_number(level: object) -> int:
    """Return the number, 1 (fatal) to 9 (trace), of a level's name or number.

    Raises:
        ValueError: If there is no such level. ``True`` is none, though it equals 1.
    """
    try:
        number = LEVELS[level]
    except (KeyError, TypeError):
        number = 0
    if not number or level is True:
        raise ValueError(
            f"not a valid logging level: {level!r}, expected 1 to 9 or one of fatal, alert, "
            "critical, error, warn, note, info, debug, trace"
        )
    return number


def _caller() -> FrameType:
    """Return the frame of who called our caller; of that, if C did: a greenlet or a thread."""
    here = sys._getframe(1)
    return here.f_back or here


def log(
    level: int | str,
    message: object,
    /,
    *args: object,
    context: str | Context | None = None,
    error: BaseException | None = None,
) -> bool:
    """Log a message in the context of the calling module.

    Args:
        level: ``"fatal"`` (1), ``"alert"``, ``"critical"``, ``"error"``, ``"warn"``, ``"note"``,
            ``"info"``, ``"debug"`` or ``"trace"`` (9), an alias of syslog's, or the number.
        message: With ``args`` a ``%`` format, without them literal text. A callable is called
            once, without arguments, if a target takes the result. One trailing newline is
            removed.
        context: The name of another context, or the object itself.
        error: An exception whose traceback belongs to the message.

    Returns:
        True if some target took the message.

    Raises:
        ValueError: If there is no such level.
        SystemExit: With status 1, after a ``fatal`` message, whether it was shown or not.

    Safe in ``except`` blocks, finalizers and other threads. Never raises because of the message:
    text that cannot be formatted is logged with the reason.

    Perl: ``AE::log $level, $message[, @args]``
    """
    number = LEVELS.get(level) if level.__class__ is str else None
    if number is None:
        number = level_number(level)
    frame = _caller()
    if context is None:
        context = module_of(frame)
    return (_dispatch or _load())(context, number, message, args, error, frame)


def logger(level: int | str, name: str | Context | None = None) -> Logger:
    """Return a function that logs at one level, and knows whether a target takes its messages.

    Args:
        level: As for :func:`log`.
        name: The context, by default that of the calling module.

    Raises:
        ValueError: If there is no such level.

    Example:
        >>> trace = logger("trace")
        >>> if trace.enabled:
        ...     trace("%d bytes", 5)

    Perl: ``AE::logger $level[, \\$enabled]``
    """
    if name is None:
        name = module_of(_caller())
    return Logger(level_number(level), name)


class Logger:
    """A level and a context, bound together: call it to log.

    Attributes:
        enabled: Whether a message would reach a target now. Always current, so it may be asked
            before costly arguments are computed.
    """

    __slots__ = ("_context", "_generation", "_level", "_plan")

    _plan: Any

    def __init__(self, level: int, context: str | Context, /) -> None:
        self._level = level
        self._context = context
        self._generation = -1  # that of `_plan`

    @property
    def enabled(self) -> bool:
        """Whether a message would reach a target now."""
        logs = _logs
        if logs is None:
            _load()
            if (logs := _logs) is None:
                return False
        if self._generation != logs._generation:
            self._generation = logs._generation
            self._plan = logs._Reachability(self._context, self._level)
        reaches: bool = self._plan.reaches()
        return reaches

    def __call__(
        self, message: object, /, *args: object, error: BaseException | None = None
    ) -> bool:
        """Log *message*; the arguments, the result and the errors are those of :func:`log`."""
        dispatch = _dispatch or _load()
        return dispatch(self._context, self._level, message, args, error, _caller())

    def __repr__(self) -> str:
        return f"<Logger {LEVEL_NAMES[self._level]} {self._context}>"


def module_of(frame: FrameType) -> str:
    """Return the name of the module whose code runs in *frame*."""
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else "__main__"


def no_engine() -> Any:
    """Refuse: the package is not complete yet."""
    raise ImportError("ae_core is being imported")


def no_loop_time() -> float | None:
    """Return None: no loop is known yet."""
    return None


# Set by ``_wiring``: imports what is behind this file; the time that this thread's loop has cached.
load_engine: Callable[[], Any] = no_engine
loop_time: Callable[[], float | None] = no_loop_time


def _load() -> Dispatch:
    """Return the engine behind us, importing it at the first message."""
    global _dispatch, _logs
    try:
        logs = load_engine()
    except (ImportError, OSError):
        # The first message of all comes from a finalizer while the interpreter shuts down, or
        # is about there being no descriptors left.
        return last_words
    dispatch: Dispatch | None = getattr(logs, "_dispatch", None)
    if dispatch is None:
        return _keep  # a finalizer, or a signal handler, logs while the engine is being imported
    _logs = logs
    _dispatch = dispatch
    while _early:
        dispatch(*_early.pop(0))
    return dispatch


def _keep(*message: Any) -> bool:
    """Keep *message* until the engine is there."""
    _early.append(message)
    return True


def last_words(context: object, level: int, message: object, *_: object) -> bool:
    """Write to stderr what no context can take any more; only errors and worse."""
    stderr = sys.stderr
    if level > 4 or stderr is None:
        return False
    try:
        stderr.write(visible(f"{LEVEL_NAMES[level]:<5} {context}: {message}\n"))
    except (OSError, ValueError):
        return False
    return True


_logs: ModuleType | None = None
_dispatch: Dispatch | None = None
_early: list[tuple[Any, ...]] = []  # messages that came while the engine was being imported

log.__module__ = logger.__module__ = Logger.__module__ = "ae_core"
