"""Errors and ends that nobody has been told when a handle goes, perhaps in another thread."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ae_core.testing import Trace, binding
from ae_handle import Handle, TransportError, UnexpectedEOF
from ae_handle.testing import lingering, memory_pair

Turns = Callable[..., None]


def dropped_elsewhere(handles: list[Handle]) -> None:
    thread = threading.Thread(target=handles.clear)
    thread.start()
    thread.join()


def test_a_handle_with_tls_collected_in_another_thread_says_goodbye(
    certificates: Any, until: Any
) -> None:
    a, b = socket.socketpair()
    handles = [Handle(a, tls="connect", tls_context=certificates.client(), peer_name="peer.test")]
    peer = Handle(b, tls="accept", tls_context=certificates.server())
    handles[0].push_write(b"last\n")
    assert peer.push_read("line").recv() == b"last"
    handles[0].handshake_timeout = 60
    dropped_elsewhere(handles)
    with pytest.raises(UnexpectedEOF, match="inside a request"):  # not that it was truncated
        peer.push_read("line").recv()
    peer.destroy()
    until(lambda: not lingering())


@pytest.mark.parametrize("loop_lives", [True, False])
def test_an_error_nobody_was_told_is_reported_in_the_loop_of_a_handle_collected_elsewhere(
    unbound: None, hooked: list[str], turns: Turns, loop_lives: bool
) -> None:
    with binding("loop"):
        a, b = memory_pair()
        handles = [Handle(a, watch_eof=True)]
        turns()
        a.break_off(errno.ECONNRESET)
        turns()
        assert a.closed
        if loop_lives:
            dropped_elsewhere(handles)
            assert hooked == []
            turns()
            (error,) = hooked
            assert "broken by the test" in error
    dropped_elsewhere(handles)
    assert len(hooked) == loop_lives
    del b


def test_an_end_nobody_was_told_is_reported_when_the_handle_goes(
    hooked: list[str], turns: Turns
) -> None:
    a, b = memory_pair()
    h = Handle(a, watch_eof=True)
    turns()
    b.close()
    turns()
    assert hooked == []
    h.destroy()
    (error,) = hooked
    assert error.startswith("UnexpectedEOF")


def test_two_failures_of_one_turn_are_one_error(
    made: list[Handle], hooked: list[str], turns: Turns
) -> None:
    """The write has failed, and before that is told the read has, too."""
    a, _ = memory_pair()
    h = Handle(a, watch_eof=True)
    made.append(h)
    turns()
    a.break_off(errno.ECONNRESET)
    h.push_write(b"x")
    turns()
    with pytest.raises(TransportError) as caught:
        h.push_read("line").recv()
    assert caught.value.errno == errno.ECONNRESET
    assert hooked == []


def test_nonsense_before_a_reset_is_the_reset_for_who_asks_for_it_later(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    a, b = memory_pair()
    h = Handle(a, watch_eof=True)
    made.append(h)
    b.send(b"no netstring")
    turns()
    a.break_off(errno.ECONNRESET)
    turns()
    h.push_read("netstring", lambda h, data: trace(data))
    h.on_error = lambda h, error: trace(error.errno)
    turns()
    assert trace == [errno.ECONNRESET]
    assert h.is_destroyed


def test_a_handle_that_goes_drops_a_little_of_what_it_has_not_read(turns: Turns) -> None:
    a, b = memory_pair(piece=1)
    h = Handle(a)
    b.send(bytes(16))
    h.destroy()
    assert a.closed
    assert b.recv(1) == b""
    a, b = memory_pair(piece=1)
    h = Handle(a)
    b.send(bytes(17))
    h.destroy()
    with pytest.raises(OSError, match="broken by the test"):
        b.recv(1)
