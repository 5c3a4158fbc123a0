"""Strict mode's watchdog, blocking callbacks and closed descriptors: STRICT-07, STRICT-08, B40."""

from __future__ import annotations

import gc
import os
import re
import socket
import threading
import time
import weakref
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import strict
from ae_core._detection import current as _detect
from ae_core.strict import _watchdog
from ae_core.testing import Trace

pytestmark = pytest.mark.usefixtures("fresh_logs", "strict_mode")
posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def nothing() -> None:
    """A callback."""


# Callbacks that block


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AE_STRICT_SLOW", "0.02")
    strict.enable()
    yield
    monkeypatch.delenv("AE_STRICT_SLOW")
    strict.enable()


def block_until_seen(shown: Callable[[], str], text: list[str]) -> None:
    """Block, as a callback must not, until the watchdog has barked."""
    deadline = time.monotonic() + 60
    while not re.search(r"dawdle .*has been blocking the loop", "".join(text)):
        assert time.monotonic() < deadline, "the watchdog sleeps"
        time.sleep(0.005)
        text.append(shown())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["timer", "io", "postpone", "idle"])
def test_stack_of_a_blocking_callback_is_shown_while_it_blocks(
    kind: str, backend: Any, shown: Callable[[], str], pair: Any
) -> None:
    text: list[str] = []
    watcher: list[Any] = []

    async def main() -> None:
        done = ae.CondVar[None]()

        def dawdle() -> None:
            watcher.clear()
            if not done.ready:
                block_until_seen(shown, text)
                done.send()

        if kind == "timer":
            watcher.append(ae.timer(0, dawdle))
        elif kind == "io":
            watcher.append(ae.io(pair[0], "w", dawdle))
        elif kind == "idle":
            watcher.append(ae.idle(dawdle))
        else:
            ae.postpone(dawdle)
        await done
        while not re.search(r"dawdle .*blocked the loop for", "".join(text)):
            text.append(shown())
            await ae.sleep(0)

    ae.run(main())
    # On a busy machine something else may be slow, too
    pattern = r"^error ae_core\.strict: callback \S*dawdle .*has been blocking .*\n(?:\+ .*\n)*"
    (found,) = re.finditer(pattern, "".join(text), re.MULTILINE)
    before = found[0]
    assert f"error ae_core.strict: callback {__name__}." in before
    assert "dawdle" in before
    assert "block_until_seen" in before  # the innermost frame: this is where
    assert "/_loop/state.py" not in before  # the loop around it is known
    if kind in ("timer", "io"):
        assert f"(watcher made at {__name__}:" in before


@pytest.mark.usefixtures("impatient")
def test_quick_callbacks_are_not_blamed(
    shown: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_watchdog, "monotonic", lambda: 0.0)  # as quick as can be
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == 20:
            done.send()

    done = ae.CondVar[None]()
    timer = ae.timer(0, tick, interval=0.005)
    done.recv()
    timer.cancel()
    assert shown() == ""


def test_waiting_is_not_blocking() -> None:
    """While recv() waits no callback runs, and the watchdog knows it."""
    samples: list[int] = []
    done = ae.CondVar[None]()
    backend = ae.detect()

    def sample() -> None:
        while 0 not in samples:
            samples.append(len(_watchdog._running))
        backend.call_threadsafe(done.send)

    thread = threading.Thread(target=sample)
    ae.postpone(thread.start)
    done.recv(60)
    thread.join()


def test_nested_loop_starts_the_outer_clock_again(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    """A callback that runs a modal dialog: as long as others are called, the loop is alive."""
    clock = [0.0]
    monkeypatch.setattr(_watchdog, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_watchdog, "_slow", 1.0)
    monkeypatch.setattr(_watchdog, "_start_thread", lambda: None)

    def inner() -> None:
        clock[0] += 0.9

    def dialog() -> None:
        for _ in range(3):
            _watchdog.guarded(inner, "here")()
        clock[0] += 0.9

    _watchdog.guarded(dialog, "there")()
    assert shown() == ""
    _watchdog._running.clear()

    def slow() -> None:
        clock[0] += 1.5

    _watchdog.guarded(slow, "there")()
    assert "(watcher made at there) blocked the loop for 1.500 s" in shown()
    assert _watchdog._running == {}


@pytest.mark.parametrize(
    ("value", "limit"),
    [("", 0.5), ("0", 0.0), ("1.5", 1.5), (" 2 ", 2.0)],
)
def test_limit_is_read_when_it_is_switched_on(
    value: str, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_STRICT_SLOW", value)
    strict.enable()
    assert _watchdog._slow == limit
    monkeypatch.delenv("AE_STRICT_SLOW")
    strict.enable()
    assert _watchdog._slow == 0.5


@pytest.mark.parametrize("value", ["fast", "-1", "nan", "inf", "1e10"])
def test_malformed_limit_is_named_and_means_the_default(
    value: str, monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    monkeypatch.setenv("AE_STRICT_SLOW", value)
    strict.enable()
    assert shown() == (
        f"warn  ae_core: AE_STRICT_SLOW ({value}): not understood: {value!r} at position 1\n"
    )
    assert _watchdog._slow == 0.5


@posix
def test_forked_child_has_a_watchdog_of_its_own(python: Any) -> None:
    done = python(
        "import os, time, warnings, ae_core as ae\n"
        "warnings.simplefilter('ignore')\n"
        "def run():\n"
        "    w = ae.timer(0, lambda: time.sleep(0.2)); ae.sleep(0.05).recv()\n"
        "run()\n"
        "if (pid := os.fork()) == 0:\n"
        "    run(); os._exit(0)\n"
        "os.waitpid(pid, 0)\n",
        AE_STRICT="1",
        AE_STRICT_SLOW="0.02",
    )
    text = "callback __main__:4 (watcher made at __main__:4) has been blocking the loop"
    assert done.stderr.count(text) == 2, done.stderr


# Descriptors closed under their watcher


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watchdog, "FD_PERIOD", 0.01)


async def wait_for(text: str, shown: Callable[[], str]) -> str:
    got = shown()
    deadline = time.monotonic() + 60
    while text not in got:
        assert time.monotonic() < deadline, f"not seen: {text!r}, but: {got}"
        await ae.sleep(0.01)
        got += shown()
    return got


@posix
@pytest.mark.usefixtures("watchful")
def test_descriptor_closed_under_its_watcher_is_named(
    backend: Any, shown: Callable[[], str]
) -> None:
    if backend.name == "tk":
        pytest.skip("Tcl's notifier stops for good at a closed descriptor; only the log is left")

    async def main() -> tuple[int, str]:
        reader, writer = os.pipe()
        watcher = ae.io(reader, "r", nothing)
        await ae.sleep(0)
        os.close(reader)
        got = await wait_for("prematurely closed", shown)
        watcher.cancel()
        os.close(writer)
        return reader, got

    reader, got = ae.run(main())
    assert re.search(
        rf"^crit  ae_core\.strict: fd {reader} registered by {re.escape(__name__)}:\d+ "
        r"but prematurely closed; the event loop might malfunction$",
        got,
        re.MULTILINE,
    )


@posix
@pytest.mark.usefixtures("watchful")
def test_descriptor_reused_under_its_watcher_is_named(shown: Callable[[], str]) -> None:
    one, two = os.pipe()
    other, more = os.pipe()
    watcher = ae.io(one, "r", nothing)
    ae.sleep(0).recv()
    os.dup2(other, one)
    assert f"fd {one} registered" in ae.run(wait_for("closed and used again", shown))
    watcher.cancel()
    for fd in (one, two, other, more):
        os.close(fd)


@posix
def test_second_watcher_for_a_reused_number_tells_at_once(
    shown: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = os.pipe()
    other, more = os.pipe()
    first = ae.io(one, "r", nothing)
    ae.sleep(0).recv()
    os.dup2(other, one)
    second = ae.io(one, "r", nothing)
    assert f"closed and used again, by {__name__}:" in shown()
    first.cancel()
    second.cancel()
    for fd in (one, two, other, more):
        os.close(fd)


@posix
@pytest.mark.usefixtures("watchful")
def test_descriptors_closed_in_order_are_not_blamed(shown: Callable[[], str]) -> None:
    for _ in range(50):
        reader, writer = os.pipe()
        watcher = ae.io(reader, "r", nothing)
        ae.sleep(0.001).recv()
        watcher.cancel()
        os.close(reader)
        os.close(writer)
    assert shown() == ""
    gc.collect()


# The watchdog's steps, one by one, in this thread


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """No watchdog thread, and nothing that it knows of."""
    monkeypatch.setattr(_watchdog, "_start_thread", lambda: None)
    monkeypatch.setattr(_watchdog, "_running", {})
    monkeypatch.setattr(_watchdog, "_known", {})
    monkeypatch.setattr(_watchdog, "_next_fd", 0)


@posix
@pytest.mark.usefixtures("asleep")
def test_every_descriptor_gets_its_turn(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    monkeypatch.setattr(_watchdog, "FDS_AT_ONCE", 3)
    pipes = [os.pipe() for _ in range(5)]
    watchers = [ae.io(reader, "r", nothing) for reader, _ in pipes]
    ae.sleep(0).recv()
    for reader, _ in pipes:
        os.close(reader)
    for _ in range(3):
        _watchdog._look_at_fds()
    assert shown().count("prematurely closed") == 5
    for watcher in watchers:
        watcher.cancel()
    for _, writer in pipes:
        os.close(writer)


@pytest.mark.usefixtures("asleep")
def test_look_at_callbacks_tells_once(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    monkeypatch.setattr(_watchdog, "_slow", 0.001)

    def slow() -> None:
        deadline = time.monotonic() + 0.002
        while time.monotonic() < deadline:
            pass
        _watchdog._look_at_callbacks()
        _watchdog._look_at_callbacks()

    _watchdog.guarded(slow, "here")()
    text = shown()
    assert text.count("has been blocking the loop") == 1
    assert text.count("blocked the loop for") == 1
    assert "in slow" in text
    _watchdog._running[-1] = _watchdog._Run(slow, "in a thread that has ended")
    _watchdog._running[-1].started -= 1
    _watchdog._look_at_callbacks()
    assert shown() == ""


@pytest.mark.usefixtures("asleep")
def test_what_is_outside_of_a_callback_is_not_in_its_stack(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    monkeypatch.setattr(_watchdog, "_slow", 1e-9)
    ae.postpone(_watchdog._look_at_callbacks)
    ae.sleep(0).recv()
    lines = shown().splitlines()
    (start,) = (n for n, line in enumerate(lines) if "has been blocking the loop" in line)
    assert "in _look_at_callbacks" in lines[start + 1]


@posix
@pytest.mark.usefixtures("asleep")
def test_what_ends_while_it_is_looked_at_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    reader, writer = os.pipe()
    watchers = [ae.io(reader, "r", nothing), ae.io(writer, "w", nothing)]

    def end(fd: int) -> os.stat_result:
        for watcher in watchers:
            watcher.cancel()
        _watchdog._known.pop(writer)
        raise OSError(9, "closed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", end)
        _watchdog._look_at_fds()
    assert shown() == ""
    os.close(reader)
    os.close(writer)


@posix
@pytest.mark.usefixtures("asleep")
def test_look_at_fds_forgets_what_is_watched_no_more(shown: Callable[[], str]) -> None:
    reader, writer = os.pipe()
    watcher = ae.io(reader, "r", nothing)
    _watchdog._look_at_fds()
    assert reader in _watchdog._known
    watcher.cancel()
    _watchdog._look_at_fds()
    assert _watchdog._known == {}
    watcher = ae.io(writer, "w", nothing)
    ae.sleep(0).recv()
    os.close(writer)
    _watchdog._look_at_fds()
    _watchdog._look_at_fds()
    assert shown().count(f"fd {writer} registered by {__name__}") == 1
    watcher.cancel()
    os.close(reader)


@posix
@pytest.mark.usefixtures("asleep")
def test_a_number_that_the_packages_watch_themselves_is_not_mistaken_for_the_one_before(
    shown: Callable[[], str],
) -> None:
    """The debug shell's and a command's watchers are not noted, but have numbers all the same."""
    reader, writer = os.pipe()
    other, more = socket.socketpair()
    ae.io(reader, "r", nothing).cancel()
    os.dup2(other.fileno(), reader)
    record = _detect.current_loop().io.start(reader, False, nothing, None)
    _watchdog._look_at_fds()
    record.cancel()
    assert shown() == ""
    for fd in (reader, writer, other.detach(), more.detach()):
        os.close(fd)


@posix
@pytest.mark.usefixtures("asleep")
def test_of_two_watchers_the_one_that_is_left_is_looked_after(shown: Callable[[], str]) -> None:
    one, two = os.pipe()
    other, more = os.pipe()
    first = ae.io(one, "r", nothing)
    ae.io(one, "r", nothing).cancel()
    os.dup2(other, one)
    _watchdog._look_at_fds()
    assert f"fd {one} registered by {__name__}" in shown()
    first.cancel()
    for fd in (one, two, other, more):
        os.close(fd)


@pytest.mark.usefixtures("asleep")
def test_watchdog_ends_with_strict_mode_and_forgets_in_a_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict.disable()
    while _watchdog._alive:
        time.sleep(0.001)
    looks: list[str] = []

    def look() -> None:
        looks.append("callbacks")
        if len(looks) >= 3:
            _watchdog._enabled = False

    monkeypatch.setattr(_watchdog, "_slow", 0.04)
    monkeypatch.setattr(_watchdog, "_enabled", True)
    monkeypatch.setattr(_watchdog, "_wake", allocate_lock())
    _watchdog._wake.acquire()
    monkeypatch.setattr(_watchdog, "FD_PERIOD", 0.0)
    monkeypatch.setattr(_watchdog, "_look_at_callbacks", look)
    monkeypatch.setattr(_watchdog, "_look_at_fds", lambda: looks.append("fds"))
    monkeypatch.setattr(_watchdog, "_alive", True)
    _watchdog._look()
    assert looks == ["callbacks", "fds", "callbacks", "fds"]
    assert _watchdog._alive is False
    monkeypatch.setattr(_watchdog, "_cores", weakref.WeakSet(_watchdog._cores))
    _watchdog._running[1] = _watchdog._Run(nothing, "")
    _watchdog.forget()
    assert (_watchdog._running, list(_watchdog._cores), _watchdog._alive) == ({}, [], False)


@pytest.mark.usefixtures("asleep")
def test_callbacks_without_a_limit_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    strict.disable()
    while _watchdog._alive:
        time.sleep(0.001)
    looks: list[str] = []

    def look() -> None:
        looks.append("fds")
        if len(looks) == 1:
            _watchdog._wake.release()  # as start() does: the settings may be others
        else:
            _watchdog._enabled = False

    monkeypatch.setattr(_watchdog, "_slow", 0.0)
    monkeypatch.setattr(_watchdog, "_enabled", True)
    monkeypatch.setattr(_watchdog, "_wake", allocate_lock())
    _watchdog._wake.acquire()
    monkeypatch.setattr(_watchdog, "FD_PERIOD", 0.001)
    monkeypatch.setattr(_watchdog, "_look_at_callbacks", lambda: looks.append("callbacks"))
    monkeypatch.setattr(_watchdog, "_look_at_fds", look)
    _watchdog._look_again_and_again()
    assert looks == ["fds", "fds"]


def test_calls_that_are_due_already_are_made_when_strict_mode_ends(trace: Trace) -> None:
    def end() -> None:
        strict.disable()
        trace("end")

    for callback in (end, trace.recorder("next")):
        ae.postpone(callback)
    ae.sleep(0).recv()
    assert trace == ["end", "next"]


def test_no_thread_to_be_had_means_no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_watchdog, "start_new_thread", refuse)
    monkeypatch.setattr(_watchdog, "_alive", False)
    monkeypatch.setattr(_watchdog, "_wake", allocate_lock())
    watcher = ae.timer(60, nothing)
    _watchdog._start_thread()
    assert watcher.active
    assert _watchdog._alive is False
