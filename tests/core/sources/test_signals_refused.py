"""Signal watchers where the loop refuses, a call is interrupted, or others take part."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # which is what is called
import errno
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

if not hasattr(signal, "SIGWINCH"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core.testing import Trace, release


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    kept = {each: signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGWINCH)}
    yield
    assert signal.set_wakeup_fd(-1) == -1
    for number, handler in kept.items():
        signal.signal(number, handler)


def turns(count: int = 3) -> None:
    for _ in range(count):
        ae.sleep(0).recv()


def test_a_loop_that_cannot_watch_the_wake_up_descriptor_is_woken_by_the_handler(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no room in the kernel's table")

    turns()
    with monkeypatch.context() as patched:
        patched.setattr(type(current_loop().backend), "io_start", refuse)
        watcher = ae.signal("USR1", trace.recorder("signal"))
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)
    for number in (2, 3):
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(number)
    watcher.cancel()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_what_interrupts_the_making_of_a_watcher_does_not_keep_the_next_loop_from_signals(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    def interrupt(number: int, flag: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_signal, "siginterrupt", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ae.signal("USR1", print)
    release()
    with ae.signal("USR1", trace.recorder("signal")):
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)


def test_a_watcher_that_is_interrupted_behind_its_addition_is_not_there(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    turns()
    with monkeypatch.context() as patched:
        patched.setattr(type(current_loop().backend), "signal_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ae.signal("USR1", trace.recorder("interrupted"))
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    release()
    with ae.signal("USR1", trace.recorder("signal")):
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)
    assert trace == ["signal"]


def test_a_watcher_that_is_interrupted_when_its_loop_is_told_lets_the_next_one_tell_it(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    turns()
    with monkeypatch.context() as patched:
        patched.setattr(type(current_loop().io), "watch_own", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ae.signal("USR1", trace.recorder("interrupted"))
    with ae.signal("USR1", trace.recorder("signal")):
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)
    assert trace == ["signal"]


def test_a_watcher_whose_cancelling_is_interrupted_keeps_no_other_loop_from_signals(
    trace: Trace,
) -> None:
    class Struck(set[object]):
        def discard(self, element: object) -> None:
            core.operations = set(self)
            raise KeyboardInterrupt

    turns()
    core = current_loop()
    watcher = ae.signal("USR1", trace.recorder("interrupted"))
    core.operations = Struck(core.operations)
    with pytest.raises(KeyboardInterrupt):
        watcher.cancel()
    watcher.cancel()
    release()
    with ae.signal("USR1", trace.recorder("signal")):
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)
    assert trace == ["signal"]


def test_our_handler_at_a_signal_that_was_never_watched_does_what_the_default_does(
    trace: Trace,
) -> None:
    with ae.signal("USR1", trace.recorder("signal")):
        signal.signal(signal.SIGWINCH, signal.getsignal(signal.SIGUSR1))
        signal.raise_signal(signal.SIGWINCH)  # which is to do nothing
        assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
        turns()
    assert trace == []


def test_our_handler_that_was_put_back_gives_way_to_the_one_before_it(trace: Trace) -> None:
    def handler(number: int, frame: object) -> None:
        trace("handler", number)

    for before in (handler, signal.SIG_IGN):
        signal.signal(signal.SIGUSR1, before)
        with ae.signal("USR1", print):
            ours = signal.getsignal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, ours)
        signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is before
    assert trace == [("handler", signal.SIGUSR1)]


def test_a_watcher_made_where_ours_was_put_back_restores_the_one_before_it(trace: Trace) -> None:
    def handler(number: int, frame: object) -> None:
        trace("handler")

    signal.signal(signal.SIGUSR1, handler)
    with ae.signal("USR1", print):
        ours = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, ours)
    with ae.signal("USR1", trace.recorder("watcher")):
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert trace == ["watcher"]


def test_a_wake_up_descriptor_of_others_that_is_full_or_closed_disturbs_nobody(
    trace: Trace,
) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    with ae.signal("USR1", trace.recorder("signal")):
        with pytest.raises(BlockingIOError):
            while True:
                theirs.send(b"x" * 65536)
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(1)
        ours.close()
        theirs.close()
        signal.raise_signal(signal.SIGUSR1)
        trace.run_until(2)


def test_a_forked_child_has_what_others_have_set_meanwhile(script: Callable[..., str]) -> None:
    said = script(
        """
        import os, signal, socket
        import ae_core as ae

        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        one, two = ae.signal("USR1", print), ae.signal("USR2", print)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        mine = signal.set_wakeup_fd(theirs.fileno())
        pid = os.fork()
        if pid == 0:
            try:
                print(one.active, two.active, signal.set_wakeup_fd(-1) == theirs.fileno())
                print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)
                print(signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN, flush=True)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        signal.set_wakeup_fd(mine)
        print(one.active, two.active)
        ours.close(), theirs.close()
        """
    )
    assert said == "False False True\nTrue\nTrue\nTrue True\n"
