"""What the environment switches on at the first detection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug, strict
from ae_core._base import environ
from ae_core.abc import environment
from ae_core.debug import _environment

pytestmark = pytest.mark.usefixtures("fresh_logs")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = strict.enabled()
    strict.disable()
    for name in _environment.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    debug.wrap(0)
    while _environment._shells:
        _environment._shells.pop().cancel()
    (strict.enable if before else strict.disable)()


def test_nothing_set_switches_nothing_on(shown: Callable[[], str]) -> None:
    _environment.start()
    assert not strict.enabled()
    assert debug.wrap() == 1  # it was 0
    assert _environment._shells == []
    assert shown() == ""


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), (" ", False)])
def test_strict(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_STRICT", value)
    _environment.start()
    assert strict.enabled() is on


@pytest.mark.parametrize("value", ["0", "1", "2"])
def test_wrap(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_DEBUG_WRAP", value)
    _environment.start()
    watcher: Any = ae.timer(60, print)
    assert isinstance(watcher, debug.WrappedWatcher) is (value != "0")
    if value != "0":
        assert bool(watcher.backtrace) is (value == "2")


def test_shell(monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]) -> None:
    monkeypatch.setenv("AE_DEBUG_SHELL", "127.0.0.1:0")
    _environment.start()
    (shell,) = _environment._shells
    host, port = shell.address
    assert host == "127.0.0.1"
    assert isinstance(port, int)
    assert shown() == ""


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "AE_DEBUG_WRAP",
            "3",
            "warn  ae_core: AE_DEBUG_WRAP (3): not understood: '3' at position 1",
        ),
        (
            "AE_DEBUG_SHELL",
            "x",
            "warn  ae_core: AE_DEBUG_SHELL (x): not understood: 'x' at position 1",
        ),
        ("AE_DEBUG_SHELL", "[::1:1", "warn  ae_core: AE_DEBUG_SHELL ([::1:1): not understood: "),
        (
            "AE_DEBUG_SHELL",
            "192.0.2.1:1",
            "error ae_core.debug: AE_DEBUG_SHELL (192.0.2.1:1): no shell: ",
        ),
        (
            "AE_DEBUG_SHELL",
            "/nosuch/x",
            "error ae_core.debug: AE_DEBUG_SHELL (/nosuch/x): no shell: ",
        ),
    ],
)
def test_mistakes_are_named_and_harmless(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    monkeypatch.setenv(name, value)
    _environment.start()
    got = shown()
    assert got.startswith(text)
    assert got.count("\n") == 1
    assert _environment._shells == []


def test_environment_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        ignore_environment = 1

    monkeypatch.setenv("AE_X", "1")
    assert (environ.get("AE_X"), environ.get("AE_Y"), environ.get("AE_Y", "z")) == ("1", "", "z")
    assert (environment("AE_X"), environment("AE_Y"), environment("AE_Y", None)) == ("1", "", None)
    monkeypatch.setattr("sys.flags", Flags())
    assert (environ.get("AE_X"), environ.get("AE_X", "z")) == ("", "z")
    assert (environment("AE_X"), environment("AE_X", None)) == ("", None)
