"""What the environments install is locked: a version that they admit, and its hashes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "tools/ci.lock").exists():
    pytest.skip("needs the whole checkout", allow_module_level=True)
utils = pytest.importorskip("packaging.utils", reason="packaging is not installed")


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.split(".")[0] == "tools"]:
        monkeypatch.delitem(sys.modules, name)
    from tools import lock

    return lock


def blocks(lock: Any) -> list[tuple[str, str, str]]:
    """Return name, version and the rest of each entry."""
    text: str = lock.LOCK.read_text("utf-8")
    return re.findall(r"^([\w.-]+)==(\S+)((?:.*\n(?: .*\n)*))", text, re.MULTILINE)


def test_each_requirement_of_the_environments_is_locked_at_a_version_it_admits(lock: Any) -> None:
    versions: dict[str, list[str]] = {}
    for name, version, _ in blocks(lock):
        versions.setdefault(utils.canonicalize_name(name), []).append(version)
    for need in lock.wanted():
        found = versions.get(utils.canonicalize_name(need.name), [])
        assert any(need.specifier.contains(each) for each in found), f"{need}: {found}"


def test_everything_that_is_locked_has_hashes(lock: Any) -> None:
    found = blocks(lock)
    assert len(found) > 100
    assert [name for name, _, rest in found if "--hash=sha256:" not in rest] == []


def test_the_continuous_integration_makes_every_locked_environment_by_the_lock(lock: Any) -> None:
    text = (ROOT / ".ci/run").read_text("utf-8")
    [names] = re.findall(r'^LOCKED="(.*)"$', text, re.MULTILINE)
    used = set(re.findall(r"hatch run ([\w-]+):", text))
    assert used - lock.LEFT_OUT == {*names.split(), "loops"} - {"default"}
    assert "UV_CONSTRAINT=tools/ci.lock hatch env create" in text


def test_nothing_of_the_checkout_is_locked(lock: Any) -> None:
    ours = lock.distributions()
    assert {name for name, _, _ in blocks(lock)} & ours.keys() == set()
