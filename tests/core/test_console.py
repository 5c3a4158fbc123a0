"""How the command lines end, and what they may print: ``ae_core.console``."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ae_core import console

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
COMMANDS = {
    "ae_core": [],
    "ae_core.debug": ["--help"],
    "ae_core.testing": ["loop-select"],
}
buffering = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
each_command = pytest.mark.parametrize("module", COMMANDS)

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command() -> Command:
    """Run a module of ours with the given standard output; ``None`` closes it."""

    def run(arguments: list[str], stdout: Any, **environment: str) -> Any:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
        closing = [] if stdout is not None else ["sh", "-c", 'exec "$@" >&-', "sh"]
        return subprocess.run(
            [*closing, sys.executable, *arguments],
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@full_disk
@buffering
@each_command
def test_full_disk_is_one_line_and_a_status_of_its_own(
    module: str, unbuffered: str, command: Command
) -> None:
    with open("/dev/full", "wb") as full:
        done = command(["-m", module, *COMMANDS[module]], full, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (
        74,
        f"{module}: standard output: No space left on device\n",
    )


@posix
@buffering
@each_command
def test_pipe_that_nobody_reads_ends_the_command_without_a_word(
    module: str, unbuffered: str, command: Command
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command(["-m", module, *COMMANDS[module]], writer, PYTHONUNBUFFERED=unbuffered)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@posix
@each_command
def test_closed_standard_output_is_an_error(module: str, command: Command) -> None:
    done = command(["-m", module, *COMMANDS[module]], None)
    assert (done.returncode, done.stderr) == (
        74,
        f"{module}: standard output: Bad file descriptor\n",
    )


SERVICE = """
import socket, sys
from ae_core import console

def main():
    sock = socket.socket()
    print(sock.fileno(), file=sys.stderr)
    return 0

console.run("service", main)
"""


@posix
def test_socket_never_becomes_the_closed_standard_output(command: Command) -> None:
    done = command(["-c", SERVICE], None)
    assert (done.returncode, int(done.stderr) > 2) == (0, True)


LONG = """
import sys
import ae_core as ae
from ae_core import console

def tick():
    try:
        print("x" * 100_000, flush=True)
    except OSError:
        print("taken for an error of a connection", file=sys.stderr)

def main():
    timer = ae.timer(0, tick, interval=0.001)
    ae.CondVar().recv(50)
    return 0

console.run("long", main)
"""


@full_disk
def test_output_that_fails_in_a_callback_ends_the_command_at_once(command: Command) -> None:
    with open("/dev/full", "wb") as full:
        done = command(["-c", LONG], full)
    assert (done.returncode, done.stderr) == (
        74,
        "long: standard output: No space left on device\n",
    )


@posix
@buffering
def test_output_that_does_not_block_is_waited_for(unbuffered: str, command: Command) -> None:
    """As a terminal is that another program has left so."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    got = bytearray()

    def drain() -> None:
        while data := os.read(read, 65536):
            got.extend(data)

    program = "from ae_core import console; console.run('long', lambda: print('x' * 3_000_000))"
    reader = threading.Thread(target=drain)
    reader.start()
    try:
        done = command(["-c", program], write, PYTHONUNBUFFERED=unbuffered)
    finally:
        os.close(write)
        reader.join()
        os.close(read)
    assert (done.returncode, done.stderr) == (0, "")
    assert got == b"x" * 3_000_000 + b"\n"


def test_status_is_what_the_command_returns(command: Command) -> None:
    program = "from ae_core import console; console.run('x', lambda: print('shown') or 5)"
    done = command(["-c", program], subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (5, "shown\n", "")


def test_ctrl_c_ends_the_command_without_a_traceback(command: Command) -> None:
    program = """if True:
        from ae_core import console
        def main(): raise KeyboardInterrupt
        console.run('x', main)"""
    done = command(["-c", program], subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_text_that_the_encoding_lacks_is_escaped(command: Command) -> None:
    program = "from ae_core import console; console.run('x', lambda: print('caf\\xe9') or 0)"
    done = command(["-c", program], subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "caf\\xe9\n", "")


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x202E, 0xDC9B])
def test_printable_text_is_one_line_that_no_terminal_obeys(code: int) -> None:
    text = console.printable(f"a{chr(code)}b")
    assert text.isprintable()
    assert text.startswith("a\\")
    assert text.endswith("b")


def test_what_is_printable_stays_as_it_is() -> None:
    assert console.printable("\u00fc \u65e5\u672c \U0001f600 \\x1b") == (
        "\u00fc \u65e5\u672c \U0001f600 \\x1b"
    )


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConnectionRefusedError(111, "refused"), 1, "ae_x: [Errno 111] refused\n"),
        (ValueError("a \x1b[31mred\x07 word"), 1, "ae_x: a \\x1b[31mred\\x07 word\n"),
        (TimeoutError("not done within 1 s"), 124, "ae_x: not done within 1 s\n"),
        (OSError(errno.ETIMEDOUT, "late"), 124, f"ae_x: [Errno {errno.ETIMEDOUT}] late\n"),
        (KeyError(), 1, "ae_x: KeyError\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_one_line_of_plain_text_and_its_status(
    error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.failed("ae_x", error) == status
    assert capsys.readouterr() == ("", line)


def test_standard_output_is_still_known_for_what_it_is(command: Command) -> None:
    """A command that asks whether it writes to a terminal is told the truth."""
    program = (
        "import sys; from ae_core import console; "
        "console.run('x', lambda: print(sys.stdout.isatty(), sys.stdout.fileno()))"
    )
    done = command(["-c", program], subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False 1\n", "")
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    terminal, theirs = pty.openpty()
    with os.fdopen(terminal, "rb", 0) as ours:
        done = command(["-c", program], theirs)
        os.close(theirs)
        assert ours.readline() == b"True 1\r\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_was_put_aside_is_left_alone() -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as caught:
        console.run("x", lambda: print("hello"))
    assert (caught.value.code, said.getvalue()) == (None, "hello\n")
