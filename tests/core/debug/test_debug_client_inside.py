"""The debug shell's client, called in this process."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from ae_core.debug import __main__ as client_module


class Pieces:
    """A connection whose recv() gives what was said in pieces of one size."""

    def __init__(self, said: bytes, size: int) -> None:
        self.pieces = [said[start : start + size] for start in range(0, len(said), size)]

    def recv(self, count: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_pieces_of_the_network_do_not_matter(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    said = b"Welcome, x\r\n> a\r\nb\r\n> \r\nlogged\r\n> c\r\n> "
    connection: Any = Pieces(said, size)
    client_module._Terminal(connection)._copy()
    shown = capsys.readouterr().out.replace("> ", "").splitlines()
    assert [line for line in shown if line] == ["Welcome, x", "a", "b", "logged", "c"]


class Keyboard:
    """Stands in for input(): gives lines, then the end, or what it shall raise."""

    def __init__(self, *lines: str | BaseException) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = self.lines.pop(0) if self.lines else EOFError()
        if isinstance(line, BaseException):
            raise line
        return line


def in_a_thread(address: tuple[Any, Any], *arguments: str) -> int:
    """Run the client's main() in a thread, while this one serves the shell."""
    import ae_core as ae

    async def main() -> int:
        done = ae.CondVar[None]()
        backend = ae.detect()
        statuses: list[int] = []

        def run() -> None:
            host, service = address
            where = service if host == "unix/" else f"{host}:{service}"
            statuses.append(client_module.main([str(where), *arguments]))
            backend.call_threadsafe(done.send)

        thread = threading.Thread(target=run)
        thread.start()
        await done
        thread.join()
        return statuses[0]

    return ae.run(main())


def test_script_in_this_process(address: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ae_core import debug

    with debug.shell(*address) as shell:
        assert in_a_thread(shell.address, "-c", "6 * 7", "-c", "1 / 0") == 0
    assert capsys.readouterr().out == "42\nZeroDivisionError: division by zero\n"
    assert in_a_thread(shell.address, "-c", "1") == 1
    assert capsys.readouterr().err != ""


@pytest.fixture
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's main() believes to be in the main thread; here it is not."""

    class NoSignals:
        SIGINT = SIG_IGN = 0

        @staticmethod
        def signal(number: int, action: object) -> None:
            """Nothing is changed."""

    monkeypatch.setattr(client_module, "signal", NoSignals)


@pytest.mark.usefixtures("no_signals")
@pytest.mark.parametrize("end", [EOFError(), KeyboardInterrupt()])
def test_session_in_this_process(
    end: BaseException,
    address: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from ae_core import debug

    keyboard = Keyboard("6 * 7", "v", "ae.log('error', 'seen')", "v", end)
    monkeypatch.setattr("builtins.input", keyboard)
    history = tmp_path / "history"
    with debug.shell(*address) as shell:
        assert in_a_thread(shell.address, "--history", str(history)) == 0
    out = capsys.readouterr().out
    assert "\n42\n" in out
    assert "seen" in out
    assert set(keyboard.prompts) == {"> "}
    assert history.exists() or sys.modules.get("readline") is None


@pytest.mark.usefixtures("no_signals")
def test_shell_that_ends_ends_the_session(
    address: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ae_core import debug

    monkeypatch.setitem(sys.modules, "readline", None)
    shell = debug.shell(*address)
    monkeypatch.setattr("ae_core.end_the_shell", shell.cancel, raising=False)
    monkeypatch.setattr("builtins.input", Keyboard("ae.end_the_shell()", *["1"] * 100))
    assert in_a_thread(shell.address, "--history", "") == 1
    assert "the shell has closed the connection" in capsys.readouterr().err


@pytest.mark.usefixtures("no_signals")
def test_broken_connection_ends_the_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def recv(self, count: int) -> bytes:
            raise ConnectionResetError("reset")

        def shutdown(self, how: int) -> None:
            raise OSError

    sock: Any = Broken()
    assert client_module._Terminal(sock).run() == 1
    assert capsys.readouterr().err == "reset\nthe shell has closed the connection\n"


@pytest.mark.usefixtures("no_signals")
def test_connection_that_breaks_while_a_line_is_sent_ends_the_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaking:
        """Says a prompt, and nothing more until it is shut down."""

        def __init__(self) -> None:
            self.said: SimpleQueue[bytes] = SimpleQueue()
            self.said.put(b"> ")

        def recv(self, count: int) -> bytes:
            return self.said.get()

        def sendall(self, data: bytes) -> None:
            raise BrokenPipeError("nobody reads")

        def shutdown(self, how: int) -> None:
            self.said.put(b"")

    sock: Any = Breaking()
    monkeypatch.setattr("builtins.input", Keyboard("1"))
    assert client_module._Terminal(sock).run() == 1
    assert capsys.readouterr().err == "the shell has closed the connection\n"


def test_path_without_unix_sockets_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    assert client_module.main(["/some/path", "-c", "1"]) == 1
    assert capsys.readouterr().err == "/some/path: this platform has no UNIX sockets\n"
