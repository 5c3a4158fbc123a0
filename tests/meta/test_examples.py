"""The demo passes, and each example says in one clear line what went wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = (
    "chat_server",
    "coroutines_anywhere",
    "even_colon",
    "finger",
    "http_get",
    "memcached",
    "nntp_article",
    "prefork",
    "smtp_reply",
    "tcp_proxy",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    calm = {**os.environ, "AE_STRICT_SLOW": "60"}  # the machine may be busy
    return subprocess.run(
        command, cwd=EXAMPLES, env=calm, capture_output=True, text=True, check=False
    )


def test_the_demo_passes_every_step_on_every_backend_that_is_installed() -> None:
    done = run("demo.py")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    last = re.fullmatch(r"demo: (\d+) steps ok, 0 failed", lines[-1])
    assert last is not None
    assert int(last[1]) == len(lines) - 1 >= 24
    steps = Counter(line.split("] ")[1].split()[0] for line in lines[:-1])
    assert {"loop", "asyncio"} <= set(steps)
    assert len(set(steps.values())) == 1


def test_a_failed_step_is_counted_and_fails_the_demo() -> None:
    done = run(
        "-c", "import demo, sys; demo.PAGE = b''; sys.exit(demo.main(['--backend', 'loop']))"
    )
    assert done.returncode == 1
    assert re.search(r"^demo: \d+ steps ok, 2 failed$", done.stdout, re.MULTILINE)


def test_an_unknown_backend_fails_the_demo() -> None:
    done = run("demo.py", "--backend", "nosuch")
    assert done.returncode == 1
    assert "'nosuch'" in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_explains_itself(program: str) -> None:
    done = run(f"{program}.py", "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout
