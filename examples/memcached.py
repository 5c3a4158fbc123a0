"""A memcached client in one file: pipelined, time limits, a connection that is kept.

    python examples/memcached.py HOST[:PORT] get KEY ... | set KEY VALUE | delete KEY | incr KEY

It speaks the text protocol (doc/protocol.txt of memcached). What a client of this kind consists of:

- *Pipelining.* Each command is sent at once and takes its place in the handle's read queue; the
  answers come in that order. A caller that gives up (``cancel()``, a time limit) gives up the
  value only: the answer is still read in its place, so it cannot be taken for the next one's.
- *A connection that is kept.* It is made with the first command, and anew with the first one after
  it was lost - after a pause that grows while the server does not answer (``Backoff``). Commands
  that were sent and not answered fail: whether they were executed nobody knows.
- *Time limits.* A server that does not answer in *timeout* seconds loses the connection.

Every method returns a condition variable: ``recv()`` it in a script, ``await`` it in a coroutine,
or give it a callback, on any loop.
"""

from __future__ import annotations

__all__ = ("Memcached", "MemcachedError")

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import BadMessage, Chunk, Handle, HandleError, HandleTimedOut
from ae_socket import Backoff, parse_host_port

T = TypeVar("T")

# What a key may not have: it would end the command, or begin another one.
_BAD_KEY: Final = re.compile(rb"[\0-\x20\x7f]")
_MAX_KEY: Final = 250
_MAX_VALUE: Final = 1 << 20


class MemcachedError(Exception):
    """The server has refused a command, or the connection was lost before its answer."""


class Memcached:
    """A client of one server.

    Args:
        host, port: Where the server is.
        timeout: Seconds within which an answer has to come, and a connection to be made.

    **Lifetime**: whoever waits for an answer keeps the client. ``close()`` fails what is pending.
    """

    def __init__(self, host: str, port: str | int = 11211, *, timeout: float = 5.0) -> None:
        self._address = (host, port)
        self._timeout = timeout
        self._backoff = Backoff(first=0.05, most=10.0)
        self._handle: Handle | None = None
        self._pause: ae.Watcher | None = None
        self._waiting: list[Callable[[], None]] = []  # commands, until the pause is over
        self._unanswered: set[ae.CondVar[Any]] = set()

    # ------------------------------------------------------------------ commands

    def get(self, key: str | bytes) -> ae.CondVar[bytes | None]:
        """Return the value of *key*, None if there is none."""
        name = _key(key)

        def header(handle: Handle, line: bytes, answer: ae.CondVar[bytes | None]) -> None:
            if line == b"END":
                self._answer(answer, None)
                return
            word, *rest = line.split(b" ")
            if word != b"VALUE" or len(rest) < 3 or rest[0] != name or not rest[2].isdigit():
                raise BadMessage(f"expected a value, got {line[:80]!r}")
            size = int(rest[2][:8])
            if size > _MAX_VALUE:
                raise BadMessage(f"a value of {size} bytes")

            def value(handle: Handle, data: bytes) -> None:
                if data[size:] == b"\r\nEND\r\n":
                    self._answer(answer, data[:size])
                else:
                    self._lost(BadMessage("a value of another length than was said"))

            # in front of the answers that others wait for
            handle.unshift_read(Chunk(size + len(b"\r\nEND\r\n")), value)

        return self._command(b"get " + name, header)

    def get_many(self, *keys: str | bytes) -> ae.CondVar[list[bytes | None]]:
        """Return the values of *keys*, in their order; all are asked for at once.

        It fails with the first of them that does. Giving it up gives all of them up.
        """
        return ae.gather(*(self.get(key) for key in keys))

    def set(self, key: str | bytes, value: bytes, *, expires: int = 0) -> ae.CondVar[bool]:
        """Store *value*; return whether the server did."""
        if len(value) > _MAX_VALUE:
            raise ValueError(f"expected a value of up to {_MAX_VALUE} bytes, got {len(value)}")
        head = b"set %b 0 %d %d\r\n" % (_key(key), expires, len(value))
        return self._command(head + value, self._one_of({b"STORED": True, b"NOT_STORED": False}))

    def delete(self, key: str | bytes) -> ae.CondVar[bool]:
        """Delete *key*; return whether it was there."""
        return self._command(
            b"delete " + _key(key), self._one_of({b"DELETED": True, b"NOT_FOUND": False})
        )

    def incr(self, key: str | bytes, by: int = 1) -> ae.CondVar[int | None]:
        """Add to the number that *key* has; return the sum, None if there is no such key."""

        def sum_or_none(handle: Handle, line: bytes, answer: ae.CondVar[int | None]) -> None:
            if line != b"NOT_FOUND" and not line.isdigit():
                raise BadMessage(f"expected a number, got {line[:80]!r}")
            self._answer(answer, int(line) if line.isdigit() else None)

        return self._command(b"incr %b %d" % (_key(key), by), sum_or_none)

    def close(self) -> None:
        """Close the connection; what is pending fails."""
        self._waiting.clear()
        self._pause = None
        self._disconnect(MemcachedError("the client was closed"))

    # ------------------------------------------------------------------ one command

    def _command(
        self, command: bytes, parse: Callable[[Handle, bytes, ae.CondVar[T]], None]
    ) -> ae.CondVar[T]:
        answer: ae.CondVar[T] = ae.CondVar(cancel=self._given_up)
        self._unanswered.add(answer)

        def line_came(handle: Handle, line: bytes) -> None:
            self._backoff.reset()  # it does not just accept, it answers
            if line.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
                self._unanswered.discard(answer)
                if not answer.ready:
                    answer.throw(MemcachedError(printable(line.decode("utf-8", "replace"))))
            else:
                try:
                    parse(handle, line, answer)
                except BadMessage as error:  # we are out of step: nothing behind it is right
                    self._lost(error)

        def send() -> None:
            handle = self._connected()
            handle.push_write(command + b"\r\n")
            handle.push_read("line", line_came)
            if not handle.timeout:
                handle.timeout = self._timeout
                handle.timeout_reset()

        if self._pause is not None:
            self._waiting.append(send)
        else:
            send()
        return answer

    def _given_up(self) -> None:
        """Nobody waits for an answer any more; it is read all the same, in its place."""

    def _one_of(
        self, words: dict[bytes, bool]
    ) -> Callable[[Handle, bytes, ae.CondVar[bool]], None]:
        def parse(handle: Handle, line: bytes, answer: ae.CondVar[bool]) -> None:
            if line not in words:
                raise BadMessage(f"expected one of {[*words]}, got {line[:80]!r}")
            self._answer(answer, words[line])

        return parse

    def _answer(self, answer: ae.CondVar[T], value: T) -> None:
        self._unanswered.discard(answer)
        if not self._unanswered and self._handle is not None:
            self._handle.timeout = 0  # an idle connection may be silent
        answer.send(value)  # which is nothing if it was given up

    # ------------------------------------------------------------------ the connection

    def _connected(self) -> Handle:
        if self._handle is None:
            self._handle = Handle(
                connect=self._address,
                on_error=lambda handle, error: self._lost(error),
                on_eof=lambda handle: self._lost(MemcachedError("the server hung up")),
                on_prepare=lambda handle: self._timeout,
                watch_eof=True,
                no_delay=True,
                max_read_buffer=_MAX_VALUE + 65536,
                linger=1.0,
            )
        return self._handle

    def _lost(self, error: Exception) -> None:
        """The connection is gone: fail what it owes, and let the next one wait a little."""
        if self._handle is not None:
            self._pause = ae.timer(next(self._backoff), self._go_on)
            self._disconnect(error)

    def _disconnect(self, error: Exception) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.destroy()
        pending, self._unanswered = self._unanswered, set()
        if isinstance(error, HandleTimedOut):
            error = MemcachedError(f"no answer within {self._timeout:g} s")
        for answer in pending:
            if not answer.ready:
                failure = MemcachedError(str(error))
                failure.__cause__ = error
                answer.throw(failure)

    def _go_on(self) -> None:
        self._pause = None
        waiting, self._waiting = self._waiting, []
        for send in waiting:
            send()


def _key(key: str | bytes) -> bytes:
    name = key.encode() if isinstance(key, str) else key
    if not name or len(name) > _MAX_KEY or _BAD_KEY.search(name):
        raise ValueError(f"expected a key of 1 to 250 bytes without blanks, got {key!r}")
    return name


def _run(client: Memcached, command: str, words: list[str]) -> bool:
    """Run one command and print what it gives; return whether there was something.

    Raises:
        ValueError: A wrong number of *words*.
    """
    match command, words:
        case "get", [_, *_]:
            values = client.get_many(*words).recv()
            for value in values:
                if value is not None:
                    print(printable(value.decode("utf-8", "replace")))
            return None not in values
        case "set", [key, text]:
            return client.set(key, text.encode()).recv()
        case "delete", [key]:
            return client.delete(key).recv()
        case "incr", [key]:
            total = client.incr(key).recv()
            print(total)
            return total is not None
    raise ValueError(f"{command}: a wrong number of arguments")


def main() -> int:
    """Run one command; its status is 1 if there is no such key."""
    parser = argparse.ArgumentParser(description="Talk to a memcached.")
    parser.add_argument("address", metavar="HOST[:PORT]", help="or unix/:/PATH")
    parser.add_argument("command", choices=["get", "set", "delete", "incr"])
    parser.add_argument("words", nargs="+", metavar="KEY", help="and the VALUE, for set")
    options = parser.parse_args()
    where = options.address
    client = Memcached(*(parse_host_port(where, "11211") or (where, "11211")))
    try:
        return 0 if _run(client, options.command, options.words) else 1
    except (MemcachedError, HandleError, ValueError) as error:
        print(printable(f"memcached: {error}"), file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    finally:
        client.close()


if __name__ == "__main__":
    run("memcached", main)
