"""``python -m ae_core.debug``: the client of the debug shell, against a program of its own."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")

PROGRAM = """
import signal, sys
import ae_core as ae
done = ae.CondVar()
def on_term(): done.send()
def on_tick(): ae.log("note", "tick")
term = ae.signal("TERM", on_term)
tick = ae.timer(0.01, on_tick, interval=0.1)
print("ready", flush=True)
done.recv()
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one finds it ending already
"""


def environment(**more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
    return {**inherited, "TERM": "dumb", **more}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[str]:
    """A program with a shell, in a process of its own; gives the shell's address."""
    path = str(tmp_path / "shell")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment(AE_DEBUG_SHELL=path, AE_DEBUG_WRAP="1"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield path
        process.terminate()
        assert process.wait(60) == 0
    assert not os.path.lexists(path)


def client(*arguments: str, typed: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ae_core.debug", *arguments],
        input=typed,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Scripts


@unix
def test_commands_of_a_script(program: str) -> None:
    done = client(program, "--command", "wl", "-c", "6 * 7", "--command=print('> ')", "-c", "None")
    assert done.stderr == ""
    assert done.returncode == 0
    assert re.fullmatch(
        r"\d+[ *] __main__:7\(<module>\)>signal>__main__\.on_term\n"
        r"\d+[ *] __main__:8\(<module>\)>timer>__main__\.on_tick\n"
        r"42\n> \n",
        done.stdout,
    )


@unix
def test_commands_share_the_namespace_and_show_errors(program: str) -> None:
    done = client(program, "-c", "x = 1", "-c", "x / 0", "-c", "exit")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first == "ZeroDivisionError: division by zero"
    assert second.startswith("sorry, no...")


@unix
def test_big_answers_arrive_whole(program: str) -> None:
    done = client(program, "-c", "'\\n'.join(map(str, range(100000)))")
    assert done.stdout.splitlines() == [str(n) for n in range(100000)]


@unix
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff", "a line must be UTF-8 text"),
        (b"1\x1b", "a line must not contain control characters"),
        (b"a\rb", "a line must not contain control characters"),
        (b"GET / HTTP/1.1", "this is no web server"),
    ],
)
def test_line_that_would_end_the_connection_is_not_sent(
    line: bytes, reason: str, program: str
) -> None:
    arguments: list[bytes] = [b"-m", b"ae_core.debug", os.fsencode(program), b"-c", b"1", b"-c"]
    done = subprocess.run(
        [os.fsencode(sys.executable), *arguments, line],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines()[-1].endswith(f": {reason}")
    assert b"\x1b" not in done.stderr


def answering(says: bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the client against a server that says this, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(says)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1000):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        done = client(f"127.0.0.1:{server.getsockname()[1]}", *arguments)
        thread.join()
    return done


def test_what_the_shell_says_reaches_the_terminal_escaped() -> None:
    says = b"Welcome\r\n> \x1b]0;x\x07a\rb\xe2\x80\xae\x9b\r\n> "
    shown = "\\x1b]0;x\\x07a\\rb\\u202e\ufffd\n"
    done = answering(says, "-c", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")
    done = answering(says, "--history", "")
    assert shown in done.stdout
    done = answering(b"\x1b[2J\r\n", "-c", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "\x1b" not in done.stderr


def test_refusal_of_the_shell_is_told() -> None:
    done = answering(b"Welcome\r\n> refused: line longer than 5 bytes\r\n", "-c", "1")
    assert done.returncode == 1
    assert done.stderr.endswith(": refused: line longer than 5 bytes\n")
    done = answering(b"refused: too many clients\r\n", "-c", "1")
    assert done.stderr.endswith(": refused: too many clients\n")


@unix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["-c", "1"], ["--history", ""]])
def test_output_that_cannot_be_written_ends_the_client(arguments: list[str], program: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ae_core.debug", program, *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        74,
        "ae_core.debug: standard output: No space left on device\n",
    )


def test_tcp_address() -> None:
    """Against a shell of this process, served in the main thread while the client runs."""
    import ae_core as ae
    from ae_core import debug

    async def main() -> subprocess.CompletedProcess[str]:
        with debug.shell("127.0.0.1", 0) as shell:
            host, port = shell.address
            done = ae.CondVar[None]()
            results: list[Any] = []
            backend = ae.detect()

            def run() -> None:
                results.append(client(f"{host}:{port}", "-c", "1 + 1"))
                backend.call_threadsafe(done.send)

            thread = threading.Thread(target=run)
            thread.start()
            await done
            thread.join()
            return results[0]  # type: ignore[no-any-return]

    done = ae.run(main())
    assert (done.returncode, done.stdout) == (0, "2\n")


@pytest.mark.parametrize("address", ["", "relative", "host", "host:port", "::1:80"])
def test_bad_address_is_a_mistake_in_the_arguments(address: str) -> None:
    done = client(address, "-c", "1")
    assert done.returncode == 2
    assert "expected /path or host:port" in done.stderr


@unix
@pytest.mark.parametrize("arguments", [["-c", "1"], []])
def test_no_shell_there(arguments: list[str], tmp_path: Path) -> None:
    address = str(tmp_path / "nosuch")
    done = client(address, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"{address}: [Errno 2] No such file or directory\n"


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-x\r\n", b"Welcome\r\nbut no shell\r\n"])
def test_something_else_there(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(1000):
                    pass
                connection.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        done = client(f"127.0.0.1:{server.getsockname()[1]}", "-c", "1")
        thread.join()
    assert done.returncode == 1
    assert "not the answer of a debug shell" in done.stderr


# At a terminal


class Terminal:
    """A pseudo-terminal with the client on it; types, and records what is to be seen."""

    def __init__(self, *arguments: str, code: str = "") -> None:
        self.master, slave = os.openpty()
        start = (
            "import fcntl, runpy, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            f"{code}; runpy.run_module('ae_core.debug', run_name='__main__', alter_sys=True)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, *arguments],
            env=environment(PYTHONWARNINGS="ignore::RuntimeWarning:runpy"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.record = ""

    def see(self, pattern: str) -> str:
        """Wait until *pattern* stands at the end; return what was seen since the last time."""
        seen = ""
        deadline = time.monotonic() + 60
        while not re.search(rf"(?s:{pattern})\Z", seen):
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self.master], [], [], left)
            assert ready, f"not seen: {pattern!r}, but: {seen!r}"
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux says so when the other end has gone
                data = b""
            assert data, f"closed before {pattern!r}, after {seen!r}"
            text = data.decode().replace("\r\n", "\n")
            seen += text
            self.record += text
        return seen

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def status(self) -> int:
        try:
            while os.read(self.master, 65536):
                pass
        except OSError:
            pass
        return self.process.wait(60)

    def close(self) -> None:
        os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*arguments: str, code: str = "pass") -> Terminal:
        made.append(Terminal(*arguments, code=code))
        return made[-1]

    yield make
    for one in made:
        one.close()


@posix
def test_recorded_session(program: str, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """From the banner to the end of the terminal: what a user types and sees."""
    history = tmp_path / "history"
    at = terminal(program, "--history", str(history))
    assert at.see("> ") == f"Welcome, unix/:{program}, use 'help' for more info!\n> "
    at.type("help\n")
    assert "wl [regex]" in at.see("statement. ae is ae_core.\n> ")
    at.type("wl tick\n")
    listed = at.see(r"on_tick\n> ")
    number = re.search(r"^(\d+)  __main__:8\(<module>\)>timer>__main__\.on_tick$", listed, re.M)
    assert number is not None, listed
    at.type(f"i {number[1]}\n")
    text = at.see(r"errors:   0\n> ")
    assert "args:     after=0.01 interval=0.1" in text
    assert re.search(r"called:   [1-9]\d* times", text)
    at.type("wr\n")
    at.see("wrap level now 0\n> ")
    at.type("6 * 8\x7f7\n")  # a mistake, taken back
    at.see(r"42\n> ")
    at.type("\x10\n")  # the line before, from the history
    at.see(r"6 \* 7\n42\n> ")
    at.type("(1, 'two')\n")
    at.see("0: 1\n1: two\n> ")
    at.type("1 / 0\n")
    at.see("ZeroDivisionError: division by zero\n> ")
    at.type("exit\n")
    at.see(r"sorry, no\.\.\. .*\n> ")
    at.type("v note\n")
    # the first message may come before the prompt
    at.see(r"verbose logging is now enabled\.\n.*note  __main__: tick\n.*note  __main__: tick\n> ")
    at.type("v 0\n")
    at.see(r"verbose logging is now disabled\.\n> ")
    at.type(f"w({number[1]}).cancel()\n")
    at.see("cancel\\(\\)\n> ")
    at.type("bt\n")
    assert 'File "<string>", line 10, in <module>' in at.see(r"in stacks\n.*\n> ")
    at.type("\x04")
    assert at.status() == 0
    lines = history.read_text().splitlines()
    assert "6 * 7" in lines
    assert "exit" in lines


@posix
def test_history_of_the_last_time_is_there(
    program: str, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    history = tmp_path / "history"
    history.write_text("'from ' + 'before'\n")
    at = terminal(program, "--history", str(history))
    at.see("> ")
    at.type("\x10\n")
    at.see("from before\n> ")
    at.type("\x04")
    assert at.status() == 0


@posix
def test_interrupt_leaves_the_client_and_not_the_program(
    program: str, terminal: Callable[..., Terminal]
) -> None:
    at = terminal(program, "--history", "")
    at.see("> ")
    while at.process.poll() is None:  # readline misses a signal just behind its prompt
        with contextlib.suppress(OSError):
            at.type("\x03")
        with contextlib.suppress(subprocess.TimeoutExpired):
            at.process.wait(0.05)
    assert at.status() == 0
    assert client(program, "-c", "1").stdout == "1\n"


@posix
def test_client_works_without_readline(program: str, terminal: Callable[..., Terminal]) -> None:
    at = terminal(program, code="sys.modules['readline'] = None")
    at.see("> ")
    at.type("6 * 7\n")
    at.see("42\n> ")
    at.type("\x04")
    assert at.status() == 0


@posix
def test_line_that_is_not_sent_does_not_end_the_session(
    program: str, terminal: Callable[..., Terminal]
) -> None:
    at = terminal(program, "--history", "")
    at.see("> ")
    at.type("HEAD / HTTP/1.1\n")
    at.see("not sent: this is no web server\n> ")
    at.type("6 * 7\n")
    at.see("42\n> ")
    at.type("\x04")
    assert at.status() == 0


@posix
def test_history_that_cannot_be_kept_is_no_reason_to_fail(
    program: str, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    at = terminal(program, "--history", str(tmp_path / "missing" / "history"))
    at.see("> ")
    at.type("1\n")
    at.see("1\n> ")
    at.type("\x04")
    assert at.status() == 0


@posix
def test_end_of_the_program_ends_the_session(
    program: str, terminal: Callable[..., Terminal]
) -> None:
    at = terminal(program, "--history", "")
    at.see("> ")
    at.type("import os; os.kill(os.getpid(), 15)\n")
    at.see("the shell has closed the connection\n")
    assert at.status() == 1


@posix
def test_end_of_the_program_interrupts_the_wait_for_a_line(
    program: str, terminal: Callable[..., Terminal]
) -> None:
    at = terminal(program, "--history", "")
    at.see("> ")
    assert client(program, "-c", "import os; os.kill(os.getpid(), 15)").returncode == 0
    at.see("the shell has closed the connection\n")
    assert at.status() == 1
