"""A chat room for a thousand clients, in which nobody can do harm to the others.

    python examples/chat_server.py [--host HOST] [--port PORT] [--clients N] [--per-host N]

Talk to it with ``telnet`` or ``nc``: the first line is your name, each further line goes to all
others, and ``/help`` tells the rest. Ctrl-C or SIGTERM ends it, after a word of farewell.

What a server on the open net has to survive is all in ``Limits``: too many clients, names made to
deceive, lines without an end, clients that talk all the time, that never say anything, and the one
that everybody forgets: clients that do not *read*. What is said to them has to be kept somewhere.
"""

from __future__ import annotations

__all__ = ("ChatServer", "Limits")

import argparse
import re
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

import ae_core as ae
from ae_handle import NEED_MORE, BadMessage, Handle, NeedMore, ReadBuffer, serve
from ae_socket import format_host_port

# Letters that look alike in two alphabets would let one pass for another: ASCII only.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,19}")
_RESERVED: Final = frozenset({"admin", "root", "server", "system"})
_HELP: Final = "/who: who is here; /msg NAME TEXT: to one only; /quit: leave"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may ask of the server.

    Attributes:
        clients: Connections at a time; more are turned away.
        per_host: Those of them that may come from one address.
        line: Bytes in a line.
        unsent: Bytes that wait because a client does not read; one more and it is dropped.
        burst: Lines that a client may say at once ...
        rate: ... and lines a second after that.
        tries: How often a client may say a name that is not accepted.
        login: Seconds until it must have said one.
        idle: Seconds without a sign of life.
        farewell: Seconds that clients have to hang up when the server ends.
        announce: Above so many members nobody is told any more who comes and goes: with a
            thousand that would be a million lines.
    """

    clients: int = 1000
    per_host: int = 100
    line: int = 500
    unsent: int = 65536
    burst: int = 10
    rate: float = 5.0
    tries: int = 3
    login: float = 30.0
    idle: float = 600.0
    farewell: float = 5.0
    announce: int = 50


class _Leave(Exception):
    """The conversation is over; the text is the client's last line."""


class _ShortLine:
    """A reader of our own: a line, and no more than *limit* bytes until its end.

    ``max_read_buffer`` of the handle would not do: it bounds what is *buffered*, and ten short
    lines that came in one packet are no crime.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def __call__(self, buffer: ReadBuffer) -> bytes | NeedMore:
        end = buffer.find(b"\n")
        if end > self._limit or (end < 0 and len(buffer) > self._limit):
            raise BadMessage(f"a line of more than {self._limit} bytes")
        return NEED_MORE if end < 0 else buffer.take(end + 1).rstrip(b"\r\n")


class _Pace:
    """A bucket of *burst* tokens, filled again by *rate* a second; a line costs one.

    The clock is the monotonic one: nobody gets to talk more because somebody set the date.
    """

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._tokens, self._at = float(burst), time.monotonic()

    def wait(self) -> float:
        """Take a token, and return for how many seconds it was not there yet."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)


class ChatServer:
    """The room, and the sockets it listens on.

    It serves until ``await stop()`` has returned, or until the loop ends.

    Args:
        host: Where to listen; None for every interface.
        port: 0 for any free one, see :attr:`address`.
        limits: What clients may do.

    Raises:
        OSError: If it cannot listen there.
    """

    def __init__(
        self, host: str | None = "127.0.0.1", port: str | int = 0, *, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._line = _ShortLine(self._limits.line)
        self._hosts: Counter[str] = Counter()
        self._members: dict[str, tuple[str, Handle]] = {}  # by the name without its case
        self._is_ending = False
        # A client that is one too many is told so, and not left waiting: `max_clients` is not for
        # that. What a client does not read is bounded by `max_write_buffer`.
        self._served = serve(
            host,
            port,
            self._serve,
            max_clients=None,
            max_write_buffer=self._limits.unsent,
            on_prepare=self._prepare,
        )

    @property
    def address(self) -> tuple[str, str | int]:
        """Where it listens: host and port."""
        return self._served.address

    @property
    def members(self) -> list[str]:
        """The names of those who are in the room."""
        return [name for name, _ in self._members.values()]

    async def stop(self) -> None:
        """Accept nobody any more, say farewell, and wait until all have hung up or must."""
        for handle in self._served.clients:
            # To close at once could cost the client the last lines: what it has sent and we
            # have not read makes the kernel throw away what *it* has not read. So we end
            # only our side, and wait for the client to end its own.
            handle.push_write(b"* the server is going down\n")
            handle.push_shutdown()
            handle.linger = 0
        self._is_ending = True
        await self._served.close(self._limits.farewell)

    # ------------------------------------------------------------------ one client

    def _prepare(self, listener: socket.socket, host: str, port: int | str) -> None:
        # Accepted sockets inherit this. The kernel would buffer megabytes for a client that
        # does not read, and `unsent` would count only what comes on top of that.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.unsent)

    async def _serve(self, handle: Handle) -> None:
        """Serve one client; when this returns, `serve` closes the connection.

        It is the only one who reads from the handle, one line at a time: while it waits, the
        client's next lines wait in the kernel, and when that is full, at the client. A crowd costs
        little: a coroutine is no thread.
        """
        try:
            host = handle.socket.getpeername()[0]
        except OSError:  # it has gone already
            return
        if (
            len(self._served.clients) > self._limits.clients
            or self._hosts[host] >= self._limits.per_host
        ):
            # A full server spends no waiting on those it turns away: a first line always fits the
            # kernel's buffer, and who is gone again needs none.
            handle.linger = 0
            handle.push_write(b"! the room is full\n")
            await handle.drained()
            return
        handle.max_read_size = 4096
        handle.read_timeout = self._limits.idle
        handle.on_read_timeout = lambda handle: self._dismiss(
            handle, "you have been silent too long"
        )
        # All that is said in one turn of the loop is sent together, and then at once: the
        # kernel would keep a short line back until the one before it is acknowledged.
        handle.autocork = handle.no_delay = handle.keepalive = True
        handle.linger = self._limits.farewell
        self._hosts[host] += 1
        try:
            await self._converse(handle)
        finally:
            self._hosts[host] -= 1
            self._hosts += Counter()  # forgets those at zero

    async def _converse(self, handle: Handle) -> None:
        name = None
        try:
            with ae.timer(self._limits.login, lambda: self._dismiss(handle, "too late")):
                name = await self._login(handle)
            await self._talk(handle, name)
        except _Leave as farewell:
            self._tell(handle, str(farewell))
        except BadMessage as error:
            self._tell(handle, f"! {error}")
        finally:  # a client that hung up, was reset, slow or dismissed: `serve` logs that
            if name is not None:
                del self._members[name.casefold()]
                self._announce(f"* {name} has left")

    async def _login(self, handle: Handle) -> str:
        """Ask for a name until there is one that may be had."""
        self._tell(handle, "* welcome; who are you?")
        for _ in range(self._limits.tries):
            name = await self._next(handle)
            if not _NAME.fullmatch(name) or name.casefold() in _RESERVED:
                self._tell(handle, "! a name is a letter, and up to 19 letters, digits, - and _")
            elif name.casefold() in self._members:
                self._tell(handle, "! that name is taken")
            else:
                self._announce(f"* {name} is here")
                self._members[name.casefold()] = (name, handle)
                self._tell(handle, f"* hello {name}, there are {len(self._members)} here")
                return name
        raise _Leave("! no name, no talk")

    async def _talk(self, handle: Handle, name: str) -> None:
        """Pass on what one member says, no faster than is good for the others."""
        pace = _Pace(self._limits.burst, self._limits.rate)
        while True:
            text = await self._next(handle)
            if seconds := pace.wait():
                await ae.sleep(seconds)
            match text.split(" ", 2):
                case ["/quit", *_]:
                    raise _Leave("* goodbye")
                case ["/who"]:
                    self._tell(handle, "* " + " ".join(self.members))
                case ["/msg", other, words]:
                    self._whisper(handle, name, other, words)
                case [command, *_] if command.startswith("/"):
                    self._tell(handle, "* " + _HELP)
                case [""]:
                    pass
                case _:
                    self._say(f"<{name}> {text}", besides=handle)

    async def _next(self, handle: Handle) -> str:
        """Read a line that may be shown to others."""
        while True:
            line = await handle.push_read(self._line)
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self._tell(handle, "! that was no UTF-8")
                continue
            # Escape sequences would do as they like on the terminals of all others.
            if text.isprintable():
                return text
            self._tell(handle, "! that was not printable")

    # ------------------------------------------------------------------ what is said

    def _tell(self, handle: Handle, text: str) -> None:
        if not self._is_ending:  # afterwards the write side has been ended
            handle.push_write(text.encode() + b"\n")

    def _say(self, text: str, *, besides: Handle | None = None) -> None:
        data = text.encode() + b"\n"  # once, not a thousand times
        if not self._is_ending:
            for _, handle in self._members.values():
                if handle is not besides:
                    handle.push_write(data)

    def _announce(self, text: str) -> None:
        if len(self._members) <= self._limits.announce:
            self._say(text)

    def _whisper(self, handle: Handle, name: str, other: str, words: str) -> None:
        member = self._members.get(other.casefold())
        if member is None:
            self._tell(handle, f"! nobody is called {other}")
        else:
            self._tell(member[1], f"[{name}] {words}")

    def _dismiss(self, handle: Handle, why: str) -> None:
        self._tell(handle, f"! {why}")
        handle.destroy()  # the read that its conversation waits for raises


async def _run(host: str | None, port: str, limits: Limits) -> None:
    server = ChatServer(host, port, limits=limits)
    asked: ae.CondVar[None] = ae.CondVar()
    print("listening on", format_host_port(*map(str, server.address)), flush=True)
    with ae.signal("INT", asked.send), ae.signal("TERM", asked.send):
        await asked
    await server.stop()


def main() -> None:
    """Serve until somebody asks to stop."""
    parser = argparse.ArgumentParser(description="Serve a chat room.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; * for everywhere")
    parser.add_argument("--port", default="0", help="0 (the default) for any free one")
    parser.add_argument("--clients", type=int, default=1000, help="how many at a time")
    parser.add_argument("--per-host", type=int, default=100, help="and from one address")
    options = parser.parse_args()
    host = None if options.host == "*" else options.host
    try:
        limits = Limits(clients=options.clients, per_host=options.per_host)
        ae.run(_run(host, options.port, limits))
    except (OSError, ValueError) as error:
        sys.exit(f"chat_server: {error}")


if __name__ == "__main__":
    main()
