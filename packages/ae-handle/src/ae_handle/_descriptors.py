"""The descriptors of a handle's options, and the checks of what they are set to.

No callback of the program runs inside a setter: what a change makes due is done in the next turn.
"""

from __future__ import annotations

__all__ = (
    "Callback",
    "Flag",
    "OnConnect",
    "OnError",
    "OnEvent",
    "OnPrepare",
    "OnTls",
    "Option",
    "Seconds",
    "TimeoutCallback",
    "check_callback",
    "check_coder",
    "check_limit",
    "check_name",
    "check_read_size",
    "check_size",
)

from operator import attrgetter, methodcaller

from ._buffers.octets import not_a_class
from ._errors import HandleError
from ._protocol.inactivity import check_period
from ._typing import Generic, overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeAlias, TypeVar

    T = TypeVar("T")

    OnEvent: TypeAlias = Callable[[Any], object]
    OnError: TypeAlias = Callable[[Any, HandleError], object]
    OnPrepare: TypeAlias = Callable[[Any], "float | None"]
    OnConnect: TypeAlias = Callable[[Any, str, Any, Callable[[], None]], object]
    OnTls: TypeAlias = Callable[[Any, "HandleError | None"], object]
else:
    T = "T"

# ---------------------------------------------------------------------- descriptors


class Option(Generic[T]):
    """An option of a handle.

    Args:
        check: Called with the name and the value; returns the value to keep, or raises.
        doc: What the option does.
        changed: The method of the handle that is called after a change. Calls no callback.
        kept: The attribute that keeps the value, by default the option's name with an
            underscore; ``"_read.max_buffer"`` is an attribute of the read side. One of
            ``"_rare"`` is shared with other handles until it is set.
    """

    def __init__(
        self,
        check: Callable[[str, Any], T],
        doc: str,
        changed: str | None = None,
        *,
        kept: str = "",
    ) -> None:
        self.__doc__ = doc
        self._check = check
        self._changed = changed
        self._kept = kept
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name
        kept = self._kept or "_" + name
        self._get = attrgetter(kept)
        part, _, self._attribute = kept.rpartition(".")
        self._part: Callable[[Any], Any] | None = None
        if part:
            self._part = methodcaller("_own_rare") if part == "_rare" else attrgetter(part)

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> T: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | T:
        if h is None:
            return self
        value: T = self._get(h)
        return value

    def __set__(self, h: Any, value: T) -> None:
        value = self._check(self._name, value)
        if not h.is_destroyed:
            setattr(h if self._part is None else self._part(h), self._attribute, value)
            if self._changed is not None:
                getattr(h, self._changed)()


class Callback(Option["T | None"], Generic[T]):
    """A callback of a handle: a callable, or None."""

    def __init__(self, doc: str, changed: str | None = None, *, kept: str = "") -> None:
        super().__init__(check_callback, doc, changed, kept=kept)


class Flag(Option[bool]):
    """An option that is on or off: anything goes, as in an ``if``."""

    def __init__(self, doc: str, changed: str | None = None, *, kept: str = "") -> None:
        super().__init__(_any, doc, changed, kept=kept)

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> bool: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | bool:
        return self if h is None else bool(self._get(h))


class _InactivityOption:
    """An option of one of the three inactivity timeouts."""

    def __init__(self, kind: int, doc: str) -> None:
        self.__doc__ = doc
        self._kind = kind
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name


class Seconds(_InactivityOption):
    """The period of one of the three inactivity timeouts."""

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> float: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | float:
        if h is None:
            return self
        period: float = 0.0 if h._inactivity is None else h._inactivity.periods[self._kind]
        return period

    def __set__(self, h: Any, seconds: float | None) -> None:
        h._set_period(self._kind, check_period(self._name, seconds))


class TimeoutCallback(_InactivityOption):
    """The callback of one of the three inactivity timeouts: a callable, or None."""

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> OnEvent | None: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | OnEvent | None:
        if h is None:
            return self
        callback: OnEvent | None
        callback = None if h._inactivity is None else h._inactivity.callbacks[self._kind]
        return callback

    def __set__(self, h: Any, callback: OnEvent | None) -> None:
        h._set_timeout_callback(self._kind, check_callback(self._name, callback))


# ---------------------------------------------------------------------- checks


def check_callback(name: str, value: Any) -> Any:
    """Return *value* if it can be called, or is None.

    Raises:
        TypeError: If it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"expected {name} as a callable or None, got {value!r}")
    return value


def check_limit(name: str, value: object) -> int | None:
    """Return *value* if it is a number of bytes, or None for no limit.

    Raises:
        TypeError, ValueError: If it is neither.
    """
    return None if value is None else check_size(name, value)


def check_size(name: str, value: object, least: int = 0) -> int:
    """Return *value* if it is a number of bytes of at least *least*.

    Raises:
        TypeError, ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as a number of bytes, got {value!r}")
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


def check_read_size(name: str, value: object) -> int:
    return check_size(name, value, 1)


def check_name(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected {name} as a str or None, got {value!r}")
    return value
