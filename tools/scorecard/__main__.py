"""The scorecard: what is promised, measured by one command.

    python -m tools.scorecard [--gate | --nightly] [--rows 1,4-6]

Prints each row with its figure, seed, loops, gate and verdict, and fails if one is red. Without
``--gate`` it writes ``scorecard.json`` and ``docs/scorecard.md``, in which rows that were not
measured keep what was found before. ``--gate`` measures what each landing has time for, in small.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tools.scorecard.finding import ROOT, Finding, Length
from tools.scorecard.rows import ROWS, Row

JSON = ROOT / "scorecard.json"
PAGE = ROOT / "docs" / "scorecard.md"
LIBRARIES = (
    "trio", "twisted", "gevent", "uvloop", "PyGObject", "PyQt6", "PySide6-Essentials",
    "pyOpenSSL", "cryptography", "dnspython", "cbor2", "hypothesis", "pytest",
)  # fmt: skip


def versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "-"
    return found


def revision() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def measure(row: Row, length: Length) -> dict[str, Any]:
    """Measure one row, whatever happens; what is recorded of it."""
    begun = time.monotonic()
    try:
        finding = row.measure(length)
    except Exception as error:
        traceback.print_exc()
        finding = Finding(f"could not be measured: {error!r}", False)
    return {
        "number": row.number,
        "name": row.name,
        "gate": row.gate,
        "figure": finding.figure,
        "short": finding.short,
        "verdict": finding.verdict,
        "backend": finding.backend,
        "seed": finding.seed,
        "length": length,
        "seconds": round(time.monotonic() - begun, 1),
        "revision": revision(),
        "date": time.strftime("%Y-%m-%d"),
        "flaky": list(finding.flaky),
    }


def chosen(text: str | None, length: Length) -> list[Row]:
    if text is None:
        return [row for row in ROWS if length != "gate" or row.on_landing]
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return [row for row in ROWS if row.number in numbers]


def show(found: dict[str, Any]) -> None:
    seed = "" if found["seed"] is None else f", seed {found['seed']}"
    print(f"{found['number']:>2} {found['verdict']:>5}  {found['name']}: {found['figure']}")
    print(f"          gate: {found['gate']} [{found['backend']}{seed}, {found['seconds']} s]")
    if found["short"]:
        print(f"          falls short: {found['short']}")
    sys.stdout.flush()


def page(record: dict[str, Any]) -> str:
    """Return the document for a record of rows."""
    rows = record["rows"]
    green = sum(row["verdict"] == "green" for row in rows)
    counts = (
        f"{green} of {len(ROWS)} rows are green, {len(rows) - green} are red, "
        f"{len(ROWS) - len(rows)} were not measured yet."
    )
    lines = [
        "# Scorecard",
        "",
        "What is promised, measured by `hatch run scorecard` on one Linux machine. A row is green",
        "only if all that it states was measured and holds; what is missing stands in it. The",
        "command wrote this page. What depends on time is red where others use the machine, too.",
        "",
        counts,
        "",
        "| # | promise | gate | figure | loops, seed | measured | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    measured = {row["number"]: row for row in rows}
    for row in ROWS:
        found = measured.get(row.number)
        if found is None:
            lines.append(f"| {row.number} | {row.name} | {row.gate} | | | | not measured |")
            continue
        figure = found["figure"].replace("|", "/")
        if found["short"]:
            figure += f". Falls short: {found['short']}"
        seed = "" if found["seed"] is None else f", {found['seed']}"
        lines.append(
            f"| {row.number} | {row.name} | {row.gate} | {figure} | {found['backend']}{seed} | "
            f"{found['date']}, {found['revision']}, {found['length']}, {found['seconds']} s | "
            f"{found['verdict']} |"
        )
    flaky = sorted({name for row in rows for name in row["flaky"]})
    lines += ["", "## Tests that failed and passed when repeated", ""]
    lines += [f"- `{name}`" for name in flaky] or ["None in what was measured."]
    lines += ["", "## Versions", ""]
    lines.append(", ".join(f"{name} {what}" for name, what in record["versions"].items()) + ".")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scorecard", description=__doc__)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--gate", dest="length", action="store_const", const="gate")
    how.add_argument("--nightly", dest="length", action="store_const", const="nightly")
    parser.add_argument("--rows", metavar="N,N-N", help="measure these only")
    options = parser.parse_args()
    length: Length = options.length or "full"
    os.chdir(ROOT)
    red = []
    flaky: list[str] = []
    for row in chosen(options.rows, length):
        found = measure(row, length)
        show(found)
        flaky += found["flaky"]
        if found["verdict"] != "green":
            red.append(row.number)
        if length != "gate":
            # read now: others may have measured other rows meanwhile
            record: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {"rows": []}
            kept = {each["number"]: each for each in (*record["rows"], found)}
            record = {"versions": versions(), "rows": [kept[n] for n in sorted(kept)]}
            JSON.write_text(json.dumps(record, indent=1) + "\n")
            PAGE.write_text(page(record))
    for name in flaky:
        print(f"flaky: {name}")
    print(f"scorecard: {'FAILED: rows ' + ', '.join(map(str, red)) if red else 'all green'}")
    return 1 if red or flaky else 0


if __name__ == "__main__":
    sys.exit(main())
