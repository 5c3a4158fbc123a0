"""A connection that connects by itself: ``connect=``, its attempts, and ``retry()``."""

from __future__ import annotations

__all__ = ("ConnectingConnection",)

import errno
from typing import TYPE_CHECKING, Any

import ae_core as ae

from ._errors import HandleTimedOut, TlsError, TransportError
from ._pending import FailPending
from ._phases import CONNECTING, OPEN
from ._streams.adapters import adapt
from ._streams.closing import Departing, close
from ._tls_connection import TlsConnection
from ._work import Later

if TYPE_CHECKING:
    from collections.abc import Callable

    from ae_core import CondVar

    from ._options import Route
    from ._tls.layer import TlsLayer


class ConnectingConnection(TlsConnection):
    """A connection with the operation that makes it."""

    __slots__ = ("_attempt", "_connect_left", "_connect_timer", "_connecting", "_early", "_target")

    _attempt: Any  # the socket, while on_prepare runs
    _connect_left: float | None  # how many seconds of connect_timeout are left, 0 for no limit
    _connect_timer: tuple[Any, float] | None  # for those seconds, and when they are over
    _connecting: Any  # the operation, a Departing when it outlives the handle, or None
    _early: bytes | None  # what was pushed before stop_tls(), called while connecting
    _target: tuple[str, str | int]

    def _connect(self, host: str, service: str | int, route: Route | None) -> None:
        """Connect; the handle is kept alive until that has ended."""
        from ae_socket import tcp_connect

        self._target = (host, service)
        self._early = None
        self._connect_left = self._connect_timeout

        def prepare(sock: Any) -> float | None:
            self._attempt = sock
            try:
                return None if self._on_prepare is None else self._on_prepare(self)
            finally:
                self._attempt = None

        connector, local_address, resolver = route or (None, None, None)
        if connector is not None:
            operation = connector(host, service)
            done = self._connector_done
        else:
            operation = tcp_connect(
                host,
                service,
                self._connected,
                on_prepare=None if self._on_prepare is None else prepare,
                local_address=local_address,
                resolver=resolver,
            )
            done = self._connect_done
        self._connecting = operation
        self._loop.holders.add(self._events)
        self._begin_connecting()
        self._keep_alive()
        if operation.ready:  # nothing is called back inside this call
            ae.postpone(lambda: operation.on_ready(done))
        else:
            operation.on_ready(done)

    def _begin_connecting(self) -> None:
        """Queue what is read and written, and count the seconds, until there is a stream."""
        self._connecting_again()
        self._limit_connecting()
        if self._inactivity is not None:
            self._restart_inactivity_timer()

    def _limit_connecting(self) -> None:
        self._connect_timer = None
        left = self._connect_left
        if left:
            timer = ae.timer(left, Later(self, "_connecting_too_long"))
            self._connect_timer = (timer, self._clock() + left)

    def _stop_limit(self) -> None:
        """Stop the timer; what is left of its seconds is for ``retry()``."""
        if self._connect_timer is not None:
            # 0 would be no limit
            self._connect_left = max(self._connect_timer[1] - self._clock(), 1e-9)
            self._connect_timer = None

    def _connect_timeout_changed(self) -> None:
        self._connect_left = self._connect_timeout
        if self._phase == CONNECTING:
            self._limit_connecting()

    def _connecting_too_long(self) -> None:
        if self._phase == CONNECTING:
            what = f"connect_timeout of {self._connect_timeout:g} s has passed"
            self._fail(HandleTimedOut(f"{what}: {self._connecting!r}", fatal=True))

    def _connector_done(self, condvar: CondVar[Any]) -> None:
        """A connector has ended; ``tcp_connect`` calls ``_connected`` by itself."""
        try:
            if not condvar.cancelled and condvar.error is None:
                self._connected(adapt(condvar.recv()), *self._target, _no_other)
        finally:
            self._connect_done(condvar)

    def _connected(
        self,
        sock: Any,
        host: str,
        port: int | str,
        retry: Callable[[], CondVar[Any]],
    ) -> None:
        """A connection is there: first what was pushed meanwhile, then on_connect."""
        if self._phase != CONNECTING:
            if isinstance(self._connecting, Departing):
                self._depart(self._connecting, sock)
            else:
                close(sock)
            return
        self._stop_limit()
        now = self._clock()
        self._read.touched(now)
        self._write.start(now)
        tls = None
        if self._tls_role is not None:
            try:
                tls = self._make_session(self._tls_role, None)
            except TlsError as error:
                self._write.queue.lose_pieces()  # they were to be encrypted
                self._start(sock, None)
                self._report_tls_failure(error)
                return
        self._start(sock, tls)
        self._run_due_work()
        callback = self._on_connect
        if callback is not None and self._phase == OPEN:

            def try_next() -> None:
                self._try_next(sock, retry)

            try:
                callback(self, host, port, try_next)
            except BaseException as error:
                ae.report_error(error)
        if self._phase == OPEN and self._work_due:
            self._schedule_work()

    def _begin_session(self, tls: TlsLayer) -> None:
        super()._begin_session(tls)
        if self._connecting is not None:
            self._keep_early(tls)

    def _keep_early(self, tls: TlsLayer) -> None:
        """Give *tls* what was pushed before ``stop_tls``, if that was called while connecting."""
        early, self._early = self._early, None
        if early is not None:
            tls.keep(early)
            tls.want_stop()

    def _stop_tls_early(self) -> None:
        """Note, while connecting, that TLS is to be stopped behind what was pushed so far."""
        if self._tls_role is not None and self._early is None:
            self._early = self._write.queue.take_all()

    def _try_next(self, sock: Any, retry: Callable[[], CondVar[Any]]) -> None:
        """The program refuses this connection: go on with the next address."""
        if self._phase != OPEN or self._stream is not sock:
            return
        waiting = self._restart()
        self._early = None
        self._begin_connecting()
        operation = retry()
        close(sock)
        if operation is not self._connecting:
            self._keep_alive()
            self._connecting = operation
            operation.on_ready(self._connect_done)
        if waiting:
            given_up = TransportError(
                "the connection was given up for the next address", errno=errno.ECONNABORTED
            )
            ae.postpone(FailPending(waiting, given_up))

    def _connect_done(self, condvar: CondVar[Any]) -> None:
        """The connection attempts have ended, one way or the other."""
        try:
            connecting = self._connecting
            if isinstance(connecting, Departing):
                if condvar is connecting.operation:
                    self._connecting = None
                    if not condvar.cancelled and condvar.error is not None:
                        connecting.failed(condvar.error)
            elif condvar is connecting:
                self._connecting = None
                self._stop_limit()
                if condvar.cancelled:
                    return
                try:
                    condvar.recv()
                except Exception as error:
                    number = getattr(error, "errno", None)
                    if not isinstance(number, int) or number <= 0:
                        number = errno.ENXIO
                    failure = TransportError(
                        getattr(error, "strerror", None) or str(error), errno=number
                    )
                    failure.__cause__ = error.with_traceback(None)
                    self._fail(failure)
        finally:
            self._release()

    def _depart(self, departing: Departing, sock: Any) -> None:
        """The connection is there, but the handle was destroyed."""
        self._connecting = None
        tls = None
        if self._tls_role is not None:
            try:
                tls = self._make_session(self._tls_role, None)
            except TlsError as error:
                close(sock)
                departing.failed(error)
                return
            tls.begin(self._clock(), None)
            tls.limit_handshake(self._handshake_timeout)
            self._keep_early(tls)
        departing.connected(sock, tls)

    def _leave_connecting(self) -> None:
        """Cancel the connection under way, unless something is to be sent on it."""
        operation = self._connecting
        if operation is None:
            return
        self._stop_limit()
        out = self._write.queue
        count = out.owed + len(self._early or b"")
        if (
            self._error is None
            and self._stream is None
            and count
            and self._linger
            and ae.backend() is not None
        ):
            host, service = self._target
            peer = f"{host}:{service}"
            self._connecting = Departing(operation, out, count, self._linger, peer, self._loop)
        else:
            self._connecting = None
            operation.cancel()


def _no_other() -> CondVar[Any]:
    """What ``retry()`` of a connection brings about that a connector has made."""
    failed: CondVar[Any] = ae.CondVar()
    text = "given up by retry(), and the connector has no other address"
    ae.postpone(lambda: failed.throw(OSError(errno.ECONNABORTED, text)))
    return failed
