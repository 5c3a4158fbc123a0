"""For authors of backends: the abstract class that an adapter implements."""

from __future__ import annotations

__all__ = ("Backend",)

from ._backend import Backend as Backend

Backend.__module__ = __name__
