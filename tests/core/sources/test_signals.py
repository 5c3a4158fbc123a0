"""Signal watchers: names, coalescing, handlers and wake-up descriptors of others."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import pytest

import ae_core as ae
from ae_core.testing import Trace, release

# Windows has no signals for users, and ends a process that os.kill() names.
ONE, TWO = ("USR1", "USR2") if hasattr(signal, "SIGUSR1") else ("TERM", "BREAK")
SIGONE = signal.Signals[f"SIG{ONE}"]
SIGTWO = signal.Signals[f"SIG{TWO}"]


def send() -> None:
    signal.raise_signal(SIGONE)


def settle() -> None:
    for _ in range(3):
        ae.sleep(0).recv()


def test_it_never_runs_inside_the_handler(trace: Trace) -> None:
    # CORE-41
    with ae.signal(ONE, trace.recorder("signal")):
        send()
        for _ in range(1000):
            trace("code")
        assert set(trace) == {"code"}
        trace.run_until(1001)
    assert trace[-1] == "signal"


def test_ten_thousand_arrivals_are_at_least_one_call(trace: Trace) -> None:
    # CORE-42, reliability 25
    with ae.signal(ONE, trace.recorder("signal")):
        for _ in range(10_000):
            send()
        settle()
        assert trace == ["signal"]
        send()
        trace.run_until(2)


def test_one_that_arrives_in_a_callback_is_served_too(trace: Trace) -> None:
    def callback() -> None:
        trace("signal")
        if len(trace) < 3:
            send()

    with ae.signal(ONE, callback):
        send()
        trace.run_until(3)
        settle()
    assert trace == ["signal"] * 3


def test_the_previous_handler_comes_back_with_the_last_watcher(trace: Trace) -> None:
    # CORE-43
    def handler(number: int, frame: object) -> None:
        trace("handler")

    before = signal.signal(SIGONE, handler)
    try:
        one = ae.signal(ONE, trace.recorder("one"))
        two = ae.signal(ONE, trace.recorder("two"))
        one.cancel()
        send()
        trace.run_until(1)
        two.cancel()
        send()
        settle()
        assert signal.getsignal(SIGONE) is handler
    finally:
        signal.signal(SIGONE, before)
    assert trace == ["two", "handler"]


def test_a_handler_that_the_program_set_meanwhile_stays(trace: Trace) -> None:
    def handler(number: int, frame: object) -> None:
        trace("handler")

    watcher = ae.signal(ONE, trace.recorder("watcher"))
    before = signal.signal(SIGONE, handler)
    try:
        watcher.cancel()
        assert signal.getsignal(SIGONE) is handler
    finally:
        signal.signal(SIGONE, signal.SIG_DFL)
    assert before is not handler


def test_a_wake_up_descriptor_of_others_is_served_and_restored(trace: Trace) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            with ae.signal(ONE, trace.recorder("signal")):
                send()
                trace.run_until(1)
                assert ours.recv(10) == bytes([SIGONE])
            send_ignored()
            assert ours.recv(10) == bytes([SIGTWO])
        finally:
            assert signal.set_wakeup_fd(before) == theirs.fileno()


def test_a_wake_up_descriptor_that_was_closed_meanwhile_is_not_restored() -> None:
    # asyncio's proactor loop sets one at its start and closes it at its end
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    assert before == -1
    watcher = ae.signal(ONE, print)
    ours.close()
    theirs.close()
    watcher.cancel()
    assert signal.set_wakeup_fd(-1) == -1


def send_ignored() -> None:
    before = signal.signal(SIGTWO, lambda *_: None)
    signal.raise_signal(SIGTWO)
    signal.signal(SIGTWO, before)


def test_one_taken_over_meanwhile_stays_theirs(trace: Trace) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        with ae.signal(ONE, trace.recorder("signal")):
            before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            send()
            trace.run_until(1)  # noticed all the same
        assert signal.set_wakeup_fd(-1) == theirs.fileno()
    assert before != -1
    with ae.signal(ONE, print):
        pass  # tidies up what had to be left
    assert signal.set_wakeup_fd(-1) == -1


def test_watchers_move_to_the_next_loop_of_the_thread(trace: Trace) -> None:
    old = ae.signal(ONE, trace.recorder("old"))
    release()
    with ae.signal(ONE, trace.recorder("new")):
        send()
        trace.run_until(1)
    assert trace == ["new"]
    assert not old.active
    assert signal.getsignal(SIGONE) is signal.SIG_DFL


def test_a_watcher_made_in_a_callback_of_the_same_signal_waits_for_the_next(trace: Trace) -> None:
    watchers: list[ae.Watcher] = []

    def first() -> None:
        trace("first")
        if len(watchers) == 1:
            watchers.append(ae.signal(ONE, trace.recorder("second")))

    watchers.append(ae.signal(ONE, first))
    send()
    trace.run_until(1)
    settle()
    assert trace == ["first"]
    send()
    trace.run_until(3)
    assert trace == ["first", "first", "second"]
    watchers.clear()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal that ends a process")
def test_the_default_is_restored_in_fact(script: Callable[..., str]) -> None:
    # B17: a signal after the last watcher ends the program
    program = """
        import os, signal, ae_core as ae
        with ae.signal("USR1", lambda: print("called", flush=True)):
            os.kill(os.getpid(), signal.SIGUSR1)
            ae.sleep(0.001).recv()
        os.kill(os.getpid(), signal.SIGUSR1)
        """
    assert script(program, status=-signal.SIGUSR1) == "called\n"


def test_every_signal_has_a_name() -> None:
    from ae_core._sources.signals import signal_number

    for each in signal.Signals:
        if not each.name.startswith("SIG"):
            continue  # on Windows the events of a console are there, too
        assert signal_number(each.name[3:]) == each
        assert signal_number(each) == each
        assert signal_number(int(each)) == each


def test_ending_thousands_of_watchers_of_one_signal_takes_linear_time(
    doubling: Callable[..., None],
) -> None:
    def prepare(n: int) -> Callable[[], object]:
        watchers = [ae.signal(ONE, lambda: None) for _ in range(n)]

        def work() -> None:
            while watchers:
                watchers.pop().cancel()

        return work

    doubling(prepare, 3000)
