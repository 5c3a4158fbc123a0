"""A frame type of one's own, for both directions: tag, length, value.

    python examples/own_frame_type.py [HOST PORT]

Many binary protocols speak in such records: a byte that says what it is, two bytes of length,
then the value. A frame type is a class with two methods, and nothing else has to be known about
it: ``push_read``, ``push_write``, ``read_each`` and ``each`` take it like those of ae_handle.

Without arguments it talks to a small server of its own, which sends every record back with the
value reversed; with them, to any server that speaks such records.
"""

from __future__ import annotations

__all__ = ("Record", "Tlv", "serve", "talk")

import argparse
import socket
import sys
from typing import NamedTuple

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import NEED_MORE, BadMessage, Handle, NeedMore, ReadBuffer, register_frame_type
from ae_socket import Server, tcp_server

_HEAD = 3


class Record(NamedTuple):
    """What one frame carries."""

    tag: int
    value: bytes


class Tlv:
    """Records of a tag (one byte), a length (two, network order) and a value.

    It keeps nothing between calls, so one object serves any number of handles.

    Example:
        >>> Tlv()(ReadBuffer(bytes([7, 0, 2]) + b"hi, and more"))
        Record(tag=7, value=b'hi')
        >>> Tlv().encode(Record(7, b"hi"))
        b'\\x07\\x00\\x02hi'
    """

    def __call__(self, buffer: ReadBuffer) -> Record | NeedMore:
        """Take a record off the buffer, or nothing if it is not complete.

        Raises:
            BadMessage: The tag is 0, which the protocol has not.
        """
        head = buffer.peek(_HEAD)
        if head[:1] == b"\0":
            raise BadMessage("expected a tag of 1 to 255, got 0")
        if len(head) < _HEAD:
            return NEED_MORE
        size = int.from_bytes(head[1:], "big")
        if len(buffer) < _HEAD + size:
            return NEED_MORE
        return Record(head[0], buffer.take(_HEAD + size)[_HEAD:])

    def encode(self, value: Record) -> bytes:
        """Return *value* as bytes.

        Raises:
            ValueError: The tag is not one of 1 to 255, or the value is longer than 65535.
        """
        tag, octets = value
        if not 1 <= tag <= 255 or len(octets) > 65535:
            raise ValueError(f"expected a tag of 1 to 255 and at most 65535 bytes, got {value!r}")
        return bytes([tag]) + len(octets).to_bytes(2, "big") + octets


# Only types without parameters get a name, so that users may write push_read("example-tlv").
register_frame_type("example-tlv", Tlv)


def serve(host: str = "127.0.0.1") -> Server:
    """Send every record back, its value reversed. The server lives as long as the result."""
    live: set[Handle] = set()

    def accept(sock: socket.socket, host: str, port: int) -> None:
        handle = Handle(sock, on_eof=leave, on_error=lambda handle, error: leave(handle))
        live.add(handle)
        handle.read_each(Tlv(), answer)

    def answer(handle: Handle, record: Record) -> None:
        handle.push_write(Tlv(), Record(record.tag, record.value[::-1]))

    def leave(handle: Handle) -> None:
        live.discard(handle)
        handle.destroy()

    return tcp_server(host, 0, accept)


async def talk(host: str, service: str | int, records: list[Record]) -> list[Record]:
    """Send all *records* at once, and return the answers."""
    async with Handle(connect=(host, service), timeout=30) as handle:
        for record in records:
            handle.push_write("example-tlv", record)
        handle.push_shutdown()
        return [answer async for answer in handle.each("example-tlv")]


async def _main(host: str | None, service: str | None) -> None:
    server = None
    if host is None or service is None:
        server = serve()
        host, service = str(server.address[0]), str(server.address[1])
    answers = await talk(host, service, [Record(1, b"stressed"), Record(2, b""), Record(3, b"ab")])
    for record in answers:
        print(printable(f"tag {record.tag}: {record.value.decode(errors='replace')}"))
    if server is not None:
        server.cancel()


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Exchange records of tag, length and value.")
    parser.add_argument("host", nargs="?")
    parser.add_argument("port", nargs="?")
    options = parser.parse_args()
    try:
        ae.run(_main(options.host, options.port))
    except (OSError, ValueError) as error:
        sys.exit(printable(f"own_frame_type: {error}"))


if __name__ == "__main__":
    run("own_frame_type", main)
