"""Strict mode: a handle is used in the thread that made it, and nowhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import strict
from ae_handle import Handle

CALLS: list[tuple[str, Callable[[Handle], object]]] = [
    ("push_read()", lambda h: h.push_read("line")),
    ("push_read()", lambda h: h.push_read("line", print, timeout=1)),
    ("unshift_read()", lambda h: h.unshift_read("line")),
    ("read_each()", lambda h: h.read_each("line", print)),
    ("each()", lambda h: h.each("line")),
    ("push_write()", lambda h: h.push_write(b"x")),
    ("push_shutdown()", lambda h: h.push_shutdown()),
    ("drained()", lambda h: h.drained()),
    ("start_tls()", lambda h: h.start_tls("connect")),
    ("stop_tls()", lambda h: h.stop_tls()),
    ("start_read()", lambda h: h.start_read()),
    ("stop_read()", lambda h: h.stop_read()),
    ("clear_callbacks()", lambda h: h.clear_callbacks()),
    ("timeout_reset()", lambda h: h.timeout_reset()),
    ("as_stream()", lambda h: h.as_stream()),
    ("destroy()", lambda h: h.destroy()),
    ("destroy()", lambda h: h.__exit__(None, None, None)),
    ("setting on_read", lambda h: setattr(h, "on_read", print)),
    ("setting timeout", lambda h: setattr(h, "timeout", 3)),
]


@pytest.fixture
def strictly() -> Iterator[None]:
    was = strict.enabled()
    strict.enable()
    yield
    if not was:
        strict.disable()


def elsewhere(call: Callable[[], object]) -> BaseException | None:
    """Return what *call* raises in another thread."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return raised[0] if raised else None


@pytest.mark.parametrize(
    ("what", "call"), CALLS, ids=[f"{at}-{what}" for at, (what, _) in enumerate(CALLS)]
)
def test_another_thread_is_refused_and_told_the_way(
    strictly: None, half: Any, what: str, call: Callable[[Handle], object]
) -> None:
    h, _ = half()
    before = h.statistics()
    error = elsewhere(lambda: call(h))
    assert isinstance(error, RuntimeError)
    assert str(error) == (
        f"{what} in another thread than the one that made {h!r}: "
        "use ae_core.call_threadsafe() with a function that does it"
    )
    assert h.statistics() == before  # and nothing has happened


def test_every_public_method_is_among_them() -> None:
    tried = {what.removesuffix("()") for what, _ in CALLS}
    public = {
        name
        for name in dir(Handle)
        if name[0] != "_" and callable(getattr(Handle, name)) and not name.startswith("on_")
    }
    assert public - tried == {"statistics", "read_timeout_reset", "write_timeout_reset"}


def test_its_own_thread_notices_nothing(strictly: None, half: Any) -> None:
    class Mine(Handle):
        pass

    a, b = socket.socketpair()
    for h, peer in (half(), (Mine(a, on_error=lambda h, error: None), b)):
        assert type(h).__name__ in ("Handle", "Mine")
        assert isinstance(h, Handle)
        assert type(h).__module__ == (Handle if type(h).__name__ == "Handle" else Mine).__module__
        peer.sendall(b"hello\n")
        assert h.push_read("line").recv() == b"hello"
        h.on_eof = Handle.destroy
        h.watch_eof = True
        peer.close()
        while not h.is_destroyed:
            ae.sleep(0).recv()


def test_another_thread_may_look_and_may_drop_it(strictly: None, half: Any) -> None:
    h, _ = half()
    box = [h]
    del h
    assert elsewhere(lambda: (repr(box[0]), box[0].statistics(), box[0].timeout)) is None
    assert elsewhere(box.clear) is None


def test_call_threadsafe_is_the_way(strictly: None, half: Any) -> None:
    h, peer = half()
    ended = ae.CondVar[None]()

    def call() -> None:
        ae.call_threadsafe(h.push_write, b"from outside").result(60)
        ae.call_threadsafe(ended.send)

    thread = threading.Thread(target=call)
    thread.start()
    ended.recv()
    thread.join(60)
    assert peer.recv(100) == b"from outside"
