"""Timers know nothing of the wall clock: it is moved by days while they wait."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("uses libfaketime, and namespaces of Linux", allow_module_level=True)

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
NEEDS = {
    "loop": None,
    "asyncio": None,
    "uvloop": "uvloop",
    "trio": "trio",
    "twisted": "twisted",
    "gevent": "gevent",
    "libev": "gevent",
    "glib": "gi",
    "qt": "PyQt6",
    "tk": "tkinter",
}

PROGRAM = """
    import os, subprocess, sys, time
    import ae_core as ae

    name, seconds, clock = os.environ["BACKEND"], 0.02, os.environ.get("FAKETIME_TIMESTAMP_FILE")
    if name == "uvloop":
        import uvloop
        ae.use("asyncio", loop_factory=uvloop.new_event_loop)
    else:
        ae.use(name)

    jumps = 0

    def set_wall_clock(days):
        global jumps
        if clock is None:
            return
        before = time.time()
        with open(clock, "w") as file:
            file.write(f"{days:+d}d\\n")
        if abs(time.time() - before) > 80_000:
            jumps += 1

    ended, ticks = [], []

    def one(number, due):
        def fired():
            assert time.monotonic() >= due - 0.0005, f"{number} is early"
            ended.append(number)
            set_wall_clock((1, -1, 365, -3, 0)[number % 5])
        return ae.timer(due - time.monotonic(), fired)

    async def set_back(before):
        # while nothing but one timer, or one call, stands between us and the end of the wait
        done = ae.CondVar()
        kept = []

        def fired():
            before(done, kept)
            set_wall_clock(-2)

        kept += [ae.timer(seconds, fired), ae.timer(2 * seconds, lambda: done.send())]
        await done
        set_wall_clock(0)

    async def main():
        await set_back(lambda done, kept: None)
        await set_back(lambda done, kept: (kept.clear(), ae.postpone(done.send)))
        begun = time.monotonic()
        kept = [one(n, begun + seconds * (n + 1)) for n in reversed(range(6))]
        ticking = ae.timer(seconds, lambda: ticks.append(time.monotonic()), interval=seconds)
        async with ae.timeout(30):
            while len(ended) < 6 or len(ticks) < 5:
                before = time.monotonic()
                await ae.sleep(seconds / 2)
                assert time.monotonic() - before >= seconds / 2 - 0.0005
        ticking.cancel()
        assert all(b - a > 0 for a, b in zip(ticks, ticks[1:]))
        assert ticks[-1] - begun >= seconds * len(ticks) - 0.0005
        try:
            async with ae.timeout(seconds):
                await ae.CondVar()
        except TimeoutError:
            print("timed out")

    ae.run(main())
    print(ended, jumps)
"""


def program(name: str) -> str:
    library = NEEDS[name]
    if library is not None and find_spec(library) is None:
        pytest.skip(f"backend {name} needs {library}, which is not installed")
    return PROGRAM


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("name", NEEDS)
def test_the_wall_clock_jumps_by_days_and_no_timer_is_early_or_late(
    script: Callable[..., str], tmp_path: Path, name: str
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0d\n")
    output = script(
        program(name),
        BACKEND=name,
        LD_PRELOAD=str(LIBRARY),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        QT_QPA_PLATFORM="offscreen",
    )
    assert output == "timed out\n[0, 1, 2, 3, 4, 5] 10\n"


def namespace(*offset: str) -> list[str]:
    return ["unshare", "--time", *offset, "--fork", sys.executable]


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*namespace("--monotonic", "1"), "-c", ""], check=False).returncode != 0,
    reason="time namespaces are not permitted",
)
@pytest.mark.parametrize("name", NEEDS)
def test_a_namespace_whose_clock_began_elsewhere_changes_nothing(tmp_path: Path, name: str) -> None:
    ten_years = "315360000"
    file = tmp_path / "program.py"
    file.write_text("\n".join(line[4:] for line in program(name).splitlines()))
    done = subprocess.run(
        [*namespace("--monotonic", ten_years, "--boottime", ten_years), "-W", "error", str(file)],
        check=False,
        env={**os.environ, "BACKEND": name, "QT_QPA_PLATFORM": "offscreen"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "timed out\n[0, 1, 2, 3, 4, 5] 0\n")
