"""``python -m ae_core.testing [BACKEND ...]``: the conformance suite on every loop there is.

One line per loop, each run in a process of its own: name, the library's version, demands met,
demands that do not apply and why, seconds, and how often the process was woken in five idle
seconds. Exit status 1 if a demand was not met, or a loop named by ``--require`` is missing.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any

from .. import _api, console
from .._async.tasks import run, sleep
from .._base.errors import BackendUnavailable
from ._binding import binding
from ._conformance.check import ConformanceError, check_backend

IDLE_SECONDS = 5.0

# name of the row: backend, module that must be there, distribution that tells the version, options
Row = tuple[str, str, str, Callable[[], dict[str, Any]]]
ROWS: dict[str, Row] = {
    "loop-epoll": ("loop", "select", "ae-core", lambda: {"multiplexer": "epoll"}),
    "loop-kqueue": ("loop", "select", "ae-core", lambda: {"multiplexer": "kqueue"}),
    "loop-poll": ("loop", "select", "ae-core", lambda: {"multiplexer": "poll"}),
    "loop-select": ("loop", "select", "ae-core", lambda: {"multiplexer": "select"}),
    "asyncio": ("asyncio", "asyncio", "", dict),
    "asyncio-thread": ("asyncio", "asyncio", "", lambda: {"select_thread": True}),
    "asyncio-uvloop": (
        "asyncio",
        "uvloop",
        "uvloop",
        lambda: {"loop_factory": import_module("uvloop").new_event_loop},
    ),
    "trio": ("trio", "trio", "trio", dict),
    "gevent": ("gevent", "gevent", "gevent", dict),
    "libev": ("libev", "gevent", "gevent", dict),
    "twisted": ("twisted", "twisted", "Twisted", dict),
    "glib": ("glib", "gi", "PyGObject", dict),
    "qt-pyqt6": ("qt", "PyQt6.QtCore", "PyQt6", dict),
    "qt-pyside6": ("qt", "PySide6.QtCore", "PySide6-Essentials", dict),
    "tk": ("tk", "tkinter", "", dict),
}


def _wakeups() -> int:
    """Return how often this process has given up the processor by itself."""
    with open("/proc/self/status", encoding="ascii") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt"))


def _idle(name: str, options: dict[str, Any]) -> str:
    """Return how often the loop woke up in five seconds in which nothing happened."""
    if sys.platform != "linux":
        return "-"
    reader, writer = os.pipe()

    async def measure() -> int:
        # one watcher of each sort that could be polled for
        with _api.io(reader, "r", lambda: None), _api.timer(3600.0, lambda: None):
            await sleep(0.05)
            before = _wakeups()
            await sleep(IDLE_SECONDS)
            return _wakeups() - before

    try:
        with binding(name, **options):
            # the wait itself, and its end
            return str(max(run(measure()) - 2, 0))
    finally:
        os.close(reader)
        os.close(writer)


def _run_one(row: str) -> dict[str, Any]:
    name, module, distribution, options = ROWS[row]
    started = time.monotonic()
    found: dict[str, Any] = {"row": row, "version": "-", "passed": 0, "failed": [], "na": {}}
    try:
        import_module(module)
        settings = options()
        with binding(name, **settings):
            _api.now()
    except (ImportError, ValueError, BackendUnavailable) as error:
        found["missing"] = str(error)
        return found
    version = "{}.{}.{}".format(*sys.version_info)
    found["version"] = metadata.version(distribution) if distribution else version
    try:
        report = check_backend(name, **settings)
    except ConformanceError as error:
        report = error.report
    found["passed"] = sum(result.outcome == "ok" for result in report.results)
    found["failed"] = [repr(result) for result in report.failed]
    for result in report.skipped:
        found["na"][result.text] = found["na"].get(result.text, 0) + 1
    found["seconds"] = time.monotonic() - started
    found["idle"] = _idle(name, settings)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m ae_core.testing",
        description="Run the conformance suite on every loop there is, each in a process of its "
        "own. One line for each: the library's version, demands met, demands that do not apply and "
        "why, seconds, and how often the process was woken in five idle seconds.",
        epilog="Exit status: 0, 1 if a demand was not met or a required loop is missing, 2 for bad "
        "arguments, 74 if the output cannot be written.",
    )
    parser.add_argument("row", nargs="*", choices=[*ROWS, []], metavar="LOOP", help="default: all")
    parser.add_argument("--require", default="", metavar="A,B", help="loops that must be there")
    parser.add_argument("--one", choices=list(ROWS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_run_one(options.one)))
        return 0
    bad = False
    required = set(filter(None, options.require.split(",")))
    environment = {"QT_QPA_PLATFORM": "offscreen", **os.environ}
    for row in options.row or ROWS:
        command = [sys.executable, "-m", "ae_core.testing", "--one", row]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"{row:15} ended with status {done.returncode}", flush=True)
            bad = True
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        if "missing" in found:
            print(f"{row:15} not here: {found['missing']}", flush=True)
            bad = bad or row in required
            continue
        reasons = "; ".join(f"{count} {why}" for why, count in found["na"].items()) or "none"
        print(
            f"{row:15} {found['version']:9} {found['passed']:3} passed, "
            f"{len(found['failed'])} failed, not applicable: {reasons}, "
            f"{found['seconds']:.1f} s, {found['idle']} idle wake-ups",
            flush=True,
        )
        for text in found["failed"]:
            print(f"    {text}", flush=True)
            bad = True
    return 1 if bad else 0


if __name__ == "__main__":
    console.run("ae_core.testing", main)
