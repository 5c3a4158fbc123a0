"""A ledger of runs of the whole suite, and the pytest plugin that writes it.

    python -m pytest -ptools.scorecard.runs
    python -m pytest -ptools.scorecard.runs --last-failed    # what failed, once more: is it flaky?

Each line of ``runs.jsonl`` beside this file (or of the file that ``SCORECARD_RUNS`` names) is one
run. It is written when the run begins, as one that has not ended, and again at its end: a run that
hangs or crashes stays what it was at its beginning. Row 35 of the scorecard is judged by the last
``WANTED`` runs.

Not written is a run of a part of the suite, one in no random order, one that somebody stopped, and
one of a checkout with changes, which is of no revision.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
#: How many runs the row is judged by.
WANTED: Final = 20
#: Counts up when what a run proves changes; runs with another number do not count.
MEANING: Final = 1
#: What may be changed in the checkout that runs: what the scorecard writes.
WRITTEN: Final = ("tools/scorecard/runs.jsonl", "scorecard.json", "docs/scorecard.md")

Run = dict[str, Any]


def ledger() -> Path:
    return Path(os.environ.get("SCORECARD_RUNS") or ROOT / WRITTEN[0])


def read(path: Path) -> list[Run]:
    """Return the runs that stand in *path*, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def write(path: Path, run: Run, *, forget: bool = False) -> None:
    """Write *run* at the end of *path*, and nothing else of it; *forget*: nothing at all."""
    runs = [each for each in read(path) if each["run"] != run["run"]]
    runs += [] if forget else [run]
    path.write_text("".join(json.dumps(each) + "\n" for each in runs), "utf-8")


def revision(root: Path) -> str | None:
    """Return the revision of the checkout at *root*; None if it is none, or has changes."""

    def git(*words: str) -> str | None:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", *_but(WRITTEN))
    return git("rev-parse", "--short=12", "HEAD") if changes == "" else None


def _but(paths: Iterable[str]) -> list[str]:
    return [f":(exclude){path}" for path in paths]


def counts(run: Run) -> bool:
    """Return whether *run* is one that row 35 is about: in random order, on a busy machine."""
    return bool(run["meaning"] == MEANING and (not run["ended"] or run["load"] >= run["cpus"]))


def is_clean(run: Run) -> bool:
    """Return whether *run* ended, and nothing failed in it, not even what passed when repeated."""
    return bool(run["ended"] and not run["failed"])


# ---------------------------------------------------------------------- the plugin


def is_whole(config: pytest.Config) -> bool:
    """Return whether the whole suite runs, in random order."""
    options = config.option
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (
        options.keyword
        or options.markexpr
        or options.deselect
        or options.ignore
        or options.ignore_glob
        or options.maxfail
        or options.collectonly
        or not getattr(options, "randomly_reorganize", False)
    )


class Recorder:
    """Records one run."""

    def __init__(self, path: Path, run: Run, *, again: bool) -> None:
        self.path = path
        self.run = run
        self.again = again
        self.failed: dict[str, None] = {}
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = None
        elif report.when == "call" and report.passed:
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = None

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.again:
            self.run["flaky"] = [name for name in self.run["failed"] if name not in self.failed]
        elif exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            return  # it has not ended
        elif exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            write(self.path, self.run, forget=True)  # somebody stopped it, or there was none
            return
        else:
            seconds = time.time() - self.run["begun"]
            self.run |= {
                "ended": True,
                "passed": self.passed,
                "failed": list(self.failed),
                "seconds": round(seconds),
                "load": _load(seconds),
            }
        write(self.path, self.run)


def _load(seconds: float) -> float:
    """Return how many processes wanted to run, on average over about so many seconds."""
    one, five, fifteen = os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)
    return round(fifteen if seconds > 600 else five if seconds > 120 else one, 2)


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    of = revision(config.rootpath)
    path = ledger()
    if getattr(config.option, "lf", False):
        runs = read(path)
        if runs and runs[-1]["revision"] == of and runs[-1]["failed"]:
            config.pluginmanager.register(Recorder(path, runs[-1], again=True))
        return
    if of is None or not is_whole(config):
        return
    run: Run = {
        "run": f"{time.time():.3f}-{os.getpid()}",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "revision": of,
        "meaning": MEANING,
        "seed": config.option.randomly_seed,
        "python": sys.version.split()[0],
        "cpus": os.cpu_count() or 1,
        "begun": round(time.time()),
        "ended": False,
        "passed": 0,
        "failed": [],
        "flaky": [],
        "seconds": 0,
        "load": 0.0,
    }
    write(path, run)
    config.pluginmanager.register(Recorder(path, run, again=False))
