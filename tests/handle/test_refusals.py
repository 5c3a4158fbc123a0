"""Readers that refuse, readers with bugs, callbacks that raise (HANDLE-35, 82, 83)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import (
    NEED_MORE,
    BadMessage,
    Handle,
    HandleError,
    NetString,
    ReadBuffer,
)

Half = Callable[..., tuple[Handle, socket.socket]]
Turns = Callable[..., None]


# ---------------------------------------------------------------------- refusals


def test_a_refused_item_stays_in_front_and_is_refused_again(
    half: Half, trace: Trace, turns: Turns
) -> None:
    h, peer = half(on_error=lambda h, error: trace(type(error).__name__, error.fatal))
    h.push_read(NetString(), lambda h, data: trace(data))
    peer.sendall(b"03:")
    turns()
    peer.sendall(b"abc,")
    turns()
    assert trace == [("BadMessage", False)] * 2
    assert bytes(h.read_buffer) == b"03:abc,"
    assert not h.is_destroyed
    assert h.statistics().requests == 1


def test_on_error_may_mend_the_stream(half: Half, trace: Trace, turns: Turns) -> None:
    def mend(h: Handle, error: HandleError) -> None:
        trace(type(error).__name__)
        h.unshift_read("line", lambda h, line: trace("dropped", line))

    h, peer = half(on_error=mend)
    h.push_read(NetString(), lambda h, data: trace(data))
    peer.sendall(b"garbage\n2:ok,")
    turns()
    assert trace == ["BadMessage", ("dropped", b"garbage"), b"ok"]


def test_on_error_may_consume_what_was_refused(half: Half, trace: Trace, turns: Turns) -> None:
    h, peer = half(on_error=lambda h, error: h.read_buffer.take(1))
    h.push_read(NetString(), lambda h, data: trace(data))
    peer.sendall(b"xy2:ok,")
    turns()
    assert trace == [b"ok"]


def test_without_on_error_a_refusal_ends_the_handle(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(error))
    h, peer = half()
    h.push_read(NetString(), lambda h, data: trace(data))
    peer.sendall(b"x")
    turns()
    assert h.is_destroyed
    assert [type(error) for error in trace] == [BadMessage]


def test_a_refused_awaited_item_raises_and_the_request_is_gone(half: Half, trace: Trace) -> None:
    h, peer = half(on_error=lambda h, error: trace("on_error"))
    peer.sendall(b"x\n")
    with pytest.raises(BadMessage):
        h.push_read(NetString()).recv()
    assert trace == []
    assert h.push_read("line").recv() == b"x"


@pytest.mark.parametrize("awaited", [False, True])
def test_a_bug_in_a_reader_is_reported_and_the_next_request_goes_on(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch, awaited: bool
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook", str(error)))
    h, peer = half()

    def buggy(buf: ReadBuffer) -> Any:
        if buf:
            raise ValueError("a bug")
        return NEED_MORE

    if awaited:
        condvar = h.push_read(buggy)
    else:
        h.push_read(buggy, lambda h, value: trace(value))
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"1\n")
    trace.run_until(1 if awaited else 2)
    assert trace[-1] == b"1"
    if awaited:
        with pytest.raises(ValueError, match="a bug"):
            condvar.recv()
    else:
        assert trace[0] == ("hook", "a bug")


def test_a_bug_in_a_standing_reader_ends_it(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook", str(error)))
    h, peer = half()

    def buggy(buf: ReadBuffer) -> Any:
        raise ValueError("a bug")

    h.read_each(buggy, lambda h, value: trace(value))
    peer.sendall(b"1\n")
    turns()
    assert trace == [("hook", "a bug")]
    assert h.push_read("line").recv() == b"1"


@pytest.mark.parametrize("lines", [b"1\n2\n3\n", b"1\r\n2\r\n3\r\n", b"1\n2\n3\npartial"])
@pytest.mark.parametrize("standing", [False, True])
def test_an_exception_in_a_callback_disturbs_nobody(
    half: Half,
    trace: Trace,
    turns: Turns,
    monkeypatch: pytest.MonkeyPatch,
    lines: bytes,
    standing: bool,
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook", str(error)))
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        h.push_write(line + b"!")
        if line == b"2":
            raise RuntimeError("in the callback")

    if standing:
        h.read_each("line", line)
    else:
        for _ in range(3):
            h.push_read("line", line)
    peer.sendall(lines)
    turns()
    assert trace == [b"1", b"2", ("hook", "in the callback"), b"3"]
    assert not h.is_destroyed
    assert peer.recv(100) == b"1!2!3!"


def test_an_exception_in_on_read_is_reported_once(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook"))

    def on_read(h: Handle) -> None:
        raise RuntimeError("in on_read")

    _, peer = half(on_read=on_read)
    peer.sendall(b"x")
    turns()
    assert trace == ["hook"]


def test_an_exception_in_an_on_read_behind_a_request_is_reported_once(
    half: Half, trace: Trace, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace("hook"))

    def on_read(h: Handle) -> None:
        trace(bytes(h.read_buffer))
        raise RuntimeError("in on_read")

    h, peer = half(on_read=on_read)
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"1\nrest")
    turns()
    assert trace == [b"1", b"rest", "hook"]
    assert not h.is_destroyed


def test_a_hook_that_raises_does_no_harm(
    half: Half,
    trace: Trace,
    turns: Turns,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hook(error: BaseException, watcher: object) -> None:
        trace("hook", str(error))
        raise RuntimeError("second")

    monkeypatch.setattr(ae, "exception_hook", hook)

    def line(h: Handle, line: bytes) -> None:
        raise RuntimeError("first")

    h, peer = half()
    h.push_read("line", line)
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"1\n2\n")
    turns()
    assert trace == [("hook", "first"), b"2"]
    assert "RuntimeError: second" in caplog.text  # logged, like that of any watcher


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_the_wait_once_and_loses_no_data(
    half: Half, trace: Trace, turns: Turns, kind: type[BaseException]
) -> None:
    h, peer = half()

    def line(h: Handle, line: bytes) -> None:
        trace(line)
        if line == b"1":
            raise kind

    h.read_each("line", line)
    peer.sendall(b"1\n2\n")
    with pytest.raises(kind):
        turns()
    turns()
    assert trace == [b"1", b"2"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_what_one_waiter_calls_is_not_in_the_way_of_the_next(
    unbound: None, trace: Trace, kind: type[BaseException]
) -> None:
    """Where no ``recv()`` waits that it could leave."""

    def drained(condvar: ae.CondVar[None]) -> None:
        trace("first")
        raise kind

    async def main() -> None:
        a, b = socket.socketpair()
        with b, Handle(a, linger=0) as h:
            h.drained().on_ready(drained)
            h.drained().on_ready(lambda condvar: trace("second"))
            await asyncio.sleep(60)

    with pytest.raises(kind):
        asyncio.run(main())
    assert trace == ["first", "second"]
