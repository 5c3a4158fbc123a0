"""Messages of the package's own first moments, and of values that cannot be shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ae_core as ae
from ae_core._base import log
from ae_core._base.describe import value_text


def test_a_message_before_the_package_is_complete_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "_dispatch", None)
    monkeypatch.setattr(log, "load_engine", log.no_engine)
    assert ae.log("error", "so early", context="ae_core")
    assert capsys.readouterr().err == "error ae_core: so early\n"


def test_a_message_before_a_loop_is_known_has_the_time_of_day(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fresh_logs: None,
    unstamped: Callable[[str], str],
) -> None:
    monkeypatch.setattr(log, "loop_time", log.no_loop_time)
    ae.log("error", "so early", context="ae_core")
    said = capsys.readouterr().err
    assert unstamped(said) != said


def test_a_socket_whose_text_cannot_be_made_is_named_by_its_type() -> None:
    def fails(self: object) -> str:
        raise AttributeError("half made")

    broken = type("socket", (), {"__module__": "socket", "__repr__": fails})()
    assert value_text(broken) == f"<socket.socket at {id(broken):#x}>"
