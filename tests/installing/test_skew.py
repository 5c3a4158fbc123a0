"""Versions that do not belong together are refused by the first import, with what to do.

Installers see to the ranges; ``pip install --no-deps``, a copied folder, a frozen program or a path
that leads elsewhere do not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tools import check_skew

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ae_core", "ae_socket", "ae_dns", "ae_handle", "ae_tls", "ae_guests")


def ranges(package: str) -> dict[str, Requirement]:
    """Return what *package* says in its metadata that it needs of ours."""
    with (ROOT / "packages" / package.replace("_", "-") / "pyproject.toml").open("rb") as file:
        needs = map(Requirement, tomllib.load(file)["project"]["dependencies"])
    named = {need.name.replace("-", "_"): need for need in needs}
    return {name: need for name, need in named.items() if name in PACKAGES}


PAIRS = [(upper, lower) for upper in PACKAGES for lower in ranges(upper)]


def start(folder: Path, package: str, **versions: str) -> subprocess.CompletedProcess[str]:
    """Import *package* where some of ours say that they are of other versions."""
    for name in PACKAGES:
        source = ROOT / "packages" / name.replace("_", "-") / "src" / name
        if name not in versions:
            (folder / name).symlink_to(source)
            continue
        (folder / name).mkdir()
        for each in source.iterdir():
            (folder / name / each.name).symlink_to(each)
        text = (source / "_version.py").read_text("utf-8")
        (folder / name / "_version.py").unlink()
        text = re.sub(r'__version__ = ".*"', f'__version__ = "{versions[name]}"', text)
        (folder / name / "_version.py").write_text(text, "utf-8")
    return subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", f"import {package}"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("upper", "lower"), PAIRS, ids=map("-on-".join, PAIRS))
def test_a_lower_package_that_is_too_old_is_named_with_what_to_do(
    upper: str, lower: str, tmp_path: Path
) -> None:
    done = start(tmp_path, upper, **{lower: "0.9.4"})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    distribution = lower.replace("_", "-")
    assert re.match(
        rf"ImportError: {upper} [\d.]+ needs {distribution} 1\.0 or newer, and below 2\.0; found "
        rf"0\.9\.4 in '.*{lower}/__init__\.py': upgrade {distribution}, ",
        last,
    ), last
    assert "docs/how-to/install.md" in last


@pytest.mark.parametrize(("upper", "lower"), PAIRS, ids=map("-on-".join, PAIRS))
def test_a_lower_package_that_is_too_new_is_named_with_what_to_do(
    upper: str, lower: str, tmp_path: Path
) -> None:
    done = start(tmp_path, upper, **{lower: "2.0.0"})
    last = done.stderr.splitlines()[-1]
    distribution, own = lower.replace("_", "-"), upper.replace("_", "-")
    assert f"found 2.0.0 in '{tmp_path}/{lower}/__init__.py': upgrade {own}, or take " in last, last
    assert last.endswith(f"{distribution} below 2.0, as docs/how-to/install.md says")


@pytest.mark.parametrize("version", ["1.0.0", "1.10.0", "1.2.0rc1"])
def test_every_version_of_the_range_is_admitted(version: str, tmp_path: Path) -> None:
    done = start(tmp_path, "ae_tls", ae_core=version, ae_socket=version, ae_handle=version)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_without_the_core_of_this_project_the_import_says_which_one_is_wanted(
    package: str, tmp_path: Path
) -> None:
    (tmp_path / "missing").mkdir()
    (tmp_path / "folder/ae_core").mkdir(parents=True)
    for name, text in (("other", "import os"), ("broken", "import no_such_module")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ae_core.py").write_text(text)
    code = f"""if True:
        import sys
        ours = [each for each in sys.path if "ae-core" not in each]
        for place in {("missing", "folder", "other", "broken")}:
            sys.modules.pop("ae_core", None)
            sys.path[:] = [{str(tmp_path)!r} + "/" + place, *ours]
            try:
                import {package}
            except ImportError as error:
                print(place, error.name, str(error).partition(":")[0].partition(" (<")[0], sep="; ")
    """
    sources = [ROOT / "packages" / each.replace("_", "-") / "src" for each in PACKAGES[1:]]
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))},
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = f"{package} needs the ae_core of AnyEvent for Python, found"
    assert done.stdout.splitlines() == [
        f"missing; ae_core; {wanted} none",
        f"folder; ae_core; {wanted} <module 'ae_core'",
        f"other; ae_core; {wanted} '{tmp_path}/other/ae_core.py'",
        "broken; no_such_module; No module named 'no_such_module'",
    ], done.stderr


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_what_is_checked_at_import_is_what_the_metadata_say(package: str) -> None:
    source = ROOT / "packages" / package.replace("_", "-") / "src" / package / "_foundation.py"
    text = source.read_text("utf-8")
    table = text[text.index("_LOWEST = ") : text.index("_WANTED = ")]
    pairs = re.findall(r'"(\w+)": \((\d+), (\d+)\)', table)
    checked = {name: f"{major}.{minor}" for name, major, minor in pairs}
    said = {
        name: next(each.version for each in need.specifier if each.operator == ">=")
        for name, need in ranges(package).items()
    }
    assert checked == said
    assert all("<2" in str(need.specifier) for need in ranges(package).values())


def test_the_checks_of_all_packages_are_the_same() -> None:
    texts = set()
    for package in PACKAGES[1:]:
        source = ROOT / "packages" / package.replace("_", "-") / "src" / package / "_foundation.py"
        text = source.read_text("utf-8").replace(package, "PACKAGE")
        text = text.replace(package.replace("_", "-"), "OWN")
        texts.add(re.sub(r"(?<=_LOWEST = )\{.*?\}", "", text, flags=re.S))
    assert len(texts) == 1


# ---------------------------------------------------------------------- tools/check_skew.py

Repository = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Return a function that makes a repository of two distributions with tags.

    Every argument is a state, ``(code of ae_low, code of ae_high)``, that is tagged; the last is
    the checkout's.
    """

    def git(*words: str) -> None:
        author = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    def make(*states: tuple[str, str]) -> Path:
        git("init", "--quiet")
        for number, codes in enumerate(states):
            for name, code in zip(("low", "high"), codes, strict=True):
                package = tmp_path / f"packages/ae-{name}"
                source = package / f"src/ae_{name}"
                source.mkdir(parents=True, exist_ok=True)
                (source / "__init__.py").write_text(code)
                version = f'__version__ = "1.{number}.0"\n'
                (source / "_version.py").write_text(version)
                needs = '["ae-low>=1.0,<2"]' if name == "high" else "[]"
                (package / "pyproject.toml").write_text(
                    f'[project]\nname = "ae-{name}"\ndependencies = {needs}\n'
                )
            git("add", "--all")
            git("commit", "--quiet", "--message", f"state {number}")
            if number < len(states) - 1:
                git("tag", f"ae-low-1.{number}.0")
                git("tag", f"ae-high-1.{number}.0")
        return tmp_path

    return make


OLD = ("def ready(): ...\n", "import ae_low as low\n\ndef use():\n    return low.ready()\n")


def test_a_new_name_that_is_used_without_a_higher_bound_is_found(repository: Repository) -> None:
    low = "def ready(): ...\ndef later(): ...\n"
    high = "import ae_low as low\n\ndef use():\n    return low.later()\n"
    assert check_skew.complaints(repository(OLD, (low, high))) == [
        "ae-high of the checkout on ae-low 1.0.0: no ae_low.later (ae_high/__init__.py:4)"
    ]


def test_a_name_that_is_gone_and_a_released_version_uses_is_found(repository: Repository) -> None:
    new = ("def go(): ...\n", "from ae_low import go\n\ndef use():\n    return go()\n")
    assert check_skew.complaints(repository(OLD, new)) == [
        "ae-high of the checkout on ae-low 1.0.0: no ae_low.go (ae_high/__init__.py:1)",
        "ae-high 1.0.0 on ae-low of the checkout: no ae_low.ready (ae_high/__init__.py:4)",
    ]


def test_versions_that_go_together_are_no_complaint(repository: Repository) -> None:
    low = "def ready(): ...\ndef later(): ...\n"
    assert check_skew.complaints(repository(OLD, (low, OLD[1]))) == []


def test_the_repositorys_own_releases_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = check_skew.complaints(ROOT)
    except check_skew.NothingReleased as error:
        pytest.skip(str(error))
    assert found == []
