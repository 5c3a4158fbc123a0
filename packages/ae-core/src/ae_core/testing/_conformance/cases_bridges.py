"""Demands on what joins the loop with threads, futures and awaitables."""

from __future__ import annotations

__all__ = ()

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ... import _api
from ..._async import tasks
from ..._async.bridges import as_condvar
from ..._async.condvar import CondVar
from ..._async.threads import call_threadsafe, to_thread
from ..._base.errors import CancelledError
from .scene import Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from concurrent.futures import Future

_variable: ContextVar[str] = ContextVar("_variable", default="unset")
_PATIENCE: Final = 30.0  # of a thread; a case that fails must not leave one behind for ever


async def _fail(text: str) -> None:
    raise ValueError(text)


def _in_thread(scene: Scene, function: Callable[[], object]) -> threading.Thread:
    """Call *function* in a thread that has ended before the case has."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    scene.stack.callback(thread.join)
    return thread


async def _outcome(scene: Scene, future: Future[Any]) -> str:
    """Wait in a thread for *future*, and return its outcome as a text."""

    def ask() -> str:
        from concurrent.futures import CancelledError as FutureCancelled

        try:
            return f"value {future.result(_PATIENCE)!r}"
        except FutureCancelled:
            return "cancelled"
        except Exception as error:
            return repr(error)

    return await scene.wait(to_thread(ask))


# ---------------------------------------------------------------------- threads


@case("thread")
async def a_function_in_a_thread_returns_its_value_or_its_error(scene: Scene) -> None:
    def where(number: int) -> tuple[bool, int, str]:
        return threading.get_ident() == here, number, _variable.get()

    here = threading.get_ident()
    token = _variable.set("set")
    operation = to_thread(where, 3)
    _variable.reset(token)
    expect(not operation.ready, "not inside the call")
    expect_equal(await scene.wait(operation), (False, 3, "set"))
    with expect_raises(ZeroDivisionError):
        await scene.wait(to_thread(divmod, 1, 0))


@case("thread")
async def a_cancelled_function_in_a_thread_is_no_longer_waited_for(scene: Scene) -> None:
    begun: CondVar[None] = CondVar()
    go_on, over = threading.Event(), threading.Event()
    backend = scene.backend

    def work() -> int:
        backend.call_threadsafe(begun.send)
        go_on.wait(_PATIENCE)
        over.set()
        return 1

    operation = to_thread(work)
    operation.on_ready(lambda ended: scene.trace("cancelled", ended.cancelled))
    await scene.wait(begun)
    operation.cancel()
    expect(operation.cancelled, "it is cancelled immediately")
    go_on.set()
    expect(over.wait(_PATIENCE), "the function has ended all the same")
    expect_equal(await scene.wait(to_thread(int)), 0)  # its result has gone by
    await scene.turns(2)
    expect_equal(scene.trace, [("cancelled", True)])


@case("thread")
async def a_call_from_a_thread_gets_an_answer(scene: Scene) -> None:
    def value() -> str:
        scene.trace(threading.get_ident() == here)
        return "value"

    def wait() -> CondVar[str]:
        operation: CondVar[str] = CondVar()
        _api.postpone(lambda: operation.send("later"))
        return operation

    async def coroutine() -> str:
        await tasks.sleep(0)
        return "in the end"

    here = threading.get_ident()
    backend = scene.backend
    wanted: list[tuple[Callable[..., object], tuple[object, ...], str]] = [
        (value, (), "value 'value'"),
        (divmod, (7, 2), "value (3, 1)"),
        (wait, (), "value 'later'"),
        (coroutine, (), "value 'in the end'"),
        (_fail, ("text",), "ValueError('text')"),
    ]
    for function, arguments, answer in wanted:

        def call(function: Any = function, arguments: Any = arguments) -> Any:
            return call_threadsafe(function, *arguments, backend=backend)

        future = await scene.wait(to_thread(call))
        expect_equal(await _outcome(scene, future), answer)
    expect_equal(scene.trace, [True])


@case("thread")
async def a_call_that_is_cancelled_before_it_was_made_is_not_made(scene: Scene) -> None:
    backend = scene.backend
    future = call_threadsafe(scene.trace, "called", backend=backend)
    expect(future.cancel(), "it can be cancelled")
    await scene.turns(3)
    expect_equal(scene.trace, [])


@case("thread")
async def an_operation_that_a_call_returned_is_cancelled_with_its_future(scene: Scene) -> None:
    begun: CondVar[None] = CondVar()
    over: CondVar[None] = CondVar()

    def begin() -> CondVar[None]:
        begun.send()
        return CondVar(cancel=over.send)

    future = call_threadsafe(begin, backend=scene.backend)
    await scene.wait(begun)
    expect(future.cancel(), "it can be cancelled while it waits")
    await scene.wait(over)
    expect_equal(await _outcome(scene, future), "cancelled")


@case("thread")
async def a_future_is_cancelled_when_what_the_call_returned_is(scene: Scene) -> None:
    operation: CondVar[None] = CondVar()
    future = call_threadsafe(lambda: operation, backend=scene.backend)
    await scene.turns(2)
    operation.cancel()
    expect_equal(await _outcome(scene, future), "cancelled")


# ---------------------------------------------------------------------- concurrent futures


@case("bridge")
async def a_concurrent_future_has_the_outcome_of_an_operation(scene: Scene) -> None:
    one, two, three = CondVar[str](), CondVar[str](), CondVar[str]()
    futures = [each.as_concurrent_future() for each in (one, two, three)]
    expect(not any(future.done() for future in futures), "not before the operation")
    one.send("one")
    two.throw(ValueError("two"))
    three.cancel()
    outcomes = [await _outcome(scene, future) for future in futures]
    expect_equal(outcomes, ["value 'one'", "ValueError('two')", "cancelled"])
    expect_equal(await _outcome(scene, one.as_concurrent_future()), "value 'one'")


@case("bridge")
async def a_concurrent_future_that_a_thread_cancels_gives_the_operation_up(scene: Scene) -> None:
    over: CondVar[None] = CondVar()
    operation: CondVar[str] = CondVar(cancel=over.send)
    future = operation.as_concurrent_future()
    _in_thread(scene, future.cancel)
    await scene.wait(over)
    expect(operation.cancelled, "it has no other awaiter")
    shared: CondVar[str] = CondVar(cancel=lambda: scene.trace("cancelled"))
    shared.on_ready(lambda ended: scene.trace(ended.recv()))
    shared.as_concurrent_future().cancel()
    await scene.turns(3)
    shared.send("kept")
    await scene.turns(2)
    expect_equal(scene.trace, ["kept"])


@case("bridge")
async def an_operation_has_the_outcome_of_a_future_that_a_thread_completes(scene: Scene) -> None:
    from concurrent.futures import Future

    one, two, three = Future[str](), Future[str](), Future[str]()
    first, second, third = (as_condvar(future) for future in (one, two, three))
    _in_thread(scene, lambda: one.set_result("one"))
    _in_thread(scene, lambda: two.set_exception(ValueError("two")))
    _in_thread(scene, three.cancel)
    expect_equal(await scene.wait(first), "one")
    with expect_raises(ValueError):
        await scene.wait(second)
    with expect_raises(CancelledError):
        await scene.wait(third)
    done = as_condvar(one)
    expect(not done.ready, "not inside the call")
    expect_equal(await scene.wait(done), "one")


@case("bridge")
async def cancelling_the_operation_cancels_the_future(scene: Scene) -> None:
    from concurrent.futures import Future

    future = Future[str]()
    as_condvar(future).cancel()
    expect(future.cancelled(), "it is cancelled")
    running = Future[str]()
    running.set_running_or_notify_cancel()
    operation = as_condvar(running)
    operation.cancel()  # a running one goes on, and its value is dropped
    running.set_result("late")
    await scene.turns(3)
    expect(operation.cancelled, "it stays cancelled")


# ---------------------------------------------------------------------- awaitables


class _Awaitable:
    def __init__(self, inner: CondVar[str]) -> None:
        self.inner = inner

    def __await__(self) -> Generator[Any, Any, str]:
        return self.inner.__await__()


@case("bridge")
async def an_awaitable_becomes_an_operation(scene: Scene) -> None:
    async def coroutine() -> str:
        return "coroutine"

    expect_equal(await scene.wait(as_condvar(coroutine())), "coroutine")
    inner: CondVar[str] = CondVar()
    expect(as_condvar(inner) is inner, "a condition variable is one already")
    sources: list[Awaitable[str]] = [_Awaitable(inner)]
    operation = as_condvar(sources[0])
    inner.send("inner")
    expect_equal(await scene.wait(operation), "inner")
    nothing: Any = 3
    with expect_raises(TypeError):
        as_condvar(nothing)


@case("bridge")
async def cancelling_the_operation_cancels_what_it_awaits_and_the_reverse(scene: Scene) -> None:
    over: CondVar[None] = CondVar()
    operation = as_condvar(_Awaitable(CondVar(cancel=over.send)))
    await scene.turns(2)
    operation.cancel()
    await scene.wait(over)
    inner: CondVar[str] = CondVar()
    operation = as_condvar(_Awaitable(inner))
    await scene.turns(2)
    inner.cancel()
    with expect_raises(CancelledError):
        await scene.wait(operation)
