"""Every command explains itself, its exit status included, and refuses what it does not know."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ae_socket.testing import silent_address

COMMANDS = (
    *("ae_core", "ae_core.debug", "ae_core.testing", "ae_socket", "ae_dns", "ae_handle", "ae_tls"),
)
TABLE = Path(__file__).parents[2] / "docs/reference/exit-codes.md"


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
    assert "\nExit status: 0" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_refused(command: str) -> None:
    done = run(command, "--no-such-option")
    assert done.returncode == 2
    assert f"python -m {command}: error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_exit_status_of_a_help_text_is_in_the_table(command: str) -> None:
    table = set(re.findall(r"^\| (\d+) \|", TABLE.read_text("utf-8"), re.M))
    told = run(command, "--help").stdout.partition("Exit status: ")[2]
    statuses = set(re.findall(r"(?:^|[;,]\s)(\d+)\b", told))
    assert {"0", "2", "74"} <= statuses
    assert statuses <= table


@pytest.mark.parametrize(
    "words",
    [
        ("ae_socket", "--timeout", "0.05", "{host}", "{port}"),
        ("ae_handle", "--timeout", "0.05", "{host}", "{port}"),
        ("ae_tls", "--timeout", "0.05", "{host}:{port}"),
        ("ae_dns", "--timeout", "0.05", "www.example.com", "@{host}:{udp}"),
    ],
    ids=lambda words: words[0],
)
def test_a_time_limit_that_has_passed_has_a_status_of_its_own(words: tuple[str, ...]) -> None:
    with silent_address() as (host, port), socket.socket(type=socket.SOCK_DGRAM) as deaf:
        deaf.bind((host, 0))
        udp = deaf.getsockname()[1]
        done = run(*(word.format(host=host, port=port, udp=udp) for word in words))
    assert done.returncode == 124, done.stderr
    assert "Traceback" not in done.stderr


def test_ae_core_shows_loops_limits_and_the_environment_in_force() -> None:
    done = run("ae_core", AE_BACKEND="loop", AE_MAX_FORKS="3")
    lines = done.stdout.splitlines()
    assert any(line.startswith("loop ") and "chosen: AE_BACKEND" in line for line in lines)
    assert "parallel fork_call: 3" in lines
    assert lines[-3:] == ["environment:", "  AE_BACKEND='loop'", "  AE_MAX_FORKS='3'"]
    assert run("ae_core").stdout.endswith("environment:\n  no AE_* variable\n")
