"""What the meta tests look at: the packages as files, and the names of their modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ae_core", "ae_socket", "ae_dns", "ae_handle", "ae_tls", "ae_guests")
PROTOCOLS = ("ae_redis", "ae_http", "ae_irc", "ae_weechat")  # examples that are distributions


@dataclass(frozen=True)
class Source:
    """One Python file of a package, and the dotted name it is imported by."""

    path: Path
    package: str
    module: str

    @property
    def is_public(self) -> bool:
        parts = self.module.split(".")
        return not any(part.startswith("_") for part in parts)


def _sources() -> list[Source]:
    found = []
    for package in PACKAGES + PROTOCOLS:
        place = "packages" if package in PACKAGES else "examples"
        top = ROOT / place / package.replace("_", "-") / "src"
        for path in sorted((top / package).rglob("*.py")):
            parts = path.relative_to(top).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            found.append(Source(path, package, ".".join(parts)))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def packages() -> tuple[str, ...]:
    """The import names, the lowest layer first; ``ae_guests`` stands beside, on ``ae_core``."""
    return PACKAGES


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every Python file under ``packages/*/src`` and ``examples/*/src``."""
    return _sources()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each module, where a test asks for it by name."""
    if "public_module" in metafunc.fixturenames:
        names = [source.module for source in _sources() if source.is_public]
        metafunc.parametrize("public_module", names)
    if "source" in metafunc.fixturenames:
        metafunc.parametrize("source", _sources(), ids=lambda source: source.module)
