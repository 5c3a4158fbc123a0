"""The table of limits in SECURITY.md says what the code does."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "SECURITY.md").read_text("utf-8")
ROWS = re.findall(
    r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \| `(\w+)\.(\w+)\((\w+)=\)` \|$", TEXT, re.MULTILINE
)
#: Options that bound what a stranger can make a program hold, or wait for.
BOUND = re.compile(r"^(?!on_)(.*timeouts?|.*max_.*|linger|backlog|min_version)$")
#: Such options that are no limit of that kind.
OTHERS = {
    ("ae_tls", "Context", "max_version"): "a choice of protocol",
    ("ae_handle", "Handle", "read_timeout"): "one direction of timeout",
    ("ae_handle", "Handle", "write_timeout"): "one direction of timeout",
    ("ae_http", "Client", "connect_timeout"): "a part of timeout",
    ("ae_http", "Client", "read_timeout"): "a part of timeout",
    ("ae_http", "Client", "idle_timeout"): "how long a connection of ours is kept",
    ("ae_http", "Client", "max_connections"): "what the program itself opens",
    ("ae_http", "Client", "max_idle"): "what the program itself opens",
}


def default(module: str, name: str, option: str) -> object:
    found = inspect.signature(getattr(import_module(module), name)).parameters[option].default
    return None if found is inspect.Parameter.empty else found


@pytest.mark.parametrize(("what", "value", "module", "name", "option"), ROWS)
def test_a_limit_is_what_the_table_says(
    what: str, value: str, module: str, name: str, option: str
) -> None:
    assert default(module, name, option) == ast.literal_eval(value), what


def test_every_line_of_the_table_is_compared() -> None:
    part = TEXT.partition("## Limits")[2].partition("## What is not")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 1


@pytest.mark.parametrize(("module", "name"), sorted({(row[2], row[3]) for row in ROWS}))
def test_no_limit_of_these_is_missing_in_the_table(module: str, name: str) -> None:
    told = {row[4] for row in ROWS if (row[2], row[3]) == (module, name)}
    told |= {option for (m, n, option) in OTHERS if (m, n) == (module, name)}
    options = inspect.signature(getattr(import_module(module), name)).parameters
    assert {each for each in options if BOUND.search(each)} - told == set()
