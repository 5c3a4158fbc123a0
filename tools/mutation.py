"""How many wrong programs the tests find: a mutation score, by cosmic-ray, bounded by time.

    python tools/mutation.py [PACKAGE ...] [--seconds S] [--seed N] [--json FILE]

In a copy of the checkout one place at a time is changed, places chosen by the seed among all that
can be, and the tests of the package run until the first failure. The score is the part of the
changes that some test notices. As many are tried as the time allows, the same part of it for each
package. A change that makes a test run three times as long as usual counts as noticed.
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
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
#: The package, and the tests that must notice a change in it.
TESTS: Final = {
    "ae_dns": ("packages/ae-dns", "tests/dns"),
    "ae_handle": ("packages/ae-handle", "tests/handle"),
    "ae_tls": ("packages/ae-tls", "tests/tls"),
}
#: What only changes annotations, ``X | None``, which nothing evaluates.
NO_CHANGE: Final = "core/ReplaceBinaryOperator_BitOr_"
#: Parts that the tests of the package cannot reach: command lines, and what only Windows has.
LEFT_OUT: Final = ("__main__.py", "_windows.py", "_version.py")


@dataclass
class Score:
    """What became of the changes in one package."""

    possible: int = 0
    noticed: int = 0
    survived: list[str] = field(default_factory=list)

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


def measure(package: str, place: Path, seconds: float, seed: int) -> Score:
    """Change *package* in the copy at *place*, again and again, for *seconds*."""
    work_db: Any = import_module("cosmic_ray.work_db")
    mutating: Any = import_module("cosmic_ray.mutating")
    outcome: Any = import_module("cosmic_ray.work_item").TestOutcome
    directory, tests = TESTS[package]
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
    begun = time.monotonic()
    subprocess.run(command.split(), cwd=place, check=True, env=environment(place))
    usual = time.monotonic() - begun
    settings = place / "cosmic-ray.toml"
    settings.write_text(
        f"""[cosmic-ray]
module-path = "{directory}/src/{package}"
timeout = {3 * usual}
excluded-modules = []
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
"""
    )
    session = place / "session.sqlite"
    cosmic_ray = [sys.executable, "-m", "cosmic_ray.cli"]
    subprocess.run([*cosmic_ray, "init", settings, session], cwd=place, check=True)
    score = Score()
    os.environ.update(environment(place))
    os.chdir(place)
    with work_db.use_db(str(session), work_db.WorkDB.Mode.open) as db:
        items = [
            item
            for item in db.pending_work_items
            if not str(item.mutations[0].module_path).endswith(LEFT_OUT)
            and not item.mutations[0].operator_name.startswith(NO_CHANGE)
        ]
    score.possible = len(items)
    random.Random(seed).shuffle(items)
    end = time.monotonic() + seconds
    for item in items:
        if time.monotonic() > end:
            break
        result = mutating.mutate_and_test(item.mutations, command, 3 * usual)
        if result.test_outcome is outcome.SURVIVED:
            change = item.mutations[0]
            score.survived.append(
                f"{change.module_path}:{change.start_pos[0]} {change.operator_name}"
            )
        elif result.test_outcome is not None:
            score.noticed += 1
    return score


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", choices=[[], *TESTS], metavar="PACKAGE")
    parser.add_argument("--seconds", type=float, default=3 * 3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    packages = options.packages or list(TESTS)
    found = {}
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            copy_of_checkout(Path(folder))
            score = measure(package, Path(folder), options.seconds / len(packages), options.seed)
            os.chdir(ROOT)
        tried = score.noticed + len(score.survived)
        print(
            f"{package:10} {score.percent:5.1f} % of {tried} changes noticed, "
            f"{score.possible} are possible, seed {options.seed}"
        )
        for change in score.survived:
            print("    survived:", change)
        found[package] = {"percent": score.percent, "tried": tried, "survived": score.survived}
    if options.json is not None:
        options.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
