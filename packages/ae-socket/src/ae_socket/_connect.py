"""Connecting: one operation, several targets, the first that answers wins.

The shell around ``_eyeballs``, which decides what is tried when. Everything that is open
belongs to an ``_Attempt`` and is closed by it, except the socket that won.
"""

from __future__ import annotations

__all__ = ("tcp_connect",)

import errno
import os
import socket
from functools import partial

import ae_core as ae
from ae_core.abc import at_loop_end

from . import _windows
from ._addresses import format_host_port
from ._arguments import check_callback, check_resolver, check_target, split_address
from ._closing import close_socket
from ._errors import ConnectFailed
from ._eyeballs import Schedule
from ._lookup import lookup
from ._sockaddr import host_and_port, numeric_info, target_text
from ._target import known_infos, parse_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, TypeAlias

    from ._interfaces import Resolver
    from ._sockaddr import AddressInfo, Sockaddr

    Retry: TypeAlias = Callable[[], ae.CondVar[socket.socket]]
    # The port is an int, but for unix/: Any, or every user's `port: int` would be refused.
    OnConnect: TypeAlias = Callable[[socket.socket, str, Any, Retry], object]
    OnPrepare: TypeAlias = Callable[[socket.socket], "float | None"]

# Theory of operation
# -------------------
# The operation (`_Connect`) is kept alive by whatever it waits for: a postponed call, the
# condvar of the lookup, a timer or an io watcher, each of which refers to it, while it
# holds their guards. `_finish` cuts all of these. So a caller may forget the condvar, and
# an operation that is done is freed without the help of the garbage collector. A loop that ends
# drops what it held: the operation closes its sockets then, which would stay open until the
# collector finds them, and calls nothing of the program's: there is no loop to run it in.
#
# An attempt ends in exactly one of two ways, `_Connect.lost(attempt, error)` or
# `_Connect.won(attempt)`, and both come out of the loop, never out of tcp_connect().

# Linux answers EAGAIN for a UNIX socket whose listener has a full backlog; nothing is under
# way then and no event will come, so the connect has to be tried again.
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25

_STARTED: Final = frozenset({errno.EINPROGRESS, errno.EINTR, errno.EALREADY})


def tcp_connect(
    host: str,
    service: str | int,
    on_connect: OnConnect | None = None,
    *,
    on_prepare: OnPrepare | None = None,
    timeout: float | None = None,
    local_address: str | tuple[str, int] | None = None,
    resolver: Resolver | None = None,
) -> ae.CondVar[socket.socket]:
    """Connect to a host, over whichever of its addresses answers first (RFC 8305).

    Args:
        host: A name, an address, or ``"unix/"`` for the UNIX socket whose absolute path is
            *service*. See :func:`resolve`.
        service: A port number, the name of a service, or ``name=port``.
        on_connect: Called with the connected socket, its peer's host and port as texts and
            number (``"unix/"`` and the path), and ``retry``. Calling ``retry()`` says that
            this connection is of no use: it closes the socket and goes on with the next
            target, as if it had failed. Inside the callback that keeps the condvar
            pending. Called later, ``retry()`` returns a condvar of its own for what
            follows, and *on_connect* is called anew.
        on_prepare: Called with each new socket before it connects, to set options. If it
            returns a number, that is the timeout of this attempt in seconds. What it raises
            is the outcome of the operation.
        timeout: Seconds for everything, the lookup included.
        local_address: An address, or an address and a port, to connect from. Targets of the
            other family are not tried.
        resolver: Looks the host up instead of the default; see :func:`set_resolver`.

    Returns:
        A condvar with the socket, which is non-blocking. It is sent after *on_connect*
        returned.

        **When**: nothing is called before the function returned. **Lifetime**: the
        operation goes on when the condvar is forgotten; ``cancel()`` ends it, closes
        everything, and *on_connect* is not called. So does the cancellation of all coroutines
        that await it; a socket that was sent and that none of them took is closed, unless
        *on_connect* was told of it. The end of the loop closes everything, too, and then the
        condvar is never sent.

    Raises:
        TypeError: Immediately, if an argument has the wrong type.
        ValueError: Immediately for a *local_address* that is none, else through the condvar: an
            unknown service, a bad port, a name that no host can have.
        ConnectFailed: Through the condvar. Its ``errors`` say what became of each attempt.

    Perl: ``tcp_connect $host, $service, $connect_cb, $prepare_cb``
    """
    check_target(host, service)
    check_callback("on_connect", on_connect)
    check_callback("on_prepare", on_prepare)
    check_resolver(resolver)
    operation = _Connect((host, service), on_connect, on_prepare, _local(local_address), timeout)
    operation.begin(resolver)
    return operation.result


def _local(address: str | tuple[str, int] | None) -> AddressInfo | None:
    if address is None:
        return None
    host, port = split_address("local_address", address)
    if not isinstance(port, int):
        raise TypeError(f"expected local_address as str or (address, port), got {address!r}")
    info = numeric_info(host, port, "stream")
    if info is None or not 0 <= port <= 65535:
        raise ValueError(f"expected a local address or (address, port), got {address!r}")
    return info


def _failure(code: int, info: AddressInfo, text: str | None = None) -> OSError:
    return OSError(code, text or _windows.error_text(code), target_text(info))


def _reason(error: Exception) -> tuple[int, str]:
    """Return number and text of what a socket refused, whatever it raised."""
    if isinstance(error, OSError):
        return error.errno or errno.EINVAL, error.strerror or str(error)
    return errno.EINVAL, str(error)  # "int expected", "port must be 0-65535"


class _Attempt:
    """One attempt: a socket that connects to one target."""

    __slots__ = ("_pause", "_timer", "_watch", "index", "info", "operation", "sock")

    def __init__(self, operation: _Connect, index: int, info: AddressInfo) -> None:
        self.operation = operation
        self.index = index
        self.info = info
        self.sock: socket.socket | None = None
        self._watch: _windows.ConnectWatch | ae.Watcher | None = None
        self._timer: ae.Watcher | None = None
        self._pause = _FIRST_PAUSE

    def release(self) -> socket.socket | None:
        """Stop watching and give the socket away."""
        sock, self.sock = self.sock, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return sock

    def close(self) -> None:
        sock = self.release()
        if sock is not None:
            close_socket(sock)

    def start(self, local: AddressInfo | None, on_prepare: OnPrepare | None) -> None:
        """Open the socket and connect."""
        info = self.info
        try:
            sock = self.sock = socket.socket(info.family, info.type, info.protocol)
            sock.setblocking(False)
            if local is not None:
                self._bind(sock, local)
        except Exception as error:  # of the kernel, or the resolver gave it what is no address
            self._lost(*_reason(error))
            return
        try:
            limit = on_prepare(sock) if on_prepare is not None else None
            if self.operation.is_over():  # on_prepare has cancelled it
                return
            if not limit and _windows.ACTIVE:
                limit = _windows.CONNECT_TIMEOUT
            if limit:
                self._timer = ae.timer(limit, self._on_timeout)
        except BaseException as error:
            is_outcome = isinstance(error, Exception) and not self.operation.is_over()
            self.operation.give_up(error)
            if not is_outcome:
                raise  # on_prepare has cancelled and then failed, or the program is to end
            return
        self._connect()

    def _bind(self, sock: socket.socket, local: AddressInfo) -> None:
        if local.family != self.info.family:
            raise OSError(errno.EAFNOSUPPORT, "the local address is of another family")
        if local.sockaddr[1] and not _windows.ACTIVE:
            # A named port is usually wanted again while the last connection's TIME_WAIT lasts.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(local.sockaddr)

    def _connect(self) -> None:
        sock = self.sock
        assert sock is not None
        try:
            code = sock.connect_ex(self.info.sockaddr)
            is_started = _windows.is_started(code) if _windows.ACTIVE else code in _STARTED
            if is_started:
                watch = _windows.watch_connect if _windows.ACTIVE else _watch_writable
                self._watch = watch(sock, self._on_writable, self._on_refused)
        except Exception as error:
            self._lost(*_reason(error))
            return
        if code == 0:
            self._on_writable()
        elif is_started:
            return
        elif code == errno.EAGAIN and self.info.family == _windows.AF_UNIX:
            self._watch = ae.timer(self._pause, self._connect)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._lost(code)

    def _on_writable(self) -> None:
        sock = self.sock
        assert sock is not None
        peer: Sockaddr | None = None
        code = 0
        try:
            peer = sock.getpeername()
            # A connect to a local port without a listener can be given that very port as its own,
            # and then TCP's simultaneous open connects the socket to itself. On Linux one in
            # 28,000 connects that should be refused ends so.
            if self.info.family != _windows.AF_UNIX and sock.getsockname() == peer:
                code = errno.ECONNREFUSED
        except OSError as error:
            peer = None
            code = _pending_error(sock, error.errno)
        # not inside the except clause: what callers raise from here is no consequence of it
        if code:
            self._lost(code)
        elif peer is not None:
            self.operation.won(self, peer)
        # else a spurious wake-up: go on waiting

    def _on_refused(self, error: OSError) -> None:
        self._lost(error.errno or errno.EIO, error.strerror)

    def _on_timeout(self) -> None:
        self._lost(errno.ETIMEDOUT)

    def _lost(self, code: int, text: str | None = None) -> None:
        self.close()
        self.operation.lost(self, _failure(code, self.info, text))


def _watch_writable(
    sock: socket.socket, callback: Callable[[], None], refused: Callable[[OSError], None]
) -> ae.Watcher:
    return ae.io(sock, "w", callback, on_refused=refused)


def _pending_error(sock: socket.socket, code: int | None) -> int:
    """Say why *sock* has no peer; 0 if it may still get one."""
    # No error, no peer: reading tells a pending connect (EAGAIN) from one that
    # failed where the error was consumed already. Upstream's trick, for loops that report
    # readiness too early.
    try:
        reason = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if reason:
            return reason
        sock.recv(1)
    except BlockingIOError:
        return 0
    except OSError as error:
        return error.errno or errno.ENOTCONN
    return code or errno.ENOTCONN


def _description(host: str, service: str | int, tried: list[AddressInfo]) -> str:
    asked = _target_text(host, service)
    targets = [text for info in tried if (text := target_text(info)) != asked]
    return f"connect to {asked}" + (f" over {', '.join(targets)}" if targets else "")


def _target_text(host: str, service: str | int) -> str:
    return format_host_port(host, str(service).replace("\0", "@"))


class _Connect:
    """The whole operation."""

    __slots__ = (
        "_asked",
        "_attempts",
        "_deadline",
        "_errors",
        "_is_starting",
        "_local",
        "_lookup",
        "_loop_end",
        "_on_connect",
        "_on_prepare",
        "_schedule",
        "_stagger",
        "_timeout",
        "_tried",
        "result",
    )

    def __init__(
        self,
        asked: tuple[str, str | int],
        on_connect: OnConnect | None,
        on_prepare: OnPrepare | None,
        local: AddressInfo | None,
        timeout: float | None,
    ) -> None:
        self._asked = asked  # host and service
        self._on_connect = on_connect
        self._on_prepare = on_prepare
        self._local = local
        self._timeout = timeout
        self._schedule: Schedule[AddressInfo] = Schedule(())
        self._attempts: list[_Attempt] = []  # the pending ones
        self._errors: dict[int, OSError] = {}  # by the number of the attempt
        self._lookup: ae.CondVar[list[AddressInfo]] | None = None
        self._deadline: ae.Watcher | None = None
        self._stagger: ae.Watcher | None = None
        self._loop_end: ae.Watcher | None = None
        self._tried: list[AddressInfo] = []
        self._is_starting = False
        self.result: ae.CondVar[socket.socket]
        self._expect()

    def _expect(self) -> None:
        # A socket that on_connect was given is the program's, even if all awaiters are cancelled.
        self.result = ae.CondVar(
            cancel=self._finish,
            untaken=close_socket if self._on_connect is None else None,
            describe=partial(_description, *self._asked, self._tried),
        )
        if self._timeout is not None:
            self._deadline = ae.timer(self._timeout, self._on_deadline)

    def begin(self, resolver: Resolver | None) -> None:
        """Begin; an interrupt, out of the resolver say, leaves nothing that goes on."""
        try:
            self._begin(resolver)
        except BaseException:
            self.result.cancel()
            raise

    def _begin(self, resolver: Resolver | None) -> None:
        try:
            target = parse_target(*self._asked)
            # an address: no detour through a lookup
            infos = known_infos(target)
        except (OSError, ValueError) as error:
            ae.postpone(partial(self._on_failure, error))
        else:
            if infos is not None:
                ae.postpone(partial(self._on_infos, infos))
            else:
                self._lookup = lookup(target, resolver, alternate=True)
                self._lookup.on_ready(self._on_answer)
        self._end_with_loop()

    def _end_with_loop(self) -> None:
        self._loop_end = at_loop_end(self._finish, at_quit=False)

    # ------------------------------------------------------------------ events

    def _on_answer(self, question: ae.CondVar[list[AddressInfo]]) -> None:
        if self._lookup is None:
            return  # cancelled by ourselves
        self._lookup = None
        try:
            infos = question.recv()
        except BaseException as error:
            self._on_failure(error)
        else:
            self._on_infos(infos)

    def _on_failure(self, error: BaseException) -> None:
        error.__traceback__ = None  # it refers to a frame of ours, and so to ourselves
        if isinstance(error, OSError):
            error = self._failed([error], errno.ENXIO)
        self.give_up(error)

    def _on_infos(self, infos: list[AddressInfo]) -> None:
        self._schedule = Schedule(infos)
        self._advance()

    def _advance(self) -> None:
        """Start the attempts that the schedule says, and the timer for the next one."""
        self._stop_stagger()
        if self.is_over():
            return
        schedule = self._schedule
        now = ae.detect().clock()
        self._is_starting = True
        try:
            while (info := schedule.next(now)) is not None:
                attempt = _Attempt(self, len(self._tried), info)
                self._tried.append(info)
                self._attempts.append(attempt)
                attempt.start(self._local, self._on_prepare)
                if self.is_over():
                    return
        finally:
            self._is_starting = False
        wake_at = schedule.wake_at
        if wake_at is not None:
            self._stagger = ae.timer(max(wake_at - now, 0.0), self._advance)
        elif schedule.is_exhausted:
            self.give_up(self._failed(self._errors_so_far()))

    def lost(self, attempt: _Attempt, error: OSError) -> None:
        """Go on: *attempt* has failed."""
        self._attempts.remove(attempt)
        self._errors[attempt.index] = error
        self._schedule.failed(attempt.info)
        if not self._is_starting:  # else _advance() does it
            self._advance()

    def won(self, attempt: _Attempt, peer: Sockaddr) -> None:
        """Finish with *attempt* as the winner, and close the others."""
        sock = attempt.release()
        assert sock is not None
        self._attempts.remove(attempt)
        self._schedule.won(attempt.info)
        self._close_attempts()
        if self._on_connect is None:
            self._send(sock)
            return
        info = attempt.info
        if info.family == _windows.AF_UNIX:
            peer = info.sockaddr  # the listener's own name for itself may be a relative path
        host, port = host_and_port(info.family, peer)
        retry = _Retry(self, sock, attempt)
        try:
            self._on_connect(sock, host, port, retry)
        finally:
            if not retry.is_used:
                if self.result.ready:  # the program has answered it
                    self._finish()
                else:
                    self._send(sock)

    def retry(self, attempt: _Attempt) -> ae.CondVar[socket.socket]:
        """Go on as if *attempt*, which had won, had failed."""
        if self.result.cancelled:
            return self.result
        if self.result.ready:
            self._expect()
            self._end_with_loop()
        text = "given up by retry()"
        self._errors[attempt.index] = _failure(errno.ECONNABORTED, attempt.info, text)
        self._schedule.failed(attempt.info)
        ae.postpone(self._advance)
        return self.result

    def _on_deadline(self) -> None:
        running, self._attempts = self._attempts, []
        for attempt in running:
            attempt.close()
            self._errors[attempt.index] = _failure(errno.ETIMEDOUT, attempt.info)
        errors = self._errors_so_far() or [OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))]
        self.give_up(self._failed(errors, errno.ETIMEDOUT))

    # ------------------------------------------------------------------ the end

    def is_over(self) -> bool:
        """Return whether there is an outcome, or will be none because the loop has ended."""
        return self.result.ready or self._loop_end is None

    def _errors_so_far(self) -> list[OSError]:
        return [error for _index, error in sorted(self._errors.items())]

    def _failed(self, errors: list[OSError], code: int | None = None) -> ConnectFailed:
        return ConnectFailed(f"cannot connect to {_target_text(*self._asked)}", errors, errno=code)

    def _send(self, sock: socket.socket) -> None:
        self._finish()
        self.result.send(sock)

    def give_up(self, error: BaseException) -> None:
        """End the operation with *error* as its outcome."""
        self._finish()
        if not self.result.ready:
            self.result.throw(error)

    def _finish(self) -> None:
        self._close_attempts()
        self._stop_stagger()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._loop_end is not None:
            self._loop_end.cancel()
            self._loop_end = None
        if self._lookup is not None:
            question, self._lookup = self._lookup, None
            question.cancel()

    def _close_attempts(self) -> None:
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            attempt.close()

    def _stop_stagger(self) -> None:
        if self._stagger is not None:
            self._stagger.cancel()
            self._stagger = None


class _Retry:
    """What ``on_connect`` gets as its last argument."""

    __slots__ = ("_attempt", "_operation", "_sock", "is_used")

    def __init__(self, operation: _Connect, sock: socket.socket, attempt: _Attempt) -> None:
        self._operation = operation
        self._sock = sock
        self._attempt = attempt
        self.is_used = False

    def __call__(self) -> ae.CondVar[socket.socket]:
        if self.is_used:
            return self._operation.result
        self.is_used = True
        close_socket(self._sock)
        return self._operation.retry(self._attempt)
