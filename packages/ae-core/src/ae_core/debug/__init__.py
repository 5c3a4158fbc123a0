"""Debugging aids: wrapped watchers, and a shell into the running program.

Switched on by ``AE_DEBUG_WRAP`` and ``AE_DEBUG_SHELL``, or by the functions here; nothing of it
is imported otherwise. ``python -m ae_core.debug PATH`` is the shell's client.
"""

from __future__ import annotations

__all__ = ("Shell", "WrappedWatcher", "shell", "watchers", "wrap")

from ._shell import Shell as Shell
from ._shell import shell as shell
from ._wrap import WrappedWatcher as WrappedWatcher
from ._wrap import watchers as watchers
from ._wrap import wrap as wrap

for _thing in (Shell, WrappedWatcher, shell, watchers, wrap):
    _thing.__module__ = __name__
del _thing
