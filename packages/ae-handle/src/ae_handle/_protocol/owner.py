"""What the parts of a handle may ask of it.

A handle ends when its last reference is dropped, so its parts do not refer to it: it passes
itself to their methods, as *owner*. They hand it to callbacks and use nothing else of it.
"""

from __future__ import annotations

__all__ = ("Owner", "Sender")

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .._errors import HandleError, TlsError


class Owner(Protocol):
    """The handle that a part belongs to."""

    def _fail(self, error: HandleError) -> None:
        """Report *error*; if it is fatal, end the handle."""

    def _callback_failed(self, error: BaseException) -> None:
        """Report what a callback of the program raised to the exception hook."""


class Sender(Protocol):
    """The handle whose write side sends."""

    def _encryption_failed(self, error: TlsError) -> None:
        """Note that what is to be sent cannot be encrypted, because of *error*."""
