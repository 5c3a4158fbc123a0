"""A loop that is kept busy still does what it does only when nothing is due, as drawing."""

from __future__ import annotations

from typing import Any

import pytest

import ae_core as ae


@pytest.mark.blocking
def test_a_chain_of_zero_timers_lets_in_what_waits_for_a_quiet_moment(
    backend: Any,
) -> None:
    done: ae.CondVar[None] = ae.CondVar()
    kept: list[Any] = []

    def again() -> None:
        kept[:] = [] if done.ready else [ae.timer(0, again)]

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
