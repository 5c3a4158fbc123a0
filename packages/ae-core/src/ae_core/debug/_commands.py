"""What a line typed into the debug shell does: a command, an expression or a statement.

No sockets here: a line in, text out.
"""

from __future__ import annotations

__all__ = ("HELP", "Interpreter")

import io
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from .._base.thread_identity import get_ident
from .._loop import exception_hook
from . import _inspect, _wrap

if TYPE_CHECKING:
    from collections.abc import Callable

HELP: Final = """\
help          this text
wr [level]    wrap watchers made from now on: 0 no, 1 yes, 2 with stack; toggles if missing
wl [regex]    list the wrapped watchers whose text matches, * marks those with errors
w id          the wrapped watcher with that id (for scripting: w(id).cancel())
i id...       all about the wrapped watchers with these ids
t [id...]     trace these wrapped watchers, or all that are made from now on
u [id...]     do not trace them
v [level]     show log messages here, up to that level; toggles between 0 and 9 if missing
st            the loop: backend, why it was chosen, how much it has to do
io            what descriptors are watched
timers        the timers that are due next
cv            condition variables that are waited for
tasks         coroutines started by spawn
h             the handles of ae_handle
bt            where every thread is now
All else is Python: an expression, whose value is shown, or a statement. ae is ae_core.
"""

_EXIT: Final = re.compile(r"(?:exit|quit)\b")
_EXIT_HINT: Final = (
    "sorry, no... this would end the program. End the connection to leave the shell; "
    "if you mean it, use os._exit(0).\n"
)
_NUMBERS: Final = r"[\d\s,]*"
# What a line must look like behind a command's name. Else it is Python: `w = 5`, `t + 1`.
_COMMANDS: Final = {
    "help": "", "wr": r"\d*", "wl": r"(?!=).*", "w": r"[\d\s,]+", "i": r"[\d\s,]+",
    "t": _NUMBERS, "u": _NUMBERS, "v": r"\w*", "st": "", "io": "", "timers": "", "cv": "",
    "tasks": "", "h": "", "bt": "",
}  # fmt: skip


class Interpreter:
    """Runs the lines of one client, in a namespace that it shares with others.

    Args:
        namespace: Where names live. The commands are put there as functions of the same names.
        verbosity: Called with a level or None by ``v``; returns whether messages are shown.
    """

    def __init__(
        self, namespace: dict[str, Any], verbosity: Callable[[int | str | None], bool]
    ) -> None:
        self._namespace = namespace
        self._verbosity = verbosity
        if not namespace:
            package = exception_hook.package
            namespace.update(__name__="__shell__", ae=package, ae_core=package)
            for name, function in _FUNCTIONS.items():
                namespace[name] = function

    def run(self, line: str, limit: int) -> str:
        """Run one line. Return what it printed and its value as text, ended by a newline."""
        line = line.strip()
        if not line:
            return ""
        if _EXIT.match(line):
            return _EXIT_HINT
        output = _Capture(limit)
        try:
            with output:
                output.show(self._evaluate(line))
        except KeyboardInterrupt:
            raise  # meant to end the program, not this line
        except BaseException as error:
            output.error(error)
        return output.text()

    def _evaluate(self, line: str) -> object:
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        function = _FUNCTIONS.get(name, _help)
        # A name that was given another meaning in the namespace has that meaning.
        if self._namespace.get(name) is function and re.fullmatch(_COMMANDS[name], rest, re.DOTALL):
            if name == "v":
                return self._v(rest)
            if name in ("w", "i", "t", "u"):
                return function(*map(int, re.findall(r"\d+", rest))) or None
            return (function(rest) if rest else function()) or None
        try:
            code = compile(line, "<shell>", "eval")
        except SyntaxError:
            exec(compile(line, "<shell>", "exec"), self._namespace)
            return None
        return eval(code, self._namespace)

    def _v(self, level: str) -> str:
        shown = self._verbosity(level or None)
        return f"verbose logging is now {'enabled' if shown else 'disabled'}."


class _Capture(io.TextIOBase):
    """Stands in for ``sys.stdout`` in one thread; other threads go on printing as before."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._room = limit
        self._thread = get_ident()
        self._before: Any = None

    def __enter__(self) -> _Capture:
        self._before, sys.stdout = sys.stdout, self
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stdout is self:
            sys.stdout = self._before

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if get_ident() != self._thread:
            return 0 if self._before is None else self._before.write(text)
        if self._room > 0:
            self._parts.append(text[: self._room])
            if len(text) > self._room:
                self._parts.append("\n... the rest is cut off\n")
        self._room -= len(text)
        return len(text)

    def show(self, value: object) -> None:
        """Write a result: nothing for None, numbered lines for a tuple."""
        if value is None:
            return
        self._newline()
        if type(value) is tuple:
            for index, item in enumerate(value):
                self.write(f"{index}: {item}\n")
        else:
            self.write(str(value))
        self._newline()

    def error(self, error: BaseException) -> None:
        self._newline()
        try:
            text = str(error)
        except BaseException as second:
            text = f"<no text: {type(second).__name__}>"
        self._room = max(self._room, 4096)
        self.write(f"{type(error).__name__}: {text}\n")

    def _newline(self) -> None:
        if self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append("\n")

    def text(self) -> str:
        self._newline()
        return "".join(self._parts)


# The commands


def _help() -> str:
    return HELP


def _wr(level: str | int | None = None) -> str:
    return f"wrap level now {_wrap.wrap(None if level is None else int(level))}"


def _wl(pattern: str = "") -> str:
    found = re.compile(pattern, re.IGNORECASE)
    rows = [
        (str(watcher), f"{watcher.id}{'*' if watcher.errors else ' '} {watcher}\n")
        for watcher in _wrap.watchers()
        if found.search(str(watcher))
    ]
    return "".join(row for _, row in sorted(rows))


def _w(*ids: int) -> object:
    found = list(_find(ids))
    if len(ids) == 1:
        return found[0] if found else None
    return tuple(found)


def _i(*ids: int) -> str:
    return "\n".join(f"{w.id} {w}\n{w.verbose()}" for w in _find(ids))


def _find(ids: tuple[int, ...]) -> list[_wrap.WrappedWatcher]:
    found = []
    for number in ids:
        watcher = _wrap.wrapped(number)
        if watcher is None:
            print(f"{number}: no such wrapped watcher.")
        else:
            found.append(watcher)
    return found


def _t(*ids: int) -> str | None:
    return _set_trace(ids, True)


def _u(*ids: int) -> str | None:
    return _set_trace(ids, False)


def _set_trace(ids: tuple[int, ...], on: bool) -> str | None:
    state = "enabled" if on else "disabled"
    if not ids:
        _wrap.trace_new(on)
        return f"tracing for newly created watchers is now {state}."
    found = _find(ids)
    for watcher in found:
        watcher.trace = on
    return f"tracing {state} for {', '.join(map(str, found))}." if found else None


def _v(*_: object) -> str:
    return "v is a command: type v, or v and a level"


_FUNCTIONS: Final[dict[str, Callable[..., object]]] = {
    "help": _help, "wr": _wr, "wl": _wl, "w": _w, "i": _i, "t": _t, "u": _u, "v": _v,
    "st": _inspect.statistics, "io": _inspect.descriptors, "timers": _inspect.timers,
    "cv": _inspect.condvars, "tasks": _inspect.tasks, "h": _inspect.handles, "bt": _inspect.stacks,
}  # fmt: skip
