"""Workers, channels and time limits that run on any loop, because they await ``ae_core`` alone.

    python examples/coroutines_anywhere.py [BACKEND | in-asyncio | in-trio]

BACKEND is any name that ``ae_core.use`` takes: ``loop`` (the default), ``asyncio``, ``trio``,
``glib`` ... ``in-asyncio`` and ``in-trio`` run it inside a loop that this program starts by
itself, with ``asyncio.run`` and ``trio.run``. What is printed is the same each time.

A protocol library that awaits condition variables, and uses ``TaskGroup``, ``Channel``,
``Semaphore``, ``gather``, ``first`` and ``timeout`` of ``ae_core``, leaves the choice of the loop
to the program.
"""

from __future__ import annotations

__all__ = ("main", "squares")

import argparse
import sys
from collections.abc import Iterable

import ae_core as ae


async def squares(numbers: Iterable[int], workers: int = 3) -> list[int]:
    """Return the squares of *numbers*, in any order, worked out by so many tasks at a time.

    It ends the same way in each case: with all of its tasks. An error in one of them ends the
    others and is raised in an ``ExceptionGroup``, and so does cancelling the caller.
    """
    jobs: ae.Channel[int] = ae.Channel(maxsize=2)  # no more than that is made in advance
    results: list[int] = []

    async def work() -> None:
        async for number in jobs:
            await ae.sleep(0.001 * (number % 3))  # as if it asked a server
            results.append(number * number)

    async with ae.TaskGroup() as group:
        for _ in range(workers):
            group.spawn(work())
        for number in numbers:
            await jobs.put(number)
        jobs.close()
    return results


async def answer(name: str, seconds: float) -> str:
    """Stand in for a server that takes its time."""
    await ae.sleep(seconds)
    return name


async def fail() -> None:
    """Stand in for a server that is broken."""
    await ae.sleep(0.001)
    raise ValueError("on purpose")


async def most_at_once(count: int, permits: int) -> int:
    """Have *count* tasks share a semaphore; return how many were in at once, at most."""
    semaphore = ae.Semaphore(permits)
    inside = most = 0

    async def enter() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await ae.sleep(0.001)
            inside -= 1

    await ae.gather(*(enter() for _ in range(count)))
    return most


async def main(count: int = 30) -> list[str]:
    """Do a bit of everything; return what there is to say about it."""
    lines = [f"the squares of {count} numbers make {sum(await squares(range(count)))}"]
    lines.append(f"at most {await most_at_once(10, permits=3)} of 10 tasks were in at once")
    fastest = await ae.first(answer("the slow one", 60), answer("the fast one", 0.001))
    lines.append(f"of two servers {fastest} answers first")
    try:
        async with ae.timeout(0.01):
            await ae.Channel[int]().get()
    except TimeoutError:
        lines.append("an empty channel: nothing came in time")
    try:
        async with ae.TaskGroup() as group:
            group.spawn(answer("nobody hears this", 60))
            group.spawn(fail())
    except* ValueError as errors:
        lines.append(f"an error in one of two: {errors.exceptions[0]}")
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
