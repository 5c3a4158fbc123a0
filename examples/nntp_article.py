"""Read one article from a news server, as a coroutine: each read is awaited where it is needed.

    python examples/nntp_article.py [--tls] [--ca-file FILE] HOST PORT GROUP [NUMBER]

What a status line says decides what is read next (RFC 3977): a text until a line with a single
dot follows some replies and not others. With ``await`` that is an ``if``.
"""

from __future__ import annotations

__all__ = ("Article", "NntpError", "nntp_article")

import argparse
import re
import sys
from dataclasses import dataclass
from typing import Final, Literal

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import Handle, Regex
from ae_handle.abc import TlsContext
from ae_tls import Context

_END_OF_TEXT: Final = Regex(rb"(?:^|\n)\.\r?\n")
_STATUS: Final = re.compile(rb"([1-5][0-9][0-9])(?: (.*))?")
_GROUP: Final = re.compile(r"[0-9]+ [0-9]+ ([0-9]+) \S+.*")
_MAX_ARTICLE: Final = 16 << 20


class NntpError(ValueError):
    """The server's reply is not NNTP, or it says no."""


@dataclass(frozen=True, slots=True)
class Article:
    """An article as its lines: the header fields, then the body."""

    header: tuple[bytes, ...]
    body: tuple[bytes, ...]


async def nntp_article(
    host: str,
    service: str | int,
    group: str,
    number: int | None = None,
    *,
    tls: Literal["connect"] | None = None,
    tls_context: TlsContext | None = None,
    timeout: float = 30.0,
) -> Article:
    """Return article *number* of *group*; the newest one if no number is given.

    Raises:
        NntpError: If the server has no such group or article, or a reply is garbled.
        OSError: No such host, refused, bad certificate, lost, timed out.
    """
    if not group.isprintable() or " " in group:
        raise NntpError(f"expected the name of a newsgroup, got {group!r}")
    handle = Handle(
        connect=(host, service),
        tls=tls,
        tls_context=tls_context,
        timeout=timeout,
        max_read_buffer=_MAX_ARTICLE,
    )
    try:
        await _expect(handle, 200, 201)
        found = _GROUP.fullmatch(await _ask(handle, f"GROUP {group}", 211))
        if found is None:
            raise NntpError("a garbled reply to GROUP")
        await _ask(handle, f"ARTICLE {number or found[1]}", 220)
        text = await handle.push_read(_END_OF_TEXT)
        handle.push_write(b"QUIT\r\n")
    finally:
        handle.destroy()
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")[:-2]]
    lines = [line.removeprefix(b".") for line in lines]  # a leading dot was doubled on the way
    blank = lines.index(b"") if b"" in lines else len(lines)
    return Article(tuple(lines[:blank]), tuple(lines[blank + 1 :]))


async def _ask(handle: Handle, command: str, *expected: int) -> str:
    handle.push_write(f"{command}\r\n".encode())
    return await _expect(handle, *expected)


async def _expect(handle: Handle, *expected: int) -> str:
    line = await handle.push_read("line")
    found = _STATUS.fullmatch(line)
    if found is None:
        raise NntpError(f"a garbled reply: {line[:60]!r} is no NNTP status line")
    text = (found[2] or b"").decode("utf-8", "backslashreplace")
    if int(found[1]) not in expected:
        raise NntpError(f"refused: {found[1].decode()} {text}")
    return text


def main() -> None:
    """Print one article."""
    parser = argparse.ArgumentParser(description="Read one article from a news server.")
    parser.add_argument("host")
    parser.add_argument("port")
    parser.add_argument("group")
    parser.add_argument("number", nargs="?", type=int, help="default: the newest")
    parser.add_argument("--tls", action="store_const", const="connect", help="TLS at once")
    parser.add_argument("--ca-file", help="trust the certificates in this PEM file, no others")
    options = parser.parse_args()
    try:
        context = Context(ca_file=options.ca_file) if options.ca_file else None
        article = ae.run(
            nntp_article(
                options.host,
                options.port,
                options.group,
                options.number,
                tls=options.tls,
                tls_context=context,
            )
        )
    except (OSError, ValueError) as error:
        sys.exit(printable(f"nntp_article: {options.host}: {error}"))
    sys.stdout.buffer.write(b"\n".join((*article.header, b"", *article.body, b"")))


if __name__ == "__main__":
    run("nntp_article", main)
