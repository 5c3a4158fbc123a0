"""``python -m ae_handle HOST PORT``: standard input to a connection and back, with TLS and proxies.

    python -m ae_handle HOST PORT            connect; with --tls, through --socks or --http-proxy
    python -m ae_handle HOST --starttls smtp     speak SMTP until the server is ready for TLS
    python -m ae_handle --listen PORT --echo     send back what each client says
    python -m ae_handle --listen PORT --relay HOST:PORT     pass connections on

Exit status: see ``--help``.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import sys
import threading
from typing import Any, Final

import ae_core as ae
from ae_core import console
from ae_socket import (
    Connector,
    format_host_port,
    http_connect,
    parse_host_port,
    socks5,
)

from . import Handle, HandleError, relay, serve
from .starttls import PORTS, negotiate

_CHUNK: Final = 65_536
_BROKEN_PIPE: Final = 141  # as a shell says for SIGPIPE


class _Terminal:
    """Standard input and output as one stream: a socket, and two threads at its other end.

    Threads, because no loop can wait for a file. Daemons: reading a terminal cannot be interrupted.
    """

    def __init__(self) -> None:
        self.sock, self._outside = socket.socketpair()
        self.broken: str | int | None = None  # with what status, once nothing can be written
        threading.Thread(target=self._read, daemon=True).start()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def flush(self) -> None:
        """Wait until everything has been written; the stream has ended."""
        self._writer.join()

    def _read(self) -> None:
        try:
            while data := os.read(0, _CHUNK):
                self._outside.sendall(data)
            self._outside.shutdown(socket.SHUT_WR)
        except OSError:
            return  # no input, or the connection has ended

    def _write(self) -> None:
        while data := self._outside.recv(_CHUNK):
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except SystemExit as error:  # what `console.run` makes of an error, in its own thread
                self.broken = error.code
                break
            except OSError:  # without `console.run`
                self.broken = _BROKEN_PIPE
                break
        self._outside.close()


def _address(text: str, *more: str, port: str | None = None) -> tuple[str, str]:
    """Return host and service: ``HOST PORT``, ``HOST:PORT`` or ``/PATH``; *port* may be left out.

    Raises:
        ValueError: If it is none.
    """
    if more:
        return text, more[0]
    if text.startswith("/"):
        return "unix/", text
    found = parse_host_port(text, port)
    if found is None:
        raise ValueError(f"expected HOST:PORT, got {text!r}")
    return found


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ae_handle",
        description="Connect, or listen, by lines, TLS and proxies.",
        epilog="Exit status: 0 when both sides have said everything, or a server was told to end; "
        "1 if there is no connection or it breaks; 2 for bad arguments; 74 if the output cannot be "
        "written; 124 if the timeout has passed.",
    )
    parser.add_argument("address", nargs="+", metavar="HOST PORT", help="or HOST:PORT, or /PATH")
    server = parser.add_argument_group("listening")
    server.add_argument("-l", "--listen", action="store_true", help="listen; HOST may be left out")
    server.add_argument("--echo", action="store_true", help="send back what clients say")
    server.add_argument("--relay", metavar="HOST:PORT", help="pass clients on to another server")
    server.add_argument("--cert", metavar="FILE", help="speak TLS with this certificate")
    server.add_argument("--key", metavar="FILE", help="its key, if it is not in the same file")
    client = parser.add_argument_group("connecting, also for --relay")
    client.add_argument("--tls", action="store_true", help="speak TLS")
    client.add_argument(
        "--starttls",
        choices=sorted(PORTS),
        metavar="PROTOCOL",
        help=f"begin in plaintext, and have the server start TLS: {', '.join(sorted(PORTS))}",
    )
    client.add_argument("--name", help="whose certificate to expect, if not that of HOST")
    client.add_argument("--ca-file", metavar="FILE", help="whom to trust, instead of the system")
    client.add_argument("--insecure", action="store_true", help="trust any certificate")
    client.add_argument("--socks", metavar="HOST:PORT", help="through a SOCKS 5 proxy")
    client.add_argument("--http-proxy", metavar="HOST:PORT", help="through an HTTP proxy")
    parser.add_argument(
        "-w", "--timeout", type=float, metavar="S", help="give up after S seconds of silence"
    )
    parser.add_argument(
        "--json", action="store_true", help="write each line, and the end, as a JSON object"
    )
    options = parser.parse_args(words)
    if options.listen == (options.relay is None and not options.echo):
        parser.error("expected --echo or --relay with --listen, and with nothing else")
    if len(options.address) > 2:
        parser.error(f"expected HOST PORT, got {' '.join(options.address)}")
    if options.socks and options.http_proxy:
        parser.error("expected one proxy, got two")
    if options.starttls and options.tls:
        parser.error("expected --tls or --starttls, got both")
    if options.starttls and options.echo:
        parser.error("--starttls is for connecting: expected it with --relay or alone")
    options.port = str(PORTS[options.starttls]) if options.starttls else None
    if options.listen:
        is_port = options.address[0].isdigit() and len(options.address) == 1
        options.target = (None, options.address[0]) if is_port else _address(*options.address)
    else:
        options.target = _address(*options.address, port=options.port)
    return options


async def _connect(options: argparse.Namespace, target: tuple[str, str]) -> Handle:
    """Return a handle that is connected or still connecting, to speak with *target*."""
    connector: Connector | None = None
    if options.socks:
        connector = socks5(_address(options.socks))
    elif options.http_proxy:
        connector = http_connect(_address(options.http_proxy))
    tls: dict[str, Any] = {}
    if options.tls or options.starttls:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        tls = {"tls_context": context, "peer_name": options.name}
    if options.tls:
        tls["tls"] = "connect"
    seconds = options.timeout
    handle = Handle(
        connect=target,
        connector=connector,
        on_prepare=lambda handle: seconds,
        timeout=seconds,
        **tls,
    )
    if options.starttls:
        await negotiate(handle, options.starttls, target[0])
        handle.start_tls("connect")
    return handle


def _say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def _talk(options: argparse.Namespace) -> int:
    """Join the terminal and a connection."""
    handle = await _connect(options, options.target)
    if not options.json:
        terminal = _Terminal()
        inside = Handle(terminal.sock)
        try:
            await relay(inside, handle)
        except HandleError:
            if terminal.broken is None:
                raise
        finally:
            inside.destroy()
            terminal.flush()
        return int(terminal.broken or 0)
    await handle.drained()
    is_secure = options.tls or options.starttls is not None
    _say("connected", address=format_host_port(*options.target), tls=is_secure)
    terminal = _Terminal()
    typed = Handle(terminal.sock)

    def said(typed: Handle) -> None:
        handle.push_write(typed.read_buffer.take())

    typed.on_read = said
    typed.on_eof = lambda typed: handle.push_shutdown()
    async for line in handle.each("line"):
        _say("line", text=line.decode("utf-8", "replace"))
    _say("end")
    handle.destroy()
    typed.destroy()
    return 0


def _echo(handle: Handle) -> None:
    """Send back what *handle* says, no faster than it reads."""

    def said(handle: Handle) -> None:
        handle.push_write(handle.read_buffer.take())
        handle.stop_read()

    handle.on_read = said
    handle.on_drain = lambda handle: handle.start_read()


async def _listen(options: argparse.Namespace) -> int:
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    host, service = options.target
    target = _address(options.relay, port=options.port) if options.relay else None

    async def pass_on(handle: Handle) -> None:
        assert target is not None
        await relay(handle, await _connect(options, target))

    served = serve(
        host,
        service,
        pass_on if target else _echo,
        tls_context=context,
        timeout=options.timeout,
    )
    for address in served.addresses:
        text = format_host_port(*address)
        if options.json:
            _say("listening", address=text)
        else:
            print("listening on", text, file=sys.stderr, flush=True)
    ended: ae.CondVar[None] = ae.CondVar()
    with ae.signal("INT", ended.send), ae.signal("TERM", ended.send), served:
        await ended
    return 0


def main(words: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = None
    try:
        options = _arguments(sys.argv[1:] if words is None else words)
        return ae.run(_listen(options) if options.listen else _talk(options))
    except (OSError, ValueError) as error:  # HandleError and ssl.SSLError are OSErrors
        if options is not None and options.json:
            _say("error", error=str(error))
        status = console.failed("ae_handle", error)
        return 2 if options is None else status


if __name__ == "__main__":
    console.run("ae_handle", main)
