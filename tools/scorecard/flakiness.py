"""Row 35: the suite again and again, in random order, on a busy machine.

What fails is run once more, alone: passing then, it is flaky, and named. A run of the whole suite
takes a quarter of an hour: twenty of them are for a night. Otherwise as many as ``SECONDS`` have
room for are made of ``PARTS``, one after the other, and the row says that it falls short.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

from tools.scorecard.finding import ROOT, Finding, Length, main

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\[[^\n]*?\]|\S+)(?: - |$)", re.MULTILINE)
PARTS = ("tests/dns", "tests/tls", "tests/socket", "tests/handle")
SECONDS = 600.0


def spin() -> None:
    while True:
        pass


def pytest(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def runs(length: Length) -> Iterator[tuple[str, ...]]:
    """Yield what each run is to be of: arguments for pytest, none for the whole suite."""
    if length == "nightly":
        yield from [()] * 20
        return
    end = time.monotonic() + (60 if length == "gate" else SECONDS)
    while time.monotonic() < end:
        yield from ((part,) for part in PARTS if time.monotonic() < end)


def measure(length: Length, seed: int = 35) -> Finding:
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(2)]
    for each in busy:
        each.start()
    flaky: dict[str, None] = {}
    broken: dict[str, None] = {}
    made = 0
    try:
        for what in runs(length):
            order = f"--randomly-seed={seed + made}"
            for name in FAILED.findall(pytest(order, *what)):
                again = FAILED.findall(pytest(order, name))
                (broken if again else flaky)[f"{name} (seed {seed + made})"] = None
            made += 1
    finally:
        for each in busy:
            each.kill()
            with contextlib.suppress(ValueError):
                each.join()
    of = "the whole suite" if length == "nightly" else f"one of {', '.join(PARTS)} each"
    figure = (
        f"{made} runs ({of}) beside two busy processes: {len(flaky)} flaky, {len(broken)} broken"
    )
    if broken:
        figure += ": " + ", ".join(broken)
    short = "" if length != "full" else "20 runs of the whole suite are stated"
    return Finding(figure, not flaky and not broken, short, seed=seed, flaky=tuple(flaky))


if __name__ == "__main__":
    main(measure)
