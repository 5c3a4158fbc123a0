"""What can go wrong here.

::

    AEError, OSError
    ├── ConnectFailed     no target could be reached
    │   └── ProxyRefused  a proxy could, and does not connect
    └── ResolveFailed     a name has no address, or a scope no interface

Local mistakes are ``TypeError`` and ``ValueError``; everything else of the kernel's is a plain
``OSError``.
"""

from __future__ import annotations

__all__ = ("ConnectFailed", "ProxyRefused", "ResolveFailed")

import errno as _errno
import os

from ae_core import AEError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class ConnectFailed(AEError, OSError):
    """No target could be reached.

    ``errors`` is the tuple of what happened, one ``OSError`` for each attempt in the order of
    the attempts; ``errno`` is the last one's, ENXIO if there was no address to try (then
    ``errors`` holds what the resolver said, if it said anything), ETIMEDOUT if time ran out.
    The text names every target.

    Perl: the callback of ``tcp_connect`` without arguments, and ``$!``
    """

    errors: tuple[OSError, ...]

    def __init__(
        self, message: str, errors: Iterable[OSError] = (), *, errno: int | None = None
    ) -> None:
        self.errors = tuple(errors)
        if errno is None:
            errno = (self.errors[-1].errno if self.errors else None) or _errno.ENXIO
        reasons = "; ".join(_reason(error) for error in self.errors) or os.strerror(errno)
        super().__init__(errno, f"{message}: {reasons}")
        self._message = message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._message, self.errors, self.errno)


def _rebuild(message: str, errors: tuple[OSError, ...], errno: int) -> ConnectFailed:
    return ConnectFailed(message, errors, errno=errno)


class ProxyRefused(ConnectFailed):
    """A proxy was reached, and does not connect.

    ``reply`` is what it has answered: the status of HTTP, 407 say, or the reply of SOCKS (RFC
    1928, section 6); None if it was no answer of that kind: it closed the connection, wants
    another user, speaks something else. ``errno`` is the code that fits best.
    """

    reply: int | None

    def __init__(
        self, message: str, errors: Iterable[OSError] = (), *, reply: int | None = None
    ) -> None:
        super().__init__(message, errors)
        self.reply = reply

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_refusal, (self._message, self.errors, self.reply)


def _rebuild_refusal(message: str, errors: tuple[OSError, ...], reply: int | None) -> ProxyRefused:
    return ProxyRefused(message, errors, reply=reply)


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if isinstance(error.filename, str) else reason


class ResolveFailed(AEError, OSError):
    """A name has no address. ``errno`` is ENXIO; the resolver's own error is the cause."""

    def __init__(self, message: str) -> None:
        super().__init__(_errno.ENXIO, message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.strerror,)
