"""What counts as a number of seconds, everywhere in this package."""

from __future__ import annotations

__all__ = ("check_seconds", "inf")

#: That of ``math``, which is a library to be loaded where it is not part of the interpreter.
inf = float("inf")


def check_seconds(seconds: object, name: str = "") -> float:
    """Return *seconds* as a float if it is a finite number.

    Args:
        name: Of the argument, for the message; may be empty.

    Raises:
        TypeError, ValueError: If it is not. An integer that no float can hold is not finite.
    """
    prefix = f"{name}: " if name else ""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{prefix}expected a number of seconds, got {seconds!r}")
    try:
        number = float(seconds)
    except OverflowError:
        number = inf
    if not -inf < number < inf:
        raise ValueError(f"{prefix}expected a finite number of seconds, got {seconds!r}")
    return number
