"""Demands on time limits: when the time is up, and where the error is raised."""

from __future__ import annotations

__all__ = ()

from math import nan
from typing import TYPE_CHECKING

from ..._async import tasks
from ..._async.awaiting import cancelled_class
from ..._async.combine import shield
from ..._async.condvar import CondVar
from ..._async.tasks import sleep
from ..._async.time_limit import timeout
from ..._base.errors import CancelledError
from .scene import Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

SOON = 0.01
LATE = 1000.0


def _never() -> CondVar[Any]:
    return CondVar(cancel=int)


async def _run(scene: Scene, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await scene.wait(tasks.spawn(coroutine))


@case("limit")
async def what_is_awaited_when_the_time_is_up_is_cancelled(scene: Scene) -> None:
    operation = _never()

    async def work() -> None:
        try:
            async with timeout(SOON):
                await operation
        except TimeoutError as error:
            scene.trace(str(error))
        await sleep(0)

    await _run(scene, work())
    expect(operation.cancelled, "the operation is cancelled")
    expect_equal(scene.trace, [f"not done within {SOON} s"])


@case("limit")
async def a_block_that_ends_in_time_ends_as_usual(scene: Scene) -> None:
    async def work() -> str:
        async with timeout(LATE):
            await sleep(0)
        async with timeout(None):
            await sleep(0)
            return "in time"

    expect_equal(await _run(scene, work()), "in time")


@case("limit")
async def no_time_at_all_is_up_at_the_first_wait(scene: Scene) -> None:
    async def work() -> None:
        async with timeout(0):
            scene.trace("does not wait")
        await sleep(0)
        try:
            async with timeout(0):
                scene.trace("waits")
                await _never()
        except TimeoutError:
            scene.trace("up")
        await sleep(0)

    await _run(scene, work())
    expect_equal(scene.trace, ["does not wait", "waits", "up"])


@case("limit")
async def the_inner_of_two_limits_leaves_the_outer_one_alone(scene: Scene) -> None:
    async def work() -> None:
        async with timeout(LATE):
            try:
                async with timeout(SOON):
                    await _never()
            except TimeoutError:
                scene.trace("inner")
            await sleep(0)
            scene.trace("goes on")

    await _run(scene, work())
    expect_equal(scene.trace, ["inner", "goes on"])


@case("limit")
async def the_outer_of_two_limits_raises_at_its_own_block(scene: Scene) -> None:
    async def work(inner: float) -> None:
        try:
            async with timeout(SOON):
                try:
                    async with timeout(inner):
                        await _never()
                except TimeoutError:
                    scene.trace("inner")
                    await _never()
        except TimeoutError:
            scene.trace("outer")
        await sleep(0)

    await _run(scene, work(LATE))
    expect_equal(scene.trace, ["outer"])
    await _run(scene, work(SOON))
    expect_equal(list(scene.trace)[-1], "outer")


@case("limit")
async def a_block_that_catches_the_cancellation_ends_as_usual(scene: Scene) -> None:
    async def work() -> str:
        async with timeout(SOON):
            try:
                await _never()
            except cancelled_class():
                scene.trace("caught")
        await sleep(0)
        return "went on"

    expect_equal(await _run(scene, work()), "went on")
    expect_equal(scene.trace, ["caught"])


@case("limit")
async def an_error_of_the_clean_up_takes_the_place_of_the_limits(scene: Scene) -> None:
    async def work() -> None:
        async with timeout(SOON):
            try:
                await _never()
            finally:
                raise ValueError("of the clean-up")

    with expect_raises(ValueError):
        await _run(scene, work())


@case("limit")
async def a_time_out_of_the_blocks_own_passes_through(scene: Scene) -> None:
    mine = TimeoutError("of the block")

    async def work() -> None:
        try:
            async with timeout(LATE):
                raise mine
        except TimeoutError as error:
            scene.trace(error is mine)

    await _run(scene, work())
    expect_equal(scene.trace, [True])


@case("limit")
async def it_can_be_moved_both_ways(scene: Scene) -> None:
    async def work() -> None:
        async with timeout(SOON) as limit:
            limit.reschedule(LATE)
            await sleep(3 * SOON)
            limit.reschedule(None)
            await sleep(SOON)
            scene.trace("moved back")
            try:
                limit.reschedule(0)
                await _never()
            finally:
                scene.trace("moved forth")

    with expect_raises(TimeoutError):
        await _run(scene, work())
    expect_equal(scene.trace, ["moved back", "moved forth"])


@case("limit")
async def a_cancelled_task_is_cancelled_and_not_out_of_time(scene: Scene) -> None:
    for seconds in (LATE, 0.0):

        async def work(seconds: float = seconds) -> None:
            async with timeout(seconds):
                scene.trace("waits")
                await _never()

        each = tasks.spawn(work())
        await scene.wait_until(len(scene.trace) + 1)
        each.cancel()
        # where both come in one turn, the one from outside counts, if it was in time
        try:
            await scene.wait(each)
        except CancelledError:
            scene.trace("cancelled")
        except TimeoutError:
            expect(seconds == 0.0, "its time is not up")
            scene.trace("cancelled")
    expect_equal(scene.trace, ["waits", "cancelled"] * 2)


@case("limit")
async def an_item_of_the_turn_in_which_the_time_is_up_is_not_lost(scene: Scene) -> None:
    operation: CondVar[str] = CondVar(
        cancel=lambda: scene.trace("cancelled"), untaken=lambda value: scene.trace(f"back {value}")
    )

    async def work() -> None:
        try:
            async with timeout(0):
                operation.send("item")
                scene.trace(f"took {await operation}")
        except TimeoutError:
            scene.trace("up")

    await _run(scene, work())
    expect(list(scene.trace) in (["took item"], ["back item", "up"]), "it is taken, or given back")


@case("limit")
async def a_shield_keeps_what_the_limit_gives_up(scene: Scene) -> None:
    operation = _never()

    async def work() -> None:
        async with timeout(SOON):
            await shield(operation)

    with expect_raises(TimeoutError):
        await _run(scene, work())
    expect(not operation.ready, "it goes on")


@case("limit")
async def a_limit_is_for_one_block_and_a_time_to_come(scene: Scene) -> None:
    for wrong in (-1, nan):
        with expect_raises(ValueError):
            timeout(wrong)

    async def work() -> None:
        limit = timeout(LATE)
        with expect_raises(RuntimeError):
            limit.reschedule(1)
        async with limit:
            with expect_raises(ValueError):
                limit.reschedule(-1)
        with expect_raises(RuntimeError):
            limit.reschedule(1)
        with expect_raises(RuntimeError):
            await limit.__aenter__()

    await _run(scene, work())
