"""Hooks that a subclass has forgotten: type checkers see it, where no metaclass does at run time.

Checked by mypy and pyright, never run. An error that is not found any more makes its comment
superfluous, which both report.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

from ae_core import Watcher
from ae_core.abc import Cancellable
from ae_handle._protocol.read_queue import PendingRead, PendingRequest
from ae_handle._requests import Requests


class Forgetful(Cancellable):
    """Does not define ``cancel``."""


class Complete(Cancellable):
    def cancel(self) -> None: ...


class Undelivered(PendingRead):
    """Does not define what a ``PendingRequest`` needs."""

    def consumed(self, front: object, size: int) -> object:
        return size

    def data(self) -> bytes:
        return b""


def not_complete() -> None:
    Cancellable()  # type: ignore[abstract]
    Forgetful()  # type: ignore[abstract]
    Watcher()  # type: ignore[abstract]
    PendingRequest()  # type: ignore[abstract]
    Undelivered()  # type: ignore[abstract]
    Requests()  # type: ignore[abstract]


def complete() -> None:
    Complete()
