"""What the end of a connection makes of a response, and what a condition variable can stand for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Handle
from ae_http import Client, ConnectionLost

Until = Callable[[Callable[[], bool]], None]


def peer(*wire: bytes, then: str) -> tuple[Any, Callable[[str, int], ae.CondVar[Any]]]:
    """Return a peer in memory that says *wire* and then closes or resets, and its connector."""
    from ae_handle.testing import ScriptedPeer

    script = ScriptedPeer()
    script.expect(b"GET / HTTP/1.1\r\nHost: a\r\n")
    for piece in wire:
        script.send(piece)
    getattr(script, then)()

    def connector(host: str, port: int) -> ae.CondVar[Any]:
        done: ae.CondVar[Any] = ae.CondVar()
        done.send(script.stream)
        return done

    return script, connector


WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\n\r\nhello"
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("wire", "then", "complete"),
    [
        (WITHOUT_LENGTH, "close", True),
        (WITHOUT_LENGTH, "reset", False),  # RFC 9112 8: "unless an error was indicated"
        (WITH_LENGTH, "close", True),
        (WITH_LENGTH, "reset", True),
        (WITH_LENGTH[:-1], "close", False),
        (WITH_LENGTH[:-1], "reset", False),
    ],
)
def test_what_the_end_of_a_connection_makes_of_a_response(
    wire: bytes, then: str, complete: bool, until: Until
) -> None:
    script, connector = peer(wire, then=then)
    with Client(connector=connector, headers={"User-Agent": "x"}) as client:
        pieces: list[bytes] = []
        asked = client.get("http://a/", on_data=pieces.append)
        if complete:
            assert asked.recv().status == 200
            assert b"".join(pieces) == b"hello"
        else:
            with pytest.raises(ConnectionLost) as caught:
                asked.recv()
            assert caught.value.phase == "body"
            assert b"hello".startswith(b"".join(pieces))
        until(lambda: client.idle == 0)
    script.done.recv()


def test_tls_stream_that_is_cut_off_is_incomplete(
    serve: Any, trusting: Any, server_context: Any
) -> None:
    import socket

    def answer(handle: Handle, head: bytes) -> None:
        handle.push_write(WITHOUT_LENGTH)
        handle.drained().on_ready(lambda _: handle.socket.shutdown(socket.SHUT_WR))

    server = serve(answer, server_context)
    with Client(tls_context=trusting) as client:
        with pytest.raises(ConnectionLost, match="close_notify") as caught:
            client.get(server.url).recv()
        assert caught.value.phase == "body"


def test_condition_variable_may_stand_for_a_callback(serve: Any, reply: Any) -> None:
    server = serve(reply(b"hello"))
    head: ae.CondVar[ae_http.ResponseHead] = ae.CondVar()
    piece: ae.CondVar[bytes] = ae.CondVar()
    done: ae.CondVar[Any] = ae.CondVar()
    with Client() as client:
        client.get(server.url, on_head=head, on_data=piece).on_ready(done)
        assert head.recv().status == 200
        assert piece.recv() == b"hello"
        assert done.recv().recv().body == b""


@pytest.mark.parametrize("keep_alive", [True, False])
def test_nothing_is_left_for_the_garbage_collector(
    serve: Any, reply: Any, keep_alive: bool
) -> None:
    server = serve(reply(b"hello"))

    def ours() -> dict[str, int]:
        kinds = {"Operation", "Connection", "Opening", "Host", "ResponseReader"}
        names = [type(each).__name__ for each in gc.get_objects()]
        return {kind: names.count(kind) for kind in kinds}

    def read_a_piece(client: Client) -> None:
        with client.stream("GET", server.url).recv() as stream:
            assert stream.read().recv() == b"hello"

    gc.collect()
    gc.disable()
    before = ours()
    try:
        with Client(keep_alive=keep_alive) as client:
            for _ in range(5):
                client.get(server.url).recv()
                read_a_piece(client)
                client.get(server.url).cancel()
                with pytest.raises(ae_http.ConnectionFailed):
                    client.get("http://127.0.0.1:1/").recv()
        ae.sleep(0.01).recv()
        after = ours()
    finally:
        gc.enable()
    assert after == before
