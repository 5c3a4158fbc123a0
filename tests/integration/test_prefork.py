"""The server with several processes of the examples: reloads, deaths, and its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ae_core as ae
from ae_handle import Handle
from ae_handle.testing import end_lingering

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONNECTIONS = 10_000
AT_ONCE = 20
RELOADS_AT = (1000, 4000, 7000)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at children in /proc")


class Program:
    """The example, running with two workers."""

    def __init__(self) -> None:
        command = [sys.executable, str(EXAMPLES / "prefork.py"), "--workers", "2"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        host, _, port = self.process.stdout.readline().split()[-1].rpartition(":")
        self.address = (host, int(port))

    def workers(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def ends_with(self, number: int) -> tuple[str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return out, err


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.process.kill()
    program.process.communicate()
    end_lingering()


async def visit(address: tuple[str, int]) -> None:
    with Handle(connect=address, linger=0) as handle:
        handle.push_write(b"hello\n")
        assert await handle.push_read("line") == b"hello"


def test_ten_thousand_connections_during_three_reloads_and_none_refused(program: Program) -> None:
    before = program.workers()
    started = 0

    async def visitor() -> None:
        nonlocal started
        while started < CONNECTIONS:
            started += 1
            if started in RELOADS_AT:
                program.process.send_signal(signal.SIGHUP)
            await visit(program.address)  # a refusal raises

    async def main() -> None:
        visitors = [ae.spawn(visitor()) for _ in range(AT_ONCE)]
        for each in visitors:
            await each
        while len(program.workers()) != 2 or program.workers() & before:
            await visit(program.address)

    ae.run(main())
    out, err = program.ends_with(signal.SIGTERM)
    assert re.findall("reload[a-z]+", out) == ["reloading", "reloaded"] * 3
    assert err == ""


def test_a_worker_that_dies_is_replaced(program: Program) -> None:
    before = program.workers()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    give_up = time.monotonic() + 60

    async def main() -> None:
        while len(program.workers()) != 2 or victim in program.workers():
            assert time.monotonic() < give_up
            await visit(program.address)

    ae.run(main())
    assert len(before & program.workers()) == 1
    assert program.ends_with(signal.SIGTERM)[1] == "a worker has died, starting another\n"


@pytest.mark.parametrize("ctrl_c", [False, True])
def test_what_a_client_has_begun_is_finished_at_the_end(program: Program, ctrl_c: bool) -> None:
    async def main() -> None:
        async with Handle(connect=program.address) as handle:
            handle.push_write(b"one\n")
            assert await handle.push_read("line") == b"one"
            if ctrl_c:  # which a terminal sends to the workers as well
                os.killpg(program.process.pid, signal.SIGINT)
            else:
                program.process.send_signal(signal.SIGTERM)
            await ae.sleep(0.1)
            handle.push_write(b"two\n")
            assert await handle.push_read("line") == b"two"

    ae.run(main())
    assert program.process.communicate(timeout=60)[1] == ""
    assert program.process.returncode == 0
