"""Imports run downwards: the floors of docs/architecture.md, read off the syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from .conftest import PACKAGES, ROOT, _sources

if TYPE_CHECKING:
    from .conftest import Source

LOOKUPS = re.compile(r"(sys\.|_)?modules(\.get)?|(importlib\.)?import_module")
TABLE = re.compile(r"^```text floors (\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def targets(source: Source, known: set[str]) -> Iterator[str]:
    """Every module of *known* that a file imports or looks up, wherever in the file."""
    package = source.module if source.path.stem == "__init__" else source.module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source.path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, (ast.Call, ast.Subscript)):
            by = node.func if isinstance(node, ast.Call) else node.value
            args = node.args if isinstance(node, ast.Call) else [node.slice]
            if LOOKUPS.fullmatch(ast.unparse(by)):
                literals = (arg.value for arg in args if isinstance(arg, ast.Constant))
                yield from (value for value in literals if isinstance(value, str))


def graph(package: str) -> dict[str, set[str]]:
    sources = [source for source in _sources() if source.package == package]
    known = {source.module for source in sources}
    return {s.module: (set(targets(s, known)) & known) - {s.module} for s in sources}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_comes_back_to_its_module(package: str) -> None:
    edges = graph(package)
    while leaves := [module for module, used in edges.items() if not used & edges.keys()]:
        for leaf in leaves:
            del edges[leaf]
    assert {module: sorted(used & edges.keys()) for module, used in edges.items()} == {}


def floors() -> dict[str, dict[str, int]]:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    return {
        package: {
            name: number
            for number, line in enumerate(table.splitlines())
            for name in re.split(r" {2,}", line)[0].split()
        }
        for package, table in TABLE.findall(text)
    }


@pytest.mark.parametrize("package", floors())
def test_imports_run_downwards(package: str) -> None:
    table = floors()[package]

    def floor(module: str) -> int:
        parts = module.split(".")
        return table[parts[1] if len(parts) > 1 else "__init__"]

    upwards = [
        f"{module} -> {used}"
        for module, all_used in graph(package).items()
        for used in sorted(all_used)
        if floor(used) < floor(module)
    ]
    assert upwards == []
