"""A pipelined Redis client for any event loop."""

from __future__ import annotations

__all__ = ("__version__",)

from ._version import __version__ as __version__
