"""What a handle reads and writes: sockets, other descriptors, other handles.

A handle calls ``recv`` and ``send`` with a socket's semantics and nothing else while it is busy,
so a socket serves as it is. Everything else is adapted here.
"""

from __future__ import annotations

__all__ = (
    "BorrowedSocket",
    "DescriptorStream",
    "adapt",
    "is_socket",
    "peer_address",
    "shut_down",
    "watch",
)

import _socket
import errno
import os
import socket
import stat
import sys

import ae_core as ae

from .._buffers.octets import not_a_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final


_WINDOWS: Final = os.name == "nt"

# Sockets made before gevent's patch, or by code that keeps the class from before, are of this one.
_Plain: Final = _socket.socket
# The attribute of the same name makes an enum member of it, which costs more than all the rest.
_socket_type: Final = _Plain.type.__get__
_STREAM: Final = int(socket.SOCK_STREAM)  # comparing with the member calls a method of it


def is_socket(stream: Any) -> bool:
    """Return whether *stream* is a socket, also where gevent has replaced the class."""
    return isinstance(stream, (_Plain, socket.socket))


def adapt(stream: Any) -> Any:
    """Return an object with ``recv``, ``send`` and ``close`` for *stream*, non-blocking.

    Raises:
        TypeError: If it is no stream at all.
        ValueError: If it is one that a handle cannot work on.
    """
    plain = isinstance(stream, _Plain)
    if plain or isinstance(stream, socket.socket):
        if (_socket_type(stream) if plain else stream.type) != _STREAM:
            raise ValueError(f"only stream sockets are supported, got {stream!r}")
        if stream.__class__ is not socket.socket and _is_tls(stream):
            raise ValueError(f"expected the plain socket (use tls= for TLS), got {stream!r}")
        if stream.fileno() < 0:
            raise ValueError(f"expected an open socket, got {stream!r}")
        if stream.gettimeout() != 0.0:
            stream.setblocking(False)
        return stream
    not_a_class("a stream", stream)
    if isinstance(stream, (int, str, bytes)) or stream is None:
        raise TypeError(f"expected a socket or a stream object with fileno(), got {stream!r}")
    as_stream = getattr(stream, "as_stream", None)
    if as_stream is not None:
        return as_stream()
    if all(callable(getattr(stream, name, None)) for name in ("recv", "send", "watch", "close")):
        return stream
    fd = _descriptor(stream)
    return BorrowedSocket(stream, fd) if _WINDOWS else DescriptorStream(stream, fd)


def _is_tls(stream: Any) -> bool:
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(stream, ssl.SSLSocket)


def _descriptor(stream: Any) -> int:
    try:
        fd = stream.fileno()
    except AttributeError:
        raise TypeError(
            f"expected a socket or a stream object with fileno(), got {stream!r}"
        ) from None
    if isinstance(fd, bool) or not isinstance(fd, int) or fd < 0:
        raise ValueError(f"expected an open stream, got {stream!r} with descriptor {fd!r}")
    return fd


def watch(
    stream: Any,
    direction: Any,
    callback: Callable[[], object],
    refused: Callable[[OSError], object],
) -> Any:
    """Call *callback* whenever *stream* is ready; return the watcher.

    If the loop cannot watch it, *refused* is called with the error, in a later turn.
    """
    if stream.__class__ is not socket.socket:
        own = getattr(stream, "watch", None)
        if own is not None:
            return own(direction, callback)
    return ae.io(stream.fileno(), direction, callback, on_refused=refused)


def peer_address(stream: Any) -> str | None:
    """Return the address of the other side of a socket, None if it has none."""
    if not is_socket(stream):
        return None
    try:
        address: Any = stream.getpeername()
    except OSError:
        return None
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address) or None


def shut_down(stream: Any) -> None:
    """End the write side, where there is such a thing."""
    shutdown = getattr(stream, "shutdown", None)
    if shutdown is not None:
        try:
            shutdown(socket.SHUT_WR)
        except OSError as error:
            ae.log("trace", "shutdown of %r: %s", stream, error)


class BorrowedSocket:
    """An object that owns a socket, on Windows, where only sockets can be waited for.

    A descriptor of a socket is no file there: ``os.read`` knows nothing of it.
    """

    __slots__ = ("_sock", "_stream")

    def __init__(self, stream: Any, fd: int) -> None:
        try:
            self._sock = socket.socket(fileno=fd)
        except OSError as error:
            raise ValueError(f"on Windows only sockets can be watched, got {stream!r}") from error
        if self._sock.type != socket.SOCK_STREAM:
            self._sock.detach()
            raise ValueError(f"only stream sockets are supported, got {stream!r}")
        self._sock.setblocking(False)
        self._stream = stream

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._sock.fileno()

    def recv(self, size: int) -> bytes:
        """Read."""
        return self._sock.recv(size)

    def send(self, data: bytes | memoryview) -> int:
        """Write."""
        return self._sock.send(data)

    def shutdown(self, how: int) -> None:
        """End a side."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close the object the descriptor belongs to."""
        self._sock.detach()
        self._stream.close()

    def __repr__(self) -> str:
        return repr(self._stream)


class DescriptorStream:
    """A pipe, FIFO or terminal, or any object that owns a descriptor."""

    __slots__ = ("_fd", "_stream")

    def __init__(self, stream: Any, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            raise ValueError(f"expected a stream, not a file or directory, got {stream!r}")
        if stat.S_ISSOCK(mode) and getattr(stream, "type", None) not in (None, socket.SOCK_STREAM):
            raise ValueError(f"only stream sockets are supported, got {stream!r}")
        os.set_blocking(fd, False)
        self._fd = fd
        self._stream = stream

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def recv(self, size: int) -> bytes:
        """Read as a socket does."""
        return os.read(self._checked(), size)

    def send(self, data: bytes | memoryview) -> int:
        """Write as a socket does."""
        return os.write(self._checked(), data)

    def _checked(self) -> int:
        """Return the descriptor, if it is still that of the stream.

        If that was closed elsewhere, another file may have its number by now (60 ns of 1 us).
        """
        try:
            fd: int = self._stream.fileno()
        except ValueError:  # what a closed file says
            fd = -1
        if fd != self._fd:
            raise OSError(errno.EBADF, "the stream was closed behind the handle's back")
        return fd

    def shutdown(self, how: int) -> None:
        """Call the stream's ``shutdown``; a pipe has none."""
        own = getattr(self._stream, "shutdown", None)
        if own is not None:
            own(how)

    def close(self) -> None:
        """Close the object the descriptor belongs to."""
        self._stream.close()

    def __repr__(self) -> str:
        return repr(self._stream)
