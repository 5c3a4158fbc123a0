"""``timeout=`` of one read: it is taken back, whoever waits is told, and nothing is lost."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import Trace, VirtualBackend, virtual_time
from ae_handle import Chunk, Handle, HandleError, HandleTimedOut
from ae_handle.testing import MemoryStream, memory_pair
from ae_handle.types import TlsAutostart


@pytest.fixture
def clock(unbound: None) -> Iterator[VirtualBackend]:
    with virtual_time() as backend:
        yield backend


@pytest.fixture
def ends(clock: VirtualBackend) -> tuple[MemoryStream, MemoryStream]:
    return memory_pair()


@pytest.mark.parametrize("way", ["push_read", "unshift_read", "each"])
def test_an_awaited_read_is_taken_back_and_half_an_item_stays(
    clock: VirtualBackend, ends: Any, trace: Trace, way: str
) -> None:
    h = Handle(ends[0], on_error=lambda h, error: trace("on_error"))
    ends[1].send(b"ha")

    async def read() -> bytes:
        if way == "each":
            return await anext(h.each("line", timeout=2))
        line: bytes = await getattr(h, way)("line", timeout=2)
        return line

    with pytest.raises(HandleTimedOut, match="read 'line': timeout of 2 s has passed") as caught:
        ae.run(read())
    assert clock.elapsed == 2
    assert not caught.value.fatal
    assert h.statistics().requests == 0
    ends[1].send(b"lf\n")
    assert h.push_read("line", timeout=1).recv() == b"half"
    assert trace == []  # its awaiter was told, and nobody else
    h.destroy()


def test_a_callback_request_tells_on_error_and_the_next_one_gets_the_item(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    def failed(h: Handle, error: HandleError) -> None:
        trace(clock.elapsed, type(error).__name__, error.fatal, str(error))

    h = Handle(ends[0], on_error=failed)
    h.push_read(Chunk(4), trace, timeout=3)
    h.push_read("line", lambda h, line: trace(line))
    ends[1].send(b"hi\n")
    clock.advance(10)
    text = "read Chunk(size=4): timeout of 3 s has passed"
    assert trace == [(3, "HandleTimedOut", False, text), b"hi"]
    assert not h.is_destroyed
    h.destroy()


def test_without_on_error_it_ends_the_handle_as_any_error_does(
    clock: VirtualBackend, ends: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(type(error)))
    h = Handle(ends[0])
    h.push_read("line", trace, timeout=1)
    clock.advance(2)
    assert h.is_destroyed
    assert trace == [HandleTimedOut]


def test_it_counts_from_the_call_also_behind_others(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    h = Handle(ends[0])
    first = h.push_read("line")
    second = h.push_read("line", timeout=2)
    third = h.push_read("line", timeout=5)
    clock.advance(3)
    assert isinstance(second.error, HandleTimedOut)
    ends[1].send(b"1\n3\n")
    clock.advance(1)
    assert (first.recv(), third.recv()) == (b"1", b"3")
    h.destroy()


def test_it_counts_while_connecting(clock: VirtualBackend, trace: Trace) -> None:
    h = Handle(connect=("peer.test", 1), connector=lambda host, service: ae.CondVar())
    with pytest.raises(HandleTimedOut):
        h.push_read("line", timeout=2).recv()
    assert clock.elapsed == 2
    assert not h.is_destroyed
    h.destroy()


def test_zero_is_what_has_arrived(backend: Backend, contexts: Any) -> None:
    """Also what is still in the kernel, on every loop, in plaintext and in TLS."""

    async def main() -> None:
        a, b = socket.socketpair()
        h = Handle(a)
        for _ in range(20):
            with pytest.raises(HandleTimedOut, match="timeout of 0 s"):
                await h.push_read("line", timeout=0)
            b.sendall(b"here\n")
            assert await h.push_read("line", timeout=0) == b"here"
            b.sendall(b"there\n")
            assert await anext(h.each("line", timeout=0)) == b"there"
        h.destroy()
        b.close()

    ae.run(main())


def test_zero_is_what_has_arrived_in_tls(join_tls: Callable[..., Any]) -> None:
    client, server = join_tls()
    server.push_write(b"hello\n")
    assert client.push_read("line").recv() == b"hello"
    with pytest.raises(HandleTimedOut):
        client.push_read("line", timeout=0).recv()
    server.push_write(b"again\n")
    assert client.push_read("line", timeout=0).recv() == b"again"


def test_an_item_in_time_ends_the_limit(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    h = Handle(ends[0], on_error=lambda h, error: trace("on_error"))
    h.push_read("line", lambda h, line: trace(line), timeout=2)
    awaited = h.push_read("line", timeout=2)
    clock.advance(1)
    ends[1].send(b"one\ntwo\n")
    clock.advance(5)
    assert awaited.recv() == b"two"
    assert trace == [b"one"]
    h.destroy()


def test_a_limit_that_passes_while_its_callback_waits_is_no_limit_any_more(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    h = Handle(ends[0], on_error=lambda h, error: trace("on_error"))

    def wait(h: Handle, line: bytes) -> None:
        clock.pass_time(10)
        trace(line)

    h.push_read("line", wait, timeout=2)
    ends[1].send(b"slow\n")
    clock.advance(20)
    assert trace == [b"slow"]
    h.destroy()


def test_an_iterator_goes_on_after_its_limit(clock: VirtualBackend, ends: Any) -> None:
    async def main() -> list[Any]:
        h = Handle(ends[0])
        lines = h.each("line", timeout=2)
        got: list[Any] = []
        for wait in (1, 3, 1):
            timer = ae.timer(wait, lambda: ends[1].send(b"%d\n" % len(got)))
            try:
                got.append(await anext(lines))
            except HandleTimedOut:
                got.append(clock.elapsed)
                await ae.sleep(1)  # for each item anew
                got.append(await anext(lines))
            timer.cancel()
        h.destroy()
        return got

    assert ae.run(main()) == [b"0", 3, b"2", b"3"]


def test_a_dropped_handle_leaves_no_timer(clock: VirtualBackend, ends: Any) -> None:
    def never(h: Handle, line: bytes) -> None:
        raise AssertionError

    h = Handle(ends[0])
    h.push_read("line", never, timeout=1000)
    dead = weakref.ref(h)
    gc.collect()
    gc.disable()
    try:
        del h
        assert dead() is None
        with pytest.raises(ae.Deadlock):
            ae.CondVar[None]().recv()
    finally:
        gc.enable()


def test_destroying_ends_the_limits(clock: VirtualBackend, ends: Any, trace: Trace) -> None:
    h = Handle(ends[0], on_error=lambda h, error: trace("on_error"))
    h.push_read("line", trace, timeout=1)
    waiting = h.push_read("line", timeout=1)
    h.destroy()
    clock.advance(3)
    assert trace == []
    assert not isinstance(waiting.error, HandleTimedOut)
    with pytest.raises(HandleError):
        h.push_read("line", timeout=1).recv()
    h.push_read("line", trace, timeout=1)
    clock.advance(3)
    assert trace == []


def test_a_request_that_starts_tls_has_limits_too(
    clock: VirtualBackend, ends: Any, trace: Trace
) -> None:
    h = Handle(ends[0], on_error=lambda h, error: trace(str(error)))
    with pytest.raises(HandleTimedOut):
        h.push_read(TlsAutostart("accept"), timeout=1).recv()
    h.push_read(TlsAutostart("accept"), trace, timeout=1)
    clock.advance(2)
    assert trace == ["read TlsAutostart(context=None, mode='accept'): timeout of 1 s has passed"]
    h.destroy()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", True])
def test_what_is_no_number_of_seconds_is_refused(half: Any, seconds: Any) -> None:
    h, _ = half()
    for call in (
        lambda: h.push_read("line", timeout=seconds),
        lambda: h.unshift_read("line", print, timeout=seconds),
        lambda: h.each("line", timeout=seconds),
    ):
        with pytest.raises((TypeError, ValueError), match="expected timeout"):
            call()
    assert h.statistics().requests == 0


def test_a_callback_that_cannot_be_called_is_refused(half: Any) -> None:
    h, _ = half()
    for call in (h.push_read, h.unshift_read):
        with pytest.raises(TypeError, match="expected a callable, got 3"):
            call("line", 3, timeout=1)
