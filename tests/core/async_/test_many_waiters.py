"""Thousands that wait for one thing: what it costs to give up, and who is told all the same."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

import ae_core as ae
from ae_core.testing import Trace, binding

Doubling = Callable[..., None]
Made = list[ae.CondVar[Any]]
MANY: Final = 100  # a condition variable keeps this many in another way than a few


# ---------------------------------------------------------------------- what it costs


def shields_of_one(n: int) -> Made:
    operation = ae.CondVar[None](cancel=lambda: None)
    return [ae.shield(operation) for _ in range(n)]


def getters_of_a_channel(n: int) -> Made:
    channel = ae.Channel[int]()
    return [channel.get() for _ in range(n)]


def putters_of_a_channel(n: int) -> Made:
    channel = ae.Channel[int](1)
    channel.put(0)
    return [channel.put(number) for number in range(n)]


def acquirers_of_a_semaphore(n: int) -> Made:
    semaphore = ae.Semaphore()
    semaphore.acquire()
    return [semaphore.acquire() for _ in range(n)]


@pytest.mark.parametrize(
    "wait", [shields_of_one, getters_of_a_channel, putters_of_a_channel, acquirers_of_a_semaphore]
)
@pytest.mark.parametrize("order", ["first to last", "last to first"])
def test_giving_up_one_by_one_takes_linear_time(
    wait: Callable[[int], Made], order: str, doubling: Doubling
) -> None:
    def prepare(n: int) -> Callable[[], object]:
        waiting = wait(n)
        if order == "last to first":
            waiting.reverse()

        def work() -> None:
            for each in waiting:
                each.cancel()

        return work

    doubling(prepare, 3000)


@pytest.mark.parametrize("host", ["loop", "asyncio", "trio"])
def test_cancelling_the_awaiters_of_one_takes_linear_time(host: str, doubling: Doubling) -> None:
    if host == "trio":
        pytest.importorskip("trio")

    async def cancels(n: int) -> None:
        condvar = ae.CondVar[None]()

        async def wait() -> None:
            await condvar

        tasks = [ae.spawn(wait()) for _ in range(n)]
        await ae.sleep(0)
        random.Random(1).shuffle(tasks)
        for task in tasks:
            task.cancel()
        while not all(task.ready for task in tasks):
            await ae.sleep(0)

    doubling(lambda n: lambda: run_on(host, cancels(n)), 2000)


def test_a_scope_of_trio_that_is_cancelled_when_all_are_told_takes_linear_time(
    doubling: Doubling,
) -> None:
    trio = pytest.importorskip("trio")
    pytest.importorskip("trio.testing")

    async def cancels(n: int) -> None:
        condvar = ae.CondVar[None]()

        async def wait() -> None:
            await condvar

        async with trio.open_nursery() as nursery:
            condvar.on_ready(lambda _: nursery.cancel_scope.cancel())
            for _ in range(n):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            condvar.send()

    doubling(lambda n: lambda: run_on("trio", cancels(n)), 2000)


def run_on(host: str, main: Coroutine[Any, Any, None]) -> None:
    with binding(host):
        ae.run(main)


# ---------------------------------------------------------------------- who is told


def test_those_that_stay_are_told_in_their_order(trace: Trace) -> None:
    condvar = ae.CondVar[None]()
    given_up = []
    for number in range(MANY):
        condvar.on_ready(lambda _, number=number: trace(number))  # type: ignore[misc]
        given_up.append(ae.shield(condvar))
    for shield in given_up:
        shield.cancel()
    condvar.on_ready(lambda _: trace("last"))
    condvar.send()
    assert trace == [*range(MANY), "last"]


def test_a_callback_that_was_given_twice_is_called_twice(trace: Trace) -> None:
    condvar = ae.CondVar[None]()

    def callback(_: object) -> None:
        trace("called")

    for _ in range(MANY // 2):
        condvar.on_ready(callback)
    shields = [ae.shield(condvar) for _ in range(MANY)]
    for shield in shields[: MANY // 2]:
        shield.cancel()
    condvar.on_ready(callback)
    condvar.send()
    assert trace == ["called"] * (MANY // 2 + 1)
    assert all(shield.ready for shield in shields)


class Unhashable:
    """A callback that equals its like, and so cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, told: list[object]) -> None:
        self.told = told

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    def __call__(self, condvar: object) -> None:
        self.told.append(condvar)


def test_callbacks_that_cannot_be_hashed_are_called() -> None:
    condvar = ae.CondVar[None]()
    told: list[object] = []
    shields = [ae.shield(condvar) for _ in range(MANY)]
    condvar.on_ready(Unhashable(told))
    shields[0].cancel()
    condvar.on_ready(Unhashable(told))
    condvar.send()
    assert told == [condvar, condvar]


def test_many_that_have_become_few_may_become_many_again(trace: Trace) -> None:
    operation = ae.CondVar[str](cancel=lambda: trace("cancelled"))
    for _ in range(3):
        shields = [ae.shield(operation) for _ in range(MANY)]
        for shield in reversed(shields[1:]):
            shield.cancel()
    operation.send("value")
    assert shields[0].recv() == "value"
    assert trace == []


def test_an_operation_of_many_is_cancelled_with_the_last_of_them(trace: Trace) -> None:
    operation = ae.CondVar[str](cancel=lambda: trace("cancelled"))

    async def wait() -> None:
        await operation

    async def main() -> None:
        tasks = [ae.spawn(wait()) for _ in range(MANY)]
        await ae.sleep(0)
        for task in tasks[1:]:
            task.cancel()
        await ae.sleep(0)
        assert trace == []
        tasks[0].cancel()
        await ae.sleep(0)

    ae.run(main())
    assert trace == ["cancelled"]


def test_ending_thousands_of_watchers_of_one_descriptor_takes_linear_time(
    doubling: Doubling,
) -> None:
    one, two = socket.socketpair()

    def prepare(n: int) -> Callable[[], object]:
        watchers = [ae.io(one, "r", lambda: None) for _ in range(n)]

        def work() -> None:
            while watchers:
                watchers.pop().cancel()

        return work

    with one, two:
        doubling(prepare, 3000)
