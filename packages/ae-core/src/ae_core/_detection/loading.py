"""Loading a backend's class: ours by the table, others by entry points."""

from __future__ import annotations

__all__ = ("ENTRY_POINTS", "load")

import sys

from .._base.errors import BackendUnavailable
from .._loop.backend import Backend
from .table import BACKENDS, LOADED_BY_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .table import BackendSpec

ENTRY_POINTS = "ae_core.backends"


def load(name: str) -> type[Backend]:
    """Return the class of a backend, importing its adapter.

    Raises:
        ValueError: If no such backend is known.
        BackendUnavailable: If its library is not installed.
    """
    for spec in BACKENDS:
        if spec.name == name:
            return _load_spec(spec)
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS, name=name):
        try:
            cls = entry.load()
        except Exception as error:
            from .._base.log import log

            log("error", "backend %r of %s", name, entry.value, context="ae_core", error=error)
            raise BackendUnavailable(f"backend {name!r} ({entry.value}) failed: {error}") from error
        if not (isinstance(cls, type) and issubclass(cls, Backend)):
            raise BackendUnavailable(
                f"backend {name!r} ({entry.value}) is no ae_core.abc.Backend: {cls!r}"
            )
        return cls
    known = ", ".join(sorted(spec.name for spec in BACKENDS))
    raise ValueError(f"unknown backend {name!r}, expected one of {known} or an installed one")


def _load_spec(spec: BackendSpec) -> type[Backend]:
    from importlib import import_module

    if spec.library is not None and spec.library not in sys.modules:
        LOADED_BY_US.add(spec.library)
    try:
        module = import_module(f"ae_core._backends.{spec.file}")
    except BackendUnavailable:
        raise  # it is there, and too old
    except ImportError as error:
        raise BackendUnavailable(
            f"backend {spec.name!r} needs {spec.package or spec.library}, "
            f"which is not installed: {error}"
        ) from error
    cls: type[Backend] = getattr(module, spec.cls)
    return cls
