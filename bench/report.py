"""Tables from the lines that run.py wrote.

    python bench/report.py FILE [--best] [--scenario PREFIX]

One table per scenario, a column per metric, "value (ratio to the baseline)", the best peer first,
floors in italics. With --best: one table, the two best peers of each metric beside the floors.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import json
from pathlib import Path
from typing import Any, Final

FLOORS: Final = ("py-floor", "c-floor", "pyopenssl-floor", "python-bare")
SORT_BY: Final = {"watchers": "total"}
BASE: Final = "asyncio-proto"

Record = dict[str, Any]
Rows = dict[str, dict[str, Record]]  # peer -> metric -> record


def number(x: float) -> str:
    for limit, divisor, suffix in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(x) >= limit:
            return f"{x / divisor:.3g}{suffix}"
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"


def cell(record: Record | None) -> str:
    if record is None:
        return ""
    ratio = f" ({record['ratio']:.2f})" if "ratio" in record else ""
    return number(record["value"]) + ratio


def title(metric: str, record: Record) -> str:
    return f"{metric}, {record['unit']}" if record["unit"] else metric


def read(path: Path, prefix: str) -> dict[str, Rows]:
    """Read the lines of *path*; of two results for the same thing the newer counts."""
    data: dict[str, Rows] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["scenario"].startswith(prefix):
            rows = data.setdefault(record["scenario"], {}).setdefault(record["peer"], {})
            if record["metric"] == "failed":
                rows.clear()
            else:
                rows.pop("failed", None)
            rows[record["metric"]] = record
    return data


def metrics_of(rows: Rows) -> dict[str, Record]:
    """The metrics that occur, each with one of its records."""
    found: dict[str, Record] = {}
    for metrics in rows.values():
        for metric, record in metrics.items():
            if metric != "failed":
                found.setdefault(metric, record)
    return found


def ranked(rows: Rows, metric: str, better: str) -> list[str]:
    """The peers that have *metric*, the best first."""
    sign = 1 if better == "low" else -1
    return sorted(
        (p for p in rows if metric in rows[p]), key=lambda p: sign * rows[p][metric]["value"]
    )


def print_tables(data: dict[str, Rows]) -> None:
    for scenario, rows in data.items():
        metrics = metrics_of(rows)
        print(f"### {scenario}\n")
        if metrics:
            key = SORT_BY.get(scenario, next(iter(metrics)))
            order = ranked(rows, key, metrics[key]["better"])
            order += [p for p in rows if p not in order and "failed" not in rows[p]]
            print("| peer | " + " | ".join(title(m, r) for m, r in metrics.items()) + " |")
            print("|---|" + "---:|" * len(metrics))
            for peer in order:
                name = f"*{peer}*" if peer.startswith(FLOORS) else peer
                print(f"| {name} | " + " | ".join(cell(rows[peer].get(m)) for m in metrics) + " |")
            print()
        for peer, found in rows.items():
            if "failed" in found:
                print(f"{peer} failed: {found['failed']['unit']}\n")


def print_best(data: dict[str, Rows]) -> None:
    print(f"| scenario | metric | {BASE} | best peer | second | py-floor | c-floor |")
    print("|---|---|---:|---|---|---:|---:|")
    for scenario, rows in data.items():
        for metric, record in metrics_of(rows).items():
            by_peer = {peer: found.get(metric) for peer, found in rows.items()}
            order = ranked(rows, metric, record["better"])
            order = [peer for peer in order if not peer.startswith(FLOORS)]
            if not order:
                continue
            base = by_peer.get(BASE)
            cells = [number(base["value"]) if base else ""]
            cells += [f"{peer} {cell(by_peer[peer])}" for peer in order[:2]]
            cells += [""] * (3 - len(cells))
            cells += [cell(by_peer.get("py-floor")), cell(by_peer.get("c-floor"))]
            print(f"| {scenario} | {title(metric, record)} | " + " | ".join(cells) + " |")


def main() -> None:
    """Print the tables of one file of results."""
    parser = argparse.ArgumentParser(description="Tables from the lines that run.py wrote.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--best", action="store_true", help="one table of the best peers")
    parser.add_argument("--scenario", default="", metavar="PREFIX", help="only these")
    options = parser.parse_args()
    data = read(options.file, options.scenario)
    (print_best if options.best else print_tables)(data)


if __name__ == "__main__":
    main()
