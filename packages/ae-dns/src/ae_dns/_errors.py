"""What a lookup can fail with.

::

    ResolveError(AEError, OSError)       errno ENXIO, .rcode
     +- NoSuchName                       the name does not exist (NXDOMAIN)
     +- NoData                           the name exists, but has no such record
     +- ServerFailed                     no server gave a usable answer; the text says why
     +- QueryTimedOut                    no server answered in time

``ResolveError`` itself is raised for names that cannot be asked for (too long,
empty labels) and for alias chains that never end. Nothing here does I/O.
"""

from __future__ import annotations

__all__ = ("NoData", "NoSuchName", "QueryTimedOut", "ResolveError", "ServerFailed")

import errno
from typing import TYPE_CHECKING

from ae_core import AEError

if TYPE_CHECKING:
    import dns.rcode


class ResolveError(AEError, OSError):
    """A name could not be resolved.

    Attributes:
        errno: Always ``ENXIO``, as upstream reports it.
        rcode: The response code of the last server that answered, as a
            ``dns.rcode.Rcode``; ``None`` if no server answered or none was asked.
    """

    def __init__(self, message: str, rcode: int | None = None) -> None:
        super().__init__(errno.ENXIO, message)
        self._rcode = rcode

    def __reduce__(self) -> tuple[type[ResolveError], tuple[str, int | None]]:
        return type(self), (self.strerror or "", self._rcode)

    def __str__(self) -> str:
        return self.strerror or ""

    @property
    def rcode(self) -> dns.rcode.Rcode | None:
        if self._rcode is None:
            return None
        import dns.rcode

        return dns.rcode.Rcode.make(self._rcode)


class NoSuchName(ResolveError):
    """The servers say that the name does not exist (NXDOMAIN)."""


class NoData(ResolveError):
    """The name exists, but has no record of the type that was asked for."""


class ServerFailed(ResolveError):
    """No server gave a usable answer, although time did not run out; the text says why.

    They answered with a response code (``rcode`` is the last one's), or with replies that cannot
    be read, or none of them could be asked (``rcode`` is ``None``).
    """


class QueryTimedOut(ResolveError):
    """Time ran out: no server answered, and one at least was waited for until its timeout."""
