"""Fixtures for guests: one host after another, all loops but asyncio and trio."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
import ae_guests
from ae_guests._loop import GuestLoop

NO_HOSTS = {"asyncio", "trio"}


@pytest.fixture
def host(backend: ae.abc.Backend) -> Iterator[ae.abc.Backend]:
    """Bind the thread to a loop that can have an asyncio guest."""
    if backend.name in NO_HOSTS:
        pytest.skip(f"{backend.name} is no host of an asyncio guest")
    yield backend
    gc.collect()


@pytest.fixture
def run() -> Callable[[Any], Any]:
    """Run a coroutine as ``asyncio.run`` does, in a new guest loop."""
    import asyncio

    def call(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=ae_guests.new_event_loop) as runner:
            return runner.run(coroutine)

    return call


@pytest.fixture
def trio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module. It keeps a thread that waited for another 10 s: here that ends with the test."""
    module = pytest.importorskip("trio")
    monkeypatch.setattr(module._core._thread_cache, "IDLE_TIMEOUT", 0.01)
    yield module
    for thread in threading.enumerate():
        if thread.name.startswith("Trio"):
            thread.join(30)


@pytest.fixture
def until_closed() -> Callable[[], None]:
    """Run the host until every guest loop that the test made has ended."""

    def wait() -> None:
        give_up = time.monotonic() + 30
        while any(isinstance(o, GuestLoop) and not o.is_closed() for o in gc.get_objects()):
            assert time.monotonic() < give_up, "a guest loop was not closed"
            ae.sleep(0.001).recv()

    return wait
