"""``python -m ae_core``: every verdict of its table, the limits, and the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from ae_core import __main__ as program
from ae_core._detection.table import BACKENDS, BackendSpec


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AE_BACKEND", "AE_MAX_FORKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which loops run or are loaded, and that the library of each is installed."""

    def set_live(**reasons: str) -> None:
        monkeypatch.setattr(BackendSpec, "live", lambda spec: reasons.get(spec.name))

    monkeypatch.setattr(program, "find_spec", lambda name: object())
    monkeypatch.setattr(metadata, "version", lambda name: "1.2")
    return set_live


def verdicts() -> dict[str, str]:
    return {row.name: row.verdict for row in program.report()}


def test_nothing_runs(live: Callable[..., None]) -> None:
    live()
    found = verdicts()
    assert list(found)[: len(BACKENDS)] == [spec.name for spec in BACKENDS]
    assert found.pop("loop") == "chosen: nothing else runs or is loaded"
    assert found.pop("libev") == "not chosen: only by name"
    for spec in BACKENDS:
        verdict = found.pop(spec.name, "not chosen: not in use in this thread")
        assert verdict == "not chosen: not in use in this thread"


def test_the_first_that_runs_is_chosen(live: Callable[..., None]) -> None:
    live(asyncio="a task runs", qt="there is an application")
    found = verdicts()
    assert found["asyncio"] == "chosen: a task runs"
    assert found["qt"] == "not chosen, although there is an application"
    assert found["loop"] == "not chosen: it is the last resort"


def test_what_the_environment_names_is_chosen(
    live: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_BACKEND", "glib")
    live(asyncio="a task runs")
    found = verdicts()
    assert found["glib"] == "chosen: AE_BACKEND"
    assert found["asyncio"] == "not chosen, although a task runs"
    assert found["loop"] == "not chosen: it is the last resort"


def test_what_the_environment_names_and_is_not_there_has_a_row_of_its_own(
    live: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_BACKEND", "nonsense")
    live()
    *_, last = program.report()
    assert last == ("nonsense", "-", "-", "AE_BACKEND names it, but it is unknown or not installed")


def test_libraries_and_distributions_that_are_missing(
    live: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spec_of(name: str) -> object:
        if name.startswith("PySide6"):
            raise ModuleNotFoundError(name)  # as for a part of a package that is missing
        return None if name.startswith(("trio", "PyQt6")) else object()

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)  # as for what comes with Python

    live()
    monkeypatch.setattr(program, "find_spec", spec_of)
    monkeypatch.setattr(metadata, "version", version)
    rows = {row.name: row for row in program.report()}
    assert rows["trio"].version == "-"
    assert rows["trio"].verdict == "not installed (needs trio)"
    assert rows["qt"].verdict.startswith("not installed (needs ")
    assert rows["tk"].version == f"tkinter {sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize("chosen", [False, True])
def test_a_backend_of_another_package_is_chosen_by_name_only(
    chosen: bool, live: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry(name: str, dist: Any) -> Any:
        return SimpleNamespace(name=name, value=f"{name}.loop:Backend", dist=dist)

    entries = [entry("other", SimpleNamespace(version="3.1")), entry("unpackaged", None)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)
    if chosen:
        monkeypatch.setenv("AE_BACKEND", "other")
    live()
    rows = program.report()
    verdict = "chosen: AE_BACKEND" if chosen else "not chosen: only by name"
    assert rows[-2] == ("other", "3.1", "other.loop:Backend", verdict)
    assert rows[-1] == ("unpackaged", "?", "unpackaged.loop:Backend", "not chosen: only by name")


def test_the_limits_of_the_process_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("AE_MAX_FORKS", "3")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, resource.RLIM_INFINITY))
    assert program.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "descriptors: 1024 (may be raised to no limit)" in lines
    assert "parallel fork_call: 3" in lines
    assert "  AE_MAX_FORKS='3'" in lines


def test_a_system_without_resource_limits_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    assert program.limits() == [("parallel fork_call", "10")]


def test_an_environment_that_is_ignored_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "3")
    monkeypatch.setattr(sys, "flags", SimpleNamespace(ignore_environment=1))
    (said,) = program.settings()
    assert said.endswith("ignored, the interpreter runs with -E or -I")
    assert "AE_MAX_FORKS" in said


def test_it_is_a_program(script: Callable[..., str]) -> None:
    said = script("import runpy; runpy.run_module('ae_core', run_name='__main__')")
    assert said.startswith("ae_core ")
    assert said.endswith("environment:\n  no AE_* variable\n")
