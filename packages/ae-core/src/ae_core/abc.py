"""For authors of backends: the abstract class that an adapter implements."""

from __future__ import annotations

__all__ = ("Backend", "add_guest")

from ._backend import Backend as Backend
from ._detect import add_guest as add_guest

add_guest.__module__ = __name__
Backend.__module__ = __name__
