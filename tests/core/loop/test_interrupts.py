"""Ctrl-C and exits: out of ``recv()`` and ``run()`` once, with the loop as good as new."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

import ae_core as ae
from ae_core import logs
from ae_core._loop import interrupts
from ae_core.testing import Trace, binding


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.blocking
def test_ctrl_c_leaves_recv_once(backend: ae.abc.Backend) -> None:
    cv = ae.CondVar[None]()
    for _ in range(3):
        with ae.timer(0, interrupt), pytest.raises(KeyboardInterrupt):
            cv.recv(30)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ae.sleep(0.001).recv()
    assert not cv.ready


@pytest.mark.blocking
def test_ctrl_c_leaves_run_after_the_coroutine_has_cleaned_up(
    backend: ae.abc.Backend, trace: Trace
) -> None:
    async def main() -> None:
        try:
            await ae.CondVar[None]()
        finally:
            await ae.sleep(0.001)
            trace("cleaned up")

    with ae.timer(0.001, interrupt), pytest.raises(KeyboardInterrupt):
        ae.run(main())
    assert trace == ["cleaned up"]
    ae.sleep(0).recv()


@pytest.mark.blocking
def test_ctrl_c_leaves_run_without_a_coroutine(backend: ae.abc.Backend) -> None:
    with ae.timer(0.001, interrupt), pytest.raises(KeyboardInterrupt):
        ae.run()


def test_a_programs_own_handler_is_left_alone(trace: Trace) -> None:
    def handler(number: int, frame: object) -> None:
        trace("handler")

    before = signal.signal(signal.SIGINT, handler)
    try:
        with ae.timer(0, interrupt):
            ae.sleep(0.005).recv()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert trace == ["handler"]


def test_a_handler_set_during_the_wait_stays() -> None:
    def handler(number: int, frame: object) -> None:
        return None

    try:
        with ae.timer(0, lambda: signal.signal(signal.SIGINT, handler)):
            ae.sleep(0.001).recv()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_second_one_breaks_out_of_a_callback_that_hangs(trace: Trace) -> None:
    never = threading.Event()

    def hangs() -> None:
        interrupt()
        trace("noted")
        try:
            interrupt()
            never.wait(30)
        except KeyboardInterrupt:
            trace("broken off")
            raise

    with ae.timer(0, hangs), pytest.raises(KeyboardInterrupt):
        ae.CondVar[None]().recv(30)
    assert trace == ["noted", "broken off"]


def test_a_watched_interrupt_is_an_event_and_the_default_comes_back(trace: Trace) -> None:
    with ae.signal("INT", trace.recorder("event")), ae.timer(0, interrupt):
        trace.run_until(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with ae.timer(0, interrupt), pytest.raises(KeyboardInterrupt):
        ae.CondVar[None]().recv(30)


def test_exit_leaves_recv_and_runs_the_rest(trace: Trace) -> None:
    def leaves() -> None:
        raise SystemExit(7)

    timers = [ae.timer(0, leaves), ae.timer(0, trace.recorder("rest"))]
    with pytest.raises(SystemExit) as caught:
        ae.CondVar[None]().recv(30)
    assert caught.value.code == 7
    ae.sleep(0).recv()
    assert trace == ["rest"]
    timers.clear()


def test_a_ready_result_does_not_hide_the_interrupt() -> None:
    cv = ae.CondVar[int]()

    def both() -> None:
        cv.send(1)
        raise KeyboardInterrupt

    with ae.timer(0, both), pytest.raises(KeyboardInterrupt):
        cv.recv(30)
    assert cv.recv() == 1


@pytest.mark.parametrize("name", ["loop", "asyncio", "libev"])
def test_ctrl_c_ends_a_program_as_users_expect(script: Callable[..., str], name: str) -> None:
    if name == "libev" and find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    program = """
        import signal, ae_core as ae
        with ae.timer(0.001, lambda: signal.raise_signal(signal.SIGINT)):
            ae.run()
        """
    # what the system itself says of a program that Ctrl-C has ended
    status = 0xC000013A if sys.platform == "win32" else -signal.SIGINT
    output = script(program, status=status, AE_BACKEND=name)
    assert output.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("name", ["loop", "asyncio"])
def test_exit_in_a_callback_ends_the_program_with_its_status(
    script: Callable[..., str], name: str
) -> None:
    program = """
        import sys, ae_core as ae
        with ae.timer(0, lambda: sys.exit(5)):
            ae.run()
        """
    assert script(program, status=5, AE_BACKEND=name) == ""


def test_a_program_that_ends_with_watchers_alive_is_silent(script: Callable[..., str]) -> None:
    program = """
        import socket, subprocess, sys, ae_core as ae
        a, b = socket.socketpair()
        keep = [ae.io(a, "r", print), ae.timer(60, print), ae.signal("TERM", print), ae.idle(print)]
        process = subprocess.Popen([sys.executable, "-S", "-c", ""])
        keep.append(ae.child(process.pid, print))
        async def forever():
            await ae.CondVar()
        keep.append(ae.spawn(forever()))
        ae.postpone(print)
        unready = ae.CondVar()
        a.detach(), b.detach()
        """
    assert script(program) == ""


def test_a_wait_in_another_thread_leaves_a_programs_handler_alone() -> None:
    def handler(number: int, frame: object) -> None:
        return None

    waited: list[object] = []

    def work() -> None:
        waited.append(ae.sleep(0.001).recv())
        waited.append(signal.getsignal(signal.SIGINT))
        waited.append(ae.detect().statistics().get("descriptors"))  # none for signals

    before = signal.signal(signal.SIGINT, handler)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert waited == [None, handler, 0]


def test_a_loop_that_refuses_the_wake_up_descriptor_waits_all_the_same(
    monkeypatch: pytest.MonkeyPatch, fresh_logs: None
) -> None:
    said: list[str] = []
    logs.ctx("ae_core").log_callback(lambda text: said.append(text) or True)
    with binding("loop") as backend:
        assert backend is not None

        def refuse(fd: int, write: bool, callback: Callable[[], None]) -> None:
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(backend, "io_start", refuse)
        ae.sleep(0.001).recv()
    assert any("signals cannot end a wait: [Errno" in line for line in said)


def test_of_waits_inside_each_other_the_innermost_that_goes_on_has_the_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wait(catches: bool, fd: int, goes_on: bool = True) -> Any:
        core: Any = SimpleNamespace(runner=SimpleNamespace(blocked={1} & {goes_on}), closed=False)
        made = interrupts.catching_sigint(core)
        made._catches, made.fd = catches, fd
        return made

    outer, inner, over = wait(True, 3), wait(False, 4), wait(True, 5, goes_on=False)
    monkeypatch.setattr(interrupts, "_waits", [outer, inner, over])
    assert interrupts.handler_in_force() == outer.on_sigint
    assert interrupts.wakeup_in_force() == 4
    monkeypatch.setattr(interrupts, "_waits", [over])
    assert interrupts.handler_in_force() is signal.default_int_handler
    assert interrupts.wakeup_in_force() == -1
