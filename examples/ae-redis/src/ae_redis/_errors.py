"""Every error a client reports, in one tree.

Sans-I/O: definitions only::

    AEError (ae_core)
    └── RedisError
        ├── ReplyError               the server refused the command: .code, str()
        │   └── AuthenticationFailed   it refused the password, or wants one
        ├── TransactionAborted       a watched key has changed, or may have: nothing was executed
        ├── CannotConnect, an OSError          no server answers: nothing was sent
        ├── ConnectionLost, an OSError         the connection ended: .maybe_executed
        │   ├── ProtocolError                    because the server sent nonsense
        │   └── ReplyTimedOut, a TimeoutError    because the server did not answer
        └── ClientClosed             by close(), before the answer: .maybe_executed

``maybe_executed`` is what a caller has to know before trying again: False means that the server
has never seen the command, True that it may have executed it.
"""

from __future__ import annotations

__all__ = (
    "AuthenticationFailed",
    "CannotConnect",
    "ClientClosed",
    "ConnectionLost",
    "ProtocolError",
    "RedisError",
    "ReplyError",
    "ReplyTimedOut",
    "TransactionAborted",
    "passes",
)

import errno as _errno
from typing import Any, ClassVar

from ae_core import AEError
from ae_core.console import printable

_PASSING = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "TRYAGAIN"})


class RedisError(AEError):
    """What went wrong with a command.

    Attributes:
        maybe_executed: Whether the server may have executed the command.
    """

    maybe_executed: bool = False


class ReplyError(RedisError):
    """An error reply: the server has understood the command and refuses it.

    Args:
        text: What the server said, code and all: ``WRONGTYPE Operation against a key ...``. What
            is not printable in it becomes escapes: it may come from a stranger, and be meant
            for a terminal or a log.

    Attributes:
        code: Its first word, ``ERR`` for most.
    """

    def __init__(self, text: str) -> None:
        text = printable(text)
        super().__init__(text)
        self.code = text.partition(" ")[0]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))


class AuthenticationFailed(ReplyError):
    """The server does not accept the user name and password, or wants them and has none."""


class TransactionAborted(RedisError):
    """Nothing of the transaction was executed: a watched key has changed.

    Or it may have: the connection on which it was watched is not there any more.
    """


class _ConnectionError(RedisError, OSError):
    """The common ground of what ends a connection."""

    def __init__(self, text: str, *, errno: int = _errno.EIO, maybe_executed: bool = False) -> None:
        super().__init__(errno, text)
        self.maybe_executed = maybe_executed

    def __str__(self) -> str:
        return self.strerror or ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"errno": self.errno, "maybe_executed": self.maybe_executed}
        return type(self), (str(self),), state


class CannotConnect(_ConnectionError):
    """There is no connection, and there was none at the last attempts.

    ``errno`` and ``__cause__`` are those of the last attempt.
    """


class ConnectionLost(_ConnectionError):
    """The connection ended before the reply. The command is never sent again by itself."""


class ProtocolError(ConnectionLost):
    """The server sent what is no RESP, or more than the limits allow."""

    def __init__(self, text: str, *, errno: int = _errno.EBADMSG, maybe_executed: bool = False):
        super().__init__(text, errno=errno, maybe_executed=maybe_executed)


class ReplyTimedOut(ConnectionLost, TimeoutError):
    """The timeout has passed; the connection was given up, for its next reply came too late."""

    def __init__(self, text: str, *, errno: int = _errno.ETIMEDOUT, maybe_executed: bool = False):
        super().__init__(text, errno=errno, maybe_executed=maybe_executed)


class ClientClosed(RedisError):
    """The client was closed before the reply, or before the command.

    Attributes:
        ended_by_program: True: not logged if it is never read.
    """

    ended_by_program: ClassVar[bool] = True

    def __init__(self, text: str = "the client was closed", *, maybe_executed: bool = False):
        super().__init__(text)
        self.maybe_executed = maybe_executed


def passes(error: RedisError) -> bool:
    """Whether the server says no for the moment only: it is loading, busy, or full."""
    return isinstance(error, ReplyError) and (
        error.code in _PASSING or str(error).startswith("ERR max number of clients")
    )
