"""``Expect: 100-continue``: a body that waits for the server's consent (RFC 9110 10.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Chunk, Handle
from ae_http import Client

Run = Callable[[Any], Any]
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER = 600.0  # the tests' own limit is 60 s


def _agree(size: int, answer: bytes) -> Callable[[Handle, bytes], None]:
    """Return a handler that asks for a body of *size* octets, and answers."""

    def handler(handle: Handle, head: bytes) -> None:
        assert b"\r\nexpect: 100-continue" in head.lower()
        assert not handle.read_buffer
        handle.push_write(_CONTINUE)
        handle.unshift_read(Chunk(size), lambda handle, data: handle.push_write(answer))

    return handler


@pytest.mark.parametrize("size", [5, 100_000])
def test_the_body_is_sent_when_the_server_asks_for_it(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run, size: int
) -> None:
    server = serve(_agree(size, reply(b"thanks")), raw=True)

    async def main() -> None:
        async with Client(expect_continue=_NEVER) as client:
            for body in (b"x" * size, iter([b"x" * size])):
                response = await client.post(
                    server.url, body, headers={"Content-Length": str(size)}
                )
                assert (response.status, response.body) == (200, b"thanks")
            assert client.idle == 1  # and the connection is as good as ever

    run(main())


def test_a_server_that_says_nothing_gets_the_body_after_the_time(serve: Any, reply: Any) -> None:
    server = serve(reply(b"thanks"))
    with Client() as client:
        for body in (b"hello", iter([b"he", b"llo"])):
            assert client.post(server.url, body, expect_continue=0.01).recv().status == 200
        assert client.idle == 1
    assert server.bodies == [b"hello", b"hello"]


def test_a_final_response_instead_ends_the_upload_before_it_begins(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    server = serve(reply(b"too much", status="413 Content Too Large"), raw=True)
    produced = []

    def source() -> Iterator[bytes]:
        produced.append(True)
        yield b"x" * 10

    async def main() -> None:
        async with Client(expect_continue=_NEVER) as client:
            for body in (source(), b"x" * 10, b"x" * 100_000):
                size = {"Content-Length": "10"} if not isinstance(body, bytes) else {}
                response = await client.post(server.url, body, headers=size)
                assert (response.status, response.body) == (413, b"too much")
                assert client.idle == 0  # the server still waits for the body that was announced

    run(main())
    assert not produced
    assert len(server.handles) == 3
    assert not any(handle.read_buffer for handle in server.handles)


def test_a_redirect_instead_takes_a_body_along_that_can_be_produced_once(
    serve: Any, reply: Any
) -> None:
    def handler(handle: Handle, head: bytes) -> None:
        if head.startswith(b"POST /old"):
            handle.push_write(reply(b"", "Location: /new", status="307 Temporary Redirect"))
        else:
            _agree(5, reply(b"done"))(handle, head)

    server = serve(handler, raw=True)
    with Client(expect_continue=_NEVER) as client:
        response = client.post(
            server.url + "/old", iter([b"he", b"llo"]), headers={"Content-Length": "5"}
        ).recv()
    assert response.body == b"done"
    assert response.url == server.url + "/new"


@pytest.mark.parametrize("body", [b"hello", [b"hello"]])
def test_where_expectations_are_refused_the_body_is_sent_without(
    serve: Any, reply: Any, body: Any
) -> None:
    def handler(handle: Handle, head: bytes) -> None:
        if b"\r\nExpect:" in head:
            handle.push_write(reply(b"", status="417 Expectation Failed"))
        else:
            handle.unshift_read(Chunk(5), lambda handle, data: handle.push_write(reply(data)))

    server = serve(handler, raw=True)
    with Client(expect_continue=_NEVER) as client:
        response = client.post(server.url, body, headers={"Content-Length": "5"}).recv()
    assert (response.status, response.body) == (200, b"hello")
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [None, b""])
def test_nothing_is_expected_where_there_is_no_body(serve: Any, reply: Any, body: Any) -> None:
    server = serve(reply(b""))
    with Client(expect_continue=_NEVER) as client:
        assert client.request("PUT", server.url, body=body).recv().status == 200
    assert b"Expect" not in server.requests[0]


def test_a_connection_that_ends_while_the_body_waits_is_lost(serve: Any) -> None:
    server = serve(lambda handle, head: handle.destroy(), raw=True)
    with Client() as client, pytest.raises(ae_http.ConnectionLost):
        client.post(server.url, b"hello", expect_continue=_NEVER).recv()


def test_cancelled_while_the_body_waits_nothing_is_left(serve: Any, until: Any) -> None:
    server = serve(lambda handle, head: None, raw=True)
    with Client() as client:
        asked = client.post(server.url, b"hello", expect_continue=_NEVER)
        until(lambda: len(server.requests) == 1)
        asked.cancel()
        until(lambda: server.alive == 0)
    assert not server.handles[0].read_buffer


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_the_time_is_more_than_nothing(seconds: float) -> None:
    with pytest.raises(ValueError, match="expect_continue"):
        Client(expect_continue=seconds)


def test_nginx_refuses_before_the_body_is_begun(nginx: Any) -> None:
    begun = []

    def source() -> Iterator[bytes]:
        begun.append(True)
        yield b""

    size = 8 << 20  # more than client_max_body_size
    with Client(expect_continue=_NEVER) as client:
        response = client.post(
            nginx.url + "/proxied", source(), headers={"Content-Length": str(size)}
        ).recv()
    assert response.status == 413
    assert not begun


def test_nginx_asks_for_what_it_wants(nginx: Any) -> None:
    with Client(expect_continue=_NEVER) as client:
        # passed on to a file that takes no POST: it was read before
        assert client.post(nginx.url + "/proxied", b"x" * 1000).recv().status == 405


def test_pythons_server_asks_for_the_body(python_server: str, trusting: Any) -> None:
    with Client(expect_continue=_NEVER, tls_context=trusting) as client:
        response = client.post(
            python_server, iter([b"he", b"llo"]), headers={"Content-Length": "5"}
        ).recv()
        assert response.body == b"hello"
