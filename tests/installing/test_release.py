"""A release, as a dry run of the real tool on the newest commit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import ROOT

TOOL = ROOT / "tools" / "release.py"


def release(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        cwd=ROOT,
        env={**os.environ, "AE_RELEASE_DATE": "2030-01-31"},
        capture_output=True,
        text=True,
        check=False,
    )


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources are not a git checkout")
def test_a_dry_run_makes_everything_and_changes_nothing() -> None:
    before = git("rev-parse", "HEAD"), git("status", "--porcelain"), git("tag")
    done = release("ae-handle", "7.8.9", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (git("rev-parse", "HEAD"), git("status", "--porcelain"), git("tag")) == before
    lines = done.stdout.splitlines()
    assert lines[0] == "release: ae-handle 7.8.9"
    assert "+## 7.8.9 (2030-01-31)" in lines
    assert "+### New" in lines
    files = "ae_handle-7.8.9-py3-none-any.whl, ae_handle-7.8.9.tar.gz, ae_handle-7.8.9.cdx.json"
    assert lines[-1] == (f"dry run, nothing changed here: would make ae-handle-7.8.9, {files}")
    # every fragment has become a part of the changelog, and is gone
    fragments = git("ls-files", "packages/ae-handle/newsfragments").split()
    left_out = [line for line in lines if line.strip().startswith("...")]
    removed = [line for line in lines if "newsfragments/" in line]
    assert len(removed) == len(fragments), left_out
    assert not any("](#" in line or "(#" in line for line in lines if line.startswith("+- "))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ae-nothing", "minor"), "expected one of ae-core, ae-dns"),
        (("ae-core", "0.9.0"), "expected a version of three numbers above"),
        (("ae-core", "big"), "expected major, minor, patch or a version, got 'big'"),
    ],
)
def test_a_slip_is_named(arguments: tuple[str, ...], says: str) -> None:
    done = release(*arguments, "--dry-run")
    assert done.returncode == 1
    assert says in done.stderr
