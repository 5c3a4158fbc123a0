"""Every name on the right of ``docs/porting.md`` exists, and the environment table agrees."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"`([^`]+)`")
PATH = re.compile(r"(ae_\w+)((?:\.\w+)*)(?:\((\w+)=\))?")


def rows() -> list[tuple[str, str]]:
    """The left and the right cell of every row."""
    lines = (ROOT / "docs" / "porting.md").read_text("utf-8").splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:3] for line in lines if line.startswith("| `")]
    return [(left, right) for left, right in cells]


def names() -> list[str]:
    found = [name for _, right in rows() for name in CODE.findall(right)]
    return sorted({name for name in found if name.startswith(("ae_", "AE_"))})


def look_up(text: str) -> object:
    """Return what *text* names; a keyword is looked up among the parameters of the call."""
    match = PATH.fullmatch(text)
    assert match is not None, f"not a name: {text}"
    package, attributes, keyword = match.groups()
    found: object = importlib.import_module(package)
    path = package
    for attribute in attributes.split(".")[1:]:
        path += "." + attribute
        if not hasattr(found, attribute) and inspect.ismodule(found):
            importlib.import_module(path)
        found = getattr(found, attribute)
    if keyword is not None:
        assert callable(found)
        return inspect.signature(found).parameters[keyword]
    return found


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("ae_")])
def test_the_name_exists(name: str) -> None:
    look_up(name)


def test_every_row_has_an_answer() -> None:
    assert len(rows()) > 80
    empty = [left for left, right in rows() if not CODE.search(right) and "- (" not in right]
    assert empty == []


def test_the_environment_variables_are_those_of_the_table_of_variables() -> None:
    table = (ROOT / "docs" / "environment.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(AE_\w+)`", table, re.MULTILINE))
    assert {name for name in names() if name.startswith("AE_")} - documented == set()


def test_the_sources_read_only_documented_variables() -> None:
    table = (ROOT / "docs" / "environment.md").read_text("utf-8")
    sources = [path.read_text("utf-8") for path in (ROOT / "packages").rglob("src/**/*.py")]
    read = {name for text in sources for name in re.findall(r"[\"'](AE_[A-Z0-9_]+)[\"']", text)}
    documented = set(re.findall(r"^\| `(AE_\w+)`", table, re.MULTILINE))
    assert read - documented == set()
    assert documented - read == set()


@pytest.mark.parametrize("name", ["ae_core.nosuch", "ae_core.io(nosuch=)"])
def test_the_look_up_can_fail(name: str) -> None:
    with pytest.raises((AttributeError, KeyError, ImportError)):
        look_up(name)
