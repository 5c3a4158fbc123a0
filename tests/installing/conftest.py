"""Two package indexes on the loopback interface: ours, and one with a stranger's ae-core."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = "https://anyevent-python.example"
STRANGER = "1.9.0"  # within our ranges, and above any version of ours


@dataclass
class Index:
    """A folder of distributions that is served, and the paths that it was asked for."""

    folder: Path
    url: str
    log: Path
    forgotten: int = 0

    @property
    def asked(self) -> list[str]:
        """Return the paths of the requests since the last ``forget()``."""
        text = self.log.read_text("utf-8")[self.forgotten :]
        return re.findall(r'"(?:GET|HEAD) (\S+) HTTP', text)

    def forget(self) -> None:
        """Begin to note requests anew."""
        self.forgotten = len(self.log.read_text("utf-8"))


def serve(folder: Path) -> Iterator[Index]:
    """Serve *folder* from a process of its own: a thread here would outlive a test."""
    log = folder.with_name(f"{folder.name}.log")
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1"]
    command += ["--directory", str(folder), "0"]
    with (
        log.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as server,
    ):
        assert server.stdout is not None
        found = re.search(r" port (\d+) ", server.stdout.readline())
        assert found is not None
        yield Index(folder, f"http://127.0.0.1:{found[1]}", log)
        server.terminate()


def make_index(folder: Path, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "tools/make_index.py"), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_wheel(folder: Path, name: str, version: str, code: str, *requires: str) -> None:
    """Write a wheel with one module, which is *code*."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.11\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    tag = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", code)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """What ``hatch run index`` makes, served."""
    folder = tmp_path_factory.mktemp("ours")
    for index in serve(folder):
        make_index(folder, "--url", index.url)
        yield index


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The public index: a library that depends on ours, and a stranger's ``ae-core``."""
    folder = tmp_path_factory.mktemp("public")
    make_wheel(folder, "ae-core", STRANGER, "stranger = True\n")
    library = "import ae_core, ae_handle\n"
    make_wheel(folder, "memcached-client", "1.0", library, "ae-handle>=1,<2")
    make_index(folder, "--no-build")
    yield from serve(folder)


@pytest.fixture(scope="session")
def document() -> Callable[[str], str]:
    """Return the block of the installing page that carries a mark."""
    text = (ROOT / "docs/how-to/install.md").read_text("utf-8")

    def block(mark: str) -> str:
        found = re.search(rf"^<!-- tested: {mark} -->\n```\w+\n(.*?)^```$", text, re.M | re.S)
        assert found is not None, mark
        return found[1]

    return block


@dataclass(frozen=True)
class Place:
    """An empty environment, and what installs into it; the public index is the default one."""

    folder: Path
    python: Path
    environment: dict[str, str]

    def run(self, *command: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def pip(self, *arguments: str | Path) -> str:
        pip = (sys.executable, "-m", "pip", "--python", self.python)
        return self.run(*pip, "install", "--no-cache-dir", *arguments)

    def uv_pip(self, *arguments: str | Path) -> str:
        return self.run(self.uv, "pip", "install", "--python", self.python, *arguments)

    @property
    def uv(self) -> str:
        beside = Path(sysconfig.get_path("scripts"), "uv")
        return str(beside) if beside.exists() else str(shutil.which("uv"))

    def versions(self, python: Path | None = None) -> dict[str, str]:
        """Import the library; return which version of each of ours it runs on."""
        code = (
            "import memcached_client, importlib.metadata as m\n"
            "for name in ('ae-core', 'ae-socket', 'ae-handle'): print(name, m.version(name))\n"
        )
        lines = self.run(python or self.python, "-I", "-c", code).splitlines()
        return dict(line.split() for line in lines)  # type: ignore[misc]


@pytest.fixture
def place(tmp_path: Path, public: Index) -> Place:
    """An empty environment, with nothing set but where the public index is."""
    public.forget()
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_INDEX_URL": f"{public.url}/simple",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_DEFAULT_INDEX": f"{public.url}/simple",
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",
    }
    return Place(tmp_path, venv / "bin" / "python", environment)
