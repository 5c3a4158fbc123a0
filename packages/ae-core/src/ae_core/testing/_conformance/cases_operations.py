"""Demands on operations: what counts as interested, and where a value goes that is not taken."""

from __future__ import annotations

__all__ = ()

from typing import TYPE_CHECKING

from ... import _api as ae
from ..._async import tasks
from ..._async.awaiting import cancelled_class
from ..._async.combine import shield
from ..._async.condvar import CondVar
from ..._base.errors import CancelledError
from .scene import BLOCKING, Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


def _operation(scene: Scene) -> CondVar[str]:
    return CondVar(cancel=lambda: scene.trace("cancelled"), untaken=scene.trace)


async def _take(scene: Scene, operation: CondVar[str]) -> None:
    scene.trace(f"took {await operation}")


async def _begun(scene: Scene, *coroutines: Coroutine[Any, Any, None]) -> tuple[CondVar[None], ...]:
    started = tuple(tasks.spawn(coroutine) for coroutine in coroutines)
    await scene.turns(2)
    return started


async def _cancelled(scene: Scene, *started: CondVar[None]) -> None:
    for task in started:
        task.cancel()
    for task in started:
        with expect_raises(CancelledError):
            await scene.wait(task)


@case("operation")
async def it_is_cancelled_with_the_task_that_awaits_it(scene: Scene) -> None:
    operation = _operation(scene)
    await _cancelled(scene, *await _begun(scene, _take(scene, operation)))
    expect_equal(scene.trace, ["cancelled"])
    expect(operation.cancelled, "it is cancelled")
    operation.cancel()
    operation.send("too late")
    expect_equal(scene.trace, ["cancelled"])


@case("operation")
async def it_goes_on_as_long_as_another_task_awaits_it(scene: Scene) -> None:
    operation = _operation(scene)
    one, two = await _begun(scene, _take(scene, operation), _take(scene, operation))
    await _cancelled(scene, one)
    expect_equal(scene.trace, [])
    await _cancelled(scene, two)
    expect_equal(scene.trace, ["cancelled"])


@case("operation")
async def it_goes_on_as_long_as_a_callback_is_interested(scene: Scene) -> None:
    operation = _operation(scene)
    operation.on_ready(lambda ready: scene.trace(f"told {ready.recv()}"))
    await _cancelled(scene, *await _begun(scene, _take(scene, operation)))
    expect_equal(scene.trace, [])
    operation.send("item")
    expect_equal(scene.trace, ["told item"])


@case("operation")
async def it_is_cancelled_if_the_task_was_cancelled_before_it_waited(scene: Scene) -> None:
    operation = _operation(scene)

    async def work() -> None:
        each.cancel()
        await operation

    each = tasks.spawn(work())
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["cancelled"])


@case("operation")
async def a_task_that_another_awaits_is_cancelled_with_that(scene: Scene) -> None:
    async def inner() -> None:
        try:
            await CondVar[None]()
        except cancelled_class():
            scene.trace("inner")
            raise

    child = tasks.spawn(inner())

    async def outer() -> None:
        await child

    await _cancelled(scene, *await _begun(scene, outer()))
    with expect_raises(CancelledError):
        await scene.wait(child)
    expect_equal(scene.trace, ["inner"])


@case("operation")
async def a_sleep_that_nobody_awaits_any_more_leaves_no_timer(scene: Scene) -> None:
    pause = tasks.sleep(1000.0)

    async def work() -> None:
        await pause

    await _cancelled(scene, *await _begun(scene, work()))
    expect(pause.cancelled, "it is cancelled")


# ---------------------------------------------------------------------- values taken or given back


@case("operation")
async def an_item_that_came_just_before_the_cancellation_is_given_back(scene: Scene) -> None:
    operation = _operation(scene)
    (task,) = await _begun(scene, _take(scene, operation))
    operation.send("item")
    await _cancelled(scene, task)
    expect_equal(scene.trace, ["item"])
    expect(operation.cancelled, "it is cancelled")


@case("operation")
async def an_item_that_came_just_after_the_cancellation_is_given_back(scene: Scene) -> None:
    operation = _operation(scene)
    (task,) = await _begun(scene, _take(scene, operation))
    task.cancel()
    operation.send("item")
    with expect_raises(CancelledError):
        await scene.wait(task)
    expect(list(scene.trace) in (["item"], ["cancelled"]), "it is given back, or was never taken")


@case("operation")
async def an_item_that_was_taken_is_not_given_back(scene: Scene) -> None:
    operation = _operation(scene)

    async def work() -> None:
        await _take(scene, operation)
        await CondVar[None]()

    (task,) = await _begun(scene, work())
    operation.send("item")
    await scene.wait_until(1)
    await _cancelled(scene, task)
    expect_equal(scene.trace, ["took item"])
    expect_equal(operation.recv(), "item")


@case("operation")
async def an_item_that_one_of_two_tasks_takes_is_not_given_back(scene: Scene) -> None:
    operation = _operation(scene)
    one, two = await _begun(scene, _take(scene, operation), _take(scene, operation))
    operation.send("item")
    await _cancelled(scene, one)
    await scene.wait(two)
    expect_equal(scene.trace, ["took item"])


@case("operation")
async def an_item_that_neither_of_two_tasks_took_is_given_back_once(scene: Scene) -> None:
    operation = _operation(scene)
    one, two = await _begun(scene, _take(scene, operation), _take(scene, operation))
    operation.send("item")
    await _cancelled(scene, one, two)
    expect_equal(scene.trace, ["item"])


@case("operation")
async def an_item_that_a_callback_was_told_of_is_not_given_back(scene: Scene) -> None:
    operation = _operation(scene)
    (task,) = await _begun(scene, _take(scene, operation))
    operation.on_ready(lambda ready: scene.trace(f"told {ready.recv()}"))
    operation.send("item")
    await _cancelled(scene, task)
    expect_equal(scene.trace, ["told item"])


@case("operation")
async def what_its_functions_raise_goes_to_the_hook(scene: Scene) -> None:
    def fail(*_: object) -> None:
        raise ValueError("of the operation")

    for item in (False, True):
        operation: CondVar[None] = CondVar(cancel=fail, untaken=fail)

        async def work(operation: CondVar[None] = operation) -> None:
            await operation

        (task,) = await _begun(scene, work())
        if item:
            operation.send()
        await _cancelled(scene, task)
        expect(operation.cancelled, "it is cancelled all the same")
        expect_equal(scene.take_errors(), ["ValueError: of the operation"])


# ---------------------------------------------------------------------- shield


@case("operation")
async def a_shield_ends_the_wait_and_keeps_the_operation(scene: Scene) -> None:
    operation = _operation(scene)

    async def work() -> None:
        await shield(operation)

    await _cancelled(scene, *await _begun(scene, work()))
    expect_equal(scene.trace, [])
    expect(not operation.ready, "it goes on")
    await _cancelled(scene, *await _begun(scene, _take(scene, operation)))
    expect_equal(scene.trace, ["cancelled"], "the shield that was cancelled keeps it no more")


@case("operation")
async def a_shield_that_lives_is_interested(scene: Scene) -> None:
    operation = _operation(scene)
    kept = shield(operation)
    await _cancelled(scene, *await _begun(scene, _take(scene, operation)))
    expect_equal(scene.trace, [])
    operation.send("item")
    expect_equal(await scene.wait(kept), "item")


@case("operation")
async def a_shield_passes_on_how_the_operation_ended(scene: Scene) -> None:
    failing, ending = _operation(scene), _operation(scene)
    failed, ended = shield(failing), shield(ending)
    failing.throw(ValueError("of the operation"))
    with expect_raises(ValueError):
        await scene.wait(failed)
    ending.cancel()
    with expect_raises(CancelledError):
        await scene.wait(ended)
    expect(shield(ending) is ending, "there is nothing left to shield")


@case("operation")
async def an_item_that_came_through_a_shield_is_given_back_as_well(scene: Scene) -> None:
    operation = _operation(scene)
    (task,) = await _begun(scene, _take(scene, shield(operation)))
    operation.send("item")
    await _cancelled(scene, task)
    expect_equal(scene.trace, ["item"])


# ---------------------------------------------------------------------- recv()


@case("operation", ways=(BLOCKING,))
async def a_recv_that_times_out_cancels_nothing(scene: Scene) -> None:
    operation = _operation(scene)
    with expect_raises(TimeoutError):
        operation.recv(0.001)
    expect_equal(scene.trace, [])
    with ae.timer(0.001, lambda: operation.send("item")):
        expect_equal(operation.recv(), "item")


@case("operation", "main thread", ways=(BLOCKING,))
async def a_recv_that_is_interrupted_cancels_it(scene: Scene) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def interrupt_with_item() -> None:
        operation.send("item")
        raise KeyboardInterrupt

    for leave in (interrupt, interrupt_with_item):
        operation = _operation(scene)
        with ae.timer(0.0, leave):
            with expect_raises(KeyboardInterrupt):
                operation.recv()
        expect(operation.cancelled, "it is cancelled")
    expect_equal(scene.trace, ["cancelled", "item"])
