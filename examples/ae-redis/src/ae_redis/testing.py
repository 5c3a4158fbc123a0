"""For the tests of programs that use a Redis server: one that says what the test wants.

Needs no test framework, and no Redis. It runs on the loop of the test.
"""

from __future__ import annotations

__all__ = ("GREETING", "FakeServer")

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ae_handle import Handle
from ae_socket import tcp_server

from ._resp import Parser

if TYPE_CHECKING:
    import socket

#: What is answered to HELLO.
GREETING: Final = b"%1\r\n+server\r\n+fake\r\n"

_Answer: TypeAlias = Callable[[Handle, list[bytes]], "bytes | None"]


class FakeServer:
    r"""A server on a free port of the loopback.

    Args:
        answer: Called with the handle of the client and the words of each command; returns
            bytes to send, or None for nothing. HELLO is answered by itself.

    Attributes:
        answer: The function; may be changed at any time.
        greets: Whether HELLO is answered by itself.
        refuses: Whether new connections are closed immediately.
        commands: All commands that came, as text, HELLO included.
        accepted: How many connections were made.
        clients: The handles of those that are open.
        port: Where it listens.

    Example:
        >>> import ae_redis
        >>> with FakeServer(lambda client, words: b":42\r\n") as server:
        ...     with ae_redis.Redis(server.url) as redis:
        ...         redis.incr("a").recv()
        42
    """

    def __init__(self, answer: _Answer = lambda client, words: b"+OK\r\n") -> None:
        self.answer: _Answer = answer
        self.greets = True
        self.refuses = False
        self.commands: list[str] = []
        self.accepted = 0
        self.clients: set[Handle] = set()
        self._server = tcp_server("127.0.0.1", 0, self._accept)
        self.port = self._server.address[1]

    @property
    def url(self) -> str:
        """A URL for :class:`ae_redis.Redis`."""
        return f"redis://127.0.0.1:{self.port}"

    def _accept(self, sock: socket.socket, host: str, port: int | str) -> None:
        self.accepted += 1
        if self.refuses:
            sock.close()
            return
        parser = Parser()

        def read(client: Handle) -> None:
            for words in parser.feed(client.read_buffer.take()):
                self.commands.append(b" ".join(words).decode("latin-1"))
                if self.greets and words[0] == b"HELLO":
                    client.push_write(GREETING)
                    continue
                reply = self.answer(client, words)
                if reply is not None:
                    client.push_write(reply)

        def gone(client: Handle, *error: Any) -> None:
            self.clients.discard(client)
            client.destroy()

        client = Handle(sock, on_read=read, on_eof=gone, on_error=gone, linger=0)
        self.clients.add(client)

    def kick(self) -> None:
        """Close all connections."""
        while self.clients:
            self.clients.pop().destroy()

    def close(self) -> None:
        """End it."""
        self._server.cancel()
        self.kick()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
