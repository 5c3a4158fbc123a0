"""Everything of a resolver that belongs to one event loop: slots, queue, deadlines, channels.

Drives the sans-I/O ``Exchange``. A resolver has one engine per loop that it is used from.
"""

from __future__ import annotations

__all__ = ("Engine", "Trace", "Waiter")

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import ae_core as ae
from ae_core.abc import Backend

from ._cache import Cache
from ._config import Server
from ._resolution import Exchange, Verdict
from ._transport import StreamChannel, UdpPool, close

# Theory of operation
# -------------------
# At most `max_outstanding` exchanges are in flight, the rest waits in order (DNS-16).
#
# There is one timer for all of them, not one per query. Timeouts come from a short
# list (2 and 5 seconds, say), so exchanges with the same timeout expire in the order in
# which they were sent. A dict keeps that order, and an answered exchange leaves it
# in 0.1 us: `_buckets[timeout][exchange] = deadline`. The timer is armed for the
# earliest deadline, and when it fires it looks at the front of each bucket. That an
# exchange was answered meanwhile does not move the timer; it fires, finds nothing,
# and is armed for the next. With nothing in flight there is no timer.
#
# A burst of queries sent without reading what comes back overflows the buffers on the
# way (a few hundred packets, typically), and a thousand queries that were lost together
# would be repeated, and lost, together. So at most BURST packets are sent until the next
# packet arrives or the next turn of the loop begins.
#
# What fails inside a call of the user (no route to the server, no descriptor left) is
# dealt with in the next turn: nothing is ever reported inside the call that asked.


BURST: Final = 100

# Told what happens to an exchange: what, the exchange, the packet and the verdict on it.
Trace = Callable[[str, Exchange, bytes, "Verdict | None"], None]


class Waiter(Protocol):
    """The object that is told when an exchange is over."""

    def exchange_over(self, exchange: Exchange) -> None:
        """*exchange* has its reply, or ended without."""


class Engine:
    """The exchanges of one resolver on one loop.

    Args:
        backend: The loop, as ``ae.detect()`` gives it.
        max_outstanding: How many exchanges may be in flight at the same time.
        cache: Gets every reply.
    """

    def __init__(self, backend: Backend, max_outstanding: int, cache: Cache | None) -> None:
        self.backend: Backend = backend
        self.max_outstanding: int = max_outstanding
        self.cache: Cache | None = cache
        self.trace: Trace | None = None
        self.clock: Callable[[], float] = backend.clock
        self.outstanding: int = 0
        self.sent: int = 0
        self._queue: deque[Exchange] = deque()
        self._slot_waiters: deque[Callable[[], object]] = deque()
        self._by_question: dict[bytes, Exchange] = {}
        self._buckets: dict[float, dict[Exchange, float]] = {}
        self._pools: dict[Server, UdpPool] = {}
        self._streams: dict[Server, StreamChannel] = {}
        self._timer: ae.Watcher | None = None
        self._armed = 0.0
        self.burst: int = 0  # datagrams sent since the last one arrived
        self._delayed: deque[tuple[Exchange, float]] = deque()
        self._delay_timer: ae.Watcher | None = None

    # ------------------------------------------------------------- for the resolver

    def equal(self, question: bytes) -> Exchange | None:
        """Return the exchange with the same question that is already running."""
        return self._by_question.get(question)

    def forget(self) -> None:
        """Share none of the running exchanges with later lookups. May be called from any thread."""
        self._by_question.clear()

    def submit(self, exchange: Exchange) -> None:
        """Start *exchange*, or queue it; its waiters are told when it is over."""
        self._by_question[exchange.question] = exchange
        if self.outstanding < self.max_outstanding:
            self.outstanding += 1
            exchange.next_step()
            self._transmit(exchange)
        else:
            self._queue.append(exchange)

    def leave(self, exchange: Exchange, waiter: Waiter) -> None:
        """Remove *waiter* from *exchange*, which is cancelled if it has no other."""
        exchange.waiters.remove(waiter)
        if exchange.waiters:
            return
        if self._by_question.get(exchange.question) is exchange:
            self._by_question.pop(exchange.question, None)
        if exchange.bucket is None:
            if exchange in self._queue:
                self._queue.remove(exchange)
            return
        self._release(exchange)
        self._settle()

    def wait_for_slot(self, callback: Callable[[], object]) -> None:
        """Call *callback* when a query would not be queued (DNS-17), in the next turn or later."""
        self._slot_waiters.append(callback)
        ae.postpone(self._settle)

    def leave_slot_queue(self, callback: Callable[[], object]) -> None:
        """Do not call *callback*, which was given to :meth:`wait_for_slot`."""
        self._slot_waiters.remove(callback)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def abandon(self) -> None:
        """Close everything: the loop has ended, and with it all that waited."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        self._delayed.clear()
        for bucket in self._buckets.values():
            for exchange in list(bucket):
                self._release(exchange)
        for stream in self._streams.values():
            stream.close()
        self._buckets.clear()
        self._queue.clear()
        self._slot_waiters.clear()
        self._by_question.clear()

    def __del__(self) -> None:
        # Its thread has ended with lookups in flight, and with the thread all its watchers.
        channels = {channel for pool in self._pools.values() for channel in pool.sharing}
        for bucket in self._buckets.values():
            channels.update(each.channel for each in bucket if each.channel is not None)
        for channel in channels:
            if channel.sock is not None:
                close(channel.sock)

    # ------------------------------------------------------------- for the channels

    def arrived(self, exchange: Exchange, wire: bytes) -> bool:
        """Act on a packet that came by the channel of *exchange* with its identifier."""
        verdict = exchange.judge(wire)
        if self.trace is not None:
            self.trace("received", exchange, wire, verdict)
        if verdict is Verdict.IGNORED:
            return False
        exchange.channel.forget(exchange)
        if verdict is Verdict.ANSWERED:
            self._finish(exchange)
        elif verdict is Verdict.SAME_STEP:
            self._transmit(exchange)
        else:
            self._go_on(exchange)
        return True

    def lost(self, exchange: Exchange, reason: str) -> None:
        """Go on with the plan: the channel failed, because of *reason*."""
        exchange.failed(reason)
        if self.trace is not None:
            self.trace("failed", exchange, b"", None)
        self._go_on(exchange)

    def again(self, exchange: Exchange) -> None:
        """Repeat the step: the server closed a connection on which it had served us."""
        self._transmit(exchange)

    # ------------------------------------------------------------- internals

    def _transmit(self, exchange: Exchange) -> None:
        """Send the query of the present step, and start its timeout."""
        timeout = exchange.timeout
        now = self.clock()
        if exchange.bucket is not None:
            exchange.bucket.pop(exchange, None)
        bucket = self._buckets.get(timeout)
        if bucket is None:
            bucket = self._buckets[timeout] = {}
        exchange.bucket = bucket
        deadline = bucket[exchange] = now + timeout
        if self._timer is None or deadline < self._armed:
            self._arm(deadline, now)
        if exchange.stream or (self.burst < BURST and not self._delayed):
            self._send(exchange)
        else:
            self._delayed.append((exchange, deadline))
            if self._delay_timer is None:
                self._delay_timer = ae.timer(0, self._on_turn)

    def _on_turn(self) -> None:
        """Send the delayed queries, except those that were cancelled or have timed out."""
        self._delay_timer = None
        self.burst = 0
        while self._delayed and self.burst < BURST:
            exchange, deadline = self._delayed.popleft()
            bucket = exchange.bucket
            if bucket is not None and bucket.get(exchange) == deadline:
                self._send(exchange)
        if self._delayed:
            self._delay_timer = ae.timer(0, self._on_turn)

    def _send(self, exchange: Exchange) -> None:
        self.sent += 1
        server = exchange.server
        try:
            if exchange.stream:
                stream = self._streams.get(server)
                if stream is None or stream.retired:
                    stream = self._streams[server] = StreamChannel(server, self)
                stream.send(exchange)
            else:
                pool = self._pools.get(server)
                if pool is None:
                    pool = self._pools[server] = UdpPool(server, self)
                self.burst += 1
                pool.send(exchange)
        except OSError as error:
            exchange.failed(f"{server}: {error.strerror or error}")
            if self.trace is not None:
                self.trace("failed", exchange, b"", None)
            self._in_next_turn(exchange)
        except BaseException as error:
            # No error of the network: the caller gets it, but the slot must not be lost, nor must
            # a channel wait for the reply to what is asked by another one next.
            exchange.failed(f"{server}: {error!r}")
            if exchange.channel is not None:
                exchange.channel.forget(exchange)
            self._in_next_turn(exchange)
            raise
        else:
            if self.trace is not None:
                self.trace("sent", exchange, b"", None)

    def _in_next_turn(self, exchange: Exchange) -> None:
        bucket = exchange.bucket
        deadline = bucket[exchange]

        def go_on() -> None:
            # Unless it was cancelled, or its time was up, meanwhile.
            if exchange.bucket is bucket and bucket.get(exchange) == deadline:
                self._go_on(exchange)

        ae.postpone(go_on)

    def _go_on(self, exchange: Exchange) -> None:
        if exchange.next_step():
            self._transmit(exchange)
        else:
            self._finish(exchange)

    def _release(self, exchange: Exchange) -> None:
        """Give back the slot, the deadline and the channel of *exchange*."""
        exchange.bucket.pop(exchange, None)
        exchange.bucket = None
        if exchange.channel is not None:
            exchange.channel.forget(exchange)
        self.outstanding -= 1

    def _finish(self, exchange: Exchange) -> None:
        self._release(exchange)
        if self._by_question.get(exchange.question) is exchange:
            self._by_question.pop(exchange.question, None)
        try:
            if self.cache is not None and exchange.reply is not None:
                self.cache.put(exchange.reply, self.clock(), exchange.generation)
        except Exception as error:
            ae.report_error(error)  # of a cache of the program's: the answer is there
        if self._queue:
            self._start_queued()
        for waiter in exchange.waiters.copy():
            try:
                waiter.exchange_over(exchange)
            except BaseException as error:
                ae.report_error(error)  # of a callback: the other waiters are told all the same
        self._settle()

    def _start_queued(self) -> None:
        while self._queue and self.outstanding < self.max_outstanding:
            exchange = self._queue.popleft()
            self.outstanding += 1
            exchange.next_step()
            self._transmit(exchange)

    def _settle(self) -> None:
        """Fill free slots, call those that wait for one, and clean up if nothing is left to do."""
        if self._queue:
            self._start_queued()
        while self._slot_waiters and not self._queue and self.outstanding < self.max_outstanding:
            try:
                self._slot_waiters.popleft()()
            except BaseException as error:
                ae.report_error(error)
        if not self.outstanding and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._delay_timer is not None:
                self._delay_timer.cancel()
                self._delay_timer = None
                self._delayed.clear()

    def _arm(self, deadline: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = deadline
        self._timer = ae.timer(max(0.0, deadline - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self.clock()
        expired = []
        for bucket in self._buckets.values():
            for exchange, deadline in bucket.items():
                if deadline > now:
                    break
                expired.append(exchange)
        try:
            for exchange in expired:
                if exchange.bucket is None or exchange.bucket.get(exchange, now + 1) > now:
                    continue  # ended by what an earlier one of this loop called
                channel = exchange.channel
                unexpected = 0
                if channel is not None:
                    unexpected = channel.unexpected
                    channel.retire()
                    channel.forget(exchange)
                if self.trace is not None:
                    self.trace("timed out", exchange, b"", None)
                exchange.timed_out(unexpected)
                self._go_on(exchange)
        finally:
            # What one of them raised leaves the others due, so the timer fires immediately.
            if self._timer is None:
                firsts = [next(iter(each.values())) for each in self._buckets.values() if each]
                if firsts:
                    self._arm(min(firsts), now)
