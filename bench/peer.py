"""Run one role of one peer.

    python bench/peer.py NAME ROLE [KEY=VALUE ...]

A role is a callable taking the options as a dict, or an argv list to exec (for peers that are not
Python). What a callable returns is printed as one JSON object.
"""

from __future__ import annotations

__all__ = ("main",)

import json
import os
import sys
from pathlib import Path

import peers


def main(name: str, role: str, *pairs: str) -> None:
    """Run the role; a server role does not return."""
    run = peers.find(name)[role]
    if isinstance(run, list | tuple):
        here = str(Path(__file__).resolve().parent)
        command = [word.replace("{bench}", here) for word in run]
        os.execvp(command[0], [*command, *pairs])
    result = run(dict(pair.split("=", 1) for pair in pairs))
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
