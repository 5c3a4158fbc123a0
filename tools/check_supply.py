"""Check where the wheels come from: locked build tools, the same bytes twice, an SBOM of each.

    python -m tools.check_supply [DIRECTORY]

The tools of ``tools/build.lock`` are installed by their hashes. They build each wheel twice, from
two copies of what is committed here or about to be, in places, times and settings that differ. Both
must be the same, byte by byte, and have the contents of the wheel in DIRECTORY. Beside that one
an SBOM is written (CycloneDX), which must name what the wheel requires.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.version import Version
from tools.check_wheels import Wheel, read
from tools.release import write_sbom

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "tools/build.lock"
#: What may differ from one machine to another, twice.
SETTINGS: Final = (
    {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1", "umask": "022", "when": "1200000000"},
    {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "umask": "027", "when": "0"},
)


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(
        [str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE, **options
    )
    return str(done.stdout)


def packages() -> list[Path]:
    """Return the directories of what is distributed, relative to the root."""
    found = [*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("examples/*/pyproject.toml")]
    return sorted(path.parent.relative_to(ROOT) for path in found)


def copy_of_sources(target: Path, when: int) -> None:
    """Copy what git knows, or would add, with files of the age *when* (0: new)."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        source, copied = ROOT / name, target / name
        if not source.is_file():
            continue  # removed, and that is not committed yet
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copied)
        if when:
            os.utime(copied, (when, when))


def locked_tools(folder: Path) -> Path:
    """Install the build tools by their hashes, nothing else; return the interpreter."""
    run("uv", "venv", "--quiet", "--python", sys.executable, folder)
    scripts = sysconfig.get_path("scripts", "venv", {"base": str(folder)})
    python = Path(scripts, "python.exe" if os.name == "nt" else "python")
    options = (
        "--quiet",
        "--python",
        python,
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
    )
    run("uv", "pip", "install", *options, "-r", LOCK)
    return python


BUILD: Final = """
import os, sys
from hatchling.builders.wheel import WheelBuilder
made, *packages = sys.argv[1:]
for package in packages:
    os.chdir(package)  # where the README is read from
    list(WheelBuilder(package).build(directory=made, versions=["standard"]))
"""


def build(python: Path, folder: Path, settings: dict[str, str]) -> dict[str, Path]:
    """Build every wheel once; return them by the names of their files."""
    sources, made = folder / "sources", folder / "made"
    copy_of_sources(sources, int(settings["when"]))
    environment = {**os.environ, **settings}
    environment.pop("SOURCE_DATE_EPOCH", None)
    places = [sources / package for package in packages()]
    command: tuple[str | Path, ...] = (python, "-c", BUILD, made, *places)
    run(*command, env=environment, umask=int(settings["umask"], 8))
    return {path.name: path for path in made.glob("*.whl")}


def contents(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel but those that name what built it."""
    with zipfile.ZipFile(path) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith((".dist-info/WHEEL", ".dist-info/RECORD"))
        }


def lacking(wheel: Wheel, directory: Path) -> list[str]:
    """Write the SBOM of *wheel*; return what it lacks."""
    project = next(path for path in packages() if path.name == wheel.name)
    file = write_sbom(ROOT / project, Version(wheel.metadata["Version"]), directory)
    bom = json.loads(file.read_text("utf-8"))
    wanted = {requirement.name.lower() for requirement in wheel.requirements()}
    named = {component["name"].lower() for component in bom.get("components", ())}
    facts = {
        "it is CycloneDX": bom.get("bomFormat") == "CycloneDX",
        "it is about the wheel": bom["metadata"]["component"]["purl"]
        == f"pkg:pypi/{wheel.name}@{wheel.metadata['Version']}",
        "it has a licence": bool(bom["metadata"]["component"]["licenses"]),
        f"it names what is required, {sorted(wanted)}": named == wanted,
    }
    return [f"{file.name}: {fact}" for fact, holds in facts.items() if not holds]


def unlocked() -> list[str]:
    """Return the build requirements that the lock does not meet."""
    lines = [line for line in LOCK.read_text("utf-8").splitlines() if "==" in line]
    locked = dict(line.rstrip(" \\").split("==") for line in lines)
    wrong = []
    for package in packages():
        with (ROOT / package / "pyproject.toml").open("rb") as file:
            needed = map(Requirement, tomllib.load(file)["build-system"]["requires"])
        wrong += [
            f"{package}: {need} is not in {LOCK.name}"
            for need in needed
            if need.name not in locked or locked[need.name] not in need.specifier
        ]
    return wrong


def main() -> int:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    wrong = unlocked()
    with tempfile.TemporaryDirectory() as folder:
        python = locked_tools(Path(folder, "tools"))
        first, second = (
            build(python, Path(folder, "a" * (10 * n + 1)), settings)
            for n, settings in enumerate(SETTINGS)
        )
        given = {path.name: path for path in directory.glob("*.whl")}
        if not first.keys() == second.keys() == given.keys():
            wrong.append(f"expected the same wheels, got {[*first]}, {[*second]}, {[*given]}")
        for name in first.keys() & second.keys() & given.keys():
            if first[name].read_bytes() != second[name].read_bytes():
                wrong.append(f"{name}: built twice, it is not the same")
            if contents(first[name]) != contents(given[name]):
                wrong.append(f"{name}: its contents are not those of the one that was given")
    for path in given.values():
        wrong += lacking(read(path), directory)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"supply: {len(given)} wheels, each built twice, {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
