"""``start_trio``: runs of trio as operations of the host."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

import ae_core as ae
from ae_guests import start_trio

trio = pytest.importorskip("trio")
pytestmark = pytest.mark.usefixtures("trio")


def test_the_value_of_the_main_function_is_the_operations(host: Any) -> None:
    async def main(a: int, b: int) -> int:
        await trio.sleep(0.001)
        return a + b

    assert start_trio(main, 1, 2).recv() == 3
    assert start_trio(main, 3, 4).recv() == 7


def test_the_error_of_the_main_function_is_the_operations(host: Any) -> None:
    async def main() -> None:
        await trio.sleep(0)
        raise LookupError("trio")

    with pytest.raises(LookupError, match="trio"):
        start_trio(main).recv()


def test_the_cancellation_of_its_last_awaiter_cancels_the_run(host: Any, trace: Any) -> None:
    async def patient() -> None:
        try:
            await trio.sleep(60)
        finally:
            trace("cleaned up")

    async def main(run: ae.CondVar[None]) -> None:
        async with ae.timeout(0.01):
            await run

    run = start_trio(patient)
    assert "patient, pending>" in repr(run)
    with pytest.raises(TimeoutError):
        ae.spawn(main(run)).recv()
    with pytest.raises(ae.CancelledError):
        run.recv()
    assert trace == ["cleaned up"]


def test_an_exit_of_the_program_leaves_by_the_loop_and_is_not_logged(
    host: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async def leaving() -> None:
        sys.exit(4)

    with pytest.raises(SystemExit):
        start_trio(leaving).recv()
    gc.collect()
    assert capfd.readouterr().err == ""


def test_generators_are_finalized_by_trio_inside_and_by_the_host_outside(
    host: Any, trace: Any
) -> None:
    before = sys.get_asyncgen_hooks()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            trace(trio.lowlevel.in_trio_run())

    async def main() -> None:
        left = numbers()
        await anext(left)
        assert sys.get_asyncgen_hooks() != before
        with ae.timer(0.0, lambda: trace(sys.get_asyncgen_hooks() == before)):
            while not trace:
                await trio.sleep(0.001)
        assert await anext(left, None) is None

    start_trio(main).recv()
    assert sys.get_asyncgen_hooks() == before
    assert trace == [True, True]


def test_cancelling_ends_the_run_after_its_clean_up(host: Any, trace: Any) -> None:
    async def main() -> None:
        try:
            trace("began")
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.001)
            trace("cleaned up")

    run = start_trio(main)
    trace.run_until(1)
    run.cancel()
    with pytest.raises(ae.CancelledError):
        run.recv()
    assert run.cancelled
    assert trace == ["began", "cleaned up"]


def test_one_cancelled_before_it_began_does_not_hang(host: Any) -> None:
    async def main() -> None:
        await trio.sleep(60)

    run = start_trio(main)
    run.cancel()
    with pytest.raises(ae.CancelledError):
        run.recv()


def test_cancelling_what_has_ended_changes_nothing(host: Any) -> None:
    async def main() -> str:
        return await ae.sleep(0.001) or "value"

    run = start_trio(main)
    assert run.recv() == "value"
    run.cancel()
    assert not run.cancelled
    assert run.recv() == "value"


def test_calls_that_trio_asks_for_together_are_made_in_their_order(
    host: Any, trace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trio has one such call under way at a time; what it promises of them is more."""
    start = trio.lowlevel.start_guest_run
    soon: list[Any] = []

    def start_guest_run(*args: Any, **options: Any) -> None:
        soon.append(options["run_sync_soon_not_threadsafe"])
        start(*args, **options)

    monkeypatch.setattr(trio.lowlevel, "start_guest_run", start_guest_run)

    async def main() -> None:
        for n in range(3):
            soon[0](partial(trace, n))
        trace("asked")
        while len(trace) < 4:
            await trio.sleep(0)

    start_trio(main).recv(timeout=30)
    assert trace == ["asked", 0, 1, 2]


def test_sockets_of_trio_and_condvars_of_ours_work_side_by_side(host: Any) -> None:
    async def main() -> bytes:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def serve(stream: Any) -> None:
            await stream.send_all(await stream.receive_some(100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"hello")
            data: bytes = await stream.receive_some(100)
            await stream.aclose()
            await ae.sleep(0.001)
            nursery.cancel_scope.cancel()
        return data

    ticks: list[int] = []
    with ae.timer(0.0, lambda: ticks.append(1), interval=0.001):
        assert start_trio(main).recv() == b"hello"
    assert ticks


def test_a_second_run_in_the_thread_is_refused(host: Any) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="inside a"):
            start_trio(main)

    start_trio(main).recv()


def test_under_trio_it_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="trio runs in this thread"):
            start_trio(main)

    ae.testing.release()
    trio.run(main)
