"""Run httpcore's own tests with our network backend in place of its own.

    hatch run bridges:test [pytest's arguments]

The tests are in httpcore's source distribution, of the version that is installed, which pip
fetches. A plugin puts ``ae_handle.httpcore.NetworkBackend`` where httpcore would choose one.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PLUGIN = """
import importlib

from ae_handle.httpcore import NetworkBackend

made = []


class Counted(NetworkBackend):
    def __init__(self):
        super().__init__()
        made.append(self)


for name in ("connection", "connection_pool", "socks_proxy"):
    importlib.import_module("httpcore._async." + name).AutoBackend = Counted


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{len(made)} of our backends were made")
    assert made
"""


def main() -> int:
    version = importlib.metadata.version("httpcore")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder]
        command += ["--no-deps", "--no-build-isolation", "--no-binary", "httpcore"]
        subprocess.run([*command, f"httpcore=={version}"], check=True)
        with tarfile.open(Path(folder) / f"httpcore-{version}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        (Path(folder) / "ae_plugin.py").write_text(PLUGIN)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "ae_plugin", *sys.argv[1:], "tests"],
            cwd=Path(folder) / f"httpcore-{version}",
            env={**os.environ, "PYTHONPATH": folder},
            check=False,
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
