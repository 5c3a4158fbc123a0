"""What a subclass must provide is an abstract method: type checkers see a missing one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Not every multiplexer has it: it is called where `can_poll_extra` says so.
OPTIONAL = {"_multiplexers.py: Multiplexer.wait_with"}


def hooks_by_error(name: str, tree: ast.AST) -> Iterator[str]:
    """The methods that only raise NotImplementedError, and do not say that they are abstract."""
    for kind in (each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)):
        for node in kind.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            abstract = any("abstractmethod" in ast.unparse(each) for each in node.decorator_list)
            if ast.unparse(node.body[-1]).startswith("raise NotImplementedError") and not abstract:
                yield f"{name}: {kind.name}.{node.name}"


def test_no_hook_is_declared_by_an_error() -> None:
    paths = sorted(ROOT.glob("packages/*/src/**/*.py"))
    assert len(paths) > 100
    found = {
        hook for path in paths for hook in hooks_by_error(path.name, ast.parse(path.read_bytes()))
    }
    assert found == OPTIONAL


@pytest.mark.parametrize(
    ("decorator", "found"), [("", ["x: A.f"]), ("@property", ["x: A.f"]), ("@abstractmethod", [])]
)
def test_the_rule_itself(decorator: str, found: list[str]) -> None:
    text = f'class A:\n {decorator}\n def f(self):\n  "Hook."\n  raise NotImplementedError\n'
    assert list(hooks_by_error("x", ast.parse(text))) == found
