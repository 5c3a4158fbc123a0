"""How many wrong programs the tests find: a mutation score, by cosmic-ray, of a sample with a seed.

    python -m tools.mutation [PACKAGE ...] [--sample N] [--seconds S] [--seed N] [--json FILE]

In a copy of the checkout one place at a time is changed, places chosen by the seed among all that
can be. The tests of the package run once beforehand, for it to be known which test runs which line.
Of a change only the tests that run its line are asked, quick ones first, until one fails. The score
is the part of the changes that some test notices; it is a lower bound, since tests are asked for
``BUDGET`` seconds at most. A change that makes tests run far longer than usual counts as noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tools.scorecard.coverage import SETTINGS, parts_of

ROOT: Final = Path(__file__).resolve().parents[1]
#: The package, and the tests that must notice a change in it; not those that measure time.
TESTS: Final[dict[str, tuple[str, ...]]] = {
    "ae_dns": (
        *("packages/ae-dns", "tests/dns"),
        *("--ignore=tests/dns/test_flood.py", "--ignore=tests/dns/test_glibc.py"),
    ),
    "ae_handle": ("packages/ae-handle", "tests/handle", "--ignore=tests/handle/test_cost.py"),
    "ae_tls": ("packages/ae-tls", "tests/tls"),
}
#: What only changes annotations, ``X | None``, which nothing evaluates.
ANNOTATION: Final = "core/ReplaceBinaryOperator_BitOr_"
#: What changes nothing: of a small number, a byte or a member there is one object, so that what is
#: equal is the same.
NO_CHANGE: Final = (
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
)
#: So many seconds of tests, as they usually take, are asked about a change at most.
BUDGET: Final = 30.0
#: Parts that the tests of the package cannot reach: command lines, and what only Windows has.
LEFT_OUT: Final = ("__main__.py", "_windows.py", "_version.py")


@dataclass
class Score:
    """What became of the changes in one package."""

    possible: int = 0
    noticed: int = 0
    too_long: int = 0
    survived: list[str] = field(default_factory=list)
    covered: str = ""
    missing: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def percent(self) -> float:
        tried = self.noticed + len(self.survived)
        return 100 * self.noticed / tried if tried else 0.0


def copy_of_checkout(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        copied = target / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copied)


def environment(place: Path) -> dict[str, str]:
    """Return an environment in which the copy's packages come before the installed ones."""
    sources = [*place.glob("packages/*/src"), *place.glob("examples/*/src")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, sources)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "QT_QPA_PLATFORM": "offscreen",
    }


PYTEST: Final = "-m pytest -q -p no:cacheprovider -p no:randomly --hypothesis-seed=1"


@dataclass
class Asked:
    """Which tests run which lines, and how long they take: functions, by their ids for pytest."""

    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    covered: str = ""
    missing: dict[str, list[Any]] = field(default_factory=dict)

    def about(self, path: str, lines: Iterable[int]) -> tuple[list[str], float]:
        """Return the tests to ask about a change of these lines, and the seconds they take.

        Of lines that run at the import, or that no test runs by itself, it is all tests that run
        anything of the file.
        """
        of_file = self.lines.get(path, {})
        tests = set().union(*(of_file.get(line, set()) for line in lines))
        tests = tests or set().union(*of_file.values())
        chosen: list[str] = []
        total = 0.0
        for test in sorted(tests, key=lambda test: (self.seconds.get(test, 1.0), test)):
            total += self.seconds.get(test, 1.0)
            if chosen and total > BUDGET:
                break
            chosen.append(test)
        return chosen, min(total, BUDGET)


def ask_tests(package: str, place: Path) -> Asked:
    """Run the tests of *package* once, under coverage. Who fails by that is never asked."""
    settings, data = place / "coveragerc", place / "lines.json"
    report = place / "report.xml"
    text = SETTINGS.format(place=place, packages=package)
    # isolated children of tests import the package from where it is installed
    text += f"[paths]\nsource =\n    {place}/packages\n    */packages\n"
    settings.write_text(text.replace("[run]", "[run]\ndynamic_context = test_function"))
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run(
        [
            *(*coverage, "run", f"--rcfile={settings}", *PYTEST.split()),
            *(f"--junitxml={report}", *TESTS[package][1:]),
        ],
        cwd=place,
        check=False,
        env=environment(place),
        stdout=subprocess.DEVNULL,
    )
    subprocess.run([*coverage, "combine", "-q", f"--rcfile={settings}"], cwd=place, check=True)
    subprocess.run(
        [*coverage, "json", "-q", f"--rcfile={settings}", "--show-contexts", "-o", str(data)],
        cwd=place,
        check=True,
    )
    asked = Asked()
    seconds: dict[str, float] = defaultdict(float)
    bad = set()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('file')}::{str(case.get('name')).partition('[')[0]}"
        seconds[name] += float(case.get("time", "0"))
        if case.find("failure") is not None or case.find("error") is not None:
            bad.add(name)
    for name in bad:
        del seconds[name]
    asked.seconds = seconds
    covered = json.loads(data.read_text())
    asked.covered = parts_of(covered["totals"])
    for path, found in covered["files"].items():
        asked.missing[path] = [*found["missing_lines"], *found["missing_branches"]]
        lines = asked.lines[str((place / path).resolve())] = {}
        for line, contexts in found["contexts"].items():
            names = (context.rpartition(".") for context in contexts if context)
            ids = {f"{module.replace('.', '/')}.py::{name}" for module, _, name in names}
            lines[int(line)] = ids & seconds.keys()
    return asked


def measure(package: str, place: Path, seconds: float, seed: int, sample: int) -> Score:
    """Change *package* in the copy at *place*, again and again: a sample, for so many seconds."""
    work_db: Any = import_module("cosmic_ray.work_db")
    mutating: Any = import_module("cosmic_ray.mutating")
    outcome: Any = import_module("cosmic_ray.work_item").TestOutcome
    place = place.resolve()
    end = time.monotonic() + seconds
    asked = ask_tests(package, place)
    print(f"{package}: its own tests run {asked.covered}", flush=True)
    settings = place / "cosmic-ray.toml"
    settings.write_text(
        f"""[cosmic-ray]
module-path = "{TESTS[package][0]}/src/{package}"
timeout = 60
excluded-modules = []
test-command = "true"
[cosmic-ray.distributor]
name = "local"
"""
    )
    session = place / "session.sqlite"
    cosmic_ray = [sys.executable, "-m", "cosmic_ray.cli"]
    subprocess.run([*cosmic_ray, "init", settings, session], cwd=place, check=True)
    score = Score(covered=asked.covered, missing=asked.missing)
    os.environ.update(environment(place))
    os.chdir(place)
    with work_db.use_db(str(session), work_db.WorkDB.Mode.open) as db:
        items = [
            item
            for item in db.pending_work_items
            if not str(item.mutations[0].module_path).endswith(LEFT_OUT)
            and not item.mutations[0].operator_name.startswith(ANNOTATION)
            and item.mutations[0].operator_name not in NO_CHANGE
        ]
    # the order of the database is another each time
    items.sort(key=lambda item: str(item.mutations))
    score.possible = len(items)
    random.Random(seed).shuffle(items)
    for item in items[:sample]:
        if time.monotonic() > end:
            break
        change = item.mutations[0]
        lines = range(change.start_pos[0], change.end_pos[0] + 1)
        tests, usual = asked.about(str(Path(change.module_path).resolve()), lines)
        where = f"{change.module_path}:{change.start_pos[0]} {change.operator_name}"
        if not tests:
            score.survived.append(f"{where} (no test runs it)")
            continue
        command = " ".join([sys.executable, PYTEST, "-x", *tests])
        result = mutating.mutate_and_test(item.mutations, command, 4 * usual + 30)
        if result.test_outcome is outcome.SURVIVED:
            new = [line for line in result.diff.splitlines() if line.startswith("+")][1:]
            score.survived.append(f"{where}: {' '.join(new)}")
            print("    survived:", score.survived[-1], flush=True)
        elif result.test_outcome is not None:
            score.noticed += 1
            score.too_long += result.output == "timeout"
    return score


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", choices=[[], *TESTS], metavar="PACKAGE")
    parser.add_argument("--sample", type=int, default=150, help="changes for each package")
    parser.add_argument("--seconds", type=float, default=3 * 3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    packages = options.packages or list(TESTS)
    found = {}
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            copy_of_checkout(Path(folder))
            score = measure(
                package,
                Path(folder),
                options.seconds / len(packages),
                options.seed,
                options.sample,
            )
            os.chdir(ROOT)
        tried = score.noticed + len(score.survived)
        print(
            f"{package:10} {score.percent:5.1f} % of {tried} changes noticed ({score.too_long} by "
            f"taking too long), {score.possible} are possible, seed {options.seed}"
        )
        found[package] = {
            "percent": score.percent,
            "tried": tried,
            "too long": score.too_long,
            "survived": score.survived,
            "covered": score.covered,
            "missing": score.missing,
        }
    if options.json is not None:
        options.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
