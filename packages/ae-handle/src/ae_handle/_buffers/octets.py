"""What may be sent: bytes, and nothing that only looks like them.

Sans-I/O: one function.
"""

from __future__ import annotations

__all__ = ("not_a_class", "octets")


def octets(value: object) -> bytes:
    """Return bytes-like *value* as ``bytes``, which cannot change.

    Raises:
        TypeError: If it is not bytes-like. A str is not: its author knows the encoding, we do
            not.
    """
    if isinstance(value, bytes):
        return value if value.__class__ is bytes else bytes(value)
    if isinstance(value, str):
        raise TypeError(f"expected a bytes-like object, got the str {value!r}: encode it first")
    try:
        return bytes(memoryview(value))  # type: ignore[arg-type]  # the next line is the check
    except TypeError:
        not_a_class("bytes, or a frame type and a value,", value)
        raise TypeError(f"expected a bytes-like object, got {value!r}") from None


def not_a_class(what: str, value: object) -> None:
    """Raise TypeError if *value* is a class: its parentheses were forgotten."""
    if isinstance(value, type):
        name = value.__name__
        raise TypeError(f"expected {what} as an object: {name}(), not {name}")
