"""The main paths, on every backend, against a server in the same loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Handle
from ae_http import Client, ResponseHead

Run = Callable[[Any], Any]


def test_get(backend: ae.abc.Backend, serve: Any, reply: Any, run: Run) -> None:
    server = serve(reply(b"hello", "Content-Type: text/plain; charset=latin-1", "X: 1", "x: 2"))

    async def main() -> ae_http.Response:
        async with Client() as client:
            return await client.get(server.url + "/a?b", headers={"Accept": "text/plain"})

    response = run(main())
    assert (response.status, response.reason, response.http_version) == (200, "OK", "1.1")
    assert response.body == b"hello"
    assert response.text == "hello"
    assert response.headers["x"] == "1, 2"
    assert response.url == server.url + "/a?b"
    assert response.ok
    assert response.raise_for_status() is response
    assert response.trailers is None
    assert response.history == ()
    head = server.requests[0].decode()
    assert head.startswith("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nAccept: text/plain" in head
    assert "\r\nAccept-Encoding: gzip, deflate" in head


def test_keep_alive_uses_one_connection(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    server = serve(reply(b"x"))

    async def main() -> None:
        async with Client() as client:
            for _ in range(5):
                assert (await client.get(server.url)).body == b"x"
            assert client.idle == 1

    run(main())
    assert len(server.handles) == 1
    assert len(server.requests) == 5


def test_many_at_once_are_served_by_the_connections_allowed(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    server = serve(reply(b"x"))

    async def main() -> None:
        async with Client(max_connections=3) as client:
            asked = [client.get(f"{server.url}/{number}") for number in range(20)]
            for each in asked:
                assert (await each).body == b"x"
            assert client.idle == 3

    run(main())
    assert len(server.handles) == 3
    assert len(server.requests) == 20


def test_stream_piece_by_piece(backend: ae.abc.Backend, serve: Any, run: Run) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        handle.push_write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            handle.push_write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        handle.push_write(b"0\r\nSum: 1000000\r\n\r\n")

    server = serve(answer)

    async def main() -> tuple[int, str]:
        async with Client() as client:
            stream = await client.stream("GET", server.url)
            assert stream.status == 200
            size = 0
            async for piece in stream:
                size += len(piece)
            assert stream.trailers is not None
            assert await stream.read() == b""
            assert client.idle == 1
            return size, stream.trailers["sum"]

    assert run(main()) == (1_000_000, "1000000")


def test_callbacks_get_head_and_pieces(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    server = serve(reply(b"hello"))
    seen: list[object] = []

    async def main() -> None:
        async with Client() as client:
            asked = client.get(
                server.url,
                on_head=lambda head: seen.append(head.status),
                on_data=seen.append,
            )
            asked.on_ready(lambda asked: seen.append(asked.recv().body))
            assert seen == []
            await asked

    run(main())
    assert seen == [200, b"hello", b""]


def test_upload_from_everything(backend: ae.abc.Backend, serve: Any, reply: Any, run: Run) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        await ae.sleep(0)
        yield b""
        yield b"two"

    server = serve(reply(b"ok"))
    large = bytes(range(256)) * 4000

    async def main() -> None:
        async with Client() as client:
            for body in (b"bytes", large, [b"a", b"", b"b"], iter([large, large]), pieces()):
                assert (await client.post(server.url, body)).body == b"ok"
            fields = {"Content-Length": "7"}
            assert (await client.post(server.url, pieces(), headers=fields)).body == b"ok"
            assert client.idle == 1

    run(main())
    assert server.bodies == [b"bytes", large, b"ab", large * 2, b"one two", b"one two"]
    assert len(server.handles) == 1


def test_redirects_are_followed(backend: ae.abc.Backend, serve: Any, reply: Any, run: Run) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        path = head.split()[1]
        if path == b"/a":
            handle.push_write(reply(b"over there", "Location: b", status="302 Found"))
        elif path == b"/b":
            handle.push_write(reply(b"", f"Location: {server.url}/c#x", status="301 Moved"))
        else:
            handle.push_write(reply(head.split()[0]))

    server = serve(answer)

    async def main() -> ae_http.Response:
        async with Client() as client:
            return await client.post(server.url + "/a", b"form")

    response = run(main())
    assert response.body == b"GET"
    assert response.url == server.url + "/c"
    assert [(each.status, each.url) for each in response.history] == [
        (302, server.url + "/a"),
        (301, server.url + "/b"),
    ]
    assert [head.split()[0] for head in server.requests] == [b"POST", b"GET", b"GET"]
    assert b"Content-Length" not in server.requests[1]
    assert len(server.handles) == 1


def test_https_with_a_verified_name(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run, trusting: Any, server_context: Any
) -> None:
    server = serve(reply(b"secret"), server_context)

    async def main() -> None:
        async with Client(tls_context=trusting) as client:
            for _ in range(3):
                assert (await client.get(server.url)).body == b"secret"
        async with Client() as client:  # does not trust our authority
            with pytest.raises(ae_http.TlsFailed) as caught:
                await client.get(server.url)
            assert caught.value.phase == "tls"
            assert caught.value.reason == "untrusted"

    run(main())
    assert len(server.requests) == 3
    assert len(server.handles) == 2


def test_cancelled_request_leaves_nothing(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    begun: list[ae.CondVar[None]] = []

    def answer(handle: Handle, head: bytes) -> None:
        if b"/slow" in head:
            handle.push_write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            begun[0].send()
        else:
            handle.push_write(reply(b"quick"))

    server = serve(answer)

    async def main() -> None:
        begun.append(ae.CondVar())
        async with Client() as client:
            slow = client.get(server.url + "/slow")
            await begun[0]
            slow.cancel()
            with pytest.raises(ae.CancelledError):
                slow.recv()
            assert (await client.get(server.url)).body == b"quick"
            assert client.idle == 1

    run(main())
    assert len(server.handles) == 2


def test_time_out_of_a_silent_server(backend: ae.abc.Backend, serve: Any, run: Run) -> None:
    server = serve(lambda handle, head: None)

    async def main() -> None:
        async with Client(read_timeout=0.05) as client:
            with pytest.raises(ae_http.RequestTimedOut) as caught:
                await client.get(server.url)
            assert caught.value.phase == "head"
            assert isinstance(caught.value, TimeoutError)
            with pytest.raises(ae_http.RequestTimedOut, match=r"no response within 0\.02 s"):
                await client.get(server.url, timeout=0.02, read_timeout=None)

    run(main())


@pytest.mark.blocking
def test_blocking_use(backend: ae.abc.Backend, serve: Any, reply: Any) -> None:
    server = serve(reply(b"hello"))
    with Client() as client:
        assert client.get(server.url).recv().body == b"hello"
        with client.stream("GET", server.url).recv() as stream:
            assert b"".join(stream) == b"hello"
        with pytest.raises(ae_http.StatusError, match="404"):
            ae_http.ResponseHead.raise_for_status(_not_found())
    assert ae_http.get(server.url).recv().text == "hello"


def _not_found(reason: str = "Not Found") -> ResponseHead:
    from ae_http._message import Head

    return ResponseHead(Head(404, reason, 1, ae_http.Headers(), True), "http://a/", ())


def test_reason_of_a_server_does_nothing_to_a_terminal() -> None:
    head = _not_found("R\x9b2J")
    with pytest.raises(ae_http.StatusError) as caught:
        head.raise_for_status()
    assert str(caught.value) == "404 R\\x9b2J for http://a/"
    assert repr(head) == "<ResponseHead 404 R\\x9b2J http://a/>"
    assert head.reason == "R\x9b2J"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ('text/html; q=1; Charset="UTF-8"', b"\xc3\xa9", "é"),
        ("text/plain", b"\xc3\xa9\xff", "é\ufffd"),
        ("text/plain; charset=no-such", b"\xc3\xa9", "é"),
        ("text/plain; charset=hex", b"\xc3\xa9", "é"),
        ("text/plain; charset=undefined", b"\xc3\xa9", "é"),
        ("text/plain; charset", b"x", "x"),
        ("text/plain; charset=\x00", b"x", "x"),
        ("", b"", ""),
    ],
)
def test_text(content_type: str, body: bytes, text: str) -> None:
    from ae_http._message import Head

    head = Head(200, "OK", 1, ae_http.Headers({"Content-Type": content_type}), True)
    assert ae_http.Response(head, "http://a/", (), body, None).text == text


def test_json(serve: Any, reply: Any) -> None:
    server = serve(reply(b'{"a": [1]}'))
    assert ae_http.get(server.url).recv().json() == {"a": [1]}
    assert ae_http.post(server.url, b"x").recv().ok
    assert ae_http.request("PUT", server.url, body=b"y").recv().ok
    assert [head.split()[0] for head in server.requests] == [b"GET", b"POST", b"PUT"]
    bad = serve(reply(b"no"))
    with pytest.raises(ValueError, match="Expecting"):
        ae_http.get(bad.url).recv().json()
