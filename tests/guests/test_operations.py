"""``start_asyncio`` and ``async_slot``: coroutines of asyncio as operations of the host."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_guests import async_slot, start_asyncio


async def double(value: int) -> int:
    await asyncio.sleep(0.001)
    return 2 * value


@pytest.fixture(autouse=True)
def _all_end(request: pytest.FixtureRequest) -> Iterator[None]:
    hosted = "host" in request.fixturenames
    wait = request.getfixturevalue("until_closed") if hosted else int
    yield
    wait()


def test_the_value_of_a_coroutine_is_the_operations(host: Any) -> None:
    assert start_asyncio(double(4)).recv() == 8


def test_the_error_of_a_coroutine_is_the_operations(host: Any) -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        start_asyncio(failing()).recv()


def test_it_starts_in_a_later_turn(host: Any, trace: Any) -> None:
    async def traced() -> None:
        trace("started")

    operation = start_asyncio(traced())
    trace("returned")
    operation.recv()
    assert trace == ["returned", "started"]


def test_many_share_one_loop_which_ends_with_the_last(host: Any, until_closed: Any) -> None:
    loops = set()

    async def which(delay: float) -> None:
        await asyncio.sleep(delay)
        loops.add(asyncio.get_running_loop())

    operations = [start_asyncio(which(n / 1000)) for n in range(5)]
    for operation in operations:
        operation.recv()
    assert len(loops) == 1
    until_closed()
    assert loops.pop().is_closed()
    assert start_asyncio(double(1)).recv() == 2


def test_cancelling_is_a_request_that_the_task_cleans_up_after(host: Any, trace: Any) -> None:
    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            trace("cleaned up")

    operation = start_asyncio(patient())
    ae.sleep(0.01).recv()
    operation.cancel()
    assert not operation.ready
    with pytest.raises(ae.CancelledError):
        operation.recv()
    assert operation.cancelled
    assert trace == ["cleaned up"]


def test_the_cancellation_of_its_last_awaiter_cancels_the_task(host: Any, trace: Any) -> None:
    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            trace("cleaned up")

    async def main(operation: ae.CondVar[None]) -> str:
        try:
            async with ae.timeout(0.01):
                await operation
        except TimeoutError:
            return "in time"
        return "never"

    operation = start_asyncio(patient())
    assert "patient, pending>" in repr(operation)
    assert ae.spawn(main(operation)).recv() == "in time"
    with pytest.raises(ae.CancelledError):
        operation.recv()
    assert trace == ["cleaned up"]

    shielded = start_asyncio(double(2))
    assert ae.spawn(main(ae.shield(shielded))).recv() in ("in time", "never")
    assert shielded.recv() == 4


def test_an_exit_of_the_program_leaves_by_the_loop_and_all_others_go_on(
    host: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async def leaving() -> None:
        asyncio.get_running_loop().call_soon(seen.append, "after it")
        sys.exit(4)

    seen: list[str] = []
    other = start_asyncio(double(4))
    with pytest.raises(SystemExit):
        start_asyncio(leaving()).recv()
    assert other.recv() == 8  # the program may catch it and go on
    assert seen == ["after it"]
    gc.collect()
    assert capfd.readouterr().err == ""


def test_what_an_operation_leaves_behind_is_cancelled(
    host: Any, trace: Any, until_closed: Any
) -> None:
    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            trace("cancelled")

    async def main() -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(0.001)
        trace(f"done: {task.done()}")

    start_asyncio(main()).recv()
    until_closed()
    assert trace == ["done: False", "cancelled"]


def test_an_operation_awaits_what_is_ours(host: Any) -> None:
    async def main() -> str:
        await ae.sleep(0.001)
        return await ae.spawn(ours())

    async def ours() -> str:
        await ae.sleep(0.001)
        return "ours"

    assert start_asyncio(main()).recv() == "ours"


def test_a_coroutine_of_ours_awaits_an_operation(host: Any) -> None:
    async def main() -> int:
        return await start_asyncio(double(21))

    assert ae.spawn(main()).recv() == 42


def test_a_slot_is_a_plain_function_that_starts_a_coroutine(host: Any) -> None:
    seen: list[str] = []

    @async_slot
    async def clicked(name: str, *, times: int = 1) -> int:
        """Say so."""
        await asyncio.sleep(0.001)
        seen.append(name * times)
        return times

    assert clicked.__doc__ == "Say so."
    assert clicked("a", times=2).recv() == 2
    assert seen == ["aa"]


def test_the_error_of_a_slot_goes_to_the_hook(
    host: Any, monkeypatch: pytest.MonkeyPatch, until_closed: Any
) -> None:
    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))

    @async_slot
    async def failing() -> None:
        raise LookupError("slot")

    failing()
    until_closed()
    assert [str(error) for error in errors] == ["slot"]


def test_what_is_no_coroutine_is_refused(host: Any) -> None:
    with pytest.raises(TypeError, match="coroutine object"):
        start_asyncio(double)  # type: ignore[arg-type]


def test_under_asyncio_it_is_a_task_of_that_loop() -> None:
    async def main() -> tuple[int, bool]:
        here = asyncio.get_running_loop()

        async def which() -> bool:
            return asyncio.get_running_loop() is here

        return await start_asyncio(double(2)), await start_asyncio(which())

    ae.testing.release()
    assert asyncio.run(main()) == (4, True)


def test_under_trio_it_is_refused() -> None:
    trio = pytest.importorskip("trio")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="trio cannot be the host"):
            start_asyncio(double(2))

    ae.testing.release()
    trio.run(main)
