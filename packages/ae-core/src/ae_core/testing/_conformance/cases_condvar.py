"""Demands on waiting: condition variables, coroutines, and what must not wait.

Long because it is one list: each demand stands by itself, and a reader looks up one.
"""

from __future__ import annotations

__all__ = ()

import contextvars
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ... import _api as ae
from ..._async import tasks as _tasks
from ..._async.condvar import CondVar
from ..._base.errors import BlockingNotAllowed, CancelledError, RecursiveWait
from ..._detection import current
from ..._operations import pending
from .scene import BLOCKING, COROUTINE, HOSTED, Scene, case, expect, expect_equal, expect_raises

if TYPE_CHECKING:
    from ..._loop.watchers import Watcher

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="none")


# ---------------------------------------------------------------------- condition variables


@case("condvar")
async def callbacks_run_inside_send_and_the_waiter_after_it(scene: Scene) -> None:
    # A04.1
    trace = scene.trace

    def ready(condvar: CondVar[Any]) -> None:
        trace("callback", condvar.ready, condvar.recv())

    condvar: CondVar[Any] = CondVar(ready)

    def send() -> None:
        trace("before send")
        condvar(7, 5)
        trace("after send")

    with ae.timer(0, send):
        trace("before the wait")
        expect_equal(await scene.wait(condvar), (7, 5))
    trace("after the wait")
    expect_equal(condvar.recv(), (7, 5), "once more")
    expect_equal(
        trace,
        [
            "before the wait",
            "before send",
            ("callback", True, (7, 5)),
            "after send",
            "after the wait",
        ],
    )


@case("condvar")
async def a_chain_of_sends_in_callbacks_comes_to_its_end(scene: Scene) -> None:
    links: list[CondVar[int]] = [CondVar() for _ in range(5000)]
    for link, after in pairwise(links):
        link.on_ready(lambda link, after=after: after.send(link.recv() + 1))  # type: ignore[misc]
    links[0].send(1)
    expect(links[-1].ready, "all callbacks have run when the first send returns")
    expect_equal(await scene.wait(links[-1]), 5000)


@case("condvar")
async def it_can_be_the_callback_of_a_watcher(scene: Scene) -> None:
    # A04.4
    condvar: CondVar[None] = CondVar()
    with ae.timer(0, condvar):
        await scene.wait(condvar)


@case("condvar")
async def one_sent_by_a_descriptor_ends_the_wait(scene: Scene) -> None:
    left, right = scene.pair()
    condvar: CondVar[bytes] = CondVar()
    with ae.io(right, "r", lambda: condvar.send(right.recv(1))):
        left.send(b"x")
        expect_equal(await scene.wait(condvar), b"x")


@case("condvar")
async def one_sent_by_a_postponed_call_ends_the_wait(scene: Scene) -> None:
    condvar: CondVar[int] = CondVar()
    ae.postpone(lambda: condvar.send(1))
    expect_equal(await scene.wait(condvar), 1)


@case("condvar")
async def an_error_is_raised_in_the_waiter(scene: Scene) -> None:
    condvar: CondVar[None] = CondVar()
    error = ValueError("of a test")
    with ae.timer(0, lambda: condvar.throw(error)):
        with expect_raises(ValueError) as raised:
            await scene.wait(condvar)
        expect(raised[0] is error, "it is the same exception")


@case("condvar")
async def a_cancelled_one_ends_the_wait(scene: Scene) -> None:
    condvar: CondVar[None] = CondVar()
    with ae.timer(0, condvar.cancel):
        with expect_raises(CancelledError):
            await scene.wait(condvar)
    expect(condvar.cancelled, "it is cancelled")


@case("condvar", ways=(BLOCKING,))
async def a_time_out_ends_the_wait_and_nothing_else(scene: Scene) -> None:
    condvar: CondVar[int] = CondVar()
    clock = scene.backend.clock
    for timeout in (0, 0.01):
        started = clock()
        with expect_raises(TimeoutError):
            condvar.recv(timeout)
        expect(clock() - started >= timeout, "it does not end early")
        expect(not condvar.ready, "the condition variable is as it was")
    with ae.timer(0, lambda: condvar.send(1)):
        expect_equal(condvar.recv(scene.limit), 1)


@case("condvar", ways=(BLOCKING,))
async def a_second_blocking_wait_is_refused(scene: Scene) -> None:
    # B5, CORE-72
    trace = scene.trace
    outer: CondVar[None] = CondVar()
    ready: CondVar[int] = CondVar()
    ready.send(3)

    def waits() -> None:
        trace("ready one", ready.recv())
        try:
            CondVar[None]().recv()
        except RecursiveWait as error:
            trace("recursive blocking wait" in str(error))
        outer.send()

    with ae.timer(0, waits):
        outer.recv(scene.limit)
    expect_equal(trace, [("ready one", 3), True])


@case("condvar", ways=(BLOCKING,))
async def a_wait_after_a_refused_one_works(scene: Scene) -> None:
    condvar: CondVar[None] = CondVar()

    def waits() -> None:
        with expect_raises(RecursiveWait):
            CondVar[None]().recv(0.1)
        condvar.send()

    with ae.timer(0, waits):
        condvar.recv(scene.limit)
    _tasks.sleep(0.001).recv(scene.limit)


@case("condvar", ways=(COROUTINE, HOSTED))
async def blocking_in_a_running_loop_is_refused(scene: Scene) -> None:
    condvar: CondVar[int] = CondVar()
    with expect_raises(RuntimeError):
        condvar.recv(scene.limit)
    if scene.way == HOSTED:
        try:
            condvar.recv(scene.limit)
        except BlockingNotAllowed as error:
            expect("await cv" in str(error), f"the advice is 'await cv', got: {error}")
    condvar.send(3)
    expect_equal(condvar.recv(), 3, "one that is ready")


@case("condvar", "main thread", ways=(BLOCKING,))
async def leaving_is_possible_from_a_callback_once(scene: Scene) -> None:
    for kind in (SystemExit, KeyboardInterrupt):
        condvar: CondVar[None] = CondVar()

        def leave(kind: type[BaseException] = kind) -> None:
            raise kind("of a test")

        with ae.timer(0, leave):
            with expect_raises(kind) as left:
                condvar.recv(scene.limit)
            expect_equal(left[0].args, ("of a test",))
        _tasks.sleep(0.001).recv(scene.limit)
        expect(not condvar.ready, "the condition variable is as it was")


# ---------------------------------------------------------------------- coroutines


@case("task")
async def it_starts_in_a_later_turn(scene: Scene) -> None:
    async def task() -> int:
        scene.trace("task")
        return 3

    condvar = _tasks.spawn(task())
    scene.trace("spawned")
    expect_equal(await scene.wait(condvar), 3)
    expect_equal(scene.trace, ["spawned", "task"])


@case("task")
async def it_waits_for_condition_variables(scene: Scene) -> None:
    first: CondVar[int] = CondVar()
    ready: CondVar[int] = CondVar()
    ready.send(20)

    async def task() -> int:
        total = await first
        total += await ready
        await _tasks.sleep(0.001)
        return total

    condvar = _tasks.spawn(task())
    with ae.timer(0, lambda: first.send(1)):
        expect_equal(await scene.wait(condvar), 21)


@case("task")
async def many_wait_for_the_same_condition_variable(scene: Scene) -> None:
    condvar: CondVar[int] = CondVar()

    async def task(number: int) -> int:
        return number + await condvar

    tasks = [_tasks.spawn(task(number)) for number in range(100)]
    with ae.timer(0.001, lambda: condvar.send(1000)):
        for number, each in enumerate(tasks):
            expect_equal(await scene.wait(each), 1000 + number)


@case("task")
async def its_error_is_its_result(scene: Scene) -> None:
    async def task() -> None:
        await _tasks.sleep(0)
        raise ValueError("of a test")

    with expect_raises(ValueError) as raised:
        await scene.wait(_tasks.spawn(task()))
    expect_equal(str(raised[0]), "of a test")


@case("task")
async def it_can_catch_what_was_thrown(scene: Scene) -> None:
    condvar: CondVar[int] = CondVar()

    async def task() -> str:
        with expect_raises(KeyError) as caught:
            await condvar
        return f"caught {caught[0].args[0]}"

    each = _tasks.spawn(task())
    with ae.timer(0, lambda: condvar.throw(KeyError("x"))):
        expect_equal(await scene.wait(each), "caught x")


@case("task")
async def each_has_context_variables_of_its_own(scene: Scene) -> None:
    async def task(name: str) -> tuple[str, str]:
        before = _variable.get()
        _variable.set(name)
        await _tasks.sleep(0.001)
        return before, _variable.get()

    def start() -> None:
        _variable.set("caller")
        started.extend(_tasks.spawn(task(name)) for name in ("a", "b"))

    started: list[CondVar[tuple[str, str]]] = []
    contextvars.copy_context().run(start)
    expect_equal(await scene.wait(started[0]), ("caller", "a"))
    expect_equal(await scene.wait(started[1]), ("caller", "b"))
    expect_equal(_variable.get(), "none", "in the caller")


@case("task")
async def a_long_chain_of_completions_does_not_recurse(scene: Scene) -> None:
    links: list[CondVar[int]] = [CondVar()]

    async def task(before: CondVar[int]) -> int:
        return 1 + await before

    for _ in range(2000):
        links.append(_tasks.spawn(task(links[-1])))
    await scene.turns(2)
    links[0].send(0)
    expect_equal(await scene.wait(links[-1]), 2000)


@case("task", ways=(BLOCKING, COROUTINE))
async def a_main_coroutine_gives_its_result(scene: Scene) -> None:
    if scene.way != BLOCKING:
        main = scene.turns(1)
        with expect_raises(RuntimeError):
            _tasks.run(main)  # a loop runs already
        main.close()
        return

    async def task() -> int:
        await _tasks.sleep(0.001)
        return 4

    expect_equal(_tasks.run(task()), 4)


# ---------------------------------------------------------------------- calls


@case("call")
async def postponed_calls_run_later_and_in_order(scene: Scene) -> None:
    # B9
    trace = scene.trace

    def one() -> None:
        trace("one")
        ae.postpone(trace.recorder("nested"))

    expect_equal(ae.postpone(one), None, "what postpone() returns")  # type: ignore[func-returns-value]
    ae.postpone(trace.recorder("two"))
    trace("postponed")
    await scene.wait_until(4)
    expect_equal(trace, ["postponed", "one", "two", "nested"])


@case("call")
async def an_error_in_one_does_not_keep_the_next_from_running(scene: Scene) -> None:
    # CORE-37

    def fails() -> None:
        raise ValueError("of a test")

    ae.postpone(fails)
    ae.postpone(scene.trace.recorder("next"))
    await scene.wait_until(1)
    expect_equal([who for _, who in scene.errors], [None], "the watchers named")
    expect_equal(scene.take_errors(), ["ValueError: of a test"])


@case("call")
async def a_call_from_another_thread_ends_the_wait(scene: Scene) -> None:
    from threading import Thread, current_thread

    backend = scene.backend
    ours = current_thread()
    done: CondVar[bool] = CondVar()
    go: CondVar[None] = CondVar()

    def work() -> None:
        backend.call_threadsafe(lambda: done.send(current_thread() is ours))

    thread = Thread(target=work, daemon=True)
    ae.postpone(go.send)
    await scene.wait(go)
    operation = pending()
    thread.start()
    expect(await scene.wait(done), "it runs in the thread of the loop")
    operation.cancel()
    thread.join()


@case("call")
async def calls_from_another_thread_keep_their_order(scene: Scene) -> None:
    from threading import Thread

    backend = scene.backend

    def work() -> None:
        for number in range(1000):
            backend.call_threadsafe(scene.trace.recorder(number))

    operation = pending()
    thread = Thread(target=work, daemon=True)
    thread.start()
    await scene.wait_until(1000)
    thread.join()
    operation.cancel()
    expect_equal(scene.trace, list(range(1000)))


@case("call")
async def a_call_from_the_loops_own_thread_runs_later(scene: Scene) -> None:
    scene.backend.call_threadsafe(scene.trace.recorder("called"))
    scene.trace("made")
    await scene.wait_until(2)
    expect_equal(scene.trace, ["made", "called"])


@case("call")
async def an_error_in_a_call_from_a_thread_is_reported(scene: Scene) -> None:
    def fails() -> None:
        raise ValueError("of a test")

    scene.backend.call_threadsafe(fails)
    scene.backend.call_threadsafe(scene.trace.recorder("next"))
    await scene.wait_until(1)
    expect_equal(scene.take_errors(), ["ValueError: of a test"])


@case("call")
async def callbacks_run_in_the_context_of_the_one_who_made_them(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    trace = scene.trace
    watchers: list[Watcher] = []

    def report(what: str) -> None:
        trace((what, _variable.get()))
        _variable.set("changed by a callback")

    def readable() -> None:
        report("io")
        right.recv(1)

    def make() -> None:
        _variable.set("maker")
        watchers.append(ae.timer(0, lambda: report("timer")))
        watchers.append(ae.io(right, "r", readable))
        ae.postpone(lambda: report("postponed"))
        scene.backend.call_threadsafe(lambda: report("threadsafe"))

    contextvars.copy_context().run(make)
    await scene.wait_until(4)
    watchers.clear()
    expect_equal(
        sorted(trace),
        [(what, "maker") for what in ("io", "postponed", "threadsafe", "timer")],
    )
    expect_equal(_variable.get(), "none", "in the caller")


@case("idle")
async def it_is_called_again_and_again_when_there_is_nothing_to_do(scene: Scene) -> None:
    # CORE-51, CORE-52
    with ae.idle(scene.trace.recorder("idle")):
        scene.trace("made")
        await scene.wait_until(4)
    expect_equal(scene.trace[:4], ["made", "idle", "idle", "idle"])
    scene.trace.clear()
    await scene.turns(3)
    expect_equal(scene.trace, [], "after cancel()")


@case("idle")
async def it_does_not_keep_others_from_running(scene: Scene) -> None:
    left, right = scene.pair()
    with ae.idle(lambda: None):
        await scene.pause(0.005)
        with ae.io(right, "r", scene.trace.recorder("readable")):
            left.send(b"x")
            await scene.wait_until(1)


@case("idle")
async def it_waits_for_what_is_ready(scene: Scene) -> None:
    if not scene.backend.strict_idle:
        return
    left, right = scene.pair()
    left.send(b"x" * 20)

    def readable() -> None:
        scene.trace("readable")
        right.recv(1)

    with ae.idle(scene.trace.recorder("idle")), ae.io(right, "r", readable):
        await scene.wait_until(21)
    expect_equal(scene.trace[:20], ["readable"] * 20)


@case("idle")
async def it_may_end_in_its_own_callback(scene: Scene) -> None:
    holder: list[Watcher] = []

    def idle() -> None:
        scene.trace("idle")
        holder.clear()

    holder.append(ae.idle(idle))
    await scene.wait_until(1)
    await scene.pause(0.005)
    expect_equal(scene.trace, ["idle"])


@case("idle")
async def of_two_the_first_may_end_the_second(scene: Scene) -> None:
    watchers: list[Watcher] = []

    def idle() -> None:
        scene.trace("idle")
        watchers.clear()

    watchers += [ae.idle(idle), ae.idle(idle)]
    await scene.wait_until(1)
    await scene.pause(0.005)
    expect_equal(scene.trace, ["idle"])


@case("idle")
async def an_error_in_it_is_reported_and_it_goes_on(scene: Scene) -> None:
    def fails() -> None:
        scene.trace("idle")
        raise ValueError("of a test")

    with ae.idle(fails) as watcher:
        await scene.wait_until(2)
        expect_equal({who for _, who in scene.errors}, {watcher}, "the watchers named")
    expect_equal(set(scene.take_errors()), {"ValueError: of a test"})


@case("detection")
async def the_backend_says_what_it_is(scene: Scene) -> None:
    backend = current.detect()
    expect(backend is current.detect(), "it stays the same")
    expect_equal(current.backend(), backend.name)
    expect(bool(backend.reason), "it says why it was chosen")
    expect(isinstance(backend.statistics(), dict), "it has statistics")
