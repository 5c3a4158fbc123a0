"""Fetch a document over HTTP or HTTPS with the read queue of a ``Handle``.

    python examples/http_get.py [--ca-file FILE] URL

An HTTP/1.0 reply is read in three steps: the status line, the header paragraph, and whatever
comes until the server closes. HTTPS is the same with one parameter more, ``tls="connect"``: the
certificate and the host name are checked before the first byte of the request leaves.
"""

from __future__ import annotations

__all__ = ("HttpError", "Reply", "http_get")

import argparse
import re
import sys
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import Handle, Regex
from ae_handle.abc import TlsContext
from ae_tls import Context

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: (.*))?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\r?")
_END_OF_HEADER: Final = Regex(rb"(?:^|\n)\r?\n")
_MAX_HEADER: Final = 1 << 16


class HttpError(ValueError):
    """The URL cannot be asked for, or what came back is not an HTTP reply."""


@dataclass(slots=True)
class Reply:
    """A reply: the status number and its text, the header fields (lower case), the body."""

    status: int = 0
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


def http_get(
    url: str, *, tls_context: TlsContext | None = None, timeout: float = 30.0
) -> ae.CondVar[Reply]:
    """Ask for *url*; the condition variable gives the :class:`Reply`.

    Args:
        tls_context: Whom to trust for ``https``; the default is the system's store.
        timeout: Seconds without progress after which the attempt is given up.

    Raises:
        HttpError: At once for an unusable URL; through the condition variable for a bad reply.
        OSError: Through the condition variable: no such host, refused, bad certificate, lost.

    Lifetime: the condition variable owns the connection; cancelling or forgetting it closes it.
    """
    scheme, host, port, request = _plan(url)
    done: ae.CondVar[Reply] = ae.CondVar()
    reply = Reply()

    def got_status(handle: Handle, line: bytes) -> None:
        if not (found := _STATUS.fullmatch(line)):
            done.throw(HttpError(f"a garbled reply: {line[:60]!r} is no HTTP status line"))
            return
        reply.status = int(found[1])
        reply.reason = (found[2] or b"").decode("latin-1")

    def got_header(handle: Handle, paragraph: bytes) -> None:
        for line in filter(bytes.strip, paragraph.split(b"\n")):
            if not (found := _FIELD.fullmatch(line)):
                done.throw(HttpError(f"a garbled reply: {line[:60]!r} is no header field"))
                return
            reply.headers[found[1].decode().lower()] = found[2].decode("latin-1")

    def got_body(handle: Handle) -> None:
        reply.body += handle.read_buffer.take()

    def got_all(handle: Handle) -> None:
        promised = reply.headers.get("content-length", str(len(reply.body)))
        if promised != str(len(reply.body)):
            done.throw(
                HttpError(f"a body of {len(reply.body)} bytes where {promised} were promised")
            )
        else:
            done.send(reply)

    handle = Handle(
        connect=(host, port),
        tls="connect" if scheme == "https" else None,
        tls_context=tls_context,
        timeout=timeout,
        max_read_buffer=_MAX_HEADER,
        on_error=lambda handle, error: done.throw(error),
        on_eof=got_all,
    )
    handle.push_write(request)
    handle.push_read("line", got_status)
    handle.push_read(_END_OF_HEADER, got_header)
    handle.on_read = got_body
    done.on_ready(lambda _: handle.destroy())
    return done


def _plan(url: str) -> tuple[str, str, int, bytes]:
    """Return scheme, host, port and the request for *url*."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise HttpError(f"{url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HttpError(f"expected an http or https URL, got {url!r}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise HttpError(f"a URL is printable ASCII without blanks, got {url!r}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n\r\n"
    return (
        parts.scheme,
        parts.hostname,
        port or (443 if parts.scheme == "https" else 80),
        request.encode(),
    )


def main() -> None:
    """Print the status and the header fields to stderr, the body to stdout."""
    parser = argparse.ArgumentParser(description="Fetch one document.")
    parser.add_argument("url")
    parser.add_argument("--ca-file", help="trust the certificates in this PEM file, no others")
    options = parser.parse_args()
    try:
        context = Context(ca_file=options.ca_file) if options.ca_file else None
        reply = http_get(options.url, tls_context=context).recv()
    except (OSError, ValueError) as error:
        sys.exit(printable(f"http_get: {options.url}: {error}"))
    print(printable(f"{reply.status} {reply.reason}"), file=sys.stderr)
    for name, value in reply.headers.items():
        print(printable(f"{name}: {value}"), file=sys.stderr)
    sys.stdout.buffer.write(reply.body)


if __name__ == "__main__":
    run("http_get", main)
