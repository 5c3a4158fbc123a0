"""Each package has one version, its changelog leads with it, and all of them admit each other."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
REQUIRES: dict[str, set[str]] = {  # of ours
    "packages/ae-core": set(),
    "packages/ae-socket": {"ae-core"},
    "packages/ae-dns": {"ae-core", "ae-socket"},
    "packages/ae-handle": {"ae-core", "ae-socket"},
    "packages/ae-tls": {"ae-core", "ae-socket", "ae-handle"},
    "packages/ae-guests": {"ae-core"},
    "examples/ae-redis": {"ae-socket", "ae-handle"},
    "examples/ae-http": {"ae-socket", "ae-handle"},
    "examples/ae-irc": {"ae-socket", "ae-handle"},
    "examples/ae-weechat": {"ae-core"},
}
FOLDERS = {Path(folder).name: ROOT / folder for folder in REQUIRES}
DISTRIBUTIONS = tuple(FOLDERS)


def project(name: str) -> dict[str, Any]:
    with (FOLDERS[name] / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def version(name: str) -> str:
    module = importlib.import_module(name.replace("-", "_") + "._version")
    return str(module.__version__)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_changelog_leads_with_the_version(name: str) -> None:
    text = (FOLDERS[name] / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert newest is not None
    assert newest[1] == version(name)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_door_shows_the_version(name: str) -> None:
    assert importlib.import_module(name.replace("-", "_")).__version__ == version(name)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_ranges_admit_the_current_versions_and_never_a_version_below_one(name: str) -> None:
    """Below 1.0 the name ``ae-core`` belongs to somebody else's project on the public index."""
    ours = [Requirement(text) for text in project(name)["dependencies"]]
    ours = [requirement for requirement in ours if requirement.name in DISTRIBUTIONS]
    assert [r.name for r in ours if version(r.name) not in r.specifier] == []
    assert [r.name for r in ours if r.specifier.contains("0.9") or "2.0" in r.specifier] == []
    assert all("==" not in str(requirement.specifier) for requirement in ours)


@pytest.mark.parametrize("folder", REQUIRES)
def test_only_lower_layers_are_required(folder: str) -> None:
    required = {Requirement(text).name for text in project(Path(folder).name)["dependencies"]}
    assert required & set(DISTRIBUTIONS) == REQUIRES[folder]


def test_the_workspace_itself_is_no_distribution_and_its_scripts_exist() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        workspace = tomllib.load(file)
    assert "project" not in workspace
    words = str([env.get("scripts") for env in workspace["tool"]["hatch"]["envs"].values()])
    files = set(re.findall(r"python (\S+\.py)", words))
    assert "examples/demo.py" in files
    assert [name for name in files if not (ROOT / name).is_file()] == []
