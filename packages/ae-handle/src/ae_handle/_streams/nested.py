"""A handle as the stream of another handle, for TLS inside TLS."""

from __future__ import annotations

__all__ = ("NestedStream",)


import ae_core as ae

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class NestedStream:
    """Another handle as a stream: what one TLS session carries is the wire of the next.

    The inner handle's callbacks are taken over. Backpressure goes through: the inner one reads
    only while the outer one wants to, and takes only so much unsent data.
    """

    __slots__ = ("_broken", "_ended", "_handle", "_readable", "_rest", "_writable")

    _LIMIT = 1 << 18

    def __init__(self, handle: Any) -> None:
        if handle.is_destroyed:
            raise ValueError(f"expected a live handle, got {handle!r}")
        self._handle = handle
        self._ended = False
        self._broken: OSError | None = None
        self._rest = b""  # what the inner handle had not handed out when it broke
        self._readable: _NestedWatcher | None = None
        self._writable: _NestedWatcher | None = None
        handle.on_read = None
        handle.on_eof = self._on_eof
        handle.on_error = self._on_error
        handle.on_drain = self._on_drain

    def recv(self, size: int) -> bytes:
        """Read as a socket does."""
        buf = self._handle.read_buffer
        if buf:
            taken: bytes = buf.take(min(size, len(buf)))
            return taken
        if self._rest:
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        if self._broken is not None:
            raise self._broken
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview) -> int:
        """Write as a socket does."""
        if self._broken is not None:
            raise self._broken
        room = self._LIMIT - self._handle.unsent
        if room <= 0:
            raise BlockingIOError
        part = bytes(data[:room])
        self._handle.push_write(part)
        return len(part)

    def watch(self, direction: str, callback: Callable[[], object]) -> _NestedWatcher:
        """Call *callback* while the inner handle is ready for *direction*."""
        watcher = _NestedWatcher(self, direction, callback)
        if direction == "r":
            self._readable = watcher
            self._handle.on_read = self._on_read
            if self.is_over("r"):
                ae.postpone(watcher.fire)
        else:
            self._writable = watcher
            self._handle.on_drain = self._on_drain  # called in the next turn if it is empty
        return watcher

    def is_over(self, direction: str) -> bool:
        """Whether nothing more will arrive, or can be sent."""
        return self._broken is not None or (self._ended and direction == "r")

    def forget(self, watcher: _NestedWatcher) -> None:
        """End the interest of *watcher*."""
        if self._readable is watcher:
            self._readable = None
            self._handle.on_read = None
        elif self._writable is watcher:
            self._writable = None

    def shutdown(self, how: int) -> None:
        """End the write side of the inner handle."""
        self._handle.push_shutdown()

    def close(self) -> None:
        """Destroy the inner handle; what it has not sent yet lingers there."""
        self._handle.destroy()

    def __repr__(self) -> str:
        return repr(self._handle)

    def _on_read(self, handle: Any) -> None:
        if self._readable is not None:
            self._readable.fire()

    def _on_drain(self, handle: Any) -> None:
        if self._writable is not None:
            self._writable.fire()

    def _on_eof(self, handle: Any) -> None:
        self._ended = True
        if self._readable is not None:
            self._readable.fire()

    def _on_error(self, handle: Any, error: OSError) -> None:
        if getattr(error, "fatal", True):
            self._broken = error
            self._rest = handle.read_buffer.take()
            for watcher in (self._readable, self._writable):
                if watcher is not None:
                    watcher.fire()


class _NestedWatcher:
    """An interest in a nested stream."""

    __slots__ = ("_callback", "_direction", "_stream")

    def __init__(
        self, stream: NestedStream, direction: str, callback: Callable[[], object]
    ) -> None:
        self._stream: NestedStream | None = stream
        self._direction = direction
        self._callback = callback

    def fire(self) -> None:
        """Call back unless it was cancelled; at the end of the stream, in each turn."""
        if self._stream is not None:
            self._callback()
        if self._stream is not None and self._stream.is_over(self._direction):
            ae.postpone(self.fire)

    def cancel(self) -> None:
        """End the interest."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.forget(self)
