"""A server that says what no server should."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ae_core as ae
from ae_irc import Client
from ae_irc.testing import FakeServer

Make = Callable[..., Client]


@pytest.mark.parametrize(
    "line", [b"PING :a\rb", b"PING a\0b", b"PING :a\0b c", b"PING", b"PING :", b"PING \xff"]
)
def test_a_ping_that_cannot_be_answered_harms_nobody(
    fake: FakeServer, client: Make, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    anna = client()
    anna.registered().recv()
    (handle,) = fake.clients
    handle.push_write(line + b"\r\nPING :end\r\n")
    while "PONG end" not in fake.lines:
        ae.sleep(0.001).recv()
    assert (seen, fake.accepted) == ([], 1)
