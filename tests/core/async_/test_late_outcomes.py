"""Outcomes that come when nobody wants them any more, or the loop has ended."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import pytest

import ae_core as ae
from ae_core._async import notifier, thread_pool
from ae_core._async.condvar import CondVar
from ae_core._async.tasks import Task
from ae_core._detection.current import current_loop
from ae_core.testing import Trace, release

PATIENCE = 60.0


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(repr(error)))
    return seen


def turns(count: int = 3) -> None:
    for _ in range(count):
        ae.sleep(0).recv()


def from_a_thread(function: Callable[[], Any]) -> Any:
    """Return what *function* returns in another thread, while the loop runs."""
    return ae.to_thread(function).recv(PATIENCE)


# ---------------------------------------------------------------------- futures


def test_a_future_of_a_thread_that_is_done_after_the_loop_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    operation = ae.as_condvar(future)
    release()
    future.set_result(3)
    assert not operation.ready
    assert caplog.text == ""


def test_a_future_for_threads_can_be_cancelled_after_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future = ae.CondVar[int]().as_concurrent_future()
    release()
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert caplog.text == ""


def test_a_call_that_the_loop_makes_right_now_cannot_be_cancelled() -> None:
    made: list[concurrent.futures.Future[Any]] = []
    answers: list[bool] = []
    known = threading.Event()

    def call() -> str:
        known.wait(PATIENCE)
        answers.append(made[0].cancel())
        return "made"

    def work() -> str:
        made.append(ae.call_threadsafe(call))
        known.set()
        found: str = made[0].result(PATIENCE)
        return found

    assert from_a_thread(work) == "made"
    assert answers == [False]


def test_the_error_of_a_call_may_be_looked_at_in_each_way(errors: list[str]) -> None:
    def fail() -> None:
        raise ValueError("of a test")

    def work() -> list[str]:
        told: list[str] = []
        ae.call_threadsafe(fail).add_done_callback(lambda future: told.append("told"))
        told.append(repr(ae.call_threadsafe(fail).exception(PATIENCE)))
        return sorted(told)

    assert from_a_thread(work) == ["ValueError('of a test')", "told"]
    gc.collect()
    assert errors == []


@pytest.mark.parametrize("end", ["value", "coroutine", "error"])
def test_a_loop_that_ends_inside_a_call_cancels_its_future(end: str, errors: list[str]) -> None:
    futures: list[concurrent.futures.Future[Any]] = []
    coroutine = asyncio.sleep(0)

    def call() -> object:
        release()
        if end == "error":
            raise ValueError("too late")
        return coroutine if end == "coroutine" else "too late"

    core = current_loop()
    thread = threading.Thread(target=lambda: futures.append(ae.call_threadsafe(call)))
    thread.start()
    thread.join()
    while not core.closed:
        core.backend.poll(False)
    with pytest.raises(concurrent.futures.CancelledError):
        futures[0].result(0)
    assert errors == (["ValueError('too late')"] if end == "error" else [])
    coroutine.close()


@pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted")
@pytest.mark.parametrize("ready", [True, False])
def test_a_deferred_that_was_cancelled_is_told_no_outcome(ready: bool, trace: Trace) -> None:
    operation = ae.CondVar[int]()
    if ready:
        operation.send(3)
    deferred: Any = operation.as_deferred()
    deferred.addBoth(lambda outcome: trace(outcome.type.__name__))
    deferred.cancel()
    turns()
    assert trace == ["CancelledError"]


# ---------------------------------------------------------------------- combinations


@pytest.mark.parametrize("combine", [ae.gather, ae.first])
def test_a_combination_that_the_program_has_made_ready_keeps_that_value(
    combine: Callable[..., CondVar[Any]],
) -> None:
    for end in (lambda item: item.send(1), lambda item: item.throw(ValueError("of a test"))):
        items = [ae.CondVar[int](), ae.CondVar[int]()]
        combined = combine(*items)
        combined.send("mine")
        for item in items:
            end(item)
            item.error  # noqa: B018  # looked at
        turns()
        assert combined.recv() == "mine"


@pytest.mark.parametrize("early", [True, False])
def test_a_member_that_is_cancelled_cancels_the_gathering_and_leaves_the_others(
    early: bool, trace: Trace
) -> None:
    one = ae.CondVar[int](cancel=lambda: trace("one"))
    two = ae.CondVar[int](cancel=lambda: trace("two"))
    if early:
        one.cancel()
    both = ae.gather(one, two)
    if not early:
        one.cancel()
    turns()
    assert both.cancelled
    assert two.cancelled
    assert trace == ["one", "two"]


def test_a_channel_tells_how_many_items_lie_in_it() -> None:
    channel: ae.Channel[int] = ae.Channel()
    assert len(channel) == 0
    channel.put(1)
    channel.put(2)
    assert len(channel) == 2
    assert channel.get().recv() == 1
    assert len(channel) == 1


# ---------------------------------------------------------------------- threads


def test_an_error_of_a_call_in_a_thread_that_was_cancelled_meanwhile_is_dropped(
    errors: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    begun, go = threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        go.wait(PATIENCE)
        raise ValueError("of a test")

    operation = ae.to_thread(fail)
    begun.wait(PATIENCE)
    operation.cancel()
    go.set()
    thread_pool.shutdown()
    turns()
    assert operation.cancelled
    assert errors == []
    assert caplog.text == ""


def test_a_result_that_cannot_be_taken_back_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        go.wait(PATIENCE)
        return 7

    def undo(result: int) -> None:
        raise ValueError(f"cannot take {result} back")

    operation = thread_pool.submit_ordered(None, work, undo=undo)
    begun.wait(PATIENCE)
    operation.cancel()
    go.set()
    thread_pool.shutdown()
    turns()
    assert "a result that is not taken" in caplog.text
    assert "cannot take 7 back" in caplog.text


def test_what_is_given_to_a_pool_that_ends_is_done_by_who_ends_it() -> None:
    pool = thread_pool._Pool(1)
    pool.stopping = True
    jobs = [thread_pool._Job(os.getpid, (), key, None) for key in ("one", "one", None)]
    operations = [thread_pool._add(pool, job) for job in jobs]
    pool.queue.put(None)  # which tells a thread to look again
    pool.finish()
    assert [each.recv(PATIENCE) for each in operations] == [os.getpid()] * 3
    assert pool.threads == set()
    assert pool.lanes == {}


def test_where_there_are_no_more_threads_those_that_there_are_do_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object, **options: object) -> Any:
        class Refused:
            def start(self) -> None:
                raise RuntimeError("can't start new thread")

        return Refused()

    pool = thread_pool._Pool(2)
    go = threading.Event()
    first = thread_pool._add(pool, thread_pool._Job(go.wait, (PATIENCE,), None, None))
    with monkeypatch.context() as patched:
        patched.setattr(thread_pool, "make_thread", refuse)
        second = thread_pool._add(pool, thread_pool._Job(abs, (-1,), None, None))
        go.set()
        assert (first.recv(PATIENCE), second.recv(PATIENCE)) == (True, 1)
        pool.finish()
        with pytest.raises(RuntimeError, match="can't start"):
            thread_pool._add(pool, thread_pool._Job(abs, (-1,), None, None))
    with pytest.raises(ae.Deadlock):  # what was refused waits for nothing
        ae.CondVar[None]().recv()


class _TakenTwice:
    """A queue out of which one thread takes what was put to end another one, too."""

    def __init__(self) -> None:
        queue: SimpleQueue[Any] = SimpleQueue()
        self.get = queue.get
        self.empty = queue.empty
        self._put = queue.put
        self._ends = 0

    def put(self, item: Any) -> None:
        self._ends += item is None
        if item is not None or self._ends != 2:
            self._put(item)


def test_a_thread_that_rests_ends_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "IDLE", 1e6)
    pool = thread_pool._Pool(2)
    pool.queue = _TakenTwice()  # type: ignore[assignment]
    both = threading.Barrier(2)
    jobs = [thread_pool._Job(both.wait, (PATIENCE,), None, None) for _ in range(2)]
    for each in [thread_pool._add(pool, job) for job in jobs]:
        each.recv(PATIENCE)
    end = threading.Thread(target=pool.finish)
    end.start()
    end.join(PATIENCE)
    assert pool.threads == set()


# ---------------------------------------------------------------------- interrupts


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize(
    "end",
    [
        lambda condvar: condvar.send(1),
        lambda condvar: condvar.throw(ValueError("of a test")),
        lambda condvar: condvar.cancel(),
    ],
    ids=["send", "throw", "cancel"],
)
def test_where_no_loop_is_an_interrupt_out_of_a_callback_leaves_the_call(
    end: Callable[[CondVar[int]], None], trace: Trace
) -> None:
    def interrupt(condvar: object) -> None:
        raise KeyboardInterrupt

    condvar = ae.CondVar[int]()
    condvar.on_ready(interrupt)
    condvar.on_ready(lambda condvar: trace("second"))
    with pytest.raises(KeyboardInterrupt):
        end(condvar)
    assert trace == ["second"], "the others are called all the same"
    assert condvar.ready
    assert condvar.error is None or str(condvar.error) == "of a test"


class Struck(Exception):
    """What a signal handler raises."""


def struck_once(function: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    """Have a handler's exception come once, before *function* is called or after it."""
    left = [Struck("of a test")]

    def call(*arguments: Any) -> Any:
        if before and left:
            raise left.pop()
        result = function(*arguments)
        if left:
            raise left.pop()
        return result

    return call


@pytest.mark.parametrize("before", [True, False])
def test_a_task_whose_end_is_struck_has_its_result(
    before: bool, monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    async def work() -> int:
        await ae.sleep(0)
        return 3

    with monkeypatch.context() as patched:
        patched.setattr(Task, "_finish", struck_once(Task._finish, before=before))
        task = ae.spawn(work())
        with pytest.raises(Struck):
            task.recv(PATIENCE)
        assert task.recv(PATIENCE) == 3
    turns()
    assert errors == []


def test_a_task_whose_wait_is_struck_when_it_begins_waits_again(errors: list[str]) -> None:
    class Operation(CondVar[int]):
        _add_waker = struck_once(CondVar._add_waker, before=True)

    operation = Operation()

    async def work() -> int:
        return await operation

    task = ae.spawn(work())
    with pytest.raises(Struck):
        turns()
    turns()
    assert not task.ready
    operation.send(3)
    assert task.recv(PATIENCE) == 3
    assert errors == []


def test_a_step_that_is_struck_before_it_enters_the_coroutine_is_made_again(
    errors: list[str],
) -> None:
    async def work() -> int:
        await ae.sleep(0)
        return 3

    task: Any = ae.spawn(work())
    context = task._context

    class Context:
        @staticmethod
        def run(*arguments: object) -> object:
            task._context = context
            raise Struck("of a test")

    task._context = Context
    with pytest.raises(Struck):
        turns()
    assert task.recv(PATIENCE) == 3
    assert errors == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("repeatable", [True, False])
def test_a_callback_that_is_struck_keeps_no_other_from_being_called(
    before: bool, repeatable: bool, trace: Trace, errors: list[str]
) -> None:
    callback = struck_once(lambda condvar: trace("first"), before=before)
    callback.repeatable = repeatable  # type: ignore[attr-defined]  # one of the core's own
    condvar = ae.CondVar[int]()
    condvar._add_waker(callback)
    condvar.on_ready(lambda condvar: trace("second"))
    condvar.send(1)
    turns()
    first = ["first"] * (repeatable + (not before))
    assert sorted(trace) == sorted([*first, "second"])
    assert errors == ["Struck('of a test')"]


@pytest.mark.parametrize("end", ["send", "throw", "cancel"])
def test_callbacks_that_a_handler_has_kept_from_being_called_are_called_later(
    end: str, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    ae.detect()
    condvar = ae.CondVar[int](lambda condvar: trace("called"))
    arguments = {"send": (1,), "throw": (ValueError("of a test"),), "cancel": ()}[end]
    with monkeypatch.context() as patched:
        patched.setattr(CondVar, "_run_callbacks", struck_once(CondVar._run_callbacks, before=True))
        with pytest.raises(Struck):
            getattr(condvar, end)(*arguments)
    assert condvar.ready
    assert trace == []
    turns()
    assert trace == ["called"]
    assert condvar.error is None or end == "throw"


def test_a_chain_that_is_struck_deep_down_is_finished_by_the_loop(
    monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    ae.detect()
    links = [ae.CondVar[int]() for _ in range(200)]
    for one, two in pairwise(links):
        one.on_ready(lambda one, two=two: two.send(one.recv() + 1))  # type: ignore[misc]
    left = [Struck("of a test")]
    real = CondVar._call_back

    def call_back(condvar: CondVar[int]) -> None:
        if condvar is links[120] and left:
            raise left.pop()
        real(condvar)

    with monkeypatch.context() as patched:
        patched.setattr(CondVar, "_call_back", call_back)
        try:
            links[0].send(0)
        except Struck:
            errors.append("left")
        turns()
    assert links[120].ready
    assert not left
    again = ae.CondVar[int]()
    again.send(5)
    assert again.recv() == 5


def test_a_chain_that_is_struck_between_two_links_is_finished_by_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = [Struck("of a test")]

    class StruckDeque(deque[Any]):
        def popleft(self) -> Any:
            if len(notifier._left) and links[80].ready and left:
                raise left.pop()
            return super().popleft()

    ae.detect()
    links = [ae.CondVar[int]() for _ in range(200)]
    for one, two in pairwise(links):
        one.on_ready(lambda one, two=two: two.send(one.recv() + 1))  # type: ignore[misc]
    with monkeypatch.context() as patched:
        patched.setattr(notifier, "deque", StruckDeque)
        links[0].send(0)
    assert left == []
    assert not links[-1].ready
    with suppress(Struck):
        turns()
    turns()
    assert links[-1].recv() == 199


# ---------------------------------------------------------------------- the driver


def test_a_step_too_many_does_nothing(trace: Trace) -> None:
    async def work() -> None:
        trace("begun")
        await operation
        trace("over")

    operation = ae.CondVar[None]()
    task: Any = ae.spawn(work())
    trace.run_until(1)
    task._step()
    task._resume(ae.CondVar())
    turns()
    assert trace == ["begun"]
    operation.send()
    task.recv(PATIENCE)
    task._step()
    assert trace == ["begun", "over"]


def test_an_awaitable_of_the_programs_own_may_wait_for_what_is_ready() -> None:
    class Eager:
        def __await__(self) -> Any:
            yield ready
            return "went on"

    async def work() -> str:
        found: str = await Eager()
        return found

    ready = ae.CondVar[None]()
    ready.send()
    assert ae.run(work()) == "went on"


def test_a_task_that_has_made_itself_ready_keeps_that_value() -> None:
    async def work() -> int:
        task.send(1)
        return 2

    task = ae.spawn(work())
    assert task.recv(PATIENCE) == 1
    turns()
    assert task.recv() == 1


def test_a_description_alone_makes_no_operation(caplog: pytest.LogCaptureFixture) -> None:
    condvar = ae.CondVar[int](describe=lambda: "the answer")

    async def work(condvar: CondVar[int]) -> int:
        return await condvar

    task = ae.spawn(work(condvar))
    turns()
    task.cancel()
    turns()
    assert task.cancelled
    assert not condvar.ready
    condvar.throw(ValueError("of a test"))
    del condvar, task
    gc.collect()
    assert "error of the answer was never looked at" in caplog.text


# ---------------------------------------------------------------------- at the end of the program


def test_an_error_that_is_dropped_when_the_modules_have_gone_is_no_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    condvar = ae.CondVar[int]()
    condvar.throw(ValueError("of a test"))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "ae_core._base.log", None)
        del condvar
        gc.collect()
    assert raised == []


def test_an_error_that_is_reported_when_the_hook_has_gone_is_dropped(
    monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "ae_core._loop.exception_hook", None)
        ae.report_error(ValueError("of a test"))
    assert errors == []
    ae.report_error(ValueError("another"))
    assert errors == ["ValueError('another')"]
