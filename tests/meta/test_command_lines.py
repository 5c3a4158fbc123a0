"""Every command explains itself, its exit status included, and refuses what it does not know."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = ("ae_core", "ae_core.debug", "ae_core.testing", "ae_socket", "ae_dns", "ae_tls")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AE_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_usage_and_exit_status_without_colour(command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {command} ")
    assert "exit status: 0" in done.stdout.lower()
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_refused(command: str) -> None:
    done = run(command, "--no-such-option")
    assert done.returncode == (64 if command == "ae_dns" else 2)
    assert "error" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_ae_core_shows_loops_limits_and_the_environment_in_force() -> None:
    done = run("ae_core", AE_BACKEND="loop", AE_MAX_FORKS="3")
    lines = done.stdout.splitlines()
    assert any(line.startswith("loop ") and "chosen: AE_BACKEND" in line for line in lines)
    assert "fork_call at once: 3" in lines
    assert lines[-3:] == ["environment:", "  AE_BACKEND='loop'", "  AE_MAX_FORKS='3'"]
    assert run("ae_core").stdout.endswith("environment:\n  no AE_* variable\n")
