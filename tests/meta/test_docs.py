"""What the documents show works: programs run, links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_document.py")
PLACES = ("*.md", "docs/**/*.md", "*/README.md", "*/*/README.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))
WITH_PROGRAMS = [path for path in DOCUMENTS if "```python\n" in path.read_text("utf-8")]
SCREEN = re.compile(r"<!-- on a screen(?:, needs (\w+))? -->\n")
WINDOWS = [
    pytest.param(path, number, library, id=f"{path.relative_to(ROOT)}-{library or 'tkinter'}")
    for path in WITH_PROGRAMS
    for number, library in enumerate(SCREEN.findall(path.read_text("utf-8")), 1)
]
NEEDS = re.compile(r"<!-- needs (\w+) -->\n")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run_blocks(path: Path, count: int, *command: str) -> None:
    for host, program in (("redis.example.com", "redis-server"), ("irc.example.com", "ngircd")):
        if host in path.read_text("utf-8") and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    calm = {**os.environ, "AE_STRICT_SLOW": "60"}  # the machine may be busy
    done = subprocess.run(
        [*command, str(path)], env=calm, capture_output=True, text=True, check=False
    )
    said = f"{done.stdout}{done.stderr}"  # all of it: the reason is in there
    assert done.returncode == 0, said
    assert done.stderr == "", said
    assert done.stdout.splitlines()[-1] == f"{count} blocks ran"


@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=name)
def test_the_programs_in_a_document_run(path: Path) -> None:
    text = path.read_text("utf-8")
    blocks = text.count("```python\n") - text.count("<!-- not run: ") - len(SCREEN.findall(text))
    blocks -= sum(find_spec(library) is None for library in NEEDS.findall(text))
    run_blocks(path, blocks, sys.executable, "-W", "error", str(RUNNER))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("```python\nraise ValueError('broken on purpose')\n```\n", "broken on purpose"),
        ("<!-- another program -->\n```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("<!-- needs json -->\n```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("<!-- not run: a reason -->\n```python\n1 +\n```\n", "SyntaxError"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "page.md:3: expected"),
        ("```python\n```\n\n```python3\n1 / 0\n```\n", "assert '1 blocks ran' == '2 blocks ran'"),
    ],
)
def test_a_block_that_does_not_work_is_found_and_says_why(
    block: str, says: str, tmp_path: Path
) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"# A page\n\n{block}")
    with pytest.raises(AssertionError) as caught:
        run_blocks(document, block.count("```python"), sys.executable, "-W", "error", str(RUNNER))
    assert says in str(caught.value)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_fence_names_a_language_that_is_known(path: Path) -> None:
    """A block of Python that is called otherwise would not be run."""
    fences = re.findall(r"^[ ]*```([^\s`]*)", path.read_text("utf-8"), re.M)
    known = {"", "python", "text", "sh", "console", "ini", "toml", "{include}", "{toctree}"}
    assert set(fences) <= known
    assert not re.search(r"^[ ]+```python$", path.read_text("utf-8"), re.M)


@pytest.mark.parametrize(("path", "number", "library"), WINDOWS)
def test_the_program_with_a_window_in_a_document_runs(
    path: Path, number: int, library: str, request: pytest.FixtureRequest
) -> None:
    if find_spec(library or "tkinter") is None:
        pytest.skip(f"{library or 'tkinter'} is not installed")
    screen = [] if os.environ.get("DISPLAY") else request.getfixturevalue("screen")
    run_blocks(
        path, 1, *screen, sys.executable, "-W", "error", str(RUNNER), "--screen", str(number)
    )


def test_the_tests_that_the_testing_page_shows_pass(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/test.md").read_text("utf-8")
    blocks = re.findall(r"^<!-- pytest -->\n```python\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) == text.count("```python\n")
    (tmp_path / "test_page.py").write_text("\n".join(blocks))
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nae_loops = loop asyncio\nfilterwarnings = error"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "ae_socket_pytest",
        "-p",
        "ae_handle_pytest",
    ]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    tests = sum(block.count("def test_") for block in blocks)
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= tests


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    targets = [t for t in LINK.findall(path.read_text("utf-8")) if "://" not in t]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_and_the_integration_script_agree() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"pip install hatch && (hatch run \w+)$", readme, re.MULTILINE)
    assert commands == ["hatch run demo", "hatch run test"]
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert [
        command for command in commands if not re.search(rf"{command}( -p\S+)?\n", script)
    ] == []
