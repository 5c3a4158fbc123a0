"""Strict mode: a handle refuses to be used in another thread than the one that made it.

Imported where strict mode is on; costs nothing where it is off.
"""

from __future__ import annotations

__all__ = ("checked",)

from _thread import get_ident
from functools import wraps
from types import FunctionType, new_class
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# What only looks, and may be wanted in a log message of any thread.
_HARMLESS: Final = {"statistics"}

_classes: Final[dict[type[Any], type[Any]]] = {}


def checked(kind: type[Any]) -> type[Any]:
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
    if handle._thread != get_ident():
        raise RuntimeError(
            f"{what} in another thread than the one that made {handle!r}: "
            f"use ae_core.call_threadsafe() with a function that does it"
        )
