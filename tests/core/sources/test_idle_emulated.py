"""Idle watchers on a loop that has nothing strictly below I/O: timers take their place."""

from __future__ import annotations

import pytest

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._sources.idle import FIRST_PAUSE, SHORTEST_PAUSE, IdleRecord
from ae_core.testing import Trace, release, virtual_time


def test_the_first_call_is_late_and_the_pauses_after_a_short_one_are_short(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with virtual_time() as clock:
        monkeypatch.setattr(type(current_loop().backend), "strict_idle", False)
        with ae.idle(lambda: trace(round(clock.elapsed, 6))):
            trace.run_until(3)
        ae.sleep(1).recv()
    assert list(trace) == [round(FIRST_PAUSE + n * SHORTEST_PAUSE, 6) for n in range(3)]


def test_a_call_that_comes_after_it_was_cancelled_is_not_made(trace: Trace) -> None:
    core = current_loop()
    record = IdleRecord(core, trace.recorder("called"), None)
    record.cancel()
    record.fire_emulated()
    record.fire()
    record.cancel()
    ae.sleep(0).recv()
    assert trace == []


def test_it_ends_with_its_loop(trace: Trace) -> None:
    watcher = ae.idle(trace.recorder("called"))
    trace.run_until(1)
    release()
    assert not watcher.active
    watcher.cancel()
