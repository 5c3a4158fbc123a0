"""What a row of the scorecard finds, and how it runs tests and programs."""

from __future__ import annotations

__all__ = ("ROOT", "Finding", "Length", "main", "suite")

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parents[2]

#: How much a row does: what each landing pays for, what the row states, what a night has room for.
Length = Literal["gate", "full", "nightly"]
#: What tests record with ``record_property``, and how it is told.
MEASURED: Final = {
    "grown": "doubling the input takes up to {:.2f} times the time",
    "ms": "the slowest takes {:.2f} ms",
}
#: More failed tests than these are not run again to see whether they are flaky.
MOST_AGAIN: Final = 10
#: The same of what is added up.
COUNTED: Final = {"cases": "{:,.0f} cases"}


@dataclass(frozen=True)
class Finding:
    """The figure of a row, and whether the row holds.

    Attributes:
        figure: What was measured, with its units.
        holds: Whether it is within the gate, as far as it was measured.
        short: What the row states beyond what was measured; not empty: the row falls short.
        backend: The loop, or loops, that it was measured on.
        seed: What repeats it; None where nothing is random.
        flaky: Tests that failed and passed when repeated.
    """

    figure: str
    holds: bool
    short: str = ""
    backend: str = "loop"
    seed: int | None = None
    flaky: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["green", "red"]:
        return "green" if self.holds and not self.short else "red"


@dataclass
class _Run:
    passed: int
    skipped: list[str]
    failed: list[str]
    largest: dict[str, float]
    counted: dict[str, float]
    status: int
    tail: str
    #: The failed ones as pytest wants to be asked for them.
    again: list[str] = field(default_factory=list)


def _pytest(arguments: list[str], seed: int) -> _Run:
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--junitxml={report}", f"--randomly-seed={seed}", *arguments],
            check=False,
            cwd=ROOT,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        lines = (done.stdout + done.stderr).splitlines()
        tail = " ".join([line for line in lines if not line.startswith("  File ")][-3:])
        run = _Run(0, [], [], {}, {}, done.returncode, tail)
        if not report.exists():
            return run
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            for each in case.iter("property"):
                key = each.get("name", "")
                value = float(each.get("value", "0")) if key in {*MEASURED, *COUNTED} else 0.0
                if key in MEASURED:
                    run.largest[key] = max(run.largest.get(key, 0.0), value)
                elif key in COUNTED:
                    run.counted[key] = run.counted.get(key, 0.0) + value
            skip = case.find("skipped")
            bad = case.find("failure")
            if bad is None:
                bad = case.find("error")
            if bad is not None:
                run.failed.append(f"{name}: {' '.join(bad.get('message', '').split())[:200]}")
                run.again.append(f"{case.get('file')}::{case.get('name')}")
            elif skip is not None:
                run.skipped.append(f"{name}: {skip.get('message', '')}")
            else:
                run.passed += 1
    return run


def suite(
    *arguments: str,
    least: int = 1,
    may_skip: bool = False,
    short: str = "",
    backend: str = "loop",
    seed: int = 1,
    most: dict[str, float] | None = None,
    cases: int = 0,
) -> Finding:
    """Run tests; the row holds if all pass, at least *least* of them, and none is skipped.

    What fails and passes when it is run once more, alone, is flaky: it is named, the row is red.

    *most*: what the values that tests record, by name, may be. *cases*: how many of them tests must
    have recorded.
    """
    run = _pytest(list(arguments), seed)
    figure = f"{run.passed} passed, {len(run.failed)} failed, {len(run.skipped)} skipped"
    for key, value in run.largest.items():
        figure += f"; {MEASURED[key].format(value)}"
    for key, value in run.counted.items():
        figure += f"; {COUNTED[key].format(value)}"
    if run.failed:
        figure += ": " + ", ".join(run.failed[:3])
    elif run.status:
        figure += f" (status {run.status}: {run.tail})"
    if run.skipped and not may_skip:
        figure += f" (skipped: {run.skipped[0]})"
    holds = run.status == 0 and run.passed >= least and (may_skip or not run.skipped)
    for key, bound in (most or {}).items():
        holds = holds and run.largest.get(key, float("inf")) <= bound
    holds = holds and run.counted.get("cases", 0.0) >= cases
    options = [each for each in arguments if each.startswith(("--", "-p"))]
    flaky = [
        name
        for name in (run.again if len(run.again) <= MOST_AGAIN else ())
        if _pytest([*options, name], seed).status == 0
    ]
    return Finding(figure, holds, short, backend, seed, tuple(flaky))


def main(measure: Callable[[Length], Finding]) -> None:
    """Run one row from the command line: ``python -m tools.scorecard.idle [--length gate]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--length", choices=("gate", "full", "nightly"), default="full")
    finding = measure(parser.parse_args().length)
    print(f"{finding.verdict}: {finding.figure}")
    if finding.short:
        print(f"falls short: {finding.short}")
    sys.exit(finding.verdict != "green")
