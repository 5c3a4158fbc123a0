"""What every backend must do: each demand of ``ae_core.testing`` on each backend, in each way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from ae_core.abc import Backend
from ae_core.testing._conformance.check import CASES
from ae_core.testing._conformance.scene import (
    BLOCKING,
    COROUTINE,
    HOSTED,
    Case,
    CaseSkipped,
    run_case,
)

PATIENCE = 30.0


def play(entry: Case, way: str, host: Callable[..., object] | None = None) -> None:
    try:
        run_case(entry, way, PATIENCE, host)
    except CaseSkipped as reason:
        pytest.skip(str(reason))


def demands(*ways: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("entry", "way"),
        [
            pytest.param(entry, way, id=f"{entry.topic}-{entry.name}-{way}")
            for entry in CASES
            for way in ways
            if entry.ways is None or way in entry.ways
        ],
    )


@pytest.mark.blocking
@demands(BLOCKING)
def test_blocking(entry: Case, way: str, backend: Backend) -> None:
    play(entry, way)


@demands(COROUTINE)
def test_as_a_coroutine(entry: Case, way: str, backend: Backend) -> None:
    play(entry, way)


def in_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def in_uvloop(main: Coroutine[Any, Any, None]) -> None:
    uvloop = import_module("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def in_trio(main: Coroutine[Any, Any, None]) -> None:
    import_module("trio").run(lambda: main)


def host(run: Callable[..., object], library: str) -> Any:
    """One loop of the program, skipped before anything is made if its library is not there."""
    missing = find_spec(library) is None
    return pytest.param(run, marks=pytest.mark.skipif(missing, reason=f"needs {library}"))


HOSTS = [host(in_asyncio, "asyncio"), host(in_uvloop, "uvloop"), host(in_trio, "trio")]


@pytest.mark.usefixtures("unbound", "warm_uvloop")
@pytest.mark.parametrize("host", HOSTS)
@demands(HOSTED)
def test_in_a_loop_of_the_program(entry: Case, way: str, host: Callable[..., object]) -> None:
    play(entry, way, host)
