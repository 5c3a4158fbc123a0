"""Condition variables made of others: ``shield``."""

from __future__ import annotations

__all__ = ("shield",)

from .._base.signal_errors import repeatable
from .condvar import CondVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


def shield(operation: CondVar[T]) -> CondVar[T]:
    """Return a condition variable with the outcome of *operation*, which its cancelling spares.

    ``await ae.shield(operation)`` ends at once when the task is cancelled; the operation goes on.
    Until it is ready, or cancelled itself, the result counts as one that is interested in
    *operation*, so that other awaiters may be cancelled without ending it. It need not be held.

    On trio, where a cancelled scope makes every ``await`` raise, this keeps the operation, not the
    wait: clean-up that waits needs ``trio.CancelScope(shield=True)``.

    Raises:
        TypeError: If *operation* is no condition variable.
    """
    if not isinstance(operation, CondVar):
        raise TypeError(f"expected a condition variable, got {operation!r}")
    if operation.ready:
        return operation

    @repeatable
    def pass_on(_: CondVar[Any]) -> None:
        if not shielded.ready:
            operation._pass_on(shielded)

    def leave() -> None:
        if not operation.ready:
            operation._forget_wake(pass_on)
            operation._leave(cancelled=False)

    shielded: CondVar[T] = CondVar(cancel=leave, describe=lambda: f"shield of {operation!r}")
    operation._enter()
    operation._add_waker(pass_on)
    return shielded
