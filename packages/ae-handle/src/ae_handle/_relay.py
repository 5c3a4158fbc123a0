"""Two handles joined: what arrives at one is sent at the other, in both directions.

Stands on the public interface of ``Handle``, and on being told of its end.
"""

from __future__ import annotations

__all__ = ("relay",)

from functools import partial

import ae_core as ae

from ._errors import HandleDestroyed, HandleError
from ._handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Theory of operation
# -------------------
# Each direction has at most `_MOST_UNSENT` bytes, and what one read has brought, in memory: beyond
# that its source is not read until its destination has sent everything. What the kernel buffers
# meanwhile keeps the wire busy.
#
# A destroyed handle runs no callbacks, and any code may destroy it (a server that ends its clients,
# say), so the relay is told by `Handle._notify_end`; without that the other side would stay open.

_MOST_UNSENT: Final = 256 << 10

# For how many seconds unsent bytes linger after a relay that was broken off. The peer of the side
# that did not break may wait for ever with its own end of the connection open.
_LINGER: Final = 10.0


class _Side:
    """One handle, as the source of one direction."""

    __slots__ = ("count", "handle", "is_finished", "is_paused")

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.count = 0
        self.is_paused = False
        self.is_finished = False  # its end has been passed on, behind all that it said


class _Relay:
    """Passes on until both directions have ended, or one handle has."""

    __slots__ = ("_error", "_is_over", "_pending", "_sides", "result")

    def __init__(self, a: Handle, b: Handle) -> None:
        self.result: ae.CondVar[tuple[int, int]] = ae.CondVar(cancel=self._end)
        self._error: HandleError | None = None
        self._sides = (_Side(a), _Side(b))
        self._is_over = False
        self._pending = ae.pending(self)
        for side, other in (self._sides, self._sides[::-1]):
            handle = side.handle
            handle._notify_end(self._handle_ended)
            handle.on_connect_error = handle.on_tls_started = handle.on_tls_stopped = None
            handle.max_write_buffer = None  # bounded here
            handle.on_error = self._failed
            handle.on_drain = partial(self._drained, other)
            handle.on_eof = partial(self._ended, side, other)
            handle.on_read = partial(self._read, side, other.handle)
            handle.start_read()

    def _read(self, side: _Side, destination: Handle, handle: Handle) -> None:
        data = handle.read_buffer.take()
        side.count += len(data)
        destination.push_write(data)
        if destination.unsent > _MOST_UNSENT:
            side.is_paused = True
            handle.stop_read()

    def _drained(self, source: _Side, handle: Handle) -> None:
        if source.is_paused:
            source.is_paused = False
            source.handle.start_read()

    def _ended(self, side: _Side, other: _Side, handle: Handle) -> None:
        other.handle.push_shutdown()
        other.handle.drained().on_ready(partial(self._passed_on, side))

    def _passed_on(self, side: _Side, drained: ae.CondVar[None]) -> None:
        if drained.cancelled or drained.error is not None:
            return  # on_error is called for it, or the handle was destroyed
        side.is_finished = True
        if all(each.is_finished for each in self._sides):
            self._end()

    def _failed(self, handle: Handle, error: HandleError) -> None:
        self._error = error
        self._end()

    def _handle_ended(self, handle: Handle) -> None:
        ae.postpone(self._end)

    def _end(self) -> None:
        """Destroy both handles, and give the result; once."""
        if self._is_over:
            return
        self._is_over = True
        self._pending.cancel()
        first, second = self._sides
        is_whole = first.is_finished and second.is_finished
        for side in self._sides:
            if not is_whole:
                side.handle.linger = min(side.handle.linger, _LINGER)
            side.handle.destroy()
        if self.result.ready:
            return
        if is_whole:
            self.result.send((first.count, second.count))
        else:
            self.result.throw(self._error or HandleDestroyed())


def relay(a: Handle, b: Handle) -> ae.CondVar[tuple[int, int]]:
    """Pass on what arrives at *a* to *b*, and what arrives at *b* to *a*.

    Args:
        a, b: Two handles, open or still connecting, of which each may speak TLS. They belong to
            the relay from now on: their callbacks for reading, draining, errors and the end are
            replaced. What is in their read buffers already goes first. Timeouts and
            ``max_read_buffer`` stay as they are set, and end the relay.

    Returns:
        An operation for ``(bytes from a to b, bytes from b to a)``. It is ready when both sides
        have said everything and all of it is sent. The end of one direction is passed on
        (half-close), and the other goes on. An error of either side, also :class:`HandleDestroyed`
        if other code destroys one, is thrown when both are closed. Cancelling it destroys both.
        It need not be held.

    A source is not read while its destination has more than 256 KiB unsent. A peer that neither
    reads nor hangs up is ended by a timeout of the handle only: set ``timeout``.

    Raises:
        TypeError: If one of them is no handle.
        ValueError: If both are the same.
        RuntimeError: If a read request is pending on one of them.
    """
    for handle in (a, b):
        if not isinstance(handle, Handle):
            raise TypeError(f"expected a Handle, got {handle!r}")
    if a is b:
        raise ValueError("expected two handles, got the same twice")
    for handle in (a, b):
        if handle.statistics().requests:
            raise RuntimeError(f"read requests are pending on {handle!r}")
    operation = _Relay(a, b)
    if a.is_destroyed or b.is_destroyed:
        ae.postpone(operation._end)
    return operation.result


relay.__module__ = "ae_handle"
