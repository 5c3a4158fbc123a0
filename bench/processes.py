"""The processes of a measurement: peers, the load generator, and what has to be built first.

Two cores: what is measured runs on core 0, what drives it on core 1. No process outlives the
driver.
"""

from __future__ import annotations

__all__ = (
    "CERTS",
    "GENERATOR",
    "MEASURED",
    "Server",
    "end",
    "interpreter",
    "load",
    "peer_json",
    "prepare",
    "spawn",
)

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from peers import BEFORE

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE / "build"
CERTS: Final = BUILD / "certs"
MEASURED, GENERATOR = 0, 1

Metrics = dict[str, tuple[float, str]]

# The other tree that ``--before`` compares with.
before: Path | None = None


def _child(core: int) -> Callable[[], None]:
    def before_exec() -> None:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.sched_setaffinity(0, {core if core < (os.cpu_count() or 1) else 0})

    return before_exec


def spawn(command: Sequence[object], core: int, **options: Any) -> subprocess.Popen[str]:
    """Start *command* on *core*. The driver has one thread, so a function may run before exec."""
    words = [str(word) for word in command]
    return subprocess.Popen(words, preexec_fn=_child(core), text=True, **options)  # noqa: PLW1509


def end(process: subprocess.Popen[str]) -> None:
    """Kill *process* if it still runs, reap it, close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def _finish(process: subprocess.Popen[str], timeout: float) -> Any:
    """Wait for *process*; return the JSON object in its last line."""
    try:
        out, err = process.communicate(timeout=timeout)
        if process.returncode:
            last = (err.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            raise RuntimeError(last)
        return json.loads(out.strip().splitlines()[-1])
    finally:
        end(process)


def interpreter(name: str) -> list[object]:
    """The command that starts Python for peer *name*, with the packages of its tree."""
    if before is None:
        return [sys.executable]
    # Both sides of a comparison search one more folder than the other peers.
    tree = before if name.endswith(BEFORE) else HERE.parent
    sources = [*tree.glob("packages/*/src"), *tree.glob("examples/*/src")]
    return ["env", "PYTHONPATH=" + ":".join(map(str, sources)), sys.executable]


def _peer_command(name: str, role: str, options: dict[str, object]) -> list[object]:
    pairs = [f"{key}={value}" for key, value in options.items()]
    return [*interpreter(name), HERE / "peer.py", name, role, *pairs]


def peer_json(name: str, role: str, timeout: float = 30, **options: object) -> Metrics:
    """Run a measured role to its end; return ``{metric: (value, unit)}``."""
    command = _peer_command(name, role, options)
    pipe = subprocess.PIPE
    measured: Metrics = _finish(spawn(command, MEASURED, stdout=pipe, stderr=pipe), timeout)
    return measured


class Server:
    """A peer's server role: started here, listening on ``port``."""

    def __init__(self, name: str, role: str, **options: object) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        command = _peer_command(name, role, options)
        self.process = spawn(command, MEASURED, stdout=subprocess.PIPE, stderr=self._errors)
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if len(words) != 2 or words[0] != "PORT":
            end(self.process)
            self._errors.seek(0)
            raise RuntimeError((self._errors.read().strip().splitlines() or ["no output"])[-1])
        self.port = int(words[1])

    def _proc(self, name: str) -> list[str]:
        return Path("/proc", str(self.process.pid), name).read_text().split()

    def cpu(self) -> float:
        """Processor seconds used so far."""
        return int(self._proc("schedstat")[0]) / 1e9

    def rss(self) -> int:
        """Resident bytes now."""
        return int(self._proc("statm")[1]) * os.sysconf("SC_PAGESIZE")

    def close(self) -> None:
        end(self.process)
        self._errors.close()


def load(
    mode: str,
    port: int,
    *arguments: object,
    core: int = GENERATOR,
    pid: int | None = None,
    timeout: float = 15,
) -> dict[str, float]:
    """Run the load generator; return ``{"ops", "secs", "cpu"}``, the last of process *pid*."""
    environment = {**os.environ, "LOAD_PID": str(pid)} if pid else None
    pipe = subprocess.PIPE
    command = [BUILD / "load", mode, port, *arguments]
    result: dict[str, float] = _finish(
        spawn(command, core, stdout=pipe, stderr=pipe, env=environment), timeout
    )
    return result


def prepare() -> None:
    """Build the C programs and the certificate, if they are missing or older than their source."""
    CERTS.mkdir(parents=True, exist_ok=True)
    for name in ("load", "floor"):
        source, built = HERE / "native" / f"{name}.c", BUILD / name
        with contextlib.suppress(FileNotFoundError):
            if built.stat().st_mtime >= source.stat().st_mtime:
                continue
        subprocess.check_call(("cc", "-O2", "-Wall", "-o", built, source, "-lssl", "-lcrypto"))
    if not (CERTS / "key.pem").exists():
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        files = ("-keyout", CERTS / "key.pem", "-out", CERTS / "cert.pem")
        command = ("openssl", "req", "-x509", "-days", "3650", *key, *names, *files)
        subprocess.check_call(command, stderr=subprocess.DEVNULL)
