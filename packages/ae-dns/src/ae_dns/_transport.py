"""How packets travel: a rotating pool of connected UDP sockets per server, and one TCP connection.

The only file here that touches sockets. It hands what arrives to the ``Engine``
(``_engine``) and knows nothing about what packets mean beyond the identifier.
"""

from __future__ import annotations

__all__ = ("Channel", "Owner", "StreamChannel", "UdpPool", "close")

import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, Protocol

import ae_core as ae
from ae_socket import tcp_connect

from ._config import Server
from ._resolution import Exchange

# Theory of operation
# -------------------
# A forger who cannot see our packets must guess the identifier (16 bits) and the source
# port of a query (RFC 5452). So ports are chosen by `secrets` for explicit bind() - 49,152
# of them, 15.6 bits - and change all the time. With up to POOL queries in flight each one
# has a socket of its own, used once. A socket per query costs 25-40 us, though, more
# than everything else together; so a resolver with hundreds of queries in flight shares
# POOL sockets per server, and each of these carries at most USES queries, for at most AGE
# seconds, before another port takes its place. What does that cost in safety?
#
# * A reply is accepted only on the very socket that sent the query, with its
#   identifier and its question. One forged packet for one query therefore still has
#   to hit one port of 49,152 and one identifier of 65,536; that the other fifteen
#   ports are open too does not help it.
# * Equal questions are never in flight twice (the engine joins them), so the
#   birthday paradox does not help the forger.
# * What remains is a forger who finds a port out (by a side channel) while it is in use.
#   connect() makes the kernel drop datagrams, and hide the port from probes, from
#   any source but the server's address and port; and the knowledge is worth at most USES
#   queries, a few milliseconds under the load that makes us share in the first place, and
#   AGE seconds where many slow servers do.
#
# When nothing is in flight nothing is open: no descriptor, no watcher, no port.
#
# ICMP errors ("port unreachable") end a step immediately, as in glibc. Forging one takes
# the port, and gains no more than a change of server.

POOL: Final = 16
USES: Final = 100
AGE: Final = 30.0
_PORTS: Final = range(16384, 65536)
# So many datagrams are read from one socket per turn: a flood must not starve the loop.
_BATCH: Final = 64
# The largest datagram we look at: announced are 1232, upstream takes 4096.
_DATAGRAM: Final = 4096
_STREAM_READ: Final = 65536


class Owner(Protocol):
    """The object that is told what happens on the channels.

    ``burst`` is set to 0 when datagrams arrive; ``clock`` is the loop's.
    """

    burst: int
    clock: Callable[[], float]

    def arrived(self, exchange: Exchange, wire: bytes) -> bool:
        """A packet with the identifier of *exchange* came by its channel; was it the reply?"""
        ...

    def lost(self, exchange: Exchange, reason: str) -> None:
        """The channel of *exchange* failed; it is forgotten already."""

    def again(self, exchange: Exchange) -> None:
        """The server closed a connection that had worked; *exchange* is forgotten already."""


class Channel(Protocol):
    """One socket with the exchanges that wait for its packets, by identifier.

    ``unexpected`` counts the packets that no exchange waited for.
    """

    transport: Literal["udp", "tcp"]
    unexpected: int
    sock: socket.socket | None

    def forget(self, exchange: Exchange) -> None:
        """Wait no longer for the reply to *exchange*; late packets are dropped."""

    def retire(self) -> None:
        """Let no further query use this channel; those in flight go on."""


class UdpPool:
    """The UDP sockets to one server."""

    __slots__ = ("in_flight", "owner", "server", "sharing")

    def __init__(self, server: Server, owner: Owner) -> None:
        self.server = server
        self.owner = owner
        self.sharing: list[UdpChannel] = []  # open and with uses left
        self.in_flight = 0

    def send(self, exchange: Exchange) -> None:
        """Send the query of *exchange*.

        Raises:
            OSError: If there is no socket to be had, or the server is unreachable.
        """
        token = secrets.token_bytes(3)
        now = self.owner.clock()
        channel = self.sharing[token[2] % POOL] if len(self.sharing) >= POOL else None
        if channel is not None and now - channel.opened >= AGE:
            channel.retire()
            if not channel.pending:
                channel.close()
            channel = None
        if channel is None:
            channel = UdpChannel(self, now)
            self.sharing.append(channel)
        channel.uses += 1
        if channel.uses >= USES:
            self.sharing.remove(channel)
        ident = token[:2]
        pending = channel.pending
        while ident in pending:
            ident = secrets.token_bytes(2)
        exchange.ident = ident
        exchange.channel = channel
        pending[ident] = exchange
        self.in_flight += 1
        try:
            channel.sock.send(exchange.packet())
        except (BlockingIOError, InterruptedError):
            return  # the same as lost on the way: the timeout handles it
        except OSError as error:
            channel.forget(exchange)
            if isinstance(error, ConnectionRefusedError) and channel.pending:
                # The kernel reports an earlier datagram's error once, at the next call.
                ae.postpone(partial(channel.refused, error))
            raise

    def close_idle(self) -> None:
        """Close the sockets that wait for nothing."""
        for channel in list(self.sharing):
            if not channel.pending:
                self.sharing.remove(channel)
                channel.close()


def close(sock: socket.socket) -> None:
    """Close a socket; an error is logged and not raised."""
    try:
        sock.close()
    except OSError as error:
        ae.log("warn", "closing a socket: %s", error, context="ae_dns")


def _open(server: Server) -> socket.socket:
    """Return a non-blocking UDP socket on a random port, connected to *server*."""
    sock = socket.socket(server.family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for _ in range(8):
            try:
                sock.bind(("", _PORTS[secrets.randbelow(len(_PORTS))]))
                break
            except OSError:
                continue  # taken, or reserved
        # Eight in a row: then connect() makes the kernel choose, also at random.
        sock.connect(server.sockaddr)
    except BaseException:
        close(sock)
        raise
    return sock


class UdpChannel:
    """One UDP socket."""

    transport: Final = "udp"

    __slots__ = ("opened", "pending", "pool", "sock", "unexpected", "uses", "watcher")

    def __init__(self, pool: UdpPool, now: float) -> None:
        self.pool = pool
        self.pending: dict[bytes, Exchange] = {}
        self.uses = 0
        self.opened = now
        self.unexpected = 0
        self.sock: socket.socket = _open(pool.server)
        try:
            self.watcher = ae.io(self.sock, "r", self._readable, on_refused=self._on_refused)
        except BaseException:
            close(self.sock)
            raise

    def forget(self, exchange: Exchange) -> None:
        pool = self.pool
        del self.pending[exchange.ident]
        exchange.channel = None
        pool.in_flight -= 1
        if not self.pending and (self.uses >= USES or pool.in_flight < POOL):
            if self.uses < USES:
                pool.sharing.remove(self)
            self.close()
        if pool.in_flight == POOL - 1:
            pool.close_idle()

    def close(self) -> None:
        self.watcher.cancel()
        close(self.sock)

    def retire(self) -> None:
        if self.uses < USES:
            self.uses = USES
            self.pool.sharing.remove(self)

    def _readable(self) -> None:
        pending = self.pending
        recv = self.sock.recv
        owner = self.pool.owner
        owner.burst = 0
        arrived = owner.arrived
        for _ in range(_BATCH):
            try:
                wire = recv(_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._failed(error)
                return
            exchange = pending.get(wire[:2])
            if exchange is None:
                self.unexpected += 1
            else:
                arrived(exchange, wire)
            if not pending:
                return

    def _on_refused(self, error: OSError) -> None:
        self._failed(error)
        self.close()

    def refused(self, error: OSError) -> None:
        """Act on what the kernel said about the queries that are pending here."""
        if self.pending:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.retire()
        reason = f"{self.pool.server}: {error.strerror or error}"
        for exchange in list(self.pending.values()):
            if exchange.channel is self:
                self.forget(exchange)
                self.pool.owner.lost(exchange, reason)


class StreamChannel:
    """One TCP connection, shared by all exchanges with its server (RFC 7766).

    Queries are sent as they come, replies may come in any order. It is closed as soon as
    nothing is waited for. If the server closes it although it has served us, what was
    left unanswered is asked again on a new connection; if it never served us, those
    exchanges have failed.
    """

    transport: Final = "tcp"
    unexpected: Final = 0

    __slots__ = (
        "_connecting",
        "_incoming",
        "_outgoing",
        "_reader",
        "_server",
        "_writer",
        "closed",
        "owner",
        "pending",
        "retired",
        "served",
        "sock",
    )

    def __init__(self, server: Server, owner: Owner) -> None:
        self._server = server
        self.owner = owner
        self.pending: dict[bytes, Exchange] = {}
        self.served = False
        self.closed = False
        self.retired = False
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self.sock: socket.socket | None = None
        self._reader: ae.Watcher | None = None
        self._writer: ae.Watcher | None = None
        host, port = _numeric(server)
        self._connecting: ae.CondVar[socket.socket] | None = tcp_connect(host, port)
        self._connecting.on_ready(self._connected)

    def send(self, exchange: Exchange) -> None:
        """Send the query of *exchange*, now or when the connection is established."""
        ident = exchange.ident
        while not ident or ident in self.pending:
            ident = secrets.token_bytes(2)
        exchange.ident = ident
        exchange.channel = self
        self.pending[ident] = exchange
        packet = exchange.packet()
        self._outgoing += len(packet).to_bytes(2, "big") + packet
        if self.sock is not None and self._writer is None:
            self._flush()

    def forget(self, exchange: Exchange) -> None:
        del self.pending[exchange.ident]
        exchange.channel = None
        if not self.pending:
            self.close()

    def retire(self) -> None:
        self.retired = True

    def close(self) -> None:
        if self.closed:
            return
        self.closed = self.retired = True
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.cancel()
        self._reader = self._writer = None
        if self.sock is not None:
            close(self.sock)
            self.sock = None

    def _connected(self, connecting: ae.CondVar[socket.socket]) -> None:
        self._connecting = None
        if connecting.cancelled:
            return
        try:
            sock = connecting.recv()
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        self.sock = sock
        self._reader = ae.io(sock, "r", self._readable, on_refused=self._on_refused)
        self._flush()

    def _flush(self) -> None:
        sock = self.sock
        assert sock is not None
        try:
            while self._outgoing:
                del self._outgoing[: sock.send(self._outgoing)]
        except (BlockingIOError, InterruptedError):
            if self._writer is None:
                self._writer = ae.io(sock, "w", self._flush, on_refused=self._on_refused)
            return
        except OSError:
            # What the server sent before it closed may still be unread.
            self._outgoing.clear()
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None

    def _readable(self) -> None:
        sock = self.sock
        assert sock is not None
        try:
            data = sock.recv(_STREAM_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._failed(f"{self._server} over TCP: {error.strerror or error}")
            return
        if not data:
            self._failed(f"{self._server} closed the connection")
            return
        self._incoming += data
        self._hand_over()

    def _hand_over(self) -> None:
        """Hand over the whole messages that have arrived."""
        incoming = self._incoming
        try:
            while not self.closed and len(incoming) >= 2:
                end = 2 + int.from_bytes(incoming[:2], "big")
                if len(incoming) < end:
                    return
                wire = bytes(incoming[2:end])
                del incoming[:end]
                exchange = self.pending.get(wire[:2])
                # Only a true reply counts: a server that sends something else and hangs up
                # must not be connected to again and again.
                if exchange is not None and self.owner.arrived(exchange, wire):
                    self.served = True
        except BaseException:
            ae.postpone(self._hand_over)  # for the messages behind it
            raise

    def _on_refused(self, error: OSError) -> None:
        self._failed(f"{self._server} over TCP: {error.strerror or error}")

    def _failed(self, reason: str) -> None:
        exchanges = list(self.pending.values())
        served = self.served
        self.close()
        for exchange in exchanges:
            if exchange.channel is not self:
                continue  # cancelled by what one before it called
            self.forget(exchange)
            if served:
                self.owner.again(exchange)
            else:
                self.owner.lost(exchange, reason)


def _numeric(server: Server) -> tuple[str, int]:
    host, port = server.sockaddr[:2]
    scope = server.sockaddr[3] if len(server.sockaddr) == 4 else 0
    return (f"{host}%{scope}" if scope else host), port
