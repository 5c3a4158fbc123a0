"""Text about code: names of callbacks, creation sites, stacks.

What is shown in logs and in the shell is text from the start: a frame or an object kept for
later would keep alive all that it refers to.
"""

from __future__ import annotations

__all__ = ("backtrace", "callback_text", "caller", "value_text")

import functools
import sys
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType
from typing import Final

from .escape import printable

# Frames of these packages are skipped: a watcher is made by the code that called them.
_OURS: Final = frozenset({"ae_core", "ae_dns", "ae_guests", "ae_handle", "ae_socket", "ae_tls"})
_LONGEST: Final = 100


def caller() -> FrameType:
    """Return the nearest frame on the stack whose code is not in one of our packages."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _package(frame) in _OURS:
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name.partition(".")[0] if isinstance(name, str) else ""


def callback_text(callback: object) -> str:
    """Return the name of a callback, or where it was written if it has none.

    Example:
        >>> import os
        >>> callback_text(os.path.join)
        'posixpath.join'

    Perl: ``AnyEvent::Debug::cb2str``
    """
    callback = getattr(callback, "__ae_wraps__", callback)
    while isinstance(callback, functools.partial):
        callback = callback.func
    if isinstance(callback, MethodType):
        callback = callback.__func__
    if isinstance(callback, FunctionType):
        if callback.__name__ == "<lambda>":
            return f"{callback.__module__}:{callback.__code__.co_firstlineno}"
        return f"{callback.__module__}.{callback.__qualname__}"
    if isinstance(callback, BuiltinFunctionType):
        owner = callback.__module__ or type(callback.__self__).__name__
        return f"{owner}.{callback.__name__}"
    return value_text(callback)


def value_text(value: object) -> str:
    """Return a short text for any value; only the most harmless types are asked for theirs."""
    kind = type(value)
    if kind in (str, bytes, int, float, bool, type(None)):
        text = repr(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    try:
        text = repr(value) if kind.__module__ == "socket" else ""
    except Exception:
        text = ""
    if text and len(text) <= 2 * _LONGEST:
        return text
    return f"<{kind.__module__}.{kind.__qualname__} at {id(value):#x}>"


def backtrace(frame: FrameType | None = None, limit: int = 50) -> str:
    """Return the stack as text, innermost call first, with the arguments of each function.

    Args:
        frame: Where to start, by default at the caller.
        limit: How many calls at most.

    Perl: ``AnyEvent::Debug::backtrace``
    """
    here: FrameType | None = frame or sys._getframe(1)
    rows: list[tuple[str, str]] = []
    while here is not None and len(rows) < limit:
        code = here.f_code
        count = code.co_argcount + code.co_kwonlyargcount
        values = here.f_locals if count else {}
        arguments = ", ".join(
            f"{name}={value_text(values[name])}"
            for name in code.co_varnames[:count]
            if name in values
        )
        module = here.f_globals.get("__name__")
        rows.append((f"{module} line {here.f_lineno}", f"{code.co_qualname}({arguments})"))
        here = here.f_back
    width = max((len(where) for where, _ in rows), default=0)
    return "".join(f"{where:<{width}} {printable(call)}\n" for where, call in rows)
