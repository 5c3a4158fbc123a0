"""A connection that connects by itself: ``connect=``, its attempts, and ``retry()``."""

from __future__ import annotations

__all__ = ("Attempts", "ConnectingConnection")

import errno

import ae_core as ae

from ._errors import HandleTimedOut, TlsError, TransportError
from ._pending import FailPending
from ._phases import CONNECTING, OPEN
from ._streams.adapters import adapt
from ._streams.closing import Departing, close
from ._tls_connection import TlsConnection
from ._work import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ae_core import CondVar

    from ._options import Route
    from ._tls.layer import TlsLayer


class Attempts:
    """The operation that makes a connection, and what belongs to it.

    Attributes:
        where: Host and service.
        operation: The operation; a :class:`Departing` when the handle was destroyed before its
            end; None when it has ended.
        socket: That of this attempt, while ``on_prepare`` runs.
        left: How many seconds of ``connect_timeout`` are left, 0 for no limit.
        timer: The timer for those seconds, and the time at which they are over.
        early: What was pushed before ``stop_tls()``, called while connecting.
    """

    __slots__ = ("early", "left", "operation", "socket", "timer", "where")

    operation: Any

    def __init__(self, host: str, service: str | int, left: float | None) -> None:
        self.where = host, service
        self.operation = None
        self.socket: Any = None
        self.left = left
        self.timer: tuple[Any, float] | None = None
        self.early: bytes | None = None


class ConnectingConnection(TlsConnection):
    """A connection with the operation that makes it."""

    __slots__ = ("_attempts",)

    _attempts: Attempts | None  # None for one that was made of a stream

    def _connect(self, host: str, service: str | int, route: Route | None) -> None:
        """Connect; the handle is kept alive until that has ended."""
        from ae_socket import tcp_connect

        self._attempts = attempts = Attempts(host, service, self._rare.connect_timeout)
        on_prepare = self._rare.on_prepare
        connector, local_address, resolver = route or (None, None, None)
        if connector is not None:
            attempts.operation = connector(host, service)
            done = self._connector_done
        else:
            attempts.operation = tcp_connect(
                host,
                service,
                self._connected,
                on_prepare=None if on_prepare is None else self._prepare,
                local_address=local_address,
                resolver=resolver,
            )
            done = self._connect_done
        self._loop.holders[self._events] = None
        self._begin_connecting(attempts)
        self._keep_alive()
        operation = attempts.operation
        if operation.ready:  # nothing is called back inside this call
            ae.postpone(lambda: operation.on_ready(done))
        else:
            operation.on_ready(done)

    def _prepare(self, sock: Any) -> float | None:
        """An attempt is about to be made with *sock*."""
        attempts = self._attempts
        assert attempts is not None
        attempts.socket = sock
        try:
            on_prepare = self._rare.on_prepare
            limit: float | None = None if on_prepare is None else on_prepare(self)
            return limit
        finally:
            attempts.socket = None

    def _begin_connecting(self, attempts: Attempts) -> None:
        """Queue what is read and written, and count the seconds, until there is a stream."""
        self._connecting_again()
        self._limit_connecting(attempts)
        if self._inactivity is not None:
            self._restart_inactivity_timer()

    def _limit_connecting(self, attempts: Attempts) -> None:
        attempts.timer = None
        left = attempts.left
        if left:
            timer = ae.timer(left, Later(self, "_connecting_too_long"))
            attempts.timer = (timer, self._clock() + left)

    def _stop_limit(self, attempts: Attempts) -> None:
        """Stop the timer; what is left of its seconds is for ``retry()``."""
        if attempts.timer is not None:
            # 0 would be no limit
            attempts.left = max(attempts.timer[1] - self._clock(), 1e-9)
            attempts.timer = None

    def _connect_timeout_changed(self) -> None:
        attempts = self._attempts
        if attempts is not None:
            attempts.left = self._rare.connect_timeout
            if self._phase == CONNECTING and attempts.operation is not None:
                self._limit_connecting(attempts)

    def _connecting_too_long(self) -> None:
        attempts = self._attempts
        assert attempts is not None
        what = f"connect_timeout of {self._rare.connect_timeout:g} s has passed"
        self._fail(HandleTimedOut(f"{what}: {attempts.operation!r}", fatal=True))

    def _connector_done(self, condvar: CondVar[Any]) -> None:
        """A connector has ended; ``tcp_connect`` calls ``_connected`` by itself."""
        try:
            attempts = self._attempts
            if attempts is not None and not condvar.cancelled and condvar.error is None:
                self._connected(adapt(condvar.recv()), *attempts.where, _no_other)
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
        attempts = self._attempts
        assert attempts is not None
        if self._phase != CONNECTING:
            if isinstance(attempts.operation, Departing):
                self._depart(attempts, sock)
            else:
                close(sock)
            return
        self._stop_limit(attempts)
        now = self._clock()
        self._read.touched(now)
        self._write.start(now)
        tls = None
        if self._rare.tls_role is not None:
            try:
                tls = self._make_session(self._rare.tls_role, None)
            except TlsError as error:
                self._write.queue.lose_pieces()  # they were to be encrypted
                self._start(sock, None)
                self._report_tls_failure(error)
                return
        self._start(sock, tls)
        self._run_due_work()
        callback = self._rare.on_connect
        if callback is not None and self._phase == OPEN:

            def try_next() -> None:
                self._try_next(attempts, sock, retry)

            try:
                callback(self, host, port, try_next)
            except BaseException as error:
                ae.report_error(error)
        if self._phase == OPEN and self._work_due:
            self._schedule_work()

    def _begin_session(self, tls: TlsLayer) -> None:
        super()._begin_session(tls)
        if self._attempts is not None:
            _keep_early(self._attempts, tls)

    def _stop_tls_early(self) -> None:
        """Note, while connecting, that TLS is to be stopped behind what was pushed so far."""
        attempts = self._attempts
        if attempts is not None and self._rare.tls_role is not None and attempts.early is None:
            attempts.early = self._write.queue.take_all()

    def _try_next(self, attempts: Attempts, sock: Any, retry: Callable[[], CondVar[Any]]) -> None:
        """The program refuses this connection: go on with the next address."""
        if self._phase != OPEN or self._stream is not sock:
            return
        waiting = self._restart()
        attempts.early = None
        self._begin_connecting(attempts)
        operation = retry()
        close(sock)
        if operation is not attempts.operation:
            self._keep_alive()
            attempts.operation = operation
            operation.on_ready(self._connect_done)
        if waiting:
            given_up = TransportError(
                "the connection was given up for the next address", errno=errno.ECONNABORTED
            )
            ae.postpone(FailPending(waiting, given_up))

    def _connect_done(self, condvar: CondVar[Any]) -> None:
        """The connection attempts have ended, one way or the other."""
        try:
            attempts = self._attempts
            operation = None if attempts is None else attempts.operation
            if attempts is None or operation is None:
                return
            if isinstance(operation, Departing):
                if condvar is operation.operation:
                    attempts.operation = None
                    if not condvar.cancelled and condvar.error is not None:
                        operation.failed(condvar.error)
            elif condvar is operation:
                attempts.operation = None
                self._stop_limit(attempts)
                if condvar.cancelled:
                    # by the connector, perhaps in a call of the program, or while another loop runs
                    if self._phase == CONNECTING:
                        try:
                            self._loop.call_threadsafe(lambda: self._fail(_cancelled()))
                        except RuntimeError:
                            return  # the loop has ended
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

    def _depart(self, attempts: Attempts, sock: Any) -> None:
        """The connection is there, but the handle was destroyed."""
        departing, attempts.operation = attempts.operation, None
        tls = None
        if self._rare.tls_role is not None:
            try:
                tls = self._make_session(self._rare.tls_role, None)
            except TlsError as error:
                close(sock)
                departing.failed(error)
                return
            tls.begin(self._clock(), None)
            tls.limit_handshake(self._rare.handshake_timeout)
            _keep_early(attempts, tls)
        departing.connected(sock, tls)

    def _leave_connecting(self) -> None:
        """Cancel the connection under way, unless something is to be sent on it."""
        attempts = self._attempts
        if attempts is None or attempts.operation is None:
            return
        self._stop_limit(attempts)
        operation = attempts.operation
        out = self._write.queue
        count = out.owed + len(attempts.early or b"")
        linger = self._rare.linger
        if (
            self._error is None
            and self._stream is None
            and count
            and linger
            and ae.backend() is not None
        ):
            host, service = attempts.where
            peer = f"{host}:{service}"
            attempts.operation = Departing(operation, out, count, linger, peer, self._loop)
        else:
            attempts.operation = None
            operation.cancel()


def _keep_early(attempts: Attempts, tls: TlsLayer) -> None:
    """Give *tls* what was pushed before ``stop_tls``, if that was called while connecting."""
    early, attempts.early = attempts.early, None
    if early is not None:
        tls.keep(early)
        tls.want_stop()


def _cancelled() -> TransportError:
    return TransportError("the operation that connects was cancelled", errno=errno.ECANCELED)


def _no_other() -> CondVar[Any]:
    """What ``retry()`` of a connection brings about that a connector has made."""
    failed: CondVar[Any] = ae.CondVar()
    text = "given up by retry(), and the connector has no other address"
    ae.postpone(lambda: failed.throw(OSError(errno.ECONNABORTED, text)))
    return failed
