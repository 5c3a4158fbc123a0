"""Strict mode: handles in the wrong thread, and handles that no variable has kept.

A handle refuses to be used in another thread than the one that made it, and one that is collected
while its peer is open is reported.

Imported where strict mode is on; costs nothing where it is off.
"""

from __future__ import annotations

__all__ = ("check",)

import os
import sys
from functools import wraps
from types import FunctionType, new_class
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from ._phases import CONNECTING, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# What only reads, and may be used in a log message of any thread.
_HARMLESS: Final = {"statistics"}

_classes: Final[dict[type[Any], type[Any]]] = {}
_sites: Final[dict[int, str]] = {}  # where each handle was made, by its id
_HERE: Final = os.path.dirname(__file__) + os.sep


def check(handle: Any) -> None:
    """Have *handle*, which is being made, checked from now on."""
    handle.__class__ = _checked(handle.__class__)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is not None:
        _sites[id(handle)] = f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _checked(kind: type[Any]) -> type[Any]:
    """Return a class like *kind* whose public methods and setters check the thread."""
    made = _classes.get(kind)
    if made is None:
        made = new_class(kind.__name__, (kind,), exec_body=lambda space: space.update(_body(kind)))
        _classes[kind] = _classes[made] = made
    return made


def _body(kind: type[Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__setattr__": _set,
        "__del__": _collected(kind),
    }
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, FunctionType) and name[0] != "_" and name not in _HARMLESS:
                body[name] = _in_its_thread(value)
    return body


def _in_its_thread(method: FunctionType) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        _check(self, f"{method.__name__}()")
        return method(self, *args, **options)

    return call


def _set(self: Any, name: str, value: object) -> None:
    if name[0] != "_":
        _check(self, f"setting {name}")
    object.__setattr__(self, name, value)


def _check(handle: Any, what: str) -> None:
    if not handle._loop.in_thread():
        raise RuntimeError(
            f"{what} in another thread than the one that made {handle!r}: "
            f"use ae_core.call_threadsafe() with a function that does it"
        )


def _collected(kind: type[Any]) -> Callable[[Any], None]:
    def collected(handle: Any) -> None:
        if sys is not None:  # else the interpreter is going down
            _report_if_open(handle)
        kind.__del__(handle)

    return collected


def _report_if_open(handle: Any) -> None:
    """Report a handle that is collected while its peer is open.

    Dropping a handle is a way to end it. One that waits for input was to stay: that is an error.
    """
    site = _sites.pop(id(handle), "?")
    if handle._phase not in (CONNECTING, OPEN) or handle._read.eof or sys.is_finalizing():
        return
    ae.log(
        "error" if handle._read.has_reader() else "info",
        "a handle, made at %s, is collected while its peer is open: keep it in a variable for as "
        "long as it shall live; it is %r",
        site,
        handle,
    )
