"""``python -m ae_socket HOST PORT``: standard input to a connection, and back.

A small netcat, because a network library is tried out by connecting somewhere first; and an
example of what a program on bare sockets looks like.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from functools import partial

import ae_core as ae
from ae_core import console
from ae_core.abc import Backend

from . import ConnectFailed, format_host_port, parse_host_port, tcp_connect, tcp_server

_CHUNK = 65_536


class Relay:
    """Carries standard input into a socket and the socket's data to standard output.

    ``done`` is sent when both have ended (if the input is a terminal, when the peer has), and
    thrown when the connection broke.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.done: ae.CondVar[None] = ae.CondVar()
        self._sock = sock
        self._unsent = memoryview(b"")
        self._has_input = True
        self._input = ae.pending()  # the thread's work is something to wait for
        self._room = threading.Semaphore(0)
        self._reader: ae.Watcher | None = ae.io(sock, "r", self._on_readable, on_refused=self._end)
        self._writer: ae.Watcher | None = None
        # A thread, because no loop can wait for a file, and on Windows for no terminal or pipe
        # either. A daemon: a read from a terminal cannot be interrupted.
        threading.Thread(target=self._read_input, args=(ae.detect(),), daemon=True).start()

    def _read_input(self, backend: Backend) -> None:
        while True:
            try:
                data = os.read(0, _CHUNK)
            except OSError:
                data = b""  # no standard input at all
            try:
                backend.call_threadsafe(partial(self._on_input, data))
            except (RuntimeError, ae.AEError):
                return  # the loop has ended
            if not data:
                return
            self._room.acquire()  # one chunk at a time: a slow peer slows the input down

    def _on_input(self, data: bytes) -> None:
        if self.done.ready:
            return
        if data:
            self._unsent = memoryview(data)
            self._flush()
        else:
            self._has_input = False
            if self._reader is None:
                self._end(None)
            else:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the peer is gone already; reading tells

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            if self._writer is None:
                self._writer = ae.io(self._sock, "w", self._flush, on_refused=self._end)
            return
        except OSError as error:
            # A peer that has ended its side need not read the rest.
            self._end(error if self._reader is not None else None)
            return
        self._writer = None
        self._room.release()

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._reader = None
            if not self._has_input or os.isatty(0):
                self._end(None)
            return
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _end(self, error: OSError | None) -> None:
        self._reader = self._writer = None
        self._input.cancel()
        self._sock.close()
        if self.done.ready:
            return
        if error is None:
            self.done.send()
        else:
            self.done.throw(error)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ae_socket",
        description="Connect standard input and output to a TCP or UNIX socket.",
        epilog="A UNIX socket is given as /PATH, or as unix/ PATH; HOST:PORT may be one word. "
        "Exit status: 0, 1 if there was no connection or it failed, 2 for bad arguments, 74 if the "
        "output cannot be written, 124 if time has run out.",
    )
    parser.add_argument("host", metavar="HOST", help="name or address; with --listen an address")
    parser.add_argument("port", metavar="PORT", nargs="?", help="number or name of a service")
    parser.add_argument(
        "-l", "--listen", action="store_true", help="wait for one connection (HOST may be left out)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what happens on stderr")
    parser.add_argument(
        "-w", "--timeout", type=float, metavar="S", help="give up connecting after S seconds"
    )
    options = parser.parse_args(words)
    if options.port is None:
        split = parse_host_port(options.host)
        if split is not None:
            options.host, options.port = split
        elif options.listen:
            options.host, options.port = None, options.host
        else:
            parser.error(f"expected HOST PORT, got {options.host!r} only")
    return options


def _say(options: argparse.Namespace, text: str) -> None:
    if options.verbose:
        print(console.printable(text), file=sys.stderr, flush=True)


def _accept(options: argparse.Namespace) -> socket.socket:
    accepted: ae.CondVar[tuple[socket.socket, str, int | str]] = ae.CondVar()

    def on_accept(sock: socket.socket, host: str, port: int | str) -> None:
        if accepted.ready:
            sock.close()  # one is enough
        else:
            accepted.send((sock, host, port))

    with tcp_server(options.host, options.port, on_accept) as server:
        for address in server.addresses:
            _say(options, f"listening on {format_host_port(*address)}")
        sock, host, port = accepted.recv()
    _say(options, f"connection from {format_host_port(host, port)}")
    return sock


def _connect(options: argparse.Namespace) -> socket.socket:
    def on_connect(sock: socket.socket, host: str, port: int | str, retry: object) -> None:
        _say(options, f"connected to {format_host_port(host, port)}")

    return tcp_connect(options.host, options.port, on_connect, timeout=options.timeout).recv()


def main(words: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _arguments(sys.argv[1:] if words is None else words)
    try:
        sock = _accept(options) if options.listen else _connect(options)
        Relay(sock).done.recv()
    except (ConnectFailed, OSError, ValueError) as error:
        return console.failed("ae_socket", error)
    return 0


if __name__ == "__main__":
    console.run("ae_socket", main)
