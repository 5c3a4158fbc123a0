"""Header fields: an ordered, case-insensitive mapping that may hold a name several times.

Sans-I/O. What may stand in a field that we send is checked here, once.
"""

from __future__ import annotations

__all__ = ("Headers", "HeadersInput", "encode_fields", "make_headers")

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from ._errors import InvalidRequest

# RFC 9110 5.6.2: what a field name, and a method, may consist of
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110 5.5: visible characters, blanks and tabs inside, obs-text. No CR, LF or NUL: with those
# a stranger who controls a value could add fields, or a second request.
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")


class Headers(Mapping[str, str]):
    """The header fields of a message.

    ``headers["content-type"]`` finds the field however its name is spelled; several of one name
    are joined by ``", "`` (RFC 9110 5.3). Iteration gives each name once, in lower case.

    Attributes:
        raw: The fields as (name, value), spelled and ordered as they came.
    """

    __slots__ = ("_values", "raw")

    raw: list[tuple[str, str]]

    def __init__(self, fields: HeadersInput = ()) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        if isinstance(fields, Headers):
            pairs = fields.raw
        self.raw = [(str(name), str(value)) for name, value in pairs]
        self._values: dict[str, str] = _joined(self.raw)

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the value of the field, or *default*."""
        return self._values.get(name.lower(), default)

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields of that name: for Set-Cookie, which cannot be joined."""
        name = name.lower()
        return [value for each, value in self.raw if each.lower() == name]

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self.raw!r})"

    def without(self, *names: str) -> Headers:
        """Return a copy without the fields of these names."""
        gone = {name.lower() for name in names}
        return Headers([pair for pair in self.raw if pair[0].lower() not in gone])


HeadersInput: TypeAlias = "Headers | Mapping[str, str] | Iterable[tuple[str, str]]"


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(each) for name, each in values.items()}


def make_headers(raw: list[tuple[str, str]], values: dict[str, str]) -> Headers:
    """Return the fields that a parser has found, without another look at them."""
    headers = Headers.__new__(Headers)
    headers.raw = raw
    headers._values = values
    return headers


def encode_fields(fields: HeadersInput) -> list[tuple[str, str]]:
    """Return checked (name, value) pairs for a request.

    Raises:
        InvalidRequest: If a name or value is not what RFC 9110 allows.
        TypeError: If one is not a str.
    """
    pairs: Iterable[Any]  # a caller without a type checker may give anything
    if isinstance(fields, Headers):
        pairs = fields.raw
    elif isinstance(fields, Mapping):
        pairs = fields.items()
    else:
        pairs = fields
    checked = []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"expected a header field as (name, value), got {pair!r}")
        name, value = pair
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"expected a header name and value as str, got {name!r}: {value!r}")
        if not TOKEN.fullmatch(name):
            raise InvalidRequest(f"expected the name of a header field, got {name!r}")
        value = value.strip(" \t")
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(f"expected {name} without control characters, got {value!r}")
        checked.append((name, value))
    return checked


Headers.__module__ = "ae_http"
