"""For the tests of programs that use IRC: a server that says what the test wants.

Needs no test framework, and no server. It runs on the loop of the test.
"""

from __future__ import annotations

__all__ = ("FakeServer",)

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ae_handle import Handle
from ae_socket import tcp_server

from ._message import BadLine, Message, parse

if TYPE_CHECKING:
    import socket

_Answer: TypeAlias = Callable[[Handle, Message], object]


class FakeServer:
    r"""A server on a free port of the loopback.

    It lets every client in, answers PING, lets all into every channel, echoes nothing, and has no
    capabilities.

    Args:
        answer: Called with the handle of the client and each message; returns true if that has
            been answered, so that the server does nothing about it. Send with :meth:`send`.

    Attributes:
        answer: The function; may be changed at any time.
        features: The tokens of its 005.
        refuses: Whether new connections are closed immediately.
        lines: All lines that came, as text, without their ends.
        accepted: How many connections were made.
        clients: The handles of those that are open.
        port: Where it listens.

    Example:
        >>> import ae_irc
        >>> with FakeServer() as server:
        ...     with ae_irc.Client(server.url, nick="anna") as client:
        ...         client.registered().recv()
        'anna'
    """

    def __init__(
        self, answer: _Answer = lambda client, message: None, *, tls_context: Any = None
    ) -> None:
        self.answer: _Answer = answer
        self.features = ["CASEMAPPING=ascii", "PREFIX=(ov)@+", "CHANTYPES=#", "NETWORK=Fake"]
        self.refuses = False
        self.lines: list[str] = []
        self.accepted = 0
        self.clients: dict[Handle, str] = {}
        self._tls_context = tls_context
        self._server = tcp_server("127.0.0.1", 0, self._accept)
        self.port = self._server.address[1]

    @property
    def url(self) -> str:
        """A URL for :class:`ae_irc.Client`."""
        return f"irc://127.0.0.1:{self.port}"

    def _accept(self, sock: socket.socket, host: str, port: int | str) -> None:
        self.accepted += 1
        if self.refuses:
            sock.close()
            return

        def gone(client: Handle, *error: Any) -> None:
            self.clients.pop(client, None)
            client.destroy()

        client = Handle(
            sock,
            on_eof=gone,
            on_error=gone,
            linger=0,
            tls=None if self._tls_context is None else "accept",
            tls_context=self._tls_context,
        )
        client.read_each("line", self._line)
        self.clients[client] = ""

    def _line(self, client: Handle, line: bytes) -> None:
        try:
            message = parse(line)
        except BadLine:
            return
        self.lines.append(line.decode("utf-8", "replace"))
        if self.answer(client, message):
            return
        command, nick = message.command, self.clients.get(client, "")
        if command == "NICK":
            if nick:
                self.send(client, f":{nick} NICK {message.param(0)}")
            self.clients[client] = message.param(0)
        elif command == "USER":
            self.welcome(client)
        elif command == "CAP":
            if message.param(0) == "LS":
                self.send(client, ":fake CAP * LS :")
        elif command == "PING":
            self.send(client, f":fake PONG fake :{message.param(0)}")
        elif command == "JOIN":
            for name in message.param(0).split(","):
                self.send(client, f":{nick}!u@h JOIN {name}")
                self.send(client, f":fake 353 {nick} = {name} :@{nick}")
                self.send(client, f":fake 366 {nick} {name} :End")
        elif command == "PART":
            self.send(client, f":{nick}!u@h PART {message.param(0)}")
        elif command == "QUIT":
            self.send(client, "ERROR :Bye")
            self.clients.pop(client, None)
            client.on_drain = Handle.destroy

    def welcome(self, client: Handle) -> None:
        """Let a client in."""
        nick = self.clients.get(client, "")
        self.send(client, f":fake 001 {nick} :Welcome")
        self.send(client, f":fake 005 {nick} {' '.join(self.features)} :are supported")
        self.send(client, f":fake 422 {nick} :No message of the day")

    def send(self, client: Handle, *lines: str) -> None:
        """Send lines to one client."""
        client.push_write(b"".join(line.encode() + b"\r\n" for line in lines))

    def say(self, *lines: str) -> None:
        """Send lines to all clients."""
        for client in list(self.clients):
            self.send(client, *lines)

    def kick(self) -> None:
        """Close all connections."""
        while self.clients:
            self.clients.popitem()[0].destroy()

    def close(self) -> None:
        """End it."""
        self._server.cancel()
        self.kick()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
