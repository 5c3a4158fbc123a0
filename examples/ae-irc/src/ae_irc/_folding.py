"""Which names are the same: CASEMAPPING, and dictionaries that go by it.

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("FoldedDict", "fold")

from collections.abc import Iterator, MutableMapping
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_ASCII: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_STRICT: Final = {**_ASCII, **str.maketrans("[]\\", "{}|")}
_RFC1459: Final = {**_STRICT, **str.maketrans("~", "^")}
_TABLES: Final = {"ascii": _ASCII, "strict-rfc1459": _STRICT, "rfc1459": _RFC1459}


@lru_cache(maxsize=4096)
def fold(name: str, mapping: str = "rfc1459") -> str:
    """Return what all spellings of *name* have in common.

    Args:
        name: A nick or a channel.
        mapping: As in CASEMAPPING: ``ascii``, ``rfc1459`` (where ``[]\\~`` are the capitals of
            ``{}|^``) or ``strict-rfc1459`` (without the last pair). Others, for names beyond
            ASCII, are taken for Unicode's case folding.

    Example:
        >>> fold("Anna[1]"), fold("Anna[1]", "ascii")
        ('anna{1}', 'anna[1]')
    """
    table = _TABLES.get(mapping)
    return name.casefold() if table is None else name.translate(table)


class FoldedDict(MutableMapping[str, V], Generic[V]):
    """A dictionary by names; it gives them in the spelling in which they were last set."""

    __slots__ = ("_items", "_mapping")

    def __init__(self, mapping: str = "rfc1459") -> None:
        self._mapping = mapping
        self._items: dict[str, tuple[str, V]] = {}

    def __getitem__(self, name: str) -> V:
        return self._items[fold(name, self._mapping)][1]

    def __setitem__(self, name: str, value: V) -> None:
        self._items[fold(name, self._mapping)] = name, value

    def __delitem__(self, name: str) -> None:
        del self._items[fold(name, self._mapping)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and fold(name, self._mapping) in self._items

    # the inherited one is slow
    def get(self, name: str, default: V | None = None) -> V | None:  # type: ignore[override]
        """Return the value of *name*, or *default*."""
        item = self._items.get(fold(name, self._mapping))
        return default if item is None else item[1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(dict(self))

    def set_mapping(self, mapping: str) -> None:
        """Go by another mapping from now on. Of names that become the same the last one stays."""
        if mapping != self._mapping:
            self._mapping = mapping
            self._items = {fold(name, mapping): (name, v) for name, v in self._items.values()}
