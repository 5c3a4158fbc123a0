"""The alert that tells a peer why the handshake failed, on a stream that does not take it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from ae_core.testing import Trace
from ae_handle import Handle
from ae_handle.testing import MemoryStream, lingering

Turns = Callable[..., None]


class Reluctant(MemoryStream):
    """A stream whose next send fails with an error number."""

    number = 0

    def send(self, data: bytes | memoryview) -> int:
        number, self.number = self.number, 0
        if number:
            raise OSError(number, "as told")
        return super().send(data)


@pytest.mark.parametrize("number", [0, errno.EAGAIN, errno.EINTR, errno.EPIPE])
def test_an_alert_that_does_not_go_at_once_goes_when_the_handle_does(
    contexts: Any, engine: str, trace: Trace, turns: Turns, number: int
) -> None:
    """One that cannot go is nothing that anybody is told."""
    _, server = contexts(engine)
    ours, peer = Reluctant(), MemoryStream()
    ours.peer, peer.peer = peer, ours
    h = Handle(ours, tls="accept", tls_context=server)
    h.on_tls_started = lambda h, error: trace(type(error).__name__)
    turns()
    ours.number = number
    peer.send(b"\x16\3\1\0\5hello")
    turns()
    assert trace == ["TlsError"]
    assert not ours.closed
    h.destroy()
    turns()
    if number == errno.EPIPE:
        assert ours.closed
        assert peer.recv(100) == b""
    else:
        alert = peer.recv(100)
        assert (alert[0], alert[5]) == (21, 2)  # an alert that is fatal
        peer.close()
        turns()
        assert ours.closed
    assert lingering() == 0
