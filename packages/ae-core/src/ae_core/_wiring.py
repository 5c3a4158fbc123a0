"""What connects distant parts of the package; imported first, by the package itself.

A lower part that needs something of a higher one declares a hook, and this file sets it. Nothing
here is called while the package is imported.
"""

from __future__ import annotations

__all__ = ("connect",)

from ._async import condvar
from ._base import log
from ._detection import current
from ._loop import exception_hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def connect(package: ModuleType) -> None:
    """Set every hook; *package* is the public one."""
    exception_hook.package = package
    log.load_engine = _load_logs
    log.loop_time = current.cached_time
    condvar.load_bridges = _load_bridges
    current.on_first_detection = _start_aids


def _load_logs() -> Any:
    from . import logs

    return logs


def _load_bridges() -> Any:
    from ._async import bridges

    return bridges


def _start_aids() -> None:
    from .debug import _environment

    _environment.start()
