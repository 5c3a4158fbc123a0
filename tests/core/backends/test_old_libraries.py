"""A loop's library that is there, and too old."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import ae_core as ae
from ae_core._detection.table import load


def test_a_trio_without_what_we_need_is_unavailable_and_the_text_says_which_is_needed(
    unbound: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ModuleType("trio")
    old.__version__ = "0.25.0"  # type: ignore[attr-defined]
    old.lowlevel = ModuleType("trio.lowlevel")  # type: ignore[attr-defined]
    old.lowlevel.TrioToken = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trio", old)
    monkeypatch.setitem(sys.modules, "trio.lowlevel", old.lowlevel)
    monkeypatch.delitem(sys.modules, "ae_core._backends._trio", raising=False)
    with pytest.raises(ae.BackendUnavailable, match=r"needs trio 0\.29 or later, and 0\.25\.0"):
        load("trio")
    with pytest.raises(ae.BackendUnavailable, match=r"0\.25\.0"):
        ae.use("trio")
