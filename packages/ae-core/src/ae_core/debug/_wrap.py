"""Wrapped watchers: where and when each was made, how often it was called and how long it took.

A layer between the watcher functions and their watchers. What is kept is text and numbers only,
so that looking at a watcher, or forgetting to, never keeps anything else alive.
"""

from __future__ import annotations

__all__ = ("WrappedWatcher", "trace_new", "watchers", "wrap", "wrapped")

import itertools
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from .. import _layers, logs
from .._async.sites import note_sites
from .._base.describe import backtrace, callback_text, caller, value_text
from .._base.escape import printable
from .._base.log import logger
from .._base.thread_identity import get_ident
from .._loop.watchers import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

# Theory of operation
# -------------------
# The core gets a Probe instead of the callback; it counts, measures and traces, and calls. The
# user gets a WrappedWatcher instead of the plain one, which it holds. The two share a
# WatcherInfo, and nothing else: dropping the WrappedWatcher drops the plain one, as ever, and the
# callback is dropped when the core drops it, even if the WrappedWatcher is held. The registry is
# weak.

MOST_ERRORS: Final = 10

_trace = logger("trace", "ae_core.debug")
_ids = itertools.count(1)
_registry: WeakValueDictionary[int, WrappedWatcher] = WeakValueDictionary()
_current: dict[int, str] = {}  # thread -> the watcher whose callback runs there
_level = 0
_trace_new = True


class WatcherInfo:
    """What is known about a watcher: text and numbers."""

    __slots__ = (
        "args", "backtrace", "callback", "calls", "created", "errors", "function", "id", "line",
        "module", "parent", "text", "time_max", "time_sum", "trace", "type",
    )  # fmt: skip

    def __init__(self, kind: str, args: dict[str, Any], callback: Callable[..., object]) -> None:
        frame = caller()
        module = frame.f_globals.get("__name__")
        self.id = next(_ids)
        self.type = kind
        self.module = module if isinstance(module, str) else "__main__"
        self.line = frame.f_lineno
        self.function = frame.f_code.co_qualname
        self.parent = _current.get(get_ident(), "")
        self.created = logs._now()
        self.args = " ".join(f"{name}={value_text(value)}" for name, value in args.items())
        self.callback = callback_text(callback)
        self.calls = 0
        self.time_sum = 0.0
        self.time_max = 0.0
        self.trace = _trace_new
        self.errors: list[tuple[float, str]] = []
        self.backtrace = backtrace(frame) if _level >= 2 else ""
        self.text = f"{self.module}:{self.line}({self.function})>{kind}>{self.callback}"


class Probe:
    """What is called instead of the callback, and notes."""

    __slots__ = ("_callback", "facts")

    def __init__(self, facts: WatcherInfo, callback: Callable[..., object]) -> None:
        self.facts = facts
        self._callback = callback

    def __repr__(self) -> str:
        return self.facts.text  # where a callback's name is expected: in "exception in ..."

    def __call__(self, *args: object) -> object:
        facts = self.facts
        me = get_ident()
        outer = _current.get(me)
        _current[me] = facts.text
        facts.calls += 1
        if facts.trace and _trace.enabled:
            _trace("enter %s", facts.text)
        started = perf_counter()
        try:
            return self._callback(*args)
        except Exception as error:
            if len(facts.errors) < MOST_ERRORS:
                facts.errors.append((logs._now(), f"{type(error).__name__}: {_message(error)}"))
            raise  # to ae_core.exception_hook, which names us
        finally:
            took = perf_counter() - started
            facts.time_sum += took
            if took > facts.time_max:
                facts.time_max = took
            if facts.trace and _trace.enabled:
                _trace("leave %s", facts.text)
            if outer is None:
                _current.pop(me, None)
            else:
                _current[me] = outer


def _message(error: Exception) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"<no text: {type(second).__name__}>"


class WrappedWatcher(Watcher):
    """A watcher that knows where it comes from and what became of it.

    Returned by the watcher functions while :func:`wrap` is on. ``str()`` gives
    ``module:line(function)>type>callback``. All attributes are text and numbers.

    Perl: ``AnyEvent::Debug::Wrapped``
    """

    __slots__ = ("_facts", "_inner")

    _inner: Watcher
    _facts: WatcherInfo

    def cancel(self) -> None:
        """End the interest, as any watcher's ``cancel``."""
        self._inner.cancel()

    @property
    def active(self) -> bool:
        """Whether the callback may still be called."""
        return self._inner.active

    @property
    def id(self) -> int:
        """A number that no other wrapped watcher of this process has or had."""
        return self._facts.id

    @property
    def kind(self) -> str:
        """The same as :attr:`type`."""
        return self._facts.type

    @property
    def type(self) -> str:
        """``"io"``, ``"timer"``, ``"signal"``, ``"child"`` or ``"idle"``."""
        return self._facts.type

    @property
    def module(self) -> str:
        """The module that made it: the nearest caller outside the AnyEvent packages."""
        return self._facts.module

    @property
    def line(self) -> int:
        """The line there."""
        return self._facts.line

    @property
    def function(self) -> str:
        """The function there."""
        return self._facts.function

    @property
    def parent(self) -> str:
        """The watcher in whose callback it was made, empty if it was none."""
        return self._facts.parent

    @property
    def created(self) -> float:
        """When it was made, in seconds since the epoch."""
        return self._facts.created

    @property
    def args(self) -> str:
        """What it was made with, besides the callback."""
        return self._facts.args

    @property
    def callback(self) -> Any:
        """The name of the callback, or ``module:line`` where it was written."""
        return self._facts.callback

    @property
    def calls(self) -> int:
        """How many times the callback was called."""
        return self._facts.calls

    @property
    def time_sum(self) -> float:
        """How many seconds these calls took together."""
        return self._facts.time_sum

    @property
    def time_max(self) -> float:
        """How many seconds the longest of them took."""
        return self._facts.time_max

    @property
    def errors(self) -> list[tuple[float, str]]:
        """What the callback raised: the time and ``Type: text`` of the first ten."""
        return self._facts.errors

    @property
    def backtrace(self) -> str:
        """The stack where it was made, if :func:`wrap` was at 2 then; else empty."""
        return self._facts.backtrace

    @property
    def trace(self) -> bool:
        """Whether its life is logged at level ``trace``, in the context ``ae_core.debug``."""
        return self._facts.trace

    @trace.setter
    def trace(self, on: bool) -> None:
        self._facts.trace = bool(on)

    def verbose(self) -> str:
        """Return all of the above as lines of text."""
        rows = [
            ("type", f"{self.type} watcher{'' if self.active else ' (inactive)'}"),
            ("args", self.args),
            ("created", f"{logs.format_time(self.created)} ({self.created})"),
            ("module", self.module),
            ("line", str(self.line)),
            ("function", self.function),
            ("parent", self.parent or "-"),
            ("callback", self.callback),
            ("trace", "on" if self.trace else "off"),
            ("called", f"{self.calls} times"),
            ("took", f"{self.time_sum:.6f} s in all, {self.time_max:.6f} s at most"),
            ("errors", str(len(self.errors))),
        ]
        rows += [
            ("error", f"{logs.format_time(when)} {printable(text)}") for when, text in self.errors
        ]
        text = "".join(f"{name + ':':<10}{value}\n" for name, value in rows)
        if self.backtrace:
            text += f"created at\n{self.backtrace}"
        return text

    def __str__(self) -> str:
        return self._facts.text

    def __repr__(self) -> str:
        return f"<WrappedWatcher {self._describe()}>"

    def _key(self) -> tuple[int, int]:
        return self._inner._key()

    def _core_of(self) -> Any:
        return self._inner._core_of()

    def _describe(self) -> str:
        return f"{self.id} {self._facts.text}"

    def __del__(self) -> None:
        # The plain watcher goes with us, and cancels.
        facts = self._facts
        if facts.trace and _trace.enabled:
            _trace("dstry %s", facts.text)


class _Layer:
    """Wrapping as ``_layers`` sees it."""

    def wrap(
        self,
        kind: str,
        args: dict[str, Any],
        callback: Any,
        create: Callable[[Callable[..., object]], Watcher],
    ) -> Watcher:
        if not callable(callback):
            return create(callback)  # which refuses it
        facts = WatcherInfo(kind, args, callback)
        inner = create(Probe(facts, callback))
        watcher = WrappedWatcher()
        watcher._inner = inner
        watcher._facts = facts
        _registry[facts.id] = watcher
        if facts.trace and _trace.enabled:
            _trace("creat %s", facts.text)
        return watcher


_layer = _Layer()


def wrap(level: int | None = None) -> int:
    """Say whether watchers are wrapped from now on.

    Args:
        level: 0: no. 1: yes. 2: yes, and each keeps the stack of its creation, with arguments.
            None: yes if it was no, else no.

    Returns:
        The level now in force. Watchers that exist are not changed.

    Raises:
        ValueError: If *level* is none of these.

    Perl: ``AnyEvent::Debug::wrap``
    """
    global _level
    if level is None:
        level = 0 if _level else 1
    if type(level) is not int or level not in (0, 1, 2):
        raise ValueError(f"expected 0, 1 or 2, got {level!r}")
    if level and not _level:
        _layers.install_layer(_layer)
        _strict_comes_last()
    elif _level and not level:
        _layers.remove_layer(_layer)
    _level = level
    note_sites("wrapping", bool(level))
    return level


def _strict_comes_last() -> None:
    import sys

    strict = sys.modules.get("ae_core.strict._checks")
    if strict is not None:
        strict.outermost()


def watchers() -> list[WrappedWatcher]:
    """Return the wrapped watchers that are held, oldest first."""
    return [watcher for _, watcher in sorted(_registry.items())]


def wrapped(number: int) -> WrappedWatcher | None:
    """Return the wrapped watcher whose ``id`` is *number*, None if it was dropped."""
    return _registry.get(number)


def trace_new(on: bool) -> None:
    """Say whether watchers are traced that are wrapped from now on; at first they are."""
    global _trace_new
    _trace_new = on
