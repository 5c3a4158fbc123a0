"""The examples that need ``ae_core`` alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import ae_core as ae
from ae_core._detection.table import BACKENDS
from ae_core.testing import binding, virtual_time

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAID = """\
the squares of 30 numbers make 8555
at most 3 of 10 tasks were in at once
of two servers the fast one answers first
an empty channel: nothing came in time
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


def test_the_workers_of_the_example_end_with_an_error_in_what_they_are_given() -> None:
    def numbers() -> Iterator[int]:
        yield 3
        raise KeyError("of a test")

    squares = load("coroutines_anywhere").squares
    with virtual_time(), pytest.raises(ExceptionGroup) as failed:
        ae.run(squares(numbers()))
    assert failed.group_contains(KeyError, match="of a test")
    with virtual_time():
        assert sorted(ae.run(squares(range(5), workers=1))) == [0, 1, 4, 9, 16]


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
