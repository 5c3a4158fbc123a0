"""Everything that is different on Windows, each with its reason.

No other module of this package asks which system it runs on: they ask here. The functions take
what they need as arguments, so that they can be tried on any system.
"""

from __future__ import annotations

__all__ = (
    "ACTIVE",
    "AF_UNIX",
    "CONNECT_TIMEOUT",
    "ConnectWatch",
    "error_text",
    "is_started",
    "set_bind_options",
    "watch_connect",
)

import os
import select as _select
import socket
import sys

import ae_core as ae
from ae_core.abc import ThreadLocal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

ACTIVE: bool = sys.platform == "win32"
"""True if the quirks count. The tests set it elsewhere."""

# Python for Windows has no AF_UNIX. No family has this number.
AF_UNIX: Final = getattr(socket, "AF_UNIX", -1)

# Winsock's codes; `errno` has these names on Windows only.
WSAEINVAL: Final = 10022
WSAEWOULDBLOCK: Final = 10035

# Many loops never report a connect that failed (only the exception set of select() does), and
# a connect that is silently lost must end some day: upstream's figure.
CONNECT_TIMEOUT: Final = 30.0

# select() takes FD_SETSIZE sockets, and Python for Windows was built with 512.
SELECT_LIMIT: Final = 512

# How often pending connects are looked at through the exception set.
_POLL_INTERVAL: Final = 0.1


def is_started(code: int) -> bool:
    """Return whether a non-blocking connect that gave *code* is pending.

    WSAEWOULDBLOCK is Winsock's EINPROGRESS, and early stacks said WSAEINVAL. WSAEINPROGRESS
    means something else: another blocking call is active, and nothing was started.
    """
    return code in (WSAEWOULDBLOCK, WSAEINVAL)


def error_text(code: int) -> str:
    """Return the text of an error number.

    Python's ``os.strerror`` knows nothing of Winsock's codes; its exceptions do, but
    ``connect_ex`` and ``SO_ERROR`` give numbers.
    """
    return _TEXTS.get(code) or os.strerror(code)


_TEXTS: Final = {
    10004: "WSAEINTR: interrupted",
    10013: "WSAEACCES: permission denied",
    10022: "WSAEINVAL: invalid argument",
    10024: "WSAEMFILE: too many open sockets",
    10036: "WSAEINPROGRESS: a blocking operation is in progress",
    10038: "WSAENOTSOCK: not a socket",
    10047: "WSAEAFNOSUPPORT: address family not supported",
    10048: "WSAEADDRINUSE: address already in use",
    10049: "WSAEADDRNOTAVAIL: cannot assign requested address",
    10050: "WSAENETDOWN: network is down",
    10051: "WSAENETUNREACH: network is unreachable",
    10053: "WSAECONNABORTED: connection aborted",
    10054: "WSAECONNRESET: connection reset by peer",
    10055: "WSAENOBUFS: no buffer space available",
    10057: "WSAENOTCONN: not connected",
    10060: "WSAETIMEDOUT: connection timed out",
    10061: "WSAECONNREFUSED: connection refused",
    10064: "WSAEHOSTDOWN: host is down",
    10065: "WSAEHOSTUNREACH: no route to host",
}


def set_bind_options(sock: socket.socket) -> None:
    """Let a listening socket be bound while old connections of its port are in TIME_WAIT.

    Windows allows that without being asked, and its SO_REUSEADDR lets any process
    take the port of another one: SO_EXCLUSIVEADDRUSE prevents that.
    """
    if ACTIVE:
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        if exclusive is not None:
            sock.setsockopt(socket.SOL_SOCKET, exclusive, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def failed_connects(
    socks: Sequence[socket.socket],
    select: Callable[..., tuple[list[socket.socket], ...]] | None = None,
) -> list[socket.socket]:
    """Return those of *socks* whose connect has failed, without waiting.

    Winsock reports a failed connect in the exception set only. Its select() takes at most
    512 sockets, and three empty sets are an error (WSAEINVAL), so the sockets are asked for
    in portions, and nothing is asked if there are none.
    """
    failed: list[socket.socket] = []
    for start in range(0, len(socks), SELECT_LIMIT):
        portion = socks[start : start + SELECT_LIMIT]
        failed += (select or _select.select)([], [], portion, 0)[2]
    return failed


class ConnectWatch:
    """Watches one pending connect: for success by the loop, for failure by looking."""

    __slots__ = ("__weakref__", "_poller", "callback", "sock", "watch")

    def __init__(
        self,
        sock: socket.socket,
        callback: Callable[[], None],
        refused: Callable[[OSError], None],
        poller: _Poller,
    ) -> None:
        self.sock = sock
        self.callback = callback
        self.watch: ae.Watcher | None = ae.io(sock, "w", callback, on_refused=refused)
        self._poller = poller

    def cancel(self) -> None:
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
            self._poller.remove(self)


class _Poller:
    """Looks at all pending connects of one thread, as long as there are any."""

    def __init__(self) -> None:
        self._pending: dict[socket.socket, ConnectWatch] = {}
        self._timer: ae.Watcher | None = None

    def add(
        self,
        sock: socket.socket,
        callback: Callable[[], None],
        refused: Callable[[OSError], None],
    ) -> ConnectWatch:
        watch = self._pending[sock] = ConnectWatch(sock, callback, refused, self)
        if self._timer is None or not self._timer.active:  # inactive: its loop has ended
            self._timer = ae.timer(_POLL_INTERVAL, self._look, interval=_POLL_INTERVAL)
        return watch

    def remove(self, watch: ConnectWatch) -> None:
        self._pending.pop(watch.sock, None)
        if not self._pending and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        for sock in failed_connects(list(self._pending)):
            watch = self._pending.get(sock)
            if watch is not None:  # else a callback of this round has cancelled it
                watch.callback()


class _Thread(ThreadLocal):
    def __init__(self) -> None:
        self.poller = _Poller()


_thread = _Thread()


def watch_connect(
    sock: socket.socket, callback: Callable[[], None], refused: Callable[[OSError], None]
) -> ConnectWatch:
    """Call *callback* when the connect of *sock* has ended, even if the loop hides failures.

    Or *refused* with the error, if the loop cannot watch it.
    """
    return _thread.poller.add(sock, callback, refused)
