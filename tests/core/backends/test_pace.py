"""A loop that is kept busy still does what it does only when nothing is due, as drawing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core._base.pace import REST, Pace


def by_timer(call: Callable[[], None]) -> list[Any]:
    return [ae.timer(0, call)]


def by_postponing(call: Callable[[], None]) -> list[Any]:
    ae.postpone(call)
    return []


def beside_a_timer(call: Callable[[], None]) -> list[Any]:
    ae.postpone(call)
    return [ae.timer(60, call)]


def in_turn(call: Callable[[], None]) -> list[Any]:
    return [ae.timer(0, lambda: ae.postpone(call))]


def by_two(call: Callable[[], None]) -> list[Any]:
    ae.postpone(call)
    return [ae.timer(0, lambda: None)]


def by_timers_of_long_calls(call: Callable[[], None]) -> list[Any]:
    timer = ae.timer(0, call)
    work_for(0.025)
    return [timer]


def work_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        continue


@pytest.mark.blocking
@pytest.mark.parametrize(
    "go_on",
    [
        by_timer,
        by_postponing,
        beside_a_timer,
        in_turn,
        by_two,
        by_timers_of_long_calls,
    ],
)
def test_a_chain_lets_in_what_waits_for_a_quiet_moment(
    go_on: Callable[[Callable[[], None]], list[Any]], backend: Any
) -> None:
    done: ae.CondVar[None] = ae.CondVar()
    kept: list[Any] = []

    def again() -> None:
        kept[:] = [] if done.ready else go_on(again)

    def idle() -> None:
        done.send()

    if backend.name == "tk":
        call = backend._root.tk.createtimerhandler  # to be called after the chain has begun
        kept.append(call(0, lambda: backend._root.after_idle(idle)))
    elif backend.name == "glib":
        from gi.repository import GLib

        GLib.idle_add(idle)
    else:
        pytest.skip(f"{backend.name} has nothing that waits for a quiet moment")
    kept.append(ae.timer(0, again))
    done.recv(timeout=30)
    kept.clear()


def test_a_rest_begins_when_the_next_call_is_due_however_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    delays: list[int] = []

    def long_call() -> None:
        nonlocal now
        delays.append(pace.soon())
        now += 0.5

    pace.call_soon(long_call)
    assert not pace.resting()
    pace.call_soon(long_call)
    assert delays == [0, REST]
    now += 0.008  # the loop comes to the next call, which has been due for long
    assert pace.resting()
    now += REST / 1000
    assert not pace.resting()
