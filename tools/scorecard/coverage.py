"""Row 1: what the suite runs of the distributions, by lines and branches, child processes included.

Tests of cost do not run: what they measure is mostly the tracer. For the same reason a test is a
hang only after ``HANG`` seconds. What fails under it all the same stands in the figure; that the
suite passes is another row's.

Left out, with the reason: what only another system can run, the branches past
``register_at_fork`` and ``waitid`` among it; what only another interpreter than CPython imports;
what finalizers do while the interpreter goes down, when the measurement has ended; protocols'
bodies, blocks and a module for type checkers, which nothing runs; copies that tests make of a
package, which are gone when the report is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.scorecard.finding import ROOT, Finding, Length, main

#: Seconds: what takes the tests a minute takes them several under a tracer.
HANG = 900
PACKAGES = ("ae_core", "ae_socket", "ae_dns", "ae_handle", "ae_tls", "ae_guests")
PLUGINS = ("ae_core_pytest", "ae_socket_pytest", "ae_handle_pytest")
COSTS = "tests/handle/test_cost.py"
OPTIONS = ("-q", "-p", "no:cacheprovider", f"--hang={HANG}", f"--ignore={COSTS}")
SETTINGS = """
[run]
branch = true
parallel = true
patch = subprocess, _exit
concurrency = thread
data_file = {place}/data
source_pkgs = {packages}
[report]
exclude_also =
    if TYPE_CHECKING:
    class .*\\(Protocol\\):
    ^\\s*\\.\\.\\.$
    if sys\\.platform == "win32"
    if os\\.name == "nt":
    class Kqueue\\(Multiplexer\\):
    if is_finalizing\\(\\):
    except ImportError:  # (PyPy|another interpreter)
    if sys\\.platform != "linux":
    if .* and os\\.name != "posix":
    raise NotImplementedError
partial_also =
    if hasattr\\(os, "(register_at_fork|waitid)"\\):
    if not is_finalizing\\(\\):
omit =
    */_windows.py
    */children_windows.py
    */windows.py
    */_select_thread.py
    */ae_handle/_protocol/owner.py
    */pytest-of-*
"""


def mutation_scores() -> dict[str, Any]:
    """Return what ``tools/mutation.py`` finds in three hours, by package."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "mutation.json")
        subprocess.run(
            ["hatch", "run", "mutation:score", "--json", str(report)], cwd=ROOT, check=True
        )
        found: dict[str, Any] = json.loads(report.read_text())
    return found


def parts_of(totals: dict[str, Any]) -> str:
    """Return what of the lines and of the branches runs, as words."""
    lines = 100 * totals["covered_lines"] / totals["num_statements"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    return f"{lines:.2f} % of the lines, {branches:.2f} % of the branches"


def measure(length: Length) -> Finding:
    where = ("tests/tls",) if length == "gate" else ()
    with tempfile.TemporaryDirectory() as place:
        settings = Path(place, "coveragerc")
        settings.write_text(SETTINGS.format(place=place, packages=",".join(PACKAGES + PLUGINS)))
        coverage = [sys.executable, "-m", "coverage"]
        own = [f"--rcfile={settings}"]
        tests = subprocess.run(
            [*coverage, "run", *own, "-m", "pytest", *OPTIONS, *where],
            cwd=ROOT,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
            capture_output=True,
            text=True,
            check=False,
        )
        subprocess.run([*coverage, "combine", "-q", *own], cwd=ROOT, check=True)
        report = Path(place, "report.json")
        subprocess.run([*coverage, "json", "-q", *own, "-o", str(report)], cwd=ROOT, check=True)
        totals = json.loads(report.read_text())["totals"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    last = tests.stdout.strip().splitlines()[-1:] or ["no output"]
    figure = f"{parts_of(totals)} ({last[0]})"
    ended = tests.returncode in (0, 1)  # 1: a test has failed
    good = ended and totals["missing_lines"] == 0 and branches >= 98
    if length == "nightly":
        scores = mutation_scores()
        figure += "; changes noticed: " + ", ".join(
            f"{name} {score['percent']:.0f} % of {score['tried']}" for name, score in scores.items()
        )
        good = good and all(score["percent"] >= 85 for score in scores.values())
    return Finding(figure, good)


if __name__ == "__main__":
    main(measure)
