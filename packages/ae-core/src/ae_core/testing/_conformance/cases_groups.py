"""Demands on what stands above the single operation: groups, combinations, channels."""

from __future__ import annotations

__all__ = ()

from typing import TYPE_CHECKING

from ..._async import tasks
from ..._async.awaiting import cancelled_class
from ..._async.channel import Channel, ChannelClosed, Semaphore
from ..._async.combine import first, gather
from ..._async.condvar import CondVar
from ..._async.task_group import TaskGroup
from ..._async.tasks import sleep
from ..._base.errors import CancelledError
from .scene import Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


async def _run(scene: Scene, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await scene.wait(tasks.spawn(coroutine))


async def _give(value: Any) -> Any:
    await sleep(0)
    return value


async def _fail(text: str) -> None:
    await sleep(0)
    raise ValueError(text)


async def _wait(scene: Scene, name: str) -> None:
    try:
        await CondVar[None]()
    except cancelled_class():
        scene.trace(f"{name} cancelled")
        raise


async def _turns(count: int) -> None:
    for _ in range(count):
        await sleep(0)


def _operation(scene: Scene, name: str) -> CondVar[str]:
    return CondVar(
        cancel=lambda: scene.trace(f"{name} cancelled"),
        untaken=lambda value: scene.trace(f"{name} gets {value} back"),
    )


# ---------------------------------------------------------------------- task groups


@case("group")
async def its_block_ends_when_all_of_its_tasks_have(scene: Scene) -> None:
    async def work() -> list[int]:
        async with TaskGroup() as group:
            results = [group.spawn(_give(number)) for number in range(3)]
        expect(all(result.ready for result in results), "all have ended")
        return [result.recv() for result in results]

    expect_equal(await _run(scene, work()), [0, 1, 2])


@case("group")
async def a_task_that_fails_ends_the_others_and_the_block(scene: Scene) -> None:
    async def work() -> None:
        async with TaskGroup() as group:
            group.spawn(_wait(scene, "other"))
            await sleep(0)
            group.spawn(_fail("first"))
            await _wait(scene, "block")

    with expect_raises(ExceptionGroup):
        await _run(scene, work())
    expect_equal(sorted(scene.trace), ["block cancelled", "other cancelled"])


@case("group")
async def a_task_around_goes_on_after_the_group_has_failed(scene: Scene) -> None:
    async def work() -> str:
        try:
            async with TaskGroup() as group:
                group.spawn(_fail("task"))
                await CondVar[None]()
        except ExceptionGroup as failed:
            scene.trace([str(error) for error in failed.exceptions])
        await sleep(0)
        return "went on"

    expect_equal(await _run(scene, work()), "went on")
    expect_equal(scene.trace, [["task"]])


@case("group")
async def an_error_of_the_block_ends_its_tasks_and_joins_theirs(scene: Scene) -> None:
    async def stubborn() -> None:
        try:
            await CondVar[None]()
        finally:
            raise ValueError("task")

    async def work() -> None:
        try:
            async with TaskGroup() as group:
                group.spawn(stubborn())
                await _turns(6)
                raise ValueError("block")
        except ExceptionGroup as failed:
            scene.trace(sorted(str(error) for error in failed.exceptions))

    await _run(scene, work())
    expect_equal(scene.trace, [["block", "task"]])


@case("group")
async def a_task_that_is_cancelled_is_no_failure(scene: Scene) -> None:
    async def work() -> str:
        async with TaskGroup() as group:
            one = group.spawn(_wait(scene, "one"))
            two = group.spawn(_give("two"))
            await _turns(6)
            one.cancel()
        expect(one.cancelled, "it is cancelled")
        value: str = two.recv()
        return value

    expect_equal(await _run(scene, work()), "two")
    expect_equal(scene.trace, ["one cancelled"])


@case("group")
async def a_cancellation_from_outside_stays_one(scene: Scene) -> None:
    async def work() -> None:
        async with TaskGroup() as group:
            group.spawn(_wait(scene, "task"))
            await _wait(scene, "block")

    each = tasks.spawn(work())
    await scene.turns(6)
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect(each.cancelled, "it is cancelled")
    expect_equal(sorted(scene.trace), ["block cancelled", "task cancelled"])


@case("group")
async def a_cancellation_while_it_waits_for_its_tasks_ends_them(scene: Scene) -> None:
    async def work() -> None:
        async with TaskGroup() as group:
            group.spawn(_wait(scene, "task"))

    each = tasks.spawn(work())
    await scene.turns(6)
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["task cancelled"])


@case("group")
async def it_takes_coroutines_only_and_only_inside_of_its_block(scene: Scene) -> None:
    async def work() -> None:
        group = TaskGroup()
        with expect_raises(RuntimeError):
            group.spawn(_give(1))
        async with group:
            with expect_raises(TypeError):
                group.spawn(CondVar())  # type: ignore[arg-type]
        with expect_raises(RuntimeError):
            group.spawn(_give(1))

    await _run(scene, work())


@case("group")
async def what_it_is_given_while_it_is_cancelled_never_runs(scene: Scene) -> None:
    begun: CondVar[None] = CondVar()

    async def late(group: TaskGroup) -> None:
        try:
            begun.send(None)
            await CondVar[None]()
        finally:
            scene.trace(group.spawn(_wait(scene, "late")).cancelled)

    async def work() -> None:
        async with TaskGroup() as group:
            group.spawn(late(group))
            await begun
            raise ValueError

    with expect_raises(ExceptionGroup):
        await _run(scene, work())
    expect_equal(scene.trace, [True])


# ---------------------------------------------------------------------- gather and first


@case("combine")
async def gather_has_the_values_in_the_order_of_its_items(scene: Scene) -> None:
    two: CondVar[int] = CondVar()
    values = gather(_give(1), two, sleep(0))
    expect(not values.ready, "not inside the call")
    two.send(2)
    expect_equal(await scene.wait(values), [1, 2, None])
    nothing: CondVar[list[None]] = gather()
    expect(not nothing.ready, "not inside the call")
    expect_equal(await scene.wait(nothing), [])


@case("combine")
async def gather_fails_with_the_first_that_fails_and_ends_the_others(scene: Scene) -> None:
    one, two = _operation(scene, "one"), _operation(scene, "two")
    values = gather(one, two, _fail("three"))
    one.send("item")
    with expect_raises(ValueError):
        await scene.wait(values)
    expect_equal(sorted(scene.trace), ["one gets item back", "two cancelled"])


@case("combine")
async def a_gather_that_is_cancelled_ends_its_items(scene: Scene) -> None:
    operation, meeting_point = _operation(scene, "operation"), CondVar[str]()

    async def work() -> None:
        await gather(operation, meeting_point)

    each = tasks.spawn(work())
    await scene.turns(2)
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["operation cancelled"])
    expect(not meeting_point.ready, "a meeting point stays")


@case("combine")
async def the_first_that_succeeds_wins_and_ends_the_others(scene: Scene) -> None:
    one, two = _operation(scene, "one"), _operation(scene, "two")
    winner = first(_fail("three"), one, two)
    await scene.turns(3)
    two.send("item")
    expect_equal(await scene.wait(winner), "item")
    await scene.turns(4)  # in which the third has cleaned up
    expect_equal(scene.trace, ["one cancelled"])


@case("combine")
async def of_two_that_are_ready_in_one_turn_the_loser_gets_its_item_back(scene: Scene) -> None:
    one, two = _operation(scene, "one"), _operation(scene, "two")
    one.send("a")
    two.send("b")
    expect_equal(await scene.wait(first(one, two)), "a")
    expect_equal(scene.trace, ["two gets b back"])


@case("combine")
async def if_all_fail_the_errors_come_in_the_order_of_the_items(scene: Scene) -> None:
    slow, gone = CondVar[None](), CondVar[None]()
    gone.cancel()
    winner = first(slow, gone, _fail("third"))
    await scene.turns(4)
    slow.throw(ValueError("first"))
    try:
        await scene.wait(winner)
    except BaseExceptionGroup as failed:
        kinds = [isinstance(error, ValueError) for error in failed.exceptions]
        expect_equal(kinds, [True, False, True])
        expect(isinstance(failed.exceptions[1], CancelledError), "one was cancelled")
    wrong: Any = 2
    with expect_raises(ValueError):
        first(*[wrong][1:])
    with expect_raises(TypeError):
        gather(_give(1), wrong)


# ---------------------------------------------------------------------- channels


@case("channel")
async def a_channel_hands_items_over_in_order(scene: Scene) -> None:
    channel: Channel[int] = Channel()

    async def consume() -> list[int]:
        return [item async for item in channel]

    taken = tasks.spawn(consume())
    for item in range(3):
        channel.put(item)
    await scene.turns(2)
    channel.put(3)
    channel.close()
    channel.close()
    expect_equal(await scene.wait(taken), [0, 1, 2, 3])
    with expect_raises(ChannelClosed):
        await scene.wait(channel.get())
    with expect_raises(ChannelClosed):
        await scene.wait(channel.put(4))


@case("channel")
async def a_full_channel_holds_those_back_who_put(scene: Scene) -> None:
    channel: Channel[str] = Channel(1)
    one, two, three = channel.put("one"), channel.put("two"), channel.put("three")
    expect(one.ready and not two.ready, "there is room for one")
    two.cancel()
    expect_equal(await scene.wait(channel.get()), "one")
    expect(three.ready, "there is room again")
    four = channel.put("four")
    channel.close()
    with expect_raises(ChannelClosed):
        await scene.wait(four)
    expect_equal(await scene.wait(channel.get()), "three")
    for wrong in (0, -1):
        with expect_raises(ValueError):
            Channel(wrong)


@case("channel")
async def an_item_for_a_task_that_is_cancelled_goes_to_the_next(scene: Scene) -> None:
    channel: Channel[str] = Channel()

    async def take(name: str) -> None:
        scene.trace(f"{name} took {await channel.get()}")

    one, two = tasks.spawn(take("one")), tasks.spawn(take("two"))
    await scene.turns(2)
    channel.put("a")
    one.cancel()
    channel.put("b")
    with expect_raises(CancelledError):
        await scene.wait(one)
    await scene.turns(3)
    three = tasks.spawn(take("three"))
    await scene.wait(two)
    await scene.wait(three)
    expect_equal(sorted(text[-1] for text in scene.trace), ["a", "b"])


@case("channel")
async def a_semaphore_lets_only_so_many_in(scene: Scene) -> None:
    semaphore = Semaphore(2)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with semaphore:
            inside += 1
            scene.trace(inside)
            await sleep(0.001)
            inside -= 1

    for task in [tasks.spawn(work()) for _ in range(5)]:
        await scene.wait(task)
    expect_equal(max(scene.trace), 2)
    with expect_raises(ValueError):
        semaphore.release()


@case("channel")
async def a_permit_for_a_task_that_is_cancelled_goes_to_the_next(scene: Scene) -> None:
    semaphore = Semaphore()
    await scene.wait(semaphore.acquire())

    async def work(name: str) -> None:
        async with semaphore:
            scene.trace(name)

    one, two = tasks.spawn(work("one")), tasks.spawn(work("two"))
    await scene.turns(2)
    semaphore.release()
    one.cancel()
    with expect_raises(CancelledError):
        await scene.wait(one)
    await scene.wait(two)
    expect_equal(scene.trace, ["two"])
