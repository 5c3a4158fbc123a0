"""Which connection serves which request: slots for each host, the cache of idle connections."""

from __future__ import annotations

__all__ = ("Host", "Pool")

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from ._connection import Connection
from ._errors import ClientClosed, HttpError
from ._proxy import is_tunnel
from ._request import IDEMPOTENT

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from ._opening import Connector
    from ._operation import Operation
    from ._url import Target

# Theory of operation
# -------------------
# A host is where connections are interchangeable: scheme, name, port and the proxy on the way. It
# has so many slots; a connection holds one from the attempt to make it until its end. A request
# takes the connection that became idle last (the others can then be evicted) and is still good,
# else a free slot, else, if that is wanted and harmless, a place behind another request
# (pipelining), else it waits; first come, first served.
#
# One timer for the whole cache: it is armed when a connection becomes idle and none is armed, and
# looks at all of them when it fires. So a busy connection, which is idle for a moment between any
# two requests, costs no timer.


# Less is not worth a system call
_MOMENT: Final = 0.001


class Host:
    """The connections to one host, and the requests that wait for one."""

    __slots__ = ("connections", "idle", "key", "pool", "proxy", "target", "tunnel", "waiting")

    def __init__(
        self,
        pool: Pool,
        key: tuple[object, ...],
        target: Target,
        proxy: Target | None,
        tunnel: bool,
    ) -> None:
        self.pool = pool
        self.key = key
        self.target = target
        self.proxy = proxy
        self.tunnel = tunnel
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []  # the one that became idle last is the last
        self.waiting: deque[Operation] = deque()

    def acquire(self, operation: Operation) -> None:
        """Have *operation* served as soon as possible."""
        while self.idle:
            connection = self.idle.pop()
            self.pool.idle -= 1
            idle_for = self.pool.loop.clock() - connection.idle_since
            # one that has served a moment ago is taken on trust for what may be asked again
            if (idle_for < _MOMENT and operation.request.may_repeat) or (
                idle_for < self.pool.shortest(connection) and connection.is_quiet
            ):
                operation.connection = connection
                connection.perform(operation)
                return
            connection.close()
            self.pool.remember(self)
        if len(self.connections) < self.pool.max_connections:
            self._open(operation)
        else:
            behind = self._find_pipeline(operation)
            if behind is None:
                self.waiting.append(operation)
            else:
                operation.connection = behind
                behind.perform(operation)

    def _open(self, operation: Operation) -> None:
        connection = Connection(self, operation)
        operation.connection = connection
        self.connections.add(connection)

    def _find_pipeline(self, operation: Operation) -> Connection | None:
        """Return the connection with the fewest requests that can take one more."""
        depth = self.pool.pipeline
        if depth <= 1 or self.waiting or not _harmless(operation):
            return None  # none overtakes those that wait
        best = None
        for connection in self.connections:
            if connection.depth < depth and connection.can_pipeline:
                best, depth = connection, connection.depth
        return best

    def release(self, connection: Connection) -> None:
        """*connection* has nothing to do."""
        if self.waiting:
            if not self.waiting[0].request.may_repeat and not connection.is_quiet:
                connection.close()  # those that wait get another one
                return
            operation = self.waiting.popleft()
            operation.connection = connection
            connection.perform(operation)
            depth = self.pool.pipeline
            while (
                self.waiting
                and connection.depth < depth
                and connection.can_pipeline
                and _harmless(self.waiting[0])
                and _harmless(operation)
            ):
                operation = self.waiting.popleft()
                operation.connection = connection
                connection.perform(operation)
            return
        self.idle.append(connection)
        self.pool.idle += 1
        self.pool.became_idle(connection)

    def gone(self, connection: Connection) -> None:
        """*connection* has ended, and its slot is free. Idempotent."""
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
            self.pool.idle -= 1
        if self.waiting and len(self.connections) < self.pool.max_connections:
            self._open(self.waiting.popleft())
        elif not self.connections and not self.waiting:
            self.pool.forget(self)

    def end_idle(self) -> None:
        """Close the idle connections."""
        for connection in [*self.idle]:
            connection.close()


def _harmless(operation: Operation) -> bool:
    """Whether it may be sent behind another request, and perhaps again."""
    request = operation.request
    return request.method in IDEMPOTENT and request.body is None and not operation.switching


class Pool:
    """What all requests of one client share; see ``Client`` for the parameters."""

    __slots__ = (
        "_hosts",
        "_timer",
        "_timer_at",
        "connect_timeout",
        "connector",
        "cookies",
        "defaults",
        "idle",
        "idle_timeout",
        "keeps",
        "loop",
        "max_connections",
        "max_head",
        "max_idle",
        "pipeline",
        "tls_context",
        "user_agent",
    )

    def __init__(
        self,
        *,
        defaults: list[tuple[str, str]],
        user_agent: str,
        tls_context: Any,
        connector: Connector | None,
        connect_timeout: float | None,
        idle_timeout: float,
        max_connections: int,
        max_idle: int,
        max_head: int,
        pipeline: int,
        keeps: bool,
        cookies: CookieJar | None,
    ) -> None:
        self.defaults = defaults
        self.user_agent = user_agent
        self.tls_context = tls_context
        self.connector = connector
        self.connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        self.max_connections = max_connections
        self.max_idle = max_idle
        self.max_head = max_head
        self.pipeline = pipeline
        self.keeps: bool = keeps
        self.cookies = cookies
        self._hosts: dict[tuple[object, ...], Host] = {}
        self._timer: ae.Watcher | None = None
        self._timer_at = 0.0
        self.idle: int = 0  # how many connections are
        self.loop: Any = None  # that of the last request

    def acquire(self, operation: Operation, *, fresh: bool = False) -> None:
        """Have *operation* served.

        Args:
            fresh: Not by a connection that is idle: one of them turned out to be dead.
        """
        loop = ae.detect()
        if loop is not self.loop:
            self._leave_loop()
            self.loop = loop
        target = operation.request.target
        proxy = operation.proxy
        if proxy is None:
            key: tuple[object, ...] = target.origin
            tunnel = False
        else:
            tunnel = is_tunnel(proxy, target, switching=operation.switching)
            through = (proxy.url, proxy.credentials or "")
            key = (*target.origin, *through) if tunnel else through
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = Host(self, key, target, proxy, tunnel)
        operation.host = host
        if fresh:
            host.end_idle()
            self.remember(host)
        host.acquire(operation)

    def remember(self, host: Host) -> None:
        """There will be something of *host* again."""
        self._hosts.setdefault(host.key, host)

    def forget(self, host: Host) -> None:
        """Nothing is left of *host*."""
        if self._hosts.get(host.key) is host:
            del self._hosts[host.key]

    # ------------------------------------------------------------------ the cache

    def became_idle(self, connection: Connection) -> None:
        """Keep *connection* for the next request, for a while."""
        now = connection.idle_since = self.loop.clock()
        due = now + self.shortest(connection)
        if self._timer is None or due < self._timer_at:
            self._arm(due, now)
        if self.idle > self.max_idle:
            self._evict_oldest()

    def _arm(self, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = ae.timer(due - now, self._evict)

    def shortest(self, connection: Connection) -> float:
        """Return for how long *connection* may be kept: the server's word counts, less a bit."""
        keep_for = connection.keep_for
        if keep_for is None:
            return self.idle_timeout
        return min(self.idle_timeout, max(0.0, keep_for - 1.0))

    def _evict(self) -> None:
        """Close what has been idle for too long; come again when the next one will have been."""
        self._timer = None
        now = self.loop.clock()
        next_due = None
        for host in [*self._hosts.values()]:
            for connection in [*host.idle]:
                due = connection.idle_since + self.shortest(connection)
                if due <= now:
                    connection.close()
                elif next_due is None or due < next_due:
                    next_due = due
        if next_due is not None:
            self._arm(next_due, now)

    def _evict_oldest(self) -> None:
        """Close idle connections, the oldest first, until there are not too many."""
        idle = [connection for host in self._hosts.values() for connection in host.idle]
        idle.sort(key=lambda connection: connection.idle_since)
        for connection in idle[: max(0, len(idle) - self.max_idle)]:
            connection.close()

    # ------------------------------------------------------------------ the end

    def retire(self) -> None:
        """Keep nothing any more; what is under way goes on."""
        self.keeps = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for host in [*self._hosts.values()]:
            host.end_idle()

    def close(self) -> None:
        """End everything."""
        self.retire()
        for host in [*self._hosts.values()]:
            waiting = [*host.waiting]
            host.waiting.clear()
            for operation in waiting:
                operation.failed(ClientClosed("the client was closed", phase="wait"), stale=False)
            for connection in [*host.connections]:
                connection.end(ClientClosed("the client was closed", phase=connection.phase))

    def _leave_loop(self) -> None:
        """The loop that our connections belong to has ended: so have they."""
        hosts, self._hosts = self._hosts, {}
        self._timer = None
        self.idle = 0
        gone = HttpError("the loop of this request has ended")
        for host in hosts.values():
            host.waiting.clear()
            host.idle.clear()
            for connection in [*host.connections]:
                connection.end(gone)
