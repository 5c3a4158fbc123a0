"""The attributes of a handle that are more than a slot: callbacks and checked options.

Descriptors and checks only; what a change brings about is in ``_settings``.
"""

from __future__ import annotations

__all__ = (
    "Callback",
    "Flag",
    "Option",
    "Seconds",
    "check_coder",
    "check_limit",
    "check_size",
)

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ._buffers.octets import not_a_class
from ._protocol.inactivity import check_period

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")


class Option(Generic[T]):
    """An option of a handle: kept in the slot of its name with an underscore.

    Args:
        check: Called with the name and the value; returns the value to keep, or raises.
        doc: What the option does.
        changed: Called with the handle after a change. Runs no callback of the user.
    """

    def __init__(
        self,
        check: Callable[[str, Any], T],
        doc: str,
        changed: Callable[[Any], object] | None = None,
    ) -> None:
        self.__doc__ = doc
        self._check = check
        self._changed = changed
        self._name = self._slot = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name
        self._slot = "_" + name

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> T: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | T:
        if h is None:
            return self
        value: T = getattr(h, self._slot)
        return value

    def __set__(self, h: Any, value: T) -> None:
        value = self._check(self._name, value)
        if not h.is_destroyed:
            setattr(h, self._slot, value)
            if self._changed is not None:
                self._changed(h)


class Callback(Option["T | None"], Generic[T]):
    """A callback of a handle: a callable, or None."""

    def __init__(self, doc: str, changed: Callable[[Any], object] | None = None) -> None:
        super().__init__(check_callback, doc, changed)


class Flag(Option[bool]):
    """An option that is on or off: anything goes, as in an ``if``."""

    def __init__(self, doc: str, changed: Callable[[Any], object] | None = None) -> None:
        super().__init__(_any, doc, changed)

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> bool: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | bool:
        return self if h is None else bool(getattr(h, self._slot))


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
    def __get__(self, h: Any, owner: type[Any]) -> float: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | float:
        if h is None:
            return self
        period: float = 0.0 if h._timeouts is None else h._timeouts.periods[self._kind]
        return period

    def __set__(self, h: Any, seconds: float | None) -> None:
        h._set_period(self._kind, check_period(self._name, seconds))


def check_callback(name: str, value: Any) -> Any:
    """Return *value* if it can be called, or is None.

    Raises:
        TypeError: If it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"expected {name} as a callable or None, got {value!r}")
    return value


def check_limit(name: str, value: object) -> int | None:
    """Return *value* if it is a number of octets, or None for no limit.

    Raises:
        TypeError, ValueError: If it is neither.
    """
    return None if value is None else check_size(name, value)


def check_size(name: str, value: object, least: int = 0) -> int:
    """Return *value* if it is a number of octets of at least *least*.

    Raises:
        TypeError, ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as a number of octets, got {value!r}")
    if value < least:
        raise ValueError(f"expected {name} of {least} or more, got {value!r}")
    return value


def _any(name: str, value: Any) -> Any:
    return value


def check_coder(name: str, coder: Any) -> Any:
    """Return *coder* if it has ``loads`` and ``dumps``.

    Raises:
        TypeError: If it has not.
    """
    not_a_class(name, coder)
    if not (callable(getattr(coder, "loads", None)) and callable(getattr(coder, "dumps", None))):
        raise TypeError(f"expected {name} as an object with loads and dumps, got {coder!r}")
    return coder
