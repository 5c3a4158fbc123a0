"""The base of the frame types: values with slots, equality, hash and repr.

``dataclasses`` would do the same and costs 8 ms at import, an eighth of what all five packages
may take together; hence forty lines here.
"""

from __future__ import annotations

__all__ = ("Coded", "Immutable")


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ..abc import Coder


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


class Coded(Immutable):
    """One whose items are nested, and may be read and written by an object of the program."""

    __slots__ = ()

    coder: Coder | None
    max_depth: int

    def _set_coder(self, coder: Coder | None, max_depth: int, **others: object) -> None:
        """Check and set *coder* and *max_depth*; set *others* as they are."""
        if coder is not None and not (hasattr(coder, "loads") and hasattr(coder, "dumps")):
            raise TypeError(f"expected a coder with loads and dumps, got {coder!r}")
        if isinstance(max_depth, bool) or not isinstance(max_depth, int) or max_depth < 1:
            raise ValueError(f"expected a depth of 1 or more, got {max_depth!r}")
        self._set(coder=coder, max_depth=max_depth, **others)


def _rebuild(kind: type[Any], names: list[str], values: tuple[Any, ...]) -> Any:
    return kind(**dict(zip(names, values, strict=True)))
