"""``--require-programs``: where a real server must be there, its absence is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", "2 skipped"), ("nginx", "2 skipped"), ("nginx,redis-server", "2 errors")],
)
def test_a_program_that_is_required_and_not_there_fails(required: str, outcome: str) -> None:
    test = "examples/ae-redis/tests/test_real.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    command += ["--require-programs", required, "-k", "main_paths", "--backend", "asyncio"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert "redis-server is not installed" in done.stdout
