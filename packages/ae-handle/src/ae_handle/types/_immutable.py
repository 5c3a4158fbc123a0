"""The base of the frame types: values with slots, equality, hash and repr.

``dataclasses`` would do the same and costs 8 ms at import, an eighth of what all five packages
may take together; hence forty lines here.
"""

from __future__ import annotations

__all__ = ("Immutable",)

from typing import Any, NoReturn


class Immutable:
    """An object whose public slots are set once, by its ``__init__`` through :meth:`_set`.

    Two of them are equal if their class and their public slots are. Slots with a leading
    underscore hold what was computed from the others.
    """

    __slots__: tuple[str, ...] = ()

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__ if name[0] != "_")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} objects cannot be changed: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} objects cannot be changed: make a new one")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.__slots__ if name[0] != "_"
        )
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), [n for n in self.__slots__ if n[0] != "_"], self._values())


def _rebuild(kind: type[Any], names: list[str], values: tuple[Any, ...]) -> Any:
    return kind(**dict(zip(names, values, strict=True)))
