"""Check what ``hatch build --all`` made: every file, its metadata, each wheel on its layers only.

    python tools/check_wheels.py [DIRECTORY]

Every wheel goes into an environment of its own. First come the libraries it needs, from the package
index, by name; then the wheel and the layers below it, from DIRECTORY and nowhere else. So the
index is never asked for one of our names: the name of the lowest belongs to a stranger there.
"""

from __future__ import annotations

import email
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

BELOW: Final = {
    "ae-core": (),
    "ae-socket": ("ae-core",),
    "ae-dns": ("ae-core", "ae-socket"),
    "ae-handle": ("ae-core", "ae-socket"),
    "ae-tls": ("ae-core", "ae-socket", "ae-handle"),
    "ae-guests": ("ae-core",),
    "ae-redis": ("ae-core", "ae-socket", "ae-handle"),
    "ae-http": ("ae-core", "ae-socket", "ae-handle"),
    "ae-irc": ("ae-core", "ae-socket", "ae-handle"),
    "ae-weechat": ("ae-core",),
}
#: Modules for other programs, beside the package so that they can be loaded without it.
PLUGINS: Final = {
    name: (f"{name.replace('-', '_')}_pytest.py",) for name in ("ae-core", "ae-socket", "ae-handle")
}
CHECK: Final = """
import importlib, importlib.metadata, importlib.util, sys
name, names = sys.argv[1].replace("-", "_"), sys.argv[2:]
module = importlib.import_module(name)
assert module.__version__ == importlib.metadata.version(name), module.__version__
found = [n for n in names if importlib.util.find_spec(n.replace("-", "_"))]
print(*found)
"""


@dataclass(frozen=True)
class Wheel:
    """A built wheel: its file, its metadata, the names of the files in it."""

    path: Path
    metadata: Message
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.metadata["Name"])

    def requirements(self) -> list[Requirement]:
        """What the wheel needs without any extra."""
        found = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def read(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as archive:
        files = tuple(archive.namelist())
        entry = next(name for name in files if name.endswith(".dist-info/METADATA"))
        return Wheel(path, email.message_from_bytes(archive.read(entry)), files)


def complaints(wheel: Wheel) -> list[str]:
    """What is wrong with the metadata or the contents of *wheel*."""
    package = wheel.name.replace("-", "_")
    version = wheel.metadata["Version"]
    ours = {r.name: str(r.specifier) for r in wheel.requirements() if r.name in BELOW}
    expected = {package, f"{package}-{version}.dist-info", *PLUGINS.get(wheel.name, ())}
    outside = {f.split("/")[0] for f in wheel.files} - expected
    facts = {
        "file name": wheel.path.name == f"{package}-{version}-py3-none-any.whl",
        "sdist beside it": wheel.path.with_name(f"{package}-{version}.tar.gz").is_file(),
        "Requires-Python": wheel.metadata["Requires-Python"] == ">=3.11",
        "License-Expression": wheel.metadata["License-Expression"] == "MIT",
        "a description": bool(str(wheel.metadata.get_payload()).strip()),
        "py.typed": f"{package}/py.typed" in wheel.files,
        "the licence": any(name.endswith("/licenses/LICENSE") for name in wheel.files),
        "nothing but the package": not outside,
        "only lower layers, from 1.0 to below 2": all(
            name in BELOW[wheel.name] and specifier == "<2,>=1.0"
            for name, specifier in ours.items()
        ),
    }
    return [f"{wheel.path.name}: {fact}" for fact, holds in facts.items() if not holds]


def run(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], check=True, text=True, stdout=-1).stdout


def install(wheel: Wheel, wheels: dict[str, Wheel], directory: Path) -> list[str]:
    """Install *wheel* into a fresh environment; return which of ours can be found there."""
    layers = [wheels[name] for name in BELOW[wheel.name]] + [wheel]
    libraries = {str(r) for layer in layers for r in layer.requirements() if r.name not in BELOW}
    with tempfile.TemporaryDirectory() as folder:
        run("uv", "venv", "--quiet", "--python", sys.executable, folder)
        scripts = sysconfig.get_path("scripts", "venv", {"base": folder})
        python = Path(scripts, "python.exe" if os.name == "nt" else "python")
        pip = ("uv", "pip", "install", "--quiet", "--python", python)
        if libraries:
            run(*pip, *sorted(libraries))
        run(
            *pip,
            "--offline",
            "--no-index",
            "--find-links",
            directory,
            f"{wheel.name}=={wheel.metadata['Version']}",
        )
        return run(python, "-I", "-c", CHECK, wheel.name, *BELOW).split()


def main() -> int:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    built = sorted(path.name for path in directory.iterdir() if path.suffix in (".whl", ".gz"))
    found = [read(path) for path in sorted(directory.glob("*.whl"))]
    wheels = {wheel.name: wheel for wheel in found}
    wrong = [text for wheel in found for text in complaints(wheel)]
    if set(wheels) != set(BELOW) or len(built) != 2 * len(BELOW):
        wrong.append(f"expected a wheel and an sdist of each of {', '.join(BELOW)}, got {built}")
    else:
        for name, wheel in wheels.items():
            try:
                installed = install(wheel, wheels, directory)
            except subprocess.CalledProcessError as error:
                wrong.append(f"{name}: exit status {error.returncode} of: {error.cmd[:4]} ...")
                continue
            expected = [other for other in BELOW if other in (*BELOW[name], name)]
            print(f"{wheel.path.name} installs with {', '.join(installed)}")
            if installed != expected:
                wrong.append(f"{name}: expected {expected} to be installed, got {installed}")
    files = [str(directory / name) for name in built]
    if subprocess.run(["twine", "check", "--strict", *files], check=False).returncode != 0:
        wrong.append("twine check --strict: see above")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"wheels: {len(built)} files, {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
