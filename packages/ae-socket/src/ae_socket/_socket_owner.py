"""What a server and a datagram endpoint have in common: their sockets and their end.

The user holds a `Closeable`; the loop holds a `SocketReader`, which does not refer to it, so that
dropping the one ends the other.
"""

from __future__ import annotations

__all__ = ("Closeable", "SocketReader")

from abc import ABC, abstractmethod

import ae_core as ae
from ae_core.abc import Cancellable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._binding import Bound


class SocketReader(ABC):
    """Watches a bound socket, and owns it."""

    __slots__ = ("_bound", "_family", "_watch")

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._family = bound.sock.family
        self._watch: ae.Watcher | None = None
        self._look()

    def _look(self) -> None:
        self._watch = ae.io(self._bound.sock, "r", self._on_readable, on_refused=self._on_refused)

    def _on_refused(self, error: OSError) -> None:
        """Close the socket that the loop cannot watch, so that peers see it; report *error*."""
        self.close()
        ae.report_error(error)

    @abstractmethod
    def _on_readable(self) -> None:
        """Called by the loop: the socket is readable."""

    def pause(self) -> None:
        """Stop watching until :meth:`resume`."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def resume(self) -> None:
        """Watch again, unless the socket has been closed meanwhile."""
        if self._watch is None and self._bound.sock.fileno() != -1:
            self._look()

    def close(self) -> None:
        """Close the socket; nothing is called back any more. Idempotent."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._bound.close()


class Closeable(Cancellable):
    """Ends by ``cancel()``, at the end of a ``with`` block, or when it is dropped."""

    __slots__ = ("__weakref__", "_open")

    def __init__(self) -> None:
        self._open: list[SocketReader] = []

    def cancel(self) -> None:
        """Close what it stands for, now; the callbacks are not called again. Idempotent."""
        readers, self._open = self._open, []
        for reader in readers:
            reader.close()

    def __del__(self) -> None:
        if getattr(self, "_open", None):
            self.cancel()
