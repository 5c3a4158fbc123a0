"""What a package index shows of the distributions: addresses, texts, words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = sorted(ROOT.glob("packages/*/pyproject.toml"))


def load(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return dict(tomllib.load(file))


HOME = load(ROOT / "pyproject.toml")["tool"]["ae"]["home"]


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_the_addresses_lead_to_one_home(path: Path) -> None:
    urls = load(path)["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert [url for url in urls.values() if not url.startswith(HOME)] == []
    assert urls["Changelog"].endswith(f"packages/{path.parent.name}/CHANGELOG.md")


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_the_long_description_has_absolute_links_only(path: Path) -> None:
    data = load(path)
    text = (path.parent / "README.md").read_text("utf-8")
    hook = data["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in hook["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    targets = re.findall(r"\[[^]]*\]\(([^)]+)\)", text)
    assert targets != []
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    ours = [target.removeprefix(HOME) for target in targets if target.startswith(HOME)]
    files = [re.sub(r"^/source/(blob|raw)/main/", "", target) for target in ours]
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_the_words_that_a_search_finds_are_there(path: Path) -> None:
    project = load(path)["project"]
    assert project["description"].startswith("AnyEvent for Python: ")
    assert {"anyevent", "asynchronous", "event loop"} <= set(project["keywords"])
    kinds = {line.partition(" :: ")[0] for line in project["classifiers"]}
    assert kinds >= {"Development Status", "Programming Language", "Topic", "Typing"}
    assert project["classifiers"] == sorted(project["classifiers"])


def test_the_documents_name_the_same_home() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    text = "".join(path.read_text("utf-8") for path in documents)
    assert set(re.findall(r"https://anyevent-python\.\w+", text)) <= {HOME}
