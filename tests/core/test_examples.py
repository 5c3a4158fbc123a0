"""The examples that need ``ae_core`` alone."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ae_core as ae
from ae_core._detection.table import BACKENDS
from ae_core.testing import Trace, binding, virtual_time

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAID = """\
30 jobs done by 3 workers, the squares make 8555
an empty channel: not done within 0.01 s
an error in one of two: on purpose
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments],
        check=False,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "AE_STRICT_SLOW": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WAYS = [(spec.name, spec.library) for spec in BACKENDS]
WAYS += [("in-asyncio", None), ("in-trio", "trio")]


@pytest.mark.parametrize(("where", "library"), WAYS, ids=[where for where, _ in WAYS])
def test_the_same_coroutines_on_every_loop(where: str, library: str | None) -> None:
    if library is not None and find_spec(library) is None:
        pytest.skip(f"needs {library}")
    done = run("coroutines_anywhere.py", where)
    assert (done.returncode, done.stdout) == (0, SAID)


def test_a_loop_that_is_not_there_is_one_line() -> None:
    done = run("coroutines_anywhere.py", "nosuch")
    assert done.returncode == 1
    assert done.stdout.startswith("coroutines_anywhere: ")
    assert "'nosuch'" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_channel_holds_back_who_puts_too_much(trace: Trace) -> None:
    channel: Any = load("coroutines_anywhere").Channel(capacity=2)

    async def put() -> None:
        for number in range(4):
            await channel.put(number)
            trace("put", number)

    with virtual_time():
        task = ae.spawn(put())
        ae.sleep(1).recv()
        assert trace == [("put", 0), ("put", 1)]
        assert [ae.run(channel.get()) for _ in range(4)] == [0, 1, 2, 3]
        task.recv()


def test_a_limit_cancels_and_waits_for_the_clean_up(trace: Trace) -> None:
    limit = load("coroutines_anywhere").limit

    async def slow() -> None:
        try:
            await ae.sleep(10)
        finally:
            await ae.sleep(1)
            trace("cleaned up")

    with virtual_time() as clock:
        with pytest.raises(TimeoutError):
            ae.run(limit(5, slow()))
        assert clock.elapsed == 6
    assert trace == ["cleaned up"]


@pytest.mark.usefixtures("unbound")
def test_gather_in_asyncio_ends_the_others(trace: Trace) -> None:
    gather = load("coroutines_anywhere").gather

    async def forever() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            trace("ended")

    async def fails() -> None:
        raise KeyError("of a test")

    async def main() -> None:
        with pytest.raises(KeyError, match="of a test"):
            await gather(forever(), fails(), forever())

    asyncio.run(main())
    assert trace == ["ended", "ended"]


def test_the_backend_written_in_the_example_meets_every_demand() -> None:
    done = run("write_a_backend.py")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert lines[0].startswith("backend 'selectors': ")
    assert ", 0 failed, " in lines[0]
    assert lines[1:] == [
        "hello, Achilles, from the selectors loop",
        "hello, Tortoise, from the selectors loop",
    ]


def test_the_backend_written_in_the_example_can_be_bound() -> None:
    backend = load("write_a_backend").SelectorsBackend
    with binding(backend) as bound:
        assert type(bound) is backend
        ae.sleep(0.001).recv()
        with pytest.raises(ae.Deadlock):
            ae.CondVar[None]().recv()
