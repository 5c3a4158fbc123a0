"""Write ``tools/ci.lock``: the version and the hashes of whatever the environments install.

    python -m tools.lock

Asks ``uv`` to resolve together what all environments of ``pyproject.toml`` ask for and what the
distributions of this checkout require, for every Python from 3.11 on. ``lowest`` is left out, which
is about other versions, ``bridges``, whose libraries do not go with the newest of the others, and
``bench`` and ``guests``, which name theirs. With ``UV_CONSTRAINT=tools/ci.lock`` in the environment
``hatch env create`` installs just these, and refuses what has other hashes; ``.ci/run`` makes its
environments so. One that is there already is left as it is.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "tools/ci.lock"
LEFT_OUT: Final = {"lowest", "bench", "bridges", "guests"}


def distributions() -> dict[str, dict[str, list[str]]]:
    """Return what each distribution of the checkout requires, by its extras; "" for always."""
    found = {}
    for path in sorted([*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("examples/*/*.toml")]):
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        found[project["name"]] = {"": project.get("dependencies", []), **extras}
    return found


def wanted() -> list[Requirement]:
    """Return all that the environments ask for, but what is in the checkout."""
    ours = distributions()
    environments = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    texts: set[str] = set()
    for name, environment in environments["tool"]["hatch"]["envs"].items():
        if name in LEFT_OUT:
            continue
        texts.update(environment.get("dependencies", ()))
        texts.update(environment.get("extra-dependencies", ()))
        for member in environment.get("workspace", {}).get("members", ()):
            requires = ours[Path(member["path"]).name]
            for extra in ("", *member.get("features", ())):
                texts.update(requires[extra])
    requirements = sorted(map(Requirement, texts), key=str)
    return [each for each in requirements if each.name not in ours]


def main() -> int:
    command = ["uv", "pip", "compile", "-", "--universal", "--python-version", "3.11"]
    options = ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "-o", str(LOCK)]
    lines = "\n".join(map(str, wanted()))
    done = subprocess.run([*command, *options], input=lines, text=True, check=False, cwd=ROOT)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
