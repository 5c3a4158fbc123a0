"""Log contexts: where messages come from, which levels pass, where they go.

The engine behind ``ae.log``; imported by the first message. Nothing here needs an event loop;
what targets do is in ``_targets``, and ``AE_LOG`` is parsed by ``_spec``.
"""

from __future__ import annotations

__all__ = (
    "COLLECT",
    "FILTER",
    "LOG",
    "Context",
    "ctx",
    "default_format",
    "exact_time",
    "fatal_exit",
    "flush",
    "format_time",
    "reset",
)

import sys
import time
from typing import TYPE_CHECKING, Final, Self, cast

from .._base import environ
from .._base import log as front
from .._base.escape import visible
from .._base.log import LEVEL_NAMES, Logger, level_number, module_of
from .._base.thread_identity import this_stack
from . import _targets as _targets
from ._entry import Entry

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import FrameType

# Theory of operation
# -------------------
# A message starts in the context of its module and walks: "a.b" -> "a" -> COLLECT -> FILTER ->
# LOG. Each context on the way can stop it (its set of levels), show it (its target) and send it
# on (its slaves). Because every set counts, `main=debug` alone shows nothing: FILTER still stops
# debug messages. A context sees a message once, so diamonds and cycles are harmless.
#
# Each thread that is inside a target is remembered: what a target logs itself - its own errors,
# above all - passes by that target and reaches the others, so nothing recurses. A file runs nothing
# of the program's: what is logged inside it comes from a signal handler or a finalizer, and would
# be lost.
#
# FILTER starts *implicit*. Unless AE_VERBOSE or the program sets its level it stops what
# is less important than an error, but only for our own stderr output: a program that has put
# handlers on stdlib's root logger has said there what it wants to see.

_ALL: Final = (1 << 10) - 2  # bit n is level n, 1 to 9
_DEFAULT_VERBOSITY: Final = 4
_CALLER = cast("str", object())  # no name at all, as opposed to None

_contexts: dict[str, Context] = {}
_generation = 0
_exact = False


def format_time(when: float) -> str:
    """Return *when* (seconds since the epoch) as local time, ``2026-01-31 12:00:00.000000 +0100``.

    A program may assign its own function to ``ae_core.logs.format_time``.

    Perl: ``AnyEvent::Log::format_time``
    """
    seconds, micros = divmod(round(when * 1_000_000), 1_000_000)
    local = time.localtime(seconds)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{micros:06d} {time.strftime('%z', local)}"


def default_format(when: float, context: Context, level: int, message: str) -> str:
    """Return the lines of one message, each with the time, the last one ended by a newline.

    The level's name is padded to five; lines after the first say `` + `` instead of a blank. A
    program may assign its own function to ``ae_core.logs.default_format``. For stderr, files and
    syslog the control characters in *message* have become escapes already.

    Perl: ``AnyEvent::Log::default_format``
    """
    stamp = format_time(when)
    text = f"{LEVEL_NAMES[level]:<5} {visible(context.title)}: {message}"
    return f"{stamp} " + f"\n{stamp} + ".join(text.rstrip("\n").split("\n")) + "\n"


def fatal_exit() -> None:
    """Leave the program with status 1; called after each ``fatal`` message.

    A program may assign its own function to ``ae_core.logs.fatal_exit``; if that returns, the
    program goes on.

    Raises:
        SystemExit: Always.

    Perl: ``AnyEvent::Log::fatal_exit``
    """
    raise SystemExit(1)


def exact_time(on: bool) -> None:
    """Say whether messages carry the real time instead of the loop's cached one.

    The cached time (``ae.now()``) is when the running callbacks were woken up; without a loop
    the real time is used in any case.

    Perl: ``AnyEvent::Log::exact_time``
    """
    global _exact
    _exact = bool(on)


def flush(timeout: float = 5.0) -> bool:
    """Wait until everything queued for syslog is written, at most *timeout* seconds.

    Happens by itself at a regular exit and after ``fatal`` messages. Files need none of it: a
    message is written when ``log`` returns.

    Returns:
        False if a target was still blocked after that time.
    """
    return _targets.flush(timeout)


class Context:
    """A place that messages pass: levels that may, a target, and the contexts they go on to.

    Args:
        methods: Names of methods and their arguments, called in the order given:
            ``Context(level="warn", log_to_file=path)``. A list or tuple stands for several
            arguments; ``True`` for none.

    A new context lets all levels pass, has no target and no slaves; attach it to another to
    see messages: ``COLLECT.attach(context)``. Changes count from the next message on.

    Perl: ``AnyEvent::Log::Ctx``
    """

    __slots__ = ("__weakref__", "_busy", "_cap", "_format", "_implicit", "_mask", "_slaves",
                 "_target", "_title")  # fmt: skip

    def __init__(self, **methods: object) -> None:
        self._title = "anonymous"
        self._busy: set[int] = set()
        self._clear()
        for name, value in methods.items():
            if name.startswith("_") or name not in _CONSTRUCTIBLE:
                raise TypeError(f"not a method of Context: {name!r}")
            method = getattr(self, name)
            if name in _TAKES_ITERABLE or not isinstance(value, (list, tuple)):
                method() if value is True else method(value)
            else:
                method(*value)

    def _clear(self) -> None:
        self._mask = _ALL
        self._implicit = False
        self._cap = 0
        self._slaves: tuple[Context, ...] = ()
        self._target: _targets.Target | None = None
        self._format: Callable[[float, Context, int, str], str] | None = None

    @property
    def title(self) -> str:
        """The name in front of messages: a module's, ``%name``, or ``anonymous``."""
        return self._title

    def __repr__(self) -> str:
        return f"<Context {self._title}>"

    def _rename(self, title: str) -> None:
        self._title = title

    # Which levels pass

    def level(self, level: int | str) -> Self:
        """Let *level* and everything more important pass; 0, ``"off"`` and ``"none"``: nothing.

        Raises:
            ValueError: If there is no such level.
        """
        return self._set_mask((1 << (_limit(level) + 1)) - 2)

    def levels(self, levels: Iterable[int | str]) -> Self:
        """Let exactly these levels pass.

        Raises:
            ValueError: If there is no such level.
        """
        return self._set_mask(_mask(levels))

    def enable(self, *levels: int | str) -> Self:
        """Let these levels pass as well.

        Raises:
            ValueError: If there is no such level.
        """
        return self._set_mask(self._mask | _mask(levels))

    def disable(self, *levels: int | str) -> Self:
        """Stop these levels.

        Raises:
            ValueError: If there is no such level.
        """
        return self._set_mask(self._mask & ~_mask(levels))

    def cap(self, level: int | str) -> Self:
        """Show no message as more important than *level*, here and in the contexts behind.

        Which messages pass is still decided by their own level, and a fatal one still ends the
        program. 0 ends the limit.

        Raises:
            ValueError: If there is no such level.
        """
        self._cap = _limit(level)
        return self

    def _set_mask(self, mask: int) -> Self:
        self._mask = mask
        self._implicit = False
        return self._changed()

    # Where messages go on

    def attach(self, *contexts: Context | str) -> Self:
        """Send messages on to these contexts, too: objects, or names as for :func:`ctx`."""
        for context in map(_resolve, contexts):
            if context not in self._slaves:
                self._slaves = (*self._slaves, context)
        return self._changed()

    def detach(self, *contexts: Context | str) -> Self:
        """Send nothing to these contexts any more."""
        gone = [_resolve(context) for context in contexts]
        self._slaves = tuple(context for context in self._slaves if context not in gone)
        return self._changed()

    def slaves(self, contexts: Iterable[Context | str]) -> Self:
        """Send messages on to exactly these contexts."""
        if isinstance(contexts, (Context, str)):
            raise TypeError(f"expected a list of contexts, got {contexts!r}")
        self._slaves = tuple(dict.fromkeys(map(_resolve, contexts)))
        return self._changed()

    # Where messages are shown: one target per context, the last one given

    def log_to_stderr(self) -> Self:
        """Write messages to ``sys.stderr``."""
        return self._set_target(_targets.Stderr())

    def log_to_file(self, path: str | os.PathLike[str]) -> Self:
        """Append messages to a file that is kept open.

        A message is written before ``log`` returns, by one system call however many lines it
        has: what precedes a crash is in the file, and messages of several threads and processes
        stand one behind the other. If writing fails, an error is logged once, the messages are
        lost, and the next ones try again.
        """
        return self._set_target(_targets.File(path, keep_open=True))

    def log_to_path(self, path: str | os.PathLike[str]) -> Self:
        """Append messages to a file that is opened anew for each one, so it may be rotated.

        Written as by :meth:`log_to_file`.
        """
        return self._set_target(_targets.File(path, keep_open=False))

    def log_to_syslog(self, facility: str = "user") -> Self:
        """Send messages to the system's log; ``trace`` arrives there as ``debug``.

        They are sent by a thread of its own, so a daemon that does not answer blocks no caller.

        Raises:
            ValueError: If there is no such facility.
            OSError: If the platform has no syslog.
        """
        return self._set_target(_targets.Syslog(facility))

    def log_callback(self, callback: Callable[[str], object] | None) -> Self:
        """Call *callback* with the formatted text of each message; ``None`` ends any target.

        The text has the control characters of the message as they are: what shows it on a
        terminal has to escape them, for example by ``ae_core.console.printable``.

        If it returns a true value the message goes no further. It may log: such messages pass by
        this context's target. What it raises goes to ``ae.exception_hook``.

        Raises:
            TypeError: If *callback* is not callable.
        """
        if callback is None:
            return self._set_target(None)
        if not callable(callback):
            raise TypeError(f"expected a callable or None, got {callback!r}")
        return self._set_target(_targets.Callback(callback))

    def format_callback(self, callback: Callable[[float, Context, int, str], str] | None) -> Self:
        """Format for this target by *callback*\\ (time, context, level, message) -> text.

        *context* is the one where the message was logged. ``None`` means :func:`default_format`.
        """
        if callback is not None and not callable(callback):
            raise TypeError(f"expected a callable or None, got {callback!r}")
        self._format = callback
        return self

    def _set_target(self, target: _targets.Target | None) -> Self:
        self._target = target
        return self._changed()

    def _changed(self) -> Self:
        global _generation
        _generation += 1
        return self

    # Logging into a context

    def log(
        self,
        level: int | str,
        message: object,
        /,
        *args: object,
        error: BaseException | None = None,
    ) -> bool:
        """Log a message here: as ``ae.log`` with this context."""
        return _dispatch(self, level_number(level), message, args, error, front._caller())

    def logger(self, level: int | str) -> Logger:
        """Return a function that logs here: as ``ae.logger`` with this context."""
        return Logger(level_number(level), self)


_TAKES_ITERABLE: Final = ("levels", "slaves")
_CONSTRUCTIBLE: Final = (
    "level", "levels", "enable", "disable", "cap", "attach", "detach", "slaves", "log_to_stderr",
    "log_to_file", "log_to_path", "log_to_syslog", "log_callback", "format_callback",
)  # fmt: skip


def _limit(level: int | str) -> int:
    if level in ("off", "none", "0") or (level == 0 and level is not False):
        return 0
    return 9 if level == "all" else level_number(level)


def _mask(levels: Iterable[int | str]) -> int:
    if isinstance(levels, (int, str)):
        raise TypeError(f"expected a list of levels, got {levels!r}")
    mask = 0
    for level in levels:
        mask |= _ALL if level == "all" else 1 << level_number(level)
    return mask


# The contexts there are


def _named(name: str) -> Context:
    context = _contexts.get(name)
    if context is None:
        context = Context()
        context._title = name
        context._slaves = (_parent(name),)
        # Two threads may get here at the same time: the first to store wins.
        context = _contexts.setdefault(name, context)
    return context


def _parent(name: str) -> Context:
    head, dot, _ = name.rpartition(".")
    return _named(head) if dot and head else COLLECT


def _resolve(context: Context | str) -> Context:
    if isinstance(context, Context):
        return context
    if isinstance(context, str):
        return _named(context)
    raise TypeError(f"expected a context or its name, got {context!r}")


def ctx(name: str | Context | None = _CALLER) -> Context:
    """Return the context called *name*, made on demand.

    Without an argument: that of the calling module. ``None``: a new, anonymous one. A context:
    itself.

    Perl: ``AnyEvent::Log::ctx``
    """
    if name is _CALLER:
        name = module_of(front._caller())
    return Context() if name is None else _resolve(name)


#: Where the messages of all contexts without a parent of their own go first; it passes them on.
COLLECT: Final = Context()
#: Below COLLECT: lets through what its level admits (``AE_VERBOSE``), to LOG.
FILTER: Final = Context()
#: The last: writes to stderr unless ``AE_LOG`` or the program says otherwise.
LOG: Final = Context()


def reset() -> None:
    """Restore the hierarchy as it was before the program or ``AE_LOG`` changed it.

    Objects stay valid; FILTER has the level of ``AE_VERBOSE`` again. Anonymous contexts are left
    alone, but nothing is attached to them any more.

    Perl: ``AnyEvent::Log::reset``
    """
    for name, context in list(_contexts.items()):
        context._clear()
        context._slaves = (_parent(name),)
    for root, title in ((COLLECT, "COLLECT"), (FILTER, "FILTER"), (LOG, "LOG")):
        root._clear()
        root._title = f"ae_core.logs.{title}"
    COLLECT._slaves = (FILTER,)
    FILTER._slaves = (LOG,)
    LOG._target = _targets.Default()
    verbosity = _verbosity()
    FILTER.level(_DEFAULT_VERBOSITY if verbosity is None else verbosity)
    FILTER._implicit = verbosity is None


def _verbosity() -> int | None:
    """Return the level ``AE_VERBOSE`` asks for, None if it does not, or not understandably."""
    text = environ.get("AE_VERBOSE", "").strip()
    try:
        return _limit(text) if text else None
    except ValueError:
        return None


# The walk


def _dispatch(
    origin: str | Context,
    level: int,
    message: object,
    args: tuple[object, ...],
    error: BaseException | None,
    frame: FrameType,
) -> bool:
    """Take a message through the contexts from *origin* on; True if a target took it."""
    start = _resolve(origin)
    return _walk(start, start, level, message, args, error, frame)


def _walk(
    first: Context,
    origin: Context,
    level: int,
    message: object,
    args: tuple[object, ...],
    error: BaseException | None,
    frame: FrameType,
) -> bool:
    bit = 1 << level
    logged = False
    entry: Entry | None = None
    me = this_stack()
    seen: set[Context] = set()
    stack = [(first, level, False)]
    while stack:
        context, shown, stdlib_only = stack.pop()
        if context in seen:
            continue
        if not context._mask & bit:
            if not context._implicit or _targets.stdlib_logger(origin._title) is None:
                continue
            stdlib_only = True
        seen.add(context)
        shown = max(shown, context._cap)
        target = context._target
        if (
            target is not None
            and (target.is_stdlib or not stdlib_only)
            and (me not in context._busy or _may_nest(context, target))
        ):
            if entry is None:
                entry = Entry(origin, _now(), message, args, error, frame, default_format)
            context._busy.add(me)
            try:
                took, consumed = target.emit(entry, shown, context._format)
            except Exception as failure:
                _report(failure)
            else:
                logged = logged or took
                if consumed:
                    continue
            finally:
                context._busy.discard(me)
        stack.extend((slave, shown, stdlib_only) for slave in reversed(context._slaves))
    if level == 1:
        _targets.flush(5.0)
        fatal_exit()
    return logged


def _may_nest(context: Context, target: _targets.Target) -> bool:
    own = context._format is None and default_format is _default_format
    return own and format_time is _format_time and isinstance(target, _targets.File)


_default_format, _format_time = default_format, format_time


def _report(error: Exception) -> None:
    """Hand on what a callback, a format function or a handler raised: ``log()`` never raises it."""
    from .._loop.exception_hook import report

    report(error, None, None)


class _Reachability:
    """Which targets a message of one context and level would reach, for loggers.

    Holds as long as `_generation` does; what stdlib logging thinks of it is asked each time,
    because any program may change that without telling us.
    """

    __slots__ = ("_default", "_name", "_other", "_stdlib")

    def __init__(self, origin: str | Context, level: int) -> None:
        """Walk as `_walk` does, but only ask; a callback might consume the message, so go on."""
        start = _resolve(origin)
        self._name = start._title
        self._other = False  # a target that takes everything
        self._default = False  # the default target, as stderr
        self._stdlib: list[int] = []  # the levels at which it is reached if stdlib has handlers
        bit = 1 << level
        seen: set[Context] = set()
        stack = [(start, level, False)]
        while stack:
            context, shown, stdlib_only = stack.pop()
            if context in seen:
                continue
            if not context._mask & bit:
                if not context._implicit:
                    continue
                stdlib_only = True
            seen.add(context)
            shown = max(shown, context._cap)
            if context._target is None:
                pass
            elif context._target.is_stdlib:
                self._stdlib.append(shown)
                self._default = self._default or not stdlib_only
            elif not stdlib_only:
                self._other = True
            stack.extend((slave, shown, stdlib_only) for slave in context._slaves)

    def reaches(self) -> bool:
        """Return whether a target would take a message now."""
        if self._other:
            return True
        if not self._stdlib:
            return False
        return _targets.default_takes(self._name, self._stdlib, self._default)


def _now() -> float:
    # The loop's cached time if this thread has a loop. Asking must not choose one.
    now = None if _exact else front.loop_time()
    return time.time() if now is None else now


def _configure() -> None:
    """Apply ``AE_VERBOSE`` and ``AE_LOG``, and complain about what they contain."""
    reset()
    text = environ.get("AE_VERBOSE", "").strip()
    if text and _verbosity() is None:
        _complain(f"AE_VERBOSE ({text}): not understood: {text!r} at position 1")
    spec = environ.get("AE_LOG", "")
    if spec:
        from . import _spec

        roots = {"log": LOG, "filter": FILTER, "collect": COLLECT}
        for complaint in _spec.apply(spec, ctx, roots):
            _complain(complaint)


def _complain(text: str) -> None:
    """Warn about the environment, past FILTER, which hides warnings at its default level."""
    if FILTER._mask:
        _walk(LOG, _named("ae_core"), 5, text, (), None, sys._getframe())


_configure()
