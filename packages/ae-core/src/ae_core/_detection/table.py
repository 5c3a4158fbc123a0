"""Every backend there is, in the order in which detection looks at them, and their loading.

A row says how to tell, without importing anything, whether the program already uses that loop
in this thread. The adapter's file is imported only once its row is chosen, or its name asked for;
backends of others are found by their entry points.
"""

from __future__ import annotations

__all__ = ("BACKENDS", "ENTRY_POINTS", "LOADED_BY_US", "BackendSpec", "load")

import sys

from .._base.errors import BackendUnavailable
from .._base.thread_identity import in_main_thread
from .._loop.backend import Backend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ENTRY_POINTS = "ae_core.backends"


class BackendSpec:
    """One row of the table.

    Args:
        name: What ``use()`` calls it.
        file: The adapter's module, below this package.
        cls: Its class there.
        library: The module whose absence makes it unavailable; None if it is always there.
        package: What to install then, as the package index calls it.
        live: Tells why it would be chosen now, or None.
        exclusive: It owns the process: tests give it a process of its own.
    """

    __slots__ = ("cls", "exclusive", "file", "library", "live", "name", "package")

    @property
    def distributions(self) -> tuple[tuple[str, str], ...]:
        """The (module, distribution) pairs that provide its library."""
        return _DISTRIBUTIONS.get(self.name, ())

    def __init__(
        self,
        name: str,
        file: str,
        cls: str,
        library: str | None,
        package: str | None,
        live: Callable[[], str | None],
        *,
        exclusive: bool = False,
    ) -> None:
        self.name = name
        self.file = file
        self.cls = cls
        self.library = library
        self.package = package
        self.live = live
        self.exclusive = exclusive


_DISTRIBUTIONS = {
    "trio": (("trio", "trio"),),
    "twisted": (("twisted", "Twisted"),),
    "qt": (("PyQt6", "PyQt6"), ("PySide6", "PySide6-Essentials")),
    "glib": (("gi", "PyGObject"),),
    "tk": (("tkinter", "tkinter"),),
    "gevent": (("gevent", "gevent"),),
    "libev": (("gevent", "gevent"),),
}


#: Libraries that an adapter of ours has imported: no sign that the program uses them.
LOADED_BY_US: set[str] = set()

ASYNCIO_REACTOR = "AsyncioSelectorReactor"


def _asyncio() -> str | None:
    events = sys.modules.get("asyncio.events")
    # half-imported modules have no such attribute yet; then no loop runs either
    running: Callable[[], Any] | None = getattr(events, "_get_running_loop", None)
    if running is not None and running() is not None:
        return "running in this thread"
    if _reactor() == ASYNCIO_REACTOR:
        return f"{ASYNCIO_REACTOR} installed"  # Twisted on an asyncio loop
    return None


def _trio() -> str | None:
    run = sys.modules.get("trio._core._run")
    context = getattr(run, "GLOBAL_RUN_CONTEXT", None)
    return "running in this thread" if getattr(context, "runner", None) is not None else None


def _reactor() -> str | None:
    """Return the kind of the installed Twisted reactor, if there is one in this thread."""
    reactor = sys.modules.get("twisted.internet.reactor")
    if reactor is None or not in_main_thread():
        return None
    # one that was stopped never runs again
    if getattr(reactor, "_startedBefore", False) and not getattr(reactor, "running", True):
        return None
    return type(reactor).__name__


def _twisted() -> str | None:
    kind = _reactor()
    return None if kind in (None, ASYNCIO_REACTOR) else f"{kind} installed"


def _qt() -> str | None:
    for binding in ("PyQt6", "PySide6"):
        core = sys.modules.get(f"{binding}.QtCore")
        application = getattr(core, "QCoreApplication", None)
        if application is not None and application.instance() is not None and in_main_thread():
            return f"{binding} application exists"
    return None


def _glib() -> str | None:
    loaded = getattr(sys.modules.get("gi.repository.GLib"), "MainContext", None) is not None
    return "loaded" if loaded and in_main_thread() else None


def _tk() -> str | None:
    root = getattr(sys.modules.get("tkinter"), "_default_root", None)
    return "default root exists" if root is not None and in_main_thread() else None


def _gevent() -> str | None:
    hub = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    if hub is None:
        return None
    if hub() is not None:
        return "hub exists"
    # as with GLib: a program waits by it in the main thread, other threads may not use it
    return "loaded" if in_main_thread() and "gevent" not in LOADED_BY_US else None


def _never() -> str | None:
    return None  # only when asked for by name


# Running loops first: where one runs there is no choice. Then what is loaded and live: a module
# that was merely imported says nothing. Last, always, our own.
BACKENDS: tuple[BackendSpec, ...] = (
    BackendSpec("asyncio", "_asyncio", "AsyncioBackend", None, None, _asyncio),
    BackendSpec("trio", "_trio", "TrioBackend", "trio", "trio", _trio),
    BackendSpec(
        "twisted", "_twisted", "TwistedBackend", "twisted", "Twisted", _twisted, exclusive=True
    ),
    BackendSpec("qt", "_qt", "QtBackend", "PyQt6", "PyQt6 or PySide6", _qt, exclusive=True),
    BackendSpec("glib", "_glib", "GlibBackend", "gi", "PyGObject", _glib, exclusive=True),
    BackendSpec("tk", "_tk", "TkBackend", "tkinter", "python3-tk", _tk, exclusive=True),
    BackendSpec("gevent", "_gevent", "GeventBackend", "gevent", "gevent", _gevent, exclusive=True),
    BackendSpec("libev", "_libev", "LibevBackend", "gevent", "gevent", _never),
    BackendSpec("loop", "_loop", "LoopBackend", None, None, _never),
)


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
    if spec.library is not None and spec.library not in sys.modules:
        LOADED_BY_US.add(spec.library)
    try:
        # not importlib.import_module: to import importlib takes longer than to import the adapter
        module = __import__(f"ae_core._backends.{spec.file}", fromlist=[spec.cls])
    except BackendUnavailable:
        raise  # it is there, and too old
    except ImportError as error:
        raise BackendUnavailable(
            f"backend {spec.name!r} needs {spec.package or spec.library}, "
            f"which is not installed: {error}"
        ) from error
    cls: type[Backend] = getattr(module, spec.cls)
    return cls
