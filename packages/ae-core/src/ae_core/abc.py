"""For authors of backends: the abstract class that an adapter implements."""

from __future__ import annotations

__all__ = ("Backend", "add_guest")

from ._detection.current import add_guest as add_guest
from ._loop.backend import Backend as Backend

add_guest.__module__ = __name__
Backend.__module__ = __name__
