"""The built-in loop's own book-keeping: what happens to descriptors in the middle of a turn."""

from __future__ import annotations

import contextvars
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

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
