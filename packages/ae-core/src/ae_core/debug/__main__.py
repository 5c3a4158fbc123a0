"""The debug shell's client: ``python -m ae_core.debug PATH``, or ``HOST:PORT``.

A plain blocking program that uses nothing of ae_core's loop; with line editing and history where
the platform has ``readline``.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from .. import console
from .._base.escape import visible
from ._environment import parse_shell_address
from ._lines import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROMPT: Final = b"> "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client. Return the exit status: 0, 1 without a connection, 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m ae_core.debug",
        description="Talk to the debug shell of a running program (AE_DEBUG_SHELL).",
        epilog="Exit status: 0, 1 if there is no shell at the address or it went away, "
        "2 for bad arguments, 74 if the output cannot be written.",
    )
    parser.add_argument("address", metavar="PATH|HOST:PORT", help="where the shell listens")
    parser.add_argument(
        "-c",
        "--command",
        action="append",
        metavar="LINE",
        help="run this line, print what it gives, and end; may be given several times",
    )
    parser.add_argument(
        "--history",
        metavar="FILE",
        default=os.path.expanduser("~/.ae_debug_history"),
        help="where to keep typed lines, empty for nowhere (%(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        host, service = parse_shell_address(options.address)
    except ValueError as error:
        parser.error(str(error))
    for line in options.command or ():
        if reason := refusal(_encoded(line)):
            parser.error(f"{line!r}: {reason}")
    try:
        if options.command is None:
            with _connect(host, service) as sock, _history(options.history):
                return _Terminal(sock).run()
        for line in options.command:
            with _connect(host, service) as sock:
                print(_run_one(sock, line), end="")
    except (OSError, EOFError) as error:
        print(f"{options.address}: {error}", file=sys.stderr)
        return 1
    return 0


def _connect(host: str, service: str) -> socket.socket:
    if host != "unix/":
        return socket.create_connection((host, int(service)))
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this platform has no UNIX sockets")
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(service)
    except OSError:
        sock.close()
        raise
    return sock


def _encoded(line: str) -> bytes:
    """Return a line of the user's as bytes, also if they are no UTF-8."""
    return line.replace("\n", " ").encode(errors="surrogateescape")


def _run_one(sock: socket.socket, line: str) -> str:
    """Return what *line* gives. The shell answers everything, then closes because we did."""
    sock.sendall(_encoded(line) + b"\n")
    sock.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: sock.recv(65536), b""))
    banner, found, rest = answer.partition(b"\r\n")
    if not found or not rest.startswith(PROMPT) or not rest.endswith(PROMPT):
        last = (rest or banner).removeprefix(PROMPT)
        if last.startswith(b"refused: "):
            raise EOFError(_text(last).rstrip("\n"))
        raise EOFError(f"not the answer of a debug shell: {banner[:80].decode(errors='replace')!r}")
    return _text(rest.removeprefix(PROMPT).removesuffix(PROMPT))


def _text(data: bytes) -> str:
    """Return what was received as text that is safe to show on a terminal."""
    return visible(data.decode(errors="replace").replace("\r\n", "\n"))


@contextlib.contextmanager
def _history(path: str) -> Iterator[None]:
    """Give input() line editing, and remember the lines in *path*."""
    try:
        import readline
    except ImportError:
        yield
        return
    with contextlib.suppress(OSError):
        if path:
            readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path:
                readline.write_history_file(path)


class _Terminal:
    """Lines from the user to the shell, what it says to the terminal.

    A thread reads the socket, because log messages may come at any time, also while input()
    waits for the user. The prompt is left to input(), which has to know it to edit the line.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        # Queues, because a signal between two steps of a semaphore would leave it locked.
        self._asked: SimpleQueue[None] = SimpleQueue()  # prompts seen and not yet shown
        self._owed: SimpleQueue[None] = SimpleQueue()  # prompts to come: one for each line
        self._owed.put(None)  # and the first
        self._closed = False
        self._status = 1  # if the other side ends it
        self._typing = False  # whether input() waits

    def run(self) -> int:
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        leaving = False
        try:
            while True:
                self._asked.get()
                if self._closed:
                    break
                self._typing = True
                line = _encoded(input(PROMPT.decode()))
                while reason := refusal(line):
                    print(f"not sent: {reason}")
                    line = _encoded(input(PROMPT.decode()))
                self._typing = False
                self._owed.put(None)
                self._sock.sendall(line + b"\n")
        except EOFError:
            leaving = True
        except KeyboardInterrupt:
            leaving = not self._closed  # else the reader has interrupted input()
        except OSError:
            self._closed = True
        self._typing = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        reader.join()
        if leaving:
            print()
            return 0
        if self._status == 1:
            print("the shell has closed the connection", file=sys.stderr)
        return self._status

    def _read(self) -> None:
        try:
            self._copy()
        except OSError as error:
            print(error, file=sys.stderr)
        except SystemExit as end:  # its output failed; a thread cannot end the process
            self._status = int(end.code or 0)
        self._closed = True
        self._asked.put(None)
        # Interrupt input(): again and again, because readline misses a signal that comes
        # between its prompt and its wait. Where there are no signals the next Enter does it.
        main = threading.main_thread().ident
        while self._typing and main is not None and hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.05)

    def _copy(self) -> None:
        """Show whole lines. A line that is only a prompt was overtaken by a log message."""
        rest = b""
        prompted = False
        while data := self._sock.recv(65536):
            rest += data
            if prompted and rest.startswith(b"\r"):
                if len(rest) == 1:
                    continue
                rest = rest.removeprefix(b"\r\n")
                sys.stdout.write("\n")
                prompted = False
            lines, newline, rest = rest.rpartition(b"\r\n")
            if newline:
                prompted = False
                shown = [line for line in lines.split(b"\r\n") if line != PROMPT]
                sys.stdout.write("".join(f"{_text(line)}\n" for line in shown))
                sys.stdout.flush()
            if rest == PROMPT:
                rest = b""
                prompted = True
                try:
                    self._owed.get_nowait()
                except Empty:  # input() waits already, and its prompt has scrolled away
                    sys.stdout.write(PROMPT.decode())
                    sys.stdout.flush()
                else:
                    self._asked.put(None)


if __name__ == "__main__":
    console.run("ae_core.debug", main)
