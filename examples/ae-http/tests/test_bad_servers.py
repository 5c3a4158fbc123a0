"""Servers that say nonsense, too much, too little or nothing: a typed error, in time."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Handle
from ae_http import (
    BadResponse,
    Client,
    ConnectionFailed,
    ConnectionLost,
    HttpError,
    RequestTimedOut,
    ResponseTooLarge,
)

Until = Callable[[Callable[[], bool]], None]

OK = b"HTTP/1.1 200 OK\r\n"
PACKED = gzip.compress(b"hello")


def says(*pieces: bytes) -> Callable[[Handle, bytes], None]:
    """Return a handler that says this and closes."""

    def answer(handle: Handle, head: bytes) -> None:
        for piece in pieces:
            handle.push_write(piece)
        handle.push_shutdown()

    return answer


@pytest.mark.parametrize(
    ("wire", "error", "phase"),
    [
        (b"", ConnectionLost, "head"),
        (b"garbage", BadResponse, "head"),
        (b"220 mail.example.com ESMTP\r\n", BadResponse, "head"),
        (b"\x16\x03\x01\x00\x05hello", BadResponse, "head"),
        (b"HTTP/1.1 200", ConnectionLost, "head"),
        (OK + b"Content-Length: 10\r\n\r\nshort", ConnectionLost, "body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", ConnectionLost, "body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nhello", BadResponse, "body"),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", BadResponse, "head"),
        (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", BadResponse, "head"),
        (OK + b"Bad header\r\n\r\n", BadResponse, "head"),
        (OK + b"A: " + b"x" * 70_000, ResponseTooLarge, "head"),
        (OK + b"A: b\r\n" * 20_000, ResponseTooLarge, "head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, BadResponse, "head"),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", BadResponse, "body"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + PACKED[:-3], BadResponse, "body"),
        (OK + b"Content-Length: 100000001\r\n\r\n", ResponseTooLarge, "body"),
    ],
)  # fmt: skip
def test_bad_response_is_a_typed_error(
    serve: Any, wire: bytes, error: type[HttpError], phase: str
) -> None:
    server = serve(says(wire))
    with Client() as client:
        for asked in (client.get(server.url), client.post(server.url, b"x")):
            with pytest.raises(HttpError) as caught:
                asked.recv()
            assert type(caught.value) is error
            assert caught.value.phase == phase
    assert len(server.requests) == 2  # a connection that was new is not tried again


def test_stream_reports_what_is_wrong_after_what_was_right(serve: Any) -> None:
    server = serve(says(OK + b"Content-Length: 10\r\n\r\nshort"))
    with Client() as client:
        stream = client.stream("GET", server.url).recv()
        assert stream.read().recv() == b"short"
        with pytest.raises(ConnectionLost, match="in the body"):
            stream.read().recv()
        with pytest.raises(ConnectionLost, match="in the body"):
            stream.read().recv()


def test_endless_head_is_bounded_in_memory(serve: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        handle.on_drain = lambda handle: handle.push_write(b"A: " + b"x" * 1000 + b"\r\n")
        handle.push_write(OK)

    server = serve(answer)
    with Client() as client, pytest.raises(ResponseTooLarge, match="head"):
        client.get(server.url).recv()


@pytest.mark.parametrize("length", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_endless_body_is_bounded(serve: Any, length: bytes) -> None:
    def more(handle: Handle) -> None:
        handle.push_write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    def answer(handle: Handle, head: bytes) -> None:
        handle.on_drain = more
        handle.push_write(OK + length + b"\r\n")

    server = serve(answer)
    with Client(max_body=200_000) as client:
        with pytest.raises(ResponseTooLarge, match="more than 200000"):
            client.get(server.url).recv()
        with client.stream("GET", server.url).recv() as stream:
            with pytest.raises(ResponseTooLarge, match="more than 200000"):
                stream.read_all().recv()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bomb_is_bounded(serve: Any, reply: Any, coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    bomb = pack(bytes(100 << 20))
    server = serve(reply(bomb, f"Content-Encoding: {coding}"))
    with Client(max_body=1 << 20) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ResponseTooLarge, match="unpacks to more than"):
                client.get(server.url).recv()
            stream = client.stream("GET", server.url).recv()
            sizes = [len(piece) for _, piece in zip(range(50), stream, strict=False)]
            stream.cancel()
            seen: list[int] = []
            asked = client.get(server.url, on_data=lambda piece: seen.append(len(piece)))
            asked.recv()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert max(sizes) <= 128 << 10
    assert sum(seen) == 100 << 20
    assert max(seen) <= 128 << 10
    assert peak < 12 << 20


def test_slow_drip_ends_with_the_total_time_out(serve: Any) -> None:
    drips: list[ae.Watcher] = []

    def answer(handle: Handle, head: bytes) -> None:
        handle.push_write(b"HTTP/1.1 200 ")
        drips.append(ae.timer(0.0, lambda: handle.push_write(b"x"), interval=0.005))

    server = serve(answer)
    with Client(read_timeout=5, timeout=0.05) as client:
        with pytest.raises(RequestTimedOut, match="no response within"):
            client.get(server.url).recv()
    drips.clear()


def test_server_that_stops_in_the_body(serve: Any) -> None:
    server = serve(lambda handle, head: handle.push_write(OK + b"Content-Length: 9\r\n\r\nx"))
    with Client(read_timeout=0.4) as client, pytest.raises(RequestTimedOut) as caught:
        client.get(server.url).recv()
    assert caught.value.phase == "body"


def test_octets_behind_the_response_end_the_connection(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x") + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
    with Client() as client:
        for _ in range(3):
            assert client.get(server.url).recv().body == b"x"
            assert client.idle == 0
    assert len(server.handles) == 3


def test_octets_between_responses_end_the_connection(serve: Any, reply: Any, until: Until) -> None:
    server = serve(reply(b"x"))
    with Client() as client:
        client.get(server.url).recv()
        server.handles[0].push_write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        until(lambda: client.idle == 0)
        assert client.get(server.url).recv().body == b"x"
    assert len(server.handles) == 2


def test_nobody_listens(serve: Any) -> None:
    server = serve(b"")
    server.close()
    with Client() as client:
        with pytest.raises(ConnectionFailed) as caught:
            client.get(server.url).recv()
    assert caught.value.phase == "connect"
    assert isinstance(caught.value, OSError)
    assert caught.value.errno


def test_time_out_of_connecting() -> None:
    pending: list[ae.CondVar[Any]] = []

    def connector(host: str, port: int) -> ae.CondVar[Any]:
        pending.append(ae.CondVar())
        return pending[-1]

    with Client(connector=connector, connect_timeout=0.02) as client:
        with pytest.raises(RequestTimedOut, match="no connection within") as caught:
            client.get("http://example.com/").recv()
    assert caught.value.phase == "connect"
    assert pending[0].cancelled


def test_response_before_the_upload_ends(serve: Any, reply: Any, until: Until) -> None:
    closed: list[str] = []

    def endless() -> Any:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.append("closed")

    def answer(handle: Handle, head: bytes) -> None:
        handle.push_write(reply(b"no", status="413 Too Large"))

    server = serve(answer, raw=True)
    with Client() as client:
        fields = {"Content-Length": str(1 << 40)}
        response = client.post(server.url, endless(), headers=fields).recv()
        assert (response.status, response.body) == (413, b"no")
        until(lambda: bool(closed))
        assert client.idle == 0


@pytest.mark.parametrize(
    ("body", "length", "text"),
    [
        ([b"abc"], "4", "has 3 bytes, announced were 4"),
        ([b"abc", b"de"], "4", "has more than 4"),
        (["text"], None, "pieces of the body as bytes"),
        ((1 // each for each in (1, 0)), None, "ended with ZeroDivisionError"),
    ],
)
def test_upload_that_does_not_keep_its_word(
    serve: Any, reply: Any, body: Any, length: str | None, text: str
) -> None:
    server = serve(reply(b"x"))
    fields = {} if length is None else {"Content-Length": length}
    with Client() as client, pytest.raises(ae_http.UploadFailed, match=text):
        if length is None and not isinstance(body, list):
            body = (bytes([each]) for each in body)
        client.post(server.url, body, headers=fields).recv()


def test_what_a_callback_raises_goes_to_the_hook_and_harms_nobody(
    serve: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    server = serve(reply(b"hello"))
    with Client() as client:
        response = client.get(
            server.url,
            on_head=lambda head: 1 // 0,
            on_data=lambda piece: dict[str, int]()["missing"],
        ).recv()
        assert response.status == 200
        until(lambda: len(seen) == 2)
        assert client.idle == 1
    assert [type(error) for error in seen] == [ZeroDivisionError, KeyError]
