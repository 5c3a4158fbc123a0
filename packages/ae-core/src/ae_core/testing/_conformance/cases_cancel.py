"""Demands on cancelling: what a task is cancelled with, when, and how often."""

from __future__ import annotations

__all__ = ()

from typing import TYPE_CHECKING

from ... import _api as ae
from ..._async import tasks
from ..._async.awaiting import cancelled_class
from ..._async.condvar import CondVar
from ..._base.errors import CancelledError
from .scene import CaseSkipped, Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from typing import Any


async def _class_of_a_task(scene: Scene) -> type[BaseException]:
    async def task() -> type[BaseException]:
        return cancelled_class()

    return await scene.wait(tasks.spawn(task()))


async def _only_where_it_is_an_event(scene: Scene) -> None:
    """Skip a demand where a cancellation is a state: every wait raises from then on."""
    kind = await _class_of_a_task(scene)
    if kind.__module__.partition(".")[0] == "trio":
        raise CaseSkipped(f"{kind.__module__}.{kind.__name__} is raised by every wait from then on")


@case("cancel")
async def the_class_that_it_names_is_raised_where_the_task_waits(scene: Scene) -> None:
    async def task() -> None:
        try:
            await CondVar[None]()
        except cancelled_class() as error:
            scene.trace("caught", type(error) is not BaseException)
            raise

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, [("caught", True)])
    expect(each.cancelled, "it is cancelled")


@case("cancel")
async def callbacks_of_the_loop_are_told_the_same_class_as_its_tasks(scene: Scene) -> None:
    with ae.timer(0, lambda: scene.trace(cancelled_class())):
        await scene.wait_until(1)
    expect_equal(scene.trace, [await _class_of_a_task(scene)])


@case("cancel")
async def our_own_class_catches_it_too(scene: Scene) -> None:
    await _only_where_it_is_an_event(scene)

    async def task() -> None:
        try:
            await CondVar[None]()
        except CancelledError:
            scene.trace("caught")
            raise

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["caught"])


@case("cancel")
async def one_that_catches_it_and_returns_is_not_cancelled(scene: Scene) -> None:
    async def task() -> str:
        with expect_raises(cancelled_class()):
            await CondVar[None]()
        return "went on"

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    expect_equal(await scene.wait(each), "went on")
    expect(not each.cancelled, "it is not cancelled")


@case("cancel")
async def one_that_went_on_is_cancelled_again_and_again(scene: Scene) -> None:
    await _only_where_it_is_an_event(scene)

    async def task() -> str:
        for number in range(5):
            try:
                await CondVar[None]()
            except cancelled_class():
                scene.trace(number)
        return "enough"

    each = tasks.spawn(task())
    for length in range(1, 6):
        await scene.turns(2)
        each.cancel()
        await scene.wait_until(length)
    expect_equal(await scene.wait(each), "enough")


@case("cancel")
async def clean_up_may_wait_and_can_be_cancelled_itself(scene: Scene) -> None:
    await _only_where_it_is_an_event(scene)

    async def task() -> None:
        try:
            await CondVar[None]()
        finally:
            await tasks.sleep(0.001)
            scene.trace("waited")
            try:
                await CondVar[None]()
            finally:
                scene.trace("gave up")

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    await scene.wait_until(1)
    await scene.turns(2)
    expect(not each.ready, "its clean-up is not over")
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["waited", "gave up"])


@case("cancel")
async def every_wait_of_the_clean_up_raises_where_it_is_a_state(scene: Scene) -> None:
    kind = await _class_of_a_task(scene)

    async def task() -> None:
        try:
            await CondVar[None]()
        finally:
            done: CondVar[None] = CondVar()
            try:
                with ae.timer(0.001, done.send):
                    await done
                scene.trace("waited")
            except kind:
                scene.trace("raised")

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    is_a_state = kind.__module__.partition(".")[0] == "trio"
    expect_equal(scene.trace, ["raised" if is_a_state else "waited"])


@case("cancel")
async def one_that_has_not_begun_never_does(scene: Scene) -> None:
    async def task() -> None:
        scene.trace("began")

    each = tasks.spawn(task())
    each.cancel()
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, [])
    expect(each.cancelled, "it is cancelled")


@case("cancel")
async def one_that_is_about_to_be_resumed_is_cancelled_all_the_same(scene: Scene) -> None:
    condvar: CondVar[None] = CondVar()

    async def task() -> None:
        await condvar

    each = tasks.spawn(task())
    await scene.turns(2)
    condvar.send()
    each.cancel()
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect(each.cancelled, "it is cancelled")


@case("cancel")
async def one_that_cancels_itself_goes_on_up_to_its_next_wait(scene: Scene) -> None:
    async def task() -> None:
        each.cancel()
        scene.trace("goes on")
        try:
            await CondVar[None]()
        except cancelled_class():
            scene.trace("caught")
            raise

    each = tasks.spawn(task())
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["goes on", "caught"])


@case("cancel")
async def an_error_in_the_clean_up_is_the_tasks_result(scene: Scene) -> None:
    async def task() -> None:
        try:
            await CondVar[None]()
        finally:
            raise ValueError("of the clean-up")

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    with expect_raises(ValueError):
        await scene.wait(each)
    expect(not each.cancelled, "it is not cancelled")


@case("cancel")
async def a_task_cleans_up_and_what_it_waited_for_stays_as_it_was(scene: Scene) -> None:
    never: CondVar[None] = CondVar()

    async def task() -> None:
        try:
            await never
        finally:
            scene.trace("cleaned up")

    each = tasks.spawn(task())
    await scene.turns(2)
    each.cancel()
    each.cancel()
    expect(not each.ready, "cancelling is a request")
    with expect_raises(CancelledError):
        await scene.wait(each)
    expect_equal(scene.trace, ["cleaned up"])
    expect(each.cancelled, "it is cancelled after its clean-up")
    expect(not never.ready, "what it waited for is as it was")


@case("cancel")
async def waiting_for_a_cancelled_condition_variable_raises_our_own_class(scene: Scene) -> None:
    before: CondVar[None] = CondVar()
    before.cancel()
    condvar: CondVar[None] = CondVar()

    async def task() -> None:
        for number, each in enumerate((before, condvar)):
            try:
                await each
            except CancelledError:
                scene.trace(number)

    each = tasks.spawn(task())
    await scene.turns(2)
    condvar.cancel()
    await scene.wait(each)
    expect_equal(scene.trace, [0, 1])


@case("cancel")
async def a_task_that_ends_by_the_cancellation_of_another_is_cancelled(scene: Scene) -> None:
    async def inner() -> None:
        await CondVar[None]()

    async def outer(what: CondVar[Any]) -> None:
        await what

    one = tasks.spawn(inner())
    two = tasks.spawn(outer(one))
    await scene.turns(2)
    one.cancel()
    with expect_raises(CancelledError):
        await scene.wait(two)
    expect(two.cancelled, "it is cancelled")
    expect_equal(scene.take_errors(), [])


@case("cancel")
async def a_task_that_is_cancelled_leaves_the_others_waiting(scene: Scene) -> None:
    condvar: CondVar[int] = CondVar()

    async def task() -> int:
        return await condvar

    one, two = tasks.spawn(task()), tasks.spawn(task())
    await scene.turns(2)
    one.cancel()
    with expect_raises(CancelledError):
        await scene.wait(one)
    condvar.send(5)
    expect_equal(await scene.wait(two), 5)


@case("cancel")
async def waiting_for_a_ready_one_lets_others_run_only_where_every_wait_does(scene: Scene) -> None:
    ready: CondVar[None] = CondVar()
    ready.send()
    kind = await _class_of_a_task(scene)

    async def task(name: str) -> None:
        for _ in range(3):
            scene.trace(name)
            await ready

    one, two = tasks.spawn(task("one")), tasks.spawn(task("two"))
    await scene.wait(one)
    await scene.wait(two)
    is_checkpoint = kind.__module__.partition(".")[0] == "trio"
    in_one_go = list(scene.trace) in (["one"] * 3 + ["two"] * 3, ["two"] * 3 + ["one"] * 3)
    expect(in_one_go != is_checkpoint, "a wait for what is ready lets others run on trio only")


@case("cancel")
async def of_many_awaiters_those_that_are_not_cancelled_get_the_value(scene: Scene) -> None:
    condvar = CondVar[str]()

    async def task() -> str:
        return await condvar

    waiting = [tasks.spawn(task()) for _ in range(100)]
    await scene.turns(2)
    stay = waiting[::7]
    for each in reversed(waiting):
        if each not in stay:
            each.cancel()
    await scene.turns(2)
    condvar.send("value")
    for each in waiting:
        if each in stay:
            expect_equal(await scene.wait(each), "value")
        else:
            with expect_raises(CancelledError):
                await scene.wait(each)
