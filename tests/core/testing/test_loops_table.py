"""``python -m ae_core.testing``: the table of every loop, and the loop that nobody else tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from ae_core.__main__ import CAPABILITIES, report
from ae_core._detection.table import BACKENDS


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
