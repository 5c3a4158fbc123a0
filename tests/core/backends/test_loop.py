"""The built-in loop's own book-keeping: what happens to descriptors in the middle of a turn."""

from __future__ import annotations

import contextvars
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import pytest

import ae_core as ae
from ae_core._backends._multiplexers import MULTIPLEXERS
from ae_core.testing import Trace

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@pytest.fixture(params=MULTIPLEXERS)
def loop(request: pytest.FixtureRequest, unbound: None) -> Any:
    ae.use("loop", multiplexer=request.param)
    return ae.detect()


@pytest.fixture
def empty() -> contextvars.Context:
    """Give context variables of which none is set: this file is about the way for those."""
    return contextvars.Context()


@pytest.fixture
def readable() -> Iterator[list[socket.socket]]:
    """Give three sockets that have something to read."""
    with ExitStack() as stack:
        found = []
        for _ in range(3):
            near, far = map(stack.enter_context, socket.socketpair())
            far.send(b"x")
            found.append(near)
        yield found


def test_what_is_cancelled_while_it_is_ready_costs_no_new_set(
    loop: Any,
    trace: Trace,
    readable: list[socket.socket],
    empty: contextvars.Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(error))
    kernel_set = loop._mux
    watchers: list[ae.Watcher] = []

    def first_of_all() -> None:
        trace("called")
        for watcher in watchers:
            watcher.cancel()

    watchers += [empty.run(ae.io, sock, "r", first_of_all) for sock in readable]
    trace.run_until(1)
    ae.sleep(0.01).recv()
    assert trace == ["called"]
    assert loop._mux is kernel_set


@pytest.mark.skipif(os.name == "nt", reason="nobody chooses a socket's number")
def test_a_watcher_on_a_number_used_again_is_not_called_for_the_old_one(
    loop: Any, trace: Trace, readable: list[socket.socket], empty: contextvars.Context
) -> None:
    quiet, other_end = socket.socketpair()
    watchers: dict[int, ae.Watcher] = {}

    def replace(mine: int) -> None:
        """Put a quiet socket in the place of the two others that are ready in this turn."""
        trace("replaced")
        for number in set(watchers) - {mine}:
            watchers[number].cancel()
            os.dup2(quiet.fileno(), number)
            watchers[number] = empty.run(ae.io, number, "r", lambda: trace("false alarm"))
        watchers[mine].cancel()

    for sock in readable:
        number = sock.fileno()
        watchers[number] = empty.run(ae.io, number, "r", partial(replace, number))
    with quiet, other_end:
        trace.run_until(1)
        ae.sleep(0.01).recv()
        assert trace == ["replaced"]
        for watcher in watchers.values():
            watcher.cancel()


def test_what_one_callback_sets_the_next_of_the_same_turn_does_not_see(
    loop: Any, trace: Trace, readable: list[socket.socket], empty: contextvars.Context
) -> None:
    watchers: list[ae.Watcher] = []

    def look() -> None:
        trace(variable.get())
        variable.set("left behind")
        if len(trace) == 2:
            raise ValueError("by the way")

    watchers += [empty.run(ae.io, sock, "r", look) for sock in readable]
    loop.poll(block=True)
    for watcher in watchers:
        watcher.cancel()
    assert trace == ["none", "none", "none"]


def test_a_turn_serves_watchers_with_variables_and_without(
    loop: Any, trace: Trace, readable: list[socket.socket], empty: contextvars.Context
) -> None:
    with_value = contextvars.copy_context()
    with_value.run(variable.set, "mine")
    one, two, three = readable
    watchers = [
        empty.run(ae.io, one, "r", lambda: trace(variable.get())),
        with_value.run(ae.io, two, "r", lambda: trace(variable.get())),
        empty.run(ae.io, three, "r", lambda: trace(variable.get())),
        empty.run(ae.io, three, "r", lambda: trace("beside")),
    ]
    loop.poll(block=True)
    for watcher in watchers:
        watcher.cancel()
    assert sorted(trace) == ["beside", "mine", "none", "none"]


# ---------------------------------------------------------------------- guests of one wait


class Spy:
    """Notes what the kernel is told, and tells it."""

    def __init__(self, loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        for owner, name in ((loop, "_register"), (loop, "_unregister"), (loop._mux, "change")):
            monkeypatch.setattr(owner, name, self._noting(name, getattr(owner, name)))

    def _noting(self, name: str, tell: Callable[..., None]) -> Callable[..., None]:
        def note(*args: int) -> None:
            self.told.append(f"{name.strip('_')} {args[0]}")
            tell(*args)

        return note


@pytest.fixture
def host(unbound: None) -> Any:
    """Give a loop that takes guests, if there is one on this system."""
    ae.use("loop")
    loop: Any = ae.detect()
    if not loop._mux.can_poll_extra:
        pytest.skip("the best multiplexer here does without")
    loop.poll(block=False)  # the loop's own wake-up is no guest any more
    loop.poll(block=False)
    return loop


def test_of_a_watcher_called_once_the_kernel_is_not_told(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(host, monkeypatch)
    watchers = [ae.io(sock, "r", trace.recorder(sock.fileno())) for sock in readable]
    host.poll(block=True)
    for watcher in watchers:
        watcher.cancel()
    host.poll(block=False)
    assert trace == [sock.fileno() for sock in readable]
    assert spy.told == []


def test_of_one_that_stays_the_kernel_is_told_once(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(host, monkeypatch)
    number = readable[0].fileno()
    with ae.io(number, "r", trace.recorder("called")):
        for _ in range(4):
            host.poll(block=True)
    assert trace == ["called"] * 4
    assert spy.told == [f"register {number}", f"unregister {number}"]


def test_of_a_direction_that_comes_and_goes_the_kernel_is_not_told(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(host, monkeypatch)
    number = readable[0].fileno()
    with ae.io(number, "r", trace.recorder("r")):
        host.poll(block=True)
        host.poll(block=True)
        ae.io(number, "w", trace.recorder("never")).cancel()
        host.poll(block=True)
        with ae.io(number, "w", trace.recorder("w")):
            host.poll(block=True)
    assert trace == ["r", "r", "r", "w", "r"]
    assert spy.told == [f"register {number}", f"change {number}", f"unregister {number}"]


def test_a_guest_that_waits_does_not_keep_the_others(
    host: Any, trace: Trace, readable: list[socket.socket]
) -> None:
    quiet, other_end = socket.socketpair()
    with quiet, other_end, ae.io(readable[0], "r", trace.recorder("known")):
        host.poll(block=True)
        host.poll(block=True)
        trace.clear()
        with ae.io(quiet, "r", trace.recorder("guest")):
            host.poll(block=True)
            assert trace == ["known"]
            other_end.send(b"x")
            host.poll(block=True)
            assert sorted(trace) == ["guest", "known", "known"]


def test_a_guest_in_both_directions_that_loses_one(
    host: Any, trace: Trace, readable: list[socket.socket]
) -> None:
    with ae.io(readable[0], "r", trace.recorder("r")) as reader:
        with ae.io(readable[0], "w", trace.recorder("w")):
            host.poll(block=True)
            assert trace == ["w", "r"]
            reader.cancel()
            host.poll(block=True)
            host.poll(block=True)
            assert trace == ["w", "r", "w", "w"]
    host.poll(block=False)
    assert trace == ["w", "r", "w", "w"]


@pytest.mark.parametrize("known", ["r", "w"])
def test_a_direction_beside_one_that_is_known_is_no_guest(
    host: Any, trace: Trace, readable: list[socket.socket], known: Literal["r", "w"]
) -> None:
    other: Literal["r", "w"] = "w" if known == "r" else "r"
    with ae.io(readable[0], known, trace.recorder(known)):
        host.poll(block=True)
        host.poll(block=True)
        trace.clear()
        with ae.io(readable[0], other, trace.recorder(other)):
            host.poll(block=True)
            assert trace == ["w", "r"]


def test_a_guest_that_was_closed_is_reported_once_and_costs_no_new_set(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(error.errno))
    kernel_set = host._mux
    with ae.io(readable[0], "r", trace.recorder("open")):
        closed = ae.io(readable[1], "r", trace.recorder("closed"))
        readable[1].close()
        for _ in range(3):
            host.poll(block=True)
    assert sorted(trace, key=str) == [errno.EBADF, "open", "open", "open"]
    assert not closed.active
    assert host._mux is kernel_set


def test_guests_that_are_too_many_are_called_all_the_same(
    host: Any, trace: Trace, readable: list[socket.socket]
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2, hard))
    try:
        watchers = [ae.io(sock, "r", trace.recorder("called")) for sock in readable]
        host.poll(block=True)
        host.poll(block=True)
        assert trace == ["called"] * 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    watchers.clear()


def test_an_interest_that_has_ended_is_ended_again_without_harm(
    loop: Any, readable: list[socket.socket], trace: Trace
) -> None:
    token = loop.io_start(readable[0].fileno(), False, trace.recorder("called"))
    loop.io_stop(token)
    loop.io_stop(token)
    loop.poll(block=False)
    assert trace == []


def test_a_turn_inside_a_call_from_a_thread_makes_the_others(loop: Any, trace: Trace) -> None:
    def turn() -> None:
        loop.call_threadsafe(trace.recorder("inner"))
        loop.poll(block=False)
        trace("outer")

    call: Any = partial(type(loop).call_threadsafe, loop)
    for each in (turn, trace.recorder("other")):
        call(each)
    loop.poll(block=False)
    loop.poll(block=False)
    assert sorted(trace) == ["inner", "other", "outer"]


# ---------------------------------------------------------------------- no room in the kernel


def full(*_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_the_kernel_has_no_room_for_is_waited_for_beside_the_set(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = readable[0].fileno()
    with monkeypatch.context() as patched:
        patched.setattr(host, "_register", full)
        watcher = ae.io(number, "r", trace.recorder("called"))
        for _ in range(3):
            host.poll(block=True)
        assert trace == ["called"] * 3
        spy = Spy(host, patched)
        watcher.cancel()
        assert spy.told == []  # it does not know the descriptor
        watcher = ae.io(number, "r", trace.recorder("called"))
        host.poll(block=True)
    spy = Spy(host, monkeypatch)
    for _ in range(3):
        host.poll(block=True)
    assert spy.told == [f"register {number}"]  # once there is room
    watcher.cancel()


def test_a_direction_that_the_kernel_refuses_beside_one_that_it_knows(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = readable[0].fileno()
    with ae.io(number, "r", trace.recorder("r")):
        host.poll(block=True)
        host.poll(block=True)
        trace.clear()
        monkeypatch.setattr(host._mux, "change", full)
        monkeypatch.setattr(host, "_register", full)
        with ae.io(number, "w", trace.recorder("w")):
            host.poll(block=True)
        assert sorted(trace) == ["r", "w"]  # each once
        trace.clear()
        host.poll(block=True)
        assert trace == ["r"]


def test_a_refusal_for_a_number_that_the_kernel_has_forgotten_is_waited_for_all_the_same(
    host: Any, trace: Trace, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgotten(fd: int) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    number = readable[0].fileno()
    with ae.io(number, "r", trace.recorder("r")):
        host.poll(block=True)
        host.poll(block=True)
        trace.clear()
        with monkeypatch.context() as patched:
            for name, refuse in (("_register", full), ("_unregister", forgotten)):
                patched.setattr(host, name, refuse)
            patched.setattr(host._mux, "change", full)
            with ae.io(number, "w", trace.recorder("w")):
                host.poll(block=True)
            assert {"w"} <= set(trace) <= {"r", "w"}


def test_a_multiplexer_without_guests_tells_of_the_refusal(
    unbound: None, readable: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error.errno))
    ae.use("loop", multiplexer=list(MULTIPLEXERS)[-1])
    loop: Any = ae.detect()
    loop.poll(block=False)
    monkeypatch.setattr(loop, "_register", full)
    watcher = ae.io(readable[0], "r", print)
    loop.poll(block=False)
    assert seen == [errno.ENOSPC]
    assert not watcher.active


@pytest.mark.skipif("select" not in MULTIPLEXERS, reason="needs select()")
def test_a_loop_that_could_not_be_woken_is_not_made(
    unbound: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_high(self: object, fd: int) -> None:
        raise OSError(errno.EMFILE, "too high")

    monkeypatch.setattr(MULTIPLEXERS["select"], "check", too_high)
    ae.use("loop", multiplexer="select")
    with pytest.raises(OSError, match="too high"):
        ae.detect()
    monkeypatch.undo()
    ae.detect()
