"""Check that releases of our distributions go together as their ranges say.

    python tools/check_skew.py

Two ways, by the tags (``ae-core-1.2.0``): each distribution of the checkout on the oldest release
of each lower one that its range admits, and the newest release of each on the lower ones of the
checkout, where its range admits them. Every name that a source takes from a lower package must be
there. Nothing is installed: sources of a tag are taken out of the repository.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[1]
CHECKOUT: Final = "of the checkout"
#: Run where the lower package is first in the path: prints those of the names that it lacks.
LOOK: Final = """
import importlib, json, sys
lacking = []
for name in json.load(sys.stdin):
    module, _, attribute = name.rpartition(".")
    try:
        found = hasattr(importlib.import_module(module), attribute)
    except ImportError:
        found = False
    if not found:
        try:
            importlib.import_module(name)
        except ImportError:
            lacking.append(name)
print(json.dumps(lacking))
"""


class NothingReleased(Exception):
    """There is no tag of a release yet."""


@dataclass(frozen=True)
class Source:
    """The sources of one version of a distribution."""

    name: str
    label: str
    folder: Path

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def version(self) -> Version:
        text = (self.folder / f"src/{self.module}/_version.py").read_text("utf-8")
        found = re.search(r'__version__ = "(.+?)"', text)
        assert found is not None
        return Version(found[1])

    def needs(self) -> dict[str, Requirement]:
        """Return what it requires, by name."""
        with (self.folder / "pyproject.toml").open("rb") as file:
            texts = tomllib.load(file)["project"]["dependencies"]
        return {need.name: need for need in map(Requirement, texts)}

    def uses(self, package: str) -> dict[str, str]:
        """Return each public name that it takes from *package*, and where first."""
        places: dict[str, str] = {}
        for path in sorted((self.folder / "src" / self.module).rglob("*.py")):
            where = path.relative_to(self.folder / "src")
            for line, name in names_of(ast.parse(path.read_bytes()), package):
                places.setdefault(name, f"{where}:{line}")
        return places


def names_of(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything that is taken from *package*."""
    called: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == package:
                    called[alias.asname or package] = alias.name if alias.asname else package
                    if "." in alias.name:
                        yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            if module.split(".")[0] == package:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in called
        ):
            yield node.lineno, f"{called[node.value.id]}.{node.attr}"


def git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True).stdout


def releases(root: Path, name: str) -> list[Version]:
    """Return the versions of *name* that have a tag, the oldest first."""
    tags = git(root, "tag", "--list", f"{name}-*").decode().split()
    numbers = [tag.removeprefix(f"{name}-") for tag in tags]
    return sorted(Version(number) for number in numbers if re.fullmatch(r"\d+\.\d+\.\d+", number))


def released(root: Path, name: str, version: Version, folder: Path) -> Source:
    """Take the sources of a release out of the repository."""
    target = folder / f"{name}-{version}"
    if not target.exists():
        target.mkdir()
        packed = git(root, "archive", f"{name}-{version}", f"packages/{name}")
        subprocess.run(["tar", "-x", "--strip-components=2"], cwd=target, input=packed, check=True)
    return Source(name, str(version), target)


def lacking(upper: Source, lower: Source, path: list[Path]) -> list[str]:
    """Return what *upper* takes from *lower* that is not there, with *path* to all others."""
    places = upper.uses(lower.module)
    folders = [lower.folder / "src", *path]
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        input=json.dumps(sorted(places)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.splitlines() or [""])[-1]
        return [f"{upper.name} {upper.label} on {lower.name} {lower.label}: {last}"]
    return [
        f"{upper.name} {upper.label} on {lower.name} {lower.label}: no {name} ({places[name]})"
        for name in json.loads(done.stdout)
    ]


def complaints(root: Path) -> list[str]:
    """Return what does not go together, of the checkout at *root* and its releases.

    Raises:
        NothingReleased: There is no release to compare with.
    """
    folders = sorted(path.parent for path in root.glob("packages/*/pyproject.toml"))
    here = {path.name: Source(path.name, CHECKOUT, path) for path in folders}
    known = {name: releases(root, name) for name in here}
    if not any(known.values()):
        raise NothingReleased("no distribution has a release yet, so there is no other version")
    path = [source.folder / "src" for source in here.values()]
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for upper in here.values():
            for name, need in upper.needs().items():
                admitted = [v for v in known.get(name, ()) if v in need.specifier]
                if admitted:
                    lower = released(root, name, admitted[0], Path(folder))
                    found += lacking(upper, lower, path)
        for name, versions in known.items():
            if not versions:
                continue
            upper = released(root, name, versions[-1], Path(folder))
            for needed, need in upper.needs().items():
                if needed in here and here[needed].version in need.specifier:
                    found += lacking(upper, here[needed], path)
    return found


def main() -> int:
    try:
        found = complaints(ROOT)
    except NothingReleased as error:
        print(error)
        return 0
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
