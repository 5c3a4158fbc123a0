"""What a distribution says it can do with is what the `lowest` environment tries it with."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = sorted(ROOT.glob("packages/*/pyproject.toml")) + sorted(
    ROOT.glob("examples/*/pyproject.toml")
)


def bounds(path: Path) -> Iterator[tuple[str, str | None]]:
    """Every requirement that is not ours, extras included, with its lower bound."""
    project = tomllib.loads(path.read_text("utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    for text in (*project.get("dependencies", ()), *(text for extra in extras for text in extra)):
        requirement = Requirement(text)
        if not requirement.name.startswith("ae-"):
            lower = [part.version for part in requirement.specifier if part.operator == ">="]
            yield requirement.name, lower[0] if lower else None


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_every_requirement_has_a_lower_bound(path: Path) -> None:
    assert [name for name, lower in bounds(path) if lower is None] == []


@pytest.mark.skipif(
    os.environ.get("UV_RESOLUTION") != "lowest-direct", reason="this is not the env `lowest`"
)
def test_the_oldest_versions_are_installed_where_they_are_tried() -> None:
    installed = {}
    for path in PROJECTS:
        for name, lower in bounds(path):
            try:
                found = Version(importlib.metadata.version(name))
            except importlib.metadata.PackageNotFoundError:
                continue  # a backend that is not tried here
            assert lower is not None
            installed[name] = found.release[: len(Version(lower).release)] == Version(lower).release
    assert len(installed) >= 8
    assert [name for name, oldest in installed.items() if not oldest] == []
