"""``python -m ae_core.testing``: the table of every loop, and the loop that nobody else tests."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

from ae_core.__main__ import CAPABILITIES, report
from ae_core._backends._loop import LoopBackend
from ae_core._detection.table import BACKENDS
from ae_core.testing import __main__ as table_module
from ae_core.testing import check_backend


def table(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ae_core.testing", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_asyncio_without_add_reader_meets_every_demand() -> None:
    done = table("asyncio-thread")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
    fewest = 190 if os.name == "posix" else 140  # many are about POSIX signals and children
    assert int(done.stdout.split(" passed")[0].split()[-1]) > fewest
    if sys.platform != "linux":
        return  # how often it wakes up is counted by Linux only
    # polling, even once a second, would be five or more in the five seconds
    assert int(done.stdout.split()[-3]) < 5


@pytest.mark.skipif(sys.platform != "linux", reason="kqueue is there")
def test_a_loop_that_must_be_there_and_is_not_fails_the_table() -> None:
    assert table("loop-kqueue").returncode == 0
    done = table("loop-kqueue", "--require", "loop-kqueue")
    assert done.returncode == 1
    assert "not here" in done.stdout


class Deaf(LoopBackend):
    """Never tells that a descriptor is writable."""

    name = "deaf"

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> int:
        return super().io_start(fd, write, (lambda: None) if write else callback)


@pytest.fixture
def short_table(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The table in this process, of one demand, with a loop that does not meet it."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = table_module.main(command[3:])
        return subprocess.CompletedProcess(command, status, said.getvalue())

    only = partial(check_backend, only="io: one shot write watchers", patience=0.2)
    monkeypatch.setattr(table_module, "check_backend", only)
    monkeypatch.setattr(table_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setitem(table_module.ROWS, "deaf", (Deaf, "select", "ae-core", dict))
    monkeypatch.setattr(subprocess, "run", run)
    return table_module.main


def test_the_table_lists_the_demands_that_a_loop_does_not_meet(
    short_table: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert short_table(["loop-poll", "deaf"]) == 1
    good, bad, *why = capsys.readouterr().out.splitlines()
    assert good.startswith("loop-poll ")
    assert "  2 passed, 0 failed, not applicable: none, " in good
    assert bad.startswith("deaf ")
    assert "  0 passed, 2 failed, not applicable: none, " in bad
    assert why[0].startswith("    failed  io: one shot write watchers")


@pytest.mark.skipif(find_spec("trio") is None, reason="needs trio")
def test_a_loop_without_a_loop_outside_of_runs_has_its_row(
    short_table: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert short_table(["trio"]) == 0
    assert "  1 passed, 0 failed, not applicable: 1 trio cannot be blocked, " in (
        capsys.readouterr().out
    )


def test_a_loop_whose_process_ends_badly_fails_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(table_module.ROWS, "unknown", table_module.ROWS["loop-poll"])
    assert table_module.main(["unknown"]) == 1  # the child does not know it
    assert capsys.readouterr().out == "unknown         ended with status 2\n"


def test_report_has_a_row_for_every_backend_and_chooses_one() -> None:
    rows = report()
    assert [row.name for row in rows][: len(BACKENDS)] == [spec.name for spec in BACKENDS]
    assert sum(row.verdict.startswith("chosen") for row in rows) == 1


@pytest.mark.parametrize("name", [spec.name for spec in BACKENDS])
def test_capabilities_in_the_report_are_those_of_the_class(
    name: str, script: Callable[..., str]
) -> None:
    # in a process of its own: a loaded GUI library would be what later tests detect
    told = script(f"""
        from ae_core import BackendUnavailable
        from ae_core._detection.table import load
        try:
            cls = load({name!r})
        except BackendUnavailable as error:
            print("missing", error)
        else:
            print(cls.strict_idle, cls.many_waits, not cls.owns_wait, not cls.own_run)
        """)
    if told.startswith("missing"):
        pytest.skip(told)
    text = CAPABILITIES[name]
    has = [str(word in text) for word in ("idle", "many", "hosted", "blocks")]
    assert told.split() == has
