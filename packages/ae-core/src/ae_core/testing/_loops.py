"""The loops that tests can run on: every backend, and every variant of it.

Makes no loop and imports no library: it says what there is.
"""

from __future__ import annotations

__all__ = ("LoopChoice", "loop_choices")

import sys
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from .._async.tasks import sleep
from .._backends._multiplexers import MULTIPLEXERS
from .._detection.table import BACKENDS
from ._binding import binding

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class LoopChoice:
    """A loop that a test can be run on.

    Attributes:
        id: Its name in the ids of tests, for instance ``asyncio-uvloop``.
        backend: The backend's name, for ``use()`` and :func:`binding`.
        options: Returns new options for ``use()``.
        missing: The libraries that it needs and that are not installed.
        exclusive: It owns the process: only one such loop can be used in a run of tests.
        blocking: ``recv()`` can wait on it. On trio only ``run()`` and ``await`` can.
    """

    id: str
    backend: str
    options: Callable[[], dict[str, Any]]
    missing: tuple[str, ...]
    exclusive: bool
    blocking: bool

    def warm_up(self) -> None:
        """Have the loop open, once in a process, what it keeps for good.

        Without this the first test on it would seem to leave something behind.
        """
        _warm_up(self.id)


# A backend is one row in the table. What makes other loops of it: an id, the library that this
# needs besides, and the options.
_Variant: TypeAlias = "tuple[str, str | None, Callable[[], dict[str, Any]]]"


def _asyncio_loop(module: str, name: str) -> dict[str, Any]:
    return {"loop_factory": getattr(import_module(module), name)}


@cache
def _tcl() -> dict[str, Any]:
    # one for all tests: it must not be collected in the thread of another
    return {"root": import_module("tkinter").Tcl()}


def _variants() -> dict[str, list[_Variant]]:
    asyncio: list[_Variant]
    loop: list[_Variant] = [("loop", None, dict)]
    if sys.platform == "win32":
        kinds = {name: f"{name}EventLoop" for name in ("Selector", "Proactor")}
        asyncio = [
            (f"asyncio-{name.lower()}", None, partial(_asyncio_loop, "asyncio", kind))
            for name, kind in kinds.items()
        ]
    else:
        uvloop = partial(_asyncio_loop, "uvloop", "new_event_loop")
        asyncio = [("asyncio", None, dict), ("asyncio-uvloop", "uvloop", uvloop)]
        others = list(MULTIPLEXERS)[1:]  # the first is the default
        loop += [(f"loop-{name}", None, partial(dict, multiplexer=name)) for name in others]
    tk: list[_Variant] = [("tk", None, _tcl)]
    return {"asyncio": asyncio, "loop": loop, "tk": tk}


def loop_choices() -> list[LoopChoice]:
    """Return every loop that tests can run on, installed or not, in the order of detection.

    Example:
        >>> [choice.id for choice in loop_choices() if choice.backend == "trio"]
        ['trio']
    """
    variants = _variants()
    return [
        LoopChoice(
            name,
            spec.name,
            options,
            tuple(each for each in (spec.library, more) if each and _is_missing(each)),
            spec.exclusive,
            spec.name != "trio",
        )
        for spec in BACKENDS
        for name, more, options in variants.get(spec.name, [(spec.name, None, dict)])
    ]


def _is_missing(library: str) -> bool:
    return find_spec(library.partition(".")[0]) is None


@cache
def _warm_up(name: str) -> None:
    choice = next(each for each in loop_choices() if each.id == name)
    with binding(choice.backend, **choice.options()) as backend:
        if choice.blocking and backend is not None:
            sleep(0).recv()
