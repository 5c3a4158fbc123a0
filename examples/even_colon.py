"""A reader of one's own: an even number of bytes, ended by a colon.

    python examples/even_colon.py HOST PORT

No protocol needs this one, and that is the point: a reader is any function that is called with the
buffer and returns an item or ``NEED_MORE``. It is used like the readers that come with ae_handle.
"""

from __future__ import annotations

__all__ = ("even_colon", "even_colon_items")

import argparse
import sys

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import NEED_MORE, BadMessage, Handle, NeedMore, ReadBuffer

_MAX_ITEM = 4096


def even_colon(buffer: ReadBuffer) -> bytes | NeedMore:
    """Take the bytes before the first colon that stands at an even offset.

    Where the search stopped is kept with the buffer, so a slow peer does not make it start again.

    Raises:
        BadMessage: If no such colon stands within 4096 bytes.

    Example:
        >>> buffer = ReadBuffer(b"a:bc:rest")
        >>> even_colon(buffer), bytes(buffer)
        (b'a:bc', b'rest')
    """
    start = buffer.state if isinstance(buffer.state, int) else 0
    while (colon := buffer.find(b":", start)) >= 0:
        if colon % 2 == 0:
            return buffer.take(colon + 1)[:-1]
        start = colon + 1
    if len(buffer) > _MAX_ITEM:
        raise BadMessage(f"no colon at an even offset within {_MAX_ITEM} bytes")
    buffer.state = start
    return NEED_MORE


def even_colon_items(
    host: str, service: str | int, *, timeout: float = 30.0
) -> ae.CondVar[list[bytes]]:
    """Collect every item the server sends until it closes.

    Raises (through the condition variable):
        OSError: No such host, refused, lost, timed out, or closed in the middle of an item.
    """
    done: ae.CondVar[list[bytes]] = ae.CondVar()
    items: list[bytes] = []
    handle = Handle(
        connect=(host, service),
        timeout=timeout,
        on_error=lambda handle, error: done.throw(error),
        on_eof=lambda handle: done.send(items),
    )
    handle.read_each(even_colon, lambda handle, item: items.append(item))
    done.on_ready(lambda _: handle.destroy())
    return done


def main() -> None:
    """Print the items a server sends, one a line."""
    parser = argparse.ArgumentParser(description="Print even items that end in a colon.")
    parser.add_argument("host")
    parser.add_argument("port")
    options = parser.parse_args()
    try:
        items = even_colon_items(options.host, options.port).recv()
    except (OSError, ValueError) as error:
        sys.exit(printable(f"even_colon: {options.host}: {error}"))
    sys.stdout.buffer.write(b"".join(item + b"\n" for item in items))


if __name__ == "__main__":
    run("even_colon", main)
