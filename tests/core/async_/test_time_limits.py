"""Time limits where they cannot work, and beside those of the loop's own library."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

import pytest

import ae_core as ae
from ae_core.testing import Trace, virtual_time


@pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted")
def test_in_a_coroutine_that_twisted_drives_it_is_refused_with_what_to_write_instead() -> None:
    from twisted.internet import defer

    async def main() -> None:
        async with ae.timeout(1):
            raise AssertionError

    failures: list[str] = []
    defer.ensureDeferred(main()).addErrback(lambda failure: failures.append(str(failure.value)))
    assert len(failures) == 1
    for word in ("Twisted", "ae.spawn()", "ae.as_condvar(deferred)", "Deferred.addTimeout()"):
        assert word in failures[0]


def test_a_coroutine_that_nothing_drives_is_refused() -> None:
    async def main() -> None:
        async with ae.timeout(1):
            raise AssertionError

    coroutine = main()
    with pytest.raises(RuntimeError, match=r"ae\.timeout\(\) works in asyncio tasks"):
        coroutine.send(None)


@pytest.mark.usefixtures("unbound")
def test_a_limit_of_asyncio_outside_of_it_raises_at_its_own_block(trace: Trace) -> None:
    async def main() -> None:
        try:
            async with asyncio.timeout(0.01):
                try:
                    async with ae.timeout(100):
                        await ae.CondVar[None]()
                except TimeoutError:
                    trace("inner")
        except TimeoutError:
            trace("outer")

    asyncio.run(main())
    assert trace == ["outer"]


def test_a_second_limit_works_after_a_first_that_was_up(trace: Trace) -> None:
    async def main() -> None:
        for _ in range(3):
            try:
                async with ae.timeout(5):
                    await ae.CondVar[None]()
            except TimeoutError:
                trace(round(ae.now()) - began)

    with virtual_time():
        began = round(ae.now())
        ae.run(main())
    assert trace == [5, 10, 15]


def test_a_task_that_is_cancelled_again_while_it_cleans_up_after_a_limit(trace: Trace) -> None:
    async def work() -> None:
        async with ae.timeout(5):
            try:
                await ae.CondVar[None]()
            finally:
                trace("cleans up")
                try:
                    await ae.CondVar[None]()
                finally:
                    trace("is cancelled")

    with virtual_time():
        task = ae.spawn(work())
        ae.sleep(6).recv()
        task.cancel()
        with pytest.raises(ae.CancelledError):
            task.recv()
    assert trace == ["cleans up", "is cancelled"]
