"""Strict mode: a handle is used in the thread that made it, and is kept while its peer is open."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import strict
from ae_handle import Handle, HandleError
from ae_socket import tcp_server

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


@pytest.fixture
def messages(strictly: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Level and text of what is logged."""
    logged: list[tuple[str, str]] = []

    def log(level: str, text: str, *values: object, **options: object) -> None:
        logged.append((level, text % values))

    monkeypatch.setattr(ae, "log", log)
    return logged


def test_a_handle_that_waits_for_input_and_that_nobody_keeps_is_an_error(
    messages: list[tuple[str, str]],
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        Handle(ours).read_each("line", print)
        ((level, text),) = messages
        assert level == "error"
        assert "is collected while its peer is open" in text
        assert f"made at {__file__}:" in text
        assert "<Handle " in text
        theirs.setblocking(True)
        assert theirs.recv(1) == b""


def test_the_same_in_a_callback_that_accepts(messages: list[tuple[str, str]]) -> None:
    # what the first server of many people looks like
    def accepted(sock: socket.socket, host: str, port: object) -> None:
        Handle(sock).read_each("line", lambda h, line: h.push_write(line))

    with tcp_server("127.0.0.1", 0, accepted) as server:
        client = Handle(connect=server.address)
        with pytest.raises(HandleError):
            client.push_read("line").recv(30)
    assert [level for level, _ in messages] == ["error"]


def test_one_that_only_writes_may_be_dropped(messages: list[tuple[str, str]]) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        Handle(ours).push_write(b"x")
        assert [level for level, _ in messages] == ["info"]
        theirs.setblocking(True)
        assert theirs.recv(10) == b"x"


def test_one_that_has_ended_is_not_reported(messages: list[tuple[str, str]]) -> None:
    ours, theirs = socket.socketpair()
    handle = Handle(ours, on_eof=print)
    handle.read_each("line", print)
    handle.destroy()
    del handle
    ours, other = socket.socketpair()
    over: ae.CondVar[None] = ae.CondVar()
    handle = Handle(ours, on_eof=lambda _: over.send())
    handle.read_each("line", print)
    other.close()
    over.recv(30)
    del handle
    theirs.close()
    assert messages == []
