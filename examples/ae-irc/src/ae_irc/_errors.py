"""What can go wrong.

::

    IrcError (AEError, OSError)
        CannotConnect           no connection, or the server does not let us in
            Refused             the server says no, for good: a password, a ban, no nick is left
                SaslFailed      the account is not ours
        ConnectionLost          the connection has ended
            PingTimedOut        nothing was heard any more
        CannotJoin              the server does not let us into a channel
        ClientClosed            the program has closed the client
    BadLine (ValueError)        no line of IRC; a client leaves those out
"""

from __future__ import annotations

__all__ = (
    "CannotConnect",
    "CannotJoin",
    "ClientClosed",
    "ConnectionLost",
    "IrcError",
    "PingTimedOut",
    "Refused",
    "SaslFailed",
)

import errno as errnos
from typing import ClassVar

from ae_core import AEError


class IrcError(AEError, OSError):
    """What all errors of a client are.

    Attributes:
        errno: The number of the system's error behind it, or one that comes near it.
    """

    _number = errnos.EPROTO

    def __init__(self, text: str, *, errno: int = 0) -> None:
        super().__init__(errno or self._number, text)

    def __str__(self) -> str:
        return str(self.strerror)


class CannotConnect(IrcError):
    """No connection could be made, or the server does not let us in at the moment."""

    _number = errnos.ECONNREFUSED


class Refused(CannotConnect):
    """The server says no, and will again: it is not tried once more."""

    _number = errnos.EACCES


class SaslFailed(Refused):
    """The server does not take us for who we say we are, or cannot tell."""


class ConnectionLost(IrcError):
    """The connection has ended."""

    _number = errnos.ECONNRESET


class PingTimedOut(ConnectionLost):
    """The server did not answer for a sign of life."""

    _number = errnos.ETIMEDOUT


class CannotJoin(IrcError):
    """The server does not let us into a channel.

    Attributes:
        channel: Which one.
        numeric: The server's number for the reason, such as ``474``: banned.
    """

    _number = errnos.EACCES

    def __init__(self, text: str, *, channel: str, numeric: str) -> None:
        super().__init__(text)
        self.channel = channel
        self.numeric = numeric


class ClientClosed(IrcError):
    """The program has closed the client.

    Attributes:
        ended_by_program: True: not logged if it is never read.
    """

    ended_by_program: ClassVar[bool] = True

    _number = errnos.EBADF
