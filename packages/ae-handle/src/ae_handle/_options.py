"""The attributes of a handle that are more than a slot: callbacks and checked options.

Descriptors only; what a change brings about is done by ``_handle``.
"""

from __future__ import annotations

__all__ = ("Callback", "Seconds", "check_coder", "check_limit", "check_size")

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ._timeouts import check_period

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ._handle import Handle

C = TypeVar("C")


class Callback(Generic[C]):
    """A callback of a handle: a callable, or None.

    Args:
        doc: What calls it.
        changed: Called with the handle after a change.
    """

    def __init__(self, doc: str, changed: Callable[[Handle], object] | None = None) -> None:
        self.__doc__ = doc
        self._changed = changed
        self._name = self._slot = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name
        self._slot = "_" + name

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Handle, owner: type[Any]) -> C | None: ...
    def __get__(self, h: Handle | None, owner: type[Any]) -> Self | C | None:
        if h is None:
            return self
        value: C | None = getattr(h, self._slot)
        return value

    def __set__(self, h: Handle, value: C | None) -> None:
        if value is not None and not callable(value):
            raise TypeError(f"expected {self._name} as a callable or None, got {value!r}")
        if h.is_destroyed:
            return
        setattr(h, self._slot, value)
        if self._changed is not None:
            self._changed(h)


class Seconds:
    """One of the three inactivity time-outs."""

    def __init__(self, kind: int, doc: str) -> None:
        self.__doc__ = doc
        self._kind = kind
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Handle, owner: type[Any]) -> float: ...
    def __get__(self, h: Handle | None, owner: type[Any]) -> Self | float:
        if h is None:
            return self
        timeouts = h._timeouts
        return 0.0 if timeouts is None else timeouts.periods[self._kind]

    def __set__(self, h: Handle, seconds: float | None) -> None:
        h._set_period(self._kind, check_period(self._name, seconds))


def check_limit(name: str, value: object) -> int | None:
    """Return *value* if it is a number of octets, or None for no limit.

    Raises:
        TypeError, ValueError: If it is neither.
    """
    if value is None:
        return None
    return check_size(name, value, 0)


def check_size(name: str, value: object, least: int) -> int:
    """Return *value* if it is a number of octets of at least *least*.

    Raises:
        TypeError, ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as a number of octets, got {value!r}")
    if value < least:
        raise ValueError(f"expected {name} of {least} or more, got {value!r}")
    return value


def check_coder(name: str, coder: Any) -> Any:
    """Return *coder* if it has ``loads`` and ``dumps``.

    Raises:
        TypeError: If it has not.
    """
    if not (callable(getattr(coder, "loads", None)) and callable(getattr(coder, "dumps", None))):
        raise TypeError(f"expected {name} as an object with loads and dumps, got {coder!r}")
    return coder
