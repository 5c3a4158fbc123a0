"""Release one distribution, or set the project's address.

    hatch run release ae-handle minor [--dry-run]     # or major, patch, or a version
    hatch run release home https://...

A release writes the version, makes the changelog of the fragments, builds wheel and sdist, writes
an SBOM beside them (CycloneDX), commits, and tags ``ae-handle-1.1.0``. It publishes nothing. With
``--dry-run`` all of it happens in a copy, and this checkout stays as it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

ROOT: Final = Path(__file__).resolve().parents[1]
MARK: Final = "<!-- releases -->\n"


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command; its failure ends the release with what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command[:4]))} ...:\n{done.stdout}")
    return done.stdout


def next_version(current: Version, wanted: str) -> Version:
    """Return the version after *current*: a part of it counts on, or it is given."""
    major, minor, patch = current.release
    steps = {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
    }
    if wanted in steps:
        return Version(".".join(map(str, steps[wanted])))
    try:
        version = Version(wanted)
    except InvalidVersion:
        raise SystemExit(f"expected major, minor, patch or a version, got {wanted!r}") from None
    if version <= current or len(version.release) != 3:
        raise SystemExit(f"expected a version of three numbers above {current}, got {version}")
    return version


def write_version(package: Path, name: str, wanted: str) -> Version:
    """Write the new version into the package, and return it."""
    file = package / "src" / name.replace("-", "_") / "_version.py"
    text = file.read_text("utf-8")
    found = re.search(r'__version__ = "(.+?)"', text)
    assert found is not None
    version = next_version(Version(found[1]), wanted)
    file.write_text(text.replace(found[0], f'__version__ = "{version}"'), "utf-8")
    return version


def write_changelog(package: Path, root: Path, version: Version, date: str) -> None:
    """Turn the fragments into a section of the changelog."""
    fragments = [p for p in (package / "newsfragments").glob("*.md") if p.name != "README.md"]
    if not fragments:
        raise SystemExit(f"{package.name}: no fragments, so nothing to release")
    log = package / "CHANGELOG.md"
    text = log.read_text("utf-8")
    if MARK not in text:
        log.write_text(text.replace("\n## ", f"\n{MARK}\n## ", 1), "utf-8")
    settings = (root / "tools/towncrier.toml").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "towncrier.toml")
        template = root / "tools/changelog.md.jinja"
        file.write_text(settings.replace("TEMPLATE", template.as_posix()), "utf-8")
        common = ("--config", file, "--dir", package, "--yes", "--name", package.name)
        towncrier = (sys.executable, "-m", "towncrier", "build", *common)
        run(*towncrier, "--version", str(version), "--date", date, cwd=package)


def write_sbom(package: Path, version: Version, dist: Path) -> Path:
    """Write what the distribution is made of and requires, in CycloneDX's format."""
    with (package / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    stem = f"{package.name.replace('-', '_')}-{version}"
    target = dist / f"{stem}.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("\n".join(project["dependencies"]), "utf-8")
        cyclonedx = (sys.executable, "-m", "cyclonedx_py", "requirements", requirements)
        options = ("--output-reproducible", "--of", "JSON", "-o", target)
        run(*cyclonedx, *options, cwd=package)
    bom = json.loads(target.read_text("utf-8"))
    bom.setdefault("metadata", {})["component"] = {
        "type": "library",
        "bom-ref": "root",
        "name": package.name,
        "version": str(version),
        "description": project["description"],
        "licenses": [{"license": {"id": project["license"]}}],
        "purl": f"pkg:pypi/{package.name}@{version}",
    }
    target.write_text(json.dumps(bom, indent=2) + "\n", "utf-8")
    return target


def release(root: Path, name: str, wanted: str, date: str) -> list[str]:
    """Release *name* from the clean checkout *root*; return the names of the files made."""
    package = root / "packages" / name
    if not package.is_dir():
        known = sorted(path.name for path in (root / "packages").iterdir())
        raise SystemExit(f"expected one of {', '.join(known)}, got {name!r}")
    if run("git", "status", "--porcelain", "--untracked-files=no", cwd=root):
        raise SystemExit("the checkout has changes: commit them first")
    version = write_version(package, name, wanted)
    tag = f"{name}-{version}"
    if run("git", "tag", "--list", tag, cwd=root):
        raise SystemExit(f"the tag {tag} exists")
    write_changelog(package, root, version, date)
    dist = root / "dist"
    run(sys.executable, "-m", "hatchling", "build", "-d", dist, cwd=package)
    sbom = write_sbom(package, version, dist)
    run("git", "add", "--all", package, cwd=root)
    run("git", "commit", "--quiet", "-m", f"release: {name} {version}", cwd=root)
    run("git", "tag", "--annotate", "-m", f"{name} {version}", tag, cwd=root)
    stem = f"{name.replace('-', '_')}-{version}"
    made = [f"{stem}-py3-none-any.whl", f"{stem}.tar.gz", sbom.name]
    missing = [file for file in made if not (dist / file).is_file()]
    if missing:
        raise SystemExit(f"not made: {', '.join(missing)}")
    return [tag, *made]


def dry_run(name: str, wanted: str, date: str) -> None:
    """Release in a copy of the newest commit, and show what would change."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "source")
        run("git", "clone", "--quiet", "--no-tags", ROOT, copy, cwd=ROOT)
        for key, value in (("user.name", "dry run"), ("user.email", "dry-run@example.org")):
            run("git", "config", key, value, cwd=copy)
        made = release(copy, name, wanted, date)
        print(run("git", "show", "--stat", "--format=%s", "HEAD", cwd=copy).strip())
        print(run("git", "show", "--format=", "HEAD", "--", "*/CHANGELOG.md", cwd=copy).strip())
    print(f"dry run, nothing changed here: would make {', '.join(made)}")


def set_home(url: str) -> None:
    """Put the project's address into all metadata and documents."""
    settings = ROOT / "pyproject.toml"
    with settings.open("rb") as file:
        old = tomllib.load(file)["tool"]["ae"]["home"]
    files = [settings, *ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("docs/**/*.md")]
    files += [ROOT / "tests/installing/conftest.py", *ROOT.glob("*.md")]
    for path in files:
        text = path.read_text("utf-8")
        if old in text:
            path.write_text(text.replace(old, url.rstrip("/")), "utf-8")
            print(path.relative_to(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="hatch run release", description="Release one distribution, or set the address."
    )
    parser.add_argument("name", help="a distribution, or home")
    parser.add_argument("what", help="major, minor, patch or a version; for home the address")
    parser.add_argument("--dry-run", action="store_true", help="work in a copy")
    options = parser.parse_args()
    if options.name == "home":
        set_home(options.what)
        return 0
    date = os.environ.get("AE_RELEASE_DATE") or dt.datetime.now(dt.UTC).date().isoformat()
    if options.dry_run:
        dry_run(options.name, options.what, date)
        return 0
    made = release(ROOT, options.name, options.what, date)
    print(f"made {', '.join(made)}; publish: git push --follow-tags, hatch run index")
    return 0


if __name__ == "__main__":
    sys.exit(main())
