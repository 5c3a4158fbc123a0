"""Condition variables: CORE-60 to CORE-81, row by row, without a loop where none is needed."""

from __future__ import annotations

import contextlib
import gc
import threading
import traceback
import weakref
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, virtual_time


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BaseException, object]]:
    """Collect what goes to the exception hook."""
    seen: list[tuple[BaseException, object]] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append((error, watcher)))
    return seen


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the texts of what is logged."""
    import ae_core._base.log

    seen: list[str] = []

    def log(level: str, message: str, *args: object, **options: object) -> bool:
        seen.append(f"{level}: {message % args}: {options.get('error')!r}")
        return True

    monkeypatch.setattr(ae_core._base.log, "log", log)
    return seen


# ---------------------------------------------------------------------- sending


def test_the_callback_runs_inside_send(trace: Trace) -> None:
    # CORE-61, B1
    cv = ae.CondVar[int](lambda cv: trace("callback", cv.ready, cv.recv()))
    trace("before")
    cv.send(1)
    trace("after")
    assert trace == ["before", ("callback", True, 1), "after"]


@pytest.mark.parametrize(("args", "value"), [((), None), ((7,), 7), ((7, 5), (7, 5))])
def test_calling_it_is_sending(args: tuple[int, ...], value: object) -> None:
    # CORE-62
    cv = ae.CondVar[Any]()
    assert cv(*args) is None
    assert cv.recv() == value


def test_send_without_a_value_sends_none() -> None:
    cv = ae.CondVar[None]()
    cv.send()
    assert cv.recv() is None


def test_a_later_send_replaces_the_value_and_calls_nobody(trace: Trace) -> None:
    # CORE-68, B3
    cv = ae.CondVar[int](lambda cv: trace(cv.recv()))
    cv.send(1)
    cv.send(9)
    assert cv.recv() == 9
    assert cv.recv() == 9  # CORE-67
    assert trace == [1]


def test_falsy_values_are_values() -> None:
    for value in (0, "", False, (), b""):
        cv = ae.CondVar[Any]()
        cv.send(value)
        assert cv.ready
        assert cv.recv() == value


# ---------------------------------------------------------------------- callbacks


def test_callbacks_add_up_in_order_the_constructors_first(trace: Trace) -> None:
    cv = ae.CondVar[int](lambda cv: trace("constructor"))
    for name in "ab":
        cv.on_ready(lambda cv, name=name: trace(name, cv.recv()))
    cv.send(3)
    assert trace == ["constructor", ("a", 3), ("b", 3)]


def test_a_callback_is_called_once_whatever_it_does(trace: Trace) -> None:
    # CORE-63
    def callback(cv: ae.CondVar[int]) -> None:
        trace(cv.recv())
        cv.send(2)

    cv = ae.CondVar[int](callback)
    cv.send(1)
    assert trace == [1]
    assert cv.recv() == 2


def test_a_late_callback_runs_at_once_and_is_not_kept(trace: Trace) -> None:
    # CORE-64, B2
    cv = ae.CondVar[int]()
    cv.send(1)
    cv.on_ready(lambda cv: trace("callback"))
    trace("returned")
    cv.send(2)
    assert trace == ["callback", "returned"]


def test_a_callback_added_in_a_callback_runs_at_once(trace: Trace) -> None:
    def first(cv: ae.CondVar[None]) -> None:
        trace("first")
        cv.on_ready(lambda cv: trace("nested"))
        trace("first ends")

    cv = ae.CondVar[None](first)
    cv.on_ready(lambda cv: trace("second"))
    cv.send()
    assert trace == ["first", "nested", "first ends", "second"]


def test_what_a_callback_raises_goes_to_the_hook_and_the_others_run(
    trace: Trace, errors: list[tuple[BaseException, object]]
) -> None:
    # instead of CORE-77
    def fails(cv: ae.CondVar[int]) -> None:
        raise KeyError("first")

    cv = ae.CondVar[int](fails)
    cv.on_ready(lambda cv: trace("second"))
    cv.send(4)
    cv.on_ready(fails)
    assert trace == ["second"]
    assert cv.recv() == 4
    assert [repr(error) for error, watcher in errors] == ["KeyError('first')"] * 2
    assert {watcher for _, watcher in errors} == {None}


def test_the_callbacks_of_a_ready_one_are_let_go() -> None:
    class Callback:
        def __call__(self, cv: object) -> None:
            return None

    callback = Callback()
    gone = weakref.ref(callback)
    cv = ae.CondVar[None](callback)
    del callback
    assert gone() is not None
    cv.send()
    assert gone() is None


# ---------------------------------------------------------------------- errors


def test_the_very_object_is_raised_every_time() -> None:
    # CORE-69, B4
    error = ValueError("of a test")
    cv = ae.CondVar[int]()
    cv.throw(error)
    for _ in range(2):
        with pytest.raises(ValueError, match="of a test") as caught:
            cv.recv()
        assert caught.value is error


def test_an_error_is_sticky() -> None:
    cv = ae.CondVar[int]()
    cv.throw(ValueError("first"))
    cv.send(1)
    cv.throw(KeyError("second"))
    cv.cancel()
    assert not cv.cancelled
    with pytest.raises(ValueError, match="first"):
        cv.recv()


def test_an_error_takes_the_place_of_a_value(trace: Trace) -> None:
    cv = ae.CondVar[int](lambda cv: trace("callback"))
    cv.send(1)
    cv.throw(ValueError("late"))
    with pytest.raises(ValueError, match="late"):
        cv.recv()
    assert trace == ["callback"]


def test_callbacks_are_called_for_an_error_too(trace: Trace) -> None:
    # CORE-70
    def callback(cv: ae.CondVar[int]) -> None:
        with pytest.raises(ValueError, match="of a test"):
            cv.recv()
        trace("callback", cv.ready)

    ae.CondVar[int](callback).throw(ValueError("of a test"))
    assert trace == [("callback", True)]


@pytest.mark.parametrize("bad", ["text", 0, "", None, ValueError])
def test_only_an_exception_can_be_thrown(bad: Any) -> None:
    cv = ae.CondVar[None]()
    with pytest.raises(TypeError, match="exception instance"):
        cv.throw(bad)
    assert not cv.ready


def test_its_traceback_does_not_grow() -> None:
    cv = ae.CondVar[None]()
    cv.throw(ValueError("of a test"))
    depths = []
    for _ in range(5):
        with pytest.raises(ValueError, match="of a test") as caught:
            cv.recv()
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1


def test_an_error_that_nobody_looked_at_is_logged(logged: list[str]) -> None:
    cv = ae.CondVar[None]()
    cv.throw(ValueError("forgotten"))
    assert logged == []
    del cv
    gc.collect()
    assert logged == ["error: error of a CondVar was never looked at: ValueError('forgotten')"]


class Closed(Exception):
    ended_by_program = True


def test_that_the_program_itself_has_ended_it_needs_nobody_who_looks(logged: list[str]) -> None:
    cv = ae.CondVar[None]()
    cv.throw(Closed())
    del cv
    gc.collect()
    assert logged == []


@pytest.mark.parametrize("how", ["recv", "await", "on_ready"])
def test_one_that_somebody_looked_at_is_not(logged: list[str], how: str) -> None:
    cv = ae.CondVar[None]()
    cv.throw(ValueError("seen"))

    async def look(cv: ae.CondVar[None]) -> None:
        await cv

    with pytest.raises(ValueError, match="seen"):
        if how == "await":
            ae.run(look(cv))
        elif how == "recv":
            cv.recv()
        else:
            cv.on_ready(lambda cv: None)  # being told is not looking
            cv.on_ready(lambda cv: cv.recv())
            cv.recv()
    del cv
    gc.collect()
    assert [text for text in logged if "never looked at" in text] == []


def test_its_error_can_be_looked_at_without_being_raised(logged: list[str]) -> None:
    waiting, sent, failed = ae.CondVar[int](), ae.CondVar[int](), ae.CondVar[int]()
    sent.send(1)
    failed.throw(error := ValueError("seen"))
    assert (waiting.error, sent.error, failed.error) == (None, None, error)
    del failed
    gc.collect()
    assert logged == []


# ---------------------------------------------------------------------- cancelling


def test_cancelling_makes_it_ready_with_cancelled_error(trace: Trace) -> None:
    cv = ae.CondVar[int](lambda cv: trace("callback", cv.cancelled))
    cv.cancel()
    cv.cancel()
    cv.send(1)
    cv.throw(ValueError("late"))
    assert (cv.ready, cv.cancelled) == (True, True)
    with pytest.raises(ae.CancelledError):
        cv.recv()
    assert trace == [("callback", True)]


def test_cancelling_a_ready_one_does_nothing() -> None:
    cv = ae.CondVar[int]()
    cv.send(1)
    cv.cancel()
    assert not cv.cancelled
    assert cv.recv() == 1


def test_cancelled_error_is_no_exception_that_is_caught_by_accident() -> None:
    assert issubclass(ae.CancelledError, BaseException)
    assert not issubclass(ae.CancelledError, Exception)


# ---------------------------------------------------------------------- waiting


def test_recv_on_a_ready_one_never_touches_the_loop(unbound: None) -> None:
    cv = ae.CondVar[int]()
    cv.send(3)
    assert cv.recv() == 3
    assert cv.recv(0) == 3
    assert ae.backend() is None


def test_a_pending_recv_of_zero_seconds_looks_once(trace: Trace) -> None:
    cv = ae.CondVar[None]()
    timer = ae.timer(0, trace.recorder("timer"))
    with pytest.raises(TimeoutError, match="0 s"):
        cv.recv(0)
    ae.sleep(0).recv()
    assert trace == ["timer"]
    del timer


def test_a_time_out_is_not_early_and_names_itself() -> None:
    with virtual_time() as clock:
        cv = ae.CondVar[None]()
        with pytest.raises(TimeoutError, match=r"2\.5 s"):
            cv.recv(timeout=2.5)
        assert clock.elapsed == 2.5
        assert not cv.ready


def test_what_becomes_ready_at_the_last_moment_counts() -> None:
    with virtual_time():
        cv = ae.CondVar[int]()
        with ae.timer(1, lambda: cv.send(1)):
            assert cv.recv(1) == 1


def test_an_error_of_the_operation_that_is_a_time_out_is_told_from_ours() -> None:
    cv = ae.CondVar[None]()
    with ae.timer(0, lambda: cv.throw(TimeoutError("of the operation"))):
        with pytest.raises(TimeoutError, match="of the operation"):
            cv.recv(10)


@pytest.mark.parametrize("bad", ["1", True, [1], 1j])
def test_a_bad_time_out_is_a_type_error(bad: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        ae.CondVar[None]().recv(bad)


@pytest.mark.parametrize("late", [-1, -0.001, -1e300])
def test_a_time_out_below_zero_has_passed_already(late: float) -> None:
    # what is left of a deadline slips below zero under load only
    cv = ae.CondVar[None]()
    with pytest.raises(TimeoutError, match="0 s"):
        cv.recv(late)
    cv.send()
    assert cv.recv(late) is None


@pytest.mark.parametrize(
    "bad", [10**400, -(10**400), float("nan"), -float("inf")], ids=["big", "small", "nan", "-inf"]
)
def test_an_impossible_time_out_is_a_value_error(bad: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        ae.CondVar[None]().recv(bad)


def test_an_infinite_time_out_is_none() -> None:
    with virtual_time():
        cv = ae.CondVar[int]()
        with ae.timer(1e6, lambda: cv.send(1)):
            assert cv.recv(float("inf")) == 1


@pytest.mark.parametrize("bad", [1, "text"])
def test_callbacks_must_be_callable(bad: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        ae.CondVar[None](bad)
    cv = ae.CondVar[None]()
    with pytest.raises(TypeError, match="callable"):
        cv.on_ready(bad)
    with pytest.raises(TypeError, match="callable"):
        cv.begin(bad)
    with pytest.raises(RuntimeError):
        cv.end()  # the refused begin() did not count


def test_the_recursive_wait_has_the_well_known_text() -> None:
    # CORE-72
    seen: list[BaseException] = []
    done = ae.CondVar[None]()

    def nested() -> None:
        try:
            ae.CondVar[None]().recv()
        except ae.RecursiveWait as error:
            seen.append(error)
        done.send()

    with ae.timer(0, nested):
        done.recv()
    assert "recursive blocking wait attempted" in str(seen[0])
    assert isinstance(seen[0], ae.AEError)


def test_in_a_group_callback_recv_of_the_ready_one_works(trace: Trace) -> None:
    cv = ae.CondVar[int]()

    def all_done(cv: ae.CondVar[int]) -> None:
        cv.send(5)
        trace(cv.recv())

    cv.begin(all_done)
    with ae.timer(0, cv.end):
        assert cv.recv() == 5
    assert trace == [5]


def test_deadlock_is_told_from_waiting_for_another_thread() -> None:
    with pytest.raises(ae.Deadlock, match="no watcher"):
        ae.CondVar[None]().recv()
    backend = ae.detect()
    cv = ae.CondVar[int]()
    go = threading.Event()

    def work() -> None:
        go.wait()
        backend.call_threadsafe(lambda: cv.send(3))

    thread = threading.Thread(target=work)
    thread.start()
    ae.postpone(go.set)
    assert cv.recv() == 3
    thread.join()


def test_a_thread_that_ends_without_a_word_leaves_a_deadlock() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    ae.postpone(go.set)
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()
    thread.join()


def test_a_waiter_that_gives_up_leaves_nothing_at_the_condition_variable() -> None:
    cv = ae.CondVar[None]()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            cv.recv(0)
    assert not cv._callbacks


def test_a_thousand_waiters_in_turn() -> None:
    cv = ae.CondVar[int]()

    async def wait() -> int:
        return await cv

    tasks = [ae.spawn(wait()) for _ in range(1000)]
    with ae.timer(0, lambda: cv.send(2)):
        assert sum(task.recv() for task in tasks) == 2000


# ---------------------------------------------------------------------- the object


def test_subclasses_are_welcome(trace: Trace) -> None:
    # CORE-79
    class Answer(ae.CondVar[int]):
        def __init__(self, question: str) -> None:
            super().__init__(lambda cv: trace(cv is self))
            self.question = question

    answer = Answer("?")
    answer.send(42)
    assert (answer.recv(), answer.question) == (42, "?")
    assert trace == [True]
    assert "Answer" in repr(answer)


def test_repr_tells_the_state() -> None:
    states = []
    for act in (
        lambda cv: None,
        lambda cv: cv.send(3),
        lambda cv: cv.throw(KeyError("x")),
        lambda cv: cv.cancel(),
    ):
        cv = ae.CondVar[Any]()
        act(cv)
        states.append(repr(cv).split(" at ")[0])
        if "error" in states[-1]:
            with pytest.raises(KeyError):
                cv.recv()
    assert states == [
        "<CondVar pending",
        "<CondVar value 3",
        "<CondVar error KeyError('x')",
        "<CondVar cancelled",
    ]


@pytest.mark.parametrize("how", ["send", "cancel", "drop", "throw", "await", "timeout"])
def test_without_the_garbage_collector_nothing_stays(how: str) -> None:
    class Value(Exception):
        pass

    async def await_the(box: list[ae.CondVar[Any]]) -> None:
        with contextlib.suppress(Value):
            await box.pop()  # a variable of ours would be part of the error's traceback

    gc.disable()
    try:
        cv = ae.CondVar[Any]()
        value = Value()
        gone = weakref.ref(cv), weakref.ref(value)
        if how == "send":
            cv.send(value)
        elif how == "cancel":
            cv.cancel()
            with contextlib.suppress(ae.CancelledError):
                cv.recv()
        elif how == "throw":
            cv.throw(value)
            for _ in range(2):
                with contextlib.suppress(Value):
                    cv.recv()
        elif how == "await":
            cv.throw(value)
            ae.run(await_the([cv]))
        elif how == "timeout":
            with contextlib.suppress(TimeoutError):
                cv.recv(0)
        del cv, value
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()
