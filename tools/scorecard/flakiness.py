"""Row 35: the whole suite again and again, in random order, on a busy machine.

A run takes a quarter of an hour: twenty of them are for no one sitting. So each whole run that is
made, by ``.ci/run`` beside its other steps and here, is written into a ledger (``runs``), and the
row is judged by the last twenty of these: it is green if all of them are there and nothing failed
in any, not even what passed when it was repeated. ``--nightly`` adds runs for three hours, beside
two busy processes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time

from tools.scorecard import runs
from tools.scorecard.finding import ROOT, Finding, Length, main

NIGHT = 3 * 3600.0


def spin() -> None:
    while True:
        pass


def run_suite(seed: int) -> None:
    """Run the whole suite once, and what failed once more; the ledger is written by both."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pytest", "-q", "-ptools.scorecard.runs"]
        command += ["-o", f"cache_dir={cache}", f"--randomly-seed={seed}"]
        for options in ([], ["--last-failed", "--last-failed-no-failures", "none"]):
            done = subprocess.run(
                [*command, *options],
                cwd=ROOT,
                env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
                stdout=subprocess.DEVNULL,
                check=False,
            )
            if done.returncode == 0:
                return


def add_runs(seconds: float) -> None:
    """Add as many runs as begin within *seconds*, beside two busy processes."""
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(2)]
    for each in busy:
        each.start()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run_suite(time.time_ns() % (1 << 32))
    finally:
        for each in busy:
            each.kill()
            with contextlib.suppress(ValueError):
                each.join()


def judge(ledger: list[runs.Run]) -> Finding:
    """Return what the runs in a ledger, oldest first, say about the row."""
    last = [run for run in ledger if runs.counts(run)][-runs.WANTED :]
    flaky = {name: None for run in last for name in run["flaky"]}
    failed = {name: None for run in last for name in run["failed"] if name not in run["flaky"]}
    unended = [f"seed {run['seed']}" for run in last if not run["ended"]]
    figure = f"{len(last)} whole runs in random order on a busy machine"
    if last:
        figure += f", {last[0]['date'][:10]} to {last[-1]['date'][:10]}"
    figure += f": {len(flaky)} tests flaky, {len(failed)} failed, {len(unended)} runs did not end"
    if failed or unended:
        figure += ": " + ", ".join([*failed, *unended][:5])
    short = "" if len(last) == runs.WANTED else f"{runs.WANTED} runs are stated"
    return Finding(figure, all(map(runs.is_clean, last)), short, "all", flaky=tuple(flaky))


def measure(length: Length) -> Finding:
    if length == "nightly":
        add_runs(NIGHT)
    return judge(runs.read(runs.ledger()))


if __name__ == "__main__":
    main(measure)
