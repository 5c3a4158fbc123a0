"""Every error a handle reports, in one tree.

Sans-I/O: definitions only. ``ae_tls`` raises the classes defined here, so that a handler
written against ``ae_handle`` catches the errors of every TLS engine::

    AEError (ae_core)
    └── HandleError, an OSError with .errno and .fatal
        ├── UnexpectedEOF        EPIPE      the stream ended inside a request, or unhandled
        ├── BufferLimitExceeded  ENOSPC     max_read_buffer or max_write_buffer
        ├── BadMessage           EBADMSG    the peer sent what the reader refuses; not fatal
        ├── TransportError       any        what the operating system said
        ├── HandleTimedOut       ETIMEDOUT  a timeout without a callback, not fatal; a handshake
        ├── TlsError             EPROTO     .reason says which check failed
        │   └── TlsUnavailable   EPROTO     no TLS engine is installed
        └── HandleDestroyed      ECANCELED  the handle was destroyed under a pending operation
"""

from __future__ import annotations

__all__ = (
    "BadMessage",
    "BufferLimitExceeded",
    "HandleDestroyed",
    "HandleError",
    "HandleTimedOut",
    "TlsError",
    "TlsUnavailable",
    "TransportError",
    "UnexpectedEOF",
)

import errno as _errno

from ae_core import AEError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


class HandleError(AEError, OSError):
    """What went wrong on a handle.

    Args:
        message: One line to read; ``str(error)`` is exactly this.
        errno: The error number, by default the one of the class.
        fatal: Whether the handle is beyond use; by default the class decides.

    Attributes:
        errno: The error number, for programs that sort errors by class.
        fatal: True if the handle is destroyed as soon as ``on_error`` returns.
        default_errno: The class's own error number.
        default_fatal: Whether errors of the class are fatal.
        default_message: The class's own text.
        default_reason: The class's own reason, where it has one.

    Perl: the arguments ``$fatal, $message`` of ``on_error``, and ``$!``
    """

    default_errno: ClassVar[int] = _errno.EIO
    default_fatal: ClassVar[bool] = True
    default_message: ClassVar[str] = "handle error"

    fatal: bool

    def __init__(
        self,
        message: str | None = None,
        *,
        errno: int | None = None,
        fatal: bool | None = None,
    ) -> None:
        OSError.__init__(
            self,
            self.default_errno if errno is None else errno,
            self.default_message if message is None else message,
        )
        self.fatal = self.default_fatal if fatal is None else fatal

    def __str__(self) -> str:
        return self.strerror or ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}, errno={self.errno!r}, fatal={self.fatal!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),), {**self.__dict__, "errno": self.errno}


class UnexpectedEOF(HandleError):
    """The peer closed the stream inside a request, or the program does not handle the end."""

    default_errno: ClassVar[int] = _errno.EPIPE
    default_message: ClassVar[str] = "unexpected end-of-file"


class BufferLimitExceeded(HandleError):
    """More unread or unsent data than ``max_read_buffer`` or ``max_write_buffer`` allows."""

    default_errno: ClassVar[int] = _errno.ENOSPC
    default_message: ClassVar[str] = "buffer limit exceeded"


class BadMessage(HandleError):
    """The peer sent something a reader refuses.

    A reader raises it; it then must not have consumed anything.
    """

    default_errno: ClassVar[int] = _errno.EBADMSG
    default_fatal: ClassVar[bool] = False
    default_message: ClassVar[str] = "malformed message"


class TransportError(HandleError):
    """The operating system refused a read, a write or a connection attempt.

    ``errno`` and the text are the system's; ``__cause__`` is the original error.
    """

    default_message: ClassVar[str] = "transport error"


class HandleTimedOut(HandleError, TimeoutError):
    """A timeout has passed: one of ``timeout`` and its kin without a callback, or the handshake.

    Attributes:
        reason: ``"timed-out"``, always: as that of a :class:`TlsError`, for code that is told
            how a handshake failed.
    """

    default_errno: ClassVar[int] = _errno.ETIMEDOUT
    default_fatal: ClassVar[bool] = False
    default_message: ClassVar[str] = "timed out"
    reason: ClassVar[str] = "timed-out"


class TlsError(HandleError):
    """The TLS layer failed.

    Args:
        message: One line to read.
        reason: Which check failed, as a word for programs: ``untrusted``, ``expired``,
            ``wrong-name``, ``protocol``, ``truncated`` and so on.

    Attributes:
        reason: The word.
    """

    default_errno: ClassVar[int] = _errno.EPROTO
    default_message: ClassVar[str] = "TLS failure"
    default_reason: ClassVar[str] = "protocol"

    reason: str

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        errno: int | None = None,
        fatal: bool | None = None,
    ) -> None:
        super().__init__(message, errno=errno, fatal=fatal)
        self.reason = self.default_reason if reason is None else reason


class TlsUnavailable(TlsError):
    """TLS was asked for by name only, and no package that provides it is installed."""

    default_message: ClassVar[str] = (
        "no TLS engine is installed: install ae-tls, or pass tls_context="
    )
    default_reason: ClassVar[str] = "unavailable"


class HandleDestroyed(HandleError):
    """The handle was destroyed while the operation was pending, or before it began.

    Attributes:
        ended_by_program: True: not logged if it is never read (``CondVar.throw``).
    """

    ended_by_program: ClassVar[bool] = True
    default_errno: ClassVar[int] = _errno.ECANCELED
    default_message: ClassVar[str] = "handle was destroyed"


def without_frames(error: HandleError) -> HandleError:
    """Return a copy of *error* without the frames that it has passed through.

    These refer to the handle, which keeps it; and one exception raised in several places shows
    the tracebacks of all of them.
    """
    kind = type(error)
    copy: HandleError = kind.__new__(kind)
    OSError.__init__(copy, error.errno, error.strerror)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


# Where users import them from: what tracebacks and pickles say.
for _name in __all__:
    globals()[_name].__module__ = "ae_handle"
