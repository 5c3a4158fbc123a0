"""What the loop calls of a handle: ways that few events take, and events that come too late."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import Chunk, Handle
from ae_handle.testing import memory_pair

Turns = Callable[..., None]


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("readable", ()),
        ("readable_tls", ()),
        ("writable", ()),
        ("read_refused", (OSError(5, "refused"),)),
        ("write_refused", (OSError(5, "refused"),)),
        ("run_due_work", ()),
        ("resume_work", ()),
        ("dispatch_again", ()),
        ("on_inactivity_timer", ()),
    ],
)
def test_an_event_that_was_queued_finds_its_handle_gone(
    hooked: list[str], turns: Turns, event: str, arguments: tuple[Any, ...]
) -> None:
    stream, peer = memory_pair()
    h = Handle(stream, on_error=lambda h, error: hooked.append("on_error"))
    h.push_read("line", lambda h, line: hooked.append("line"))
    late = getattr(h._events, event)
    ae.postpone(lambda: late(*arguments))
    del h
    gc.collect()
    peer._watchers.clear()
    turns()
    assert hooked == []
    assert stream.closed


def test_what_arrives_while_a_line_is_delivered_is_answered_behind_it(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """By a loop that runs inside the callback, as those of Qt, Tk and GLib do."""
    ours, peer = memory_pair()
    h = Handle(ours)
    made.append(h)

    def first(condvar: ae.CondVar[bytes]) -> None:
        trace(condvar.recv())
        h.push_read("line", lambda h, line: trace(line))
        peer.send(b"second\nrest")
        h._events.readable()
        trace("inside")

    h.push_read("line").on_ready(first)
    peer.send(b"first\n")
    turns()
    assert trace == [b"first", "inside", b"second"]
    assert bytes(h.read_buffer) == b"rest"


def test_an_end_that_comes_while_a_line_is_delivered_is_told_behind_it(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, on_eof=lambda h: trace("end"), watch_eof=True)
    made.append(h)

    def first(h: Handle, line: bytes) -> None:
        trace(line)
        peer.shutdown(1)
        h._events.readable()
        trace("inside")

    h.push_read("line", first)
    peer.send(b"first\n")
    turns()
    assert trace == [b"first", "inside", "end"]


def test_reads_grow_while_they_are_full(made: list[Handle], turns: Turns) -> None:
    sizes: list[int] = []
    ours, peer = memory_pair(capacity=1 << 20)
    recv = ours.recv

    def counted(size: int) -> bytes:
        sizes.append(size)
        return recv(size)

    ours.recv = counted  # type: ignore[method-assign]
    h = Handle(ours, read_size=1000, max_read_size=3000)
    made.append(h)
    peer.send(bytes(10_000))
    assert h.push_read(Chunk(10_000)).recv() == bytes(10_000)
    assert sizes == [1000, 2000, 3000, 3000, 3000]
