"""WeeChat's own loop for Python scripts that run inside it: ``ae_core.use("weechat")``."""

from __future__ import annotations

__all__ = ("WeechatBackend", "__version__")

from ._backend import WeechatBackend as WeechatBackend
from ._version import __version__ as __version__

WeechatBackend.__module__ = __name__
