"""Check that a staged change of a package brings a newsfragment for its users.

    python tools/check_fragments.py [FILE ...]

FILE are the changed paths; without them, those that git has staged. A package whose changelog has
no released version yet needs none: everything in it is new.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TYPES = ("breaking", "feature", "bugfix", "deprecated", "doc", "misc")
FRAGMENT = re.compile(rf"packages/(?P<name>[^/]+)/newsfragments/[^/]+\.({'|'.join(TYPES)})\.md")
SOURCE = re.compile(r"packages/(?P<name>[^/]+)/src/.+")


def missing(changed: list[str]) -> set[str]:
    """The packages whose sources changed without a fragment."""
    sources = {found["name"] for path in changed if (found := SOURCE.fullmatch(path))}
    fragments = {found["name"] for path in changed if (found := FRAGMENT.fullmatch(path))}
    return sources - fragments


def is_released(name: str) -> bool:
    """Whether a tag of *name* exists: tags read ``ae-core-1.0.0``."""
    command = ("git", "tag", "--list", f"{name}-[0-9]*")
    return bool(subprocess.run(command, check=True, text=True, stdout=-1).stdout.strip())


def main() -> int:
    command = ("git", "diff", "--cached", "--name-only")
    staged = subprocess.run(command, check=True, text=True, stdout=-1).stdout.splitlines()
    names = sorted(name for name in missing(sys.argv[1:] or staged) if is_released(name))
    for name in names:
        where = Path("packages", name, "newsfragments")
        print(f"{name} changed: expected a fragment {where}/<issue>.<{'|'.join(TYPES)}>.md")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
