"""What a signal handler of the program raises inside a loop in C, which would print it."""

from __future__ import annotations

import sys
from types import TracebackType

import pytest

import ae_core as ae
from ae_core._base.signal_errors import hearing_printed, is_ours


def struck() -> BaseException:
    """Return an exception that has come through code of ours."""
    with pytest.raises(TypeError) as raised:
        ae.timer("soon", print)  # type: ignore[arg-type]
    return raised.value


def test_what_struck_our_code_is_heard_and_the_rest_is_printed_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed: list[BaseException] = []
    escaped: list[BaseException] = []

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        printed.append(error)

    monkeypatch.setattr(sys, "excepthook", hook)
    ours, others = struck(), ValueError("of the program")
    assert is_ours(ours)
    with hearing_printed(escaped.append):
        for error in (ours, others):
            sys.excepthook(type(error), error, error.__traceback__)
    assert escaped == [ours]
    assert printed == [others]
    assert sys.excepthook is hook


def test_a_hook_that_the_program_sets_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(*_: object) -> None:
        return None

    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with hearing_printed(lambda error: None):
        sys.excepthook = hook
    assert sys.excepthook is hook
