"""``python -m ae_core``: every known backend, and which one would be chosen here and why.

Then the limits of this process, and the environment variables that are in force.

Imports no loop's library: what is installed is read from the packages' metadata.
"""

from __future__ import annotations

__all__ = ("main", "report")

import argparse
import os
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from . import console
from ._base import environ
from ._detection.table import BACKENDS, ENTRY_POINTS, BackendSpec
from ._version import __version__


class Row(NamedTuple):
    """What is known about one backend."""

    name: str
    version: str  # of its library, "-" if that is not installed
    capabilities: str
    verdict: str


# Which capabilities a backend has is written in its class; to read it there would import the
# library. A test compares the two.
CAPABILITIES = {
    "asyncio": "blocks, hosted, tasks",
    "trio": "hosted, tasks",
    "twisted": "blocks, hosted",
    "qt": "blocks, hosted",
    "glib": "blocks, hosted, idle",
    "tk": "blocks, hosted",
    "gevent": "blocks in many greenlets, hosted, idle",
    "libev": "blocks, idle",
    "loop": "blocks, idle",
}


def _version(spec: BackendSpec) -> str:
    if spec.library is None:
        return __version__ if spec.name == "loop" else "Python {}.{}.{}".format(*sys.version_info)
    versions = []
    for library, distribution in spec.distributions:
        try:
            if find_spec(library) is None:
                continue
            versions.append(f"{distribution} {metadata.version(distribution)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{library} {sys.version_info[0]}.{sys.version_info[1]}")
        except ModuleNotFoundError:
            continue
    return ", ".join(versions) or "-"


def report() -> list[Row]:
    """Return a row for every backend that is known, in the order of detection."""
    rows = []
    wanted = environ.get("AE_BACKEND")
    chosen = False
    for spec in BACKENDS:
        version = _version(spec)
        why = spec.live()
        if version == "-":
            verdict = f"not installed (needs {spec.package})"
        elif wanted == spec.name:
            verdict, chosen = "chosen: AE_BACKEND", True
        elif why is not None and not wanted and not chosen:
            verdict, chosen = f"chosen: {why}", True
        elif spec.name == "loop" and not chosen and not wanted:
            verdict, chosen = "chosen: nothing else runs or is loaded", True
        elif why is not None:
            verdict = f"not chosen, although {why}"
        elif spec.name == "loop":
            verdict = "not chosen: it is the last resort"
        elif spec.name == "libev":
            verdict = "not chosen: only by name"
        else:
            verdict = "not chosen: not in use in this thread"
        rows.append(Row(spec.name, version, CAPABILITIES[spec.name], verdict))
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        version = entry.dist.version if entry.dist is not None else "?"
        by_name = wanted == entry.name
        verdict = "chosen: AE_BACKEND" if by_name else "not chosen: only by name"
        rows.append(Row(entry.name, version, entry.value, verdict))
        chosen = chosen or by_name
    if wanted and not chosen:
        rows.append(
            Row(wanted, "-", "-", "AE_BACKEND names it, but it is unknown or not installed")
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m ae_core",
        description="Show every event loop that ae_core knows, and which one it would use here; "
        "then what limits this process, and the AE_* environment variables in force.",
        epilog="Exit status: 0, 2 for bad arguments, 74 if the output cannot be written.",
    )
    parser.parse_args(arguments)
    print(f"ae_core {__version__}, Python {sys.version.split()[0]}, {sys.platform}")
    rows = [Row("backend", "version", "capabilities", "here and now"), *report()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row.verdict]))
    print()
    for name, text in limits():
        print(f"{name}: {text}")
    print("environment:", *(settings() or ["no AE_* variable"]), sep="\n  ")
    return 0


def limits() -> list[tuple[str, str]]:
    """Return what bounds the programs of this process: names and texts."""
    found = [("parallel fork_call", environ.get("AE_MAX_FORKS") or "10")]
    if find_spec("resource") is not None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = ["no limit" if n == resource.RLIM_INFINITY else str(n) for n in (soft, hard)]
        found.insert(0, ("descriptors", f"{most[0]} (may be raised to {most[1]})"))
    return found


def settings() -> list[str]:
    """Return the environment variables that the packages read, as ``NAME='value'``."""
    names = sorted(name for name in os.environ if name.startswith("AE_"))
    if names and sys.flags.ignore_environment:
        return [f"{', '.join(names)}: ignored, the interpreter runs with -E or -I"]
    return [f"{name}={os.environ[name]!r}" for name in names]


if __name__ == "__main__":
    console.run("ae_core", main)
