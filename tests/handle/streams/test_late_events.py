"""Streams of the program's own, whose watchers call back although they were cancelled."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ae_handle import Handle
from ae_handle.testing import lingering, memory_pair

Turns = Callable[..., None]


class _Watcher:
    def cancel(self) -> None:
        """Do nothing: an event may be under way already."""


class LateStream:
    """A stream that takes nothing and has nothing until the test says so."""

    def __init__(self) -> None:
        self.events: dict[str, Callable[[], object]] = {}
        self.steps: list[str] = []
        self.full = True
        self.input: Callable[[], bytes] | None = None

    def recv(self, size: int) -> bytes:
        if self.input is None:
            raise BlockingIOError
        return self.input()

    def send(self, data: bytes) -> int:
        if self.full:
            raise BlockingIOError
        return len(data)

    def watch(self, direction: str, callback: Callable[[], object]) -> _Watcher:
        self.events[direction] = callback
        return _Watcher()

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self.steps.append("shutdown")

    def close(self) -> None:
        self.steps.append("close")


@pytest.fixture
def stream(turns: Turns) -> Iterator[LateStream]:
    made = LateStream()
    yield made
    assert not lingering()


def test_a_stream_that_lingers_is_shut_down_once_and_closed_once(
    stream: LateStream, turns: Turns, hooked: list[str]
) -> None:
    h = Handle(stream)
    h.push_write(b"last words")
    turns()
    h.destroy()
    stream.full = False
    stream.input = lambda: b""
    for direction in "rrww":  # the second call of each is late
        stream.events[direction]()
    assert stream.steps == ["shutdown", "close"]
    assert hooked == []


def test_the_end_comes_in_tls_when_reading_it_has_destroyed_the_handle(
    stream: LateStream, turns: Turns, hooked: list[str]
) -> None:
    h = Handle(stream, linger=0, peer_name="peer.test")
    h.start_tls("connect", ssl.create_default_context())
    turns()

    def destroyed() -> bytes:
        h.destroy()
        return b""

    stream.input = destroyed
    stream.events["r"]()
    turns()
    assert (stream.steps, hooked) == (["close"], [])


def test_the_callback_of_a_nested_handle_is_put_back_when_nothing_is_read(
    turns: Turns, hooked: list[str]
) -> None:
    a, b = memory_pair()
    inner = Handle(a)
    got: list[bytes] = []

    def take(h: Handle) -> None:
        got.append(h.read_buffer.take())

    outer = Handle(inner, on_read=take)
    turns()
    kept: Any = inner.on_read
    outer.on_read = None  # nothing is to be read for now
    assert inner.on_read is None
    inner.on_read = kept
    b.send(b"early")
    turns()
    assert (got, hooked) == ([], [])
    outer.on_read = take
    turns()
    assert got == [b"early"]
    outer.destroy()
