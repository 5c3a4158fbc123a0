"""Ask several users' finger information at once, with watchers and condition variables only.

    python examples/finger.py HOST [PORT [USER ...]]

The lowest two layers are enough for a protocol this small (RFC 1288: send a line, read until
EOF): ``tcp_connect`` gives a connected socket, ``ae.io`` tells when there is something to read.
Nothing here blocks but the ``recv`` calls at the end, and they wait for all users together.
"""

from __future__ import annotations

__all__ = ("FingerError", "finger")

import argparse
import re
import socket
import sys
from typing import Final

import ae_core as ae
from ae_core.console import printable, run
from ae_socket import tcp_connect

_MAX_REPLY: Final = 1 << 20
# RFC 1288, 3.3: what is not printable must not reach the user's terminal.
_UNPRINTABLE: Final = re.compile(
    r"[^\t\n\r\f -~\xa0-\U0010ffff]|\r(?!\n)|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


class FingerError(ValueError):
    """The server's reply is not one that may be shown."""


def finger(
    user: str, host: str, service: str | int = "finger", *, timeout: float = 30.0
) -> ae.CondVar[str]:
    """Ask *host* about *user*; the condition variable gives the text it answers.

    Raises (through the condition variable):
        OSError: If *host* is unknown or the connection is refused or lost.
        TimeoutError: If the connection or the whole answer takes longer than *timeout*.
        FingerError: If the reply is empty, endless, or holds control characters.
    """
    done: ae.CondVar[str] = ae.CondVar()
    reply = bytearray()

    def connected(connecting: ae.CondVar[socket.socket]) -> None:
        try:
            sock = connecting.recv()
            sock.send(user.encode() + b"\r\n")  # a first line always fits the kernel's buffer
        except OSError as error:
            done.throw(error)
            return

        def readable() -> None:
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                done.throw(error)
                return
            reply.extend(data)
            if not data:
                _answer(done, reply)
            elif len(reply) > _MAX_REPLY:
                done.throw(FingerError(f"more than {_MAX_REPLY} bytes, and no end"))

        def expired() -> None:
            done.throw(TimeoutError(f"no answer within {timeout:g} s"))

        # The condition variable holds the watchers: they live as long as somebody waits for it.
        reading, limit = ae.io(sock, "r", readable), ae.timer(timeout, expired)

        def finished(_: ae.CondVar[str]) -> None:
            reading.cancel()
            limit.cancel()
            sock.close()

        done.on_ready(finished)

    tcp_connect(host, service, timeout=timeout).on_ready(connected)
    return done


def _answer(done: ae.CondVar[str], reply: bytearray) -> None:
    try:
        text = reply.decode()
    except UnicodeDecodeError:
        text = reply.decode("latin-1")
    if not text.strip():
        done.throw(FingerError("an empty reply"))
    elif bad := _UNPRINTABLE.search(text):
        done.throw(FingerError(f"a garbled reply: {bad[0]!r} at offset {bad.start()}"))
    else:
        done.send(text)


def main() -> None:
    """Finger three users in parallel and print the answers in the order of the questions."""
    parser = argparse.ArgumentParser(description="Ask about users, all of them at once.")
    parser.add_argument("host")
    parser.add_argument("port", nargs="?", default="finger")
    parser.add_argument("users", nargs="*", metavar="user", default=["root", "daemon", "nobody"])
    options = parser.parse_args()

    asked = [(user, finger(user, options.host, options.port)) for user in options.users]
    failures = []
    for user, answer in asked:
        try:
            text = answer.recv()
        except (OSError, ValueError) as error:
            failures.append(error)
        else:
            print(f"{user}@{options.host}:", text.rstrip(), sep="\n", end="\n\n")
    if failures:
        sys.exit(printable(f"finger: {options.host}: {failures[0]}"))


if __name__ == "__main__":
    run("finger", main)
