"""A pytest plugin: sockets that answer as Winsock does, for a suite that knows nothing of it.

    python -m pytest -p tools.winsock tests/socket

What differs from POSIX, as far as programs can see it: error numbers (10061 instead of 111, also in
``errno``), a connect under way that says 10035, a failed connect that no loop reports and only the
exception set of ``select()`` shows, at most 512 sockets in that and never three empty sets, an
``SO_REUSEADDR`` that is not to be used, datagrams to nobody that fail the next receive with 10054,
and what is not there: UNIX sockets, ``SO_REUSEPORT``, ``TCP_INFO``. The system beneath stays what
it is, so this is no proof of Windows: ``tools/windows_tests.sh`` runs the suite on a Python for it.

Must be loaded before ae_socket, as ``-p`` does.
"""

from __future__ import annotations

import errno
import select
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, cast

import pytest

#: Winsock's numbers, by the names that ``errno`` has for them.
CODES: Final = {
    "EWOULDBLOCK": 10035, "EINPROGRESS": 10036, "EALREADY": 10037, "ENOTSOCK": 10038,
    "EDESTADDRREQ": 10039, "EMSGSIZE": 10040, "EPROTOTYPE": 10041, "ENOPROTOOPT": 10042,
    "EPROTONOSUPPORT": 10043, "EOPNOTSUPP": 10045, "EAFNOSUPPORT": 10047, "EADDRINUSE": 10048,
    "EADDRNOTAVAIL": 10049, "ENETDOWN": 10050, "ENETUNREACH": 10051, "ENETRESET": 10052,
    "ECONNABORTED": 10053, "ECONNRESET": 10054, "ENOBUFS": 10055, "EISCONN": 10056,
    "ENOTCONN": 10057, "ETIMEDOUT": 10060, "ECONNREFUSED": 10061, "EHOSTDOWN": 10064,
    "EHOSTUNREACH": 10065,
}  # fmt: skip
#: The classes that Python for Windows has for them.
CLASSES: Final = {
    10035: BlockingIOError,
    10053: ConnectionAbortedError,
    10054: ConnectionResetError,
    10060: TimeoutError,
    10061: ConnectionRefusedError,
}
#: The system's own numbers, before ``errno`` tells the others.
OF_SYSTEM: Final = {getattr(errno, name): code for name, code in CODES.items()}
WOULD_BLOCK: Final = (errno.EAGAIN, errno.EINPROGRESS)
#: What Python for Windows does not have.
ABSENT: Final = ("AF_UNIX", "SO_REUSEPORT", "TCP_INFO", "MSG_DONTWAIT", "SO_PEERCRED")
#: Its SO_EXCLUSIVEADDRUSE is ``~SO_REUSEADDR``.
EXCLUSIVE: Final = ~socket.SO_REUSEADDR
SELECT_LIMIT: Final = 512

_CHILD: Final = "its program runs in a child, on the system's own sockets"
_CLASS: Final = "Python for Windows makes a ConnectionRefusedError of OSError(10061), not this one"
_LATE: Final = "there a refusal is seen by looking, every 0.1 s, which is too late for this test"
#: Tests that cannot pass on these sockets, and why.
EXCLUDED: Final[dict[str, str]] = {
    "test_error_names_every_target_and_keeps_every_error": _CLASS,
    "test_on_prepare_returns_the_time_out_of_its_attempt": _CLASS,
    "test_timeout_keeps_the_errors_that_came_before": _LATE,
    "test_errors_stand_in_the_order_of_the_attempts": _LATE,
    "test_failures_are_one_line_and_status_one": _CHILD,
    "test_everything_dead_times_out_with_every_error": _CHILD,
    "test_everything_unreachable_fails_without_a_time_out": _CHILD,
    "test_reuse_port_shares_the_port": "there is no SO_REUSEPORT",
    "test_closed_listening_socket_is_noticed": "there is no TCP_INFO",
    "test_numbers_and_localhost_are_answered_without_a_resolver[unix/-/path-4-expected15]": (
        "there are no UNIX sockets"
    ),
}


def translated(error: OSError, kind: int) -> OSError:
    """Return what Winsock would have said."""
    number = error.errno or 0
    if kind == socket.SOCK_DGRAM and number == 111:
        code = 10054
    elif number in WOULD_BLOCK:
        code = 10035
    else:
        code = OF_SYSTEM.get(number, number)
    if code == number:
        return error
    return CLASSES.get(code, OSError)(code, f"[WinError {code}] {error.strerror}")


def speaking(name: str) -> Callable[..., Any]:
    """Return the method of that name, with other errors."""
    original = getattr(socket.socket, name)

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return original(self, *arguments, **options)
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            raise translated(error, self.type) from None

    method.__name__ = name
    return method


class WinsockSocket(socket.socket):
    """A socket of the system that speaks like Winsock's."""

    __slots__ = ()

    def connect_ex(self, address: Any) -> int:
        code = super().connect_ex(address)
        return 10035 if code in WOULD_BLOCK else OF_SYSTEM.get(code, code)

    def getsockopt(self, level: int, option: int, *size: int) -> Any:
        try:
            value = super().getsockopt(level, option, *size)
        except OSError as error:
            raise translated(error, self.type) from None
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and not size:
            return OF_SYSTEM.get(value, value)
        return value

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        if (level, option) == (socket.SOL_SOCKET, EXCLUSIVE):
            # what it means there: the port of connections that are over may be had, and no other
            option = socket.SO_REUSEADDR
        try:
            super().setsockopt(level, option, *value)
        except OSError as error:
            raise translated(error, self.type) from None


for _name in (
    "_accept", "bind", "connect", "getpeername", "listen", "recv", "recv_into", "recvfrom",
    "recvfrom_into", "send", "sendall", "sendto", "shutdown",
):  # fmt: skip
    setattr(WinsockSocket, _name, speaking(_name))


def socketpair(*_: int) -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are connected over the loopback, as Python for Windows does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.socket()  # not create_connection, which asks for the name
        left.connect(server.getsockname())
        right, _ = server.accept()
    return left, right


def has_failed(sock: Any) -> bool:
    """Return whether a connect has failed, and leave the error where it is."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Select:
    """Winsock's ``select()``, as far as it is asked for failed connects."""

    @staticmethod
    def select(
        readers: list[Any], writers: list[Any], failing: list[Any], timeout: float
    ) -> tuple[list[Any], list[Any], list[Any]]:
        if not (readers or writers or failing):
            raise OSError(10022, "three empty sets")
        if max(map(len, (readers, writers, failing))) > SELECT_LIMIT:
            raise ValueError("too many file descriptors in select()")
        return [], [], [sock for sock in failing if has_failed(sock)]


class Loops:
    """``ae_core`` for pending connects: its loops see nothing of one that fails."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def io(self, sock: Any, direction: str, callback: Callable[[], None], **options: Any) -> Any:
        def writable() -> None:
            if has_failed(sock):
                watcher.cancel()
            else:
                callback()

        watcher = self.original.io(sock, direction, writable, **options)
        return watcher


def install() -> None:
    """Have every module that is imported from now on find Winsock."""
    assert "ae_socket" not in sys.modules, "too late: ae_socket has been imported"
    for name in ABSENT:
        if hasattr(socket, name):
            delattr(socket, name)
        if name in socket.__all__:
            socket.__all__.remove(name)
    for name, code in CODES.items():
        setattr(errno, name, code)
        cast("dict[int, str]", errno.errorcode)[code] = f"WSA{name}"
    socket.SO_EXCLUSIVEADDRUSE = EXCLUSIVE  # type: ignore[attr-defined]
    socket.socket = WinsockSocket  # type: ignore[misc]
    socket.socketpair = socketpair  # type: ignore[assignment]
    from ae_socket import _windows

    windows: Any = _windows
    windows.ACTIVE = True
    windows._select = Select
    windows.ae = Loops(windows.ae)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    install()  # before a conftest.py imports ae_socket


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = EXCLUDED.get(item.name) or EXCLUDED.get(getattr(item, "originalname", ""))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
