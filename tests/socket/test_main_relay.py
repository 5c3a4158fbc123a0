"""The relay of ``python -m ae_socket``, in this process: what its sockets and threads meet with."""

from __future__ import annotations

import argparse
import os
import socket
import struct
from collections.abc import Iterator

import pytest

import ae_core as ae
from ae_socket import __main__ as command
from ae_socket.__main__ import Relay

RECV = 20
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for sock in (ours, peer):
            sock.setblocking(False)
        yield ours, peer


@pytest.fixture
def peer(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[1]


read_input = Relay._read_input


@pytest.fixture
def relay(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> Relay:
    """A relay that gets its input by ``_on_input``, not from a thread."""
    monkeypatch.setattr(Relay, "_read_input", lambda *_: None)
    monkeypatch.setattr(os, "isatty", lambda _: False)
    return Relay(ends[0])


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()


def test_what_a_slow_peer_does_not_take_yet_is_sent_when_it_does(
    relay: Relay, peer: socket.socket
) -> None:
    data = os.urandom(4 << 20)
    relay._on_input(data)
    assert not relay._room.acquire(blocking=False), "no more is read meanwhile"
    got = bytearray()
    arrived: ae.CondVar[None] = ae.CondVar()

    def readable() -> None:
        got.extend(peer.recv(1 << 16))
        if len(got) == len(data):
            arrived.send()

    watcher = ae.io(peer, "r", readable)
    arrived.recv(RECV)
    watcher.cancel()
    assert got == data
    assert relay._room.acquire(blocking=False)
    peer.shutdown(socket.SHUT_WR)
    relay._on_input(b"")
    relay.done.recv(RECV)
    relay._on_input(b"what a thread still brought")


def test_a_connection_that_is_reset_is_an_error(relay: Relay, peer: socket.socket) -> None:
    reset(peer)
    with pytest.raises(ConnectionResetError):
        relay.done.recv(RECV)


def test_a_reset_is_told_by_reading_though_input_has_ended_before(
    relay: Relay, peer: socket.socket
) -> None:
    reset(peer)
    relay._on_input(b"")  # cannot be passed on
    with pytest.raises(ConnectionResetError):
        relay.done.recv(RECV)


def test_input_for_a_peer_that_has_reset_the_connection_is_an_error(
    relay: Relay, peer: socket.socket
) -> None:
    reset(peer)
    relay._on_input(b"x")
    relay._on_input(b"y")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        relay.done.recv(RECV)


def test_a_peer_that_has_ended_its_side_need_not_read_the_rest(
    relay: Relay, peer: socket.socket
) -> None:
    peer.shutdown(socket.SHUT_WR)
    while relay._reader is not None:
        ae.sleep(0.001).recv()
    reset(peer)
    while not relay.done.ready:
        relay._on_input(b"x")
        ae.sleep(0.001).recv()
    relay.done.recv()


def test_a_socket_that_was_called_readable_and_is_not_stays_open(
    relay: Relay, peer: socket.socket
) -> None:
    relay._on_readable()
    assert not relay.done.ready
    relay._end(None)
    relay._end(OSError("too late"))
    relay.done.recv()


def test_without_standard_input_the_connection_has_only_one_way(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(9, "bad file descriptor")

    ours, peer = ends
    monkeypatch.setattr(os, "read", refuse)
    relay = Relay(ours)
    ended: ae.CondVar[None] = ae.CondVar()
    watcher = ae.io(peer, "r", ended)
    ended.recv(RECV)
    watcher.cancel()
    assert peer.recv(1) == b""
    peer.close()
    relay.done.recv(RECV)


def test_the_thread_ends_with_the_loop(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        calls = 0

        def call_threadsafe(self, _: object) -> None:
            self.calls += 1
            raise RuntimeError("the loop has ended")

    monkeypatch.setattr(os, "read", lambda *_: b"x")
    backend = Ended()
    read_input(relay, backend)  # type: ignore[arg-type]
    assert backend.calls == 1
    relay._end(None)


def test_of_two_that_connect_at_once_one_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[socket.socket] = []

    def say(_: object, text: str) -> None:
        if text.startswith("listening on "):
            host, _, port = text.removeprefix("listening on ").rpartition(":")
            clients.extend(socket.create_connection((host, int(port))) for _ in range(2))

    monkeypatch.setattr(command, "_say", say)
    accepted = command._accept(argparse.Namespace(host="127.0.0.1", port="0"))
    first, second = clients
    with accepted, first, second:
        assert accepted.getpeername() == first.getsockname()
        second.settimeout(RECV)
        assert second.recv(1) == b""
