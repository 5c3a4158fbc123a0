"""A small coroutine library that runs on any loop, because it awaits nothing but CondVar.

    python examples/coroutines_anywhere.py [BACKEND | in-asyncio | in-trio]

BACKEND is any name that ``ae_core.use`` takes: ``loop`` (the default), ``asyncio``, ``trio``,
``glib`` ... ``in-asyncio`` and ``in-trio`` run it inside a loop that this program starts by
itself, with ``asyncio.run`` and ``trio.run``. What is printed is the same each time.

The library is ``Channel``, ``gather`` and ``limit``: what trio and asyncio each have in their own
shape. A protocol library written with them leaves the choice of the loop to the program.
"""

from __future__ import annotations

__all__ = ("Channel", "ChannelClosed", "gather", "limit", "main")

import argparse
import sys
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, TypeVar

import ae_core as ae

T = TypeVar("T")


# ---------------------------------------------------------------------- the library


class ChannelClosed(Exception):
    """Nothing more will come through the channel."""


class Channel(Generic[T]):
    """A queue between coroutines; ``put`` waits while it holds *capacity* values.

    Raises:
        ValueError: If *capacity* is below 1.
    """

    def __init__(self, capacity: int = 1) -> None:
        if capacity < 1:
            raise ValueError(f"expected a capacity of 1 or more, got {capacity!r}")
        self._capacity = capacity
        self._values: deque[T] = deque()
        self._takers: deque[ae.CondVar[None]] = deque()
        self._givers: deque[ae.CondVar[None]] = deque()
        self._closed = False

    async def put(self, value: T) -> None:
        """Add *value*, waiting until there is room."""
        while len(self._values) >= self._capacity and not self._closed:
            await self._turn(self._givers)
        if self._closed:
            raise ChannelClosed
        self._values.append(value)
        self._wake(self._takers)

    async def get(self) -> T:
        """Take the oldest value, waiting until there is one."""
        while not self._values:
            if self._closed:
                raise ChannelClosed
            await self._turn(self._takers)
        value = self._values.popleft()
        self._wake(self._givers)
        return value

    def close(self) -> None:
        """Let everybody know that nothing more will come; what is there can still be taken."""
        self._closed = True
        for waiters in (self._takers, self._givers):
            while waiters:
                self._wake(waiters)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                yield await self.get()
            except ChannelClosed:
                return

    async def _turn(self, waiters: deque[ae.CondVar[None]]) -> None:
        mine: ae.CondVar[None] = ae.CondVar()
        waiters.append(mine)
        try:
            await mine
        except BaseException:
            if mine in waiters:
                waiters.remove(mine)
            elif mine.ready:
                self._wake(waiters)  # our turn was granted, and we do not use it
            raise

    @staticmethod
    def _wake(waiters: deque[ae.CondVar[None]]) -> None:
        if waiters:
            waiters.popleft().send()


async def gather(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Run coroutines at the same time and return their results in order.

    The first error ends the others, and is raised when they have cleaned up.
    """
    tasks = [ae.spawn(each) for each in coroutines]
    over: ae.CondVar[None] = ae.CondVar()
    over.begin()

    def ended(task: ae.CondVar[T]) -> None:
        try:
            task.recv()
        except BaseException:
            for other in tasks:
                other.cancel()
        over.end()

    for task in tasks:
        over.begin()
        task.on_ready(ended)
    over.end()
    try:
        await over
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    for task in tasks:
        if not task.cancelled:
            task.recv()  # raises the error that began it, if there was one
    return [task.recv() for task in tasks]


async def limit(seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* for at most *seconds*.

    Raises:
        TimeoutError: If it takes longer; it is cancelled then, and has cleaned up.
    """
    task = ae.spawn(coroutine)
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    with ae.timer(seconds, expire):
        try:
            return await task
        except ae.CancelledError:
            if expired:
                raise TimeoutError(f"not done within {seconds:g} s") from None
            raise
        finally:
            task.cancel()  # if it was us who was cancelled


# ---------------------------------------------------------------------- a program that uses it


async def work(name: str, jobs: Channel[int], results: Channel[tuple[int, int]]) -> int:
    done = 0
    async for number in jobs:
        await ae.sleep(0.001 * (number % 3))  # as if it asked a server
        await results.put((number, number * number))
        done += 1
    return done


async def feed(jobs: Channel[int], count: int) -> int:
    for number in range(count):
        await jobs.put(number)
    jobs.close()
    return 0


async def collect(results: Channel[tuple[int, int]], count: int) -> int:
    total = 0
    for _ in range(count):
        _, square = await results.get()
        total += square
    return total


async def fail() -> int:
    await ae.sleep(0.001)
    raise ValueError("on purpose")


async def main(count: int = 30) -> list[str]:
    """Do a bit of everything; return what there is to say about it."""
    jobs: Channel[int] = Channel(capacity=2)
    results: Channel[tuple[int, int]] = Channel()
    workers = [work(name, jobs, results) for name in ("one", "two", "three")]
    _, total, *done = await gather(feed(jobs, count), collect(results, count), *workers)
    lines = [f"{sum(done)} jobs done by {len(workers)} workers, the squares make {total}"]
    try:
        await limit(0.01, Channel[int]().get())
    except TimeoutError as error:
        lines.append(f"an empty channel: {error}")
    waiting: Channel[int] = Channel()
    try:
        await gather(waiting.get(), fail())
    except ValueError as error:
        lines.append(f"an error in one of two: {error}")
    return lines


def start(where: str) -> list[str]:
    """Run ``main`` as the command line says."""
    if where == "in-asyncio":
        import asyncio

        return asyncio.run(main())
    if where == "in-trio":
        import trio

        lines: list[str] = trio.run(main)
        return lines
    ae.use(where)
    return ae.run(main())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("where", nargs="?", default="loop", help="a backend, in-asyncio or in-trio")
    try:
        for line in start(parser.parse_args().where):
            print(line)
    except (ValueError, ImportError) as problem:
        sys.exit(f"coroutines_anywhere: {problem}")
