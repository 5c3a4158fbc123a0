"""Speak SMTP far enough to read its replies, several lines long or not, with ``unshift_read``.

    python examples/smtp_reply.py [--tls] [--ca-file FILE] HOST [PORT]

Only when the first line of a reply has been read is it known that another follows. The reader for
it must stand *before* everything already queued: commands are pipelined, and the next command's
reply reader waits in the queue. That is what ``unshift_read`` is for.
"""

from __future__ import annotations

__all__ = ("Reply", "Smtp", "SmtpError", "smtp_hello")

import argparse
import re
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import Handle, HandleError
from ae_handle.abc import TlsContext
from ae_tls import Context

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?")
_MAX_LINES: Final = 1000


class SmtpError(ValueError):
    """The server's reply is not SMTP, or it is a refusal."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The code and the lines of one reply."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.code} {line}" for line in self.lines)


class Smtp:
    """One connection; every command is sent at once and answered in order.

    Args:
        tls: ``"connect"`` for TLS from the first byte on (port 465).
        timeout: Seconds without progress after which the connection is given up.

    Lifetime: until :meth:`close`, or until the connection fails.
    """

    def __init__(
        self,
        host: str,
        service: str | int = "smtp",
        *,
        tls: Literal["connect"] | None = None,
        tls_context: TlsContext | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._waiting: deque[ae.CondVar[Reply]] = deque()
        self._lines: list[str] = []
        self._error: Exception | None = None
        self._handle = Handle(
            connect=(host, service),
            tls=tls,
            tls_context=tls_context,
            timeout=timeout,
            on_error=self._failed,
        )

    def command(self, text: str) -> ae.CondVar[Reply]:
        """Send one command line; the condition variable gives its reply."""
        if not text.isprintable():
            raise ValueError(f"expected one printable line, got {text!r}")
        self._handle.push_write(text.encode() + b"\r\n")
        return self.reply()

    def reply(self) -> ae.CondVar[Reply]:
        """Give the next reply without a command: the server speaks first."""
        done: ae.CondVar[Reply] = ae.CondVar()
        if self._error is not None:
            done.throw(self._error)
            return done
        self._waiting.append(done)
        self._handle.push_read("line", self._got_line)
        return done

    def close(self) -> None:
        """Send what is queued, then close."""
        self._handle.destroy()

    def _got_line(self, handle: Handle, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if not found or len(self._lines) >= _MAX_LINES:
            self._give_up(SmtpError(f"a garbled reply: {line[:60]!r} is no SMTP reply line"))
            return
        self._lines.append((found[3] or b"").decode("utf-8", "backslashreplace"))
        if found[2] == b"-":
            handle.unshift_read("line", self._got_line)
            return
        reply = Reply(int(found[1]), tuple(self._lines))
        self._lines.clear()
        self._waiting.popleft().send(reply)

    def _failed(self, handle: Handle, error: HandleError) -> None:
        self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._error = error
        self._handle.destroy()
        while self._waiting:
            self._waiting.popleft().throw(error)


async def smtp_hello(
    host: str,
    service: str | int = "smtp",
    *,
    tls: Literal["connect"] | None = None,
    tls_context: TlsContext | None = None,
    timeout: float = 30.0,
) -> list[Reply]:
    """Connect, say EHLO and QUIT; return the three replies, the greeting first.

    Raises:
        SmtpError: If a reply is garbled or refuses.
        OSError: No such host, refused, bad certificate, lost, timed out.
    """
    smtp = Smtp(host, service, tls=tls, tls_context=tls_context, timeout=timeout)
    try:
        # Only a server that lists PIPELINING in its answer to EHLO may be sent more at once.
        replies = [await smtp.reply()]
        replies += [await smtp.command(text) for text in ("EHLO localhost", "QUIT")]
    finally:
        smtp.close()
    for reply in replies:
        if reply.code >= 400:
            raise SmtpError(f"refused: {reply.code} {reply.lines[0]}")
    return replies


def main() -> None:
    """Print the server's greeting and what it offers."""
    parser = argparse.ArgumentParser(description="Ask a mail server what it offers.")
    parser.add_argument("host")
    parser.add_argument("port", nargs="?", default="smtp")
    parser.add_argument("--tls", action="store_const", const="connect", help="TLS at once")
    parser.add_argument("--ca-file", help="trust the certificates in this PEM file, no others")
    options = parser.parse_args()
    try:
        context = Context(ca_file=options.ca_file) if options.ca_file else None
        hello = smtp_hello(options.host, options.port, tls=options.tls, tls_context=context)
        for reply in ae.run(hello):
            print("\n".join(map(printable, str(reply).split("\n"))))
    except (OSError, ValueError) as error:
        sys.exit(printable(f"smtp_reply: {options.host}: {error}"))


if __name__ == "__main__":
    run("smtp_reply", main)
