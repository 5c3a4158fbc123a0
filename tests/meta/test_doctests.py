"""The examples in docstrings hold."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Source

ROOT = Path(__file__).resolve().parents[2]


def run_doctests(path: Path, module_name: str) -> int:
    """Run the examples in the docstrings of a file; return how many there were."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, documented)]
    texts = [text for node in nodes if ">>> " in (text := ast.get_docstring(node) or "")]
    names = vars(importlib.import_module(module_name)) if texts else {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    parse = doctest.DocTestParser().get_doctest
    for text in texts:
        runner.run(parse(text, dict(names), module_name, str(path), 0))
    assert runner.failures == 0
    return runner.tries


def test_doctests_in_docstrings_hold(source: Source) -> None:
    assert (run_doctests(source.path, source.module) > 0) == (">>> " in source.path.read_text())


def test_doctests_of_the_examples_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    assert run_doctests(ROOT / "examples" / "even_colon.py", "even_colon") == 2
