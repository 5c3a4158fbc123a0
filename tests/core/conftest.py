"""What the tests of logging, strict mode and the debugging aids share."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import ae_core as ae
from ae_core import logs, strict
from ae_core.logs import _targets

Python: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4} ", re.MULTILINE)


@pytest.fixture
def fresh_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hierarchy as a new process has it; pytest's own handlers are not the program's."""
    handlers = _targets._handlers

    def without_those_of_pytest(logger: object) -> list[logging.Handler]:
        return [h for h in handlers(logger) if not type(h).__module__.startswith("_pytest")]

    monkeypatch.setattr(_targets, "_handlers", without_those_of_pytest)
    monkeypatch.delenv("AE_VERBOSE", raising=False)
    monkeypatch.delenv("AE_LOG", raising=False)
    logs.reset()
    logs.exact_time(False)
    yield
    logs.reset()
    assert logs.flush()


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was written to stderr since the last call, without the time stamps."""
    return lambda: STAMP.sub("", capsys.readouterr().err)


@pytest.fixture
def unstamped() -> Callable[[str], str]:
    """Take the time stamps from log lines."""
    return lambda text: STAMP.sub("", text)


@pytest.fixture
def python() -> Python:
    """Run a program in a process of its own, with no AE_* variables but those given."""

    def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
        return subprocess.run(
            [sys.executable, *options, "-c", code],
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


# The debug shell

BANNER = r"Welcome, \S+, use 'help' for more info!\r\n> "


class ShellClient:
    """A client in the same loop as the shell."""

    def __init__(self, address: tuple[Any, Any]) -> None:
        if address[0] == "unix/":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address[1])
        else:
            self.sock = socket.create_connection(address)
        self.sock.setblocking(False)
        self.data = b""
        self.at_end = False

    async def more(self) -> None:
        ready = ae.CondVar[None]()
        watcher = ae.io(self.sock, "r", ready)
        await ready
        watcher.cancel()
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        self.data += data
        self.at_end = not data

    async def until(self, pattern: str) -> str:
        """Read until *pattern* stands at the end of what was said, and return all of it."""
        while not re.search(rf"(?s:{pattern})\Z", self.data.decode(errors="replace")):
            assert not self.at_end, f"closed before {pattern!r}, after {self.data!r}"
            await self.more()
        text, self.data = self.data.decode(), b""
        return text

    async def rest(self) -> str:
        while not self.at_end:
            await self.more()
        return self.data.decode(errors="replace")

    async def say(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                await ae.sleep(0.001)

    async def ask(self, line: str) -> str:
        """Say one line, and return the answer without the prompt."""
        await self.say(line.encode() + b"\r\n")
        answer = await self.until("(?:\r\n|^)> ")
        return answer.removesuffix("> ")

    async def greeted(self) -> ShellClient:
        await self.until(BANNER)
        return self

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def greet() -> Callable[[tuple[Any, Any]], Coroutine[Any, Any, ShellClient]]:
    """Connect to a debug shell, in the loop that serves it, and read its banner."""
    return lambda address: ShellClient(address).greeted()


@pytest.fixture
def connect() -> type[ShellClient]:
    """Connect to a debug shell."""
    return ShellClient


@pytest.fixture
def address(tmp_path: Path) -> tuple[str, str | int]:
    if not hasattr(socket, "AF_UNIX"):
        return ("127.0.0.1", 0)
    return ("unix/", str(tmp_path / "shell"))


@pytest.fixture
def strict_mode() -> Iterator[None]:
    """On for the test, and after it, whatever it did: the whole run is strict."""
    strict.enable()
    yield
    strict.enable()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


@pytest.fixture
def exits() -> Iterator[Callable[[int], int]]:
    """Start a process that ends at once, with the given code, and return its id."""
    kept: list[subprocess.Popen[bytes]] = []

    def start(code: int) -> int:
        if os.name == "posix":
            # not subprocess: that waits for its children whenever it is used
            return os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], os.environ)
        kept.append(subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"]))
        return kept[-1].pid

    yield start
    for process in kept:
        process.wait()
