"""Every test is looked at for what it leaves behind, in whichever loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[2]

CASES = {
    "in a loop of the program's": (
        """
        import asyncio, ae_core as ae, os
        kept = []
        def test_it(unbound):
            ends = os.pipe()
            async def main():
                kept.append(ae.io(ends[0], "r", print))
            kept.append(asyncio.new_event_loop())
            kept[0].run_until_complete(main())
            for fd in ends:
                os.close(fd)
        """,
        "left behind: io ",
    ),
    "in the test's own loop": (
        """
        import ae_core as ae, os
        kept = []
        def test_it():
            ends = os.pipe()
            kept.append(ae.io(ends[0], "r", print))
            for fd in ends:
                os.close(fd)
        """,
        "left behind: io ",
    ),
    "a descriptor": (
        """
        import os
        def test_it():
            os.pipe()
        """,
        "left behind: descriptor ",
    ),
    "nothing": (
        """
        import ae_core as ae, os
        def test_it():
            ends = os.pipe()
            with ae.io(ends[0], "r", print):
                pass
            for fd in ends:
                os.close(fd)
        """,
        "1 passed",
    ),
}


@pytest.mark.parametrize(("program", "text"), CASES.values(), ids=CASES)
def test_a_test_that_leaves_something_behind_fails(program: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(dedent(program))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert text in done.stdout
    assert ("left behind" in done.stdout) == (done.returncode != 0)
