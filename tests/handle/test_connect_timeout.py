"""``connect_timeout``, and ``timeout`` while there is no connection yet, on virtual time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import Trace, VirtualBackend, virtual_time
from ae_handle import Handle, HandleError, HandleTimedOut
from ae_handle.testing import end_lingering, memory_pair
from ae_socket import ConnectFailed, socks5
from ae_socket.testing import ScriptedResolver, silent_address


@pytest.fixture
def clock(unbound: None) -> Iterator[VirtualBackend]:
    with virtual_time() as backend:
        yield backend
        end_lingering()


class Line:
    """A connector whose connections the test makes, and the pairs of sockets."""

    def __init__(self) -> None:
        self.asked: list[ae.CondVar[socket.socket]] = []
        self.peers: list[socket.socket] = []

    def __call__(self, host: str, service: str | int) -> ae.CondVar[socket.socket]:
        operation = ae.CondVar[socket.socket](cancel=lambda: None, describe=lambda: "dial peer")
        self.asked.append(operation)
        return operation

    def connect(self) -> None:
        a, b = socket.socketpair()
        self.peers.append(b)
        self.asked[-1].send(a)

    def handle(self, **options: Any) -> Handle:
        return Handle(connect=("peer.test", 25), connector=self, **options)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    for peer in made.peers:
        peer.close()


@pytest.mark.parametrize("on_connect_error", [True, False])
def test_it_is_fatal_and_tells_everybody(
    clock: VirtualBackend, line: Line, trace: Trace, on_connect_error: bool
) -> None:
    def failed(h: Handle, error: HandleError) -> None:
        trace(clock.elapsed, type(error), error.fatal, str(error))

    name = "on_connect_error" if on_connect_error else "on_error"
    h = line.handle(**{name: failed}, connect_timeout=5)
    read, drained = h.push_read("line"), h.drained()
    clock.advance(9)
    text = "connect_timeout of 5 s has passed: <dial peer, pending>"
    assert trace == [(5, HandleTimedOut, True, text)]
    assert isinstance(read.error, HandleTimedOut)
    assert isinstance(drained.error, HandleTimedOut)
    assert h.is_destroyed
    assert line.asked[0].cancelled


def test_by_default_it_is_half_a_minute(clock: VirtualBackend, line: Line) -> None:
    h = line.handle()
    assert h.connect_timeout == 30
    with pytest.raises(HandleTimedOut, match="connect_timeout of 30 s"):
        h.drained().recv()
    assert clock.elapsed == 30


@pytest.mark.parametrize("none", [None, 0])
def test_none_is_for_ever(clock: VirtualBackend, line: Line, none: Any) -> None:
    h = line.handle(connect_timeout=none)
    clock.advance(1e6)
    assert h.statistics().state == "connecting"
    h.destroy()


def test_a_lookup_without_an_answer_counts(clock: VirtualBackend) -> None:
    h = Handle(
        connect=("silent.test", 25),
        resolver=ScriptedResolver({"silent.test": None}),
        connect_timeout=4,
    )
    with pytest.raises(HandleTimedOut, match=r"connect to silent\.test:25, pending"):
        h.drained().recv()
    assert clock.elapsed == 4


def test_attempts_without_an_answer_count_and_are_named(clock: VirtualBackend) -> None:
    with silent_address("127.0.0.1") as first, silent_address("127.0.0.2") as second:
        resolver = ScriptedResolver({"silent.test": [first, second]})
        h = Handle(connect=("silent.test", 25), resolver=resolver, connect_timeout=4)
        with pytest.raises(HandleTimedOut) as caught:
            h.drained().recv()
    assert clock.elapsed == 4
    targets = ", ".join(f"{host}:{port}" for host, port in (first, second))
    assert f"<connect to silent.test:25 over {targets}, pending>" in str(caught.value)


def test_the_first_program_of_the_readme_ends_in_time_on_every_backend(backend: Backend) -> None:
    async def main() -> None:
        with silent_address() as address:
            async with Handle(connect=address, connect_timeout=0.01) as h:
                h.push_write(b"PING\n")

    with pytest.raises(HandleTimedOut, match=r"connect_timeout of 0\.01 s"):
        ae.run(main())


def test_the_negotiation_with_a_proxy_counts(clock: VirtualBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        connector = socks5(proxy.getsockname())
        h = Handle(connect=("peer.test", 25), connector=connector, connect_timeout=4)
        with pytest.raises(HandleTimedOut, match=r"connect to peer\.test:25 through 127"):
            h.drained().recv()
    assert clock.elapsed == 4


def test_retry_counts_and_what_lies_between_does_not(clock: VirtualBackend, trace: Trace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, silent_address() as silent:
        names: Any = {"two.test": [server.getsockname(), silent]}
        retries: list[Any] = []
        h = Handle(
            connect=("two.test", 25),
            resolver=ScriptedResolver(names),
            on_prepare=lambda h: clock.pass_time(1),
            on_connect=lambda h, host, port, retry: retries.append(retry),
            on_connect_error=lambda h, error: trace(clock.elapsed, type(error)),
            connect_timeout=4,
        )
        clock.advance(50)
        assert h.statistics().state == "open"
        retries[0]()
        clock.advance(50)
    assert h.is_destroyed
    assert trace == [(53, HandleTimedOut)]


def test_setting_it_begins_it_anew(clock: VirtualBackend, line: Line) -> None:
    h = line.handle(connect_timeout=5)
    clock.advance(3)
    h.connect_timeout = 10
    with pytest.raises(HandleTimedOut, match="connect_timeout of 10 s"):
        h.drained().recv()
    assert clock.elapsed == 13


def test_a_connection_ends_it(clock: VirtualBackend, line: Line) -> None:
    h = line.handle(connect_timeout=5)
    clock.advance(4)
    line.connect()
    clock.advance(100)
    assert h.statistics().state == "open"
    h.connect_timeout = 1
    clock.advance(100)
    assert h.statistics().state == "open"
    h.destroy()
    with pytest.raises(ae.Deadlock):  # no timer is left
        ae.CondVar[None]().recv()


def test_an_end_before_leaves_no_timer(clock: VirtualBackend, line: Line) -> None:
    line.handle(connect_timeout=1000).destroy()
    h = line.handle(connect_timeout=1000, on_error=lambda h, error: None)
    line.asked[-1].throw(ConnectFailed("nobody is there"))
    clock.advance(0)
    assert h.is_destroyed
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


def test_an_end_that_is_about_to_come_begins_no_other_timer(
    clock: VirtualBackend, line: Line
) -> None:
    h = line.handle(on_error=lambda h, error: None)
    line.asked[-1].cancel()
    h.connect_timeout = 1000  # the error is postponed
    clock.advance(0)
    assert h.is_destroyed
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()
    assert clock.elapsed < 1000


# ---------------------------------------------------------------------- timeout


def test_timeout_counts_from_the_making(clock: VirtualBackend, line: Line, trace: Trace) -> None:
    h = line.handle(timeout=3, on_error=lambda h, error: trace(clock.elapsed, error.fatal))
    read, drained = h.push_read("line"), h.drained()
    clock.advance(7)
    assert trace == [(3, False), (6, False)]
    assert isinstance(read.error, HandleTimedOut)
    assert isinstance(drained.error, HandleTimedOut)
    assert h.statistics().state == "connecting"  # until connect_timeout
    line.connect()
    clock.advance(2)  # being connected is activity
    assert len(trace) == 2
    clock.advance(2)
    assert trace[2:] == [(10, False)]
    h.destroy()


def test_with_nobody_to_tell_it_ends_the_handle(
    clock: VirtualBackend, line: Line, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: trace(type(error)))
    h = line.handle(timeout=3)
    clock.advance(4)
    assert h.is_destroyed
    assert line.asked[0].cancelled
    assert trace == [HandleTimedOut]


def test_a_callback_replaces_all_of_it(clock: VirtualBackend, line: Line, trace: Trace) -> None:
    h = line.handle(timeout=3, on_timeout=lambda h: trace(clock.elapsed))
    read = h.push_read("line")
    clock.advance(7)
    assert trace == [3, 6]
    assert not read.ready
    h.timeout_reset()
    clock.advance(2.5)
    h.timeout = 1
    clock.advance(1)
    assert trace == [3, 6, 10.5]
    h.destroy()


def test_the_two_others_begin_with_the_connection(
    clock: VirtualBackend, line: Line, trace: Trace
) -> None:
    h = line.handle(
        read_timeout=2,
        on_read_timeout=lambda h: trace("read", clock.elapsed),
        write_timeout=3,
        on_write_timeout=lambda h: trace("write", clock.elapsed),
    )
    clock.advance(10)
    assert trace == []
    line.connect()
    clock.advance(3.5)
    assert trace == [("read", 12), ("write", 13)]
    h.destroy()


def test_a_handle_on_a_stream_of_its_own_has_nothing_to_connect(clock: VirtualBackend) -> None:
    a, b = memory_pair()
    h = Handle(a)
    h.connect_timeout = 5
    b.send(b"x\n")
    clock.advance(10)
    assert h.push_read("line").recv() == b"x"
    h.destroy()
