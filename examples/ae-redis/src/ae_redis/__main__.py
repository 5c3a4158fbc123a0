"""``python -m ae_redis GET key``: one command, its reply on standard output.

``SUBSCRIBE`` and ``PSUBSCRIBE`` print messages until interrupted. Without a command, commands
are read from standard input, one a line, quoted as in a shell, and sent in one pipeline. Strings
are written as they are; to a terminal, with what is not printable as escapes. Exit status: 0; 1
for an error reply; 2 if there is no server, or it is none; 74 if the output cannot be written.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import ae_core as ae
from ae_core import console

from ._client import Redis
from ._errors import RedisError, ReplyError

if TYPE_CHECKING:
    from collections.abc import Sequence


def shown(value: bytes) -> bytes:
    """Return a string as it is, or for a terminal as one line that does nothing to it."""
    if not sys.stdout.isatty():
        return value
    return console.printable(value.decode(errors="backslashreplace")).encode()


def show(reply: Any, indent: str = "") -> bytes:
    """Return a reply as bytes for people."""
    if reply is None:
        return b"(nil)\n"
    if isinstance(reply, bytes):
        return shown(reply) + b"\n"
    if isinstance(reply, ReplyError):
        return f"(error) {console.printable(str(reply))}\n".encode()
    if isinstance(reply, dict):
        rows = [(show(key, indent).rstrip(b"\n") + b" => ", value) for key, value in reply.items()]
    elif isinstance(reply, (list, tuple, set, frozenset)):
        rows = [(b"%d) " % number, value) for number, value in enumerate(reply, 1)]
    else:
        return f"{console.printable(str(reply))}\n".encode()
    if not rows:
        return b"(empty)\n"
    deeper = indent + "   "
    lines = [head + show(value, deeper) for head, value in rows]
    return lines[0] + b"".join(indent.encode() + line for line in lines[1:])


def write(data: bytes) -> None:
    """Write to standard output and flush it."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


async def listen(redis: Redis, verb: str, names: Sequence[str]) -> None:
    """Print messages for ever."""
    plain = verb == "SUBSCRIBE"
    subscription = redis.subscribe(*(names if plain else ()), patterns=() if plain else names)
    async for message in subscription:
        write(b"%b: %b\n" % (shown(message.channel), shown(message.data)))


def run(redis: Redis, command: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    if command and command[0].upper() in ("SUBSCRIBE", "PSUBSCRIBE") and len(command) > 1:
        ae.run(listen(redis, command[0].upper(), command[1:]))
        return 0
    if command:
        write(show(redis.command(command[0], *command[1:]).recv()))
        return 0
    pipeline = redis.pipeline()
    for line in sys.stdin:
        words = shlex.split(line, comments=True)
        if words:
            pipeline.command(words[0], *words[1:])
    replies = pipeline.execute(return_errors=True).recv()
    write(b"".join(map(show, replies)))
    return int(any(isinstance(reply, ReplyError) for reply in replies))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ae_redis", description=__doc__)
    parser.add_argument(
        "-u",
        "--url",
        default=os.environ.get("REDIS_URL", "redis://localhost"),
        help="redis://, rediss:// or unix://; default: $REDIS_URL, else redis://localhost",
    )
    parser.add_argument("--ca-file", help="trust the authorities in this PEM file (needs ae-tls)")
    parser.add_argument("--timeout", type=float, default=10.0, help="in seconds; default: 10")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="such as GET key")
    options = parser.parse_args(arguments)
    context = None
    try:
        if options.ca_file is not None:
            import ae_tls

            context = ae_tls.Context(ca_file=options.ca_file)
        with Redis(options.url, tls_context=context, timeout=options.timeout) as redis:
            return run(redis, options.command)
    except ReplyError as error:
        print(console.printable(f"(error) {error}"), file=sys.stderr)
        return 1
    except (RedisError, ValueError, OSError, ImportError) as error:
        print(console.printable(f"ae_redis: {error}"), file=sys.stderr)
        return 2


if __name__ == "__main__":
    console.run("ae_redis", main)
