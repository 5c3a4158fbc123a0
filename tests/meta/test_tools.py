"""The scripts under ``tools/`` see what they are for."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "data", "wrong"),
    [
        pytest.param("a.py", b"x = 1\n", 0, id="clean"),
        pytest.param("a.py", b"x = 1 \n", 1, id="blank-at-the-end"),
        pytest.param("a.py", b"x = 1\r\n", 1, id="carriage-return"),
        pytest.param("a.py", b"x = 1", 1, id="no-newline"),
        pytest.param("a.py", b"x = 1\n\n", 1, id="two-newlines"),
        pytest.param("a.toml", b"x = \n", 2, id="bad-toml"),
        pytest.param("a.py", b"\xff\n", 1, id="not-utf-8"),
        pytest.param("a.png", b"\x89PNG\0 \n\n", 0, id="binary"),
    ],
)
def test_check_files(
    name: str, data: bytes, wrong: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(data)
    found = tool("check_files", monkeypatch).complaints(str(tmp_path / name))
    assert len(found) == wrong


def test_check_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tool("check_fragments", monkeypatch).missing
    source = "packages/ae-core/src/ae_core/_api.py"
    assert missing(["README.md", "packages/ae-core/README.md"]) == set()
    assert missing([source]) == {"ae-core"}
    assert missing([source, "packages/ae-dns/newsfragments/7.bugfix.md"]) == {"ae-core"}
    assert missing([source, "packages/ae-core/newsfragments/7.nonsense.md"]) == {"ae-core"}
    assert missing([source, "packages/ae-core/newsfragments/7.misc.md"]) == set()


def test_check_wheels_names_everything_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ae_socket-1.0.0-py3-none-any.whl"
    text = "Name: ae-socket\nVersion: 1.0.0\nRequires-Dist: ae-core>=0.9\n\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("ae_socket-1.0.0.dist-info/METADATA", text)
        wheel.writestr("ae_core/__init__.py", "")
    module = tool("check_wheels", monkeypatch)
    found = {line.split(": ")[1] for line in module.complaints(module.read(path))}
    assert found >= {"sdist beside it", "py.typed", "the licence", "nothing but the package"}
    assert "only lower layers, from 1.0 to below 2" in found
    assert "file name" not in found


def test_check_supply_names_build_tools_that_are_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS.parent))
    module = tool("check_supply", monkeypatch)
    assert module.unlocked() == []
    lock = tmp_path / "build.lock"
    lock.write_text("hatchling==1.0 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(module, "LOCK", lock)
    found = module.unlocked()
    assert any("hatchling>=1.26 is not in build.lock" in text for text in found)
    assert any("hatch-fancy-pypi-readme" in text for text in found)


def test_check_supply_compares_what_is_in_wheels_but_not_what_built_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS.parent))
    module = tool("check_supply", monkeypatch)

    def wheel(name: str, code: str, generator: str) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/__init__.py", code)
            archive.writestr("x-1.dist-info/WHEEL", f"Generator: {generator}")
        return path

    one = wheel("one.whl", "a = 1", "hatchling 1.0")
    assert module.contents(one) == module.contents(wheel("two.whl", "a = 1", "hatchling 2.0"))
    assert module.contents(one) != module.contents(wheel("three.whl", "a = 2", "hatchling 1.0"))
