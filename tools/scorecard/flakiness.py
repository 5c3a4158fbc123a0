"""Row 35: the whole suite again and again, in random order, on a busy machine.

What fails is run once more, alone: passing then, it is flaky, and named.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import subprocess
import sys

from tools.scorecard.finding import ROOT, Finding, Length, main

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\[[^\n]*?\]|\S+)(?: - |$)", re.MULTILINE)


def spin() -> None:
    while True:
        pass


def pytest(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout


def measure(length: Length, seed: int = 35) -> Finding:
    runs = {"gate": 1, "full": 20, "nightly": 200}[length]
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(2)]
    for each in busy:
        each.start()
    flaky: dict[str, None] = {}
    broken: dict[str, None] = {}
    try:
        for run in range(runs):
            for name in FAILED.findall(pytest(f"--randomly-seed={seed + run}")):
                again = FAILED.findall(pytest(f"--randomly-seed={seed + run}", name))
                (broken if again else flaky)[f"{name} (seed {seed + run})"] = None
    finally:
        for each in busy:
            each.kill()
            with contextlib.suppress(ValueError):
                each.join()
    figure = f"{runs} runs beside two busy processes: {len(flaky)} flaky, {len(broken)} broken"
    if broken:
        figure += ": " + ", ".join(broken)
    return Finding(figure, not flaky and not broken, seed=seed, flaky=tuple(flaky))


if __name__ == "__main__":
    main(measure)
