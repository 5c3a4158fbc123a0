"""Between condition variables and what other libraries wait for: futures, Deferreds, awaitables.

Cancelling goes through in both directions. No library is imported for that but by the call that
needs it.
"""

from __future__ import annotations

__all__ = ("as_concurrent_future", "as_condvar", "as_deferred", "as_future")

import sys

from .._base.signal_errors import repeatable
from .._detection.current import current_loop
from .._operations import pending
from .awaiting import await_for
from .condvar import CondVar
from .tasks import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")
else:
    from _collections_abc import Awaitable, Coroutine


def as_condvar(
    source: CondVar[T] | asyncio.Future[T] | concurrent.futures.Future[T] | Awaitable[T],
) -> CondVar[T]:
    """Return an operation with the outcome of *source*.

    Args:
        source: A future of asyncio, whose loop serves this thread; a ``concurrent.futures.Future``,
            which any thread may complete; a Deferred, whose result, or failure, this takes; a
            coroutine or another awaitable, which a task of :func:`~ae_core.spawn` awaits. A
            condition variable is returned as it is.

    Cancelling the operation cancels *source*, and a source that is cancelled cancels it.

    Raises:
        TypeError: *source* is none of these.
        WrongLoop: Another loop runs in this thread.
    """
    if isinstance(source, CondVar):
        return source
    if isinstance(source, Coroutine):
        return spawn(source)
    if getattr(source, "_asyncio_future_blocking", None) is not None:
        return _of_future(source, threads=False)
    futures: Any = sys.modules.get("concurrent.futures")
    if futures is not None and isinstance(source, futures.Future):
        return _of_future(source, threads=True)
    defer: Any = sys.modules.get("twisted.internet.defer")
    if defer is not None and isinstance(source, defer.Deferred):
        return _of_deferred(source, defer.CancelledError)
    if isinstance(source, Awaitable):
        return spawn(_await(source))
    raise TypeError(f"expected a future, a Deferred or an awaitable, got {source!r}")


async def _await(source: Awaitable[T]) -> T:
    return await source


def _of_future(future: Any, threads: bool) -> CondVar[Any]:
    core = current_loop()
    mark = pending()

    def cancel() -> None:
        mark.cancel()
        future.cancel()

    @repeatable
    def take() -> None:
        if condvar.ready:
            return
        mark.cancel()
        if future.cancelled():
            condvar.cancel()
        elif (error := future.exception()) is not None:
            condvar.throw(error)
        else:
            condvar.send(future.result())

    def ended(_: object) -> None:
        if not threads:
            take()  # asyncio calls it in a turn of its own
            return
        try:
            core.call_threadsafe(take)
        except RuntimeError:
            return  # the loop has ended, and all that waited in it

    condvar: CondVar[Any] = CondVar(cancel=cancel, describe=lambda: f"outcome of {future!r}")
    future.add_done_callback(ended)
    return condvar


def _of_deferred(deferred: Any, cancelled: type[BaseException]) -> CondVar[Any]:
    core = current_loop()

    def resolve(error: BaseException | None, value: Any) -> None:
        if condvar.ready:
            return
        if error is None:
            condvar.send(value)
        elif isinstance(error, cancelled):
            condvar.cancel()
        else:
            condvar.throw(error)

    condvar: CondVar[Any] = CondVar(
        cancel=deferred.cancel, describe=lambda: f"outcome of {deferred!r}"
    )
    deferred.addCallbacks(
        lambda value: core.postpone(lambda: resolve(None, value)),
        lambda failure: core.postpone(lambda: resolve(failure.value, None)),
    )
    return condvar


# ---------------------------------------------------------------------- operations as futures


def as_future(condvar: CondVar[T]) -> asyncio.Future[T]:
    """See :meth:`CondVar.as_future`."""
    import asyncio

    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def unless_over(call: Callable[..., object]) -> Callable[..., None]:
        def once(*args: Any) -> None:
            if not future.done():
                call(*args)

        return once

    leave = await_for(
        condvar,
        unless_over(future.set_result),
        unless_over(future.set_exception),
        unless_over(future.cancel),
    )
    future.add_done_callback(lambda _: leave())
    return future


def as_deferred(condvar: CondVar[T]) -> Any:
    """See :meth:`CondVar.as_deferred`."""
    from importlib import import_module

    defer: Any = import_module("twisted.internet.defer")

    leave: Callable[[], None]
    deferred: Any = defer.Deferred(lambda _: leave())
    leave = await_for(
        condvar,
        deferred.callback,
        deferred.errback,
        lambda: deferred.errback(defer.CancelledError()),
    )
    return deferred


def as_concurrent_future(condvar: CondVar[T]) -> concurrent.futures.Future[T]:
    """See :meth:`CondVar.as_concurrent_future`."""
    from .loop_future import LoopFuture, follow

    future: LoopFuture[T] = LoopFuture()
    follow(future, condvar, current_loop())
    return future


as_condvar.__module__ = "ae_core"
