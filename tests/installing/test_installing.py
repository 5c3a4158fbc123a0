"""Whoever installs as the page says gets our packages, and nothing of the stranger's.

The blocks are those of docs/how-to/install.md, with the addresses of two local servers in them. On
the public one lies a stranger's ``ae-core`` that our ranges admit.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .conftest import HOME, ROOT, STRANGER, Index, Place, make_index, make_wheel

NAMES = ("ae-core", "ae-socket", "ae-handle")
OURS = {name: version(name) for name in NAMES}
Block = Callable[[str], str]


def taken(public: Index) -> list[str]:
    """Which of the stranger's files were fetched from the public index."""
    return [path for path in public.asked if "/ae_" in path]


def with_hashes(block: str, ours: Index) -> str:
    """Put the true address, versions and hashes into the page's constraints."""
    lines = (ours.folder / "constraints.txt").read_text().splitlines()
    known = {line.partition(" @ ")[0]: line for line in lines}
    return "".join(f"{known[line.partition(' @ ')[0]]}\n" for line in block.splitlines())


@pytest.mark.parametrize("tool", ["pip", "uv_pip"])
def test_a_constraints_file_of_wheels_leads_to_ours(
    tool: str, place: Place, ours: Index, public: Index, document: Block
) -> None:
    constraints = with_hashes(document("pip constraints"), ours)
    (place.folder / "constraints.txt").write_text(constraints)
    getattr(place, tool)("-c", "constraints.txt", "memcached-client")
    assert place.versions() == OURS
    assert taken(public) == []


def test_a_wheel_with_another_hash_is_refused(place: Place, ours: Index, document: Block) -> None:
    constraints = with_hashes(document("pip constraints"), ours)
    wrong = re.sub(r"sha256=\w{8}", "sha256=00000000", constraints)
    (place.folder / "constraints.txt").write_text(wrong)
    pip = ("-m", "pip", "--python", place.python, "install", "--no-cache-dir")
    python = place.environment["UV_PYTHON"]
    told = place.run(python, *pip, "-c", "constraints.txt", "memcached-client", status=1)
    assert "HASHES" in told


def test_an_explicit_index_of_uv_leads_to_ours(
    place: Place, ours: Index, public: Index, document: Block
) -> None:
    project = document("uv application").replace(f"{HOME}/packages", ours.url)
    (place.folder / "pyproject.toml").write_text(project)
    place.run(place.uv, "sync", "--no-install-project")
    assert place.versions(place.folder / ".venv/bin/python") == OURS
    assert taken(public) == []
    lock = tomllib.loads((place.folder / "uv.lock").read_text())
    places = {p["name"]: p["source"] for p in lock["package"] if p["name"].startswith("ae-")}
    assert places == {name: {"registry": f"{ours.url}/simple"} for name in OURS}
    assert lock["package"][0]["wheels"][0]["hash"].startswith("sha256:")


def test_the_librarys_own_development_with_uv_gets_ours(
    place: Place, ours: Index, public: Index, document: Block
) -> None:
    application = document("uv application").replace(f"{HOME}/packages", ours.url)
    tables = application[application.index("[[tool.uv.index]]") :]
    library = document("library") + '\n[dependency-groups]\nanyevent = ["ae-core", "ae-socket"]\n\n'
    (place.folder / "pyproject.toml").write_text(library + tables)
    place.run(place.uv, "sync", "--no-install-project", "--group", "anyevent")
    python = place.folder / ".venv/bin/python"
    assert place.run(python, "-c", "import ae_handle, ae_core; print(ae_core.__version__)") == (
        f"{OURS['ae-core']}\n"
    )
    assert taken(public) == []


def plant_build_tools(place: Place) -> None:
    """Copy what builds our packages into the environment, so that no index is asked for it."""
    target = place.python.parents[1] / "lib"
    target = next(target.glob("python3*")) / "site-packages"
    wanted, planted = ["hatchling", "hatch-fancy-pypi-readme"], set()
    while wanted:
        found = distribution(wanted.pop())
        name = found.metadata["Name"].lower()
        if name in planted:
            continue
        planted.add(name)
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                copy = target / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), copy)
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[str], str]:
    """Return a block of the page with its repository led to a copy of ours that has its tags."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "packages", copy / "packages", ignore=shutil.ignore_patterns("__pyc*"))
    author = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")

    def git(*arguments: str) -> None:
        subprocess.run(["git", *author, *arguments], cwd=copy, check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=all")

    def lead(block: str) -> str:
        for tag in sorted(set(re.findall(r"ae-\w+-\d+\.\d+\.\d+", block))):
            git("tag", tag)
        return block.replace(f"{HOME}/source", f"file://{copy}")

    return lead


def test_constraints_that_name_the_repository_lead_to_ours_with_pip(
    place: Place, public: Index, document: Block, repository: Block
) -> None:
    plant_build_tools(place)
    (place.folder / "constraints.txt").write_text(repository(document("pip git")))
    place.pip("--no-build-isolation", "-c", "constraints.txt", "memcached-client")
    assert place.versions() == OURS
    assert taken(public) == []


def test_sources_in_the_repository_lead_to_ours_with_uv(
    place: Place, public: Index, document: Block, repository: Block
) -> None:
    plant_build_tools(place)
    application = document("uv application")
    project = application[: application.index("[[tool.uv.index]]")] + repository(document("uv git"))
    (place.folder / "pyproject.toml").write_text(project)
    place.environment["UV_PROJECT_ENVIRONMENT"] = str(place.python.parents[1])
    place.run(place.uv, "sync", "--no-install-project", "--no-build-isolation", "--inexact")
    assert place.versions() == OURS
    assert taken(public) == []


def test_one_more_index_takes_the_strangers_and_the_first_import_says_so(
    place: Place, ours: Index, public: Index
) -> None:
    """The trap that the page warns of is real: without it the tests above would prove nothing."""
    place.pip("--extra-index-url", f"{ours.url}/simple", "memcached-client")
    assert [path for path in taken(public) if path.startswith(f"/ae_core-{STRANGER}")]
    told = place.run(place.python, "-I", "-c", "import ae_handle", status=1)
    assert "needs the ae_core of AnyEvent for Python, found '" in told
    assert "belongs to another project" in told


@pytest.mark.parametrize("package", ["ae_socket", "ae_dns", "ae_handle", "ae_tls", "ae_guests"])
@pytest.mark.parametrize("code", [None, "", "__project__ = 'Another'\n"])
def test_every_upper_package_refuses_an_ae_core_that_is_not_ours(
    package: str, code: str | None, place: Place
) -> None:
    for name in ("ae_socket", "ae_dns", "ae_handle", "ae_tls", "ae_guests"):
        source = ROOT / "packages" / name.replace("_", "-") / "src" / name
        (place.folder / name).symlink_to(source)
    if code is not None:
        (place.folder / "ae_core.py").write_text(code)
    told = place.run(place.python, "-B", "-c", f"import {package}", status=1)
    last = told.splitlines()[-1]
    assert re.match(rf"ImportError: {package} needs the ae_core of AnyEvent", last)
    assert ("found none" in last) is (code is None)


def test_the_index_tells_hashes_sizes_and_metadata(ours: Index) -> None:
    with urllib.request.urlopen(f"{ours.url}/simple/ae-handle/index.json") as reply:
        told = json.load(reply)
    assert told["meta"]["api-version"] == "1.1"
    assert told["versions"] == [OURS["ae-handle"]]
    wheel = next(file for file in told["files"] if file["filename"].endswith(".whl"))
    assert wheel["size"] == (ours.folder / wheel["filename"]).stat().st_size
    page = (ours.folder / "simple/ae-handle/index.html").read_text()
    assert f"{wheel['url']}#sha256={wheel['hashes']['sha256']}" in page
    assert 'data-requires-python="&gt;=3.11"' in page
    assert wheel["core-metadata"]["sha256"] in page
    assert (ours.folder / f"{wheel['filename']}.metadata").is_file()


def test_the_newest_version_is_the_constraint(tmp_path: Path) -> None:
    for number in ("1.0.0", "1.10.0", "1.9.0"):
        make_wheel(tmp_path, "ae-core", number, "")
    make_index(tmp_path, "--no-build", "--url", "https://packages.example.com/")
    text = (tmp_path / "constraints.txt").read_text()
    assert text.startswith(
        "ae-core @ https://packages.example.com/ae_core-1.10.0-py3-none-any.whl#"
    )
