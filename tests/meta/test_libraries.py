"""The page about the libraries: each has a row, and the rows say what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "libraries.md").read_text("utf-8")
ROWS = [
    (cells[0], cells[2], cells[3])
    for line in re.findall(r"^\| (?!what|---)(.+) \|$", PAGE, re.MULTILINE)
    if len(cells := line.split(" | ")) == 4
]
#: What the rows call something that is not a distribution of its own.
MODULES = {
    "`ae_handle.anyio`": "packages/ae-handle/src/ae_handle/anyio.py",
    "`ae_handle.httpcore`": "packages/ae-handle/src/ae_handle/httpcore.py",
    "`ae_core.prompt`": "packages/ae-core/src/ae_core/prompt.py",
}


def sources(what: str) -> list[Path]:
    """Return the files of the library that a row is about."""
    if link := re.match(r"\[[\w-]+\]\(\.\./(examples/[\w-]+)\)", what):
        return [*(ROOT / link[1] / "src").rglob("*.py")]
    return [ROOT / MODULES[what.partition(",")[0]]]


def test_each_library_has_a_row() -> None:
    named = set(re.findall(r"\(\.\./examples/([\w-]+)\)", PAGE))
    assert named == {path.parent.name for path in ROOT.glob("examples/*/pyproject.toml")}
    assert len(ROWS) == len(named) + len(MODULES)


@pytest.mark.parametrize(("what", "speed", "lines"), ROWS)
def test_the_lines_of_code_are_those_of_the_source(what: str, speed: str, lines: str) -> None:
    files = sources(what)
    found = sum(len(path.read_text("utf-8").splitlines()) for path in files)
    said = int(lines.replace(",", ""))
    assert abs(said - found) <= max(10, found * 0.05), f"{found} lines, the page says {said}"
