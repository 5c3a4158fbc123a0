"""Every error that ``ae_core`` raises on its own account, in one tree.

BaseException
  CancelledError            a wait whose operation was cancelled
Exception
  AEError                   the root of all errors of the five packages
    BlockingNotAllowed      recv() where blocking would freeze a running loop
    RecursiveWait           recv() inside another recv()
    Deadlock                recv() that nothing could ever end
    BackendUnavailable      a backend whose library is not installed
    WrongLoop               a watcher, or a wait, for a loop that is not this thread's
"""

from __future__ import annotations

__all__ = (
    "AEError",
    "BackendUnavailable",
    "BlockingNotAllowed",
    "CancelledError",
    "Deadlock",
    "RecursiveWait",
    "StrictWarning",
    "WrongLoop",
)


class AEError(Exception):
    """The root of all errors defined by the AnyEvent packages."""


class BlockingNotAllowed(AEError, RuntimeError):
    """A blocking ``recv()`` was tried where a foreign loop already runs in this thread.

    Blocking there would stop the very loop that has to finish the wait. The text says what to
    write instead: usually ``await cv``.
    """


class RecursiveWait(AEError, RuntimeError):
    """A blocking ``recv()`` was tried while another one is on the stack of this thread.

    Perl: ``AnyEvent::CondVar: recursive blocking wait attempted``
    """


class Deadlock(AEError, RuntimeError):
    """A blocking ``recv()`` could never end: no watcher and no pending operation is left."""


class BackendUnavailable(AEError, ImportError):
    """A backend was asked for by name, but the library it adapts is not installed."""


class WrongLoop(AEError, RuntimeError):
    """A watcher belongs to a loop that has ended, or another loop runs in this thread."""


class CancelledError(BaseException):
    """The operation behind a condition variable was cancelled.

    Not an :class:`Exception`, so that a broad ``except Exception`` in a coroutine does not
    swallow a cancellation. It is our own class because importing asyncio's costs tens of
    milliseconds; where asyncio runs, what is raised is also an ``asyncio.CancelledError``.

    A *task* is cancelled with what its loop uses, see :func:`ae_core.cancelled_class`.
    """


class StrictWarning(UserWarning):
    """Something that is no error by itself, but hardly ever meant."""


StrictWarning.__module__ = "ae_core.strict"
