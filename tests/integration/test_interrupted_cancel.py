"""Operations whose callback leaves the program when they end: they have ended all the same.

That nothing is left behind, no watcher, descriptor, thread or child, is what the fixture of all
tests looks at afterwards.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import ae_core as ae
import ae_dns
import ae_socket
from ae_handle import Handle, HandleDestroyed

PATIENCE = 60.0


def leave(condvar: ae.CondVar[Any]) -> None:
    raise SystemExit(3)


def cancel_and_leave(operation: ae.CondVar[Any]) -> None:
    also: list[bool] = []
    operation.on_ready(leave)
    operation.on_ready(lambda cv: also.append(cv.cancelled))
    with pytest.raises(SystemExit):
        operation.cancel()
    assert operation.cancelled
    assert also == [True]


def turn_until_somebody_leaves() -> None:
    """Run the loop as a program does that runs it itself: nobody blocks."""
    with pytest.raises(SystemExit):
        while True:
            ae.detect().poll(True)


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_program_is_told_to_end() -> None:
    output = bytearray()
    process = ae.run_cmd([sys.executable, "-c", "input()"], stdin=lambda: b"", stdout=output)
    ended = ae.CondVar[Any]()
    with ae.child(process.pid, ended):
        cancel_and_leave(process)
        assert ended.recv(PATIENCE) == (process.pid, signal.SIGTERM)


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_program_that_cannot_be_started_ends_all_its_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object) -> int:
        raise BlockingIOError("of a test")

    import ae_core._process.spawn

    monkeypatch.setattr(ae_core._process.spawn, "spawn", refuse)
    seen: list[bytes] = []

    def at_end(data: bytes) -> None:
        seen.append(data)
        raise SystemExit(3)

    process = ae.run_cmd(["x"], stdout=at_end, stderr=at_end)
    while not process.ready:
        with suppress(SystemExit):
            ae.detect().poll(True)
    assert seen == [b"", b""]
    with pytest.raises(BlockingIOError, match="of a test"):
        process.recv()


def resolver() -> ae_dns.Resolver:
    return ae_dns.Resolver(servers=["127.0.0.1:9"], search=[])


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(lambda: ae.sleep(PATIENCE), id="sleep"),
        pytest.param(lambda: ae.files.stat("/"), id="files"),
        pytest.param(lambda: ae_socket.resolve("localhost", 80), id="resolve"),
        pytest.param(lambda: resolver().a("x.test"), id="dns"),
        pytest.param(lambda: resolver().getaddrinfo("x.test", 80), id="dns-getaddrinfo"),
        pytest.param(lambda: ae_dns.reverse_lookup("127.0.0.9"), id="dns-reverse"),
    ],
)
def test_an_operation_lets_go_of_what_it_holds(start: Callable[[], ae.CondVar[Any]]) -> None:
    cancel_and_leave(start())


def test_a_call_in_another_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "1")
    cancel_and_leave(ae.fork_call(time.sleep, PATIENCE))
    # the only place is free when the other process has ended
    assert ae.fork_call(os.getpid).recv(PATIENCE) != os.getpid()


def test_a_connect_closes_its_attempts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        operation = ae_socket.tcp_connect(*server.getsockname()[:2], timeout=PATIENCE)
        ae.sleep(0).recv()  # numeric: it is under way in the next turn
        if not operation.ready:
            cancel_and_leave(operation)
        else:
            operation.recv().close()


@pytest.mark.parametrize("how", ["one", "all"])
def test_a_read_leaves_the_queue(how: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as stack:
        handle = stack.enter_context(Handle(ours))
        first, second = handle.push_read("line"), handle.push_read("line")
        if how == "one":
            cancel_and_leave(first)
            theirs.sendall(b"for the second\n")
            assert second.recv(PATIENCE) == b"for the second"
        else:
            first.on_ready(leave)
            handle.destroy()
            turn_until_somebody_leaves()
            assert isinstance(first.error, HandleDestroyed)
            assert isinstance(second.error, HandleDestroyed)


def test_of_two_lookups_of_one_question_the_second_hears_although_the_first_left() -> None:
    from ae_dns.testing import NameServer

    with NameServer("www.test. 60 IN A 192.0.2.1") as server:
        asked = ae_dns.Resolver(servers=[server.endpoint], search=[])
        first, second = asked.a("www.test"), asked.a("www.test")
        first.on_ready(leave)
        turn_until_somebody_leaves()
        assert second.recv(PATIENCE) == ["192.0.2.1"]
