"""What the benches of the libraries under ``examples/`` share: turns, and the table in a README.

A bench runs itself once for each contestant and round, with ``--one NAME``, which prints a rate.
"""

from __future__ import annotations

__all__ = ("MISSING", "medians", "put_into_readme")

import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

#: The status with which ``--one`` ends if the library of the contestant is not installed.
MISSING: Final = 3


def medians(names: Iterable[str], rounds: int, command: Sequence[str]) -> dict[str, float]:
    """Let the contestants take turns, and return the median rate of each that is installed.

    Args:
        names: The contestants.
        rounds: How often each is measured.
        command: Measures the one whose name is put after it.
    """
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in names:
            done = subprocess.run([*command, name], stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode == MISSING:
                continue
            if done.returncode:
                sys.exit(f"{name} failed with status {done.returncode}")
            found.setdefault(name, []).append(float(done.stdout.split()[-1]))
    return {name: statistics.median(rates) for name, rates in found.items()}


def put_into_readme(table: str, bench: str) -> None:
    """Write *table* between the marks in the README beside the file *bench*."""
    readme = Path(bench).with_name("README.md")
    text, count = re.subn(
        r"(?s)(<!-- bench -->\n).*?(?=<!-- /bench -->)",
        lambda marks: f"{marks[1]}{table}\n",
        readme.read_text("utf-8"),
    )
    if count != 1:
        sys.exit(f"{readme}: expected one pair of marks, found {count}")
    readme.write_text(text, "utf-8")
