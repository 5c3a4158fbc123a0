"""What strict mode and wrapped watchers cost: the table at the end of docs/debugging.md.

    python bench/debugging_aids.py

Microseconds, the best of several rounds, on the built-in loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import ae_core as ae
from ae_core import debug, strict

TURNS = 10_000
ROUNDS = 7


def nothing() -> None:
    """A callback."""


def timers() -> float:
    """Make and cancel timers; return the microseconds for one."""
    started = time.perf_counter()
    for _ in range(TURNS):
        watcher = ae.timer(60, nothing)
        watcher.cancel()
    return (time.perf_counter() - started) / TURNS * 1e6


def events() -> float:
    """Serve a pipe that is always writable; return the microseconds for one event."""
    left = TURNS
    done = ae.CondVar[None]()

    def writable() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.send()

    reader, writer = os.pipe()
    watcher = ae.io(writer, "w", writable)
    started = time.perf_counter()
    done.recv()
    took = time.perf_counter() - started
    watcher.cancel()
    os.close(reader)
    os.close(writer)
    return took / TURNS * 1e6


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(ROUNDS))


def main() -> None:
    def row(name: str) -> None:
        print(f"{name:8}{best(timers):12.2f} us{best(events):12.2f} us", flush=True)

    ae.use("loop")
    print(f"{'':8}{'timer':>15}{'event':>15}")
    row("off")
    strict.enable()
    row("strict")
    strict.disable()
    for level in (1, 2):
        debug.wrap(level)
        row(f"wrap {level}")
    debug.wrap(0)


if __name__ == "__main__":
    main()
