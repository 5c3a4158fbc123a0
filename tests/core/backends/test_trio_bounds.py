"""Outside of a run of trio, behind its end, and beside what the program waits for itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import at_loop_end
from ae_core.testing import Trace, release

pytestmark = [
    pytest.mark.skipif(find_spec("trio") is None, reason="trio is not installed"),
    pytest.mark.usefixtures("unbound"),
]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


def test_without_a_run_there_is_no_loop_and_nothing_can_be_waited_for() -> None:
    ae.use("trio")
    backend = ae.detect()
    assert not backend.running()
    with pytest.raises(RuntimeError, match="has not run yet"):
        backend.call_threadsafe(print)
    with pytest.raises(ae.BlockingNotAllowed, match="cannot be run by recv"):
        backend.run_until(bool)
    backend.run_until(lambda: True)
    with pytest.raises(ae.BlockingNotAllowed, match="turn by turn"):
        backend.poll(False)
    backend.wake()
    release()


def test_a_timer_that_is_refused_outside_of_a_run_is_not_called_in_the_next(trace: Trace) -> None:
    import trio

    async def main() -> None:
        await ae.sleep(0.001)
        trace(ae.detect() is backend)

    ae.use("trio")
    backend = ae.detect()
    with pytest.raises(RuntimeError, match="no loop outside a run"):
        ae.timer(0, trace.recorder("refused"))
    trio.run(main)
    assert trace == [True]


def test_behind_its_end_a_run_takes_no_calls_and_is_not_used_again() -> None:
    import trio

    backends: list[ae.abc.Backend] = []

    async def main() -> None:
        backends.append(ae.detect())
        await ae.sleep(0.001)

    trio.run(main)
    trio.run(main)
    first, second = backends
    assert first is not second
    assert first.ended()
    assert not first.usable()
    for call in (first.call_threadsafe, partial(type(first).call_threadsafe, first)):
        with pytest.raises(RuntimeError, match="has ended"):
            call(print)


def test_a_number_that_trio_is_told_to_close_is_watched_no_more(
    pair: tuple[socket.socket, socket.socket], trace: Trace
) -> None:
    import trio

    async def main() -> None:
        watcher = ae.io(pair[1], "r", trace.recorder("read"))
        await ae.sleep(0.001)
        trio.lowlevel.notify_closing(pair[1])
        pair[0].send(b"x")
        await ae.sleep(0.005)
        watcher.cancel()

    trio.run(main)
    assert trace == []


def test_what_a_task_of_the_program_waits_for_is_watched_when_it_has_come(
    pair: tuple[socket.socket, socket.socket], trace: Trace
) -> None:
    import trio

    async def wait() -> None:
        await trio.lowlevel.wait_readable(pair[1])
        pair[1].recv(1)
        trace("task")
        pair[0].send(b"y")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            done = ae.CondVar[bytes]()
            watcher = ae.io(pair[1], "r", lambda: (trace("watcher"), done.send(pair[1].recv(1))))
            await ae.sleep(0.001)
            assert trace == []
            pair[0].send(b"x")
            assert await done == b"y"
            watcher.cancel()

    import trio.testing

    trio.run(main)
    assert trace == ["task", "watcher"]


def test_calls_that_the_end_of_a_run_makes_are_made_and_so_are_those_of_theirs(
    trace: Trace,
) -> None:
    import trio

    kept: list[Any] = []

    async def main() -> None:
        call_soon = ae.detect().call_soon

        def late() -> None:
            trace("late")
            call_soon(lambda: (trace("later"), call_soon(lambda: trace("last"))))

        kept.append(at_loop_end(lambda: call_soon(late)))
        await ae.sleep(0.001)

    trio.run(main)
    assert trace == ["late", "later", "last"]


def test_a_task_that_ends_as_what_it_awaited_was_cancelled_is_no_failure_of_its_group(
    trace: Trace,
) -> None:
    import trio

    async def child() -> None:
        condvar = ae.CondVar[None]()
        ae.postpone(condvar.cancel)
        await condvar

    async def other() -> None:
        await ae.sleep(0.005)
        trace("other")

    async def main() -> None:
        async with ae.TaskGroup() as group:
            task = group.spawn(child())
            group.spawn(other())
        trace(task.cancelled)

    trio.run(main)
    assert trace == ["other", True]
