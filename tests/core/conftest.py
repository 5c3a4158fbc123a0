"""What the tests of logging, strict mode and the debugging aids share."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from ae_core import _log_targets, logs

Python: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4} ", re.MULTILINE)


@pytest.fixture
def fresh_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hierarchy as a new process has it; pytest's own handlers are not the program's."""
    handlers = _log_targets._handlers

    def without_those_of_pytest(logger: object) -> list[logging.Handler]:
        return [h for h in handlers(logger) if not type(h).__module__.startswith("_pytest")]

    monkeypatch.setattr(_log_targets, "_handlers", without_those_of_pytest)
    monkeypatch.delenv("AE_VERBOSE", raising=False)
    monkeypatch.delenv("AE_LOG", raising=False)
    logs.reset()
    logs.exact_time(False)
    yield
    logs.reset()
    assert logs.flush()


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was written to stderr since the last call, without the time stamps."""
    return lambda: STAMP.sub("", capsys.readouterr().err)


@pytest.fixture
def unstamped() -> Callable[[str], str]:
    """Take the time stamps from log lines."""
    return lambda text: STAMP.sub("", text)


@pytest.fixture
def python() -> Python:
    """Run a program in a process of its own, with no AE_* variables but those given."""

    def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
        return subprocess.run(
            [sys.executable, *options, "-c", code],
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
