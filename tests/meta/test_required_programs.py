"""``--require-programs``: where a real server must be there, its absence is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("required", "fails"), [("", False), ("nginx", False), ("nginx,redis-server", True)]
)
def test_a_program_that_is_required_and_not_there_fails(required: str, fails: bool) -> None:
    test = "examples/ae-redis/tests/test_real.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    command += ["--require-programs", required, "-k", "main_paths", "--backend", "asyncio"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    # how many depends on the loops that are installed
    last = done.stdout.splitlines()[-1]
    assert ("error" in last) is fails, done.stdout
    assert fails or " skipped" in last, done.stdout
    assert "redis-server is not installed" in done.stdout
