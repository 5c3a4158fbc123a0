"""The peers: every module here (its name not starting with an underscore) may define

    PEERS = {"peer-name": {"needs": ["module", ...], "role": callable-or-argv, ...}}

and is found by itself: drop a module in and its peers join every scenario whose role they
offer. Modules import what they measure inside the role functions, so listing peers costs nothing
and a missing package only drops its own peers.

``NAME@before`` is peer NAME with the packages of another tree of this repository.
"""

from __future__ import annotations

__all__ = ("BEFORE", "Spec", "everything", "find")

import importlib
import importlib.util
import pkgutil
import shutil
from collections.abc import Iterator
from typing import Any, Final

Spec = dict[str, Any]

BEFORE: Final = "@before"


def _defined() -> Iterator[tuple[str, Spec]]:
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if not name.startswith("_"):
            yield from importlib.import_module(f"peers.{name}").PEERS.items()


def _is_installed(spec: Spec) -> bool:
    modules = all(importlib.util.find_spec(name) for name in spec.get("needs", ()))
    return modules and all(shutil.which(name) for name in spec.get("binaries", ()))


def everything() -> dict[str, Spec]:
    """The peers whose packages and programs are installed."""
    return {name: spec for name, spec in _defined() if _is_installed(spec)}


def find(name: str) -> Spec:
    """Return one peer, installed or not."""
    for each, spec in _defined():
        if each == name.removesuffix(BEFORE):
            return spec
    raise SystemExit(f"no such peer: {name}")
