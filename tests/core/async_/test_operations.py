"""Operations under what other libraries cancel with: limits, scopes, Deferreds."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug, strict
from ae_core.testing import Trace, release


@pytest.fixture
def operation(trace: Trace) -> ae.CondVar[str]:
    return ae.CondVar(
        cancel=lambda: trace("cancelled"),
        untaken=lambda value: trace(f"back: {value}"),
        describe=lambda: "read 'line' from example.org:25",
    )


async def take(operation: ae.CondVar[str], trace: Trace) -> None:
    trace(f"took {await operation}")


# ---------------------------------------------------------------------- asyncio


async def in_a_timeout(wait: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(0.01):
        await wait


async def in_wait_for(wait: Coroutine[Any, Any, None]) -> None:
    await asyncio.wait_for(wait, 0.01)


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize("limit", [in_a_timeout, in_wait_for])
def test_a_time_limit_of_asyncio_cancels_it(
    limit: Callable[..., Any], operation: ae.CondVar[str], trace: Trace
) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await limit(take(operation, trace))

    asyncio.run(main())
    assert trace == ["cancelled"]


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize("limit", [in_a_timeout, in_wait_for])
def test_an_item_that_comes_when_a_time_limit_of_asyncio_is_up_is_taken_or_given_back(
    limit: Callable[..., Any], operation: ae.CondVar[str], trace: Trace
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        # in the very turn in which the limit is up: before it, and behind it
        loop.call_later(0.01, operation.send, "item")
        try:
            await limit(take(operation, trace))
        except TimeoutError:
            trace("timed out")

    asyncio.run(main())
    assert list(trace) in (["took item"], ["back: item", "timed out"], ["cancelled", "timed out"])


@pytest.mark.usefixtures("unbound")
def test_a_future_made_of_it_cancels_it(operation: ae.CondVar[str], trace: Trace) -> None:
    async def main() -> None:
        future = asyncio.ensure_future(operation)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(main())
    assert trace == ["cancelled"]


@pytest.mark.usefixtures("unbound")
def test_a_failure_in_a_task_group_of_asyncio_cancels_what_the_others_await(
    operation: ae.CondVar[str], trace: Trace
) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(take(operation, trace))
                await asyncio.sleep(0)
                raise ValueError

    asyncio.run(main())
    assert trace == ["cancelled"]


# ---------------------------------------------------------------------- trio and anyio

needs_trio = pytest.mark.skipif(find_spec("trio") is None, reason="needs trio")


@needs_trio
@pytest.mark.usefixtures("unbound")
def test_a_scope_of_trio_cancels_it(operation: ae.CondVar[str], trace: Trace) -> None:
    import trio

    async def main() -> None:
        with trio.move_on_after(0.01) as scope:
            await operation
        assert scope.cancelled_caught

    trio.run(main)
    assert trace == ["cancelled"]


@needs_trio
@pytest.mark.usefixtures("unbound")
def test_an_item_that_is_sent_before_a_scope_of_trio_is_cancelled_is_given_back(
    operation: ae.CondVar[str], trace: Trace
) -> None:
    import trio

    async def main() -> None:
        async def send(scope: trio.CancelScope) -> None:
            operation.send("item")
            scope.cancel()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(send, scope)
                await take(operation, trace)

    trio.run(main)
    assert trace == ["back: item"]


@needs_trio
@pytest.mark.usefixtures("unbound")
def test_an_item_that_was_there_before_a_cancelled_scope_of_trio_waits_is_given_back(
    operation: ae.CondVar[str], trace: Trace
) -> None:
    import trio

    async def main() -> None:
        operation.send("item")
        with trio.CancelScope() as scope:
            scope.cancel()
            await take(operation, trace)

    trio.run(main)
    assert trace == ["back: item"]


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize("loop", ["asyncio", pytest.param("trio", marks=needs_trio)])
def test_a_time_limit_of_anyio_cancels_it(
    loop: str, operation: ae.CondVar[str], trace: Trace
) -> None:
    anyio = pytest.importorskip("anyio")

    async def main() -> None:
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await operation

    anyio.run(main, backend=loop)
    assert trace == ["cancelled"]


# ---------------------------------------------------------------------- gevent

needs_gevent = pytest.mark.skipif(find_spec("gevent") is None, reason="needs gevent")


@needs_gevent
def test_a_timeout_of_gevent_around_a_recv_cancels_it(script: Callable[..., str]) -> None:
    output = script("""
        import gevent
        import ae_core as ae

        operation = ae.CondVar(cancel=lambda: print("cancelled"))
        try:
            with gevent.Timeout(0.01):
                operation.recv()
        except gevent.Timeout:
            print("timed out")

        operation = ae.CondVar(cancel=lambda: print("cancelled"))
        greenlet = gevent.spawn(operation.recv)
        gevent.sleep(0.01)
        greenlet.kill()
        print(operation)
    """)
    assert output.splitlines() == ["cancelled", "timed out", "cancelled", "<a CondVar, cancelled>"]


@needs_gevent
def test_what_came_while_a_greenlet_was_killed_goes_back(script: Callable[..., str]) -> None:
    output = script("""
        import gevent
        import ae_core as ae

        operation = ae.CondVar(untaken=lambda value: print("back:", value))
        greenlet = gevent.spawn(operation.recv)

        def kill_and_send():
            greenlet.kill(block=False)
            operation.send(7)

        ae.postpone(kill_and_send)
        greenlet.join()
        print(operation)
    """)
    assert output.splitlines() == ["back: 7", "<a CondVar, cancelled>"]


# ---------------------------------------------------------------------- Twisted

needs_twisted = pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted")


@needs_twisted
@pytest.mark.parametrize("item", [False, True])
def test_cancelling_a_deferred_cancels_what_its_coroutine_awaits(
    item: bool, operation: ae.CondVar[str], trace: Trace
) -> None:
    from twisted.internet import defer

    async def main() -> None:
        try:
            await take(operation, trace)
        except ae.cancelled_class() as error:
            trace(type(error) is defer.CancelledError)

    deferred = defer.ensureDeferred(main())
    if item:
        operation.send("item")
    deferred.cancel()
    assert trace == ["back: item" if item else "cancelled", True]
    ae.sleep(0).recv()


@needs_twisted
def test_a_coroutine_that_twisted_drives_is_resumed_in_a_later_turn(
    operation: ae.CondVar[str], trace: Trace
) -> None:
    from twisted.internet import defer

    defer.ensureDeferred(take(operation, trace))
    operation.send("item")
    trace("sent")
    trace.run_until(2)
    assert trace == ["sent", "took item"]


# ---------------------------------------------------------------------- closed coroutines


@pytest.mark.usefixtures("unbound")
def test_a_coroutine_of_asyncio_that_is_closed_cancels_it(
    operation: ae.CondVar[str], trace: Trace
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(waiting.close)
        await asyncio.sleep(0.001)

    waiting = take(operation, trace)

    async def begin() -> None:
        waiting.send(None)
        await main()

    asyncio.run(begin())
    assert trace == ["cancelled"]


def test_a_loop_that_ends_closes_what_waits_and_cancels_it(
    operation: ae.CondVar[str], trace: Trace
) -> None:
    ae.spawn(take(operation, trace))
    ae.sleep(0).recv()
    release()
    gc.collect()
    assert trace == ["cancelled"]


# ---------------------------------------------------------------------- what it says


def test_its_repr_says_what_it_is_and_no_value(operation: ae.CondVar[str]) -> None:
    assert repr(operation) == "<read 'line' from example.org:25, pending>"
    operation.send("secret")
    assert repr(operation) == "<read 'line' from example.org:25, 6 characters>"
    assert repr(ae.sleep(0)) == "<sleep of 0 s, pending>"
    assert repr(ae.spawn(take(operation, Trace()))) == "<task take, pending>"
    ae.sleep(0.001).recv()


def test_an_error_that_nobody_looks_at_is_logged_with_what_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed: ae.CondVar[str] = ae.CondVar(cancel=int, describe=lambda: "read 'line' from a:1")
    failed.throw(ValueError("reset"))
    del failed
    texts = [record.getMessage() for record in caplog.records]
    assert any("error of read 'line' from a:1" in text for text in texts)


@pytest.fixture
def plain() -> Iterator[None]:
    """Neither strict mode nor wrapping is on."""
    was = strict.enabled()
    strict.disable()
    yield
    debug.wrap(0)
    if was:
        strict.enable()
    else:
        strict.disable()


@pytest.mark.parametrize("aid", ["strict mode", "wrapping", "neither"])
def test_an_error_that_nobody_looks_at_is_logged_with_where_its_operation_was_made(
    aid: str, plain: None, caplog: pytest.LogCaptureFixture
) -> None:
    if aid == "strict mode":
        strict.enable()
    elif aid == "wrapping":
        debug.wrap(1)

    async def fail() -> None:
        raise ValueError("of a test")

    line = sys._getframe().f_lineno + 1
    ae.spawn(fail())
    ae.sleep(0.001).recv()
    gc.collect()
    (text,) = (record.getMessage() for record in caplog.records)
    where = "" if aid == "neither" else f", made by {__file__}:{line},"
    name = f"task {fail.__qualname__}"
    assert text.startswith(f"error of {name}{where} was never looked at")


@pytest.mark.parametrize("argument", ["cancel", "untaken"])
def test_so_is_where_an_operation_of_a_library_was_made(
    argument: str, plain: None, caplog: pytest.LogCaptureFixture
) -> None:
    strict.enable()
    line = sys._getframe().f_lineno + 1
    operation: ae.CondVar[None] = ae.CondVar(**{argument: lambda *_: None})
    operation.throw(ValueError("of a test"))
    del operation
    (text,) = (record.getMessage() for record in caplog.records)
    assert text.startswith(f"error of a CondVar, made by {__file__}:{line}, was never looked at")


@pytest.mark.parametrize("argument", ["cancel", "untaken", "describe"])
def test_what_cannot_be_called_is_refused(argument: str) -> None:
    with pytest.raises(TypeError, match="expected a callable"):
        ae.CondVar(**{argument: "text"})  # type: ignore[arg-type]


def test_a_shield_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a condition variable"):
        ae.shield("text")  # type: ignore[arg-type]


def test_ready_operations_hold_their_functions_no_more(trace: Trace) -> None:
    class Owner:
        def give_up(self) -> None:
            trace("cancelled")

        def __del__(self) -> None:
            trace("collected")

    operation: ae.CondVar[None] = ae.CondVar(cancel=Owner().give_up)
    operation.send()
    assert trace == ["collected"]


# ---------------------------------------------------------------------- operations of the core


async def wait(operation: ae.CondVar[Any]) -> None:
    await operation


def begun(operation: ae.CondVar[Any]) -> ae.CondVar[None]:
    task = ae.spawn(wait(operation))
    ae.sleep(0).recv()
    return task


def test_a_program_that_nobody_awaits_any_more_is_ended() -> None:
    ended: ae.CondVar[int] = ae.CondVar()
    process = ae.run_cmd(["sleep", "60"])
    watcher = ae.child(process.pid, lambda _, status: ended.send(status))
    assert repr(process) == f"<Process {process.pid} ['sleep', '60'] pending>"
    begun(process).cancel()
    assert ended.recv(60) == 15  # SIGTERM
    assert repr(process) == f"<Process {process.pid} ['sleep', '60'] cancelled>"
    watcher.cancel()


def test_a_call_in_a_child_that_nobody_awaits_any_more_is_ended() -> None:
    import time

    call = ae.fork_call(time.sleep, 60)
    begun(call).cancel()
    ae.sleep(0.01).recv()
    assert repr(call) == "<fork_call of time.sleep, cancelled>"
    assert ae.fork_call(abs, -1).recv() == 1


def test_a_file_that_is_opened_for_nobody_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    close = os.close
    monkeypatch.setattr(os, "close", lambda fd: (trace("closed"), close(fd)))
    awaited = threading.Event()
    really_open = os.open

    @functools.wraps(os.open)
    def open_when_awaited(*args: Any) -> int:
        assert awaited.wait(60)
        return really_open(*args)

    monkeypatch.setattr(os, "open", open_when_awaited)
    opened = ae.files.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert repr(opened) == f"<file call open({str(tmp_path / 'file')!r}), pending>"
        task = begun(opened)
        # behind the awaiter's own waker, and before the awaiter: it is delivered, and not taken
        opened._add_waker(lambda _: task.cancel())
    finally:
        awaited.set()
    with pytest.raises(ae.CancelledError):
        task.recv(60)
    assert trace == ["closed"]
    assert opened.cancelled
