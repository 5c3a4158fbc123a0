"""The ClientHello, read before OpenSSL sees it: which server does the client ask for?

Sans-I/O: records in, one name out. Nothing is judged here; what cannot be read is left to
OpenSSL, which refuses it with the alert that fits.
"""

from __future__ import annotations

__all__ = ("HelloReader",)

from collections.abc import Iterator
from typing import Final

# Theory of operation
# -------------------
# OpenSSL decides about resumption before it can be asked for the server name, and by the
# settings of the context the connection was made with. So a server's session collects the
# ClientHello, reads the name, and chooses the context then (RFC 6066 3, RFC 8446 4.1.2).
#
# A ClientHello may be cut into records anywhere, and records into packets anywhere. The bytes
# are kept as they came, and OpenSSL gets all of them. What is read here is read at least as
# strictly as OpenSSL does: what we cannot read goes to the default context, and the session
# refuses it if OpenSSL finds another name in it than we did.

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_HEADER: Final = 5
_MAX_FRAGMENT: Final = 16384
# The longest ClientHello there can be, with all ciphers and extensions; OpenSSL's own limit.
_MAX_HELLO: Final = 131_396
# With its record headers. Only a long hello in records of a few bytes comes near.
_MAX_WIRE: Final = 1 << 18
_MAX_NAME: Final = 255
_SERVER_NAME: Final = 0  # the extension, and the type of name in it


class HelloReader:
    """Collects what a client sends until its ClientHello is complete.

    Attributes:
        name: The server name (SNI) as it was sent, or None.
        readable: Whether it is a ClientHello.
        wire: The records that hold it; all bytes if it is none.
        rest: The bytes behind it.
    """

    __slots__ = ("_at", "_collected", "_have", "_head", "_need", "name", "readable", "rest", "wire")

    def __init__(self) -> None:
        self._collected = bytearray()
        self._at = 0  # where the first record that is not complete begins
        self._have = 0  # bytes of the message in those before it
        self._head = b""  # the first four of them
        self._need = 0  # bytes of the whole message, once that is known
        self.name: bytes | None = None
        self.readable = False
        self.wire = b""
        self.rest = b""

    def feed(self, data: bytes | memoryview) -> bool:
        """Take what has arrived; returns True as soon as there is nothing more to wait for."""
        wire = self._collected
        wire += data
        at, end = self._at, len(wire)
        while at < end:
            if wire[at] != _HANDSHAKE or (end - at > 1 and wire[at + 1] != 3):
                return self._give_up()
            start = at + _HEADER
            if start > end:
                break
            size = (wire[at + 3] << 8) | wire[at + 4]
            if not 0 < size <= _MAX_FRAGMENT:
                return self._give_up()
            if start + size > end:
                break
            at = start + size
            self._have += size
            if not self._need:
                self._head += wire[start : min(at, start + 4 - len(self._head))]
                if len(self._head) < 4:
                    continue
                self._need = 4 + int.from_bytes(self._head[1:], "big")
                if self._head[0] != _CLIENT_HELLO or self._need > _MAX_HELLO:
                    return self._give_up()
            if self._have >= self._need:
                return self._finish(at)
        self._at = at
        return end > _MAX_WIRE and self._give_up()

    def _finish(self, end: int) -> bool:
        wire = bytes(self._collected)
        message = b"".join(_fragments(wire, end))
        try:
            self.name = _server_name(message[4 : self._need])
        except (IndexError, ValueError):
            return self._give_up()
        self.readable = True
        self.wire, self.rest = wire[:end], wire[end:]
        return True

    def _give_up(self) -> bool:
        self.wire = bytes(self._collected)
        return True


def _fragments(wire: bytes, end: int) -> Iterator[bytes]:
    at = 0
    while at < end:
        start = at + _HEADER
        at = start + ((wire[at + 3] << 8) | wire[at + 4])
        yield wire[start:at]


def _server_name(hello: bytes) -> bytes | None:
    """Find the server name in a ClientHello (RFC 8446 4.1.2, RFC 6066 3).

    Raises:
        ValueError, IndexError: Lengths do not fit, or the extension is malformed or there twice.
    """
    size = len(hello)
    at = 34  # version and random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
    at += 1 + hello[at]  # compression methods
    if at == size:
        return None
    if at + 2 + int.from_bytes(hello[at : at + 2], "big") != size:
        raise ValueError("the extensions do not fill the ClientHello")
    at += 2
    name: bytes | None = None
    while at < size:
        start = at + 4
        stop = start + ((hello[at + 2] << 8) | hello[at + 3])
        if stop > size:
            raise ValueError("an extension is longer than the ClientHello")
        if (hello[at] << 8) | hello[at + 1] == _SERVER_NAME:
            if name is not None:
                raise ValueError("two server names")
            name = _host_name(hello[start:stop])
        at = stop
    return name


def _host_name(extension: bytes) -> bytes:
    """Return the one name there may be: no other type exists, and no list of two (RFC 6066 3)."""
    name = extension[5:]
    size = len(name)
    if not 0 < size <= _MAX_NAME or 0 in name:
        raise ValueError("no server name")
    lengths = (size + 3).to_bytes(2, "big") + bytes((_SERVER_NAME,)) + size.to_bytes(2, "big")
    if extension[:5] != lengths:
        raise ValueError("the server name does not fill its extension")
    return name
