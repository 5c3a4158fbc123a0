"""Everything public says what it is."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("public_names", ROOT / "tools/public_names.py")
assert SPEC is not None
assert SPEC.loader is not None
public_names = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = public_names  # dataclasses look there
SPEC.loader.exec_module(public_names)


def test_every_public_name_and_member_has_a_docstring() -> None:
    assert len(public_names.public_modules()) > 15
    assert public_names.undocumented() == []


def test_the_look_finds_what_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import ae_core

    def bare() -> None: ...

    monkeypatch.setattr(ae_core, "sleep", bare)
    monkeypatch.setattr(ae_core.Watcher, "extra", bare, raising=False)
    assert {"ae_core.sleep", "ae_core.Watcher.extra"} <= set(public_names.undocumented())


def test_the_functions_of_ae_dns_say_the_same_as_the_methods_they_stand_for() -> None:
    import ae_dns

    names = ("a", "aaaa", "any_", "mx", "ns", "ptr", "resolve", "reverse_lookup", "srv", "txt")
    for name in (*names, "reverse_verify"):
        said = [inspect.getdoc(getattr(where, name)) or "" for where in (ae_dns, ae_dns.Resolver)]
        assert said[0].splitlines()[0] == said[1].splitlines()[0], name
        assert "see :meth:" not in said[0]
