"""Strict mode: mistakes in the use of watchers are found, and named, where they are made.

Switched on by ``AE_STRICT=1`` or :func:`enable`; costs nothing while it is off. This is the
public part; the checks are in ``_checks``, the search for blocking callbacks is in ``_watchdog``.
"""

from __future__ import annotations

__all__ = ("StrictWarning", "disable", "enable", "enabled")

from .._base.errors import StrictWarning as StrictWarning

# What it finds, and how
# ----------------------
# bad arguments            TypeError or ValueError from the call itself: a callback that cannot be
#                          called the way it will be, a regular file (always ready: the loop would
#                          spin), a descriptor that is not open
# a watcher thrown away    StrictWarning at the line of the expression that made and dropped it
# a descriptor closed or   critical log message; the descriptors that are watched are looked at
# reused while watched     every 4 seconds
# a callback that blocks   error log message with the stack, while it blocks, once it has run for
#                          AE_STRICT_SLOW (0.5) seconds; another with the time when it is over
# an error never read      the log line about it says by which line its operation was made


def enable() -> None:
    """Check every watcher that is made from now on, in all threads. Idempotent.

    ``AE_STRICT_SLOW`` is read now: how many seconds a callback may take, 0.5 if it is not set,
    0 for any time.

    Perl: ``use AnyEvent::Strict``
    """
    from . import _checks

    _checks.enable()


def disable() -> None:
    """Check nothing any more; watchers that exist keep their checks. Idempotent."""
    from . import _checks

    _checks.disable()


def enabled() -> bool:
    """Return whether strict mode is on."""
    from . import _checks

    return _checks.is_enabled()
