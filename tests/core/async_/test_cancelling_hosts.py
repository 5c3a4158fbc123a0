"""Cancelling where the loop has tasks of its own: asyncio's counting and groups, trio's scopes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace

pytestmark = pytest.mark.usefixtures("unbound", "warm_uvloop")

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function in a loop of the program's."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    return run


async def forever() -> None:
    await ae.CondVar[None]()


async def begun(coroutine: Coroutine[Any, Any, Any]) -> ae.CondVar[Any]:
    task = ae.spawn(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


def test_outside_of_any_loop_the_class_is_ours() -> None:
    assert ae.cancelled_class() is ae.CancelledError


def test_the_portable_class_is_asyncios_and_catches_both_kinds(run: Run, trace: Trace) -> None:
    async def main() -> None:
        assert ae.cancelled_class() is asyncio.CancelledError

        async def work(wait: Callable[[], Any]) -> None:
            try:
                await wait()
            except ae.cancelled_class():
                trace("caught")
                raise

        for wait in (ae.CondVar[None], lambda: asyncio.sleep(60)):
            task = await begun(work(wait))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ae.CancelledError):
                await task

    run(main)
    assert trace == ["caught", "caught"]


def test_either_class_catches_our_cancel_and_a_cancelled_condition_variable(run: Run) -> None:
    async def main() -> None:
        for kind in (asyncio.CancelledError, ae.CancelledError):

            async def work(kind: type[BaseException] = kind) -> str:
                try:
                    await forever()
                except kind:
                    return "caught"
                return "nothing"

            task = await begun(work())
            task.cancel()
            assert await task == "caught"
            cv = ae.CondVar[None]()
            cv.cancel()
            with pytest.raises(kind):
                await cv

    run(main)


def test_one_that_cancels_itself_gets_the_class_that_is_both(run: Run, trace: Trace) -> None:
    async def main() -> None:
        async def work() -> None:
            task.cancel()
            try:
                await forever()
            except ae.CancelledError as error:
                trace(isinstance(error, asyncio.CancelledError))

        task = ae.spawn(work())
        await task

    run(main)
    assert trace == [True]


def test_a_task_of_asyncio_that_waits_for_a_cancelled_one_counts_as_cancelled(run: Run) -> None:
    async def main() -> None:
        cv = ae.CondVar[None]()

        async def wait() -> None:
            await cv

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        cv.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run(main)


def test_a_time_limit_of_asyncio_inside_stays_a_time_limit(run: Run) -> None:
    async def main() -> None:
        async def work() -> str:
            try:
                async with asyncio.timeout(0.001):
                    await forever()
            except TimeoutError:
                current = asyncio.current_task()
                assert current is not None
                return f"timed out, {current.cancelling()} cancellations"
            return "nothing"

        assert await ae.spawn(work()) == "timed out, 0 cancellations"

    run(main)


def test_our_cancel_inside_a_time_limit_of_asyncio_is_no_time_out(run: Run, trace: Trace) -> None:
    async def main() -> None:
        async def work() -> None:
            try:
                async with asyncio.timeout(60):
                    await forever()
            except ae.CancelledError:
                trace("cancelled")
                raise

        task = await begun(work())
        task.cancel()
        await asyncio.wait([asyncio.ensure_future(ended(task))])
        assert task.cancelled

    run(main)
    assert trace == ["cancelled"]


async def ended(task: ae.CondVar[Any]) -> None:
    done = ae.CondVar[None]()
    task.on_ready(lambda task: done.send())
    await done


def test_a_failing_group_of_asyncio_ends_the_wait_of_its_body(run: Run) -> None:
    async def main() -> None:
        async def fails() -> None:
            await ae.sleep(0.001)
            raise ValueError("of a child")

        async def work() -> str:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
                    await forever()
            except* ValueError:
                current = asyncio.current_task()
                assert current is not None
                assert current.cancelling() == 0
            return "handled"

        assert await ae.spawn(work()) == "handled"

    run(main)


def test_our_cancel_in_the_body_of_a_group_of_asyncio_is_no_failure(run: Run, trace: Trace) -> None:
    async def main() -> None:
        async def child() -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                trace("child")
                raise

        async def work() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
                    await forever()
            except asyncio.CancelledError:  # bare, and no group of it
                trace("body")
                raise

        task = await begun(work())
        task.cancel()
        await ended(task)
        assert task.cancelled

    run(main)
    assert trace == ["child", "body"]


def test_every_cancel_is_counted_and_may_be_taken_back(run: Run, trace: Trace) -> None:
    async def main() -> None:
        async def work() -> str:
            current = asyncio.current_task()
            assert current is not None
            for _ in range(3):
                try:
                    await forever()
                except ae.CancelledError:
                    trace(current.cancelling())
            while current.uncancel():
                continue
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            return "went on"

        task = await begun(work())
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert await task == "went on"

    run(main)
    assert trace == [1, 2, 3]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_an_eager_task_of_the_host_can_be_cancelled() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = ae.spawn(forever())
        task.cancel()
        with pytest.raises(ae.CancelledError):
            await task

    asyncio.run(main())


# ---------------------------------------------------------------------- trio


def test_a_cancelled_nursery_in_a_task_is_a_cancelled_task(trace: Trace) -> None:
    trio = pytest.importorskip("trio")

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forever)
            nursery.start_soon(forever)
            await forever()

    async def main() -> None:
        assert ae.cancelled_class() is trio.Cancelled
        task = ae.spawn(work())
        await trio.testing.wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(ae.CancelledError):
            await task
        assert task.cancelled

    __import__("trio.testing")
    trio.run(main)


def test_an_error_beside_the_cancellation_in_a_nursery_is_the_tasks_result() -> None:
    trio = pytest.importorskip("trio")
    __import__("trio.testing")

    async def fails() -> None:
        try:
            await forever()
        finally:
            raise ValueError("of the clean-up")

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            await forever()

    async def main() -> None:
        task = ae.spawn(work())
        await trio.testing.wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(BaseExceptionGroup) as caught:
            await task
        assert caught.group_contains(ValueError)

    trio.run(main)


def test_waiting_for_what_is_ready_is_a_checkpoint_of_trio(trace: Trace) -> None:
    trio = pytest.importorskip("trio")
    ready = ae.CondVar[int]()
    ready.send(1)

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ready
            trace("not reached")
        assert scope.cancelled_caught
        assert await ready == 1

    trio.run(main)
    assert trace == []
