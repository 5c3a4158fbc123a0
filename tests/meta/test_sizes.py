"""No file grows without a reason: 600 lines want one in the header, 800 are too many."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WATCHED = ("packages", "examples", "tests", "tools", "bench")
NEEDS_A_REASON = 600
TOO_LONG = 800


def python_files() -> list[Path]:
    found = [path for top in WATCHED for path in (ROOT / top).rglob("*.py")]
    return sorted(path for path in found if "build" not in path.relative_to(ROOT).parts)


def complaint(text: str) -> str | None:
    """What is wrong with the length of a file that reads *text*."""
    lines = len(text.splitlines())
    if lines > TOO_LONG:
        return f"{lines} lines: divide it"
    header = ast.get_docstring(ast.parse(text)) or ""
    if lines > NEEDS_A_REASON and "Long because" not in header:
        return f"{lines} lines: say 'Long because ...' in the header, or divide it"
    return None


def test_no_file_is_longer_than_its_header_allows() -> None:
    found = {str(p.relative_to(ROOT)): complaint(p.read_text("utf-8")) for p in python_files()}
    assert len(found) > 40
    assert {name: why for name, why in found.items() if why} == {}


@pytest.mark.parametrize(
    ("lines", "header", "wrong"),
    [
        pytest.param(600, "Short.", False, id="at-the-limit"),
        pytest.param(601, "Short.", True, id="no-reason"),
        pytest.param(601, "Long because it is one table.", False, id="with-reason"),
        pytest.param(801, "Long because it is one table.", True, id="too-long-for-any-reason"),
    ],
)
def test_the_rule_itself(lines: int, header: str, wrong: bool) -> None:
    text = f'"""{header}"""\n' + "x = 1\n" * (lines - 1)
    assert (complaint(text) is not None) is wrong
