"""``python -m ae_http URL``: fetch a document.

Writes the body to standard output, or to a file with a progress bar. The exit status is 0 for a
response below 400, 1 for another one or an error, with one line that says which, 2 for a wrong
command, and 74 if the output cannot be written.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import ae_core as ae
from ae_core.console import printable, run

from ._client import Client
from ._errors import HttpError
from ._progress import render
from ._proxy import environment_proxy
from ._response import ResponseHead, ResponseStream

_REDRAW = 0.1  # seconds between two states of the progress bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parse(arguments)
    try:
        with _client(options) as client:
            return ae.run(_fetch(client, options))
    except (HttpError, OSError, ValueError) as error:
        print(printable(f"ae_http: {options.url}: {error}"), file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ae_http", description="Fetch a document over HTTP or HTTPS."
    )
    parser.add_argument("url", metavar="URL", help="http:// is assumed")
    parser.add_argument("-I", "--head", action="store_true", help="show the head only")
    parser.add_argument("-i", "--include", action="store_true", help="show the head, too")
    parser.add_argument("-L", "--location", action="store_true", help="follow redirects")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the body to FILE")
    parser.add_argument(
        "-O", "--remote-name", action="store_true", help="write it to a file named as in the URL"
    )
    parser.add_argument("-X", "--request", metavar="METHOD", help="instead of GET or POST")
    parser.add_argument(
        "-H", "--header", metavar="NAME: VALUE", action="append", default=[], type=_field
    )
    parser.add_argument("-d", "--data", metavar="DATA", help="post DATA; @FILE is that file's")
    parser.add_argument("-m", "--max-time", metavar="S", type=_seconds, help="for all of it")
    parser.add_argument("-x", "--proxy", metavar="URL", help="else what the environment says")
    parser.add_argument("--ca-file", metavar="F", help="trust these CAs instead of the system's")
    parser.add_argument("--compressed", action="store_true", help="ask for gzip, and unpack it")
    parser.add_argument("-s", "--silent", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    if "://" not in options.url:
        options.url = "http://" + options.url
    if options.remote_name:
        path = unquote(urlsplit(options.url).path)
        options.output = os.path.basename(path)
        if not options.output or options.output in (".", ".."):
            parser.error("there is no file name in the URL: use --output")
    return options


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"expected NAME: VALUE, got {text!r}")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return seconds


def _client(options: argparse.Namespace) -> Client:
    context: Any = None
    if options.ca_file is not None:
        import ssl

        context = ssl.create_default_context(cafile=options.ca_file)
    return Client(
        keep_alive=options.location,
        timeout=options.max_time,
        decode=options.compressed,
        max_redirects=20 if options.location else 0,
        proxy=options.proxy or environment_proxy,
        tls_context=context,
        headers=options.header,
    )


async def _fetch(client: Client, options: argparse.Namespace) -> int:
    method = "HEAD" if options.head else "GET"
    body: Any = None
    if options.data is not None:
        method = "POST"
        name = options.data[1:]
        body = options.data.encode()
        if options.data.startswith("@"):
            body = await ae.files.load(name)
    async with await client.stream(options.request or method, options.url, body=body) as stream:
        if options.include or options.head:
            _show(stream)
        if options.output is None or options.output == "-":
            await _copy(stream, sys.stdout.buffer, bar=None)
        else:
            bar = None if options.silent or not sys.stderr.isatty() else _Bar(stream)
            # what was there is replaced when the body is complete, not before
            partial = options.output + ".part"
            try:
                with open(partial, "wb") as file:
                    await _copy(stream, file, bar)
                os.replace(partial, options.output)
            except BaseException:
                if os.path.exists(partial):
                    os.unlink(partial)
                raise
            finally:
                if bar is not None:
                    bar.finish()
        if not stream.ok:
            text = f"ae_http: {stream.url}: {stream.status} {stream.reason}"
            print(printable(text), file=sys.stderr)
        return 0 if stream.ok else 1


def _show(head: ResponseHead) -> None:
    print(printable(f"HTTP/{head.http_version} {head.status} {head.reason}"))
    for name, value in head.headers.raw:
        print(printable(f"{name}: {value}"))
    print(flush=True)


async def _copy(stream: ResponseStream, file: BinaryIO, bar: _Bar | None) -> None:
    async for piece in stream:
        file.write(piece)
        if bar is not None:
            bar.advance(len(piece))
    file.flush()


class _Bar:
    """The progress bar on a terminal; drawn when a download is long enough to be worth it."""

    def __init__(self, stream: ResponseStream) -> None:
        length = stream.headers.get("content-length") or ""
        packed = "content-encoding" in stream.headers
        self._total = int(length) if length.isdecimal() and not packed else None
        self._done = 0
        self._begun = self._drawn = monotonic()
        self._shown = False

    def advance(self, size: int) -> None:
        """*size* more bytes have come."""
        self._done += size
        if monotonic() - self._drawn >= _REDRAW:
            self._draw()

    def finish(self) -> None:
        """That was all."""
        if self._shown:
            self._draw()
            print(file=sys.stderr)

    def _draw(self) -> None:
        self._shown = True
        self._drawn = monotonic()
        width = shutil.get_terminal_size().columns - 1
        line = render(self._done, self._total, self._drawn - self._begun, width)
        print(f"\r{line:{width}}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run("ae_http", main)
