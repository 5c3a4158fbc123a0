"""Backends that own the process (Twisted, Qt, GLib, Tk, gevent): one child process for each.

It runs the conformance tests, in the blocking way (how coroutines are driven is the core's, and the
same on all of them), and the debugging aids.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ae_core._backends._table import BACKENDS, BackendSpec

ROOT = Path(__file__).resolve().parents[2]
EXCLUSIVE = [spec for spec in BACKENDS if spec.exclusive]


@pytest.mark.parametrize("spec", EXCLUSIVE, ids=lambda spec: spec.name)
def test_backend_in_a_process_of_its_own(spec: BackendSpec, pytestconfig: pytest.Config) -> None:
    name = spec.name
    if pytestconfig.getoption("--backend"):
        pytest.skip("this is such a process")
    required = pytestconfig.getoption("--require-backends")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += [f"--backend={name}", f"--require-backends={required}"]
    command += ["-k", "test_blocking or test_debug or test_strict", "tests/conformance"]
    command += [f"tests/core/test_{aid}.py" for aid in ("debug_wrap", "debug_shell", "strict")]
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == 0 and " passed" not in done.stdout:
        lines = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
        pytest.skip(lines[0] if lines else f"nothing was run: {done.stdout[-200:]}")
    assert done.returncode == 0, done.stdout[-10_000:]
