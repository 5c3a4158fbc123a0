"""Servers: sockets that listen, and the loop that accepts.

Accepting goes through one `_Listener` for each socket; a `Server` is the guard around them.
"""

from __future__ import annotations

__all__ = ("Server", "inherited_sockets", "tcp_server")

import _socket
import errno
import os
import socket
import sys
from weakref import ref

import ae_core as ae

from . import _windows
from ._addresses import format_host_port
from ._arguments import check_callback, check_count
from ._binding import Bound, bind_addresses, listening_infos
from ._sockaddr import host_and_port
from ._socket_owner import Closeable, SocketReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, TypeAlias

    # The port is an int, but for unix/: Any, or every user's `port: int` would be refused.
    OnAccept: TypeAlias = Callable[[socket.socket, str, Any], object]
    OnPrepare: TypeAlias = Callable[[socket.socket, str, "int | str"], "int | None"]
    Address: TypeAlias = tuple[str, "int | str"]

# Theory of operation
# -------------------
# One turn of the loop accepts all that is there, but at most `_BATCH`, so that other watchers
# run, too. To accept until it would block is the usual way, and wasteful here: the failing
# call makes an exception, 5.4 us against 6.3 us for one that succeeds. Linux tells how many
# connections wait, for 0.8 us.
#
# A descriptor limit must neither end the server nor make the loop spin: the connection stays in
# the backlog and the socket readable, so a level-triggered loop calls again, for ever.
# Instead the listener stops watching for `_PAUSE` seconds: five calls a second at the most.
# It logs that once a minute, because an error that lasts for hours must not fill the disk as
# well. Logging is loaded when a server starts: without descriptors nothing can be imported.

_BATCH: Final = 64
_PAUSE: Final = 0.2
_LOG_PERIOD: Final = 60.0


# The backlog of a listening socket is `tcpi_unacked`, the fifth number of struct tcp_info
# (after eight bytes), since Linux 2.6.24.
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_BACKLOG: Final = slice(24, 28)


def _waiting(sock: socket.socket) -> int:
    """Return how many connections there are to accept, `_BATCH` if that is not known."""
    assert _TCP_INFO is not None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BACKLOG.stop)
    except OSError:
        return 1  # accept() will say what is wrong
    # At least one: a kernel that says 0 (gVisor's) has called us all the same.
    return min(int.from_bytes(info[_BACKLOG], sys.byteorder) or 1, _BATCH)


def _codes(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


# No descriptor or memory is left in this process or this system. The bare number is WSAEMFILE.
_EXHAUSTED: Final = _codes("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM") | {10024}

# The listening socket is not one, or not any more: it will never accept again.
_DEAD: Final = _codes("EBADF", "EINVAL", "ENOTSOCK", "EOPNOTSUPP", "EFAULT")

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, _windows.AF_UNIX)

# Every other error concerns one connection that was about to be accepted: it is gone,
# the next one may be fine. accept(2) of Linux hands pending network errors over like this.


class _Listener(SocketReader):
    """Accepts on one socket."""

    __slots__ = ("_is_counted", "_last_log", "_on_accept")

    def __init__(self, bound: Bound, on_accept: OnAccept) -> None:
        super().__init__(bound)
        self._is_counted = _TCP_INFO is not None and self._family != _windows.AF_UNIX
        self._on_accept = on_accept
        self._last_log = -_LOG_PERIOD

    def _on_readable(self) -> None:
        accept = self._bound.sock.accept
        for _ in range(_waiting(self._bound.sock) if self._is_counted else _BATCH):
            try:
                sock, sockaddr = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._retry_later(error)
                    return
                if error.errno in _DEAD:
                    self._give_up(error)
                    return
                continue
            sock.setblocking(False)
            if self._family is socket.AF_INET:
                host, port = sockaddr
            else:
                host, port = host_and_port(self._family, sockaddr)
            # What it raises ends this batch, not the server: the loop calls again.
            self._on_accept(sock, host, port)
            if self._watch is None:
                return  # the callback has closed or paused the server

    def _retry_later(self, error: OSError) -> None:
        self._watch = ae.timer(_PAUSE, self._look)
        now = ae.detect().clock()
        if now - self._last_log >= _LOG_PERIOD:
            self._last_log = now
            ae.log("error", "cannot accept on %s, pausing: %s", self._bound.address, error)

    def _give_up(self, error: OSError) -> None:
        ae.log("error", "cannot accept on %s any more: %s", self._bound.address, error)
        self.close()


class Server(Closeable):
    """Listening sockets, as made by :func:`tcp_server`.

    Hold it for as long as connections shall be accepted: dropping the last reference closes
    the sockets, as do :meth:`cancel` and the end of a ``with`` block. A UNIX socket's file is
    removed, connections in the backlog are reset by the kernel; those that were accepted live on.
    """

    __slots__ = ("_holders", "addresses")

    _holders: dict[Callable[[], Any], None] | None  # of the loop that waits for `resume`

    addresses: list[Address]
    """Where it listens, as ``(host, port)`` or ``("unix/", path)``, with real port numbers."""

    def __init__(self, bound: list[Bound], on_accept: OnAccept) -> None:
        super().__init__()
        self._holders = None
        self.addresses = [one.address for one in bound]
        for one in bound:
            self._open.append(_Listener(one, on_accept))

    @property
    def address(self) -> Address:
        """The first of ``addresses``."""
        return self.addresses[0]

    def pause(self) -> None:
        """Accept nothing until :meth:`resume`, for a server that has as many clients as it wants.

        Connections wait in the backlog; when that is full, the kernel answers no more. Pausing a
        server that is paused or closed changes nothing; *on_accept* may do it.
        """
        if self._open and self._holders is None:
            # it has no watcher now, and needs the loop all the same
            self._holders = ae.detect().holders
            self._holders[ref(self)] = None
        for listener in self._open:
            listener.pause()

    def resume(self) -> None:
        """Accept again. **When**: *on_accept* is never called inside this call."""
        self._release()
        for listener in self._open:
            listener.resume()

    def _release(self) -> None:
        holders, self._holders = self._holders, None
        if holders is not None:
            holders.pop(ref(self), None)

    def cancel(self) -> None:
        """Close the listening sockets, now; nothing is accepted any more. Idempotent."""
        self._release()
        super().cancel()

    def __repr__(self) -> str:
        state = "listening" if self._open else "closed"
        return f"<Server {', '.join(map(str, self.addresses))} {state}>"


def tcp_server(
    host: str | None,
    service: str | int | None,
    on_accept: OnAccept,
    *,
    on_prepare: OnPrepare | None = None,
    backlog: int = 128,
    reuse_port: bool = False,
    dual_stack: bool = False,
    sock: socket.socket | None = None,
) -> Server:
    """Listen for connections.

    Args:
        host: The address to listen on, or ``None`` for every address of every family in
            ``AE_PROTOCOLS``, all on one port number; ``"unix/"`` for a UNIX socket.
        service: A port number or the name of a service; 0 or ``None`` lets the system choose.
            For ``"unix/"`` an absolute path, or a NUL and an abstract name.
        on_accept: Called with each new connection, non-blocking, and its peer's host and port.
            A v4-mapped peer is shown as IPv4; the peer of a UNIX socket is ``"unix/", ""``.
        on_prepare: Called with each socket and its real address just before it listens,
            inside this call; may return a backlog. What it raises ends the call.
        backlog: How many connections may wait to be accepted.
        reuse_port: Let other processes listen on the same port (SO_REUSEPORT).
        dual_stack: Let an IPv6 socket accept IPv4 as well; otherwise each family has its own.
        sock: Listen on this socket instead, which is bound already (see
            :func:`inherited_sockets`); *host* and *service* are ``None`` then. It is closed
            with the server, but its file is never removed.

    Returns:
        The server, bound and listening. **Lifetime**: hold it.

        **When**: *on_accept* is never called inside this call.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *host* is no address, *service* unknown, or *sock* not a bound stream
            socket: closed, unbound, or connected.
        OSError: If the address cannot be had: EADDRINUSE, EADDRNOTAVAIL, EACCES; EEXIST if the
            path is a file of another kind. A socket file that nothing listens on is replaced.

    If the loop cannot watch the socket, which may be found out only later, it is closed and the
    error goes to ``ae_core.exception_hook``.

    The path of a UNIX socket must not come from an untrusted source: a socket file is removed.

    Perl: ``tcp_server $host, $service, $accept_cb, $prepare_cb``
    """
    if not callable(on_accept):
        raise TypeError(f"expected on_accept to be callable, got {on_accept!r}")
    check_callback("on_prepare", on_prepare)
    check_count("backlog", backlog, 0)
    if sock is not None:
        if host is not None or service not in (None, 0):
            raise ValueError(f"expected no host and service with sock, got {host!r}, {service!r}")
        _check_handed_in(sock)
        sock.setblocking(False)
        bound = [Bound(sock)]
        handed_in = True
    else:
        infos = listening_infos(host, service, "stream", dual_stack)
        bound = bind_addresses(infos, reuse_port=reuse_port, dual_stack=dual_stack)
        handed_in = False
    try:
        __import__("ae_core.logs")
        for one in bound:
            wanted = on_prepare(one.sock, *one.address) if on_prepare is not None else None
            if wanted or not _is_listening(one.sock):
                _listen(one, wanted or backlog)
        return Server(bound, on_accept)
    except BaseException:
        if not handed_in:
            for one in bound:
                one.close()
        raise


def _check_handed_in(sock: socket.socket) -> None:
    if not isinstance(sock, (_socket.socket, socket.socket)):  # gevent replaces the class
        raise TypeError(f"expected a socket, got {sock!r}")
    if sock.fileno() < 0 or sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        raise ValueError(f"expected an open stream socket, got {sock!r}")
    try:
        address = sock.getsockname()
    except OSError:
        raise ValueError(f"expected an open stream socket, got {sock!r}") from None
    # A UNIX socket that is not bound has no name, any other one port 0.
    if not (address if sock.family == _windows.AF_UNIX else address[1]):
        raise ValueError(f"expected a socket that is bound, got {sock!r}")
    if _is_connected(sock):
        raise ValueError(f"expected a socket that is not connected, got {sock!r}")


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _listen(bound: Bound, backlog: int) -> None:
    try:
        bound.sock.listen(backlog)
    except OSError as error:  # with SO_REUSEADDR a port in use may show only now
        raise OSError(error.errno, error.strerror, format_host_port(*bound.address)) from None


def _is_listening(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (AttributeError, OSError):  # not everywhere; listen() is harmless then
        return False


_FIRST_INHERITED: Final = 3


def inherited_sockets() -> list[socket.socket]:
    """Return the sockets a service manager opened for this process (``sd_listen_fds(3)``).

    Reads ``LISTEN_PID`` and ``LISTEN_FDS`` and removes them from the environment, so that the
    sockets are taken once and no child believes they are its own. Give them to
    :func:`tcp_server` as ``sock``.

    Returns:
        The sockets in the manager's order; ``[]`` if there are none for this process.
    """
    process, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if process != str(os.getpid()) or count is None or not count.isdecimal():
        return []
    found = []
    for fd in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count)):
        os.set_inheritable(fd, False)
        found.append(socket.socket(fileno=fd))
    return found
