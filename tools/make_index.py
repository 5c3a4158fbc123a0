"""Build every distribution and a package index of them, as plain files for any web server.

    python tools/make_index.py [DIRECTORY] [--url URL] [--no-build]

Writes into DIRECTORY (``dist``) the wheels and sdists; ``simple/``, the pages of a simple
repository (PEP 503, and PEP 691's JSON beside each page as ``index.json``) with hashes, sizes and
PEP 658 metadata; and ``constraints.txt``, direct references with hashes for ``pip -c``, where URL
is the address that DIRECTORY will be served at.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import html
import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[1]
#: The protocol libraries are examples, yet installable: they are built with the others.
PLACES: Final = ("packages/*/pyproject.toml", "examples/*/pyproject.toml")


@dataclass(frozen=True)
class File:
    """A distribution file, and what an index says of it."""

    path: Path
    name: str
    version: Version
    sha256: str
    requires_python: str
    metadata: bytes | None  # of a wheel

    @property
    def metadata_hash(self) -> str | None:
        return hashlib.sha256(self.metadata).hexdigest() if self.metadata else None

    def as_json(self) -> dict[str, Any]:
        """Return the file's entry in PEP 691's list."""
        entry: dict[str, Any] = {
            "filename": self.path.name,
            "url": f"../../{self.path.name}",
            "hashes": {"sha256": self.sha256},
            "requires-python": self.requires_python,
            "size": self.path.stat().st_size,
        }
        if self.metadata_hash:
            entry["core-metadata"] = {"sha256": self.metadata_hash}
        return entry

    def as_html(self) -> str:
        """Return the file's link on PEP 503's page."""
        extra = f' data-core-metadata="sha256={self.metadata_hash}"' if self.metadata_hash else ""
        return (
            f'<a href="../../{self.path.name}#sha256={self.sha256}"'
            f' data-requires-python="{html.escape(self.requires_python)}"{extra}>'
            f"{self.path.name}</a><br>"
        )


def home() -> str:
    """Return the project's address on the web, from the workspace's own settings."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["tool"]["ae"]["home"])


def build(directory: Path) -> None:
    """Build a wheel and an sdist of every distribution."""
    for project in sorted(path for place in PLACES for path in ROOT.glob(place)):
        command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
        done = subprocess.run(command, cwd=project.parent, check=False, capture_output=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr.decode(errors="replace"))


def read(path: Path) -> File:
    """Return what the index says of the file at *path*."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix != ".whl":
        name, version = parse_sdist_filename(path.name)
        return File(path, name, version, sha256, ">=3.11", None)
    name, version, _, _ = parse_wheel_filename(path.name)
    with zipfile.ZipFile(path) as archive:
        entry = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = archive.read(entry)
    wanted = str(email.message_from_bytes(metadata)["Requires-Python"])
    return File(path, name, version, sha256, wanted, metadata)


def page(title: str, links: Iterator[str] | list[str]) -> str:
    """Return a page of PEP 503."""
    body = "\n".join(links)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="pypi:repository-version" content="1.1">'
        f"<title>{title}</title></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def write(directory: Path, url: str) -> list[File]:
    """Write the index of the distribution files in *directory*; return them."""
    paths = sorted(p for p in directory.iterdir() if p.name.endswith((".whl", ".tar.gz")))
    files = [read(path) for path in paths]
    names = sorted({file.name for file in files})
    meta = {"api-version": "1.1"}

    def pages(place: Path, title: str, links: list[str], data: dict[str, Any]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "index.html").write_text(page(title, links), "utf-8")
        (place / "index.json").write_text(json.dumps({"meta": meta, **data}, indent=1), "utf-8")

    simple = directory / "simple"
    links = [f'<a href="{name}/">{name}</a><br>' for name in names]
    pages(simple, "AnyEvent for Python", links, {"projects": [{"name": name} for name in names]})
    constraints = []
    for name in names:
        own = [file for file in files if file.name == name]
        versions = sorted({file.version for file in own})
        entries = [file.as_json() for file in own]
        data = {"name": name, "versions": [str(v) for v in versions], "files": entries}
        pages(simple / canonicalize_name(name), name, [file.as_html() for file in own], data)
        newest = next(f for f in own if f.version == versions[-1] and f.metadata)
        constraints.append(f"{name} @ {url}/{newest.path.name}#sha256={newest.sha256}\n")
    (directory / "constraints.txt").write_text("".join(constraints), "utf-8")
    for file in files:
        if file.metadata:
            file.path.with_name(f"{file.path.name}.metadata").write_bytes(file.metadata)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "dist")
    parser.add_argument("--url", help="where the directory will be served")
    parser.add_argument("--no-build", action="store_true", help="index what is there")
    options = parser.parse_args()
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if not options.no_build:
        build(directory)
    files = write(directory, (options.url or f"{home()}/packages").rstrip("/"))
    print(
        f"{len(files)} files of {len({file.name for file in files})} projects: {directory}/simple"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
