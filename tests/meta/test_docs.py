"""What the documents show works: programs run, doctests hold, links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Source

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_document.py")
PLACES = ("*.md", "docs/**/*.md", "*/*/README.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))
WITH_PROGRAMS = [path for path in DOCUMENTS if "```python\n" in path.read_text("utf-8")]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=name)
def test_the_programs_in_a_document_run(path: Path) -> None:
    text = path.read_text("utf-8")
    blocks = text.count("```python\n") - text.count("<!-- not run: ")
    command = [sys.executable, "-W", "error", str(RUNNER), str(path)]
    calm = {**os.environ, "AE_STRICT_SLOW": "60"}  # the machine may be busy
    done = subprocess.run(command, env=calm, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{blocks} blocks ran"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    targets = [t for t in LINK.findall(path.read_text("utf-8")) if "://" not in t]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def run_doctests(path: Path, module_name: str) -> int:
    """Run the examples in the docstrings of a file; return how many there were."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, documented)]
    texts = [ast.get_docstring(node) or "" for node in nodes]
    texts = [text for text in texts if ">>> " in text]
    names = vars(importlib.import_module(module_name)) if texts else {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for text in texts:
        runner.run(
            doctest.DocTestParser().get_doctest(text, dict(names), module_name, name(path), 0)
        )
    assert runner.failures == 0
    return runner.tries


def test_doctests_in_docstrings_hold(source: Source) -> None:
    assert (run_doctests(source.path, source.module) > 0) == (">>> " in source.path.read_text())


def test_doctests_of_the_examples_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    assert run_doctests(ROOT / "examples" / "even_colon.py", "even_colon") == 2


def test_the_readme_and_the_integration_script_agree() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"pip install hatch && (hatch run \w+)$", readme, re.MULTILINE)
    assert commands == ["hatch run demo", "hatch run test"]
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert [command for command in commands if f"{command}\n" not in script] == []
