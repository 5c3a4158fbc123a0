"""Measure the peers side by side.

    python bench/run.py [--rounds 5] [--peers a,b] [--out FILE] [SCENARIO ...]

Needs what ``bench/README.md`` lists; a peer that is not installed drops out by itself.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
from pathlib import Path

from contests import Contests
from processes import prepare
from scenarios import SCENARIOS


def main() -> None:
    """Run the scenarios named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description="Measure the peers side by side.")
    add = parser.add_argument
    add("scenario", nargs="*", choices=[[], *SCENARIOS], help="default: all")
    add("--rounds", type=int, default=5, help="measurements of each peer")
    add("--seconds", type=float, default=0.3, help="length of one measured window")
    add("--idle", type=int, default=5000, help="connections of the memory scenario")
    add("--peers", type=lambda text: set(text.split(",")), help="only these (no baseline added)")
    add("--only", metavar="PREFIX", default="", help="only contests whose name starts so")
    add("--before", type=Path, metavar="TREE", help="compare --peers with another checkout")
    add("--out", type=Path, help="append the JSON lines to this file too")
    options = parser.parse_args()
    if options.before and not (options.before / "packages" / "ae-core").is_dir():
        parser.error(f"{options.before} is not a checkout of this repository")
    if options.before and not options.peers:
        parser.error("--before needs --peers, those of this project")
    prepare()
    run = Contests(
        rounds=options.rounds,
        seconds=options.seconds,
        idle=options.idle,
        only=options.only,
        chosen=options.peers,
        out=options.out,
        before=options.before and options.before.resolve(),
    )
    for name in options.scenario or SCENARIOS:
        SCENARIOS[name](run)


if __name__ == "__main__":
    main()
