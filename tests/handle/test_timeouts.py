"""Time-outs on virtual time (HANDLE-40 to 46, B120)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace, VirtualBackend, virtual_time
from ae_handle import Handle, HandleError, HandleTimedOut
from ae_handle.testing import MemoryStream, memory_pair


@pytest.fixture
def clock(unbound: None) -> Iterator[VirtualBackend]:
    with virtual_time() as backend:
        yield backend


@pytest.fixture
def ends(clock: VirtualBackend) -> tuple[MemoryStream, MemoryStream]:
    return memory_pair()


def test_without_a_callback_it_is_an_error_that_repeats(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    def failed(h: Handle, error: HandleError) -> None:
        trace(clock.elapsed, error.errno, error.fatal, str(error))

    h = Handle(ends[0], timeout=2, on_error=failed)
    clock.advance(6.5)
    text = "timeout of 2 s has passed"
    assert trace == [(at, errno.ETIMEDOUT, False, text) for at in (2, 4, 6)]
    assert not h.is_destroyed
    h.destroy()


@pytest.mark.parametrize("kind", ["timeout", "read_timeout", "write_timeout"])
def test_a_callback_is_called_again_and_again(
    clock: VirtualBackend, ends: Any, trace: Trace, kind: str
) -> None:
    options: dict[str, Any] = {kind: 1.5, "on_" + kind: lambda h: trace(clock.elapsed)}
    h = Handle(ends[0], **options)
    assert getattr(h, kind) == 1.5
    clock.advance(5)
    assert trace == [1.5, 3.0, 4.5]
    h.destroy()


def test_a_callback_may_switch_it_off(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    def on_timeout(h: Handle) -> None:
        trace(clock.elapsed)
        if len(trace) == 2:
            h.timeout = 0

    h = Handle(ends[0], timeout=1, on_timeout=on_timeout)
    clock.advance(10)
    assert trace == [1, 2]
    h.timeout = None
    h.destroy()


def test_reading_counts_for_two_of_them(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    h = Handle(
        ends[0],
        timeout=3,
        read_timeout=3,
        write_timeout=3,
        on_timeout=lambda h: trace("any", clock.elapsed),
        on_read_timeout=lambda h: trace("read", clock.elapsed),
        on_write_timeout=lambda h: trace("write", clock.elapsed),
        on_read=lambda h: h.read_buffer.clear(),
    )
    clock.advance(2)
    ends[1].send(b"x")
    clock.advance(2.5)
    assert trace == [("write", 3)]
    clock.advance(1)
    assert trace == [("write", 3), ("any", 5), ("read", 5)]
    h.destroy()


def test_writing_counts_for_the_other_two(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    h = Handle(
        ends[0],
        timeout=3,
        read_timeout=3,
        write_timeout=3,
        on_timeout=lambda h: trace("any"),
        on_read_timeout=lambda h: trace("read"),
        on_write_timeout=lambda h: trace("write"),
    )
    for _ in range(5):
        clock.advance(2)
        h.push_write(b"x")
    assert trace == ["read", "read", "read"]
    h.destroy()


def test_a_conversation_in_the_fast_lane_counts(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    h = Handle(ends[0], timeout=3, on_timeout=lambda h: trace(clock.elapsed))
    h.read_each("line", lambda h, line: h.push_write(b"ok\n"))
    for _ in range(4):
        clock.advance(2)
        ends[1].send(b"x\n")
    clock.advance(2.5)
    assert trace == []
    clock.advance(1)
    assert trace == [11]
    h.destroy()


def test_a_reset_concerns_one_of_them(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    h = Handle(
        ends[0],
        timeout=3,
        read_timeout=3,
        write_timeout=3,
        on_timeout=lambda h: trace("any", clock.elapsed),
        on_read_timeout=lambda h: trace("read", clock.elapsed),
        on_write_timeout=lambda h: trace("write", clock.elapsed),
    )
    clock.advance(1)
    h.timeout_reset()
    clock.advance(1)
    h.write_timeout_reset()
    clock.advance(3.5)
    assert trace == [("read", 3), ("any", 4), ("write", 5)]
    h.read_timeout_reset()
    h.destroy()


def test_setting_a_period_begins_it_anew(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    """Perl's goes on from the last activity."""
    h = Handle(ends[0], timeout=10, on_timeout=lambda h: trace(clock.elapsed))
    clock.advance(4)
    h.timeout = 3
    clock.advance(2.5)
    assert trace == []
    clock.advance(1)
    assert trace == [7]
    h.timeout = 20
    clock.advance(19)
    assert trace == [7]
    clock.advance(2)
    assert trace == [7, 27.5]
    h.destroy()


def test_an_old_handle_gets_the_whole_of_its_first_period(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    """What a connection cache does."""
    h = Handle(ends[0], on_timeout=lambda h: trace(clock.elapsed))
    clock.advance(50)
    h.timeout = 5
    clock.advance(4)
    assert trace == []
    clock.advance(2)
    assert trace == [55]
    h.destroy()


@pytest.mark.parametrize("seconds", [-1, -0.5])
def test_a_negative_time_out_is_refused(ends: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="expected timeout of 0 or more seconds"):
        Handle(ends[0], timeout=seconds)
    h = Handle(ends[0])
    with pytest.raises(ValueError, match="expected read_timeout of 0 or more"):
        h.read_timeout = seconds
    h.destroy()


def test_without_any_callback_the_handle_ends(
    clock: VirtualBackend, ends: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(error))
    h = Handle(ends[0], timeout=1)
    clock.advance(3)
    assert h.is_destroyed
    (error,) = trace
    assert isinstance(error, HandleTimedOut)
    assert error.fatal


def test_without_any_callback_an_awaited_read_is_told(clock: VirtualBackend, ends: Any) -> None:
    h = Handle(ends[0], read_timeout=1)
    with pytest.raises(TimeoutError, match="read_timeout of 1 s has passed"):
        h.push_read("line").recv()
    assert clock.elapsed == 1
    assert not h.is_destroyed
    h.destroy()


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize(
    ("kind", "told"), [("timeout", "rw"), ("read_timeout", "r"), ("write_timeout", "w")]
)
def test_it_reaches_whoever_awaits_and_on_error_once(
    clock: VirtualBackend, ends: Any, trace: Trace, kind: str, told: str, listens: bool
) -> None:
    options: dict[str, Any] = {kind: 2}
    if listens:
        options["on_error"] = lambda h, error: trace(type(error), error.fatal)
    ends[0].capacity = ends[1].capacity = 1
    h = Handle(ends[0], **options)
    h.push_write(b"never read")
    read, drained = h.push_read("line"), h.drained()
    clock.advance(3)
    assert ("r" in told) is isinstance(read.error, HandleTimedOut)
    assert ("w" in told) is isinstance(drained.error, HandleTimedOut)
    assert h.statistics().requests == ("r" not in told)
    assert trace == ([(HandleTimedOut, False)] if listens else [])
    assert not h.is_destroyed
    h.linger = 0
    h.destroy()
    if told != "rw":
        clock.advance(0)
        assert (drained if told == "r" else read).error


def test_what_comes_after_a_timeout_is_read_by_the_next_request(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    h = Handle(ends[0], read_timeout=2)
    ends[1].send(b"ha")
    read = h.push_read("line")
    h.push_read("line", lambda h, line: trace(line))
    clock.advance(3)
    assert isinstance(read.error, HandleTimedOut)
    ends[1].send(b"lf\n")
    clock.advance(1)
    assert trace == [b"half"]
    h.destroy()


def test_a_callback_that_raises_is_called_again(
    clock: VirtualBackend, ends: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(str(error)))

    def on_timeout(h: Handle) -> None:
        raise RuntimeError("in on_timeout")

    h = Handle(ends[0], timeout=1, on_timeout=on_timeout)
    clock.advance(2.5)
    assert trace == ["in on_timeout"] * 2
    h.destroy()


def test_destroying_in_a_time_out_spares_the_others(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    def on_timeout(h: Handle) -> None:
        trace("any")
        h.destroy()

    Handle(
        ends[0], timeout=1, on_timeout=on_timeout, read_timeout=1, on_read_timeout=trace
    ).push_read("line").on_ready(lambda condvar: trace("told"))
    clock.advance(5)
    assert trace == ["any", "told"]


def test_writing_in_a_time_out_leaves_at_once(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    h = Handle(ends[0], timeout=1, on_timeout=lambda h: h.push_write(b"PING\n"))
    clock.advance(2.5)
    assert ends[1].recv(100) == b"PING\nPING\n"
    h.destroy()


def test_a_callback_that_is_taken_away_before_there_was_a_period_costs_nothing(
    clock: VirtualBackend, ends: Any
) -> None:
    h = Handle(ends[0])
    h.on_timeout = None
    assert h._inactivity is None
    h.destroy()
    h.on_timeout = print
    assert h._inactivity is None
