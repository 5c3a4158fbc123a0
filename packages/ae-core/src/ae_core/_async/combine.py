"""Condition variables made of others: ``shield``, ``gather``, ``first``."""

from __future__ import annotations

__all__ = ("first", "gather", "shield")

from .._base.signal_errors import repeatable
from .._detection.current import current_loop
from .condvar import CondVar
from .tasks import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeAlias, TypeVar, overload

    T = TypeVar("T")
    Item: TypeAlias = CondVar[T] | Coroutine[Any, Any, T]
else:
    from _collections_abc import Coroutine


def shield(operation: CondVar[T]) -> CondVar[T]:
    """Return a condition variable with the outcome of *operation*, which its cancelling spares.

    ``await ae.shield(operation)`` ends when the task is cancelled; the operation goes on.
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

    shielded: CondVar[T] = CondVar(
        cancel=leave, untaken=_drop, describe=lambda: f"shield of {operation!r}"
    )
    operation._enter()
    operation._add_waker(pass_on)
    return shielded


def _drop(value: object) -> None:
    """Stands for the duty to give *value* back until there is one."""


if TYPE_CHECKING:

    @overload
    def gather(*items: Item[T]) -> CondVar[list[T]]: ...
    @overload
    def gather(*items: Item[Any]) -> CondVar[list[Any]]: ...


def gather(*items: Item[Any]) -> CondVar[list[Any]]:
    """Return a condition variable with the values of all *items*, in the order given.

    Args:
        items: Operations, which it awaits, or coroutines, which it starts by
            :func:`~ae_core.spawn`.

    The first that fails is its error, and it leaves the others, as when it is cancelled: those in
    which nothing else is interested are cancelled. A member that is cancelled cancels it. Without
    items it is ``[]``, in the next turn. It need not be held.

    Raises:
        TypeError: If an item is neither.
    """
    operations = _operations(items)
    members = _Members(operations)
    values: list[Any] = [None] * len(operations)
    duties: list[tuple[Callable[[Any], object], Any]] = []

    def give_back(_: object = None) -> None:
        for untaken, value in duties:
            untaken(value)
        duties.clear()

    def cancel() -> None:
        members.leave()
        give_back()

    def ended(index: int, operation: CondVar[Any]) -> None:
        if results.ready:
            return
        if operation.cancelled:
            results.cancel()
        elif (error := operation.error) is not None:
            members.leave()
            give_back()
            results.throw(error)
        else:
            values[index], untaken = operation._take_over()
            if untaken is not None:
                duties.append((untaken, values[index]))
            if not members.left:
                results.send(values)

    results: CondVar[list[Any]] = CondVar(
        cancel=cancel, untaken=give_back, describe=lambda: f"gather of {len(operations)}"
    )
    members.follow(ended)
    if not operations:
        current_loop().postpone(lambda: None if results.ready else results.send([]))
    return results


if TYPE_CHECKING:

    @overload
    def first(*items: Item[T]) -> CondVar[T]: ...
    @overload
    def first(*items: Item[Any]) -> CondVar[Any]: ...


def first(*items: Item[Any]) -> CondVar[Any]:
    """Return a condition variable with the value of the first of *items* that succeeds.

    Args:
        items: As for :func:`gather`.

    The others are left: those in which nothing else is interested are cancelled, and a value that
    comes in the same turn is given back. If all fail, its error is an ``ExceptionGroup`` with
    theirs, in the order given; a member that is cancelled has failed with ``CancelledError``. It
    need not be held.

    Raises:
        TypeError: If an item is neither an operation nor a coroutine.
        ValueError: Without items.
    """
    if not items:
        raise ValueError("first() of nothing never has a value")
    operations = _operations(items)
    members = _Members(operations)

    def ended(_: int, operation: CondVar[Any]) -> None:
        if result.ready:
            return
        if not operation.cancelled and operation.error is None:
            members.leave()
            operation._pass_on(result)
        elif not members.left:
            result.throw(BaseExceptionGroup("all have failed", list(map(_failure, operations))))

    result: CondVar[Any] = CondVar(
        cancel=members.leave, untaken=_drop, describe=lambda: f"first of {len(operations)}"
    )
    members.follow(ended)
    return result


def _failure(operation: CondVar[Any]) -> BaseException:
    failure: BaseException = AssertionError("it has a value")
    try:
        operation._result()
    except BaseException as error:
        failure = error.with_traceback(operation._traceback if operation.error else None)
    return failure


def _operations(items: tuple[Any, ...]) -> list[CondVar[Any]]:
    """Return the condition variables of *items*; none is started if one of them is wrong."""
    for item in items:
        if not isinstance(item, (CondVar, Coroutine)):
            for coroutine in items:
                if isinstance(coroutine, Coroutine):
                    coroutine.close()
            raise TypeError(f"expected operations or coroutine objects, got {item!r}")
    return [item if isinstance(item, CondVar) else spawn(item) for item in items]


class _Members:
    """The operations that a combination awaits."""

    __slots__ = ("_ended", "_operations", "_wakers", "left")

    _ended: Callable[[int, CondVar[Any]], None]

    def __init__(self, operations: list[CondVar[Any]]) -> None:
        self._operations = operations
        self._wakers: dict[int, Any] = {}
        self.left = set(range(len(operations)))  # those whose end was not told yet

    def follow(self, ended: Callable[[int, CondVar[Any]], None]) -> None:
        """Have ``ended(index, operation)`` called when one is ready; never inside this call."""
        self._ended = ended
        for index, operation in enumerate(self._operations):

            @repeatable
            def wake(operation: CondVar[Any], index: int = index) -> None:
                if index in self.left:
                    self.left.discard(index)
                    self._ended(index, operation)

            operation._enter()
            self._wakers[index] = wake
            if operation.ready:
                current_loop().postpone(lambda operation=operation, wake=wake: wake(operation))  # type: ignore[misc]
            else:
                operation._add_waker(wake)

    def leave(self) -> None:
        """Await none of them any more."""
        left, self.left = sorted(self.left), set()
        for index in left:
            operation = self._operations[index]
            operation._forget_wake(self._wakers[index])
            operation._leave()
