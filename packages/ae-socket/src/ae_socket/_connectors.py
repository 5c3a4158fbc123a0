"""Connectors: ways to a host that lead through a proxy.

Each negotiation is a generator that does no I/O: it yields what to send and what to read, and is
given that. `_Negotiation` does the I/O, on a bare socket, and reads no byte more than the proxy's
answer has: the server behind it may speak first, and what it says stays in the socket for the
program. A program that reaches the proxy in another way, by TLS say, uses
`ProxyConnector.negotiate`.
"""

from __future__ import annotations

__all__ = ("ProxyConnector", "ProxyStep", "http_connect", "socks5")

import errno
import socket
from functools import cache, partial

import ae_core as ae
from ae_core.abc import at_loop_end

from ._addresses import format_host_port, parse_ipv4, parse_ipv6
from ._arguments import check_target
from ._closing import close_socket
from ._connect import tcp_connect
from ._errors import ConnectFailed, ProxyRefused
from ._host_names import host_to_ascii
from ._services import parse_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Generator, Iterable
    from typing import Any, Final, NamedTuple, TypeAlias

    Steps: TypeAlias = "Generator[ProxyStep, bytes, None]"

    class _ProxyStep(NamedTuple):
        data: bytes
        size: int
        is_head: bool = False

else:
    from collections import namedtuple

    _ProxyStep = namedtuple("_ProxyStep", ("data", "size", "is_head"), defaults=(False,))

_MAX_HEAD: Final = 65_536

# What the name of a field is made of: RFC 9110, section 5.6.2.
_FIELD_NAME: Final = frozenset(
    "!#$%&'*+.^_`|~-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


class ProxyStep(_ProxyStep):
    """What to do next for :meth:`ProxyConnector.negotiate`: send, then read.

    Attributes:
        data: What to send first; it may be empty.
        size: How many bytes to read then, exactly.
        is_head: Read up to and including an empty line instead, and at most *size* bytes.
    """

    __slots__ = ()

    def end_of_answer(self, data: bytes | bytearray) -> int:
        """Return where the proxy's answer ends in *data*, 0 if more has to be read."""
        end = _end_of_head(data[: self.size]) if self.is_head else 0
        return end or (self.size if len(data) >= self.size else 0)


class ProxyConnector:
    """A connector through a proxy, as :func:`socks5` and :func:`http_connect` return it.

    Attributes:
        proxy: ``(host, service)`` of the proxy.
    """

    __slots__ = ("_steps", "proxy")

    proxy: tuple[str, str | int]

    def __init__(self, proxy: tuple[str, str | int], steps: Callable[[str, int], Steps]) -> None:
        self.proxy = proxy
        self._steps = steps

    def __repr__(self) -> str:
        return f"<ProxyConnector through {format_host_port(*self.proxy)}>"

    def __call__(self, host: str, service: str | int, /) -> ae.CondVar[socket.socket]:
        """Connect to the proxy, and have it connect to *host*; see :class:`Connector`."""
        target = _destination(host, service)
        return _Negotiation(self.proxy, target, self._negotiate(target)).result

    def negotiate(self, host: str, service: str | int, /) -> Steps:
        """Return the negotiation with the proxy, for callers that have a connection to it already.

        It does no I/O: a generator that yields a :class:`ProxyStep` and is sent what was read.
        It returns when *host* is at the other end. Throw :class:`EOFError` into it when the proxy
        closes the connection. ``ae_handle.ask_proxy`` does it, on a handle.

        Raises:
            ProxyRefused: While it runs: the proxy does not connect.
            TypeError, ValueError: Immediately, if there can be no such host.
        """
        return self._negotiate(_destination(host, service))

    def _negotiate(self, target: tuple[str, int]) -> Steps:
        steps = self._steps(*target)
        try:
            yield from steps
        except _Refused as refusal:
            code, text, reply = refusal.args
        except EOFError:
            code, text, reply = errno.ECONNRESET, "it closed the connection", None
        else:
            return
        proxy, host = format_host_port(*self.proxy), format_host_port(*target)
        message = f"the proxy {proxy} does not connect to {host}"
        raise ProxyRefused(message, [OSError(code, text)], reply=reply)


# ---------------------------------------------------------------------- the negotiations


class _Refused(Exception):
    """The proxy does not connect us: errno, a text, and what it replied, if it did."""

    def __init__(self, code: int, text: str, reply: int | None = None) -> None:
        super().__init__(code, text, reply)


# RFC 1928, section 6: the reply codes from 1 on.
_SOCKS_REPLIES: Final = (
    (errno.ECONNABORTED, "general failure"),
    (errno.EACCES, "not allowed by its rules"),
    (errno.ENETUNREACH, "network unreachable"),
    (errno.EHOSTUNREACH, "host unreachable"),
    (errno.ECONNREFUSED, "connection refused"),
    (errno.ETIMEDOUT, "TTL expired"),
    (errno.EOPNOTSUPP, "command not supported"),
    (errno.EAFNOSUPPORT, "address type not supported"),
)
_NO_LOGIN: Final = 0
_LOGIN: Final = 2
_BY_NAME: Final = 3
_ADDRESS_SIZES: Final = {1: 4, 4: 16}


def _socks_steps(host: str, port: int, login: tuple[bytes, bytes] | None) -> Steps:
    """RFC 1928, with the login of RFC 1929."""
    methods = bytes((_NO_LOGIN,)) if login is None else bytes((_NO_LOGIN, _LOGIN))
    version, method = yield ProxyStep(bytes((5, len(methods))) + methods, 2)
    _check_version(version, 5)
    if method == _LOGIN and login is not None:
        user, password = login
        request = b"".join((b"\1", bytes((len(user),)), user, bytes((len(password),)), password))
        version, status = yield ProxyStep(request, 2)
        _check_version(version, 1)
        if status:
            raise _Refused(errno.EACCES, "the user or password is wrong")
    elif method != _NO_LOGIN:
        wanted = "a user and password" if login is None else "another method to log in"
        raise _Refused(errno.EACCES, f"it wants {wanted}")
    wanted_host = _socks_address(host) + port.to_bytes(2, "big")
    reply = yield ProxyStep(b"\5\1\0" + wanted_host, 4)
    version, code, _, kind = reply
    _check_version(version, 5)
    if code:
        known = code <= len(_SOCKS_REPLIES)
        number, text = _SOCKS_REPLIES[code - 1] if known else (errno.EPROTO, f"reply {code}")
        raise _Refused(number, text, code)
    if kind == _BY_NAME:
        (size,) = yield ProxyStep(b"", 1)
    elif kind in _ADDRESS_SIZES:
        size = _ADDRESS_SIZES[kind]
    else:
        raise _Refused(errno.EPROTO, f"its reply has an address of type {kind}")
    yield ProxyStep(b"", size + 2)  # where it has bound; not needed


def _check_version(version: int, expected: int) -> None:
    if version != expected:
        raise _Refused(errno.EPROTO, "what it says is not SOCKS 5")


def _socks_address(host: str) -> bytes:
    packed = parse_ipv4(host)
    if packed is not None:
        return b"\1" + packed
    packed = parse_ipv6(host)
    if packed is not None:
        return b"\4" + packed
    name = host.encode("ascii")
    return bytes((_BY_NAME, len(name))) + name


_HTTP_CODES: Final = {
    401: errno.EACCES,
    403: errno.EACCES,
    407: errno.EACCES,
    502: errno.EHOSTUNREACH,
    504: errno.ETIMEDOUT,
}


@cache
def _status_line() -> re.Pattern[bytes]:
    import re  # at first use: it takes as long as half of this package

    return re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9][0-9])(?: ([^\r\n]*))?\r?\n")


def _http_steps(host: str, port: int, fields: bytes) -> Steps:
    """RFC 9110, section 9.3.6."""
    authority = format_host_port(host, port).encode("ascii")
    request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, fields)
    while True:
        head = yield ProxyStep(request, _MAX_HEAD, is_head=True)
        request = b""
        if not _end_of_head(head):
            raise _Refused(errno.EPROTO, "its answer has no end")
        line = _status_line().match(head)
        if line is None:
            raise _Refused(errno.EPROTO, "what it says is not HTTP")
        status = int(line[1])
        if status >= 200:  # else an interim answer; another follows
            break
    if status >= 300:
        reason = ascii((line[2] or b"").decode("latin-1"))[1:-1]
        code = _HTTP_CODES.get(status, errno.ECONNREFUSED)
        raise _Refused(code, f"{status} {reason}".rstrip(), status)


# ---------------------------------------------------------------------- the operation


class _Negotiation:
    """Connects to a proxy and negotiates; owns the socket until the operation is sent."""

    __slots__ = (
        "_connecting",
        "_loop_end",
        "_read",
        "_sock",
        "_steps",
        "_texts",
        "_unsent",
        "_wanted",
        "_watch",
        "result",
    )

    def __init__(self, proxy: tuple[str, str | int], target: tuple[str, int], steps: Steps) -> None:
        self._texts = (format_host_port(*proxy), format_host_port(*target))
        self.result: ae.CondVar[socket.socket] = ae.CondVar(
            cancel=self._end,
            untaken=close_socket,
            describe=partial("connect to {1} through {0}".format, *self._texts),
        )
        self._steps = steps
        self._sock: socket.socket | None = None
        self._watch: ae.Watcher | None = None
        self._read = bytearray()
        self._unsent = b""
        self._wanted = ProxyStep(b"", 0)
        self._connecting: ae.CondVar[socket.socket] | None = tcp_connect(*proxy)
        self._connecting.on_ready(self._connected)
        # else its socket would stay open until the collector finds it
        self._loop_end = at_loop_end(self._end, at_quit=False)

    def _connected(self, connecting: ae.CondVar[socket.socket]) -> None:
        self._connecting = None
        if connecting.cancelled:
            return
        proxy, target = self._texts
        error = connecting.error
        if error is None:
            self._sock = connecting.recv()
            self._step(None)
        elif isinstance(error, OSError):
            where = f"cannot connect to {target}: the proxy {proxy} cannot be reached"
            self._throw(ConnectFailed(where, [error]))
        else:
            self._throw(error)

    def _step(self, answer: bytes | None) -> None:
        try:
            step = next(self._steps) if answer is None else self._steps.send(answer)
        except StopIteration:
            sock, self._sock = self._sock, None
            assert sock is not None
            self._end()
            self.result.send(sock)
            return
        except ConnectFailed as refusal:
            self._throw(refusal)
            return
        self._wanted = step
        self._unsent = step.data
        self._read.clear()
        self._send()

    def _send(self) -> None:
        sock = self._sock
        assert sock is not None
        try:
            while self._unsent:
                self._unsent = self._unsent[sock.send(self._unsent) :]
        except BlockingIOError:
            self._watch = ae.io(sock, "w", self._send, on_refused=self._broken)
        except OSError as error:
            self._broken(error)
        else:
            self._watch = ae.io(sock, "r", self._receive, on_refused=self._broken)

    def _receive(self) -> None:
        sock = self._sock
        assert sock is not None
        try:
            data = sock.recv(self._size_to_read(sock))
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(error)
            return
        self._read += data
        if not data:
            self._hung_up()
        elif self._wanted.end_of_answer(self._read):
            self._answered()

    def _size_to_read(self, sock: socket.socket) -> int:
        """Return how much may be read: nothing that is behind the answer."""
        left = self._wanted.size - len(self._read)
        if not self._wanted.is_head:
            return left
        peeked = sock.recv(left, socket.MSG_PEEK)
        if not peeked:
            return 1  # the end
        before = bytes(self._read[-3:])  # the empty line may have begun there
        end = _end_of_head(before + peeked)
        return end - len(before) if end else len(peeked)

    def _answered(self) -> None:
        self._watch = None
        self._step(bytes(self._read))

    # ------------------------------------------------------------------ the end

    def _hung_up(self) -> None:
        try:
            self._steps.throw(EOFError())
        except ConnectFailed as refusal:
            self._throw(refusal)

    def _broken(self, error: OSError) -> None:
        proxy, target = self._texts
        where = f"cannot connect to {target}: the connection to the proxy {proxy} broke"
        self._throw(ConnectFailed(where, [error]))

    def _throw(self, error: BaseException) -> None:
        self._end()
        self.result.throw(error)

    def _end(self) -> None:
        self._loop_end.cancel()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        sock, self._sock = self._sock, None
        if sock is not None:
            close_socket(sock)
        self._steps.close()


def _end_of_head(data: bytes | bytearray) -> int:
    """Return where the empty line ends that ends a head, 0 if there is none yet."""
    found = [end + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (end := data.find(mark)) >= 0]
    return min(found, default=0)


# ---------------------------------------------------------------------- public functions


def socks5(
    proxy: tuple[str, str | int], *, user: str | None = None, password: str | None = None
) -> ProxyConnector:
    """Return a connector through a SOCKS 5 proxy (RFC 1928, 1929).

    Args:
        proxy: ``(host, service)`` of the proxy.
        user, password: With what to log in, if the proxy asks; both or none. They are sent as
            plaintext.

    A name is resolved by the proxy, not here. The connection fails with
    :class:`ProxyRefused` if the proxy does not connect, and says why, else with
    :class:`ConnectFailed`: the proxy could not be reached.

    Raises:
        TypeError, ValueError: If an argument is of the wrong kind, a user or password empty or
            longer than 255 bytes; of the connector, if there can be no such host.
    """
    proxy = _check_proxy(proxy)
    if (user is None) != (password is None):
        raise ValueError("expected both user and password, or none")
    login: tuple[bytes, bytes] | None = None
    if user is not None and password is not None:
        login = _credential("user", user), _credential("password", password)
    return ProxyConnector(proxy, partial(_socks_steps, login=login))


def http_connect(
    proxy: tuple[str, str | int],
    *,
    user: str | None = None,
    password: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> ProxyConnector:
    """Return a connector through an HTTP proxy, by CONNECT (RFC 9110, section 9.3.6).

    Args:
        proxy: ``(host, service)`` of the proxy.
        user, password: With what to log in (Basic, RFC 7617); both or none. Sent as plaintext.
        headers: Further fields of the request, as pairs of name and value.

    A name is resolved by the proxy, not here. The connection fails with
    :class:`ProxyRefused` if the proxy does not connect, and says why, else with
    :class:`ConnectFailed`: the proxy could not be reached. What the host sends right behind the
    proxy's answer is left in the socket.

    Raises:
        TypeError, ValueError: If an argument is of the wrong kind, a field has a line break, or
            the user a colon; of the connector, if there can be no such host.
    """
    proxy = _check_proxy(proxy)
    if (user is None) != (password is None):
        raise ValueError("expected both user and password, or none")
    fields = [*headers]
    if user is not None and password is not None:
        if ":" in user:
            raise ValueError(f"expected a user without a colon, got {user!r}")
        from base64 import b64encode

        token = b64encode(f"{user}:{password}".encode()).decode("ascii")
        fields.append(("Proxy-Authorization", f"Basic {token}"))
    encoded = b"".join(map(_field, fields))
    return ProxyConnector(proxy, partial(_http_steps, fields=encoded))


def _check_proxy(proxy: object) -> tuple[str, str | int]:
    if not isinstance(proxy, tuple) or len(proxy) != 2:
        raise TypeError(f"expected proxy as (host, service), got {proxy!r}")
    host, service = proxy
    check_target(host, service)
    return host, service


def _credential(what: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"expected {what} as str, got {type(text).__name__}")
    encoded = text.encode()
    if not 1 <= len(encoded) <= 255:
        raise ValueError(f"expected {what} of 1 to 255 bytes, got {len(encoded)}")
    return encoded


def _field(field: tuple[Any, Any]) -> bytes:
    name, value = field
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"expected a header as two str, got {name!r}")
    if not name or set(name) - _FIELD_NAME or set(value) & set("\r\n\0"):
        raise ValueError(f"expected a header of one line, got {name!r}")
    return f"{name}: {value}\r\n".encode("latin-1")


def _destination(host: str, service: str | int) -> tuple[str, int]:
    """Return host and port for a proxy; refuse, before it is asked, what none can connect to."""
    check_target(host, service)
    if host == "unix/":
        raise ValueError("expected a host that a proxy can connect to, got a UNIX socket")
    host = host_to_ascii(host)
    if "%" in host:
        raise ValueError(f"expected a host without a scope, which means nothing there: {host!r}")
    return host, parse_service(service, "stream")[1]
